"""`health` and `drain`: if a process is ready for requests, and how it stops getting them."""

import math
from collections.abc import Iterable
from typing import overload

import attrs

from mainstay._core.arguments import Duration, to_seconds
from mainstay._core.clock import SYSTEM, Clock
from mainstay._core.context import current_context
from mainstay._core.health import STATES, HealthReport, HealthState, health_reports
from mainstay._core.sharing import reset_with_all


@attrs.frozen
class ComponentHealth:
    """The state of one component.

    Attributes:
        component: The name of the component.
        policy: The kind of its policy: "failover", "breaker" or "bulkhead".
        state: "ok"; "failing": a member of the pool is failing or ejected, or the breaker is
            half-open; "full": the bulkhead has rejected calls for ten seconds; "open": the breaker
            is open; "down": no member of the pool is well.
        since: When that state began, in seconds since 1970.

    Example:
        >>> from mainstay import CircuitBreaker, health
        >>> breaker = CircuitBreaker("parcels", on=OSError)
        >>> health()["parcels"].state
        'ok'
    """

    component: str
    policy: str
    state: HealthState
    since: float


class Draining:
    """The end of the process's work: if it is near, and when what still comes is refused.

    Attributes:
        refuses_at: When it begins to refuse, in seconds of `clock`; infinity if it does not drain.
        clock: That of the code that asked for it.
    """

    __slots__ = ("__weakref__", "clock", "refuses_at")

    def __init__(self) -> None:
        self.refuses_at: float = math.inf
        self.clock: Clock = SYSTEM

    def begin(self, seconds: float) -> None:
        """Drain from now on, and refuse after *seconds*, or sooner if that was said before."""
        clock = current_context().clock
        left = min(seconds, self.refuses_at - self.clock.now())
        self.clock, self.refuses_at = clock, clock.now() + left

    def refuses(self) -> bool:
        """True if work is refused now."""
        return self.refuses_at < math.inf and self.clock.now() >= self.refuses_at

    def end(self) -> None:
        """Be as if nobody had asked for it."""
        self.refuses_at = math.inf


DRAINING = Draining()
reset_with_all(DRAINING, Draining.end)


@overload
def health(ready: None = None) -> dict[str, ComponentHealth]: ...


@overload
def health(ready: Iterable[str]) -> bool: ...


def health(ready: Iterable[str] | None = None) -> dict[str, ComponentHealth] | bool:
    """Return the state of each component; with *ready*, whether the process is ready.

    The components are the pools, breakers and bulkheads of this process. If several have the same
    name, the worst state counts: "down", "open", "full", "failing", "ok", in this order. The
    function calls no other code and never waits, so it may be called at any time, also from a
    signal handler.

    For liveness no function is needed: a process that answers is alive. For readiness, name the
    components without which the process cannot answer any request. "ok" and "failing" are ready;
    "full" and "open" are not; a name that no pool, breaker or bulkhead has yet is not ready. "down"
    is not ready, with one exception: in a pool without a probe, only a call can find out that a
    member works again, so the pool is ready from time to time for the next trial, and after
    `Detect.eject_for` without a call. After `drain` nothing is ready.

    Args:
        ready: The names of components. With no names, the answer is False only if the process
            drains. None for the health of all components.

    Returns:
        The health by component; with *ready*, True if all these components are ready.

    Raises:
        TypeError: If *ready* is a str, or contains other objects than names.
        ValueError: If a name in *ready* is empty.

    Example:
        >>> from mainstay import CircuitBreaker, health
        >>> breaker = CircuitBreaker("carrier", on=OSError)
        >>> health(ready=("carrier",))
        True
        >>> breaker.open()
        >>> health()["carrier"].state, health(ready=("carrier",))
        ('open', False)
    """
    if ready is not None:
        return not why_not_ready(checked_ready(ready))
    worst: dict[str, HealthReport] = {}
    for each in health_reports():
        known = worst.get(each.component)
        if known is None or STATES.index(each.state) > STATES.index(known.state):
            worst[each.component] = each
    now = current_context().clock.wall()
    return {
        name: ComponentHealth(name, each.policy, each.state, now - each.seconds)
        for name, each in sorted(worst.items())
    }


def why_not_ready(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return in words what keeps the process from being ready; empty if it is ready.

    Args:
        names: The components that have to be ready.
    """
    draining = ("the process drains",) if DRAINING.refuses_at < math.inf else ()
    if not names:
        return draining
    found = [each for each in health_reports() if each.component in names]
    unready = {f"{each.component} is {each.state}": None for each in found if not each.is_ready}
    known = {each.component for each in found}
    unknown = [f"no component is named {name}" for name in names if name not in known]
    return (*draining, *unready, *unknown)


def checked_ready(ready: object) -> tuple[str, ...]:
    """Return the names of components that are to be ready.

    Raises:
        TypeError: If that is a str, or holds something else than names.
        ValueError: If a name is empty.
    """
    if isinstance(ready, str) or not isinstance(ready, Iterable):
        raise TypeError(f"`ready` must hold names of components, as ('orders-db',), not {ready!r}")
    names = tuple(ready)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"`ready` must hold names of components, not {name!r}")
        if not name:
            raise ValueError(f"`ready` must hold names that are not empty, not {name!r}")
    return names


def drain(seconds: Duration = 0.0) -> None:
    """Take this process out of service: not ready from now on, no requests after *seconds*.

    Call this function before the process ends, as in a handler of SIGTERM. From now on `health`
    with *ready*, and the page ``/health`` of the middlewares, answer that the process is not ready,
    so that a load balancer sends requests elsewhere. Until the load balancer has noticed, for
    *seconds*, requests go through as before; after that the middlewares refuse new requests.
    Requests that have begun go on to their end. The function itself does not wait. Calling it again
    can only shorten the time, and draining cannot be undone.

    Args:
        seconds: The time until requests are refused: seconds or a `timedelta`, at least 0 and
            finite; longer than the load balancer takes to notice.

    Raises:
        TypeError: If *seconds* is neither a number nor a `timedelta`.
        ValueError: If *seconds* is negative, NaN or infinite.

    Metrics:
        A refused request counts in `calls_total{outcome="rejected"}` of its middleware, and in
        `give_ups_total` with the reason "full".

    Example:
        >>> import signal
        >>> from mainstay import drain
        >>> def end_slowly() -> None:
        ...     signal.signal(signal.SIGTERM, lambda number, frame: drain(15.0))
    """
    DRAINING.begin(to_seconds(seconds, "seconds"))
