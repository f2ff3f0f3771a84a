"""What the calls of one component share: how long they take, and what they have left behind.

A call that its primary answered leaves its duration in a queue and goes on. Whoever finds `BATCH`
of them there, or the oldest `LATEST` seconds old, or wants to know, takes them to the sketch and
the budget. The only lock here is held for those additions, never while code of the user's runs.
"""

import threading
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import ref

from mainstay._core.budget import RetryBudget, observe
from mainstay._core.forks import reset_after_fork, unlocked_copy
from mainstay._metrics.gauges import NumberGauge
from mainstay._redundant.alarm import Alarms
from mainstay._redundant.sketch import Sketch
from mainstay.hedge import Delay

if TYPE_CHECKING:
    from asyncio import Future

MOST_STRAYS = 1_000
"""How many cancelled tasks of a component may not have ended before no more hedges start."""

BATCH = 64
LATEST = 0.25


class Shared:
    """The live delay of hedges, and copies that run on though their calls have ended.

    Attributes:
        delay: Seconds after which the next copy starts; None while unknown, or without hedging.
        durations: Seconds that calls took, not yet counted.
        due: When they are to be counted at the latest, in seconds of the system's clock.
        abandoned: How many threads run a copy whose call has ended.
        alarms: What tells async calls that they are slow.
        strays: Cancelled tasks that have not ended. Held here, because the event loop does not.
    """

    __slots__ = (
        "__weakref__",
        "_budget",
        "_gauges",
        "_lock",
        "_sketch",
        "_start",
        "abandoned",
        "alarms",
        "delay",
        "due",
        "durations",
        "strays",
    )

    def __init__(self, start: Delay, budget: RetryBudget | None) -> None:
        self._start = start
        self._budget = budget
        self.due: float = 0.0
        self.durations: deque[float] = deque()
        self._sketch = Sketch(start.q) if start.q else None
        self._gauges: tuple[ref[NumberGauge], ...] = ()  # a policy outlives metrics of tests
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread
        self.delay = None if start.together else start.seconds
        self.abandoned: int = 0
        self.alarms: Alarms = Alarms()
        self.strays: set[Future[Any]] = set()
        reset_after_fork(self, Shared._start_anew)

    def _start_anew(self) -> None:
        """Leave to the parent the threads and tasks that run on in vain."""
        self._lock = unlocked_copy(self._lock)
        self.abandoned = 0
        self.strays = set()

    def show(self, delay: NumberGauge, abandoned: NumberGauge) -> None:
        """Be read by these gauges, and tell them of changes."""
        delay.follow(self, Shared._read_delay)
        abandoned.follow(self, Shared._read_abandoned)
        if ref(delay) not in self._gauges:
            living = (each for each in self._gauges if each() is not None)
            self._gauges = (*living, ref(delay), ref(abandoned))
            delay.changed()
            abandoned.changed()

    def queue(self, seconds: float, now: float, *, at_once: bool) -> None:
        """Take note of a call that the budget does not know of, answered after *seconds*.

        Where all copies start together there is neither a quantile nor a budget to tell of it.
        """
        if self._sketch is None and self._budget is None:
            return
        self.durations.append(seconds)
        if at_once or self.delay is None or now >= self.due or len(self.durations) >= BATCH:
            self.catch_up(now)

    def catch_up(self, now: float = 0.0) -> None:
        """Count what is in the queue, and tell the gauges."""
        if self._counted_queue(now):
            self._changed()

    def _counted_queue(self, now: float) -> bool:
        """Count the durations in the queue, and the calls that they are of, if there are any."""
        self.due = now + LATEST
        durations = self.durations
        if not durations:
            return False
        with self._lock:
            batch = [durations.popleft() for _ in range(len(durations))]
            self._count(batch)
        if self._budget is not None:
            observe(self._budget, len(batch))
        return True

    def took(self, seconds: float) -> None:
        """Take note that a call was answered so long after its primary began."""
        if self._sketch is not None:
            with self._lock:
                self._count([seconds])
            self._changed()

    def _count(self, durations: list[float]) -> None:
        sketch = self._sketch
        if sketch is not None:
            sketch.add(durations)
            if sketch.warm():
                self.delay = self._start.limited(sketch.value())

    def took_longer_than(self, seconds: float) -> None:
        """Take note that a call was cancelled after *seconds*.

        That it would have taken longer than the quantile is certain only if it already had; of a
        shorter one nothing is known. To leave out the former as well would make calls with
        timeouts look fast.
        """
        if self.delay is not None and seconds >= self.delay:
            self.took(seconds)

    def abandon(self, threads: int) -> None:
        """Take note that so many more threads (or, negative, fewer) run on in vain."""
        with self._lock:
            self.abandoned += threads
        self._changed()

    def _changed(self) -> None:
        for each in self._gauges:
            gauge = each()
            if gauge is not None:
                gauge.changed()

    def _read_delay(self) -> float | None:
        self._counted_queue(0.0)
        return self.delay

    def _read_abandoned(self) -> float:
        return self.abandoned
