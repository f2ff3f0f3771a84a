"""The face of retry: `retry(...)` and the `Retry` that it makes."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import (
    Any,
    ClassVar,
    Final,
    Literal,
    NoReturn,
    ParamSpec,
    Self,
    TypeAlias,
    TypeVar,
)

import attrs

from mainstay._core.arguments import (
    DefaultInt,
    Duration,
    check_callable,
    check_choice,
    to_count,
    to_limit,
)
from mainstay._core.budget import RetryBudget, budget_of
from mainstay._core.failures import Classes, checked_on_result
from mainstay._core.functions import (
    Kind,
    checked_name_or_none,
    is_async_frame,
    is_async_hook,
    kind_of,
    name_of,
    name_of_frame,
    require_asyncio,
    rewrapped,
)
from mainstay._core.layers import with_layers
from mainstay._core.misuse import keywords_only
from mainstay._metrics.collector import Metrics, metrics_of, recorders_of
from mainstay._metrics.pipeline import PipelineBuilder
from mainstay._retry.blocks import AsyncBlock, Block
from mainstay._retry.call import POLICY, BoundRetry
from mainstay._retry.loops import WRAPPERS
from mainstay._retry.settings import RetrySettings
from mainstay._retry.strategies import Strategy, judge_of, stop_of, wait_of

P = ParamSpec("P")
R = TypeVar("R")

On: TypeAlias = Classes | Callable[[Exception], object] | Strategy


class _DefaultFloat(float):
    """A default that can be distinguished from the same number given by the caller."""


_ATTEMPTS: Final = DefaultInt(5)
_TIMEOUT: Final = _DefaultFloat(60.0)


@attrs.frozen(eq=False, repr=False)
class Retry:
    """What `retry(...)` returns: a decorator, a caller, and the iterator of the block form.

    Immutable: one object may wrap any number of functions, and may be used by threads and tasks at
    the same time. Calls keep no state in the object.

    Example:
        >>> import httpx
        >>> from mainstay import retry, transient
        >>> policy = retry(on=transient, attempts=3)
        >>> @policy
        ... def fetch(url: str) -> str:
        ...     return httpx.get(url).raise_for_status().text
        >>> fetch("http://shop.example/lamps")
        'page of http://shop.example/lamps'
        >>> policy.call(str.upper, "ok")
        'OK'
        >>> for attempt in policy:
        ...     with attempt:
        ...         print("attempt", attempt.number)
        attempt 1
    """

    _kind: ClassVar[str] = POLICY

    _settings: RetrySettings = attrs.field(alias="settings")
    _name: str | None = attrs.field(alias="name")
    _metrics: Metrics = attrs.field(alias="metrics")
    _async_hook: str | None = attrs.field(alias="async_hook")
    _given: dict[str, Any] = attrs.field(alias="given")

    def __enter__(self) -> NoReturn:
        raise TypeError(
            "the block form is `for attempt in policy:`, or `async for`, with a `with attempt:` in "
            "it around what is to be retried"
        )

    __exit__: ClassVar[Callable[..., NoReturn]] = __enter__
    __aenter__: ClassVar[Callable[..., NoReturn]] = __enter__
    __aexit__: ClassVar[Callable[..., NoReturn]] = __enter__

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._given,)

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        return f"<Retry{name}: on {self._settings.judge}>"

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Wrap a function, whose signature stays.

        Args:
            fn: A function, coroutine function, generator function, async generator function,
                method, `classmethod`, `staticmethod`, `functools.partial` or object with
                ``__call__``.

        Raises:
            TypeError: If *fn* cannot be called, or the policy has a parameter that does not fit
                it: `attempt_timeout` or an async predicate on what is not async,
                `on_result` on a generator.
        """
        if isinstance(fn, classmethod | staticmethod):
            return rewrapped(fn, self)
        check_callable(fn, "retry")
        kind = kind_of(fn)
        self._check_kind(kind, fn)
        return _wrapped(self._bound(name_of(fn)), kind, fn)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* with retries, without decorating it.

        Args:
            fn: A function or an async function. If the policy has no name, the name of *fn* is the
                `component`.
            *args: The arguments for *fn*.
            **kwargs: The keyword arguments for *fn*.

        Returns:
            The result of *fn*; an awaitable if *fn* is async.

        Raises:
            TypeError: As for the decorator, before *fn* is called.
            Exception: As for the decorated function.

        Example:
            >>> from mainstay import retry
            >>> from mainstay.testing import Faults
            >>> retry(on=ConnectionError).call(Faults([ConnectionError("refused"), "page"]))
            'page'
        """
        return self(fn)(*args, **kwargs)

    def _layer(self, fn: Callable[..., Any], builder: PipelineBuilder) -> Callable[..., Any]:
        """Wrap a function as a layer of a pipeline."""
        kind = kind_of(fn)
        self._check_kind(kind, fn)
        bound = BoundRetry(self._settings, self._name or builder.component, builder.part_recorder())
        return _wrapped(builder.bind(bound), kind, fn)

    def __iter__(self) -> Block:
        """Begin a block of attempts: ``for attempt in policy:`` and in it ``with attempt:``.

        Raises:
            TypeError: In async code, or if the policy has `attempt_timeout`, `on_result`, or
                anything async.
            DeadlineExpiredError: If there is no time left; no attempt was made.
        """
        frame = sys._getframe(1)  # noqa: SLF001 - the block is named after the code around it
        if is_async_frame(frame):
            raise TypeError(
                "`for attempt in policy` would block the event loop; "
                "in async code it is `async for attempt in policy`"
            )
        if self._settings.attempt_timeout is not None:
            raise TypeError(
                "`attempt_timeout` cannot interrupt a sync block: a thread cannot be "
                "stopped from outside; use `async for`, or leave it out"
            )
        return Block(self._block(frame).begin())

    def __aiter__(self) -> AsyncBlock:
        """Begin a block of attempts in async code: ``async for``, and in it ``with attempt:``.

        Raises:
            TypeError: If the policy has `on_result`, or an async `on`.
            DeadlineExpiredError: If there is no time left; no attempt was made.
            UnsupportedLoopError: Outside asyncio.
        """
        bound = self._block(sys._getframe(1))  # noqa: SLF001 - as in `__iter__`
        require_asyncio(bound.component)
        return AsyncBlock(bound.begin())

    def _block(self, frame: FrameType) -> BoundRetry:
        if self._settings.on_result is not None:
            raise TypeError(
                "`on_result` does not apply to blocks, which have no result; check in "
                "the block and raise instead"
            )
        if self._async_hook is not None:
            raise TypeError(f"`{self._async_hook}` is async, which a block cannot await")
        return self._bound(name_of_frame(frame))

    def _bound(self, name: str) -> BoundRetry:
        component = self._name or name
        recorder = recorders_of(self._metrics).calls(component, POLICY)
        return BoundRetry(self._settings, component, recorder)

    def _check_kind(self, kind: Kind, fn: object) -> None:
        if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR) and self._settings.on_result is not None:
            raise TypeError(
                f"`on_result` does not apply to generators such as {name_of(fn)}: they are "
                f"retried until the first item is out, and have no result"
            )
        if kind in (Kind.ASYNC, Kind.ASYNC_GENERATOR):
            return
        if self._settings.attempt_timeout is not None:
            raise TypeError(
                f"`attempt_timeout` needs an async function, and {name_of(fn)} is not one: a "
                f"thread cannot be stopped from outside, so its work would go on "
                f"unseen; give the call inside it a timeout of its own"
            )
        if self._async_hook is not None:
            raise TypeError(
                f"`{self._async_hook}` is async and {name_of(fn)} is not, so it could never "
                f"be awaited; make it a plain function"
            )


def _wrapped(bound: BoundRetry, kind: Kind, fn: Callable[..., Any]) -> Callable[..., Any]:
    return with_layers(WRAPPERS[kind](bound, fn), bound.layers)


@keywords_only(
    example="`@retry(on=...)`, where `on` says what counts as a failure",
    elsewhere={
        "retry": "`on=`",
        "exceptions": "`on=`",
        "exception": "`on=`",
        "tries": "`attempts=`",
        "max_tries": "`attempts=`",
        "max_attempts": "`attempts=`",
        "retries": "`attempts=`, which counts the first call as well",
        "stop_after_attempt": "`attempts=`",
        "max_time": "`timeout=`",
        "wait_initial": "`wait=`",
        "wait_max": "`wait=`",
        "wait_jitter": "`wait=`",
        "wait_exp_base": "`wait=`",
        "delay": "`wait=`",
        "backoff": "`wait=`",
        "sleep": "`mainstay.testing.no_waits()` in tests",
        "reraise": "always so: the last exception itself is raised",
        "before": "`mainstay.on_event`",
        "after": "`mainstay.on_event`",
        "before_sleep": "`mainstay.on_event`",
        "on_backoff": "`mainstay.on_event`",
        "retry_error_callback": "a `try` around the call",
    },
)
def retry(
    *,
    on: On,
    attempts: int | None = _ATTEMPTS,
    timeout: Duration | None = _TIMEOUT,
    attempt_timeout: Duration | None = None,
    wait: Duration | Strategy | None = None,
    stop: Strategy | None = None,
    on_result: Callable[[Any], object] | None = None,
    budget: RetryBudget | float | None = None,
    nested: Literal["allow", "once"] = "allow",
    name: str | None = None,
    metrics: Metrics | None = None,
) -> Retry:
    """Call a function again after a failure and a wait, until it succeeds or a limit is reached.

    If the call fails, the exception of the last attempt is raised unchanged, with one note that
    lists the attempts. `KeyboardInterrupt`, `SystemExit`, `GeneratorExit` and
    `asyncio.CancelledError` are never retried, whatever *on* says. Waits block the thread in sync
    code, and only the task in async code.

    A call that succeeds at the first attempt costs one function call, two readings of the clock and
    three additions.

    Args:
        on: What counts as a failure: a subclass of `Exception`, a tuple of such classes, a tenacity
            ``retry_if_exception*`` strategy, or a predicate that takes the exception. The predicate
            returns True, False, or a delay (seconds or a `timedelta`) that the error asks for, as
            in a Retry-After header. The delay replaces *wait*, plus 0 to 10 % jitter; a negative or
            NaN delay means that *wait* is used. For async functions the predicate may be async. All
            other exceptions pass through unchanged.
        attempts: The largest number of attempts, the first included. At least 1; None for no limit.
        timeout: The time after the start of the first attempt in which further attempts may start:
            seconds or a `timedelta`, above 0; None for no limit. A running attempt is never
            interrupted. If the next wait is as long as the time left, or longer, the call gives up
            without waiting; a surrounding `deadline` limits the time left as well.
        attempt_timeout: The time for each attempt, for async functions only: seconds or a
            `timedelta`, above 0; None for no limit. An attempt that takes longer is cancelled and
            fails with a `TimedOutError`, which counts as a failure whatever *on* says. If less time
            is left for the whole call, the attempt gets only that.
        wait: The time between attempts: seconds or a `timedelta`, at least 0, or a tenacity wait
            strategy. None for a random time from 0 to min(5.0, 0.1 x 2^(n-1)) seconds after failed
            attempt n. A wait of 0 does not sleep. A wait that does not fit into *timeout* ends the
            call early, so set *timeout* as well if you set long waits.
        stop: A tenacity stop strategy, which is asked after each failure. If *stop* is given, the
            defaults of *attempts* and *timeout* are None.
        on_result: A predicate for results: True means that the result is refused and counts as a
            failure. For async functions the predicate may be async. Not for generators and blocks,
            which have no result.
        budget: The limit on the retries of all calls: a `RetryBudget`, or a share of this policy's
            calls, 0 to 1. None for no such limit.
        nested: What happens after an attempt in which an inner retry has already tried several
            times and given up. "allow": this policy retries too, so that the attempts multiply.
            "once": this policy gives up immediately. In both cases `nested_retries_total` counts
            the attempt, and a warning is logged once for each pair of retries.
        name: The `component` label. None for ``module.qualname`` of the wrapped function.
        metrics: Where to record. None for `default_metrics()`.

    Returns:
        A policy: a decorator, with `.call` and a block form.

    Raises:
        TypeError: Here or at decoration, if an argument has the wrong type or does not fit the
            function.
        ValueError: Here, if an argument is out of its range.
        Exception: From a call: the last attempt's own exception; if that is a `RejectedError`, the
            last exception before it that is none.
        ResultRefusedError: From a call, if the last result was refused.
        DeadlineExpiredError: From a call that began with no time left; the function was not called.
        UnsupportedLoopError: From an async call outside asyncio.

    Metrics:
        `calls_total`, `call_duration_seconds`, `call_attempts`, `give_ups_total`, `errors_total`
        with ``policy="retry"``, `wait_seconds_total`, and `nested_retries_total`.

    Source:
        The default wait is "Full jitter" in Marc Brooker, "Exponential Backoff And Jitter", AWS
        Architecture Blog, 2015.

    Example:
        >>> import httpx
        >>> from mainstay import retry, transient
        >>> @retry(on=transient, attempts=4, timeout=30.0)
        ... def fetch(url: str) -> str:
        ...     return httpx.get(url).raise_for_status().text
        >>> fetch("http://shop.example/lamps")
        'page of http://shop.example/lamps'
    """
    if stop is not None:
        attempts = None if attempts is _ATTEMPTS else attempts
        timeout = None if timeout is _TIMEOUT else timeout
    given = dict(locals())  # the parameters, and nothing else yet: what a copy is made of
    hooks = {"on": on, "on_result": on_result}
    check_choice(nested, "nested", ("allow", "once"))
    settings = RetrySettings(
        judge=judge_of(on),
        attempts=None if attempts is None else to_count(attempts, "attempts"),
        timeout=to_limit(timeout, "timeout"),
        attempt_timeout=to_limit(attempt_timeout, "attempt_timeout"),
        wait=wait_of(wait),
        stop=stop_of(stop),
        on_result=checked_on_result(on_result, may_be_async=True),
        budget=budget_of(budget),
        nested=nested,
    )
    _load_what_failures_need(settings)
    async_hook = next((n for n, h in hooks.items() if is_async_hook(h)), None)
    return Retry(settings, checked_name_or_none(name), metrics_of(metrics), async_hook, given)


# For code with a loop of its own, which wraps no function: the HTTP clients.


def settings_of(policy: Retry) -> RetrySettings:
    """Return the settings of a policy."""
    settings: RetrySettings = policy._settings  # noqa: SLF001 - of this module
    return settings


def check_kind(policy: Retry, kind: Kind, what: object) -> None:
    """Raise if a policy has a parameter that does not fit a function of this *kind*.

    Raises:
        TypeError: As from the decorator.
    """
    policy._check_kind(kind, what)  # noqa: SLF001 - of this module


def bound_to(
    policy: Retry,
    name: str | None,
    default: str,
    *,
    metrics: Metrics,
    budget: RetryBudget | None = None,
) -> BoundRetry:
    """Bind a policy to a component.

    Args:
        policy: The policy.
        name: The component; None for the policy's own name, or else *default*.
        default: The component where neither has a name.
        metrics: Where to record.
        budget: What its retries are charged to; None for what the policy says.
    """
    component = name or policy._name or default  # noqa: SLF001 - of this module
    settings = settings_of(policy)
    if budget is not None:
        settings = attrs.evolve(settings, budget=budget)
    return BoundRetry(settings, component, recorders_of(metrics).calls(component, POLICY))


def _again(given: dict[str, Any]) -> Retry:
    """Make a policy from the parameters of another one, in the process that unpickles it."""
    return retry(**given)


def _load_what_failures_need(settings: RetrySettings) -> None:
    """Import what only a call that fails uses: by then there may be no file left to open."""
    import mainstay.events  # noqa: PLC0415 - not needed to import the policy

    if settings.attempt_timeout is not None:
        import mainstay._core.interrupts  # noqa: PLC0415 - programs without async code do without it
    if settings.asks_a_strategy():
        import mainstay._retry.call_state  # noqa: F401, PLC0415 - only strategies read it
