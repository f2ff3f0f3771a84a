"""Signals that threads and tasks wait for, and safe reads of collections that others change."""

import contextvars
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from mainstay._core.clock import Clock

if TYPE_CHECKING:
    import asyncio

K = TypeVar("K")
V = TypeVar("V")


class Signal:
    """Set once, by any thread; waited for by threads and by tasks of any event loop."""

    def __init__(self) -> None:
        self._is_set = False
        self._wakers: dict[object, Callable[[], object]] = {}

    def set(self) -> None:
        """Wake everyone who waits, and make nobody wait any more."""
        self._is_set = True
        for wake in values_now(self._wakers):
            wake()

    def wait(self, clock: Clock, seconds: float) -> None:
        """Block the calling thread until the signal is set, at most for *seconds*."""
        bell = clock.bell(still=True)
        self._wakers[bell] = bell.ring
        try:
            if not self._is_set:  # the signal may have come before the entry was there
                bell.wait(seconds)
        finally:
            del self._wakers[bell]

    async def await_(self, clock: Clock, seconds: float) -> None:
        """Suspend the calling task until the signal is set, at most for *seconds*."""
        import asyncio  # noqa: PLC0415 - programs without async code do without it

        event_loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not event_loop.is_closed():
                event_loop.call_soon_threadsafe(woken.set)

        timer = clock.call_later(seconds, woken.set) if seconds < math.inf else None
        self._wakers[woken] = wake
        try:
            if not self._is_set:
                await woken.wait()
        finally:
            del self._wakers[woken]
            if timer is not None:
                timer.cancel()


@attrs.frozen(eq=False, repr=False)
class Pause:
    """A decision to wait, and to ask again afterwards.

    Attributes:
        clock: What tells the time.
        seconds: How long at most.
        signal: What ends the pause earlier, or None to sleep.
    """

    clock: Clock
    seconds: float
    signal: Signal | None = None

    def wait(self) -> None:
        """Block the calling thread for that time."""
        if self.signal is None:
            self.clock.sleep(self.seconds)
        else:
            self.signal.wait(self.clock, self.seconds)

    async def await_(self) -> None:
        """Suspend the calling task for that time."""
        if self.signal is None:
            await self.clock.asleep(self.seconds)
        else:
            await self.signal.await_(self.clock, self.seconds)


def values_now(mapping: Mapping[Any, V]) -> list[V]:
    """Return the values of a dict that a garbage collection may change at any moment.

    A collection, and what its callbacks let other threads do, can come in wherever Python makes an
    object that it tracks. In `dict.copy` of Python 3.11 that is between the copy of the entries and
    that of their number, and iterating over such a copy raises RuntimeError; in `tuple` it is when
    the iteration has begun. Here the list is made first and the iterator next, which looks at the
    dict only then, and nothing more is made until its end.
    """
    return [*mapping.values()]


def get_or_create(known: dict[K, V], key: K, create: Callable[[], V]) -> V:
    """Return the value of *key*, made by *create* at first use, without a lock.

    Two threads, or a thread and its signal handler, may create the value at the same time; then
    both get the one that was stored first.
    """
    found = known.get(key)
    return known.setdefault(key, create()) if found is None else found


async def run_in_thread(call: Callable[[], V]) -> V:
    """Make a blocking call in a thread, to its end, in the caller's context.

    The call cannot be cancelled: a cancellation that arrives meanwhile is raised when the call has
    ended, so that the caller knows what was done. If no thread can be started, the call is made in
    the caller's thread.
    """
    import asyncio  # noqa: PLC0415 - programs without async code do without it
    from concurrent.futures import Future  # noqa: PLC0415 - as asyncio

    context = contextvars.copy_context()
    made: Future[V] = Future()

    def make() -> V:
        if made.set_running_or_notify_cancel():
            try:
                made.set_result(context.run(call))
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                made.set_exception(error)
        return made.result()

    try:
        future = asyncio.get_running_loop().run_in_executor(None, make)
    except RuntimeError:  # there is no thread for it, though it is in the executor's queue by now
        if made.cancel():
            return call()
        future = asyncio.wrap_future(made)
    return await to_its_end(future)


async def to_its_end(call: Awaitable[V], on_cancel: Callable[[], object] | None = None) -> V:
    """Await an awaitable to its end, even if the caller is cancelled meanwhile.

    The cancellation is raised at the end, so that the caller knows that the call has ended;
    *on_cancel* is called as soon as the cancellation arrives.
    """
    import asyncio  # noqa: PLC0415 - as above

    future = asyncio.ensure_future(call)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
            if on_cancel is not None:
                on_cancel()
    if cancelled is None:
        return future.result()
    retrieve_exception(future)
    raise cancelled


def retrieve_exception(future: "asyncio.Future[Any]") -> None:
    """Read the exception of a future that nobody waits for, so that asyncio does not log it."""
    if not future.cancelled():
        future.exception()
