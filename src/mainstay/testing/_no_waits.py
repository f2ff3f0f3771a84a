"""`no_waits`: leaves out the waits between attempts."""

import asyncio
from collections.abc import Callable
from contextlib import ContextDecorator

from mainstay._core import context
from mainstay._core.clock import SYSTEM, Bell, Clock, Timer


class _NoWaits:
    """A clock on which sleeping takes no time, and all else as long as on another clock."""

    def __init__(self, clock: Clock) -> None:
        self.around = clock

    def now(self) -> float:
        return self.around.now()

    def sleep(self, _seconds: float, /) -> None:
        pass

    async def asleep(self, _seconds: float, /) -> None:
        await asyncio.sleep(0)

    def call_later(self, seconds: float, callback: Callable[[], object], /) -> Timer:
        return self.around.call_later(seconds, callback)

    def bell(self, *, still: bool = False) -> Bell:
        return self.around.bell(still=still)


class no_waits(ContextDecorator):  # noqa: N801 - used like a function; a block, which entries know
    """Leave out the waits between attempts; everything else stays as it is.

    The policies decide as they would, with the waits they would make: one that would outlast its
    timeout still gives up, and `wait_seconds_total` counts what would have been waited.

    Example:
        >>> from mainstay import retry
        >>> from mainstay.testing import Faults, no_waits
        >>> with no_waits():
        ...     retry(on=OSError, wait=30.0).call(Faults([OSError("refused"), "ok"]))
        'ok'
    """

    def __init__(self) -> None:
        self._entries: list[context.Entry] = []
        self._clock = _NoWaits(SYSTEM)

    def __enter__(self) -> None:
        context.enter(self._entries, context.ClockEntry(self, no_waits._over))

    def __exit__(self, *exc_info: object) -> None:
        context.leave(self, self._entries)

    def _over(self, clock: Clock) -> Clock:
        if self._clock.around is not clock:
            self._clock = _NoWaits(clock)
        return self._clock
