"""`timeout(...)`: how long one call may take."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final, NoReturn, ParamSpec, Self, TypeVar

import attrs

from mainstay._core.arguments import (
    DefaultInt,
    Duration,
    check_callable,
    to_count,
    to_flag,
    to_seconds,
)
from mainstay._core.functions import Kind, checked_name_or_none, kind_of, name_of, rewrapped
from mainstay._core.layers import with_layers
from mainstay._core.misuse import shows_use
from mainstay._core.threads import get_or_create
from mainstay._core.workers import WorkerPool
from mainstay._limits.timeout_calls import (
    POLICY,
    BoundTimeout,
    wrap_async,
    wrap_in_thread,
    wrap_sync,
)
from mainstay._metrics.abandoned import AbandonedCalls
from mainstay._metrics.collector import Metrics, metrics_of, recorders_of
from mainstay._metrics.pipeline import PipelineBuilder
from mainstay._metrics.recorder import Recorder
from mainstay._metrics.schema import ABANDONED_THREADS

P = ParamSpec("P")
R = TypeVar("R")


_THREADS: Final = DefaultInt(32)


@attrs.frozen(eq=False, repr=False)
class Timeout:
    """What `timeout(...)` returns: a decorator and a caller.

    Immutable: one object may wrap any number of functions, and may be used by threads and tasks at
    the same time. All wrapped functions share the threads of the policy, if it has any.

    Attributes:
        seconds: The longest time for a call, in seconds.

    Example:
        >>> from mainstay import timeout
        >>> policy = timeout(2.0, name="fetch")
        >>> policy.call(str.upper, "page")
        'PAGE'
    """

    _kind: ClassVar[str] = POLICY

    seconds: float
    _in_thread: bool = attrs.field(alias="in_thread")
    _workers: WorkerPool | None = attrs.field(alias="workers")
    _name: str | None = attrs.field(alias="name")
    _metrics: Metrics = attrs.field(alias="metrics")
    _given: dict[str, Any] = attrs.field(alias="given")
    _abandoned: dict[str, AbandonedCalls] = attrs.field(factory=dict, init=False)

    def __enter__(self) -> NoReturn:
        raise TypeError(
            "`timeout` wraps functions; around a block write `with deadline(...):`, or "
            "`async with deadline(...):`, which interrupts"
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
        where = " in a thread" if self._in_thread else ""
        return f"<Timeout{name}: {self.seconds:g} s{where}>"

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Wrap a function, whose signature and kind stay.

        Args:
            fn: A function, coroutine function, method, `classmethod`, `staticmethod`,
                `functools.partial` or object with ``__call__``.

        Raises:
            TypeError: If *fn* cannot be called, is a generator function, or is async and the
                policy has `in_thread`.
        """
        if isinstance(fn, classmethod | staticmethod):
            return rewrapped(fn, self)
        check_callable(fn, "timeout")
        kind = kind_of(fn)
        if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
            raise TypeError(
                f"timeout does not wrap generators such as {name_of(fn)}, which run between the "
                f"items too; use `with deadline(...)`, or `async with`, around the loop"
            )
        name = name_of(fn)
        return self._wrapped(self._bound(self._name or name, name, self._metrics), kind, fn)

    def _layer(self, fn: Callable[..., Any], builder: PipelineBuilder) -> Callable[..., Any]:
        """Wrap a function as a layer of a pipeline."""
        bound = self._bound(
            builder.component, name_of(fn), builder.metrics, builder.part_recorder()
        )
        return self._wrapped(builder.bind(bound), kind_of(fn), fn)

    def _wrapped(
        self, bound: BoundTimeout, kind: Kind, fn: Callable[..., Any]
    ) -> Callable[..., Any]:
        if kind is Kind.ASYNC:
            if self._in_thread:
                raise TypeError(
                    f"`in_thread` is for plain functions, and {name_of(fn)} is async: it is "
                    f"interrupted without a thread"
                )
            return with_layers(wrap_async(bound, fn), partial(bound.layers, is_async=True))
        wrap = wrap_in_thread if self._in_thread else wrap_sync
        return with_layers(wrap(bound, fn), bound.layers)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* with the limit, without decorating it.

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
            >>> from mainstay import timeout
            >>> timeout(1.0, in_thread=True).call(sum, [1, 2])
            3
        """
        return self(fn)(*args, **kwargs)

    def _bound(
        self, component: str, function: str, metrics: Metrics, recorder: Recorder | None = None
    ) -> BoundTimeout:
        recorders = recorders_of(metrics)
        abandoned = None
        if self._workers is not None:
            abandoned = get_or_create(self._abandoned, component, AbandonedCalls)
            abandoned.show(recorders.number(ABANDONED_THREADS, component))
        recorder = recorder or recorders.calls(component, POLICY)
        return BoundTimeout(self.seconds, component, function, recorder, self._workers, abandoned)


@shows_use(
    "`@timeout(2.5)`",
    elsewhere={
        "timeout": "`seconds=`",
        "duration": "`seconds=`",
        "delay": "`seconds=`",
        "exception": "always `TimedOutError`, which is a TimeoutError",
        "use_signals": "`in_thread=`",
    },
)
def timeout(
    seconds: Duration,
    *,
    in_thread: bool = False,
    threads: int = _THREADS,
    name: str | None = None,
    metrics: Metrics | None = None,
) -> Timeout:
    """Limit how long one call may take.

    An `async def` is interrupted at the end of its time, as by `asyncio.timeout`, and the call
    raises `TimedOutError`. A cancellation from outside always wins, and a `TimeoutError` of other
    code passes unchanged.

    A plain `def` cannot be interrupted. It runs as inside a `deadline`: the policies inside keep to
    the time, and `remaining()` can be passed to a client. If the function comes back late, its
    result is returned all the same, or its exception raised, and a warning is logged, once for each
    function. With *in_thread* the
    function runs in another thread. At the end of the time the call raises `TimedOutError`; the
    thread is abandoned, and the function in it runs on to its own end. No exception is ever
    injected into a thread.

    Args:
        seconds: The longest time for a call: seconds or a `timedelta`, above 0. A surrounding
            `deadline` that ends earlier holds as well.
        in_thread: True to run a plain function in one of the policy's own daemon threads, in a
            copy of the caller's context.
        threads: The largest number of threads of this policy, abandoned threads included; at least
            1.
        name: The `component` label. None for ``module.qualname`` of the wrapped function.
        metrics: Where to record. None for `default_metrics()`.

    Returns:
        A policy: a decorator, with `.call`.

    Raises:
        TypeError: Here or at decoration, if an argument has the wrong type or does not fit the
            function.
        ValueError: Here, if an argument is out of its range.
        TimedOutError: From a call, at the end of its time.
        BulkheadFullError: From a call, if all *threads* are busy; the function was not called.
        DeadlineExpiredError: From a call that began with no time left; the function was not called.
        UnsupportedLoopError: From an async call outside asyncio.

    Metrics:
        `calls_total`, `call_duration_seconds`, `give_ups_total`, `errors_total` with
        ``policy="timeout"``, and with *in_thread* `abandoned_threads`.

    Source:
        The counting of `Task.cancelling` and `Task.uncancel` is that of `asyncio.timeout`.

    Example:
        >>> import asyncio
        >>> from mainstay import TimedOutError, timeout
        >>> @timeout(0.01, name="fetch")
        ... async def fetch() -> None:
        ...     await asyncio.sleep(60)
        >>> try:
        ...     asyncio.run(fetch())
        ... except TimedOutError as error:
        ...     print(error)
        fetch: the call took longer than 0.010 s
    """
    given = dict(locals())  # the parameters, and nothing else yet: what a copy is made of
    to_flag(in_thread, "in_thread")
    most = to_count(threads, "threads")
    if not isinstance(threads, DefaultInt) and not in_thread:
        raise TypeError("`threads` belongs to `in_thread=True`, which is not given")
    return Timeout(
        to_seconds(seconds, "seconds", zero=False),
        in_thread,
        WorkerPool(most) if in_thread else None,
        checked_name_or_none(name),
        metrics_of(metrics),
        given,
    )


def _again(given: dict[str, Any]) -> Timeout:
    """Make a policy from the parameters of another one, in the process that unpickles it."""
    return timeout(**given)
