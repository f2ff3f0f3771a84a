"""The face of pipelines: `pipeline(...)` and the `Pipeline` that it makes."""

from collections.abc import Callable
from itertools import chain
from typing import Any, ParamSpec, Protocol, Self, TypeVar

import attrs

from mainstay._core.arguments import check_callable
from mainstay._core.functions import Kind, checked_name, kind_of, name_of, rewrapped
from mainstay._core.layers import Layer, layers_around
from mainstay._metrics.collector import Metrics, metrics_of, recorders_of
from mainstay._metrics.pipeline import PipelineBuilder, PipelineRecorder
from mainstay._metrics.schema import GIVE_UP_REASONS
from mainstay._pipeline.calls import (
    BoundPipeline,
    counting_attempts,
    wrap_async,
    wrap_fast_async,
    wrap_fast_sync,
    wrap_sync,
)
from mainstay._pipeline.fast_path import fast_path

P = ParamSpec("P")
R = TypeVar("R")


class _Layer(Protocol):
    """What every policy has that can be a layer."""

    _kind: str

    def _layer(self, fn: Callable[..., Any], builder: PipelineBuilder) -> Callable[..., Any]: ...


@attrs.frozen(eq=False, repr=False)
class Pipeline:
    """What `pipeline(...)` returns: a decorator and a caller.

    Immutable: one object may wrap any number of functions, and may be used by threads and tasks at
    the same time. All wrapped functions share the breakers, pools and limits of the pipeline.

    Attributes:
        name: The name of the pipeline.
        policies: The layers of the pipeline, the outermost first.

    Example:
        >>> from mainstay import fallback, pipeline, retry
        >>> page = pipeline("page", fallback(default="none", on=OSError), retry(on=OSError))
        >>> page.call(str.upper, "page")
        'PAGE'
    """

    name: str
    policies: tuple[Any, ...]
    _metrics: Metrics = attrs.field(alias="metrics")
    _given: Metrics | None = attrs.field(alias="given")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.name, self.policies, self._given)

    def __repr__(self) -> str:
        return f"<Pipeline {self.name!r} of {', '.join(map(repr, self.policies))}>"

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Wrap a function, whose kind stays, and its signature but for the resource of a pool.

        Args:
            fn: A function, coroutine function, method, `classmethod`, `staticmethod`,
                `functools.partial` or object with ``__call__``.

        Raises:
            TypeError: If *fn* cannot be called, is a generator function, or does not fit a layer.
        """
        if isinstance(fn, classmethod | staticmethod):
            return rewrapped(fn, self)
        return self._wrapped(fn, once=False)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* through all layers, without decorating it.

        Args:
            fn: A function or an async function.
            *args: The arguments for *fn*.
            **kwargs: The keyword arguments for *fn*.

        Returns:
            The result of *fn*, or of a fallback; an awaitable if *fn* is async.

        Raises:
            TypeError: As for the decorator, before *fn* is called; also if a fallback in the
                pipeline has `last_good`.
            Exception: As for the decorated function.

        Example:
            >>> from mainstay import pipeline, retry, timeout
            >>> pipeline("upper", retry(on=OSError), timeout(1.0)).call(str.upper, "ok")
            'OK'
        """
        wrapped: Callable[P, R] = self._wrapped(fn, once=True)
        return wrapped(*args, **kwargs)

    def __mainstay_layers__(self) -> tuple[Layer, ...]:
        """Return its layers, outermost first: what `explain` reads."""
        apart = attrs.evolve(self, metrics=Metrics(None))  # nothing is called, and nothing counted
        wrapped: Callable[..., Any]
        try:
            wrapped = apart(_anything)
        except TypeError:  # a layer is for async functions only
            wrapped = apart(_aanything)
        layers, _ = layers_around(wrapped)
        return tuple(layers)

    def _wrapped(self, fn: Callable[..., Any], *, once: bool) -> Callable[..., Any]:
        check_callable(fn, "a pipeline")
        kind = kind_of(fn)
        if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
            raise TypeError(
                f"a pipeline does not wrap generators such as {name_of(fn)}, of which most "
                f"layers see only the first item; wrap what makes one item"
            )
        kinds = [policy._kind for policy in self.policies]  # noqa: SLF001 - of our own policies
        reasons = tuple(dict.fromkeys(chain.from_iterable(map(_reasons_of, self.policies))))
        recorder = recorders_of(self._metrics).pipeline(PipelineRecorder, self.name, reasons)
        builder = PipelineBuilder(self.name, self._metrics, reasons, counting_attempts, once=once)
        inside = [counting_attempts(fn)]
        inwards: tuple[_Layer, ...] = self.policies[::-1]
        for policy in inwards:
            inside.append(policy._layer(inside[-1], builder))  # noqa: SLF001 - as above
        nested = inside.pop()
        bound = BoundPipeline(self.name, recorder)
        is_async = kind is Kind.ASYNC
        slow = (wrap_async if is_async else wrap_sync)(bound, nested)
        path = fast_path(kinds[::-1], builder.bounds, inside, is_async=is_async)
        if path is None:
            return slow
        return (wrap_fast_async if is_async else wrap_fast_sync)(bound, path, fn, slow)


