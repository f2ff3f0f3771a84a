"""The parts of a pool: a slot for each member, its opened resources, and the handle of a call.

    Slot            a member in a pool: its health, and its part in the plan
    OpenedResource  a resource and the calls that use it; a slot may open several in turn
    MemberHandle    a slot, its opened resource and the generation of its health: what one attempt
                    belongs to
    Lease           what users see of a handle

A call that uses an `OpenedResource` adds an entry to its list `flights`, and removes one when it is
done: both need no lock. The call that removes the last entry of one that is `gone` has its resource
closed.
"""

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

import attrs

from mainstay._core.detector import Detector, Phase
from mainstay._failover.options import Member
from mainstay._failover.planner import MemberView
from mainstay._metrics.collector import Metrics, recorders_of
from mainstay._metrics.pools import MemberRecorder
from mainstay.errors import MainstayError

R = TypeVar("R")

LATENCY_MEMORY = 10.0
"""Seconds in which a slow answer's weight falls to a third."""


@attrs.frozen(eq=False)
class Lease(Generic[R]):
    """The right of a call to use one member of a pool.

    Attributes:
        member: The name of the member.
        resource: The resource of the member, which the call got as its argument.
        epoch: A number that grows with every switch of the pool to another member. A resource that
            remembers the highest epoch can refuse calls from before the last switch.

    Example:
        >>> from mainstay import FailoverPool, Member, current_lease
        >>> pool = FailoverPool("db", [Member("a", "connection")], on=OSError)
        >>> with pool.lease():
        ...     lease = current_lease()
        >>> lease.member, lease.resource, lease.epoch
        ('a', 'connection', 0)
    """

    member: str
    resource: R = attrs.field(repr=False)  # may be an address with a password
    epoch: int


_LEASE: "ContextVar[Lease[Any] | LeaseEntry | None]" = ContextVar("mainstay_lease", default=None)

lease_here = _LEASE.get
set_lease = _LEASE.set


class LeaseEntry:
    """The lease of a block: in force while that is open, in whatever order blocks are left.

    A call of a function needs none, since nothing outlasts it.
    """

    __slots__ = ("_outer", "_over", "lease")

    def __init__(self, lease: Lease[Any]) -> None:
        self.lease: Lease[Any] = lease
        self._over = False
        self._outer = _in_force(lease_here())
        set_lease(self)

    def leave(self) -> None:
        """End it, and no other one."""
        self._over = True
        if lease_here() is self:
            set_lease(_in_force(self))


def _in_force(here: "Lease[Any] | LeaseEntry | None") -> "Lease[Any] | LeaseEntry | None":
    while isinstance(here, LeaseEntry) and here._over:  # noqa: SLF001 - its own module
        here = here._outer  # noqa: SLF001 - as above
    return here


def lease_in_force() -> Lease[Any] | None:
    """Return the lease of the call or block that is around the code, if there is one."""
    here = _in_force(lease_here())
    return here.lease if isinstance(here, LeaseEntry) else here


@attrs.define(eq=False)
class OpenedResource:
    """A resource in use.

    Attributes:
        flights: One entry for each call that uses it.
        gone: True if no new call may use it any more.
        closed: True if a thread or task is closing it, or has closed it.
    """

    resource: Any
    flights: list[None] = attrs.field(factory=list)
    gone: bool = False
    closed: bool = False

    def claim(self) -> bool:
        """True for exactly one caller, which has to close the resource, once it is `gone`."""
        if self.flights or self.closed:
            return False
        self.closed = True
        return True


@attrs.define(eq=False)
class MemberStart:
    """A member that is being started.

    Attributes:
        began: When the start began, in seconds of the pool's clock.
        until: When the pool stops waiting for the start.
        replaces: The members for which the fence is called first.
        reused: The resource, if it is open already and only the fence is called.
        cancel: Cancels the task of the start, if there is one.
        runs_in: The task or thread in which it runs, once that has begun.
    """

    began: float
    until: float
    replaces: tuple[str, ...] = ()
    reused: OpenedResource | None = None
    cancel: Callable[[], object] | None = None
    runs_in: object = None

    def stop(self) -> None:
        """End it, if it can be ended."""
        if self.cancel is not None:
            self.cancel()


@attrs.define(eq=False)
class PeakLatency:
    """How long a member takes to answer: rises at once, and falls slowly.

    Source:
        The peak EWMA of Finagle's load balancer. It is written without a lock: of two answers at
        the same moment one may be lost.
    """

    seconds: float = 0.0
    at: float = -math.inf

    def add(self, seconds: float, now: float) -> None:
        """Record an answer."""
        known = self.read(now)
        weight = math.exp(-max(0.0, now - self.at) / LATENCY_MEMORY)
        self.seconds = seconds if seconds > known else known * weight + seconds * (1 - weight)
        self.at = now

    def read(self, now: float) -> float:
        """Return the seconds that an answer is expected to take; less and less when idle."""
        return self.seconds * math.exp(-max(0.0, now - self.at) / LATENCY_MEMORY)


