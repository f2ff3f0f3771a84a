"""The face of redundant calls: `redundant(...)`, the `Redundant` that it makes, `cancelled()`."""

import asyncio
import sys
from collections.abc import Callable, Iterable
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Final,
    Literal,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    overload,
)

import attrs

from mainstay import hedge, vote
from mainstay._core.arguments import Duration, to_count, to_seconds
from mainstay._core.budget import RetryBudget
from mainstay._core.failures import checked_on_result
from mainstay._core.functions import (
    Kind,
    checked_name_or_none,
    kind_of,
    name_of,
    resource_first,
    resource_first_or_as_self,
    without_resource,
)
from mainstay._core.layers import LAYERS, with_layers
from mainstay._core.misuse import keywords_only
from mainstay._core.sharing import Shared
from mainstay._core.threads import get_or_create
from mainstay._core.workers import WorkerPool
from mainstay._metrics.abandoned import AbandonedCalls
from mainstay._metrics.collector import Metrics, metrics_of, recorders_of
from mainstay._metrics.pipeline import Pipe
from mainstay._metrics.schema import MOST_COMPONENTS, OTHER
from mainstay._redundant.async_loop import wrap_async
from mainstay._redundant.decision import planned
from mainstay._redundant.latency import LatencyTracker
from mainstay._redundant.race import RaceBlock
from mainstay._redundant.settings import (
    POLICY,
    BoundRedundant,
    On,
    RedundantSettings,
    check_blocking,
    checked_alternatives,
    checked_budget,
    checked_copies,
    checked_dispose,
    checked_on,
    checked_rule,
)
from mainstay._redundant.sync_loop import is_abandoned, wrap_sync
from mainstay.hedge import Start, delay_of
from mainstay.vote import Rule

if TYPE_CHECKING:  # loads all of failover, which most redundant calls do without
    from mainstay._failover.pool import FailoverPool

P = ParamSpec("P")
R = TypeVar("R")
Placed: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

