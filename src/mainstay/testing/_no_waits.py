"""`no_waits`: leaves out the waits between attempts."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mainstay._core import context
from mainstay._core.clock import Bell, Clock, Timer


class _NoWaits:
    """A clock on which sleeping takes no time, and all else as long as on another clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.now()

    def sleep(self, _seconds: float, /) -> None:
        pass

    async def asleep(self, _seconds: float, /) -> None:
        await asyncio.sleep(0)

    def call_later(self, seconds: float, callback: Callable[[], object], /) -> Timer:
        return self._clock.call_later(seconds, callback)

    def bell(self, *, still: bool = False) -> Bell:
        return self._clock.bell(still=still)


@contextmanager
def no_waits() -> Iterator[None]:
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
    context.enter(context.with_clock(_NoWaits(context.current_context().clock)))
    try:
        yield
    finally:
        context.leave()
