"""What results, starts and the passing of time change in a pool.

The caller holds the lock, but for the last two methods.
"""

from mainstay._core.context import current_context
from mainstay._core.detector import Cause, HealthChange, Phase
from mainstay._core.failures import leave_note
from mainstay._core.threads import values_now
from mainstay._failover.members import Opened, Slot, Start
from mainstay._failover.options import Member
from mainstay._failover.plan import Plan
from mainstay._failover.state import chance
from mainstay.events import (
    MemberBroken,
    MemberEjected,
    MemberFailing,
    MemberReadmitted,
    StandbyStarted,
)


class Results(Plan):
    """A pool that takes in what happens to its members."""

    def take_in(self, slot: Slot, change: HealthChange | None, now: float) -> None:
        """Act on what a result has changed."""
        if change is HealthChange.THRESHOLD_CROSSED:
            self.overstepped(slot, slot.health.cause, now)
        elif change is HealthChange.TRIAL_FAILED:
            self.retire(slot)
            self.plan(now)
            self.moved_on()
        elif change is not None:
            self.readmitted(slot, now)
        self.watch(slot)

    def overstepped(self, slot: Slot, cause: Cause, now: float) -> None:
        """Eject a member that has failed too much, or let it fail on if it is the last one."""
        kept = self.forced == slot.name or (
            self.rules.when_all_down == "least_bad" and not self.others_well(slot)
        )
        if not kept:
            self.eject(slot, cause, now)
            return
        if slot.health.phase is not Phase.FAILING:
            slot.health.keep_failing(cause)
            self.tell(MemberFailing(self.rules.name, slot.name, cause))
            self.shown()
        if slot.strikes >= self.rules.detect.consecutive:
            slot.strikes = 0
            self.retire(slot)
            self.plan(now)

    def eject(self, slot: Slot, cause: Cause, now: float) -> None:
        """Take a member out of rotation."""
        seconds = slot.health.eject(cause, now, chance())
        self.member(slot).ejected(cause)
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
        slot.fenced = False
        slot.rose = slot.fell = slot.strikes = 0
        self.tell(MemberReadmitted(self.rules.name, slot.name, slot.health.outage))
        self.plan(now)
        self.moved_on()

    def found_well(self, slot: Slot, now: float) -> None:
        """Let a member serve again that its probes have found well."""
        if slot.health.trial_due(now):
            slot.health.readmit(now)
            self.readmitted(slot, now)
        elif slot.fenced and slot.health.phase is Phase.WELL:
            slot.fenced = False
            self.plan(now)

    def end_start(self, slot: Slot, error: BaseException | None, what: str, now: float) -> None:
        """Take note of how a start has ended."""
        start, slot.start = slot.start, None
        if error is None or start is None:
            slot.start_error = None
            slot.strikes = 0
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
        self.watch(slot)
        self.plan(now)
        self.moved_on()

    def settle(self, now: float) -> None:
        """Do what was due by *now*: end what took too long, let members come back."""
        if now < self.order.wake or not self.is_open:
            return
        for slot in values_now(self.slots):
            health = slot.health
            if health.expire(now, chance()):
                self.moved_on()
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
        """Whether a standby has been ejected for long enough that no call can try.

        Nobody needs it, or its next start or the fence will tell whether it is well.
        """
        if slot.member.standby is None or slot.fenced or not slot.health.trial_due(now):
            return False
        if self.rules.probe is not None:
            return slot.opened is None and slot.member.standby == "cold"
        return slot.opened is None or not self._lost() or not self.may_use(slot)

    def _lost(self) -> bool:
        actives = [slot for slot in self.slots.values() if slot.member.standby is None]
        return not actives or any(not slot.well() for slot in actives)

    # What `starts` tells, without the lock.

    def cleared(self, slot: Slot, start: Start, old: str) -> None:
        """Take note that the fence has returned: a standby may do what *old* did."""
        with self.lock:
            if slot.start is start:
                self.take_over(slot, old)

    def started(self, slot: Slot, start: Start, opened: Opened | None, error: BaseException | None,
                what: str) -> None:  # fmt: skip
        """Take note of how a start has ended; close what comes too late."""
        now = current_context().clock.now()
        with self.lock:
            if slot.start is not start:
                if opened is not None and opened is not start.reused:
                    opened.gone = True
                    self.unused(slot, opened)
            else:
                if opened is not None:
                    slot.opened = opened
                    if slot.member.standby is not None:
                        seconds = now - start.began
                        self.switches().standby_started(seconds)
                        self.tell(StandbyStarted(self.rules.name, slot.name, seconds))
                self.end_start(slot, error, what, now)
        self.flush()

    def close_failed(self, member: Member, error: BaseException) -> None:
        """Tell that a resource could not be closed."""
        self.tell(MemberBroken(self.rules.name, member.name, "close", error))
        self.flush()
