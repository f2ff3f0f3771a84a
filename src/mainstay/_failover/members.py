"""What a pool consists of: a slot for each member, what it has opened, and what a call takes along.

    Slot       a member in a pool: its health and its part in the roster
    Opened     a resource and the calls that use it; a slot may open several, one after another
    Session    a slot, an `Opened` and a generation of its health: what one attempt belongs to
    Lease      what users see of a session

A call says that it uses an `Opened` by an entry in its list `flights`, and takes one out when it
is done. Appending to a list and taking from it need no lock. Whoever takes the last entry out of
one that is `gone` sees to it that the resource is closed.
"""

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import attrs

from mainstay._core.detector import Detector, Phase
from mainstay._failover.options import Member
from mainstay._metrics.pools import MemberRecorder

LATENCY_MEMORY = 10.0
"""Seconds in which a slow answer's weight falls to a third."""


@attrs.frozen(eq=False)
class Lease:
    """What a call uses: one member of a pool.

    Attributes:
        member: Its name.
        resource: Its resource, the same that the call is given.
        epoch: A number that grows with every switch of the pool to another member; a resource
            that remembers the highest one it has seen can refuse calls from before the switch.
    """

    member: str
    resource: Any
    epoch: int


_LEASE: ContextVar[Lease | None] = ContextVar("mainstay_lease", default=None)

lease_here = _LEASE.get
set_lease = _LEASE.set


@attrs.define(eq=False)
class Opened:
    """A resource in use.

    Attributes:
        resource: The user's own object.
        flights: One entry for each call that uses it.
        gone: Whether no new call may use it any more.
        closed: Whether somebody has taken it on to close it.
    """

    resource: Any
    flights: list[None] = attrs.field(factory=list)
    gone: bool = False
    closed: bool = False


@attrs.define(eq=False)
class Start:
    """A member that is being started.

    Attributes:
        began: When, in seconds of the pool's clock.
        until: When it is given up.
        replaces: From whom a standby takes over: the fence has to be asked about each first.
        reused: The resource that is there already, if only the fence has to be asked.
        cancel: Ends it, if it can be ended.
    """

    began: float
    until: float
    replaces: tuple[str, ...] = ()
    reused: Opened | None = None
    cancel: Any = None


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
        """Take in an answer."""
        known = self.read(now)
        weight = math.exp(-max(0.0, now - self.at) / LATENCY_MEMORY)
        self.seconds = seconds if seconds > known else known * weight + seconds * (1 - weight)
        self.at = now

    def read(self, now: float) -> float:
        """Give the seconds that an answer has to be expected to take; less and less when idle."""
        return self.seconds * math.exp(-max(0.0, now - self.at) / LATENCY_MEMORY)


@attrs.define(eq=False)
class Slot:
    """A member in a pool.

    Attributes:
        member: What the user said of it.
        health: How well it is.
        recorder: Where its attempts are counted.
        opened: Its resource, if it is open.
        start: Its start, while it is being started.
        start_error: Why it could not be started, the last time.
        fenced: Whether it was fenced off, and nobody has said since that it may serve again.
        promoted: Whether it is a standby that stands in for a lost active member.
        draining: Whether no new call may use it, as the user said.
        rests_until: Until when it gets no calls after a readmission, if others are there.
        whole_at: When its share of the calls is whole again.
        strikes: Failures since it was opened.
        latency: How long it takes to answer.
        watched: Whether a success has to be looked at, since it may change something.
        spotted: Whether its health is not spotless.
        rose, fell: Good and bad probes in a row.
        session: The last one that was made for it.
    """

    member: Member
    health: Detector
    recorder: MemberRecorder
    opened: Opened | None = None
    start: Start | None = None
    start_error: Exception | None = None
    fenced: bool = False
    promoted: bool = False
    draining: bool = False
    rests_until: float = -math.inf
    whole_at: float = -math.inf
    strikes: int = 0
    latency: PeakLatency = attrs.field(factory=PeakLatency)
    watched: bool = False
    spotted: bool = False
    rose: int = 0
    fell: int = 0
    session: "Session | None" = None

    @property
    def name(self) -> str:
        """The member's name."""
        return self.member.name

    def well(self) -> bool:
        """Whether calls may be given to it, if it is open and rested."""
        spared = self.draining or self.fenced
        return self.health.phase in (Phase.WELL, Phase.FAILING) and not spared

    def state(self, now: float) -> str:
        """Give its state as metrics and `status()` name it."""
        if self.draining:
            return "draining"
        phase = self.health.phase
        if phase is Phase.TRIAL and now >= self.health.until:
            phase = Phase.EJECTED
        if phase is not Phase.WELL:
            return str(phase.value)
        if self.member.standby is None:
            return "active" if now >= self.rests_until else "standby_hot"
        return "active" if self.promoted else f"standby_{self.member.standby}"

    def share(self, now: float) -> float:
        """Give the part of its share of the calls that it may have now, from 0 to 1."""
        if now >= self.whole_at:
            return 1.0
        if now <= self.rests_until:
            return 0.0
        return (now - self.rests_until) / (self.whole_at - self.rests_until)


@attrs.define(eq=False)
class Session:
    """What one attempt belongs to.

    Attributes:
        slot: The member.
        opened: What it has opened.
        generation: Of the member's health.
        lease: What users see.
        flights: Those of `opened`.
        resource: That of `opened`.
        answered: Records a call that the member has answered at the first attempt.
    """

    slot: Slot
    opened: Opened
    generation: int
    lease: Lease
    flights: list[None]
    resource: Any
    answered: Callable[[float], None]

    @classmethod
    def of(cls, slot: Slot, opened: Opened, epoch: int) -> "Session":
        """Make a session of the present generation and epoch."""
        lease = Lease(slot.name, opened.resource, epoch)
        return cls(
            slot,
            opened,
            slot.health.generation,
            lease,
            opened.flights,
            opened.resource,
            slot.recorder.answered,
        )
