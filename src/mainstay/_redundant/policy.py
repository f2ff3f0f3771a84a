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
    overload,
)

import attrs

from mainstay import hedge, vote
from mainstay._core.arguments import Duration, check_callable, check_choice, to_count, to_limit
from mainstay._core.budget import RetryBudget
from mainstay._core.failures import checked_on_result
from mainstay._core.functions import (
    Kind,
    checked_name_or_none,
    kind_of,
    name_of,
    resource_first,
    resource_first_or_as_self,
    rewrapped,
    without_resource,
)
from mainstay._core.layers import LAYERS, with_layers
from mainstay._core.misuse import keywords_only
from mainstay._core.sharing import Shared
from mainstay._core.threads import get_or_create
from mainstay._core.workers import WorkerPool
from mainstay._metrics.abandoned import AbandonedCalls
from mainstay._metrics.collector import Metrics, metrics_of, recorders_of
from mainstay._metrics.pipeline import PipelineBuilder
from mainstay._metrics.recorder import Recorder
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

    Immutable: one object may wrap any number of functions, and may be used by threads and tasks at
    the same time. The calls share the measured durations of each function, and the threads of sync
    copies.

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
            return rewrapped(fn, self)
        return self._hiding(fn, self._wrapped(fn, resource_first))

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* redundantly, without decorating it.

        Args:
            fn: A function or an async function. If the policy has no name, the name of *fn* is the
                `component`. The measured durations are kept under the name of *fn*.
            *args: The arguments for *fn*.
            **kwargs: The keyword arguments for *fn*.

        Returns:
            The accepted answer; an awaitable if *fn* is async.

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
        """Return a block that starts its copies itself: ``with``, in async code ``async with``.

        In the block, start each copy with ``race.start(fn, *args, **kwargs)``, and call
        ``race.result()`` once (in async code, await the result). Copies that still run at the end
        of the block are abandoned in sync code, and cancelled in async code. `on`, `on_result`,
        `decide`, `timeout` and `dispose` apply; `timeout` counts from the start of the block.

        Raises:
            TypeError: If the policy has `copies`, `alternatives` or `start`, which are decided by
                the block here; on entry, if a ``with`` would block the event loop.

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
        check_callable(fn, "redundant")
        kind = kind_of(fn)
        self._check_kind(kind, fn)
        bound = self._bound(name_of(fn), self._fns(fn, placed))
        return _wrapper(bound, kind, fn)

    def _hiding(self, fn: Callable[..., Any], wrapper: Callable[..., Any]) -> Callable[..., Any]:
        """Return a wrapper that shows no parameter for the resource of a pool."""
        if self._settings.pool is None:
            return wrapper
        return with_layers(without_resource(fn)(wrapper), getattr(wrapper, LAYERS))

    def _layer(self, fn: Callable[..., Any], builder: PipelineBuilder) -> Callable[..., Any]:
        """Wrap a function as a layer of a pipeline."""
        builder.bind(None)
        inside = attrs.evolve(
            self,
            name=builder.component,
            metrics=builder.metrics,
            alternatives=tuple(map(builder.counted, self._alternatives)),
        )
        placed = resource_first_or_as_self if builder.once else resource_first
        kind = kind_of(fn)
        self._check_kind(kind, fn)
        fns = inside._fns(fn, placed)  # noqa: SLF001 - of its own class
        bound = inside._bound(builder.component, fns, builder.part_recorder())  # noqa: SLF001 - as above
        wrapper = _wrapper(bound, kind, fn)
        return wrapper if builder.once else self._hiding(fn, wrapper)

    def _fns(self, fn: Callable[..., Any], placed: Placed) -> tuple[Callable[..., Any], ...]:
        """Return what the copies call; *placed* puts the resource of a pool in its place."""
        fns: tuple[Callable[..., Any], ...] = (fn, *self._alternatives)
        if self._settings.pool is not None:
            fns = tuple(map(placed, fns))
        if not self._alternatives:
            fns *= self._copies or 2
            checked_rule(self._settings.rule, len(fns))
        return fns[: self._copies]

    def _bound(
        self, name: str, fns: tuple[Callable[..., Any], ...], recorder: Recorder | None = None
    ) -> BoundRedundant:
        component, settings = self._name or name, self._settings
        known = component in self._latencies or len(self._latencies) < MOST_COMPONENTS
        key = component if known else OTHER
        latency = get_or_create(
            self._latencies, key, lambda: LatencyTracker(settings.start, settings.budget)
        )
        abandoned = get_or_create(self._abandoned, key, AbandonedCalls)
        first = planned(settings.rule, len(fns), together=settings.start.together) if fns else 0
        recorder = recorder or recorders_of(self._metrics).calls(component, POLICY)
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

    Only for work that may be done more than once: every copy has its side effects. The call ends as
    soon as its outcome cannot change any more. Results that are not returned are passed to
    *dispose*.

    In async code the caller's task runs the first copy, the primary; the other copies are tasks.
    When the call ends, copies that still run are cancelled, and not awaited. In sync code all
    copies run in daemon threads of the policy. A thread cannot be stopped, but its copy can call
    `cancelled()` to see if it is still needed. The primary runs in the caller's thread while all
    threads are busy, and until enough calls were measured for a quantile.

    Args:
        copies: The largest number of copies, at least 2. None for 2, or with *alternatives* for one
            copy of each function.
        alternatives: Other functions that do the same work: one for the second copy, one for the
            third, and so on. All are called with the same arguments; if the function is async,
            they must be async as well.
        pool: A `FailoverPool`: each copy runs at another member, which the pool selects, and gets
            the resource of that member as its first argument. These count as failures of the
            member: an exception that the `on` of the pool matches, an answer that is outvoted or
            that the `on_result` of the pool refuses, and, in async code, a copy that exceeds the
            `attempt_timeout` of the pool, or that hangs again and again until the call ends. If
            the pool has no member for a copy, a hedge is not started; in a vote the copy fails.
        start: When copies start: `hedge.together()`, `hedge.after(seconds)` or
            `hedge.quantile(q)`. None for `hedge.quantile(0.95)` with `vote.first()`, otherwise
            `hedge.together()`. When a copy fails, the next copy starts immediately.
        decide: Which answer to accept: `vote.first()`, `vote.majority()` and so on, or a rule of
            your own (`vote.Rule`).
        on: What counts as the failure of a copy: a subclass of `Exception`, a tuple of such
            classes, or a predicate that takes the exception and returns True or False; a delay, as
            `retry` takes, counts as True. Any other exception ends the call.
        on_result: A predicate for results: True means that the copy has failed, as for a client
            that returns responses with status 503. A plain function. Refused results are passed to
            *dispose*, except the one that a `ResultRefusedError` carries.
        timeout: The time for the call: seconds or a `timedelta`, above 0; None for no limit. Copies
            that still run at the end of that time fail with a `TimeoutError`. Async copies are
            cancelled. In sync code the call stops waiting, unless a copy runs in the caller's
            thread. A surrounding `deadline` does the same; the earlier of the two counts. Neither
            interrupts the code that judges answers: their ``==``, a `key`, *on*, *on_result*.
        budget: The limit on copies that start because the primary is slow or a copy failed: a
            `RetryBudget`, or a share of this policy's calls, 0 to 1. None for no such limit. Copies
            that the decision needs are never charged. A copy that replaces a failed copy is
            charged, but not denied while fewer than 1 / share calls were observed in the window.
        dispose: Called once with each result that is not returned, to close it. For async functions
            it may be async. An exception that it raises is logged.
        primary: Async only: how the primary runs. "inline": in the caller's task, which is
            cheapest; but a primary that ignores its cancellation, or ends slowly after it, delays
            the answer of a faster copy. "task": in a task of its own, which the call never awaits.
        raises: What a call raises if no copy answered. "last": the exception that was raised last
            (that of the primary if two were raised at the same time), with a note that lists the
            others. "group": an `AllCopiesFailedError` with all exceptions.
        threads: Sync only: the largest number of threads of this policy, at least 1.
        name: The `component` label. None for ``module.qualname`` of the wrapped function.
        metrics: Where to record. None for `default_metrics()`.

    Returns:
        A policy: a decorator, with `.call` and `.race()`.

    Raises:
        TypeError: Here or at decoration, if an argument has the wrong type, or a function is sync
            where an async one is needed, or the reverse.
        ValueError: Here, if an argument is out of its range, or *copies* is larger than the present
            number of members of the pool.
        Exception: From a call: the first exception that *on* does not match; if no copy answered,
            the exception that was raised last.
        AllCopiesFailedError: From a call with ``raises="group"``, if all copies failed, also if
            only one was started.
        ResultRefusedError: From a call, if no copy answered and *on_result* refused the last
            result, which is in `.result`.
        NoDecisionError: From a call, if copies answered but the vote was not decided.
        TimeoutError: From a call, if its time was up before any copy had ended.
        NoMemberError: From a call, if the pool had no member for any copy.
        DeadlineExpiredError: From a call that began with no time left; nothing was called.
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
    check_choice(primary, "primary", ("inline", "task"))
    check_choice(raises, "raises", ("last", "group"))
    when = delay_of(start or (hedge.quantile(0.95) if takes_first else hedge.together()))
    settings = RedundantSettings(
        start=when,
        rule=rule,
        takes_first=takes_first,
        judge=checked_on(on),
        on_result=checked_on_result(on_result),
        timeout=to_limit(timeout, "timeout"),
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
    """Return True if the copy that runs this code is no longer needed.

    A copy in a thread cannot be stopped from outside. A long copy can call this function from time
    to time, and return early. In async code the answer says if the running task is being cancelled.

    Returns:
        True or False; outside of redundant calls True only if the running task is being cancelled.

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
