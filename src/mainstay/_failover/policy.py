"""The face of failover: `FailoverPool`."""

import sys
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar

from mainstay._core.arguments import Duration, to_count, to_seconds
from mainstay._core.budget import RetryBudget, budget_of
from mainstay._core.detector import Detect
from mainstay._core.events import Event, checked_listener
from mainstay._core.failures import Classes, verdict_judge_of
from mainstay._core.functions import Kind, checked_name, is_async_frame, kind_of
from mainstay._failover import operations
from mainstay._failover.blocks import AsyncPoolBlock, LeaseBlock, PoolBlock
from mainstay._failover.core import Core
from mainstay._failover.loops import aopen_all, open_all, require_loop, wrap
from mainstay._failover.operations import PoolStatus
from mainstay._failover.options import (
    Failback,
    Member,
    Probe,
    check_hook,
)
from mainstay._failover.rules import Rules, WhenAllDown
from mainstay._failover.run import begin
from mainstay._failover.selection import Selector, strategy_of
from mainstay._metrics.collector import Metrics, metrics_of

P = ParamSpec("P")
R = TypeVar("R")

_MODES = ("least_bad", "raise", "wait")


class FailoverPool:
    """Resources that stand in for each other: calls move to one that works, and come back.

    Members without `standby` are active; the others stand in for lost ones, one for each. Each
    call is given the resource of one member; if it fails there, it goes on to another one, and
    never to the same one twice. A member that fails too much is ejected, tried again after a
    while by a single call (or by *probe*), and taken back step by step. It is safe to use from
    threads and tasks. The pool opens at first use; ``with pool:`` opens it at once and closes it
    at the end. It is async, and then needs ``async with``, if *fence* or any `open`, `close` or
    probe is; an async pool belongs to the event loop that it is first used in.

    Args:
        name: The `component` label. Not empty.
        members: At least one that is active; no two with the same name.
        on: What counts as a failure of a member: an exception class below `Exception`, a tuple of
            them, or a predicate that takes the exception and answers True, False, or a `Verdict`.
            Not async. All other exceptions pass through untouched.
        attempts: Most members that one call tries, at least 1. None for every usable one once.
        timeout: Time from the start of a call, after which it tries no other member. It never
            interrupts a running attempt. Seconds or `timedelta`, above 0; None for no limit.
        select: Who of the members that serve gets a call: "priority" (the first one listed),
            "round_robin", "weighted", "least_latency" (the better one of two taken at random), or
            an object with a method ``pick(names)`` that gives one of the names.
        probe: What members are asked now and then. None to find out by single calls.
        detect: When a member has failed too much.
        failback: How a member comes back.
        when_all_down: What calls do while no member is well. "least_bad": the one that is the
            least bad serves on, in state ``failing``. "raise": `AllMembersFailedError` at once.
            "wait": wait until the next one may be tried or a probe finds one well, or for the
            deadline or *timeout*.
        fence: Called as ``fence(old, new)`` with the names of two members before the standby
            *new* takes over from *old*; it has to return first. If it raises, *new* gets no call,
            and the fence is asked again later. With a fence and no probe, a member that was fenced
            off comes back only after `release`; there is no ramp.
        budget: What attempts after a call's first are charged to: a `RetryBudget`, or a share of
            this pool's calls, 0 to 1. None for no such limit.
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
        >>> from mainstay import FailoverPool, Member, failover
        >>> pool = FailoverPool(
        ...     "search",
        ...     [Member("eu", "https://eu.example"), Member("us", "https://us.example")],
        ...     on=ConnectionError,
        ... )
        >>> @failover(pool)
        ... def search(server: str, words: str) -> str:
        ...     if server == "https://eu.example":
        ...         raise ConnectionRefusedError(server)
        ...     return f"{words} at {server}"
        >>> search("failover pools")
        'failover pools at https://us.example'
    """

    def __init__(  # noqa: PLR0913 - a pool's parameters are its vocabulary
        self,
        name: str,
        members: Iterable[Member],
        *,
        on: Classes | Callable[[Exception], object],
        attempts: int | None = None,
        timeout: Duration | None = None,
        select: Literal["priority", "round_robin", "weighted", "least_latency"]
        | Selector = "priority",
        probe: Probe | None = None,
        detect: Detect = Detect(),  # noqa: B008 - frozen
        failback: Failback = Failback(),  # noqa: B008 - frozen
        when_all_down: WhenAllDown = "least_bad",
        fence: Callable[[str, str], object] | None = None,
        budget: RetryBudget | float | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        everyone = _checked_members(members)
        _check_type("probe", probe, Probe, none=True)
        _check_type("detect", detect, Detect)
        _check_type("failback", failback, Failback)
        if when_all_down not in _MODES:
            raise ValueError(
                f"`when_all_down` must be one of {', '.join(_MODES)}, not {when_all_down!r}"
            )
        check_hook("fence", fence)
        hooks: list[Callable[..., Any] | None] = [fence, probe.fn if probe else None]
        hooks += [hook for member in everyone for hook in (member.open, member.close)]
        rules = Rules(
            name=checked_name(name),
            judge=verdict_judge_of(on),
            attempts=None if attempts is None else to_count(attempts, "attempts"),
            timeout=None if timeout is None else to_seconds(timeout, "timeout", zero=False),
            strategy=strategy_of(select),
            probe=probe,
            detect=detect,
            failback=failback,
            when_all_down=when_all_down,
            fence=fence,
            budget=budget_of(budget),
            is_async=any(hook is not None and kind_of(hook) is Kind.ASYNC for hook in hooks),
        )
        self._core = Core(rules, everyone, metrics_of(metrics))

    @property
    def name(self) -> str:
        """The name of the pool."""
        return self._core.rules.name

    def __repr__(self) -> str:
        return f"<FailoverPool {self.name!r} of {', '.join(self._core.slots)}>"

    # Calls.

    def call(self, fn: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* with a member's resource before its arguments, without decorating it.

        Args:
            fn: A function, or an async one. One whose first parameter is named ``self`` or ``cls``
                gets the resource after that.
            *args: Its arguments but for the resource.
            **kwargs: Its keyword arguments.

        Returns:
            What *fn* returns; something to await if *fn* is async.

        Raises:
            TypeError: If *fn* does not fit the pool, before it is called.
            Exception: As from a function decorated with `failover`.

        Example:
            >>> from mainstay import FailoverPool, Member
            >>> pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
            >>> pool.call(lambda db, customer: f"{customer} at {db}", "Ada")
            'Ada at A'
        """
        if not callable(fn):
            raise TypeError(f"failover wraps callables, not {fn!r}")
        return wrap(self._core, fn, rerun=True)(*args, **kwargs)  # type: ignore[no-any-return]  # as fn

    def lease(self) -> LeaseBlock:
        """Take one member for a block: ``with pool.lease() as resource:``, or ``async with``.

        If the block raises what `on` matches, that counts against the member. The block is not
        run again; that is what ``for attempt in pool:`` is for.

        Raises:
            TypeError: On entry by ``with``, if the pool is async.
            AllMembersFailedError: On entry, if no member can be used.
            DeadlineExpiredError: On entry, if there is no time left.

        Example:
            >>> from mainstay import FailoverPool, Member
            >>> pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
            >>> with pool.lease() as db:
            ...     db.lower()
            'a'
        """
        return LeaseBlock(self._core)

    def __iter__(self) -> PoolBlock:
        """Begin a block that fails over: ``for attempt in pool:``, and in it ``with attempt``."""
        if is_async_frame(sys._getframe(1)):  # noqa: SLF001 - public in all but its name
            raise TypeError("`for attempt in pool` would block the event loop; "
                            "in async code it is `async for attempt in pool`")  # fmt: skip
        self._require_sync("for attempt in pool", "async for attempt in pool")
        return PoolBlock(begin(self._core, rerun=True))

    def __aiter__(self) -> AsyncPoolBlock:
        """Begin a block that fails over in async code: ``async for``, and in it ``with``."""
        require_loop(self._core)
        return AsyncPoolBlock(begin(self._core, rerun=True))

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
        _check_type("name", name, str)
        operations.force(self._core, name)

    def release(self) -> None:
        """Undo `force` and `drain`; members that have come back serve at once, without a ramp."""
        operations.release(self._core)

    def drain(self, name: str) -> None:
        """Give member *name* no new calls until `release`; those that use it go on.

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
        _check_type("name", name, str)
        operations.drain(self._core, name)

    def add(self, member: Member) -> None:
        """Take in another member, after the others.

        Raises:
            TypeError: If it is not a `Member`, or is async while the pool is not.
            ValueError: If there is one with its name.

        Example:
            >>> from mainstay import FailoverPool, Member
            >>> pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
            >>> pool.add(Member("c", "C"))
            >>> [member.name for member in pool.status().members]
            ['a', 'b', 'c']
        """
        _check_type("member", member, Member)
        for hook in (member.open, member.close):
            if hook is not None and kind_of(hook) is Kind.ASYNC and not self._is_async:
                raise TypeError(f"member {member.name!r} is async, and pool {self.name!r} is not")
        operations.add(self._core, member)

    def remove(self, name: str) -> None:
        """Take out member *name*; its resource is closed when the calls that use it are done.

        If it was the last active one, a standby takes over.

        Raises:
            TypeError: If *name* is not a str.
            ValueError: If there is no such member, or no other one.

        Example:
            >>> from mainstay import FailoverPool, Member
            >>> pool = FailoverPool("db", [Member("a", "A"), Member("b", "B")], on=OSError)
            >>> pool.remove("a")
            >>> pool.call(str)
            'B'
        """
        _check_type("name", name, str)
        operations.remove(self._core, name)

    def status(self) -> PoolStatus:
        """Give the status of the pool and of its members at this moment."""
        return operations.status(self._core)

    def on_event(self, fn: Callable[[Event], object]) -> Callable[[], None]:
        """Call *fn* with every event of this pool; as `mainstay.on_event` otherwise.

        Returns:
            A function without parameters that ends it.

        Raises:
            TypeError: If *fn* cannot be called, or is async or a generator.
        """
        core, registration = self._core, (checked_listener(fn),)
        with core.lock:
            core.listeners = (*core.listeners, registration)

        def stop() -> None:
            with core.lock:
                core.listeners = tuple(each for each in core.listeners if each is not registration)

        return stop

    # Opening and closing.

    def close(self) -> Awaitable[None] | None:
        """Close what was opened and stop probing; the next call opens the pool again.

        What calls use at the moment is closed when they are done. Of a sync pool it blocks until
        the rest is closed; of an async pool it gives something to await that does.
        """
        if self._is_async:
            return self._core.aclose()
        self._core.close()
        return None

    def __enter__(self) -> Self:
        self._require_sync("with pool", "async with pool")
        open_all(self._core)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._core.close()

    async def __aenter__(self) -> Self:
        require_loop(self._core)
        await aopen_all(self._core)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_async:
            await self._core.aclose()
        else:
            self._core.close()

    @property
    def _is_async(self) -> bool:
        return self._core.rules.is_async

    def _require_sync(self, sync: str, asynchronous: str) -> None:
        if self._is_async:
            raise TypeError(f"pool {self.name!r} is async, since something that it was given is: "
                            f"instead of `{sync}` it is `{asynchronous}`")  # fmt: skip


def _checked_members(members: object) -> list[Member]:
    if isinstance(members, Member) or not isinstance(members, Iterable):
        raise TypeError(f"`members` must be a list of `Member`s, not {members!r}")
    everyone = list(members)
    for member in everyone:
        if not isinstance(member, Member):
            raise TypeError(f"`members` must be a list of `Member`s, and {member!r} is not one")
    if not everyone:
        raise ValueError("`members` must not be empty")
    names = [member.name for member in everyone]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"`members` must have different names, and {twice[0]!r} occurs twice")
    if all(member.standby is not None for member in everyone):
        raise ValueError("`members` must have at least one that is active, without `standby`")
    return everyone


def _check_type(parameter: str, value: object, expected: type, *, none: bool = False) -> None:
    if not isinstance(value, expected) and not (none and value is None):
        raise TypeError(f"`{parameter}` must be a {expected.__name__}, not {value!r}")
