"""`Layer`: the worst case that a policy can make of one call, in numbers, for `explain`.

Each wrapper has, under the name `LAYERS`, a function that returns its layers. Layers are made when
`explain` asks for them, since a pool may have more members by then, and calls do not pay for them.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypeVar

import attrs

from mainstay._core.failures import ErrorClasses

F = TypeVar("F", bound=Callable[..., Any])

LAYERS = "__mainstay_layers__"
"""Where wrappers, and pipelines, have the function that returns their layers."""

LayerKind: TypeAlias = Literal[
    "retry", "timeout", "fallback", "redundant", "breaker", "failover", "bulkhead", "rate_limit"
]


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Layer:
    """One policy around a function; durations in seconds, infinite where there is no limit.

    Attributes:
        kind: The kind of policy, as in labels.
        component: The name of the policy.
        calls: The largest number of calls of the inside (the layers and the function within).
        at_once: The largest number of these calls at the same time.
        first_wait: The longest wait between the first two of these calls.
        waits: The longest waits in total, before the first call and between the calls.
        timeout: The time after which no further call of the inside begins.
        attempt_timeout: The time after which a call of the inside is interrupted.
        interrupts: True if *timeout* ends the call, whatever runs.
        leaves: True if the caller stops waiting at the end of an outer time limit.
        places: The number of bulkhead places that a call holds.
        once: True if the policy does not repeat a call that an inner retry has given up.
        stops: True if a strategy of the user's ends the call, of which nothing is known.
        classes: The exception classes of `on`; None if `on` is a predicate.
        then: The function that is called after a failure, in place of the inside.
    """

    kind: LayerKind
    component: str
    calls: float = 1
    at_once: int = 1
    first_wait: float = 0.0
    waits: float = 0.0
    timeout: float = math.inf
    attempt_timeout: float = math.inf
    interrupts: bool = False
    leaves: bool = False
    places: int = 0
    once: bool = False
    stops: bool = False
    classes: tuple[type[Exception], ...] | None = None
    then: Callable[..., Any] | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.component}"

    def misses(self, error: type[Exception]) -> bool:
        """True if `on` is known not to match exceptions of a class."""
        return self.classes is not None and not issubclass(error, self.classes)


Layers: TypeAlias = Callable[[], tuple[Layer, ...]]
"""Returns the layers of something, outermost first."""


def with_layers(wrapper: F, layers: Layers) -> F:
    """Return a wrapper with the function that returns its layers."""
    vars(wrapper)[LAYERS] = layers
    return wrapper


def layers_around(what: Callable[..., Any]) -> tuple[list[Layer], Callable[..., Any]]:
    """Return the layers of a decorated function, outermost first, and the function itself.

    Wrappers are followed inwards. A wrapper of another library has copied the attributes of the
    wrapper inside it, so equal layers count once.
    """
    found: list[Layer] = []
    last: Layers | None = None
    while True:
        layers: Layers | None = getattr(what, LAYERS, None)
        if layers is not None and layers is not last:
            found += layers()
        last = layers
        inner = what.func if isinstance(what, functools.partial) else _wrapped(what)
        if inner is None:
            return found, what
        what = inner


def _wrapped(what: Callable[..., Any]) -> Callable[..., Any] | None:
    inner = getattr(what, "__wrapped__", None)
    return inner if callable(inner) else None


def classes_of(judge: object) -> tuple[type[Exception], ...] | None:
    """Return the exception classes that a judge looks for; None if it asks a predicate."""
    if not isinstance(judge, ErrorClasses):
        return None
    return judge.classes if isinstance(judge.classes, tuple) else (judge.classes,)
