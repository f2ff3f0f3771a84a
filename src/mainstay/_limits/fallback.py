"""`fallback(...)`: what is returned in place of an exception."""

from collections.abc import Callable
from typing import Any, ClassVar, Final, ParamSpec, Self, TypeVar

import attrs

from mainstay._core.arguments import DefaultInt, Duration, check_callable, to_count, to_seconds
from mainstay._core.failures import Classes, judge_of
from mainstay._core.functions import (
    Kind,
    checked_name_or_none,
    is_async_hook,
    kind_of,
    name_of,
    rewrapped,
    takes_self,
)
from mainstay._core.layers import with_layers
from mainstay._core.misuse import keywords_only
from mainstay._limits.fallback_calls import (
    POLICY,
    BoundFallback,
    FallbackSettings,
    Source,
    wrap_async,
    wrap_sync,
)
from mainstay._limits.last_good import LastGood
from mainstay._metrics.collector import Metrics, metrics_of, recorders_of
from mainstay._metrics.pipeline import PipelineBuilder
from mainstay._metrics.recorder import Recorder

P = ParamSpec("P")
R = TypeVar("R")


class _NotGiven:
    """What a parameter is that was not given: any value, None too, may be an answer."""

    def __repr__(self) -> str:
        return "..."


_NOT_GIVEN: Final = _NotGiven()
_KEEP: Final = DefaultInt(1000)


@attrs.frozen(eq=False, repr=False)
class Fallback:
    """What `fallback(...)` returns: a decorator and a caller.

    Immutable: one object may wrap any number of functions, and may be used by threads and tasks at
    the same time. Each wrapped function has last good answers of its own.

    Example:
        >>> from mainstay import fallback
        >>> policy = fallback(on=ConnectionError, default="no page", name="fetch")
        >>> policy.call(str.upper, "page")
        'PAGE'
    """

    _kind: ClassVar[str] = POLICY

    _settings: FallbackSettings = attrs.field(alias="settings")
    _name: str | None = attrs.field(alias="name")
    _metrics: Metrics = attrs.field(alias="metrics")
    _given: dict[str, Any] = attrs.field(alias="given")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._given,)

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        settings = self._settings
        return f"<Fallback{name}: {settings.source.parameter} on {settings.judge}>"

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Wrap a function, whose signature and kind stay.

        Args:
            fn: A function, coroutine function, method, `classmethod`, `staticmethod`,
                `functools.partial` or object with ``__call__``.

        Raises:
            TypeError: If *fn* cannot be called, is a generator function, or is no async function
                and `on` or `call` is one.
        """
        if isinstance(fn, classmethod | staticmethod):
            return rewrapped(fn, self)
        check_callable(fn, "fallback")
        kind = kind_of(fn)
        if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
            raise TypeError(
                f"fallback does not wrap generators such as {name_of(fn)}, whose items are out by "
                f"the time that they fail; use a `try` around the loop"
            )
        self._check_method(fn)
        name = name_of(fn)
        return self._wrapped(self._bound(self._name or name, name, self._metrics), kind, fn)

    def _layer(self, fn: Callable[..., Any], builder: PipelineBuilder) -> Callable[..., Any]:
        """Wrap a function as a layer of a pipeline."""
        if builder.once:
            self._check_keeps_nothing()
        self._check_method(fn)
        bound = self._bound(
            builder.component, name_of(fn), builder.metrics, builder.part_recorder()
        )
        return self._wrapped(builder.bind(bound), kind_of(fn), fn)

    def _wrapped(
        self, bound: BoundFallback, kind: Kind, fn: Callable[..., Any]
    ) -> Callable[..., Any]:
        if kind is Kind.ASYNC:
            return with_layers(wrap_async(bound, fn), bound.layers)
        for parameter in ("on", "call"):
            hook = self._given[parameter]
            if is_async_hook(hook):
                raise TypeError(
                    f"`{parameter}` is async and {name_of(fn)} is not, so it could never be "
                    f"awaited; make it a plain function"
                )
        return with_layers(wrap_sync(bound, fn), bound.layers)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* with the fallback, without decorating it; not with `last_good`.

        Args:
            fn: A function or an async function. If the policy has no name, the name of *fn* is the
                `component`.
            *args: The arguments for *fn*.
            **kwargs: The keyword arguments for *fn*.

        Returns:
            The result of *fn*, or the fallback's; an awaitable if *fn* is async.

        Raises:
            TypeError: As for the decorator, before *fn* is called; also if the policy has
                `last_good`, since last good answers belong to a decorated function.
            Exception: The exception that *fn* raises, if `on` does not match it.

        Example:
            >>> from mainstay import fallback
            >>> from mainstay.testing import Faults
            >>> fallback(on=OSError, default=0).call(Faults([ConnectionError("refused")]))
            0
        """
        self._check_keeps_nothing()
        return self(fn)(*args, **kwargs)

    def _check_method(self, fn: Callable[..., Any]) -> None:
        settings = self._settings
        if settings.source is Source.LAST_GOOD and settings.key is None and takes_self(fn):
            raise TypeError(
                f"`last_good` on the method {name_of(fn)} needs a `key=`, which leaves out the "
                f"object that it belongs to: a kept answer would keep that alive"
            )

    def _check_keeps_nothing(self) -> None:
        if self._settings.source is Source.LAST_GOOD:
            raise TypeError(
                "`last_good` keeps the answers of a function that is decorated once; decorate it, "
                "and call that"
            )

    def _bound(
        self, component: str, function: str, metrics: Metrics, recorder: Recorder | None = None
    ) -> BoundFallback:
        recorders = recorders_of(metrics)
        recorder = recorder or recorders.calls(component, POLICY)
        answers = recorders.fallbacks(component)
        keep = self._settings.keep
        kept = LastGood(keep) if self._settings.source is Source.LAST_GOOD else None
        return BoundFallback(self._settings, component, function, recorder, answers, kept)


