"""What the calls of one component share: how long they take, and what they have left behind.

The only lock here is held for some additions, never while code of the user's runs.
"""

import threading
from typing import TYPE_CHECKING, Any

from mainstay._metrics.levels import Level
from mainstay._redundant.sketch import Sketch
from mainstay.hedge import Start

if TYPE_CHECKING:
    from asyncio import Future

MOST_STRAYS = 1_000
"""How many cancelled tasks of a component may not have ended before no more hedges start."""

_REFRESH = 16  # calls


class Shared:
    """The live delay of hedges, and copies that run on though their calls have ended.

    Attributes:
        delay: Seconds after which the next copy starts; None while unknown, or without hedging.
        abandoned: How many threads run a copy whose call has ended.
        strays: Cancelled tasks that have not ended. Held here, because the event loop does not.
    """

    __slots__ = (
        "__weakref__",
        "_added",
        "_levels",
        "_lock",
        "_sketch",
        "_start",
        "abandoned",
        "delay",
        "strays",
    )

    def __init__(self, start: Start) -> None:
        self._start = start
        self._sketch = Sketch(start.q) if start.q else None
        self._added = 0
        self._levels: tuple[Level, ...] = ()
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread
        self.delay = None if start.together else start.seconds
        self.abandoned = 0
        self.strays: set[Future[Any]] = set()

    def show(self, delay: Level, abandoned: Level) -> None:
        """Be read by these gauges, and tell them of changes."""
        delay.follow(self._read_delay)
        abandoned.follow(self._read_abandoned)
        if delay not in self._levels:
            self._levels = (*self._levels, delay, abandoned)
            delay.changed()
            abandoned.changed()

    def took(self, seconds: float) -> None:
        """Take note that a call was answered so long after its primary began."""
        sketch = self._sketch
        if sketch is None:
            return
        with self._lock:
            sketch.add(seconds)
            self._added += 1
            if self._added % _REFRESH and self.delay is not None:
                return
            if sketch.warm():
                self.delay = self._start.limited(sketch.value())
        self._changed()

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
        for level in self._levels:
            level.changed()

    def _read_delay(self) -> float | None:
        return self.delay

    def _read_abandoned(self) -> float:
        return self.abandoned
