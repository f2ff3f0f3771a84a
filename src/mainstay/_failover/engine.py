"""`PoolEngine`: the state of a pool behind one short lock, and all changes of that state.

`planner` decides, and the engine acts: after each change it makes a `Plan` from the members, and
carries the plan out. Calls read `rotation`, a snapshot of the members that serve, without the lock.
`outbox` delays everything that must not run under the lock, and `monitor` reports what happened.
`operations` has what the owner of the pool does, and `suspicion` what a call does that has failed
at all serving members.
"""

import random
import threading
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any, TypeAlias

from mainstay._core.clock import Clock
from mainstay._core.context import current_context, helper_context
from mainstay._core.detector import Detector, HealthChange, Phase
from mainstay._core.events import Cause
from mainstay._core.exceptions import is_a
from mainstay._core.forks import reset_after_fork
from mainstay._core.functions import task_or_thread
from mainstay._core.health import HealthReport, report_health
from mainstay._core.notes import leave_note
from mainstay._core.silence import ANSWERS, longest_silence
from mainstay._core.threads import Pause, Signal, values_now
from mainstay._failover import planner
from mainstay._failover.fencing import Fencing
from mainstay._failover.hooks import UnknownHealthError
from mainstay._failover.members import MemberHandle, MemberStart, OpenedResource, Slot
from mainstay._failover.monitor import PoolMonitor
from mainstay._failover.openers import TaskOpener, ThreadOpener
from mainstay._failover.options import NO_RESOURCE, Member
from mainstay._failover.outbox import Outbox
from mainstay._failover.probes import TaskProber, ThreadProber
from mainstay._failover.rotation import CLOSED, Rotation, rotation_of
from mainstay._failover.selection import LeastLatency, Priority
from mainstay._failover.settings import POLICY, PoolSettings
from mainstay._metrics.collector import Metrics, recorders_of

chance = random.random

Choice: TypeAlias = MemberHandle | Pause | None
"""A member to call, a wait, or None if there is nobody."""


