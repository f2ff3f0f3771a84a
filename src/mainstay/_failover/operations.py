"""The operations of a pool's owner: open, close, force, drain, release, add and remove.

Each operation is one step under the lock of the pool. `FailoverPool` says what each means to users;
the alerts of `alerted` drain and release in the same way.
"""

import math
from typing import Any, Final

from mainstay._core.context import current_context
from mainstay._core.detector import Phase
from mainstay._core.functions import Kind, kind_of
from mainstay._core.threads import Pause, values_now
from mainstay._failover.engine import PoolEngine
from mainstay._failover.fencing import Fencing
from mainstay._failover.members import Slot
from mainstay._failover.openers import TaskOpener, ThreadOpener
from mainstay._failover.options import Member
from mainstay._failover.planner import Plan
from mainstay._failover.settings import PoolSettings, check_type

BY_HAND: Final = "the user"
"""Who drains a member by `drain`."""


def opening(engine: PoolEngine) -> Pause | None:
    """Open a pool; return how long to wait for its members, None if all starts have ended."""
    clock = engine.monitor.clock = current_context().clock
    engine.open()
    now = clock.now()
    engine.settle(now)
    progress, ends = engine.progress, engine.plan.starting.values()
    return Pause(clock, max(0.0, max(ends) - now), progress) if ends else None


def close(engine: PoolEngine) -> None:
    """Close a sync pool, and wait until its threads have ended, but for those that hang."""
    engine.stop()
    if isinstance(engine.opener, ThreadOpener):
        engine.opener.join()


async def aclose(engine: PoolEngine) -> None:
    """Close a pool, and await its tasks if it is async, but for those that hang."""
    if not isinstance(engine.opener, TaskOpener):
        close(engine)
        return
    engine.stop()
    limits = [slot.member.start_timeout for slot in values_now(engine.slots)]
    await engine.opener.join(max(limits, default=0.0))


def reset(engine: PoolEngine, settings: PoolSettings) -> None:
    """Reset a pool to its initial state, with *settings*; results of running calls do not count."""
    opener = engine.opener
    engine.stop()
    with engine.outbox, engine.lock:
        engine.settings = settings
        engine.slots.clear()
        engine.answers.clear()
        engine.fencing = Fencing() if settings.fence is not None else None
        engine.plan = Plan()
        engine.epoch, engine.forced, engine.last_active = 0, None, ""
        for member in engine.members:
            engine.enlist(member)
        engine.monitor.refresh()
    if isinstance(opener, ThreadOpener):
        opener.join()
    else:
        opener.reset()


def force(engine: PoolEngine, name: object) -> None:
    """Send all calls to a member, whatever its health."""
    with engine.outbox, engine.lock:
        engine.forced = _slot_of(engine, name).name
        engine.replan(engine.monitor.clock.now(), news=True)


def release(engine: PoolEngine, name: object) -> None:
    """Undo what has been forced, drained or fenced off: of one member, or of all for None."""
    now, fencing = engine.monitor.clock.now(), engine.fencing
    with engine.outbox, engine.lock:
        slots = engine.slots.values() if name is None else (_slot_of(engine, name),)
        if name in (None, engine.forced):
            engine.forced = None
        for slot in slots:
            slot.drained_by.clear()
            slot.grace_until = slot.ramp_until = -math.inf
            # Without a probe, only the user can know that the member may serve again.
            displaced = fencing is not None and fencing.is_displaced(slot)
            ejected = slot.detector.phase is not Phase.WELL
            if displaced and ejected and engine.settings.probe is None:
                slot.detector.readmit(now)
            slot.barred = False
        engine.replan(now, news=True)


def drain(engine: PoolEngine, name: object) -> None:
    """Keep new calls from a member."""
    with engine.outbox, engine.lock:
        _slot_of(engine, name).drained_by.add(BY_HAND)
        engine.replan(engine.monitor.clock.now(), news=True)


def add(engine: PoolEngine, member: Member[Any]) -> None:
    """Add another member, after the others."""
    pool = engine.settings.name
    check_type("member", member, Member)
    for hook in (member.open, member.close):
        if hook is not None and kind_of(hook) is Kind.ASYNC and not engine.settings.is_async:
            raise TypeError(f"member {member.name!r} is async, and pool {pool!r} is not")
    with engine.outbox, engine.lock:
        if member.name in engine.slots:
            raise ValueError(f"pool {pool!r} already has a member {member.name!r}")
        engine.enlist(member)
        engine.replan(engine.monitor.clock.now(), news=True)


def remove(engine: PoolEngine, name: object) -> None:
    """Remove a member; its resource is closed when no call uses it any more."""
    with engine.outbox, engine.lock:
        slot = _slot_of(engine, name)
        if len(engine.slots) == 1:
            pool = engine.settings.name
            raise ValueError(f"pool {pool!r} would have no members without {slot.name!r}")
        del engine.slots[slot.name]
        if slot.member.standby is None:
            engine.last_active = slot.name
        if engine.fencing is not None:
            engine.fencing.leave(slot.name)
        if engine.forced == slot.name:
            engine.forced = None
        if slot.start is not None:
            engine.outbox.add(slot.start.stop)
            slot.start = None
        engine.close(slot, slot.take_away())
        engine.replan(engine.monitor.clock.now(), news=True)


def _slot_of(engine: PoolEngine, name: object) -> Slot:
    """Return the member with a name, as users give it."""
    check_type("name", name, str)
    slot = engine.slots.get(str(name))
    if slot is None:
        known = ", ".join(engine.slots)
        raise ValueError(f"pool {engine.settings.name!r} has no member {name!r}; it has {known}")
    return slot
