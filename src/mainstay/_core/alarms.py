"""One timer of an event loop for many that wait on it, nearly all of which end before their time.

A timer for each would be most of what a deadline costs. So each is noted with its time, in a heap,
and the loop has a single timer for the first one. One that has ended stays in the heap until its
time comes, or until more than half of the heap is of that kind and the heap is made again.
"""

import heapq
import math
import threading
import weakref
from asyncio import AbstractEventLoop
from collections.abc import Callable
from itertools import count
from typing import Protocol

from mainstay._core.clock import monotonic

_MOST_ENDED = 64


class Waiting(Protocol):
    """Something that waits for its time."""

    def is_over(self) -> bool:
        """Return True if it does not wait any more."""
        ...

    def fire(self) -> None:
        """Do what is to happen, unless it is over."""
        ...


class Alarms:
    """What waits on one event loop."""

    __slots__ = ("__weakref__", "_ended", "_heap", "_numbers", "_set_for", "loop")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self._heap: list[tuple[float, int, Waiting]] = []
        self._ended = 0
        self._numbers = count()
        self._set_for = math.inf

    def add(self, due: float, waiting: Waiting) -> None:
        """Fire *waiting* at *due*, in seconds of the system's clock, in the loop's thread."""
        heapq.heappush(self._heap, (due, next(self._numbers), waiting))
        if due < self._set_for:
            self._set(due)

    def one_ended(self) -> None:
        """Record that one ended before its time."""
        self._ended += 1
        if self._ended > _MOST_ENDED and self._ended * 2 > len(self._heap):
            self._heap = [each for each in self._heap if not each[2].is_over()]
            heapq.heapify(self._heap)
            self._ended = 0

    def _set(self, due: float) -> None:
        self._set_for = due
        self.loop.call_later(max(0.0, due - monotonic()), self._go_off, due)

    def _go_off(self, set_for: float) -> None:
        if set_for != self._set_for:  # it was set for an earlier time since
            return
        self._set_for = math.inf
        now = monotonic()
        while self._heap:
            due, _, first = self._heap[0]
            if due > now and not first.is_over():
                self._set(due)
                return
            heapq.heappop(self._heap)
            self._ended -= first.is_over()
            first.fire()


class _Last(threading.local):
    """The alarms of the event loop that ran last in each thread.

    It is the loop, by its timer, and what waits that keep them. With them they go.
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
