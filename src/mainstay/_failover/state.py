"""The state of a pool and the steps that change it. The caller holds the lock.

Calls read `order`, an immutable snapshot of who serves, without the lock. Steps decide with
`health` and `roster`; `plan` makes the next snapshot. Nothing of the user's runs under the lock:
what is to be started, closed, told or written goes into an outbox, and whoever has left the lock
empties it (`flush`).

The lock may be taken again by the same thread, since a signal handler may call a pool while the
thread that it interrupted is in here.
"""

import logging
import math
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from mainstay._core.ambient import surroundings
from mainstay._core.clock import SYSTEM, Clock
from mainstay._core.events import Event, Listener, publish
from mainstay._core.notes import leave_note
from mainstay._core.waiting import Signal
from mainstay._failover.events import (
    MemberBroken,
    MemberEjected,
    MemberFailing,
    MemberReadmitted,
    PoolSwitched,
)
from mainstay._failover.health import Cause, Change, Health, Phase
from mainstay._failover.members import Opened, Session, Slot, Start
from mainstay._failover.options import NO_RESOURCE, Member
from mainstay._failover.roster import Roster, Seat, staff
from mainstay._failover.rules import POLICY, Rules
from mainstay._failover.selection import LeastLatency, Pick, Priority, ramped
from mainstay._failover.starts import Tasks, Threads
from mainstay._metrics.collector import (
    Metrics,
    follow,
    member_recorder_of,
    recorder_of,
    switch_recorder_of,
)
from mainstay._metrics.pools import SwitchRecorder
from mainstay._metrics.schema import MEMBER_STATE
from mainstay.availability import Availability

LOGGER = logging.getLogger("mainstay.failover")

chance = random.random


@attrs.frozen(eq=False)
class Order:
    """Who serves, until the next change.

    Attributes:
        sessions: One for each member that serves, the most preferred first.
        pick: Gives the session of the next call.
        wake: When it has to be made anew, in seconds of the pool's clock.
    """

    sessions: tuple[Session, ...]
    pick: Pick
    wake: float


def _nobody() -> Session:
    raise LookupError("nobody serves")


NOBODY = Order((), _nobody, -math.inf)
"""The order of a pool that has to be asked for one."""


