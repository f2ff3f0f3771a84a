"""The face of failover: `FailoverPool`, `failover`, and `current_lease`."""

import functools
import sys
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Self,
    TypeVar,
    overload,
)

import attrs

from mainstay._core.arguments import Duration, check_callable, to_flag
from mainstay._core.budget import RetryBudget
from mainstay._core.detector import Detect
from mainstay._core.events import Event, checked_listener
from mainstay._core.failures import Classes
from mainstay._core.functions import is_async_frame, rewrapped
from mainstay._core.misuse import shows_use
from mainstay._core.sharing import Shared, reset_with_all
from mainstay._core.words import kind_in_words
from mainstay._failover import operations
from mainstay._failover.blocks import AsyncPoolBlock, LeaseBlock, PoolBlock
from mainstay._failover.call import BoundPool
from mainstay._failover.engine import PoolEngine
from mainstay._failover.loops import caller, require_loop, wrap
from mainstay._failover.members import Lease, lease_in_force
from mainstay._failover.monitor import PoolStatus, member_status
from mainstay._failover.options import Failback, Member, Probe
from mainstay._failover.selection import Selector
from mainstay._failover.settings import (
    ASYNC_BECAUSE,
    POLICY,
    Raises,
    WhenAllDown,
    check_interruptible,
    checked_members,
    checked_settings,
)
from mainstay._metrics.collector import Metrics, metrics_of
from mainstay._metrics.pipeline import PipelineBuilder

P = ParamSpec("P")
R = TypeVar("R")  # the resource
S = TypeVar("S")  # what a method is bound to
T = TypeVar("T")  # what a function returns


