"""`Follower`: collects the results of calls for an adaptive limit, so that no call pays for it.

Durations go into a deque, and are passed to the decision every 0.25 s, by a call that begins then.
A dropped call is passed on at once, with the durations before it.
"""

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from mainstay._core.clock import SYSTEM, Clock
from mainstay._core.forks import reset_after_fork
from mainstay._core.silence import Silence, longest_silence
from mainstay._limits.adaptive import Adaptive, AdaptiveLimit

EVERY = 0.25
"""Seconds between two times that the answers are passed on."""

Sample: TypeAlias = tuple[float, float, int]
"""Of a success when it was admitted, the seconds since, and the calls then under way."""


class Follower:
    """Passes results to the decision, and the decided limit to the bulkhead.

    Args:
        settings: The settings of the user.
        answers: The seconds that the last calls took, newest last.
        decided: Called with the new limit, under the lock.

    Attributes:
        samples: The durations of successes, to be passed on.
        due: When the next call that begins passes them on, in seconds of the clock.
    """

    def __init__(
        self, settings: Adaptive, answers: deque[float], decided: Callable[[int], object]
    ) -> None:
        self._settings = settings
        self._answers = answers
        self._decided = decided
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread
        self._at_work = False
        self.samples: deque[Sample] = deque()
        self._restart(SYSTEM)
        reset_after_fork(self, Follower._leave_lock_to_parent)

    def _leave_lock_to_parent(self) -> None:
        self._lock = threading.RLock()
        self._at_work = False

    def _restart(self, clock: Clock) -> None:
        self._clock = clock
        self._decision = AdaptiveLimit(self._settings)
        self._silence = Silence()
        self.samples.clear()
        self.due: float = -math.inf

    def reset(self) -> None:
        """Begin again."""
        with self._lock:
            self._restart(self._clock)
            self._decided(self._decision.limit)

    def look(self, clock: Clock, now: float) -> None:
        """Pass on the answers, if it is time to."""
        if now >= self.due or clock is not self._clock:
            self._do(clock, lambda: None)

    def dropped(self, clock: Clock, began: float) -> None:
        """Record a call that ended in a way that means overload."""

        def drop() -> None:
            self._silence.end()
            self._decision.dropped(began, clock.now(), clock.wall())

        self._do(clock, drop)

    def failed(self, clock: Clock) -> None:
        """Record an error that says nothing of the load: what was called is there."""
        if self._silence:
            self._do(clock, self._end_silence)

    def _end_silence(self) -> None:
        self._silence.end()

    def cancelled(self, clock: Clock, began: float) -> None:
        """Record a call that was cancelled, which is a drop after too long a silence."""

        def judge() -> None:
            now, longest = clock.now(), longest_silence(None, self._answers)
            too_long = self._silence.add(began, now) > longest
            if too_long and self._silence.counts(began, now, longest):
                self._decision.dropped(began, now, clock.wall())

        self._do(clock, judge)

    def _do(self, clock: Clock, then: Callable[[], object]) -> None:
        """Pass on the answers, call *then*, and report the limit that follows."""
        with self._lock:
            if self._at_work:  # a signal handler: what it knows of one call can be done without
                return
            self._at_work = True
            try:
                if clock is not self._clock:  # of a test: it tells another time
                    self._restart(clock)
                self._pass_on()
                then()
                self.due = min(self._clock.now() + EVERY, self._decision.next_tick)
                self._decided(self._decision.limit)
            finally:
                self._at_work = False

    def _pass_on(self) -> None:
        now, wall = self._clock.now(), self._clock.wall()
        self._decision.tick(now, wall)
        samples = self.samples
        taken = [samples.popleft() for _ in range(len(samples))]
        if taken:
            self._silence.end()
            self._decision.answered(taken, now, wall)
