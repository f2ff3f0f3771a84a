"""`AlertedPool`: a pool whose members are drained while alerts about them fire.

Changes by hand win: a member that was drained by hand stays drained when the alert is over, a
forced member is left alone, and a member that was released while the alert fires serves until
another alert, or the same alert again, names it. The last ready member is never drained; if another
member is ready at the next notification, it is. Used by `integrations.alertmanager.Receiver`.
"""

from collections.abc import Iterable
from typing import Literal, TypeAlias

import attrs

from mainstay._core.detector import Phase
from mainstay._core.threads import values_now
from mainstay._failover.alert_log import AlertLog
from mainstay._failover.engine import PoolEngine
from mainstay._failover.members import Slot
from mainstay._metrics.alertmanager import Notice

What: TypeAlias = Literal[
    "drained", "drained too", "forced", "last", "released", "over", "older", "full", "unknown"
]
"""What came of an alert: "over" if its member stays drained by hand."""


@attrs.frozen
class AlertOutcome:
    """What came of an alert about a member.

    Attributes:
        what: What.
        member: Whom it is about.
        alert: What the alert is called.
    """

    what: What
    member: str
    alert: str


class AlertedPool:
    """A pool, and the alerts about it.

    Its state is under the lock of the pool, so that decisions are carried out one after the other.
    """

    def __init__(self, engine: PoolEngine) -> None:
        self._engine = engine
        self._log = AlertLog()

    def reset(self) -> None:
        """Forget all alerts."""
        with self._engine.lock:
            self._log = AlertLog()

    def take(self, notices: Iterable[tuple[str, Notice]]) -> list[AlertOutcome]:
        """Carry out a notification: release members whose alerts are over, then drain others."""
        engine, outcomes = self._engine, list[AlertOutcome]()
        with engine.outbox, engine.lock:
            names: dict[str, str] = {}
            for member, notice in notices:
                if member not in engine.slots:
                    outcomes.append(AlertOutcome("unknown", member, notice.name))
                    if notice.status == "firing":  # the end is recorded, for a member added again
                        continue
                taken = self._log.take(notice, member)
                names[member] = notice.name
                if taken in ("older", "full"):
                    outcomes.append(AlertOutcome(taken, member, notice.name))
            acts = self._release(names) + self._drain()
            if any(each.what in ("drained", "released") for each in acts):
                engine.replan(engine.monitor.clock.now(), news=True)
        return outcomes + acts

    def _release(self, names: dict[str, str]) -> list[AlertOutcome]:
        """Release the members that no alert is about any more."""
        acts = list[AlertOutcome]()
        for slot in self._engine.slots.values():
            if self not in slot.drained_by or self._log.is_about(slot.name):
                continue
            slot.drained_by.discard(self)
            what: What = "over" if slot.draining else "released"
            acts.append(AlertOutcome(what, slot.name, names.get(slot.name, "")))
        return acts

    def _drain(self) -> list[AlertOutcome]:
        """Drain the members that alerts are about, as far as others are ready."""
        acts = list[AlertOutcome]()
        for member, alerts in self._log.unmet().items():
            slot = self._engine.slots.get(member)
            if slot is None:  # removed since
                continue
            what = self._may_drain(slot)
            acts.append(AlertOutcome(what, member, alerts[0].name))
            if what in ("drained", "drained too"):
                slot.drained_by.add(self)
                for alert in alerts:
                    alert.is_met = True
        return acts

    def _may_drain(self, slot: Slot) -> What:
        engine = self._engine
        if slot.name == engine.forced:
            return "forced"
        if slot.draining:
            return "drained too"
        others = [each for each in values_now(engine.slots) if each is not slot]
        return "drained" if any(_is_ready(each, engine) for each in others) else "last"


def _is_ready(slot: Slot, engine: PoolEngine) -> bool:
    """True if calls can go to a member at once; of a pool that is not open, once that is."""
    opens = not engine.is_open and slot.member.standby != "cold"
    return slot.detector.phase is Phase.WELL and slot.well and (slot.opened is not None or opens)