class FailoverPool(Shared, Generic[R]):
    """Resources that can replace each other: calls move to a member that works, and come back.

    Members without `standby` are active; each standby replaces a lost active member. Each call gets
    the resource of a member. If the call fails there, it tries another member, and no member twice.
    A member that fails too much is ejected, tried again after a while by a single call (or by
    *probe*), and gets its share of the calls back step by step.

    A pool is safe to use from threads and tasks. The pool opens at first use; ``with pool:`` opens
    the pool on entry and closes it at the end. If *fence* or any `open`, `close` or probe is async,
    the pool is async: then use ``async with``. An async pool belongs to the event loop in which it
    is first used.

    ``@pool`` gives a function the resource, as `failover` does; other ways to use it are `call`,
    `lease`, and ``for attempt in pool:``. To type checkers a pool is generic in the resource.

    Args:
        name: The `component` label. Not empty.
        members: The members, with at least one active member; no two with the same name.
        on: What counts as a failure of a member: an exception class below `Exception`, a tuple of
            them, or a predicate that takes the exception and answers True, False, or a `Verdict`;
            a delay, as `retry` takes, counts as True. Not async. All other exceptions pass through
            untouched.
        attempts: The most members that a call tries, at least 1. None for every usable member.
        timeout: The time after the start of a call in which it may try further members: seconds or
            a `timedelta`, above 0; None for no limit. A running attempt is never interrupted.
        attempt_timeout: The time for each attempt of a call, for async functions only: seconds or a
            `timedelta`, above 0; None for no limit. An attempt that takes longer is cancelled and
            fails with a `TimedOutError`, whatever *on* says. That counts against its member, unless
            less time was left for the whole call. Not for leases. Sync functions are refused:
            inside them, use ``timeout(..., in_thread=True)``.
        on_result: A predicate for the result of the function; True means that the result counts as
            a failure of the member. If the result of the last member is refused, the call raises a
            `ResultRefusedError` with it. A plain function; not used for blocks.
        select: Which of the serving members gets a call: "priority" (the first one listed),
            "round_robin", "weighted", "least_latency" (the better of two random members), or an
            object with a method ``pick(names)`` that returns one of the names.
        probe: How the health of members is checked at intervals. None to use single calls.
        detect: When a member has failed too much.
        failback: How a member comes back.
        when_all_down: What calls do while no member works. "least_bad": the least bad member
            continues to serve, in state ``failing``. "raise": `NoMemberError` at once. "wait": wait
            until a member may be tried or a probe succeeds, at most for the deadline or *timeout*.
        fence: Called as ``fence(old, new)`` with the names of two members before the standby
            *new* takes over from *old*; it has to return first. If it raises, *new* gets no call,
            and the fence is asked again later. With a fence and no probe, a member that was fenced
            off comes back only after `release`; there is no ramp.
        budget: The limit on further attempts of all calls: a `RetryBudget`, or a share of this
            pool's calls, 0 to 1. None for no such limit.
        raises: What a call raises if the function ran and failed. "last": the last exception that
            it raised, with a note that lists the attempts before. "group": an
            `AllMembersFailedError` with the exception of each attempt, also of a single one. A
            `RejectedError` of a policy inside the function counts as the last exception only if
            there is no other.
        metrics: Where to record. None for `default_metrics()`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range, there is no active member, or two members
            have one name.

    Metrics:
        `calls_total`, `call_duration_seconds`, `call_attempts`, `give_ups_total`, `errors_total`
        with ``policy="failover"``; `member_attempts_total`, `member_state`, `failovers_total`,
        `ejections_total`, `time_to_detect_seconds`, `time_to_recover_seconds`,
        `standby_start_seconds`, `wait_seconds_total`.

    Example:
        >>> from mainstay import FailoverPool, Member
        >>> pool = FailoverPool(
        ...     "search",
        ...     [Member("eu", "https://eu.example"), Member("us", "https://us.example")],
        ...     on=ConnectionError,
        ... )
        >>> @pool
        ... def search(server: str, words: str) -> str:
        ...     if server == "https://eu.example":
        ...         raise ConnectionRefusedError(server)
        ...     return f"{words} at {server}"
        >>> search("failover pools")
        'failover pools at https://us.example'
    """

    _kind: ClassVar[str] = POLICY

    @shows_use(
        "FailoverPool('db', [Member('a', ...), Member('b', ...)], on=...), where `on` says what "
        "counts as a failure",
        elsewhere={
            "primary": "the first of `members=`",
            "replica": "one of `members=`",
            "replicas": "`members=`",
            "fallback": "a later one of `members=`",
            "hosts": "`members=`",
            "servers": "`members=`",
            "nodes": "`members=`",
            "exceptions": "`on=`",
            "retries": "`attempts=`",
            "max_attempts": "`attempts=`",
            "strategy": "`select=`",
            "health_check": "`probe=Probe(...)`",
            "cooldown": "`detect=Detect(eject_for=...)`",
            "max_fails": "`detect=Detect(consecutive=...)`",
            "fail_timeout": "`detect=Detect(eject_for=...)`",
        },
    )
    def __init__(  # noqa: PLR0913 - a pool's parameters are its vocabulary
        self,
        name: str,
        members: Iterable[Member[R]],
        *,
        on: Classes | Callable[[Exception], object],
        attempts: int | None = None,
        timeout: Duration | None = None,
        attempt_timeout: Duration | None = None,
        on_result: Callable[[Any], object] | None = None,
        select: Literal["priority", "round_robin", "weighted", "least_latency"]
        | Selector = "priority",
        probe: Probe | None = None,
        detect: Detect = Detect(),  # noqa: B008 - frozen
        failback: Failback = Failback(),  # noqa: B008 - frozen
        when_all_down: WhenAllDown = "least_bad",
        fence: Callable[[str, str], object] | None = None,
        budget: RetryBudget | float | None = None,
        raises: Raises = "last",
        metrics: Metrics | None = None,
    ) -> None:
        everyone = checked_members(members)
        self._make_settings = functools.partial(
            checked_settings,
            name,
            everyone,
            on=on,
            attempts=attempts,
            timeout=timeout,
            attempt_timeout=attempt_timeout,
            on_result=on_result,
            select=select,
            probe=probe,
            detect=detect,
            failback=failback,
            when_all_down=when_all_down,
            fence=fence,
            budget=budget,
            raises=raises,
        )
        self._engine = PoolEngine(self._make_settings(), everyone, metrics_of(metrics))
        reset_with_all(self, FailoverPool.reset)

    @property
    def name(self) -> str:
        """The name of the pool."""
        return self._engine.settings.name

    def __repr__(self) -> str:
        return f"<FailoverPool {self.name!r} of {', '.join(self._engine.slots)}>"

    # Calls.

    @overload
    def __call__(self, fn: Callable[Concatenate[R, P], T], /) -> Callable[P, T]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[S, R, P], T], /
    ) -> Callable[Concatenate[S, P], T]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function that takes the resource of a member: ``@pool`` is ``@failover(pool)``.

        Raises:
            TypeError: If *fn* does not fit the pool, or has no parameter for the resource.
        """
        return failover(self)(fn)

    @overload
    def call(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    @overload
    def call(
        self,
        fn: Callable[Concatenate[S, R, P], T],
        bound: S,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T: ...
    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call *fn* with a member's resource before its arguments, without decorating it.

        Args:
            fn: A function or an async function. A method of the resource's own class, such as
                ``Redis.get``, gets the resource as its ``self``. If the first parameter of another
                function is named ``self`` or ``cls``, the resource is the second argument.
            *args: The arguments for *fn*, without the resource.
            **kwargs: The keyword arguments for *fn*.

        Returns:
            The result of *fn*; an awaitable if *fn* is async.

        Raises:
            TypeError: If *fn* does not fit the pool, before it is called.
            Exception: As from a function decorated with `failover`.

        Example:
            >>> from mainstay import FailoverPool, Member
            >>> pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
            >>> pool.call(lambda db, customer: f"{customer} at {db}", "Ada")
            'Ada at A'
        """
        check_callable(fn, "failover")
        return caller(_bound(self._engine), fn)(*args, **kwargs)

    def lease(self) -> LeaseBlock[R]:
        """Take one member for a block: ``with pool.lease() as resource:``, or ``async with``.

        If the block raises an exception that `on` matches, that counts against the member. The
        block does not run again, and always raises its own exception, whatever `raises` says. For
        a block that runs again on another member, use ``for attempt in pool:``.

        Raises:
            TypeError: On entry by ``with``, if the pool is async.
            NoMemberError: On entry, if no member can be used.
            DeadlineExpiredError: On entry, if there is no time left.

        Example:
            >>> from mainstay import FailoverPool, Member
            >>> pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
            >>> with pool.lease() as db:
            ...     db.lower()
            'a'
        """
        return LeaseBlock(self._engine)

    def __iter__(self) -> PoolBlock[R]:
        """Begin a block that fails over: ``for attempt in pool:``, and in it ``with attempt``."""
        if is_async_frame(sys._getframe(1)):  # noqa: SLF001 - public in all but its name
            raise TypeError(
                "`for attempt in pool` would block the event loop; in async code it is "
                "`async for attempt in pool`"
            )
        self._require_sync("for attempt in pool", "async for attempt in pool")
        check_interruptible(self._engine.settings, "a block of sync code")
        return PoolBlock(_bound(self._engine).begin())

    def __aiter__(self) -> AsyncPoolBlock[R]:
        """Begin a block that fails over in async code: ``async for``, and in it ``with``."""
        require_loop(self._engine)
        return AsyncPoolBlock(_bound(self._engine).begin())

    # Operations.

    def force(self, name: str) -> None:
        """Send all calls to member *name*, whatever its health, until `release`.

        Raises:
            TypeError: If *name* is not a str.
            ValueError: If there is no such member.

        Example:
            >>> from mainstay import FailoverPool, Member
            >>> pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
            >>> pool.force("b")
            >>> pool.call(str)
            'B'
            >>> pool.release()
            >>> pool.call(str)
            'A'
        """
        operations.force(self._engine, name)

    def release(self, name: str | None = None) -> None:
        """Undo `force` and `drain`; readmitted members serve at once, without a ramp.

        A member that an alert has drained serves as well, until another alert names it.

        Args:
            name: The name of the member to release; None for all members.

        Raises:
            TypeError: If *name* is neither a str nor None.
            ValueError: If there is no such member.

        Example:
            >>> from mainstay import FailoverPool, Member
            >>> pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
            >>> pool.drain("a")
            >>> pool.drain("b")
            >>> pool.release("b")
            >>> pool.call(str)
            'B'
        """
        operations.release(self._engine, name)

    def drain(self, name: str) -> None:
        """Send no new calls to member *name* until `release`; calls that use it go on.

        Raises:
            TypeError: If *name* is not a str.
            ValueError: If there is no such member.

        Example:
            >>> from mainstay import FailoverPool, Member
            >>> pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
            >>> pool.drain("a")
            >>> pool.call(str), pool.status().serving
            ('B', ('b',))
        """
        operations.drain(self._engine, name)

    def add(self, member: Member[R]) -> None:
        """Add another member, after the others.

        Raises:
            TypeError: If *member* is not a `Member`, or needs an async pool and the pool is sync.
            ValueError: If the pool has a member with the same name.

        Example:
            >>> from mainstay import FailoverPool, Member
            >>> pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
            >>> pool.add(Member("c", "C"))
            >>> [member.name for member in pool.status().members]
            ['a', 'b', 'c']
        """
        operations.add(self._engine, member)

    def remove(self, name: str) -> None:
        """Remove member *name*; its resource is closed when the calls that use it are done.

        If it was the last active member, a standby takes over.

        Raises:
            TypeError: If *name* is not a str.
            ValueError: If there is no such member, or it is the only member.

        Example:
            >>> from mainstay import FailoverPool, Member
            >>> pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
            >>> pool.remove("a")
            >>> pool.call(str)
            'B'
        """
        operations.remove(self._engine, name)

    def status(self) -> PoolStatus:
        """Return the status of the pool and of its members at this moment."""
        engine = self._engine
        now = engine.monitor.clock.now()
        with engine.outbox, engine.lock:
            return PoolStatus(
                name=self.name,
                members=tuple(member_status(slot, now) for slot in engine.slots.values()),
                serving=tuple(handle.lease.member for handle in engine.rotation.handles),
                epoch=engine.epoch,
                forced=engine.forced,
                down=engine.monitor.is_down(),
            )

    def on_event(self, fn: Callable[[Event], object]) -> Callable[[], None]:
        """Call *fn* with every event of this pool; as `mainstay.on_event` otherwise.

        Returns:
            A function without parameters that ends the calls of *fn*.

        Raises:
            TypeError: If *fn* cannot be called, or is async or a generator.
        """
        return self._engine.monitor.listen(checked_listener(fn))

    # Opening and closing.

    def close(self) -> Awaitable[None] | None:
        """Close all opened resources, and stop probing; the next call opens the pool again.

        A resource that a call uses is closed when that call is done. In a sync pool the method
        blocks until the other resources are closed; in an async pool it returns an awaitable that
        does.

        Raises:
            RuntimeError: In `open` or `fence` of the pool itself, whose calls wait for that.
        """
        if self._engine.settings.is_async:
            return operations.aclose(self._engine)
        operations.close(self._engine)
        return None

    def reset(self) -> None:
        """Reset the pool to its initial state; meant for tests that share a pool.

        All resources that were opened are closed; `add`, `remove`, `force` and `drain` are undone;
        every member is well; and the next call opens the pool again. An async pool may then be used
        in another event loop; the closing in the present event loop is not awaited.

        Example:
            >>> from mainstay import FailoverPool, Member
            >>> pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
            >>> pool.drain("a")
            >>> pool.reset()
            >>> pool.call(str)
            'A'
        """
        operations.reset(self._engine, self._make_settings())

    def __enter__(self) -> Self:
        self._require_sync("with pool", "async with pool")
        while (pause := operations.opening(self._engine)) is not None:
            pause.wait()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        operations.close(self._engine)

    async def __aenter__(self) -> Self:
        require_loop(self._engine)
        while (pause := operations.opening(self._engine)) is not None:
            await pause.await_()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await operations.aclose(self._engine)

    def _layer(self, fn: Callable[..., Any], builder: PipelineBuilder) -> Callable[..., Any]:
        """Wrap a function as a layer of a pipeline."""
        return _layer(_bound(self._engine), fn, builder)

    def _require_sync(self, sync: str, asynchronous: str) -> None:
        if self._engine.settings.is_async:
            raise TypeError(
                f"pool {self.name!r} is async, since {ASYNC_BECAUSE}: instead of "
                f"`{sync}` it is `{asynchronous}`"
            )


