"""`LatencyTracker`: how long the calls of one component take, and when a call is slow.

A call that was answered only puts its duration into a queue. The call that finds `BATCH` durations
in the queue, or the oldest of them `LATEST` seconds old, adds them to the sketch and the budget,
and so does every reader. The only lock is held for these additions, never while the user's code
runs.
"""

import threading
from collections import deque
from weakref import WeakSet

from mainstay._core.budget import RetryBudget, observe
from mainstay._core.forks import reset_after_fork, unlocked_copy
from mainstay._core.sharing import reset_with_all
from mainstay._metrics.gauges import NumberGauge
from mainstay._redundant.sketch import Sketch
from mainstay.hedge import Delay

BATCH = 64
LATEST = 0.25


class LatencyTracker:
    """After how long a call is slow.

    Attributes:
        delay: Seconds after which the next copy starts; None while unknown, or without hedging.
    """

    def __init__(self, start: Delay, budget: RetryBudget | None) -> None:
        self._start = start
        self._budget = budget
        self._due = 0.0  # when the queue is to be counted at the latest, by the system's clock
        self._durations: deque[float] = deque()
        self._sketch = Sketch(start.q) if start.q else None
        self._gauges: WeakSet[NumberGauge] = WeakSet()  # a policy outlives metrics of tests
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread
        self._counts = False  # and finds this, while that one counts
        self.delay = None if start.together else start.seconds
        reset_after_fork(self, LatencyTracker._reset_after_fork)
        reset_with_all(self, LatencyTracker._forget)

    def _reset_after_fork(self) -> None:
        self._lock = unlocked_copy(self._lock)
        self._counts = False

    def _forget(self) -> None:
        """Forget all calls."""
        start = self._start
        with self._lock:
            self._durations.clear()
            self._sketch = Sketch(start.q) if start.q else None
            self.delay = None if start.together else start.seconds
            self._due = 0.0
        self._changed()

    def show(self, gauge: NumberGauge) -> None:
        """Have *gauge* read the delay, and report changes to it."""
        gauge.follow(self, LatencyTracker._read)
        if gauge not in self._gauges:
            self._gauges = WeakSet((*self._gauges, gauge))  # another thread may look at the old one
            gauge.changed()

    def answered(self, seconds: float, now: float, *, at_once: bool = False) -> None:
        """Record that a call was answered after *seconds*, for the budget too.

        Args:
            seconds: Since its primary began.
            now: The time of the system's clock.
            at_once: True if it is another clock's, which says nothing of the queue's age.
        """
        if self._sketch is None and self._budget is None:
            return
        durations = self._durations
        durations.append(seconds)
        if now >= self._due or at_once or self.delay is None or len(durations) >= BATCH:
            self.catch_up(now)

    def catch_up(self, now: float = 0.0) -> None:
        """Count what is in the queue, and update the gauges."""
        if self._counted_queue(now):
            self._changed()

    def _counted_queue(self, now: float) -> bool:
        """Count the durations in the queue, and the calls that they are of, if there are any."""
        self._due = now + LATEST
        durations = self._durations
        if not durations:
            return False
        with self._lock:
            if self._counts:
                return False  # the one that was interrupted, or the next one, counts them
            self._counts = True
            try:
                batch = [durations.popleft() for _ in range(len(durations))]
                self._count(batch)
            finally:
                self._counts = False
        if self._budget is not None:
            observe(self._budget, len(batch))
        return True

    def took(self, seconds: float) -> None:
        """Record that a call was answered after *seconds*, of which the budget knows already."""
        if self._sketch is not None:
            with self._lock:
                if self._counts:
                    return  # one duration fewer, and nothing else depends on it
                self._counts = True
                try:
                    self._count([seconds])
                finally:
                    self._counts = False
            self._changed()

    def _count(self, durations: list[float]) -> None:
        sketch = self._sketch
        if sketch is not None:
            sketch.add(durations)
            if sketch.warm():
                self.delay = self._start.limited(sketch.value())

    def took_longer_than(self, seconds: float) -> None:
        """Record that a call was cancelled after *seconds*.

        That it would have taken longer than the quantile is certain only if it already had; of a
        shorter one nothing is known. To leave out the former as well would make calls with
        timeouts look fast.
        """
        if self.delay is not None and seconds >= self.delay:
            self.took(seconds)

    def _changed(self) -> None:
        for gauge in self._gauges:
            gauge.changed()

    def _read(self) -> float | None:
        self._counted_queue(0.0)
        return self.delay
