"""`HealthReport`: the health of a pool, breaker or bulkhead, as each reports it to `health`."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import attrs

from mainstay._core.threads import values_now

T = TypeVar("T")

HealthState: TypeAlias = Literal["ok", "failing", "full", "open", "down"]
"""From the best to the worst: "failing" is one that calls still get through to."""

STATES: tuple[HealthState, ...] = get_args(HealthState)


@attrs.frozen
class HealthReport:
    """The health of one shared object.

    Attributes:
        component: Its name.
        policy: The kind of policy, as in labels.
        state: Its state.
        seconds: For how long it has been in that state.
        is_ready: True if calls may be sent to it.
    """

    component: str
    policy: str
    state: HealthState
    seconds: float
    is_ready: bool


_sources: dict[int, tuple["weakref.ref[Any]", Callable[[Any], HealthReport]]] = {}


def report_health(owner: T, read: Callable[[T], HealthReport]) -> None:
    """Have `health_reports` include what *read* returns of *owner*, as long as that lives."""
    key = id(owner)
    _sources[key] = weakref.ref(owner, lambda _: _sources.pop(key, None)), read


def health_reports() -> Iterator[HealthReport]:
    """Yield the health of every shared object of this process."""
    for owner_of, read in values_now(_sources):
        owner = owner_of()
        if owner is not None:
            yield read(owner)
