"""What an operator does to a pool: force, release, drain, add, remove; and what they see of it."""

import math

import attrs

from mainstay._core.detector import Phase
from mainstay._failover.core import Core
from mainstay._failover.members import Slot
from mainstay._failover.options import Member


@attrs.frozen
class MemberStatus:
    """The status of one member.

    Attributes:
        name: Its name.
        state: As in `member_state`.
        open: Whether it has a resource at the moment.
        in_flight: How many calls use it.
        score: From 0.0, spotless, to 1.0, ejected.
        cause: Why it is ejected or failing; None if it is well.
        seconds: How long until an ejected one is tried again; None if it is not ejected.
        error: What starting it raised, if that failed the last time.
    """

    name: str
    state: str
    open: bool
    in_flight: int
    score: float
    cause: str | None
    seconds: float | None
    error: Exception | None


@attrs.frozen
class PoolStatus:
    """The status of a pool.

    Attributes:
        name: Its name.
        members: Its members, in the order listed.
        serving: The names of those that get calls, the most preferred first.
        epoch: How often it has switched.
        forced: The member that was forced, or None.
        down: Whether no member is well.
    """

    name: str
    members: tuple[MemberStatus, ...]
    serving: tuple[str, ...]
    epoch: int
    forced: str | None
    down: bool


def status(core: Core) -> PoolStatus:
    """Give the status of a pool."""
    now = core.clock.now()
    with core.lock:
        return PoolStatus(
            name=core.rules.name,
            members=tuple(_member_status(slot, now) for slot in core.slots.values()),
            serving=tuple(session.lease.member for session in core.order.sessions),
            epoch=core.epoch,
            forced=core.forced,
            down=core.down(),
        )


def _member_status(slot: Slot, now: float) -> MemberStatus:
    health = slot.health
    ejected = health.phase in (Phase.EJECTED, Phase.TRIAL)
    return MemberStatus(
        name=slot.name,
        state=slot.state(now),
        open=slot.opened is not None,
        in_flight=0 if slot.opened is None else len(slot.opened.flights),
        score=1.0 if ejected else health.score / health.detect.threshold,
        cause=None if health.phase is Phase.WELL else health.cause,
        seconds=max(0.0, health.until - now) if ejected else None,
        error=slot.start_error,
    )


def force(core: Core, name: str) -> None:
    """Send all calls to one member, whatever its health, until `release`."""
    with core.lock:
        _slot(core, name)
        core.forced = name
        core.plan(core.clock.now())
        core.moved_on()
    core.flush()


def release(core: Core) -> None:
    """Let the pool decide by itself again, and members that have come back serve at once."""
    now = core.clock.now()
    with core.lock:
        core.forced = None
        for slot in core.slots.values():
            slot.draining = False
            slot.rests_until = slot.whole_at = -math.inf
            displaced = slot.fenced or core.posts.get(slot.name, slot.name) != slot.name
            if displaced and slot.health.phase is not Phase.WELL and not core.rules.probe:
                slot.health.readmit(now)
            slot.fenced = False
        core.plan(core.clock.now())
        core.moved_on()
    core.flush()


def drain(core: Core, name: str) -> None:
    """Give a member no new calls; those that use it go on."""
    with core.lock:
        _slot(core, name).draining = True
        core.plan(core.clock.now())
        core.moved_on()
    core.flush()


def add(core: Core, member: Member) -> None:
    """Take a new member in, after the others."""
    with core.lock:
        if member.name in core.slots:
            raise ValueError(f"pool {core.rules.name!r} already has a member {member.name!r}")
        core.enlist(member)
        core.plan(core.clock.now())
        core.moved_on()
    core.flush()


def remove(core: Core, name: str) -> None:
    """Take a member out; what it has opened is closed when the calls that use it are done."""
    with core.lock:
        slot = _slot(core, name)
        if len(core.slots) == 1:
            raise ValueError(f"pool {core.rules.name!r} would have no members without {name!r}")
        del core.slots[name]
        if len(core.posts) > 1:
            core.posts.pop(name, None)
        if core.forced == name:
            core.forced = None
        if slot.start is not None and slot.start.cancel is not None:
            core.later(slot.start.cancel)
        slot.start = None
        core.retire(slot)
        core.plan(core.clock.now())
        core.moved_on()
    core.flush()


def _slot(core: Core, name: str) -> Slot:
    slot = core.slots.get(name)
    if slot is None:
        known = ", ".join(core.slots)
        raise ValueError(f"pool {core.rules.name!r} has no member {name!r}; it has {known}")
    return slot
