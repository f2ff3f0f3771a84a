"""How the steps of a session wait for its socket: a thread blocks, a task is suspended.

The steps are a generator that yields for what it waits, so that both share one source. A
step that takes too long is given up; the session is of no use afterwards, and is closed by its
pool. Nothing is ever cancelled at the server: a commit that is cancelled while the server waits
for a standby would be reported as a success.
"""

import asyncio
import select
from collections.abc import Generator, Sequence
from typing import TypeAlias, TypeVar

from mainstay._core.clock import monotonic
from mainstay.stores._driving import adrive, drive
from mainstay.stores._postgres.failures import Failure

T = TypeVar("T")

READ, WRITE = 1, 4
"""For what to wait, as `select.poll` numbers that."""

Wait: TypeAlias = tuple[int, int]
"""A file descriptor, and for what of it to wait: READ, WRITE or both."""

Steps: TypeAlias = Generator[Wait, None, T]


def ready(waits: Sequence[Wait], seconds: float | None) -> list[int]:
    """Wait until descriptors are ready, and return them; none after *seconds*, None for ever."""
    if not hasattr(select, "poll"):  # Windows
        reads = [descriptor for descriptor, events in waits if events & READ]
        writes = [descriptor for descriptor, events in waits if events & WRITE]
        readable, writable, _ = select.select(reads, writes, (), seconds)
        return [*readable, *writable]
    poller = select.poll()
    for wait in waits:
        poller.register(*wait)
    found = poller.poll(None if seconds is None else seconds * 1000)
    return [descriptor for descriptor, _ in found]


def finish(steps: Steps[T], ends: float) -> T:
    """Run the steps to their end, blocking the thread; fail at *ends*."""

    def wait(wanted: Wait) -> None:
        left = ends - monotonic()
        if left <= 0 or not ready([wanted], left):
            raise Failure.late()

    return drive(steps, wait)


async def afinish(steps: Steps[T], ends: float) -> T:
    """Run the steps to their end, suspending the task; fail at *ends*."""
    loop = asyncio.get_running_loop()

    async def wait(wanted: Wait) -> None:
        left = ends - monotonic()
        if left <= 0 or not await _ready(loop, *wanted, left):
            raise Failure.late()

    return await adrive(steps, wait)


async def _ready(
    loop: asyncio.AbstractEventLoop, descriptor: int, events: int, seconds: float
) -> bool:
    """Wait until the descriptor is ready; False if it is not in time."""
    woken: asyncio.Future[bool] = loop.create_future()
    timer = loop.call_later(seconds, _wake, woken, False)
    if events & READ:
        loop.add_reader(descriptor, _wake, woken, True)
    if events & WRITE:
        loop.add_writer(descriptor, _wake, woken, True)
    try:
        return await woken
    finally:
        timer.cancel()
        if events & READ:
            loop.remove_reader(descriptor)
        if events & WRITE:
            loop.remove_writer(descriptor)


def _wake(woken: "asyncio.Future[bool]", ready: bool) -> None:  # noqa: FBT001 - of a callback
    if not woken.done():
        woken.set_result(ready)
