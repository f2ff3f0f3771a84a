"""`explain`: the worst case of several policies around a function, and warnings about them.

From the inside out, with T the longest time of what is inside and S how long that may go on after
a time that it was given, which no policy in it lets begin another attempt:

    layer                  its longest time                                 S after it
    function               what it takes                                    the same
    retry, failover        min(calls x T + waits, timeout + T)              S
      with attempt_timeout T is at most that, and the call at most timeout  min(S, attempt_timeout)
    redundant              calls x T, since one may start when another has  S
                           failed; at most timeout, + T in sync code
    breaker                T                                                S
    bulkhead, rate limit   waits + T                                        S
    fallback               T + its own                                      S + its own
    timeout, async         min(T, timeout)                                  min(S, timeout)
    timeout, in a thread   min(T, timeout)                                  0
    timeout, sync          min(T, timeout + S)                              S
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from mainstay._core.arguments import Duration, to_seconds
from mainstay._core.layers import LAYERS, Layer, layers_around
from mainstay._pipeline.advice import LayerWarning, warnings_of


@attrs.frozen(kw_only=True, eq=False)
class Part:
    """The worst case of a layer with everything inside it.

    Attributes:
        layer: The layer; None for the function.
        name: The name of the layer or function.
        seconds: The longest time of a call.
        after: How long a call may go on after the end of a deadline around it.
        calls: The largest number of calls of the function.
        places: The largest number of bulkhead places at the same time.
    """

    layer: Layer | None
    name: str
    seconds: float
    after: float
    calls: float = 1
    places: int = 0


@attrs.frozen(kw_only=True)
class Explanation:
    """The worst case of a function with policies around it, and warnings: from `explain`.

    Attributes:
        worst_seconds: The longest time that one call can take; `math.inf` if it has no bound.
        worst_calls: The largest number of calls of the function by one call; `math.inf` if it has
            no bound.
        places: The largest number of bulkhead places that one call holds at the same time.
        warnings: What is wrong, or probably wrong, with the policies.

    Example:
        >>> from mainstay import explain, retry
        >>> @retry(on=ConnectionError, attempts=3, wait=1.0, name="orders")
        ... def order(what: str) -> str:
        ...     return what
        >>> explanation = explain(order, call_takes=2.0)
        >>> explanation.worst_seconds, explanation.worst_calls
        (8.0, 3)
    """

    worst_seconds: float
    worst_calls: float
    places: int
    warnings: tuple[LayerWarning, ...]
    _tree: str = attrs.field(alias="tree", repr=False)

    def __str__(self) -> str:
        return "\n".join([self._tree, *map(str, self.warnings)])


def explain(what: Callable[..., Any], *, call_takes: Duration | None = None) -> Explanation:
    """Return the worst case of the policies around a function; nothing is called.

    The function may have several policies as decorators, one above the other. Decorators of other
    libraries may be in between if they set ``__wrapped__``, as `functools.wraps` does. In the worst
    case every attempt fails at the end of its time, and every wait is the longest possible. No call
    takes longer than that, if the function itself takes no longer than *call_takes*. A wait that an
    exception, a predicate or a strategy asks for counts as the `timeout` of its policy. Policies
    inside the function, in blocks or in other functions, are not seen, nor is the time that a
    checkpointed function needs for saves.

    Args:
        what: A function with policies around it, or a pipeline.
        call_takes: The longest time for one call of the function itself, such as the timeout of its
            client: seconds or a `timedelta`, at least 0. None if only the policies limit that time.

    Returns:
        The figures and warnings. Printed, the object is a small tree, with the outermost layer
        first.

    Raises:
        TypeError: If *what* cannot be called, or is a policy without a function; or if *call_takes*
            is neither a number nor a `timedelta`.
        ValueError: If *call_takes* is negative, NaN or infinite.

    Example:
        >>> from mainstay import CircuitBreaker, explain, retry
        >>> @CircuitBreaker("api", on=ConnectionError)
        ... @retry(on=ConnectionError, attempts=3, wait=1.0, name="orders")
        ... def order(what: str) -> str:
        ...     return what
        >>> print(explain(order, call_takes=2.0))
        breaker api: at most 8 s, 3 calls
          retry orders: at most 8 s, 3 calls
            order: at most 2 s, 1 call
        W2 breaker api: it is around retry orders and counts calls, not attempts; put it inside
    """
    given: object = what
    if not callable(given) or (hasattr(given, "_layer") and not hasattr(given, LAYERS)):
        raise TypeError(
            f"`what` must be a function with policies around it, or a pipeline, not {what!r}"
        )
    takes = math.inf if call_takes is None else to_seconds(call_takes, "call_takes")
    layers, fn = layers_around(what)
    parts = [Part(layer=None, name=_name_of(fn), seconds=takes, after=takes)]
    for layer in reversed(layers):
        parts.insert(0, around(layer, parts[0]))
    worst, figures = parts[0], [(part.seconds, part.calls) for part in parts]
    return Explanation(
        worst_seconds=worst.seconds,
        worst_calls=worst.calls,
        places=worst.places,
        warnings=tuple(warnings_of(layers, figures, fn, takes)),
        tree="\n".join(_lines(parts)),
    )


def around(layer: Layer, inside: Part) -> Part:
    """Return the worst case of a layer with everything inside it."""
    seconds, after, places = inside.seconds, inside.after, inside.places
    one, own = min(seconds, layer.attempt_timeout), _own(layer)
    if layer.kind == "timeout":
        seconds = min(seconds, layer.timeout + (0.0 if layer.interrupts else after))
        after = 0.0 if layer.leaves else min(after, layer.timeout) if layer.interrupts else after
    elif layer.kind == "fallback":
        seconds, after = seconds + own, after + own
    else:
        cut = layer.interrupts or layer.attempt_timeout < math.inf
        late = 0.0 if cut and layer.timeout < math.inf else one
        seconds = min(_times(layer.calls, one) + layer.waits, layer.timeout + late)
        after = min(after, layer.attempt_timeout)
    return Part(
        layer=layer,
        name=str(layer),
        seconds=seconds,
        after=after,
        calls=_times(layer.calls, inside.calls),
        places=layer.at_once * places + layer.places,
    )


def _own(layer: Layer) -> float:
    """Return the longest time of the function that a layer calls after a failure."""
    return 0.0 if layer.then is None else explain(layer.then).worst_seconds


def _times(calls: float, each: float) -> float:
    """Return the product; infinite if *calls* is, even when each takes no time."""
    if calls == math.inf:
        return math.inf
    return calls * each if each else each


def _lines(parts: list[Part]) -> Iterator[str]:
    for depth, part in enumerate(parts):
        places = f", {part.places} places" if part.places > 1 else ""
        calls = "1 call" if part.calls == 1 else f"{_count(part.calls)} calls"
        seconds = "no limit" if part.seconds == math.inf else f"at most {part.seconds:.6g} s"
        yield f"{'  ' * depth}{part.name}: {seconds}, {calls}{places}"


def _count(calls: float) -> str:
    return "any number of" if calls == math.inf else f"{calls:g}"


def _name_of(fn: object) -> str:
    if hasattr(fn, LAYERS):
        return "the function"  # what a pipeline is to be around
    name = getattr(fn, "__qualname__", None)
    return name.rpartition(".")[2] if isinstance(name, str) else type(fn).__name__