class State:
    """What a pool is at a moment.

    Attributes:
        rules: The parameters of the pool.
        metrics: Where it records.
        recorder: Where its calls are recorded.
        lock: What its state is changed under.
        slots: Its members, in the order listed.
        order: Who serves.
        epoch: How often it has switched.
        forced: The member that the user wants, or None.
        clock: The clock of the last call.
        progress: Set and replaced when a start or a trial has ended.
        listeners: Who wants to know.
        hands: What starts and closes members.
    """

    def __init__(self, rules: Rules, members: Iterable[Member], metrics: Metrics,
                 hands: Threads | Tasks) -> None:  # fmt: skip
        self.rules = rules
        self.metrics = metrics
        self.hands = hands
        self.recorder = recorder_of(metrics, rules.name, POLICY)
        self.lock = threading.RLock()
        self.slots: dict[str, Slot] = {}
        self.order = NOBODY
        self.epoch = 0
        self.forced: str | None = None
        self.clock: Clock = SYSTEM
        self.progress = Signal()
        self.listeners: tuple[tuple[Listener], ...] = ()
        self.leads: dict[str, str] = {}
        self._outbox: deque[Callable[[], object]] = deque()
        for member in members:
            self.slots[member.name] = self.slot_of(member)
        self.switches().show_outages()
        self._availability = Availability(rules.name, metrics=metrics)
        self._was_down = False
        self.anew()

    def anew(self) -> None:
        """Show the states of the members from now on; in a forked process, in files of its own."""
        self._shown = follow(self.metrics, MEMBER_STATE, self.rules.name, self)
        self._shown.changed()

    # What is told, once the lock is left.

    def flush(self) -> None:
        """Do what had to wait until the lock was left."""
        while self._outbox:
            try:
                act = self._outbox.popleft()
            except IndexError:  # another thread was first
                return
            act()

    def later(self, act: Callable[[], object]) -> None:
        """Do *act* when the lock has been left."""
        self._outbox.append(act)

    def tell(self, event: Event) -> None:
        """Log an event and hand it to the listeners, those of this pool too."""
        self.later(lambda: self._publish(event))

    def _publish(self, event: Event) -> None:
        failed = self.recorder.listener_failed
        publish(event, LOGGER, failed)
        for (listener,) in self.listeners:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 - whatever a listener raises must stay here
                failed(listener, error)

    def switches(self) -> SwitchRecorder:
        """Give the recorder of what changes in the pool."""
        return switch_recorder_of(surroundings().metrics or self.metrics, self.rules.name)

    def states(self) -> dict[str, str]:
        """Give the state of each member, as metrics name it."""
        now = self.clock.now()
        return {name: slot.state(now) for name, slot in tuple(self.slots.items())}

    # Members.

    def slot_of(self, member: Member) -> Slot:
        """Make a slot for a member."""
        recorder = member_recorder_of(self.metrics, self.rules.name, member.name)
        slot = Slot(member, Health(self.rules.detect.limits), recorder)
        if member.resource is not NO_RESOURCE:
            slot.opened = Opened(member.resource)
        self._watch(slot)
        return slot

    def others_well(self, slot: Slot) -> bool:
        """Whether any other member could take over from this one."""
        return any(
            other is not slot and other.health.phase is Phase.WELL and not other.draining
            for other in self.slots.values()
        )

    def down(self) -> bool:
        """Whether no member is well."""
        return not any(
            slot.health.phase is Phase.WELL and not slot.draining for slot in self.slots.values()
        )

    def retire(self, slot: Slot) -> None:
        """Let no new call use what a member has opened; close it when the last one is done."""
        opened = slot.opened
        if opened is None or slot.member.open is None:
            return
        slot.opened = None
        slot.cleared = False
        opened.gone = True
        self.unused(slot, opened)

    def unused(self, slot: Slot, opened: Opened) -> None:
        """Close a resource that is gone, unless somebody uses it still or has closed it."""
        if not opened.flights and not opened.closed:
            opened.closed = True
            self.later(lambda: self.hands.close(self, slot.member, opened.resource))

    def broken(self, slot: Slot, what: str, error: BaseException) -> None:
        """Tell that something that the user gave for a member has failed."""
        self.tell(MemberBroken(self.rules.name, slot.name, what, error))

    def _watch(self, slot: Slot) -> None:
        slot.watched = (
            not slot.health.spotless
            or self.rules.detect.slow < math.inf
            or isinstance(self.rules.strategy, LeastLatency)
        )

    # Results.

    def take_in(self, slot: Slot, change: Change | None, now: float) -> None:
        """Act on what a result has changed."""
        if change is Change.OVERSTEPPED:
            self.overstepped(slot, slot.health.cause, now)
        elif change is Change.TRIAL_FAILED:
            self.retire(slot)
            self.plan(now)
            self._moved_on()
        elif change is not None:
            self.readmitted(slot, now)
        self._watch(slot)

    def overstepped(self, slot: Slot, cause: Cause, now: float) -> None:
        """Eject a member that has failed too much, or let it fail on if it is the last one."""
        kept = self.forced == slot.name or (
            self.rules.when_all_down == "least_bad" and not self.others_well(slot)
        )
        if not kept:
            self.eject(slot, cause, now)
            return
        if slot.health.phase is not Phase.FAILING:
            slot.health.fail_on(cause)
            self.tell(MemberFailing(self.rules.name, slot.name, cause))
            self.shown()
        if slot.strikes >= self.rules.detect.limits.consecutive:
            slot.strikes = 0
            self.retire(slot)
            self.plan(now)

    def eject(self, slot: Slot, cause: Cause, now: float) -> None:
        """Take a member out of rotation."""
        seconds = slot.health.eject(cause, now, chance())
        slot.recorder.ejected(cause)
        self.switches().detected(seconds)
        span = slot.health.until - now
        self.tell(MemberEjected(self.rules.name, slot.name, cause, span))
        slot.rose = slot.fell = 0
        self.retire(slot)
        self.plan(now)

    def readmitted(self, slot: Slot, now: float) -> None:
        """Let a member come back that is well again."""
        failback = self.rules.failback
        if slot.health.outage:
            self.switches().recovered(slot.health.outage)
            longer = 1 + failback.jitter * chance()
            slot.rests_until = now + failback.grace * longer
            ramp = 0.0 if self.rules.fence else failback.ramp * longer
            slot.whole_at = slot.rests_until + ramp
            slot.health.since = slot.rests_until
        slot.rose = slot.fell = slot.strikes = 0
        self.tell(MemberReadmitted(self.rules.name, slot.name, slot.health.outage))
        self.plan(now)
        self._moved_on()

    def _moved_on(self) -> None:
        """Wake those who wait for something to happen."""
        old, self.progress = self.progress, Signal()
        self.later(old.set)

    # Starts.

    def begin_start(self, slot: Slot, replaces: str, now: float) -> None:
        """Have a member started."""
        fence = bool(replaces) and self.rules.fence is not None and not slot.cleared
        start = Start(now, now + slot.member.start_timeout, replaces, fence, slot.opened)
        slot.start = start
        self.later(lambda: self.hands.start(self, slot, start))

    def end_start(self, slot: Slot, error: BaseException | None, what: str, now: float) -> None:
        """Take note of how a start has ended."""
        start, slot.start = slot.start, None
        if error is None or start is None:
            slot.start_error = None
            slot.strikes = 0
            slot.cleared = slot.cleared or (start is not None and bool(start.replaces))
        else:
            if isinstance(error, Exception):
                leave_note(error, f"mainstay.failover {self.rules.name}",
                           f"{what} of member {slot.name}")  # fmt: skip
                slot.start_error = error
            self.broken(slot, what, error)
            if slot.health.phase in (Phase.WELL, Phase.FAILING):
                self.eject(slot, "probe" if what == "probe" else "consecutive", now)
            else:
                slot.health.postpone(now, chance())
        self._watch(slot)
        self.plan(now)
        self._moved_on()

    # Who serves.

    def settle(self, now: float) -> None:
        """Let happen what was to happen by itself until *now*."""
        if now < self.order.wake:
            return
        for slot in tuple(self.slots.values()):
            health = slot.health
            if health.expire(now, chance()):
                self._moved_on()
            if slot.start is not None and now >= slot.start.until:
                cancel = slot.start.cancel
                if cancel is not None:
                    self.later(cancel)
                limit = slot.member.start_timeout
                late = TimeoutError(f"starting member {slot.name} took longer than {limit:.3f} s")
                self.end_start(slot, late, "open", now)
            if self._comes_back_unseen(slot, now):
                health.readmit(now)
                self.readmitted(slot, now)
        self.plan(now)

    def _comes_back_unseen(self, slot: Slot, now: float) -> bool:
        """Whether a standby that nobody needs has been ejected for long enough."""
        return (
            slot.member.standby is not None
            and slot.health.trial_due(now)
            and (slot.opened is None or not self._lost())
            and self.rules.probe is None
        )

    def _lost(self) -> bool:
        return any(
            slot.member.standby is None and not slot.well() for slot in self.slots.values()
        )

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

    def plan(self, now: float) -> None:
        """Decide anew who serves, and have started and stopped what that needs."""
        slots = [*self.slots.values()]
        self._keep_one_failing(slots, now)
        roster = staff([self._seat(slot, now) for slot in slots])
        self._promote(slots, roster)
        self._start_and_stop(slots, roster, now)
        serving = [slots[place] for place in roster.serving]
        self._switch(slots, serving, roster)
        sessions = tuple(self._session(slot) for slot in serving)
        pick = _nobody
        if sessions:
            strategy, clock = self.rules.strategy, self.clock
            pick = ramped(sessions, lambda some: strategy.order(some, clock), clock)
        self.order = Order(sessions, pick, self._wake(slots, now) if sessions else -math.inf)
        self.shown()

    def shown(self) -> None:
        """Write the states of the members, where they have to be written, and if all are down."""
        down = self.down()
        if down != self._was_down:
            self._was_down = down
            note = self._availability.fail if down else self._availability.restore
            note()
        self.later(self._shown.changed)

    def _keep_one_failing(self, slots: list[Slot], now: float) -> None:
        """Let the least bad member fail on, if nobody would serve otherwise."""
        if self.rules.when_all_down != "least_bad" or any(slot.well() for slot in slots):
            return
        ready = [slot for slot in slots if slot.opened is not None and not slot.draining]
        if ready:
            least_bad = min(ready, key=lambda slot: slot.health.until)
            least_bad.health.fail_on(least_bad.health.cause)
            self._watch(least_bad)
            self.tell(MemberFailing(self.rules.name, least_bad.name, least_bad.health.cause))

    def _seat(self, slot: Slot, now: float) -> Seat:
        needs_fence = self.rules.fence is not None and slot.member.standby is not None
        return Seat(
            standby=slot.member.standby,
            well=slot.well(),
            rested=now >= slot.rests_until,
            whole=now >= slot.whole_at,
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
            to_try = slot.member.standby != "cold" and slot.health.trial_due(now)
            if slot.opened is None or to_clear:
                if place in roster.wanted or (to_try and not slot.draining):
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
