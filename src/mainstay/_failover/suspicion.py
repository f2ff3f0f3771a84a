"""Suspected members: those at which a call has failed while a healthy standby does not serve.

The standby serves once such a member is ejected. The next round of the probe may be far off, so the
suspected member is probed at once, and the call waits for the verdict instead of giving up.
"""

from collections.abc import Collection, Sequence

from mainstay._core.detector import Phase
from mainstay._failover import planner
from mainstay._failover.engine import PoolEngine
from mainstay._failover.members import Slot

_LATE_BY = 0.5
"""Seconds by which the last probe of a suspected member may be late, in a machine at work."""


def suspect(
    engine: PoolEngine,
    now: float,
    tried: Sequence[Slot],
    requested: Collection[str],
    suspects: list[Slot],
) -> float | None:
    """Have the probe asked at once about the members that failed, while a standby is left.

    Each of them may be why the standby is not started. A good answer about the one that was tried
    last ends the wait.

    Args:
        engine: The engine of the pool.
        now: The time.
        tried: The members at which the call has failed: all that serve.
        requested: The names of the members whose start the call has requested.
        suspects: The members that the call has had probed; the others are added.

    Returns:
        The seconds to wait for news; None if waiting is useless.
    """
    probe, names = engine.settings.probe, [slot.name for slot in tried]
    with engine.outbox, engine.lock:
        step = planner.next_member(
            engine.plan, engine.rules, now=now, tried=names, requested=requested
        )
        if step is not None:  # since just now
            return 0.0
        if probe is None or engine.prober is None or set(engine.plan.reserves).issubset(names):
            return None
        for slot in tried:
            if slot not in suspects and slot.detector.phase is Phase.WELL and slot.has_failures:
                suspects.append(slot)
                if slot.suspected_at is None:
                    slot.suspected_at = now
                    engine.outbox.add(engine.prober.wake)
        last = tried[-1]
        if last in suspects and last.suspected_at is None and last.detector.phase is Phase.WELL:
            return None
        since = [slot.suspected_at for slot in suspects if slot.suspected_at is not None]
        if not since:
            return None
        left = max(since) + probe.fall * probe.timeout + _LATE_BY - now
        return left if left > 0 else None