def pipeline(name: str, *policies: Any, metrics: Metrics | None = None) -> Pipeline:
    """Combine several policies around a function: one call is one call in the metrics.

    The first policy is the outermost. The policies behave like the same decorators one above the
    other, but are counted together: a call of the pipeline counts as one call, and a failed attempt
    as one error, however many layers see the exception. `retry`, `timeout`, `fallback` and
    `redundant` record under the name of the pipeline. A breaker, pool, bulkhead or rate limit
    records its state under its own name, and other pipelines may share it. With a pool, the
    resource of a member is the first argument of the function, or the second after ``self`` or
    ``cls``.

    A good order is `fallback`, `retry`, breaker or pool, rate limit, bulkhead, `timeout`. Then
    every attempt is limited, a rejected attempt can be retried, and the fallback answers if nothing
    else does.

    Args:
        name: The `component` label. Not empty.
        *policies: At least one of: the results of `retry`, `timeout`, `fallback` and `redundant`; a
            `CircuitBreaker`, `FailoverPool`, ``failover(pool)``, `Bulkhead` or `RateLimit`.
        metrics: Where to record. None for `default_metrics()`. Breakers, pools, bulkheads and rate
            limits keep their own.

    Returns:
        A policy: a decorator, with `.call`.

    Raises:
        TypeError: Here, if there is no policy, or an argument is not a policy; at decoration, if a
            layer does not fit the function, for example because it needs an async function.
        ValueError: Here, if *name* is empty, or a breaker, pool, bulkhead or rate limit is given
            twice.
        Exception: From a call: the exception that leaves the outermost layer.

    Metrics:
        `calls_total`, `call_duration_seconds`, `call_attempts`, `errors_total` and
        `give_ups_total` with ``policy="pipeline"``; the reason is that of the layer that ended the
        call.

    Example:
        >>> from mainstay import CircuitBreaker, RejectedError, fallback, pipeline, retry
        >>> breaker = CircuitBreaker("shop", on=OSError)
        >>> fetch = pipeline(
        ...     "orders",
        ...     fallback(default=None, on=(OSError, RejectedError)),
        ...     retry(on=(OSError, RejectedError), attempts=4),
        ...     breaker,
        ... )
        >>> @fetch
        ... def order(number: int) -> str:
        ...     return f"order {number}"
        >>> order(7)
        'order 7'
    """
    if hasattr(type(name), "_layer"):
        raise TypeError(
            f"a pipeline begins with its `name`, as pipeline('orders', ...), not with {name!r}"
        )
    checked_name(name)
    if not policies:
        raise TypeError("a pipeline needs at least one policy, such as `retry(on=...)`")
    for policy in policies:
        if isinstance(policy, Pipeline):
            raise TypeError(
                f"{policy!r} cannot be a layer of a pipeline; give its layers: `*policy.policies`"
            )
        if isinstance(policy, type) or getattr(type(policy), "_layer", None) is None:
            raise TypeError(
                f"{policy!r} cannot be a layer of a pipeline; what can is what `retry(...)`, "
                f"`timeout(...)`, `fallback(...)`, `redundant(...)` and `failover(...)` return, a "
                f"CircuitBreaker, FailoverPool, Bulkhead or RateLimit"
            )
    shared = [engine for engine in map(_engine_of, policies) if engine is not None]
    for place, engine in enumerate(shared):
        if any(engine is other for other in shared[:place]):
            twice = next(policy for policy in policies if _engine_of(policy) is engine)
            raise ValueError(
                f"{twice!r} is in pipeline {name!r} twice, so each call would use it twice; leave "
                f"one out"
            )
    return Pipeline(name, policies, metrics_of(metrics), metrics)


def _again(name: str, policies: tuple[Any, ...], metrics: Metrics | None) -> Pipeline:
    """Make a pipeline from the parameters of another one, in the process that unpickles it."""
    return pipeline(name, *policies, metrics=metrics)


def _anything(*args: Any, **kwargs: Any) -> None:
    """Stand in for whatever a pipeline is to be around."""


async def _aanything(*args: Any, **kwargs: Any) -> None:
    """As `_anything`."""


def _reasons_of(policy: Any) -> tuple[str, ...]:
    """Return why a layer can give up: a retry for what it was given alone."""
    reasons = GIVE_UP_REASONS[policy._kind]  # noqa: SLF001 - as above
    if policy._kind != "retry":  # noqa: SLF001 - as above
        return reasons
    settings = policy._settings  # noqa: SLF001 - as above
    needs = {"budget": settings.budget, "refused_result": settings.on_result}
    return tuple(reason for reason in reasons if needs.get(reason, True) is not None)


def _engine_of(policy: Any) -> object:
    """Return what all that is made of a shared object has in common; None if nothing is shared."""
    if policy._kind == "redundant":  # noqa: SLF001 - of our own policies
        policy = policy._settings.pool  # noqa: SLF001 - as above
    engine = getattr(policy, "_engine", None)
    if engine is not None:
        return engine
    return getattr(getattr(policy, "_bound", None), "engine", None)