class PoolEngine:
    """The state of a pool, and what happens to it.

    Attributes:
        members: What users gave.
        slots: Its members, in the order listed.
        fencing: Who may do whose work; None in a pool without a fence.
        lock: What the state is changed under. The same thread may take it again, since a signal
            handler may call a pool while the thread that it interrupted is in here.
        rotation: Who serves.
        plan: What is to be the case; of a closed pool, no more than who led before.
        is_open: True if members are started, and probed.
        epoch: How often it has switched.
        forced: The member that the user wants, or None.
        last_active: The active member that was removed last.
        answers: How many seconds the last answers of async calls took.
        prober: What asks the probe; None without one, and while the pool is closed.
        progress: Set and replaced when something has happened that calls may wait for.
    """

    def __init__(
        self, settings: PoolSettings, members: Iterable[Member[Any]], metrics: Metrics
    ) -> None:
        self.settings = settings
        self.rules: planner.PlanRules = planner.PlanRules(
            all_down=planner.ALL_DOWN[settings.when_all_down],
            probed=settings.probe is not None,
            one_leads=isinstance(settings.strategy, Priority),
            goes_on=settings.fence is None,  # which has to return first
        )
        self.lock: threading.RLock = threading.RLock()
        self.slots: dict[str, Slot] = {}
        self.outbox: Outbox = Outbox()
        self.monitor: PoolMonitor = PoolMonitor(settings.name, metrics, self.slots, self.outbox)
        self.fencing: Fencing | None = Fencing() if settings.fence is not None else None
        opener = TaskOpener if settings.is_async else ThreadOpener
        self.opener: TaskOpener | ThreadOpener = opener(self, self.monitor.close_failed)
        self.rotation: Rotation = CLOSED
        self.plan: planner.Plan = planner.Plan()
        self.is_open: bool = False
        self.epoch: int = 0
        self.forced: str | None = None
        self.last_active: str = ""
        self.answers: deque[float] = deque(maxlen=ANSWERS)
        self.progress: Signal = Signal()
        self.prober: ThreadProber | TaskProber | None = None
        self.members: tuple[Member[Any], ...] = tuple(members)
        for member in self.members:
            self.enlist(member)
        self.monitor.follow()
        reset_after_fork(self, _reset_after_fork)
        report_health(self, _health_of)

    def enlist(self, member: Member[Any]) -> None:
        """Add a member after the others."""
        settings = self.settings
        if member.standby is None and self.fencing is not None:
            self.fencing.join(member.name, self.slots)
        recorder = recorders_of(self.monitor.metrics).member(settings.name, member.name)
        measured = isinstance(settings.strategy, LeastLatency)
        slot = self.slots[member.name] = Slot(member, Detector(settings.detect), recorder, measured)
        if member.resource is not NO_RESOURCE:
            slot.opened = OpenedResource(member.resource)
        slot.inspect()

    # Calls.

    def choose(self, clock: Clock, tried: Collection[Slot], requested: set[str]) -> Choice:
        """Return what a call does next; a handle is in use until `done`.

        Args:
            clock: The clock of the call.
            tried: The members that the call has tried.
            requested: The names of the members whose start the call has requested.
        """
        self.monitor.clock = clock
        names = [slot.name for slot in tried]
        while True:
            self.open()
            now = clock.now()
            self.settle(now)
            progress, rotation = self.progress, self.rotation  # in this order: news comes last
            step = planner.next_member(
                rotation.plan, self.rules, now=now, tried=names, requested=requested
            )
            if step is None:
                if rotation is CLOSED:  # by another thread, a moment ago
                    continue
                return None
            if isinstance(step, planner.WaitFor):
                return Pause(clock, step.seconds, progress if step.news else None)
            if isinstance(step, planner.TryMember | planner.StartMember):
                choice = self._begin(step, clock, now, names, requested)
                if choice is None:
                    continue
                if isinstance(choice, Pause):
                    return choice
            elif not tried:
                choice = rotation.pick()
            else:
                handles = rotation.handles_of(step)
                choice = self.settings.strategy.among(handles, clock.now, chance)
            choice.flights.append(None)
            if not choice.opened.gone:
                return choice
            self.done(choice)

    def _begin(
        self,
        step: planner.TryMember | planner.StartMember,
        clock: Clock,
        now: float,
        tried: Collection[str],
        requested: set[str],
    ) -> Choice:
        """Begin a trial or a start for a call, unless another call was faster: then None."""
        with self.outbox, self.lock:
            if step != planner.next_member(
                self.plan, self.rules, now=now, tried=tried, requested=requested
            ):
                return None
            slot = self.slots[step.name]
            if isinstance(step, planner.TryMember):
                slot.detector.begin_trial(now)
                self.replan(now)
                return slot.handle_at(self.epoch)
            requested.add(step.name)
            self.outbox.add_helper(self.opener.start, slot, slot.begin_start(now))
            self.replan(now)
            return Pause(clock, slot.member.start_timeout, self.progress)

    def succeeded(self, handle: MemberHandle, now: float, seconds: float) -> None:
        """Record that an attempt was answered after *seconds*."""
        slot, detector = handle.slot, handle.slot.detector
        slot.latency.add(seconds, now)
        slow = seconds > detector.too_slow
        if slow or slot.has_failures:  # no lock for what changes nothing
            with self.outbox, self.lock:
                change = detector.succeeded(handle.generation, now, chance(), slow=slow)
                self._apply(slot, change, now)

    def failed(self, handle: MemberHandle, now: float) -> None:
        """Record that an attempt failed."""
        slot, detector = handle.slot, handle.slot.detector
        with self.outbox, self.lock:
            if handle.generation == detector.generation:
                slot.strikes += 1
            self._apply(slot, detector.failed(handle.generation, now, chance()), now)

    def dissented(self, handle: MemberHandle, now: float) -> None:
        """Record that an answer was outvoted."""
        slot = handle.slot
        with self.outbox, self.lock:
            self._apply(slot, slot.detector.dissented(handle.generation, now, chance()), now)

    def released(self, handle: MemberHandle, now: float, *, answered: bool = False) -> None:
        """Record that an attempt ended in a way that says nothing about the member's health.

        Args:
            handle: What the attempt belongs to.
            now: The time.
            answered: True if the member was heard all the same, so that it is not silent.
        """
        with self.outbox, self.lock:
            if answered:
                handle.slot.detector.heard()
                handle.slot.inspect()
            if handle.slot.detector.release(handle.generation, now):
                self.replan(now, news=True)

    def cancelled(self, handle: MemberHandle, began: float, now: float) -> bool:
        """Record that an attempt was cancelled; True if its member was silent for too long."""
        slot, detector = handle.slot, handle.slot.detector
        longest = longest_silence(self.settings.detect.slow, self.answers)
        with self.outbox, self.lock:
            change = detector.cancelled(handle.generation, began, now, chance(), longest=longest)
            late = detector.silence > longest
            if change is None and detector.release(handle.generation, now):
                self.replan(now, news=True)
            self._apply(slot, change, now)
        return late

    def done(self, handle: MemberHandle) -> None:
        """Record that an attempt does not use the member any more."""
        handle.flights.pop()
        if handle.opened.gone:
            self.left(handle)

    def left(self, handle: MemberHandle) -> None:
        """Close the resource of an attempt, if it is `gone` and nothing else uses it."""
        with self.outbox, self.lock:
            self.close(handle.slot, handle.opened)

    def close(self, slot: Slot, opened: OpenedResource | None) -> None:
        """Close a resource that no new call uses, unless a running call still uses it."""
        if opened is not None and opened.claim():
            self.outbox.add_helper(self.opener.close, slot.member, opened.resource)

    # What follows from results.

    def _apply(self, slot: Slot, change: HealthChange | None, now: float) -> None:
        if self.slots.get(slot.name) is not slot:  # it has been removed meanwhile
            return
        if change is HealthChange.THRESHOLD_CROSSED:
            self._eject(slot, slot.detector.cause, now)
        elif change is HealthChange.TRIAL_FAILED:
            self.close(slot, slot.take_away())
            self.replan(now, news=True)
        elif change is HealthChange.TRIAL_PASSED:
            self.replan(now, news=True)
        elif change is not None:
            self._readmit(slot, now)
            self.replan(now, news=True)
        slot.inspect()

    def _eject(self, slot: Slot, cause: Cause, now: float, *, can_stay: bool = True) -> None:
        """Eject a member, or keep it in rotation where nobody could take over: the one door."""
        others_well = any(
            each is not slot and each.detector.phase is Phase.WELL and each.well
            for each in values_now(self.slots)
        )
        forced = slot.name == self.forced
        if can_stay and planner.is_kept(self.rules, forced=forced, others_well=others_well):
            opened = None
            if slot.strikes >= self.settings.detect.consecutive:
                slot.strikes = 0
                opened = slot.take_away()  # it may help to open it again
            if opened is None and slot.detector.phase is Phase.FAILING:
                return
            if slot.detector.phase is not Phase.FAILING:
                slot.detector.keep_failing(cause)
                self.monitor.failing(slot)
        else:
            seconds = slot.detector.eject(cause, now, chance())
            self.monitor.ejected(slot, seconds, now)
            slot.good_probes = slot.bad_probes = 0
            opened = slot.take_away()
        self.close(slot, opened)
        suspected, slot.suspected_at = slot.suspected_at is not None, None
        self.replan(now, news=suspected)

    def _readmit(self, slot: Slot, now: float) -> None:
        """Put a member back that is well again; after an ejection, step by step."""
        failback, now = self.settings.failback, max(now, slot.detector.since)
        if slot.detector.outage:
            longer = 1 + failback.jitter * chance()
            slot.grace_until = now + failback.grace * longer
            ramp = 0.0 if self.fencing is not None else failback.ramp * longer
            slot.ramp_until = slot.grace_until + ramp
            slot.detector.since = slot.grace_until
        slot.barred = False
        slot.good_probes = slot.bad_probes = slot.strikes = 0
        self.monitor.readmitted(slot)

    def probed(
        self, slot: Slot, opened: OpenedResource, now: float, error: Exception | None
    ) -> None:
        """Record an answer about a resource: None if it is good."""
        probe, detector = self.settings.probe, slot.detector
        with self.outbox, self.lock:
            if probe is None or slot.opened is not opened:
                return
            if slot.suspected_at is not None and _ends_suspicion(slot, error, probe.fall):
                slot.suspected_at = None
                self.replan(now, news=True)
            self.monitor.probed(slot, error)
            if error is None:
                slot.bad_probes = 0
                slot.good_probes += 1
                risen = slot.good_probes >= probe.rise
                if risen and detector.trial_due(now):
                    detector.readmit(now)
                    self._readmit(slot, now)
                    self.replan(now, news=True)
                elif risen and slot.barred and detector.phase is Phase.WELL:
                    slot.barred = False
                    self.replan(now)
            elif not is_a(error, UnknownHealthError):
                slot.good_probes = 0
                slot.bad_probes += 1
                if slot.bad_probes == probe.fall and detector.phase is Phase.WELL:
                    if detector.failing_since is None:
                        detector.failing_since = now
                    self._eject(slot, "probe", now)
                elif detector.trial_due(now):
                    detector.lengthen(now, chance())
                    self.close(slot, slot.take_away())
                    self.replan(now)
            slot.inspect()

    # Starts.

    def cleared(self, slot: Slot, start: MemberStart, old: str) -> None:
        """Record that the fence has returned: a standby may do what *old* did."""
        with self.outbox, self.lock:
            if slot.start is start and self.fencing is not None:
                self.fencing.take_over(slot, old, self.slots)

    def started(
        self,
        slot: Slot,
        start: MemberStart,
        opened: OpenedResource | None,
        error: BaseException | None,
        what: str,
    ) -> None:
        """Record how a start has ended; close what comes too late."""
        now = current_context().clock.now()
        with self.outbox, self.lock:
            if slot.start is start:
                if opened is not None:
                    slot.opened = opened
                    self.monitor.opened(slot, now - start.began)
                self._end_start(slot, error, what, now)
            elif opened is not None and opened is not start.reused:
                opened.gone = True
                self.close(slot, opened)

    def _end_start(self, slot: Slot, error: BaseException | None, what: str, now: float) -> None:
        slot.start = None
        if error is None:
            slot.start_error = None
            slot.strikes = 0
        else:
            if is_a(error, Exception):
                owner = f"mainstay.{POLICY} {self.settings.name}"
                leave_note(error, owner, f"{what} of member {slot.name}")
                slot.start_error = error
            self.monitor.broken(slot.name, what, error)
            if slot.detector.phase in (Phase.WELL, Phase.FAILING):
                cause: Cause = "probe" if what == "probe" else "consecutive"
                self._eject(slot, cause, now, can_stay=False)
            else:
                slot.detector.lengthen(now, chance())
        slot.inspect()
        self.replan(now, news=True)

    # The plan.

    def settle(self, now: float) -> float:
        """Do what was due by *now*, and return when there is something to do next."""
        if now < self.plan.wake or not self.is_open:
            return self.plan.wake
        with self.outbox, self.lock:
            news = False
            for slot in values_now(self.slots):
                news = slot.detector.expire(now, chance()) or news
                if slot.start is not None and now >= slot.start.until:
                    self.outbox.add(slot.start.stop)
                    limit = slot.member.start_timeout
                    text = f"starting member {slot.name} took longer than {limit:.3f} s"
                    self._end_start(slot, TimeoutError(text), "open", now)
            for name in planner.comebacks(_views_of(self), self.rules, now):
                news = True
                self.slots[name].detector.readmit(now)
                self._readmit(self.slots[name], now)
            self.replan(now, news=news)
        return self.plan.wake

    def replan(self, now: float, *, news: bool = False) -> None:
        """Plan after a change, and carry the plan out; a closed pool does so when it is opened.

        Args:
            now: The time.
            news: True if something has happened that calls may wait for.
        """
        now = max(now, self.monitor.clock.now())  # another thread may have planned since then
        again = self.is_open
        while again:
            plan = planner.plan(
                _views_of(self),
                self.rules,
                now=now,
                last_active=self.last_active,
                forced=self.forced,
                leaders=self.plan.leaders,
            )
            again = self._carry_out(plan, now)
            self.plan = plan
        if self.is_open:
            self.rotation = _rotation_of(self, now)
        self.monitor.refresh()
        if news:
            old, self.progress = self.progress, Signal()
            self.outbox.add(old.set)

    def _carry_out(self, plan: planner.Plan, now: float) -> bool:
        """Make what a plan says the case; return True if duties change hands, who may be used, too.

        That is so only in a pool with a fence.
        """
        if plan.kept_failing is not None:
            slot = self.slots[plan.kept_failing]
            slot.detector.keep_failing(slot.detector.cause)
            slot.inspect()
            self.monitor.failing(slot)
        for slot in self.slots.values():
            slot.promoted = slot.name in plan.stand_ins
        fencing = self.fencing
        serving = [self.slots[name] for name in plan.serving]
        changed = fencing is not None and fencing.hand_back(serving)
        for name in plan.stops:
            self.close(self.slots[name], self.slots[name].take_away())
        for name in plan.starts:
            slot, duties = self.slots[name], plan.stand_ins.get(name, ())
            replaces = fencing.asked_about(slot, duties) if fencing is not None else ()
            start = slot.begin_start(now, replaces)
            self.outbox.add_helper(self.opener.start, slot, start)
            changed = changed or bool(replaces)
        self.epoch += bool(plan.switches)
        for switch in plan.switches:
            self.monitor.switched(switch, self.epoch)
        return changed

    # Opening and closing.

    def open(self) -> None:
        """Begin to start members and to probe them, unless that has been done."""
        probe, opener = self.settings.probe, self.opener
        if self.is_open and (probe is None or self.prober is not None):
            return
        with self.outbox, self.lock:
            if self.is_open and (probe is None or self.prober is not None):
                return
            self.is_open = True
            if probe is not None:
                if isinstance(opener, TaskOpener):
                    self.prober = TaskProber(self, probe, opener.begin)
                else:
                    self.prober = ThreadProber(self, probe, opener.threads)
            self.replan(self.monitor.clock.now())
            if self.prober is not None:
                self.outbox.add_helper(self.prober.start, self.settings.name)

    def not_probed(self, prober: ThreadProber) -> None:
        """Have the next call begin to probe, since no thread could be started just now."""
        with self.outbox, self.lock:
            if self.prober is prober:
                self.prober = None
                self.replan(self.monitor.clock.now())

    def forget(self) -> None:
        """Leave everything that was opened to its owner now: a parent process, or an ended loop."""
        self.lock = threading.RLock()  # a thread that is not here any more may hold the old one
        self.outbox.clear()
        with self.outbox, self.lock:
            for slot in self.slots.values():
                slot.start = slot.handle = slot.suspected_at = None
                if slot.member.open is not None:
                    slot.opened = None
                elif slot.opened is not None:
                    slot.opened = OpenedResource(slot.member.resource)
            _rest(self)
            self.prober = None
            self.progress = Signal()

    def stop(self) -> None:
        """Stop using and probing everything; what is in use is closed when it is not any more.

        Raises:
            RuntimeError: In the start of a member: calls would begin that again, without an end.
        """
        here = task_or_thread()
        with self.outbox, self.lock:
            for slot in self.slots.values():
                if slot.start is not None and slot.start.runs_in == here:
                    raise RuntimeError(
                        f"pool {self.settings.name!r} cannot be closed by what starts its member "
                        f"{slot.name!r}, as its `open` or the fence; raise an exception there"
                    )
            to_close = []
            for slot in self.slots.values():
                if slot.start is not None:
                    self.outbox.add(slot.start.stop)
                slot.start = slot.suspected_at = None
                opened = slot.take_away()
                if opened is not None and opened.claim():
                    to_close.append((slot.member, opened.resource))
            _rest(self)
            prober, self.prober = self.prober, None
            self.replan(self.monitor.clock.now(), news=True)
        for member, resource in to_close:  # by this thread, which is to wait for it
            helper_context().run(self.opener.close, member, resource)
        if prober is not None:
            prober.stop()