class _PoolDecorator(Shared, Generic[R]):
    """What `failover(pool)` makes."""

    _kind: ClassVar[str] = POLICY

    def __init__(self, bound: BoundPool) -> None:
        self._bound = bound

    def __repr__(self) -> str:
        return f"<failover of pool {self._bound.engine.settings.name!r}>"

    @overload
    def __call__(self, fn: Callable[Concatenate[R, P], T], /) -> Callable[P, T]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[S, R, P], T], /
    ) -> Callable[Concatenate[S, P], T]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function, whose resource the caller no longer gives."""
        if isinstance(fn, classmethod | staticmethod):
            return rewrapped(fn, self)
        check_callable(fn, "failover")
        self._bound.recorder.appear()
        return wrap(self._bound, fn)

    def _layer(self, fn: Callable[..., Any], builder: PipelineBuilder) -> Callable[..., Any]:
        """Wrap a function as a layer of a pipeline."""
        return _layer(self._bound, fn, builder)


def failover(pool: FailoverPool[R], *, rerun: bool = True) -> _PoolDecorator[R]:
    """Call a function with the resource of a member of *pool*, and with another member on failure.

    The resource is the first argument of the function, or the second one after ``self`` or ``cls``;
    callers leave it out. ``@failover(pool)`` is the same as ``@pool``.

    Args:
        pool: The pool.
        rerun: True if the function may run again on another member after it has failed. False for
            functions that must not run twice: then a call tries another member only if the first
            could not be opened.

    Returns:
        A decorator for functions and async functions, methods too.

    Raises:
        TypeError: If *pool* is not a pool, or *rerun* not a bool; at decoration, if the function
            does not fit the pool, or has no parameter for the resource.
        NoMemberError: From a call, if no member could be called.
        Exception: From a call: the last exception that the function raised, with a note that lists
            the attempts before; an `AllMembersFailedError` if the pool has ``raises="group"``.
        DeadlineExpiredError: From a call that began with no time left; nothing was called.
        UnsupportedLoopError: From an async call outside asyncio.

    Metrics:
        Those of `FailoverPool`.

    Example:
        >>> from mainstay import FailoverPool, Member, current_lease, failover
        >>> pool = FailoverPool("db", [Member("a", {"one": 1})], on=OSError)
        >>> @failover(pool, rerun=False)
        ... def look_up(db: dict[str, int], key: str) -> str:
        ...     return f"{db[key]} from {current_lease().member}"
        >>> look_up("one")
        '1 from a'
    """
    if not isinstance(pool, FailoverPool):
        raise TypeError(f"`pool` must be a FailoverPool, not {kind_in_words(pool)}")
    engine = pool._engine  # noqa: SLF001 - of a class of this file, hidden from users only
    return _PoolDecorator(_bound(engine, rerun=to_flag(rerun, "rerun")))


def current_lease() -> Lease[Any]:
    """Return the lease of the calling code: its member, resource and epoch.

    Raises:
        LookupError: Outside every call and block of a pool.

    Example:
        >>> from mainstay import FailoverPool, Member, current_lease
        >>> pool = FailoverPool("db", [Member("a", "connection")], on=OSError)
        >>> with pool.lease():
        ...     current_lease().member
        'a'
    """
    lease = lease_in_force()
    if lease is None:
        raise LookupError("there is no lease here: no call or block of a FailoverPool is around it")
    return lease


def _bound(engine: PoolEngine, *, rerun: bool = True) -> BoundPool:
    return BoundPool(engine, rerun, engine.settings.raises, engine.monitor.recorder)


def _layer(
    bound: BoundPool, fn: Callable[..., Any], builder: PipelineBuilder
) -> Callable[..., Any]:
    bound = attrs.evolve(bound, recorder=builder.shared_recorder(bound.recorder))
    builder.bind(None)
    return caller(bound, fn) if builder.once else wrap(bound, fn)
