"""Waiting for what another thread or task does: a signal that both can wait for."""

import asyncio
import threading
from collections import deque

from mainstay._core.clock import Clock


class Signal:
    """Set once, by any thread; waited for by threads and by tasks of any event loop."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._tasks: deque[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = deque()

    def set(self) -> None:
        """Wake everyone who waits, and let nobody wait any more."""
        self._event.set()
        while self._tasks:
            loop, event = self._tasks.popleft()
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def wait(self, clock: Clock, seconds: float) -> None:
        """Block the calling thread until the signal is set, at most for *seconds*."""
        clock.wait(self._event, seconds)

    async def await_(self, clock: Clock, seconds: float) -> None:
        """Suspend the calling task until the signal is set, at most for *seconds*."""
        woken = asyncio.Event()
        self._tasks.append((asyncio.get_running_loop(), woken))
        if self._event.is_set():  # it came in between, and may not have seen the entry
            return
        timer = clock.call_later(seconds, woken.set) if seconds < float("inf") else None
        try:
            await woken.wait()
        finally:
            if timer is not None:
                timer.cancel()
