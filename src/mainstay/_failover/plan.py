"""Who serves: applies the roster to a pool, and has members started and stopped for it.

The caller holds the lock.
"""

import math

from mainstay._core.detector import Phase
from mainstay._failover.members import Session, Slot, Start
from mainstay._failover.roster import VACANT, Roster, Seat, staff
from mainstay._failover.selection import Priority, ramped
from mainstay._failover.state import Order, State, chance, nobody
from mainstay.events import MemberFailing, PoolSwitched


class Plan(State):
    """A pool that knows who serves."""

    def plan(self, now: float) -> None:
        """Decide anew who serves, and have members started and stopped for it.

        A closed pool does that when it is opened again.
        """
        if not self.is_open:
            self.shown()
            return
        slots = [*self.slots.values()]
        self._keep_one_failing(slots)
        roster = staff(self._seats(slots, now))
        serving = [slots[place] for place in roster.serving]
        promoted = self._promoted(slots, roster)
        self._hand_back(serving)
        self._start_and_stop(slots, roster, promoted, now)
        self._switch(serving, promoted)
        sessions = tuple(self._session(slot) for slot in serving)
        pick = nobody
        if sessions:
            strategy, clock = self.rules.strategy, self.clock.now
            pick = ramped(sessions, lambda some: strategy.order(some, clock, chance), clock, chance)
        self.order: Order = Order(sessions, pick, self._wake(slots, now) if sessions else -math.inf)
        self.shown()

    def _keep_one_failing(self, slots: list[Slot]) -> None:
        """Let the least bad member fail on, if nobody would serve otherwise."""
        if self.rules.when_all_down != "least_bad" or any(slot.well() for slot in slots):
            return
        ready = [slot for slot in slots if slot.opened is not None and not slot.draining]
        ready = [slot for slot in ready if self.may_use(slot)]
        if ready:
            least_bad = min(ready, key=lambda slot: slot.health.until)
            least_bad.health.keep_failing(least_bad.health.cause)
            self.watch(least_bad)
            self.tell(MemberFailing(self.rules.name, least_bad.name, least_bad.health.cause))

    def _seats(self, slots: list[Slot], now: float) -> list[Seat]:
        places = {s.name: place for place, s in enumerate(slots) if s.member.standby is None}
        holds: dict[str, set[int]] = {slot.name: set() for slot in slots}
        for post, holder in self.posts.items():
            holds.setdefault(holder, set()).add(places.get(post, VACANT))
        return [
            Seat(
                standby=slot.member.standby,
                well=slot.well(),
                rested=now >= slot.rests_until,
                whole=now >= slot.whole_at and not self._is_reopened(slot),
                ready=slot.opened is not None,
                forced=slot.name == self.forced,
                holds=frozenset(holds[slot.name]) if self._asks_fence(slot) else None,
            )
            for slot in slots
        ]

    def _is_reopened(self, slot: Slot) -> bool:
        """Whether it fails and is being opened again: one to stand in for."""
        return slot.health.phase is Phase.FAILING and slot.opened is None

    def _asks_fence(self, slot: Slot) -> bool:
        return self.rules.fence is not None and slot.member.standby is not None

    def _promoted(self, slots: list[Slot], roster: Roster) -> dict[Slot, tuple[str, ...]]:
        """Mark the standbys that stand in; give them, with the names of those they stand in for."""
        for place, slot in enumerate(slots):
            slot.promoted = place in roster.promoted
        names = {place: slot.name for place, slot in enumerate(slots)}
        names[VACANT] = next(iter(self.posts))
        return {
            slots[place]: tuple(names[post] for post in posts)
            for place, posts in roster.promoted.items()
        }

    def _hand_back(self, serving: list[Slot]) -> None:
        """Note that active members that serve do their own work, whoever did it before."""
        for slot in serving:
            if slot.member.standby is None:
                slot.fenced = False
                self.posts[slot.name] = slot.name

    def _start_and_stop(self, slots: list[Slot], roster: Roster,
                        promoted: dict[Slot, tuple[str, ...]], now: float) -> None:  # fmt: skip
        for place in roster.surplus:
            self.retire(slots[place])
        for place, slot in enumerate(slots):
            if slot.start is not None:
                continue
            replaces = self._replaced(slot, promoted.get(slot, ()))
            due = slot.health.trial_due(now) and (
                slot.member.standby != "cold" or slot.name == self.forced
            )
            wanted = place in roster.wanted and slot.health.phase in (Phase.WELL, Phase.FAILING)
            wanted = wanted or (due and (place in roster.wanted or not slot.draining))
            if wanted and (slot.opened is None or replaces):
                self.begin_start(slot, replaces, now)

    def _replaced(self, slot: Slot, posts: tuple[str, ...]) -> tuple[str, ...]:
        """Give whom the fence is to be asked about before a standby does *posts*."""
        if not self._asks_fence(slot):
            return ()
        holders = dict.fromkeys(self.posts[post] for post in posts)
        return tuple(holder for holder in holders if holder != slot.name)

    def take_over(self, slot: Slot, old: str) -> None:
        """Let a standby do all that *old* did, who was fenced off."""
        slot.fenced = False
        self.posts.update({post: slot.name for post, by in self.posts.items() if by == old})
        if old in self.slots:
            self.slots[old].fenced = True

    def may_use(self, slot: Slot) -> bool:
        """Whether calls at a member are safe: it does some post, and nobody takes that over."""
        if self.rules.fence is None:
            return True
        replaced = any(s.start and slot.name in s.start.replaces for s in self.slots.values())
        return slot.name in self.posts.values() and not slot.fenced and not replaced

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

    def _switch(self, serving: list[Slot], promoted: dict[Slot, tuple[str, ...]]) -> None:
        """Find out which calls go to another member than before, and count that."""
        leads = self._leads(serving, promoted)
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

    def _leads(self, serving: list[Slot], promoted: dict[Slot, tuple[str, ...]]) -> dict[str, str]:
        """Give who does the work of each post.

        Where one member gets all calls there is one post, ""; a forced one does all that there are.
        """
        if isinstance(self.rules.strategy, Priority) or self.forced is not None:
            posts = tuple(self.leads) if self.forced is not None else ()
            return dict.fromkeys(posts or ("",), serving[0].name) if serving else {}
        leads = {slot.name: slot.name for slot in serving if slot.member.standby is None}
        for stand_in, lost in promoted.items():
            for name in lost if stand_in in serving else ():
                leads.setdefault(name, stand_in.name)
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

    def begin_start(self, slot: Slot, replaces: tuple[str, ...], now: float) -> None:
        """Have a member started, and the fence asked about those whom it *replaces*."""
        start = Start(now, now + slot.member.start_timeout, replaces, slot.opened)
        slot.start = start
        self.later(lambda: self.hands.start(slot, start))

    def trials_allowed(self, slot: Slot) -> bool:
        """Whether calls may find out if an ejected member is well; a probe does it better.

        Not where a standby has taken over with a fence: without a probe, nobody but the user can
        know when the old one may serve again.
        """
        return (
            self.rules.probe is None
            and self.forced is None
            and not slot.draining
            and self.may_use(slot)
        )
