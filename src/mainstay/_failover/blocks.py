"""The block forms: `with pool.lease()`, and `for attempt in pool` with `with attempt` in it.

The loop statement waits for, and gets, the next member. The `with` statement is the attempt: its
end decides what follows, so that `return` and `break` in it count as a success. A lease is a single
attempt.
"""

from types import TracebackType
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

from mainstay._core.interrupts import TaskTimeout
from mainstay._core.watching import around, watchers
from mainstay._core.words import class_name
from mainstay._failover.call import BoundPool, PoolCall
from mainstay._failover.engine import PoolEngine
from mainstay._failover.loops import aacquire, acquire, require_loop
from mainstay._failover.members import LeaseEntry, MemberHandle

if TYPE_CHECKING:
    from contextlib import ExitStack

R = TypeVar("R")


class PoolBlock(Generic[R]):
    """The attempts of one block, as the loop statement of sync code asks for them."""

    __slots__ = ("_call", "_handle", "_next", "_open")

    def __init__(self, call: PoolCall) -> None:
        self._call = call
        self._open = False
        self._next = True

    def __iter__(self) -> "PoolBlock[R]":
        return self

    def __next__(self) -> "PoolAttempt[R]":
        if not self._goes_on():
            raise StopIteration
        try:
            handle = acquire(self._call)
        except StopIteration as error:
            raise _not_the_end(error) from error
        return self._attempt(handle)

    def ended(self, *, goes_on: bool) -> None:
        """Record that an attempt has ended, and if another one follows."""
        self._open = False
        self._next = goes_on

    def _goes_on(self) -> bool:
        if self._open:
            self._open = False
            misuse = RuntimeError(
                "the block form is `for attempt in pool:` with a `with attempt as resource:` in "
                "it; the last attempt had none"
            )
            self._call.interrupted(self._handle, misuse)
            self._call.engine.done(self._handle)
            raise misuse
        return self._next

    def _attempt(self, handle: MemberHandle) -> "PoolAttempt[R]":
        self._open = True
        self._handle = handle
        return PoolAttempt(self, self._call, handle)


class AsyncPoolBlock(PoolBlock[R]):
    """The attempts of a block in async code."""

    __slots__ = ()

    def __aiter__(self) -> "AsyncPoolBlock[R]":
        return self

    async def __anext__(self) -> "PoolAttempt[R]":
        if not self._goes_on():
            raise StopAsyncIteration
        try:
            handle = await aacquire(self._call)
        except StopAsyncIteration as error:
            raise _not_the_end(error) from error
        return self._attempt(handle)


def _not_the_end(error: Exception) -> RuntimeError:
    """Return what the loop statement raises where it would take *error* for its end (PEP 479)."""
    return RuntimeError(f"the block form of a pool raised {class_name(error)}")


class PoolAttempt(Generic[R]):
    """One attempt of a block: a context manager whose value is the resource of a member.

    Use a plain ``with``, also in async code.

    Attributes:
        number: The number of this attempt, from 1.
        member: The name of the member.

    Example:
        >>> from mainstay import FailoverPool, Member
        >>> pool = FailoverPool("db", [Member("a", "one"), Member("b", "two")], on=OSError)
        >>> for attempt in pool:
        ...     with attempt as resource:
        ...         print(attempt.number, attempt.member, resource)
        1 a one
    """

    __slots__ = (
        "_block",
        "_call",
        "_entry",
        "_handle",
        "_limit",
        "_timeout",
        "_watch",
        "member",
        "number",
    )

    def __init__(self, block: PoolBlock[R], call: PoolCall, handle: MemberHandle) -> None:
        self._block = block
        self._call = call
        self._handle = handle
        self._entry: LeaseEntry | None = None
        self._limit = 0.0
        self._timeout: TaskTimeout | None = None
        self._watch: ExitStack | None = None
        self.number: int = call.made + 1
        self.member: str = handle.lease.member

    def __aenter__(self) -> NoReturn:
        raise TypeError("write `with attempt as resource:`, without `async`, in async code too")

    __aexit__ = __aenter__

    def __enter__(self) -> R:
        self._entry = LeaseEntry(self._handle.lease)
        resource: R = self._handle.lease.resource
        limit = self._call.attempt_limit()
        if limit is not None:
            self._limit = limit
            self._timeout = TaskTimeout(self._call.context.clock, limit)
        if watchers and self._call.made:
            self._watch = around(self._call.attempt(self._handle))
        return resource

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._watch is not None:
            self._watch.__exit__(exc_type, error, traceback)
        if self._entry is not None:
            self._entry.leave()
        self._block.ended(goes_on=False)
        if self._timeout is not None and self._timeout.stop(error):
            expired = self._call.attempt_timed_out(self._handle, self._limit)
            if _finish(self._call, self._handle, expired):
                raise expired from error
        elif _finish(self._call, self._handle, error):
            return False
        self._call.go_on()
        self._block.ended(goes_on=True)
        return True


def _finish(call: PoolCall, handle: MemberHandle, error: BaseException | None) -> bool:
    """End an attempt of a block; return True if the block is to be left as it is being left."""
    try:
        if error is not None:
            return call.raised(handle, error)
        call.succeeded(handle)
    finally:
        call.engine.done(handle)
    return True


class LeaseBlock(Generic[R]):
    """One member for the time of a block; its error counts against the member."""

    __slots__ = ("_call", "_engine", "_entry", "_handle")

    def __init__(self, engine: PoolEngine) -> None:
        self._engine = engine
        self._call: PoolCall | None = None
        self._handle: MemberHandle | None = None
        self._entry: LeaseEntry | None = None

    def __enter__(self) -> R:
        if self._engine.settings.is_async:
            name = self._engine.settings.name
            raise TypeError(f"pool {name!r} is async: it is `async with pool.lease()`")
        return self._entered(acquire(self._begin()))

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        call, handle, self._call, self._handle = self._call, self._handle, None, None
        if self._entry is not None:
            self._entry.leave()
        if call is not None and handle is not None:
            _finish(call, handle, error)

    async def __aenter__(self) -> R:
        require_loop(self._engine)
        return self._entered(await aacquire(self._begin()))

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, error, traceback)

    def _begin(self) -> PoolCall:
        if self._call is not None:
            raise RuntimeError("a lease is for one block; call `pool.lease()` for another one")
        # A block that fails raises its own exception, whatever `raises` says.
        self._call = BoundPool(self._engine, False, "last", self._engine.monitor.recorder).begin()
        return self._call

    def _entered(self, handle: MemberHandle) -> R:
        self._handle = handle
        self._entry = LeaseEntry(handle.lease)
        resource: R = handle.lease.resource
        return resource
