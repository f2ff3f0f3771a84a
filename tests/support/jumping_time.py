"""An event loop that waits for nothing, and the system's clock going with it.

Where a `FakeClock` is around a call, calls do not take the short ways that they take when nothing
is. Here nothing is.
"""

import asyncio
import contextlib
import selectors

import pytest

from mainstay._core import alarms
from mainstay._core import deadline as core_deadline
from mainstay._core.clock import SystemClock
from mainstay._redundant import async_loop


class _Selector(selectors.DefaultSelector):
    """Does not wait, and adds up how long it would have waited."""

    def __init__(self):
        super().__init__()
        self.waited = 0.0

    def select(self, timeout=None):
        self.waited += max(0.0, timeout or 0.0)
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """Jumps to the next thing that is to happen."""

    def __init__(self):
        self._jumping = _Selector()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.waited


@contextlib.contextmanager
def jumping_time():
    """Give a loop whose time is that of the system's clock, too."""
    loop = JumpingLoop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SystemClock, "now", staticmethod(loop.time))
        for module in (alarms, async_loop, core_deadline):
            patch.setattr(module, "monotonic", loop.time)
        yield loop
    loop.close()
