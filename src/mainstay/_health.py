"""`health` and `drain`: what a load balancer asks of a process, and how it is told to go away."""

import math
from collections.abc import Iterable
from typing import overload

import attrs

from mainstay._core.arguments import Duration, to_seconds
from mainstay._core.clock import SYSTEM, Clock
from mainstay._core.condition import STATES, Condition, HealthState, conditions
from mainstay._core.context import current_context
from mainstay._core.sharing import reset_with_all


@attrs.frozen
class ComponentHealth:
    """The state of one component.

    Attributes:
        component: Its name.
        policy: The kind of policy that says so: "failover", "breaker" or "bulkhead".
        state: "ok"; "failing": a member of a pool is, or a breaker lets a call through to find out;
            "full": a bulkhead has turned calls away for ten seconds; "open": a breaker; "down": no
            member of a pool is well.
        since: When that began, in seconds since 1970.
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

    It knows the pools, breakers and bulkheads of this process. Where several have one name, the
    worst of them speaks: "down", "open", "full", "failing", "ok", in this order. It calls nothing
    and waits for nothing, so it may be asked at any time, also by a signal handler.

    Liveness is no question for it: a process that answers at all is alive. Readiness looks only at
    the components that you name, which should be those without which no request can be answered. A
    name that nobody has made yet is not ready. "ok" and "failing" are ready, "full" and "open" are
    not. "down" is not, except where only a call can find out that a member is well again: a pool
    without a probe gets ready from time to time, for the next trial, or once it has got no call for
    as long as `Detect.eject_for`. After `drain` nothing is ready.

    Args:
        ready: Names of components; none of them only asks if the process drains. None for the
            health of all.

    Returns:
        The health by component; with *ready*, True if all of these are ready.

    Raises:
        TypeError: If *ready* is a str, or holds something else than names.
        ValueError: If a name in it is empty.

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
    worst: dict[str, Condition] = {}
    for each in conditions():
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
    found = [each for each in conditions() if each.component in names]
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

    It is for the end of a process, as in a handler of SIGTERM. `health` with *ready*, and the
    ``/health`` of the middlewares, say no at once, so that a load balancer looks elsewhere. For
    *seconds* requests go through as before, since it takes until its next look; then the
    middlewares refuse them. Requests that are under way, and the policies inside them, go on to
    their end. Nothing waits here. Draining again can only shorten the time, and nothing takes it
    back.

    Args:
        seconds: Seconds, or a `timedelta`, at least 0 and finite: longer than a load balancer
            takes to notice.

    Raises:
        TypeError: If *seconds* is neither a number nor a `timedelta`.
        ValueError: If *seconds* is negative, NaN or infinite.

    Metrics:
        A refused request is `calls_total{outcome="rejected"}` of its middleware, with the reason
        "full" in `give_ups_total`.

    Example:
        >>> import signal
        >>> from mainstay import drain
        >>> def end_slowly() -> None:
        ...     signal.signal(signal.SIGTERM, lambda number, frame: drain(15.0))
    """
    DRAINING.begin(to_seconds(seconds, "seconds"))
