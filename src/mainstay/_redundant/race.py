"""The block form: copies that the block starts itself, each with a function and arguments.

Everything that is started runs at once, in a thread or a task of its own. `result` is when the
number of copies is known, and with it what the vote needs; what ended before is counted then.
"""

import functools
import threading
from asyncio import Task
from collections.abc import Awaitable, Callable
from types import FrameType, TracebackType
from typing import Any

from mainstay import vote
from mainstay._core.context import current_context
from mainstay._core.functions import Kind, is_async_frame, kind_of, name_of_frame
from mainstay._redundant.async_loop import AsyncCall
from mainstay._redundant.decision import Round
from mainstay._redundant.options import check_blocking, check_members
from mainstay._redundant.rules import Bound
from mainstay._redundant.run import Call
from mainstay._redundant.sync_loop import SyncCall


class Race:
    """What `with policy.race() as race` gives: start copies, then ask for the result once."""

    __slots__ = ("_call",)

    def __init__(self, call: "_SyncRace") -> None:
        self._call = call

    def start(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Start a copy in a thread, or at the cap of threads in this one.

        Args:
            fn: A plain function. With a `pool` it takes the resource of a member first.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Raises:
            TypeError: If *fn* is not a plain function.
            RuntimeError: After `result`.
            ValueError: If there are more copies now than members of the `pool`.
        """
        _check(fn, Kind.SYNC, self._call)
        self._call.add(functools.partial(fn, *args, **kwargs))

    def result(self) -> Any:
        """Wait for the decision and return the answer.

        Raises:
            RuntimeError: If nothing was started, or at the second time.
            ValueError: If the rule of the policy does not fit the number of copies.
            Exception: As for a decorated function.
        """
        return self._call.result()


class AsyncRace:
    """What `async with policy.race() as race` gives: as `Race`, with tasks for threads."""

    __slots__ = ("_call",)

    def __init__(self, call: "_AsyncRace") -> None:
        self._call = call

    def start(self, fn: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> None:
        """Start a copy in a task.

        Args:
            fn: An async function. With a `pool` it takes the resource of a member first.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Raises:
            TypeError: If *fn* is not an async function.
            RuntimeError: After `result`.
            ValueError: If there are more copies now than members of the `pool`.
        """
        _check(fn, Kind.ASYNC, self._call)
        self._call.add(functools.partial(fn, *args, **kwargs))

    async def result(self) -> Any:
        """Wait for the decision and return the answer.

        Raises:
            RuntimeError: If nothing was started, or at the second time.
            ValueError: If the rule of the policy does not fit the number of copies.
            Exception: As for a decorated function.
        """
        return await self._call.result()


class RaceBlock:
    """The context manager of `policy.race()`, for ``with`` and for ``async with``."""

    __slots__ = ("_bind", "_call", "_frame_is_async")

    def __init__(self, bind: Callable[[str], Bound], frame: FrameType) -> None:
        self._bind = functools.partial(bind, name_of_frame(frame))
        self._frame_is_async = is_async_frame(frame)
        self._call: _SyncRace | _AsyncRace | None = None

    def __enter__(self) -> Race:
        """Begin a race in threads."""
        if self._frame_is_async:
            raise TypeError(
                "`with policy.race()` would block the event loop; in async code it is "
                "`async with policy.race()`"
            )
        self._check_unused()
        bound = self._bind()
        check_blocking(bound.rules.lender, bound.rules.dispose, "`with policy.race()`")
        self._call = call = _SyncRace(bound)
        return Race(call)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give up what is still running."""
        self._leave()

    async def __aenter__(self) -> AsyncRace:
        """Begin a race in tasks."""
        self._check_unused()
        self._call = call = _AsyncRace(self._bind())
        return AsyncRace(call)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give up what is still running, without waiting for it."""
        self._leave()

    def _check_unused(self) -> None:
        if self._call is not None:
            raise RuntimeError("this race is over; `policy.race()` makes a new one")

    def _leave(self) -> None:
        if self._call is not None:
            self._call.leave()


def _check(fn: object, kind: Kind, race: "_SyncRace | _AsyncRace") -> None:
    if not callable(fn) or kind_of(fn) is not kind:
        raise TypeError(f"this race starts functions of `{kind.value}`, not {fn!r}")
    if race.asked:
        raise RuntimeError("`result` has been asked for: no copy can join the race any more")
    lender = race.bound.rules.lender
    if lender is not None:
        check_members(lender, len(race.fns) + 1)


class _SyncRace(SyncCall):
    __slots__ = ("asked",)

    def __init__(self, bound: Bound) -> None:
        self.asked: bool = False
        super().__init__(bound, (), {})
        self._began, self._ended = {}, {}

    def add(self, fn: Callable[[], Any]) -> None:
        """Start a copy."""
        copy, members = len(self.fns), self.members
        if members is not None:
            fn = functools.partial(members.call, copy, fn)
        self.fns: tuple[Callable[..., Any], ...] = (*self.fns, fn)
        self._began[copy] = self.context.clock.now()
        worker = self.bound.rules.crew.take()
        if worker is not None:
            self._launch(copy, worker)
            return
        if members is not None:
            members.reserve(copy)
        answer, error = self._call(copy)
        self._mail.append((copy, answer, error))
        if not isinstance(error, Exception | None):
            raise error

    def result(self) -> Any:
        """Wait for the decision."""
        self._round = _round_of(self)
        try:
            self.read_mail()
            while not self.settled:
                self._wait()
        except BaseException:
            self.abort()
            raise
        self.close()
        return self.finish()

    def leave(self) -> None:
        """End the block: without a result nobody waits any more."""
        self._bell.idle(threading.get_ident())
        if not self.closed:
            self._round = self._round or _open_round(self, vote.first())
            self.abort()


class _AsyncRace(AsyncCall):
    __slots__ = ("_early", "asked")

    def __init__(self, bound: Bound) -> None:
        self.asked = False
        super().__init__(bound, current_context(), (), {})
        self._began, self._ended = {}, {}
        self._early: list[tuple[int, Task[Any]]] = []

    def add(self, fn: Callable[[], Any]) -> None:
        """Start a copy."""
        copy, members = len(self.fns), self.members
        if members is not None:
            fn = functools.partial(members.acall, copy, fn)
        self.fns = (*self.fns, fn)
        self._began[copy] = self.context.clock.now()
        self._launch(copy, None)

    async def result(self) -> Any:
        """Wait for the decision."""
        self._round = _round_of(self)
        timeout = self.bound.rules.timeout
        if timeout is not None:
            self._limit = self._call_later(max(0.0, timeout - self.elapsed()), self.expire)
        for copy, task in self._early:
            self._take(copy, task)
        return await self.rest()

    def leave(self) -> None:
        """End the block: without a result nobody waits any more."""
        if not self.closed:
            self._round = self._round or _open_round(self, vote.first())
            self.settled = True
            for copy, task in self._early:
                self._take(copy, task)
            self._caller_cancelled()

    def _take(self, copy: int, task: Task[Any]) -> None:
        if self._round is None:
            self._early.append((copy, task))
        else:
            super()._take(copy, task)


def _round_of(race: "_SyncRace | _AsyncRace") -> Round:
    """Fix the number of copies."""
    if race.asked:
        raise RuntimeError("`result` of a race can be asked for once")
    if not race.fns:
        raise RuntimeError("a race needs at least one `start` before its `result`")
    round_ = _open_round(race, race.bound.rules.rule)
    race.asked = True
    return round_


def _open_round(race: Call, rule: vote.Rule) -> Round:
    copies = len(race.fns)
    round_ = Round(rule.tally(copies), copies)
    for _ in race.fns:
        round_.start()
    return round_
