"""`Condition`: the health of a pool, breaker or bulkhead, as each reports it to `health`."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias, TypeVar

import attrs

from mainstay._core.threads import values_now

T = TypeVar("T")

HealthState: TypeAlias = Literal["ok", "failing", "full", "open", "down"]
"""From the best to the worst: "failing" is one that calls still get through to."""

STATES: tuple[HealthState, ...] = ("ok", "failing", "full", "open", "down")


@attrs.frozen
class Condition:
    """How one shared object is.

    Attributes:
        component: Its name.
        policy: The kind of policy, as in labels.
        state: The state that it is in.
        seconds: For how long.
        is_ready: True if calls may be sent to it.
    """

    component: str
    policy: str
    state: HealthState
    seconds: float
    is_ready: bool


_sources: dict[int, tuple["weakref.ref[Any]", Callable[[Any], Condition]]] = {}


def tell_condition(owner: T, read: Callable[[T], Condition]) -> None:
    """Have `conditions` ask *owner* by *read*, as long as that lives."""
    key = id(owner)
    _sources[key] = weakref.ref(owner, lambda _: _sources.pop(key, None)), read


def conditions() -> Iterator[Condition]:
    """Yield how everything is that lives."""
    for owner_of, read in values_now(_sources):
        owner = owner_of()
        if owner is not None:
            yield read(owner)