def _ends_suspicion(slot: Slot, error: Exception | None, fall: int) -> bool:
    """True if nothing more will come of asking about a suspected member at once."""
    knows_nothing = is_a(error, UnknownHealthError)  # nor would it know more a moment later
    found_out = slot.bad_probes >= fall or slot.detector.phase is not Phase.WELL
    return error is None or knows_nothing or found_out


def _health_of(engine: PoolEngine) -> HealthReport:
    """Return the health of a pool."""
    return engine.monitor.health(probed=engine.settings.probe is not None)


def _views_of(engine: PoolEngine) -> list[planner.MemberView]:
    """Return what planning needs to know of the members."""
    slots = values_now(engine.slots)
    if engine.fencing is None:
        return [slot.view() for slot in slots]
    return engine.fencing.views(slots)


def _rotation_of(engine: PoolEngine, now: float) -> Rotation:
    """Return what calls are to read of the plan."""
    slots, epoch = engine.slots, engine.epoch
    return rotation_of(
        engine.plan,
        engine.rules,
        engine.settings.strategy,
        lambda name: slots[name].handle_at(epoch),
        now=now,
        clock=engine.monitor.clock.now,
        chance=chance,
        stands=engine.settings.probe is None or engine.prober is not None,
    )


def _rest(engine: PoolEngine) -> None:
    """Plan nothing more, until the pool is opened again."""
    engine.is_open = False
    engine.rotation = CLOSED
    engine.plan = planner.Plan(leaders=engine.plan.leaders)
    if engine.fencing is not None:
        engine.fencing.reset()


def _reset_after_fork(engine: PoolEngine) -> None:
    """Close the pool in a child: connections and threads are the parent's."""
    engine.forget()
    engine.opener.reset()
    engine.monitor.follow()
