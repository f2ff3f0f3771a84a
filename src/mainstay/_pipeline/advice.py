"""The warnings of `explain`: what is, or probably is, wrong with the order of policies.

code  the layer that is named
W0    turns what has a limit into what has none; or the function, for which nothing sets one
W1    a retry around another one: more than ten calls of the function; not with `nested="once"`
W2    a breaker around a retry; a retry around a breaker whose refusals it does not look at
W3    a bulkhead or a rate limit around a retry
W4    a fallback inside a retry
W5    a timeout around a retry, too short for one attempt and the wait after it
W6    a redundant call of what takes no idempotency key
W7    a timeout around what may take longer
W8    a timeout in a thread around a function that ends no later by itself
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import attrs

from mainstay._core.layers import Layer
from mainstay.errors import CircuitOpenError

Code: TypeAlias = Literal["W0", "W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8"]

MOST_CALLS = 10
"""Of nested retries that multiply; more is a warning."""


@attrs.frozen
class LayerWarning:
    """A warning of `explain`.

    Attributes:
        code: The kind of warning, "W0" to "W8", as on the page "Combine policies".
        layer: The kind and the name of the policy in question, or the name of the function.
        text: What is wrong, and what to do.

    Example:
        >>> from mainstay import explain
        >>> (warning,) = explain(len).warnings
        >>> warning.code, warning.layer
        ('W0', 'len')
    """

    code: Code
    layer: str
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.layer}: {self.text}"


def warnings_of(
    layers: Sequence[Layer],
    worst: Sequence[tuple[float, float]],
    fn: Callable[..., Any],
    takes: float,
) -> Iterator[LayerWarning]:
    """Yield what is to be said of *layers*, the outermost first.

    Args:
        layers: The layers.
        worst: The longest time and the most calls of each, and of the function last.
        fn: The function.
        takes: The longest that it takes.
    """
    yield from _without_limit(layers, worst, fn)
    for place, layer in enumerate(layers):
        inside = layers[place + 1 :]
        retry = next((each for each in inside if each.kind == "retry"), None)
        _, calls = worst[place + 1]
        if layer.kind == "retry":
            yield from _of_retry(layer, inside, retry, layer.calls * calls if calls else 0)
        if retry is not None:
            yield from _around_retry(layer, retry)
        if layer.kind == "timeout":
            yield from _of_timeout(layer, inside, [each for each, _ in worst[place + 1 :]])
            if layer.leaves and not inside and takes <= layer.timeout:
                text = (
                    f"it never ends anything, since the function takes at most {takes:g} s by "
                    f"itself, and the thread is for nothing; leave it out, or make it shorter"
                )
                yield LayerWarning("W8", str(layer), text)
        if layer.kind == "redundant" and not _takes_key(fn):
            text = (
                "it may do the work more than once, and no parameter of the function is an "
                "idempotency key; whether that is safe cannot be told from here"
            )
            yield LayerWarning("W6", str(layer), text)


def _without_limit(
    layers: Sequence[Layer], worst: Sequence[tuple[float, float]], fn: Callable[..., Any]
) -> Iterator[LayerWarning]:
    names = [*map(str, layers), getattr(fn, "__name__", type(fn).__name__)]
    if worst[0][0] == math.inf:
        place = next(
            (place for place, (seconds, _) in enumerate(worst) if seconds < math.inf), len(worst)
        )
        told = any(layer.kind == "timeout" for layer in layers)  # and interrupts nothing
        limit = "give its `timeout` `in_thread=True`" if told else "put a `timeout` around it"
        if place == len(worst):
            hint = f"set `call_takes=` to what its client allows, or {limit}"
        elif layers[place - 1].kind == "fallback":
            hint = "what its `call` takes is not known; put a `timeout` around that"
        elif layers[place - 1].stops:
            hint = "what its `stop` comes to cannot be told; give it a `timeout` as well"
        else:
            hint = "what is inside has a limit, and this has none"
        text = f"nothing bounds how long it takes; {hint}"
        yield LayerWarning("W0", names[place - 1], text)
    if worst[0][1] == math.inf:
        place = next(place for place, (_, calls) in enumerate(worst) if calls < math.inf)
        text = "nothing bounds how many calls it makes; " + (
            "what its `stop` comes to cannot be told; give it `attempts` as well"
            if layers[place - 1].stops
            else "set `attempts=`"
        )
        yield LayerWarning("W0", names[place - 1], text)


def _of_retry(
    layer: Layer, inside: Sequence[Layer], retry: Layer | None, calls: float
) -> Iterator[LayerWarning]:
    if retry is not None and calls > MOST_CALLS and not layer.once:
        number = "any number of calls" if calls == math.inf else f"{calls:g} calls"
        text = f"it is around {retry}: together they make up to {number}; retry in one place"
        yield LayerWarning("W1", str(layer), text)
    breaker = next((each for each in inside if each.kind == "breaker"), None)
    if breaker is not None and layer.misses(CircuitOpenError):
        text = (
            f"its `on` does not name RejectedError, so it gives up at once where {breaker} is "
            f"open; add it to `on` to wait for the time that the breaker says"
        )
        yield LayerWarning("W2", str(layer), text)
    fallback = next((each for each in inside if each.kind == "fallback"), None)
    if fallback is not None:
        text = f"it is inside of {layer}, which sees no failure then; put it outside"
        yield LayerWarning("W4", str(fallback), text)


def _around_retry(layer: Layer, retry: Layer) -> Iterator[LayerWarning]:
    if layer.kind == "breaker":
        text = f"it is around {retry} and counts calls, not attempts; put it inside"
        yield LayerWarning("W2", str(layer), text)
    elif layer.kind == "bulkhead":
        text = f"it is around {retry}, whose waits hold a place; put it inside"
        yield LayerWarning("W3", str(layer), text)
    elif layer.kind == "rate_limit":
        text = f"it is around {retry}, whose attempts it does not count; put it inside"
        yield LayerWarning("W3", str(layer), text)


def _of_timeout(
    layer: Layer, inside: Sequence[Layer], seconds: Sequence[float]
) -> Iterator[LayerWarning]:
    """Yield what is to be said of a timeout, where *seconds* are the longest of what is inside."""
    for place, each in enumerate(inside):
        attempt = min(seconds[place + 1], each.attempt_timeout)
        wait = 0.0 if each.first_wait == math.inf else each.first_wait  # may be a short one
        if each.kind == "retry" and each.calls > 1 and layer.timeout < attempt + wait < math.inf:
            text = (
                f"its {layer.timeout:g} s are too short for one attempt of {each} and the wait "
                f"after it, {attempt + wait:g} s: there may be no second one"
            )
            yield LayerWarning("W5", str(layer), text)
            return
    if layer.timeout < seconds[0] < math.inf and inside:
        text = (
            f"what is inside may take {seconds[0]:g} s, and has {layer.timeout:g} s; make its "
            f"limits fit"
        )
        yield LayerWarning("W7", str(layer), text)


def _takes_key(fn: Callable[..., Any]) -> bool:
    """True if a parameter of a function is named as an idempotency key is."""
    try:
        names = inspect.signature(fn).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    return any("idempotency" in name.lower() for name in names)