@attrs.define(eq=False)
class Slot:
    """A member in a pool.

    Attributes:
        measured: True if every answer is inspected, for its latency.
        start: The present start of the member, if there is one.
        start_error: The exception of the last start, if that failed.
        barred: True if the member gets no calls, however healthy, until it is readmitted.
        promoted: True if the member is a standby that stands in for a lost active member.
        drained_by: Who drains the member: the user, an alert, or both.
        grace_until: The end of the grace period after a readmission.
        ramp_until: The end of the ramp, when the share of calls is whole again.
        strikes: The number of failures since the member was opened.
        has_failures: True if the detector has recorded failures.
        inspected: True if successes are inspected, since they may change the health.
        good_probes, bad_probes: The number of good and of failed probes in a row.
        handle: The last handle that was made for the member.
    """

    member: Member[Any]
    detector: Detector
    recorder: MemberRecorder
    measured: bool
    opened: OpenedResource | None = None
    start: MemberStart | None = None
    start_error: Exception | None = None
    barred: bool = False
    promoted: bool = False
    drained_by: set[object] = attrs.field(factory=set)
    grace_until: float = -math.inf
    ramp_until: float = -math.inf
    strikes: int = 0
    latency: PeakLatency = attrs.field(factory=PeakLatency)
    has_failures: bool = False
    inspected: bool = False
    good_probes: int = 0
    bad_probes: int = 0
    suspected_at: float | None = None
    handle: "MemberHandle | None" = None

    @property
    def name(self) -> str:
        """The member's name."""
        return self.member.name

    @property
    def draining(self) -> bool:
        """True if no new call may use it."""
        return bool(self.drained_by)

    @property
    def well(self) -> bool:
        """True if calls may be given to it, if it is open and past its grace."""
        in_rotation = self.detector.phase in (Phase.WELL, Phase.FAILING)
        return in_rotation and not self.draining and not self.barred

    def recorder_in(self, metrics: Metrics | None, component: str) -> MemberRecorder:
        """Return where its attempts are counted: in *metrics*, or where the pool records."""
        if metrics is None:
            return self.recorder
        return recorders_of(metrics).member(component, self.name)

    def view(self) -> MemberView:
        """Return what planning needs to know of it."""
        return MemberView(
            name=self.member.name,
            standby=self.member.standby,
            phase=self.detector.phase,
            trial_at=self.detector.until,
            is_open=self.opened is not None,
            draining=self.draining,
            barred=self.barred,
            grace_until=self.grace_until,
            ramp_until=self.ramp_until,
            start_until=None if self.start is None else self.start.until,
            start_timeout=self.member.start_timeout,
        )

    def state(self, now: float) -> str:
        """Return its state as metrics and `status()` name it."""
        if self.draining:
            return "draining"
        phase = self.detector.phase
        if phase is Phase.TRIAL and now >= self.detector.until:
            phase = Phase.EJECTED
        if phase is not Phase.WELL:
            return str(phase.value)
        if self.member.standby is None:
            return "active" if now >= self.grace_until else "standby_hot"
        return "active" if self.promoted else f"standby_{self.member.standby}"

    def absence(self, now: float) -> Exception:
        """Return why the member got no call: the exception of its start, or else its state."""
        error = self.start_error
        if error is not None:
            return error
        return MainstayError(f"member {self.member.name} is {self._absence(now)}")

    def _absence(self, now: float) -> str:
        if self.draining:
            return "drained"
        if self.start is not None:
            return "still being opened"
        if self.detector.phase is Phase.EJECTED or self.detector.phase is Phase.TRIAL:
            return f"ejected; next trial in {max(0.0, self.detector.until - now):.1f} s"
        if self.barred:
            return "fenced off"
        return "standing by" if self.opened is not None else "not open"

    def share(self, now: float) -> float:
        """Return the part of its share of the calls that it may have now, from 0 to 1."""
        if now >= self.ramp_until:
            return 1.0
        if now <= self.grace_until:
            return 0.0
        return (now - self.grace_until) / (self.ramp_until - self.grace_until)

    def inspect(self) -> None:
        """Update `has_failures` and `inspected` after a change of the health."""
        self.has_failures = not self.detector.pristine
        self.inspected = self.has_failures or self.measured or self.detector.too_slow < math.inf

    def take_away(self) -> OpenedResource | None:
        """Keep new calls from what it has opened; return that, to be closed."""
        opened = self.opened
        if opened is None or self.member.open is None:
            return None
        self.opened = None
        opened.gone = True
        return opened

    def begin_start(self, now: float, replaces: tuple[str, ...] = ()) -> MemberStart:
        """Record that a start of the member begins; return the start."""
        until = now + self.member.start_timeout
        self.start = MemberStart(now, until, replaces, self.opened)
        return self.start

    def handle_at(self, epoch: int) -> "MemberHandle":
        """Return the handle of the present resource, generation and epoch."""
        opened, generation = self.opened, self.detector.generation
        if opened is None:
            raise AssertionError(f"member {self.name} serves and is not open")
        known = self.handle
        if known is None or (known.opened, known.generation, known.lease.epoch) != (
            opened,
            generation,
            epoch,
        ):
            lease = Lease(self.name, opened.resource, epoch)
            known = self.handle = MemberHandle(
                self, opened, generation, lease, opened.flights, opened.resource,
                self.recorder.answered,
            )  # fmt: skip
        return known


@attrs.define(eq=False)
class MemberHandle:
    """What one attempt belongs to.

    Attributes:
        generation: Of the detector, which the result belongs to.
        flights, resource: Those of `opened`.
        answered: Records a call that the member has answered at the first attempt.
    """

    slot: Slot
    opened: OpenedResource
    generation: int
    lease: Lease[Any]
    flights: list[None]
    resource: Any
    answered: Callable[[float], None]
