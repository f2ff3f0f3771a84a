"""`BreakerEngine`: the state of a circuit breaker behind one short lock, as its detector has it.

    detector     breaker      calls
    WELL         closed       all go through
    EJECTED      open         none, until the next trial is due; held open: none at all
    EJECTED      half open    after a trial that succeeded, where `trials` asks for more: the next
    TRIAL        half open    none but the trial

Calls read `is_open`, `open_until` and the detector's generation without the lock. Only what
changes something takes it.
"""

import math
import random
import threading
from collections import deque
from typing import TYPE_CHECKING

from mainstay._core.context import current_context
from mainstay._core.detector import Detect, Detector, HealthChange, Phase
from mainstay._core.events import publish
from mainstay._core.forks import reset_after_fork
from mainstay._core.health import HealthReport, HealthState, report_health
from mainstay._core.sharing import reset_with_all
from mainstay._core.silence import ANSWERS, longest_silence
from mainstay._metrics.collector import Metrics, recorders_of
from mainstay._metrics.recorder import Recorder
from mainstay._metrics.schema import BREAKER_STATE
from mainstay.availability import Availability, follow
from mainstay.errors import CircuitOpenError
from mainstay.events import BreakerChanged, BreakerState

if TYPE_CHECKING:
    from mainstay._core.clock import Clock

POLICY = "breaker"

_STATES: dict[Phase, BreakerState] = {Phase.EJECTED: "open", Phase.TRIAL: "half_open"}

_HEALTH: dict[BreakerState, HealthState] = {
    "closed": "ok",
    "half_open": "failing",
    "open": "open",
}

_chance = random.random


