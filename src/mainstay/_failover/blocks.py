"""The block forms: `with pool.lease()`, and `for attempt in pool` with `with attempt` in it.

The loop statement asks for the next member, and waits for it. The `with` statement is the
attempt: where it ends is decided what follows, so that `return` and `break` in it are a success.
A lease is one attempt and never a second one.
"""

from types import TracebackType
from typing import Any

from mainstay._failover.core import Core
from mainstay._failover.loops import aacquire, acquire, require_loop
from mainstay._failover.members import Lease, Session, lease_here, set_lease
from mainstay._failover.run import Run, begin


class PoolBlock:
    """The attempts of one block, as the loop statement of sync code asks for them."""

    __slots__ = ("_next", "_open", "_run", "_session")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._open = False
        self._next = True

    def __iter__(self) -> "PoolBlock":
        return self

    def __next__(self) -> "PoolAttempt":
        if not self._goes_on():
            raise StopIteration
        return self._attempt(acquire(self._run))

    def ended(self, *, goes_on: bool) -> None:
        """Take note that an attempt has ended, and whether another one follows."""
        self._open = False
        self._next = goes_on

    def _goes_on(self) -> bool:
        if self._open:
            self._open = False
            self._run.interrupted(self._session)
            self._run.core.done(self._session)
            raise RuntimeError("the block form is `for attempt in pool:` with a `with attempt as "
                               "resource:` in it; the last attempt had none")  # fmt: skip
        return self._next

    def _attempt(self, session: Session) -> "PoolAttempt":
        self._open = True
        self._session = session
        return PoolAttempt(self, self._run, session)


class AsyncPoolBlock(PoolBlock):
    """The attempts of a block in async code."""

    __slots__ = ()

    def __aiter__(self) -> "AsyncPoolBlock":
        return self

    async def __anext__(self) -> "PoolAttempt":
        if not self._goes_on():
            raise StopAsyncIteration
        return self._attempt(await aacquire(self._run))


class PoolAttempt:
    """One attempt of a block: a context manager that gives a member's resource.

    Used with a plain ``with``, in async code too.

    Attributes:
        number: The number of this attempt, from 1.
        member: The name of the member.
    """

    __slots__ = ("_block", "_outer", "_run", "_session", "member", "number")

    def __init__(self, block: PoolBlock, run: Run, session: Session) -> None:
        self._block = block
        self._run = run
        self._session = session
        self._outer: Lease | None = None
        self.number: int = len(run.errors) + 1
        self.member: str = session.lease.member

    def __enter__(self) -> Any:
        self._outer = lease_here()
        set_lease(self._session.lease)
        return self._session.lease.resource

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        set_lease(self._outer)
        self._block.ended(goes_on=False)
        if finish(self._run, self._session, error):
            return False
        self._run.go_on()
        self._block.ended(goes_on=True)
        return True


def finish(run: Run, session: Session, error: BaseException | None) -> bool:
    """End an attempt of a block; say whether the block is to be left as it is being left."""
    try:
        if error is not None:
            return run.raised(session, error)
        run.succeeded(session)
    finally:
        run.core.done(session)
    return True


class LeaseBlock:
    """One member for the time of a block; its error counts against the member."""

    __slots__ = ("_core", "_outer", "_run", "_session")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._run: Run | None = None
        self._session: Session | None = None
        self._outer: Lease | None = None

    def __enter__(self) -> Any:
        if self._core.rules.is_async:
            name = self._core.rules.name
            raise TypeError(f"pool {name!r} is async: it is `async with pool.lease()`")
        run = self._begin()
        return self._entered(run, acquire(run))

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        run, session, self._run, self._session = self._run, self._session, None, None
        set_lease(self._outer)
        if run is not None and session is not None:
            finish(run, session, error)

    async def __aenter__(self) -> Any:
        require_loop(self._core)
        run = self._begin()
        return self._entered(run, await aacquire(run))

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, error, traceback)

    def _begin(self) -> Run:
        if self._run is not None:
            raise RuntimeError("a lease is for one block; ask the pool for another one")
        self._run = begin(self._core, rerun=False)
        return self._run

    def _entered(self, run: Run, session: Session) -> Any:
        self._run, self._session = run, session
        self._outer = lease_here()
        set_lease(session.lease)
        return session.lease.resource
