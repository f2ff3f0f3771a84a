"""One timer of the event loop for all calls of a component that are not slow yet.

Nearly all of them are answered in time, and a timer for each would be most of what such a call
costs. So a call only notes when it is due, and takes that back when it is answered. A timer that
goes off finds the first one that is still waiting, and is set for that.
"""

import math
import threading
import weakref
from asyncio import AbstractEventLoop
from typing import TYPE_CHECKING, Protocol

from mainstay._core.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable


class Waiting(Protocol):
    """A call that is not slow yet."""

    def slow(self) -> None:
        """Be told that it is slow now."""
        ...


class Alarm:
    """Tells the calls of one event loop when they are slow.

    Attributes:
        waiting: When each call is due, in seconds of the system's clock. An answered one takes
            itself out.
        loop: The event loop.
    """

    __slots__ = ("__weakref__", "_goes_off", "_latest", "loop", "waiting")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.waiting: dict[Waiting, float] = {}
        self.loop: AbstractEventLoop = loop
        self._latest = -math.inf
        self._goes_off = math.inf

    def add(self, call: Waiting, due: float) -> None:
        """Let *call* wait until *due*. Its event loop must be the one that is running."""
        if due < self._latest and self.waiting:
            # The delay has become shorter, and this call is due before some that began earlier.
            self.loop.call_later(due - monotonic(), self._tell, call)
        else:
            self._latest = due
            if due < self._goes_off:
                self._set(due)
        self.waiting[call] = due

    def _set(self, due: float) -> None:
        self._goes_off = due
        self.loop.call_later(due - monotonic(), self._go_off, due)

    def _go_off(self, set_for: float) -> None:
        if set_for != self._goes_off:  # it was set for an earlier time since
            return
        self._goes_off = math.inf
        now, slow = monotonic(), []
        for call, due in self.waiting.items():
            if due > now:
                self._set(due)
                break
            slow.append(call)
        for call in slow:
            self._tell(call)

    def _tell(self, call: Waiting) -> None:
        if self.waiting.pop(call, None) is not None:
            call.slow()


class Alarms(threading.local):
    """The alarms of a component: in each thread, that of the event loop that ran there last.

    It is the loop and the calls that keep an alarm. With them it goes, however they end.
    """

    _last: "Callable[[], Alarm | None]" = staticmethod(lambda: None)

    def here(self, loop: AbstractEventLoop) -> Alarm:
        """Give the alarm of the event loop that is running."""
        alarm = self._last()
        if alarm is None or alarm.loop is not loop:
            alarm = Alarm(loop)
            self._last = weakref.ref(alarm)
        return alarm
