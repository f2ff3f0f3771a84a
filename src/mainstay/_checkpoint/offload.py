"""Store calls of async runs, off the event loop.

A save waits for the disk, which other tasks must not. It cannot be taken back either: a
cancellation that arrives meanwhile is handed on when the save has ended, so that the run knows
what is saved.
"""

import asyncio
import contextvars
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def off_loop(call: Callable[[], T]) -> T:
    """Make a blocking call in a thread, to its end, in the caller's context."""
    context = contextvars.copy_context()
    future = asyncio.get_running_loop().run_in_executor(None, context.run, call)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return future.result()
    future.exception()  # looked at, so that asyncio does not complain; the cancellation goes on
    raise cancelled
