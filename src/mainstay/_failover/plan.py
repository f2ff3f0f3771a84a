"""Who serves: applies the roster to a pool, and has started and stopped what that needs.

The caller holds the lock.
"""

import math

from mainstay._failover.events import MemberFailing, PoolSwitched
from mainstay._failover.health import Phase
from mainstay._failover.members import Session, Slot, Start
from mainstay._failover.roster import Roster, Seat, staff
from mainstay._failover.selection import Priority, ramped
from mainstay._failover.state import Order, State, nobody


class Plan(State):
    """A pool that knows who serves."""

    def plan(self, now: float) -> None:
        """Decide anew who serves, and have started and stopped what that needs.

        A closed pool does that when it is opened again.
        """
        if not self.is_open:
            self.shown()
            return
        slots = [*self.slots.values()]
        self._keep_one_failing(slots)
        roster = staff([self._seat(slot, now) for slot in slots])
        self._promote(slots, roster)
        self._start_and_stop(slots, roster, now)
        serving = [slots[place] for place in roster.serving]
        self._switch(slots, serving, roster)
        sessions = tuple(self._session(slot) for slot in serving)
        pick = nobody
        if sessions:
            strategy, clock = self.rules.strategy, self.clock
            pick = ramped(sessions, lambda some: strategy.order(some, clock), clock)
        self.order: Order = Order(sessions, pick, self._wake(slots, now) if sessions else -math.inf)
        self.shown()

    def _keep_one_failing(self, slots: list[Slot]) -> None:
        """Let the least bad member fail on, if nobody would serve otherwise."""
        if self.rules.when_all_down != "least_bad" or any(slot.well() for slot in slots):
            return
        ready = [slot for slot in slots if slot.opened is not None and not slot.draining]
        if ready:
            least_bad = min(ready, key=lambda slot: slot.health.until)
            least_bad.health.fail_on(least_bad.health.cause)
            self.watch(least_bad)
            self.tell(MemberFailing(self.rules.name, least_bad.name, least_bad.health.cause))

    def _seat(self, slot: Slot, now: float) -> Seat:
        needs_fence = self.rules.fence is not None and slot.member.standby is not None
        # A member that fails, and is being opened again, is one to stand in for.
        broken = slot.health.phase is Phase.FAILING and slot.opened is None
        return Seat(
            standby=slot.member.standby,
            well=slot.well(),
            rested=now >= slot.rests_until,
            whole=now >= slot.whole_at and not broken,
            ready=slot.opened is not None and (slot.cleared or not needs_fence),
            forced=slot.name == self.forced,
        )

    def _promote(self, slots: list[Slot], roster: Roster) -> None:
        for place, slot in enumerate(slots):
            slot.promoted = place in roster.promoted
            if not slot.promoted and slot.member.standby is not None:
                slot.cleared = False

    def _start_and_stop(self, slots: list[Slot], roster: Roster, now: float) -> None:
        for place in roster.surplus:
            self.retire(slots[place])
        for place, slot in enumerate(slots):
            if slot.start is not None:
                continue
            replaced = roster.promoted.get(place)
            replaces = "" if replaced is None else slots[replaced].name
            to_clear = bool(replaces) and self.rules.fence is not None and not slot.cleared
            due = slot.member.standby != "cold" and slot.health.trial_due(now)
            wanted = place in roster.wanted and slot.health.phase in (Phase.WELL, Phase.FAILING)
            wanted = wanted or (due and (place in roster.wanted or not slot.draining))
            if wanted and (slot.opened is None or to_clear):
                self.begin_start(slot, replaces, now)

    def _session(self, slot: Slot) -> Session:
        opened = slot.opened
        if opened is None:
            raise AssertionError(f"member {slot.name} serves and is not open")
        known = slot.session
        if known is not None and (known.opened, known.generation, known.lease.epoch) == (
            opened, slot.health.generation, self.epoch
        ):  # fmt: skip
            return known
        slot.session = Session.of(slot, opened, self.epoch)
        return slot.session

    def _wake(self, slots: list[Slot], now: float) -> float:
        times = [math.inf]
        for slot in slots:
            times += [each for each in (slot.rests_until, slot.whole_at) if each > now]
            if slot.start is not None:
                times.append(slot.start.until)
            if slot.health.phase is Phase.TRIAL or (
                slot.health.phase is Phase.EJECTED
                and (slot.start is None or slot.opened is not None)
                and (slot.health.until > now or self.trials_allowed(slot))
            ):
                times.append(slot.health.until)
        return min(times)

    def _switch(self, slots: list[Slot], serving: list[Slot], roster: Roster) -> None:
        """Find out which calls go to another member than before, and count that."""
        leads = self._leads(slots, serving, roster)
        changes = {
            (self.leads[post], lead): None
            for post, lead in leads.items()
            if self.leads.get(post, lead) != lead
        }
        self.leads.update(leads)
        self.epoch += bool(changes)
        for old, new in changes:
            reason = self._reason(old)
            self.switches().switched(old, new, reason)
            self.tell(PoolSwitched(self.rules.name, old, new, reason, self.epoch))

    def _leads(self, slots: list[Slot], serving: list[Slot], roster: Roster) -> dict[str, str]:
        """Give who does the work of each post: the one that all calls go to, or each active one."""
        if isinstance(self.rules.strategy, Priority) or self.forced is not None:
            posts = self.leads if self.forced is not None else ("",)
            return {post: serving[0].name for post in posts or ("",) if serving}
        leads = {slot.name: slot.name for slot in serving if slot.member.standby is None}
        for stand_in, lost in roster.promoted.items():
            if slots[stand_in] in serving:
                leads.setdefault(slots[lost].name, slots[stand_in].name)
        return leads

    def _reason(self, old: str) -> str:
        slot = self.slots.get(old)
        if slot is None:
            return "removed"
        if slot.draining:
            return "drained"
        if self.forced is not None:
            return "forced"
        return "failback" if slot.well() and slot.opened is not None else "ejected"

    def begin_start(self, slot: Slot, replaces: str, now: float) -> None:
        """Have a member started."""
        fence = bool(replaces) and self.rules.fence is not None and not slot.cleared
        start = Start(now, now + slot.member.start_timeout, replaces, fence, slot.opened)
        slot.start = start
        self.later(lambda: self.hands.start(slot, start))

    def trials_allowed(self, slot: Slot) -> bool:
        """Whether calls may find out if an ejected member is well; a probe does it better.

        With a fence and no probe nobody but the user can know when the old one may serve again.
        """
        return (
            self.rules.probe is None
            and self.rules.fence is None
            and self.forced is None
            and not slot.draining
        )