@keywords_only(
    example="`@fallback(on=..., default=...)`, where `on` says what is caught",
    elsewhere={
        "value": "`default=`",
        "fallback": "`call=`",
        "handler": "`call=`",
        "exceptions": "`on=`",
        "ttl": "`last_good=`, the seconds that an answer may be old",
        "max_age": "`last_good=`, the seconds that an answer may be old",
        "maxsize": "`keep=`",
    },
)
def fallback(
    *,
    on: Classes | Callable[[Exception], object],
    default: Any = _NOT_GIVEN,
    call: Callable[..., Any] | None = None,
    last_good: Duration | None = None,
    key: Callable[..., Any] | None = None,
    keep: int = _KEEP,
    copy: Callable[[Any], Any] | None = None,
    name: str | None = None,
    metrics: Metrics | None = None,
) -> Fallback:
    """Return another answer when a call fails.

    Set exactly one of *default*, a value; *call*, a function; or *last_good*, to return the last
    good answer of the same call. The exception of the failed call is passed to `on_event`, and
    counted. If there is no answer to return, that exception is raised.

    Args:
        on: What is caught: a subclass of `Exception`, a tuple of such classes, or a predicate that
            takes the exception and returns True or False. For async functions the predicate may be
            async. A delay, as `transient` returns it, counts as True. All other exceptions pass
            through.
        default: The value to return. A list, dict or set is copied, one level deep, for each call.
        call: A function that is called as ``call(error, *args, **kwargs)`` with the arguments of
            the failed call. Its result is returned, its exception raised. For async functions it
            may be async.
        last_good: The greatest age of the answer to return: seconds or a `timedelta`, above 0.
        key: With *last_good*, a function that takes the arguments of a call and returns a hashable
            key; calls with the same key share an answer. None to use the arguments as the key:
            then all arguments must be hashable. Methods need a *key* that leaves ``self`` out. Keys
            are equal only if value and type are equal.
        keep: With *last_good*, the largest number of keys, at least 1. The key that was answered
            longest ago is dropped.
        copy: With *last_good*, a function that copies an answer before it is returned, such as
            `copy.deepcopy`, so that one caller cannot change the answer of another.
        name: The `component` label. None for ``module.qualname`` of the wrapped function.
        metrics: Where to record. None for `default_metrics()`.

    Returns:
        A policy: a decorator, with `.call`.

    Raises:
        TypeError: Here or at decoration, if an argument has the wrong type or does not fit the
            function, or not exactly one of *default*, *call* and *last_good* is given. From a call,
            if its arguments cannot be a key.
        ValueError: Here, if an argument is out of its range.
        Exception: From a call: an exception that *on* does not match; the exception of the function
            if there is no last good answer that is new enough; the exception that *call* raises.
        UnsupportedLoopError: From an async call outside asyncio.

    Metrics:
        `calls_total` (``outcome="recovered"`` where the fallback answered),
        `call_duration_seconds`, `give_ups_total`, `errors_total` with ``policy="fallback"``,
        `fallbacks_total`, and with *last_good* `fallback_age_seconds`.

    Source:
        RFC 5861, ``stale-if-error``, for *last_good*.

    Example:
        >>> import httpx
        >>> from mainstay import fallback, transient
        >>> @fallback(on=transient, default=[])
        ... def recommendations(customer: str) -> list[str]:
        ...     return httpx.get(f"http://no.such.example/{customer}").raise_for_status().json()
        >>> recommendations("ann")
        []
    """
    given = dict(locals())  # the parameters, and nothing else yet: what a copy is made of
    source = _source_of(default, call, last_good)
    if source is Source.CALL and not callable(call):
        raise TypeError(f"`call` must take the exception and the arguments, not {call!r}")
    if not isinstance(keep, DefaultInt) and source is not Source.LAST_GOOD:
        raise TypeError("`keep` belongs to `last_good`, which is not given")
    hooks: dict[str, object] = {"key": key, "copy": copy}
    for parameter, value in hooks.items():
        if value is None:
            continue
        if source is not Source.LAST_GOOD:
            raise TypeError(f"`{parameter}` belongs to `last_good`, which is not given")
        if not callable(value):
            raise TypeError(f"`{parameter}` must be a plain function, not {value!r}")
        if is_async_hook(value):
            raise TypeError(
                f"`{parameter}` must be a plain function, and {name_of(value)} is async"
            )
    settings = FallbackSettings(
        judge_of(on),
        source,
        default,
        call,
        0.0 if last_good is None else to_seconds(last_good, "last_good", zero=False),
        key,
        to_count(keep, "keep"),
        copy,
    )
    return Fallback(settings, checked_name_or_none(name), metrics_of(metrics), given)


def _source_of(default: object, call: object, last_good: object) -> Source:
    given = {
        Source.VALUE: default is not _NOT_GIVEN,
        Source.CALL: call is not None,
        Source.LAST_GOOD: last_good is not None,
    }
    chosen = [source for source, is_given in given.items() if is_given]
    if len(chosen) != 1:
        raise TypeError(
            "exactly one of `default`, `call` and `last_good` must be given, not "
            + (" and ".join(f"`{each.parameter}`" for each in chosen) or "none")
        )
    return chosen[0]


def _again(given: dict[str, Any]) -> Fallback:
    """Make a policy from the parameters of another one, in the process that unpickles it."""
    given = {name: each for name, each in given.items() if not isinstance(each, _NotGiven)}
    return fallback(**given)
