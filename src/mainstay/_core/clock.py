"""`Clock`: the only module that reads a clock or sleeps.

All times are seconds of the clock's own monotonic time, except the wall time. `SYSTEM` is the real
clock, `mainstay.testing.FakeClock` the other. Loops read the clock of their context and pass
numbers to decisions, which never see a clock.
"""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from asyncio import Future

monotonic = time.monotonic
"""Seconds of the system's monotonic clock, for the paths that cannot afford a method call."""

wall_time = time.time
"""Seconds since 1970, for what people and Prometheus read. Of decisions, only those that all
processes are to make at the same instants see it, as a reading of their clock."""


class Timer(Protocol):
    """A callback that waits for its time."""

    def cancel(self) -> object:
        """Forget the callback; nothing happens if it has run already."""
        ...


class Bell(Protocol):
    """What one thread waits for and others ring."""

    def ring(self) -> None:
        """End the present `wait`, or else the next one; ringing twice is the same as once."""
        ...

    def wait(self, seconds: float, /) -> bool:
        """Block for at most *seconds*, which may be infinite; return True if it was rung."""
        ...

    def working(self, thread: int, /) -> None:
        """Record that a thread works for the waiting one: no clock of a test moves meanwhile."""
        ...

    def idle(self, thread: int, /) -> None:
        """Record that it does no longer; also called by the waiting one at the end, of itself."""
        ...


class Clock(Protocol):
    """What policies need of time."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def wall(self) -> float:
        """Seconds since 1970, which people and other processes know; may be set back."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Block the calling thread for *seconds*."""
        ...

    async def asleep(self, seconds: float, /) -> None:
        """Suspend the calling task for *seconds*."""
        ...

    async def wait_for(self, woken: "Future[None]", seconds: float, /) -> None:
        """Suspend the calling task until *woken* is done, at most for *seconds*.

        Afterwards *woken* is done or not, by anybody.
        """
        ...

    def call_later(self, seconds: float, callback: Callable[[], object], /) -> Timer:
        """Run *callback* on the running event loop after *seconds*."""
        ...

    def bell(self, *, still: bool = False) -> Bell:
        """Make a bell for the calling thread to wait for.

        Args:
            still: Its waits are for what others do in their own time: they never move a
                `FakeClock` on, as those of other bells do. Any one thread may wait.
        """
        ...


class SystemClock:
    """The machine's own monotonic time."""

    now = staticmethod(monotonic)
    wall = staticmethod(wall_time)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        import asyncio  # noqa: PLC0415 - programs without async code do without it

        await asyncio.sleep(seconds)

    async def wait_for(self, woken: "Future[None]", seconds: float) -> None:
        timer = woken.get_loop().call_later(seconds, finish, woken)
        try:
            await woken
        finally:
            timer.cancel()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        import asyncio  # noqa: PLC0415 - programs without async code do without it

        return asyncio.get_running_loop().call_later(seconds, callback)

    def bell(self, *, still: bool = False) -> Bell:  # noqa: ARG002 - real time never stands still
        return SystemBell()


def finish(woken: "Future[None]") -> None:
    """End the wait for *woken*, if it goes on."""
    if not woken.done():
        woken.set_result(None)


class SystemBell:
    """A lock that is free after a ring: the cheapest thing that a thread can wait for."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:  # rung before
            return

    def wait(self, seconds: float) -> bool:
        if seconds > threading.TIMEOUT_MAX:
            return self._lock.acquire()
        return self._lock.acquire(timeout=max(0.0, seconds))

    def working(self, _thread: int) -> None:
        pass

    def idle(self, _thread: int) -> None:
        pass


SYSTEM = SystemClock()
