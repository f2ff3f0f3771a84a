"""`Alarms`: one timer of an event loop for all that waits in it, nearly all of which ends early.

A timer for each would be most of the cost of a deadline or a hedged call. So each event loop has a
single timer, set for the earliest alarm, and alarms are kept in two places:

1. A *young* alarm was added since the timer last went off. Young alarms are in a dict, in no order:
   to add one, and to end it before its time, as nearly all calls do, is one dict operation each.
2. When the timer goes off, all alarms that are still young become *old*: they are put into a heap,
   by time. An old alarm that ends stays in the heap until its time comes, or until more than half
   of the heap has ended and the heap is built again.

Used by `interrupts`, for ``async with deadline``, `timeout` and `attempt_timeout`, and by redundant
calls, to learn that their primary is slow.
"""

import heapq
import math
import threading
import weakref
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from contextvars import Context
from itertools import count
from typing import Protocol

from mainstay._core.clock import monotonic
from mainstay._core.functions import running_loop

_MOST_ENDED = 64


class Waiting(Protocol):
    """An object that waits for its time: the alarm calls it then."""

    def is_over(self) -> bool:
        """Return True if it does not wait any more."""
        ...

    def fire(self) -> None:
        """Do what is to happen, unless it is over."""
        ...


class Alarms:
    """What waits on one event loop."""

    __slots__ = (
        "__weakref__",
        "_context",
        "_ended",
        "_numbers",
        "_old",
        "_set_for",
        "_timer",
        "_young",
        "loop",
    )

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self._young: dict[Waiting, float] = {}
        self._old: list[tuple[float, int, Waiting]] = []
        self._numbers = count()
        self._ended = 0  # of the old ones
        self._context = Context()  # nobody's: it would keep alive what a call has in its own
        self._timer: TimerHandle | None = None
        self._set_for = math.inf

    def add(self, due: float, waiting: Waiting) -> None:
        """Fire *waiting* at *due*, in seconds of the system's clock, in the loop's thread."""
        self._young[waiting] = due
        if due < self._set_for:
            self._set(due)

    def remove(self, waiting: Waiting) -> None:
        """Forget one that is over before its time."""
        try:
            del self._young[waiting]
        except KeyError:
            self._ended += 1
            if self._ended > _MOST_ENDED and self._ended * 2 > len(self._old):
                self._sweep()

    def __len__(self) -> int:
        """Return how many are noted, those included that are over and still in the heap."""
        return len(self._young) + len(self._old)

    def _sweep(self) -> None:
        if running_loop() is self.loop:  # the collector ends tasks in any thread
            self._old = [each for each in self._old if not each[2].is_over()]
            heapq.heapify(self._old)
            self._ended = 0

    def _set(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        seconds = max(0.0, due - monotonic())
        self._timer = self.loop.call_later(seconds, self._go_off, context=self._context)
        self._set_for = due

    def _go_off(self) -> None:
        self._timer, self._set_for = None, math.inf
        young, self._young = self._young, {}
        for waiting, due in young.items():
            entry = due, next(self._numbers), waiting  # first: the collector may come in, and sweep
            heapq.heappush(self._old, entry)
        try:
            self._fire_until(monotonic())
        finally:
            if self._old:
                self._set(self._old[0][0])

    def _fire_until(self, now: float) -> None:
        while self._old:
            entry = heapq.heappop(self._old)
            due, _, first = entry
            if first.is_over():
                self._ended -= 1
            elif due <= now:
                first.fire()
            else:
                heapq.heappush(self._old, entry)
                return


class _Last(threading.local):
    """The alarms of the event loop that ran last in each thread.

    The timer of the event loop and the waiting objects keep the alarms alive; nothing else does.
    """

    alarms: Callable[[], Alarms | None] = staticmethod(lambda: None)


_last = _Last()


def alarms_of(loop: AbstractEventLoop) -> Alarms:
    """Return the alarms of the event loop that is running here."""
    alarms = _last.alarms()
    if alarms is None or alarms.loop is not loop:
        alarms = Alarms(loop)
        _last.alarms = weakref.ref(alarms)
    return alarms
