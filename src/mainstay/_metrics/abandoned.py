"""Abandoned calls: copies and timed calls that still run although their caller has left."""

import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from mainstay._core.forks import reset_after_fork, unlocked_copy
from mainstay._metrics.gauges import NumberGauge

if TYPE_CHECKING:
    from asyncio import Future


class AbandonedCalls:
    """What one component still runs though its callers have left.

    Attributes:
        tasks: Their cancelled tasks. Held here, because the event loop does not.
    """

    def __init__(self) -> None:
        self._gauges: WeakSet[NumberGauge] = WeakSet()  # a policy outlives metrics of tests
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread
        self._reset_after_fork()
        reset_after_fork(self, AbandonedCalls._reset_after_fork)

    def _reset_after_fork(self) -> None:
        """Leave them to the parent."""
        self._lock = unlocked_copy(self._lock)
        self.threads: int = 0
        self.tasks: set[Future[Any]] = set()

    def show(self, gauge: NumberGauge) -> None:
        """Have *gauge* read the number of threads, and report changes to it."""
        gauge.follow(self, AbandonedCalls._read)
        if gauge not in self._gauges:
            self._gauges = WeakSet((*self._gauges, gauge))  # another thread may look at the old one
            gauge.changed()

    def add_threads(self, number: int) -> None:
        """Record that so many more threads run such a call; fewer if *number* is negative."""
        with self._lock:
            self.threads += number
        for gauge in self._gauges:
            gauge.changed()

    def _read(self) -> float:
        return self.threads
