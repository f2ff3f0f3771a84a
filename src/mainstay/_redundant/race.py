"""The block form: copies that the block starts itself, each with a function and arguments.

Each copy that is started runs at once, in a thread or a task of its own. Only at `result` the
number of copies is known, and so what the vote needs; copies that have ended before are counted
then.
"""

import functools
from collections.abc import Awaitable, Callable
from types import FrameType, TracebackType
from typing import Any

from mainstay._core.functions import (
    Kind,
    is_async_frame,
    kind_of,
    name_of,
    name_of_frame,
    resource_first_or_as_self,
)
from mainstay._redundant.async_loop import AsyncLoop
from mainstay._redundant.call import RedundantCall
from mainstay._redundant.settings import BoundRedundant, check_blocking, check_members
from mainstay._redundant.sync_loop import SyncLoop


class Race:
    """The value of `with policy.race() as race`: start copies, then ask for the result once.

    Example:
        >>> from mainstay import redundant
        >>> with redundant().race() as race:
        ...     race.start(str.upper, "ok")
        ...     race.result()
        'OK'
    """

    def __init__(self, loop: SyncLoop) -> None:
        self._loop = loop

    def start(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Start a copy in a thread; if all threads are busy, run the copy in the calling thread.

        Args:
            fn: A plain function. With a `pool`, its first argument is the resource of a member.
            *args: The arguments for *fn*.
            **kwargs: The keyword arguments for *fn*.

        Raises:
            TypeError: If *fn* is not a plain function.
            RuntimeError: After `result`.
            ValueError: If there are more copies now than members of the `pool`.
        """
        fn = _checked(self._loop.call, fn, Kind.SYNC)
        self._loop.join(fn, args, kwargs)

    def result(self) -> Any:
        """Wait for the decision and return the answer.

        Raises:
            RuntimeError: If nothing was started, or at the second time.
            ValueError: If the rule of the policy does not fit the number of copies.
            Exception: As for a decorated function.
        """
        _end_entries(self._loop.call)
        return self._loop.run()


class AsyncRace:
    """The value of `async with policy.race() as race`: a `Race` with tasks in place of threads.

    Example:
        >>> import asyncio
        >>> from mainstay import redundant
        >>> async def main() -> str:
        ...     async with redundant().race() as race:
        ...         race.start(asyncio.sleep, 0, "ok")
        ...         return await race.result()
        >>> asyncio.run(main())
        'ok'
    """

    def __init__(self, loop: AsyncLoop) -> None:
        self._loop = loop

    def start(self, fn: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> None:
        """Start a copy in a task.

        Args:
            fn: An async function. With a `pool`, its first argument is the resource of a member.
            *args: The arguments for *fn*.
            **kwargs: The keyword arguments for *fn*.

        Raises:
            TypeError: If *fn* is not an async function.
            RuntimeError: After `result`.
            ValueError: If there are more copies now than members of the `pool`.
        """
        fn = _checked(self._loop.call, fn, Kind.ASYNC)
        self._loop.join(fn, args, kwargs)

    async def result(self) -> Any:
        """Wait for the decision and return the answer.

        Raises:
            RuntimeError: If nothing was started, or at the second time.
            ValueError: If the rule of the policy does not fit the number of copies.
            Exception: As for a decorated function.
        """
        _end_entries(self._loop.call)
        return await self._loop.race_result()


class RaceBlock:
    """The context manager of `policy.race()`, for ``with`` and for ``async with``."""

    def __init__(self, bind: Callable[[str], BoundRedundant], frame: FrameType) -> None:
        self._bind = functools.partial(bind, name_of_frame(frame))
        self._frame_is_async = is_async_frame(frame)
        self._loop: SyncLoop | AsyncLoop | None = None

    def __enter__(self) -> Race:
        """Begin a race in threads."""
        if self._frame_is_async:
            raise TypeError(
                "`with policy.race()` would block the event loop; in async code it is "
                "`async with policy.race()`"
            )
        self._check_unused()
        bound = self._bind()
        check_blocking(bound.settings, "`with policy.race()`")
        self._loop = loop = SyncLoop(bound, (), {})
        return Race(loop)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the race; what still runs is late."""
        self._leave()

    async def __aenter__(self) -> AsyncRace:
        """Begin a race in tasks."""
        self._check_unused()
        self._loop = loop = AsyncLoop.begin(self._bind(), (), {})
        return AsyncRace(loop)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the race; what still runs is cancelled, and not waited for."""
        self._leave()

    def _check_unused(self) -> None:
        if self._loop is not None:
            raise RuntimeError("this race is over; `policy.race()` makes a new one")

    def _leave(self) -> None:
        if self._loop is not None:
            self._loop.leave()


def _checked(call: RedundantCall, fn: object, kind: Kind) -> Callable[..., Any]:
    """Return what a copy of the race calls; raise unless it can be one, and comes in time."""
    if not callable(fn) or kind_of(fn) is not kind:
        given = name_of(fn) if callable(fn) else repr(fn)
        raise TypeError(f"this race starts functions of `{kind.value}`, not {given}")
    if call.round.most:
        raise RuntimeError("`start` must come before `result`: no copy can join the race any more")
    pool = call.bound.settings.pool
    if pool is not None:
        check_members(pool, call.round.made + 1)
    return fn if pool is None else resource_first_or_as_self(fn)


def _end_entries(call: RedundantCall) -> None:
    """Fix the number of copies, and begin to count them."""
    round_, settings = call.round, call.bound.settings
    if round_.most:
        raise RuntimeError("`result` of a race can be called once")
    if not round_.made:
        raise RuntimeError("a race needs at least one `start` before its `result`")
    if not settings.takes_first:
        round_.tally = settings.rule.tally(round_.made)
    round_.most = round_.made