_FIRST: Final = vote.first()


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Redundant(Shared):
    """What `redundant(...)` returns: a decorator, a caller, and the maker of races.

    Immutable: one object may wrap any number of functions and be used by threads and tasks at the
    same time. What its calls share is how long they take, for each function, and the threads that
    sync copies run in.

    Example:
        >>> from mainstay import redundant, vote
        >>> policy = redundant(copies=3, decide=vote.majority())
        >>> @policy
        ... def read(sensor: str) -> int:
        ...     return len(sensor)
        >>> read("oil")
        3
        >>> policy.call(str.upper, "ok")
        'OK'
        >>> with redundant(decide=vote.unanimous()).race() as race:
        ...     race.start(max, 1, 2)
        ...     race.start(min, 2, 3)
        ...     race.result()
        2
    """

    _kind: ClassVar[str] = POLICY

    _settings: RedundantSettings = attrs.field(alias="settings")
    _copies: int | None = attrs.field(alias="copies")
    _alternatives: tuple[Callable[..., Any], ...] = attrs.field(alias="alternatives")
    _start: Start | None = attrs.field(alias="start")
    _name: str | None = attrs.field(alias="name")
    _metrics: Metrics = attrs.field(alias="metrics")
    _latencies: dict[str, LatencyTracker] = attrs.field(factory=dict, init=False)
    _abandoned: dict[str, AbandonedCalls] = attrs.field(factory=dict, init=False)

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        return f"<Redundant{name}: {self._settings.rule!r}>"

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Wrap a function; signature and kind stay.

        Args:
            fn: A function, coroutine function, method, `classmethod`, `staticmethod`,
                `functools.partial` or object with ``__call__``. Alternatives are called with the
                same arguments, ``self`` or ``cls`` included. Of a policy with `pool`, all of
                them take the resource of a member first, or right after ``self`` or ``cls``;
                callers leave it out.

        Raises:
            TypeError: If *fn* cannot be called or is a generator function, an alternative has
                another kind than *fn*, or a parameter does not fit that kind: an async
                `dispose` or `pool`, or `primary="task"`, on what is not async.
            ValueError: If `decide` does not fit two copies, where the policy does not say how many.
        """
        if isinstance(fn, classmethod | staticmethod):
            # No callable to a type checker before it is bound, as *fn* was none.
            return cast("Callable[P, R]", type(fn)(self(fn.__func__)))
        return self._hiding(fn, self._wrapped(fn, resource_first))

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* redundantly, without decorating it.

        Args:
            fn: As for the decorator. Its name is the `component` if the policy has none, and what
                is known of how long it takes is kept under that name.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What *fn* returns; something to await if *fn* is async.

        Raises:
            TypeError: As for the decorator, before *fn* is called.
            Exception: As for the decorated function.

        Example:
            >>> from mainstay import redundant
            >>> redundant(copies=2).call(str.upper, "ok")
            'OK'
        """
        wrapped: Callable[P, R] = self._wrapped(fn, resource_first_or_as_self)
        return wrapped(*args, **kwargs)

    def race(self) -> RaceBlock:
        """Make a block that starts its copies itself: ``with``, in async code ``async with``.

        The block starts each copy with ``race.start(fn, *args, **kwargs)`` and asks once for
        ``race.result()``, awaited in async code. What still runs when the block is left is given
        up. `on`, `on_result`, `decide`, `timeout` and `dispose` apply; a timeout counts from the
        block's start.

        Raises:
            TypeError: If the policy has `copies`, `alternatives` or `start`, which the block says
                itself; on entry, if a ``with`` would block the event loop.

        Example:
            >>> from mainstay import redundant, vote
            >>> with redundant(decide=vote.median(), name="sensors").race() as race:
            ...     for reading in (20.9, 21.1, 99.0):
            ...         race.start(float, reading)
            ...     race.result()
            21.1
        """
        for parameter in ("copies", "alternatives", "start"):
            if getattr(self, f"_{parameter}"):
                raise TypeError(
                    f"`{parameter}` does not apply to `race()`, where the block itself starts "
                    f"what it needs; leave it out"
                )
        return RaceBlock(lambda name: self._bound(name, ()), sys._getframe(1))  # noqa: SLF001 - the block is named after the code around it

    def _wrapped(self, fn: Callable[..., Any], placed: Placed) -> Callable[..., Any]:
        if not callable(fn):
            raise TypeError(f"redundant wraps callables, not {fn!r}")
        kind = kind_of(fn)
        self._check_kind(kind, fn)
        bound = self._bound(name_of(fn), self._fns(fn, placed))
        return _wrapper(bound, kind, fn)

    def _hiding(self, fn: Callable[..., Any], wrapper: Callable[..., Any]) -> Callable[..., Any]:
        """Return a wrapper that shows no parameter for the resource of a pool."""
        if self._settings.pool is None:
            return wrapper
        return with_layers(without_resource(fn)(wrapper), getattr(wrapper, LAYERS))

    def _layer(self, fn: Callable[..., Any], pipe: Pipe) -> Callable[..., Any]:
        """Wrap a function as a layer of a pipeline."""
        pipe.bind(None)
        inside = attrs.evolve(
            self,
            name=pipe.component,
            metrics=pipe.metrics,
            alternatives=tuple(map(pipe.counted, self._alternatives)),
        )
        placed = resource_first_or_as_self if pipe.once else resource_first
        kind = kind_of(fn)
        self._check_kind(kind, fn)
        bound = attrs.evolve(
            inside._bound(pipe.component, inside._fns(fn, placed)),  # noqa: SLF001 - of its own class
            recorder=pipe.part(),
        )
        wrapper = _wrapper(bound, kind, fn)
        return wrapper if pipe.once else self._hiding(fn, wrapper)

    def _fns(self, fn: Callable[..., Any], placed: Placed) -> tuple[Callable[..., Any], ...]:
        """Return what the copies call; *placed* puts the resource of a pool in its place."""
        fns: tuple[Callable[..., Any], ...] = (fn, *self._alternatives)
        if self._settings.pool is not None:
            fns = tuple(map(placed, fns))
        if not self._alternatives:
            fns *= self._copies or 2
            checked_rule(self._settings.rule, len(fns))
        return fns[: self._copies]

    def _bound(self, name: str, fns: tuple[Callable[..., Any], ...]) -> BoundRedundant:
        component, settings = self._name or name, self._settings
        known = component in self._latencies or len(self._latencies) < MOST_COMPONENTS
        key = component if known else OTHER
        latency = get_or_create(
            self._latencies, key, lambda: LatencyTracker(settings.start, settings.budget)
        )
        abandoned = get_or_create(self._abandoned, key, AbandonedCalls)
        first = planned(settings.rule, len(fns), together=settings.start.together) if fns else 0
        recorder = recorders_of(self._metrics).calls(component, POLICY)
        return BoundRedundant(
            settings, component, fns, first, latency, abandoned, self._metrics, recorder
        )

    def _check_kind(self, kind: Kind, fn: object) -> None:
        if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
            raise TypeError(
                f"redundant needs functions with a result, not generators such as {name_of(fn)}"
            )
        for each in self._alternatives:
            if kind_of(each) is not kind:
                raise TypeError(
                    f"{name_of(fn)} is {_IN_WORDS[kind]}, so its `alternatives` must be, too; "
                    f"{name_of(each)} is {_IN_WORDS[kind_of(each)]}"
                )
        if kind is Kind.ASYNC:
            return
        if self._settings.primary == "task":
            raise TypeError(
                f"`primary` is for async functions; copies of {name_of(fn)} run in threads; leave "
                f"it out"
            )
        check_blocking(self._settings, name_of(fn))


