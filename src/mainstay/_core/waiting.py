"""Waiting for what another thread or task does: a signal that both can wait for."""

import asyncio
import math
from typing import TYPE_CHECKING

from mainstay._core.clock import Clock
from mainstay._core.snapshots import values_now

if TYPE_CHECKING:
    from collections.abc import Callable


class Signal:
    """Set once, by any thread; waited for by threads and by tasks of any event loop."""

    def __init__(self) -> None:
        self._is_set = False
        self._wakers: dict[object, Callable[[], object]] = {}

    def set(self) -> None:
        """Wake everyone who waits, and let nobody wait any more."""
        self._is_set = True
        for wake in values_now(self._wakers):
            wake()

    def wait(self, clock: Clock, seconds: float) -> None:
        """Block the calling thread until the signal is set, at most for *seconds*."""
        bell = clock.bell(still=True)
        self._wakers[bell] = bell.ring
        try:
            if not self._is_set:  # it may have come in between, and not have seen the entry
                bell.wait(seconds)
        finally:
            del self._wakers[bell]

    async def await_(self, clock: Clock, seconds: float) -> None:
        """Suspend the calling task until the signal is set, at most for *seconds*."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(woken.set)

        timer = clock.call_later(seconds, woken.set) if seconds < math.inf else None
        self._wakers[woken] = wake
        try:
            if not self._is_set:
                await woken.wait()
        finally:
            del self._wakers[woken]
            if timer is not None:
                timer.cancel()