class BreakerEngine:
    """Decides if calls go through, and records how they end.

    Attributes:
        is_open: True if calls have to ask the engine before they may go through.
        open_until: Until when all calls are rejected, trials included, in seconds of the clock.
        inspects_successes: True if a success may change the state.
        held_open: True if the breaker was opened by hand.
        last_error: The last exception that counted as a failure.
        answers: The seconds that the last answers of async calls took.
    """

    def __init__(self, name: str, detect: Detect, metrics: Metrics) -> None:
        self.name = name
        self.detect = detect
        self.metrics = metrics
        self.recorder = recorders_of(metrics).calls(name, POLICY)
        self.detector = Detector(detect)
        self.is_open = False
        self.open_until = -math.inf
        self.held_open = False
        self.last_error: Exception | None = None
        self.answers: deque[float] = deque(maxlen=ANSWERS)
        self.inspects_successes = detect.slow is not None
        self._state: BreakerState = "closed"
        self._changed = self._is_updating = False
        self._clock: Clock = current_context().clock
        self._since: float = self._clock.now()
        self._availability = Availability(name, metrics=metrics)
        self._reset_after_fork()
        reset_after_fork(self, BreakerEngine._reset_after_fork)
        reset_with_all(self, BreakerEngine.close)
        report_health(self, BreakerEngine.health)

    def _reset_after_fork(self) -> None:
        """Go on with a lock and a gauge of this process."""
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread
        self._gauge = recorders_of(self.metrics).follow(BREAKER_STATE, self.name, self)
        self._gauge.changed()

    # Calls.

    def admit(self, now: float) -> int:
        """Admit a call; return the generation that its result belongs to.

        Raises:
            CircuitOpenError: If it may not go through.
        """
        with self._lock:
            detector = self.detector
            if detector.phase is Phase.WELL:
                return detector.generation
            detector.expire(now, _chance())
            if self.held_open or not detector.trial_due(now):
                raise CircuitOpenError(self.name, self.retry_after(now))
            detector.begin_trial(now)
            generation = detector.generation
            event = self._updated()
        self._publish(event)
        return generation

    def rejected(self, now: float, recorder: Recorder) -> CircuitOpenError:
        """Record that a call may not go through; return what it raises."""
        recorder.rejected()
        # As `retry_after` says, but without the calls: a service that is down sees many of these.
        until = self.open_until
        return CircuitOpenError(self.name, until - now if until < math.inf else None)

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until a call may go through; None if it was opened by hand."""
        return None if self.held_open else max(0.0, self.detector.until - now)

    def succeeded(self, generation: int, now: float, seconds: float) -> None:
        """Record an answer that took *seconds*."""
        with self._lock:
            slow = seconds > self.detector.too_slow
            change = self.detector.succeeded(generation, now, _chance(), slow=slow)
            event = self._apply(change, now)
        self._publish(event)

    def failed(self, generation: int, now: float, error: Exception) -> None:
        """Record a failure."""
        with self._lock:
            self.last_error = error
            event = self._apply(self.detector.failed(generation, now, _chance()), now)
        self._publish(event)

    def cancelled(self, generation: int, began: float, now: float) -> None:
        """Record that a call was cancelled, which counts after too long a silence."""
        longest = longest_silence(self.detect.slow, self.answers)
        with self._lock:
            detector = self.detector
            change = detector.cancelled(generation, began, now, _chance(), longest=longest)
            if change is None:
                detector.release(generation, now)
            event = self._apply(change, now)
        self._publish(event)

    def released(self, generation: int, now: float) -> None:
        """Record that a call ended in a way that says nothing about the service."""
        with self._lock:
            self.detector.release(generation, now)
            event = self._updated()
        self._publish(event)

    # By hand.

    def open(self) -> None:
        """Reject all calls until `close`."""
        now = current_context().clock.now()
        with self._lock:
            self.held_open = True
            # A new generation, so that a trial that is under way cannot close it.
            self.detector.eject("consecutive", now, _chance())
            event = self._updated()
        self._publish(event)

    def close(self) -> None:
        """Admit all calls, as if nothing had happened."""
        with self._lock:
            self.held_open = False
            self.last_error = None
            self.answers.clear()
            # A generation of its own, so that calls of the one before change nothing.
            self.detector = Detector(self.detect, generation=self.detector.generation + 1)
            event = self._updated()
        self._publish(event)

    # What is seen of it.

    def state(self, now: float) -> BreakerState:
        """Return the state; half open is also one that would let the next call through."""
        detector = self.detector
        if detector.phase is Phase.WELL:
            return "closed"
        if self.held_open:
            return "open"
        return "half_open" if detector.phase is Phase.TRIAL or now >= detector.until else "open"

    def states(self) -> dict[str, str]:
        """Return the state as metrics name it."""
        return {"": self.state(self._clock.now())}

    def health(self) -> HealthReport:
        """Return the health; half open, calls may be sent, or nobody would ever find out."""
        now = self._clock.now()
        state, since = self.state(now), self._since
        if state == "half_open" and self._state == "open":  # which the next call will change
            since = self.detector.until
        return HealthReport(
            self.name, POLICY, _HEALTH[state], now - since, is_ready=state != "open"
        )

    def _apply(self, change: HealthChange | None, now: float) -> BreakerChanged | None:
        if change is HealthChange.THRESHOLD_CROSSED:
            self.detector.eject(self.detector.cause, now, _chance())
        event = self._updated()
        self.inspects_successes = self.detect.slow is not None or not self.detector.pristine
        return event

    def _updated(self) -> BreakerChanged | None:
        """Bring up to date what calls read; return the event to publish once the lock is left."""
        self._changed = True
        if self._is_updating:  # a signal handler has come in here: what it interrupted goes on
            return None
        self._is_updating = True
        self._clock = current_context().clock
        try:
            while True:
                self._changed = False
                new = _STATES.get(self.detector.phase, "closed")
                if self.detector.passed:  # between two trials
                    new = "half_open"
                self.is_open = new != "closed"
                # Set last, so that a call that reads it without the lock finds the rest settled.
                if self.held_open:
                    self.open_until = math.inf
                else:
                    self.open_until = self.detector.until if self.is_open else -math.inf
                if not self._changed:
                    break
        finally:
            self._is_updating = False
        old, self._state = self._state, new
        if new == old:
            return None
        self._since = self._clock.now()
        follow(self._availability, lambda: self.is_open)
        cause = self.detector.cause if new == "open" and not self.held_open else None
        return BreakerChanged(self.name, old, new, cause)

    def _publish(self, event: BreakerChanged | None) -> None:
        if event is None:
            return
        metrics = current_context().metrics or self.metrics
        recorders_of(metrics).switches(self.name).transition(event.from_state, event.to_state)
        self._gauge.changed()
        publish(event, recorders_of(metrics).calls(self.name, POLICY).listener_failed)