def _wrapper(bound: BoundRedundant, kind: Kind, fn: Callable[..., Any]) -> Callable[..., Any]:
    wrap = wrap_async if kind is Kind.ASYNC else wrap_sync
    return with_layers(wrap(bound, fn), bound.layers)


_IN_WORDS = {
    Kind.SYNC: "a plain function",
    Kind.ASYNC: "`async def`",
    Kind.GENERATOR: "a generator",
    Kind.ASYNC_GENERATOR: "an async generator",
}


class _OnMembers(Protocol):
    """What a `Redundant` with a pool is to type checkers: its functions take a resource first."""

    def __call__(self, fn: Callable[Concatenate[Any, P], R], /) -> Callable[P, R]: ...

    def call(
        self, fn: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    def race(self) -> RaceBlock: ...


@overload
def redundant(
    *,
    copies: int | None = None,
    alternatives: Iterable[Callable[..., Any]] = (),
    pool: None = None,
    start: Start | None = None,
    decide: Rule = _FIRST,
    on: On = Exception,
    on_result: Callable[[Any], object] | None = None,
    timeout: Duration | None = None,
    budget: RetryBudget | float | None = 0.05,
    dispose: Callable[[Any], Any] | None = None,
    primary: Literal["inline", "task"] = "inline",
    raises: Literal["last", "group"] = "last",
    threads: int = 32,
    name: str | None = None,
    metrics: Metrics | None = None,
) -> Redundant: ...


@overload
def redundant(
    *,
    copies: int | None = None,
    alternatives: Iterable[Callable[..., Any]] = (),
    pool: "FailoverPool[Any]",
    start: Start | None = None,
    decide: Rule = _FIRST,
    on: On = Exception,
    on_result: Callable[[Any], object] | None = None,
    timeout: Duration | None = None,
    budget: RetryBudget | float | None = 0.05,
    dispose: Callable[[Any], Any] | None = None,
    primary: Literal["inline", "task"] = "inline",
    raises: Literal["last", "group"] = "last",
    threads: int = 32,
    name: str | None = None,
    metrics: Metrics | None = None,
) -> _OnMembers: ...


@keywords_only(
    example="`@redundant()`, or `@redundant(copies=3, decide=vote.majority())`",
    elsewhere={
        "n": "`copies=`",
        "times": "`copies=`",
        "max_attempts": "`copies=`, which counts the first call as well",
        "max_hedged_attempts": "`copies=`, which counts the first call as well",
        "attempts": "`copies=`; to call again what failed is `mainstay.retry`",
        "delay": "`start=hedge.after(...)`",
        "hedging_delay": "`start=hedge.after(...)`",
        "percentile": "`start=hedge.quantile(...)`",
        "quorum": "`decide=vote.quorum(...)`",
        "fallback": "`alternatives=`",
    },
)
def redundant(  # noqa: PLR0913 - a policy's parameters are its vocabulary
    *,
    copies: int | None = None,
    alternatives: Iterable[Callable[..., Any]] = (),
    pool: "FailoverPool[Any] | None" = None,
    start: Start | None = None,
    decide: Rule = _FIRST,
    on: On = Exception,
    on_result: Callable[[Any], object] | None = None,
    timeout: Duration | None = None,
    budget: RetryBudget | float | None = 0.05,
    dispose: Callable[[Any], Any] | None = None,
    primary: Literal["inline", "task"] = "inline",
    raises: Literal["last", "group"] = "last",
    threads: int = 32,
    name: str | None = None,
    metrics: Metrics | None = None,
) -> Redundant | _OnMembers:
    """Do the same work more than once: against slow calls (hedge), or wrong answers (vote).

    Only for work that may be done more than once: every copy has its side effects. The call ends
    as soon as its outcome cannot change. Results that are not returned go to *dispose*.

    In async code the caller's own task runs the first copy, the primary; the others are tasks.
    Losers are cancelled and not waited for. In sync code all copies run in daemon threads of the
    policy; a loser cannot be stopped, but can ask `cancelled()`. Until enough is known for a
    quantile, and when all threads are busy, the primary runs in the caller's thread.

    Args:
        copies: How many there are at most, at least 2. None for one more than there are
            *alternatives*, or 2.
        alternatives: Other functions that do the same work, for the second copy and so on; of the
            same kind, called with the same arguments.
        pool: A `FailoverPool`: each copy runs at another member, which the pool selects, and whose
            resource goes in first. What a copy raises counts against its member as the `on` of the
            pool says, and so do an answer that is outvoted or that the `on_result` of the pool
            refuses, an attempt that takes longer than its `attempt_timeout`, and one that hangs
            again and again when its caller leaves or its time is up (both async only). A copy for
            which there is no member is not started as a hedge, and in a vote has failed.
        start: When copies start: `hedge.together()`, `hedge.after(seconds)` or
            `hedge.quantile(q)`. None for `hedge.quantile(0.95)` with `vote.first()`, otherwise
            `hedge.together()`. A copy that fails starts the next one at once.
        decide: Which answer to believe: `vote.first()`, `vote.majority()` and so on, or a rule of
            your own (`vote.Rule`).
        on: What counts as the failure of a copy: an exception class below `Exception`, a tuple of
            them, or a predicate that answers True or False. Any other exception ends the call.
        on_result: Takes what a copy returns; True means that the copy has failed, as for a client
            that returns responses of status 503. Not async. A result that is refused and not
            raised goes to *dispose*.
        timeout: Time for the call: seconds or a `timedelta`, above 0. A copy that then still runs
            has failed with a `TimeoutError`. Async copies are cancelled; in sync code only the
            waiting ends, and not even that where a copy runs in the caller's thread. A surrounding
            `deadline` does the same; the one that ends first counts. Neither interrupts what
            decides about answers: their ``==``, a `key`, *on*, *on_result*.
        budget: What copies are charged to that start because the primary is slow or a copy
            failed: a `RetryBudget`, or a share of this policy's calls, 0 to 1. None for no limit.
            Copies that the decision needs are never charged. The copy after a failed one is, but
            not denied while fewer calls than 1 / share were observed in the window.
        dispose: Called with each result that is not returned, once: to close it. In async
            functions it may be async. What it raises is logged.
        primary: Async only. "inline" is cheapest, but a primary that swallows its cancellation,
            or takes its time over it, holds up the answer of a faster copy. "task" gives it a
            task of its own, which is never waited for.
        raises: What a call raises where no copy answered. "last" is the exception that a copy
            raised last, the primary's if two came at the same time, with a note that lists the
            others. "group" is an `AllCopiesFailedError` with all of them.
        threads: Sync only: most threads of this policy at once, at least 1.
        name: The `component` label. None for ``module.qualname`` of what is wrapped.
        metrics: Where to record. None for `default_metrics()`.

    Returns:
        A policy: a decorator, with `.call` and `.race()`.

    Raises:
        TypeError: Here or at decoration, if an argument has the wrong type or kind.
        ValueError: Here, if an argument is out of its range, or *copies* above the number of
            members that the pool has now.
        Exception: From a call: one outside *on*, or the one that a copy raised last, if none
            answered.
        AllCopiesFailedError: From a call with ``raises="group"``, if more than one copy was
            started and all failed.
        ResultRefusedError: From a call, if no copy answered and *on_result* refused the last one's
            result, which it has in `.result`.
        NoDecisionError: From a call, if copies answered but the vote was not decided.
        TimeoutError: From a call, if its time was up before any copy had ended.
        NoMemberError: From a call, if the pool had no member for any copy.
        DeadlineExpiredError: From a call, if it began with no time left; nothing was called.
        UnsupportedLoopError: From an async call outside asyncio.

    Metrics:
        `calls_total`, `call_duration_seconds`, `call_attempts`, `give_ups_total`, `errors_total`
        with ``policy="redundant"``; `hedges_total`, `hedges_denied_total`, `hedge_delay_seconds`,
        `copy_wins_total`, `dissents_total`, `votes_total`, `wasted_seconds_total`,
        `abandoned_threads`.

    Source:
        Hedging: Jeffrey Dean and Luiz André Barroso, "The Tail at Scale", Communications of the
        ACM 56(2), 2013. Voting over alternatives: Liming Chen and Algirdas Avižienis, "N-Version
        Programming", FTCS-8, 1978.

    Example:
        >>> from mainstay import hedge, redundant
        >>> @redundant(copies=2, start=hedge.quantile(0.95, at_least=0.001, at_most=1.0))
        ... def lookup(key: str) -> str:
        ...     return f"value of {key}"
        >>> lookup("a")
        'value of a'
    """
    functions = checked_alternatives(alternatives)
    members = None
    if pool is not None:
        from mainstay._redundant.members import PoolMembers  # noqa: PLC0415 - loads all of failover

        members = PoolMembers(pool)
    most = checked_copies(copies, len(functions), members)
    rule = checked_rule(decide, most if copies or functions else None)  # a race says it itself
    takes_first = rule == _FIRST
    if start is not None and not isinstance(start, Start):
        raise TypeError(
            f"`start` must be made by `mainstay.hedge`, such as `hedge.after(0.2)`, not {start!r}"
        )
    if primary not in ("inline", "task"):
        raise ValueError(f'`primary` must be "inline" or "task", not {primary!r}')
    if raises not in ("last", "group"):
        raise ValueError(f'`raises` must be "last" or "group", not {raises!r}')
    when = delay_of(start or (hedge.quantile(0.95) if takes_first else hedge.together()))
    settings = RedundantSettings(
        start=when,
        rule=rule,
        takes_first=takes_first,
        judge=checked_on(on),
        on_result=checked_on_result(on_result),
        timeout=None if timeout is None else to_seconds(timeout, "timeout", zero=False),
        budget=checked_budget(budget, together=when.together),
        dispose=checked_dispose(dispose),
        primary=primary,
        raises=raises,
        workers=WorkerPool(to_count(threads, "threads")),
        pool=members,
    )
    return Redundant(
        settings=settings,
        copies=copies,
        alternatives=functions,
        start=start,
        name=checked_name_or_none(name),
        metrics=metrics_of(metrics),
    )


def cancelled() -> bool:
    """Return True if the copy of a redundant call that asks is no longer needed.

    A copy in a thread cannot be stopped from outside; one that takes long can ask from time to
    time and stop by itself. In async code it tells whether the running task is being cancelled.

    Returns:
        False outside of redundant calls, unless the running task is being cancelled.

    Example:
        >>> from mainstay import cancelled
        >>> cancelled()
        False
    """
    if is_abandoned():
        return True
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0
