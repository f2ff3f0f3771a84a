"""The decisions of a pool: who serves, who is started and stopped, and what a call does next.

Values in, a value out; nothing here acts. `plan` takes a view of each member and returns a `Plan`,
which holds until a member changes or its time `wake` comes. `next_member` takes the plan and
returns what a call does next. The engine carries both out.

    member                                            then
    active, well and past its grace                   serves
    active, not well, in its grace or drained         is lost
    active, its share still growing                   serves, and is still stood in for
    standby, well                                     stands in for a lost one, while there is any:
                                                      one that was cleared for it before, then hot
                                                      before cold, each in the order listed
    forced by the user                                serves alone, whatever else holds
    well, in its grace, and nobody else ready         serves nevertheless
    standby, well, and nobody else ready              serves too, if an active one is lost

The work of an active member is a *duty*, with the name of that member; standbys take over duties. A
pool without an active member keeps the duty of the active member that was removed last.

Members that should serve are *wanted*; wanted members that are open serve. A cold standby that is
open and not wanted is stopped. If no member is open and no active member is lost, as at the start,
nobody serves: calls wait for the active members, and not for the first member that is opened.

What happens when all members are down is one table, `ALL_DOWN`, which `is_kept`, `plan` and
`last_resort` read:

    mode         the last one fails      nobody is well, one is open     a call finds nobody
    least_bad    is kept, failing        the least bad one is kept       tries ejected ones early
    raise        is ejected              nobody serves                   ends at once
    wait         is ejected              nobody serves                   waits for the next trial
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, TypeAlias

import attrs

from mainstay._core.detector import Phase

SOLE_DUTY = ""
"""The duty of the one who gets all calls, in a pool where one does."""


@attrs.frozen
class AllDown:
    """What happens while no member is well.

    Attributes:
        serves_on: True if the least bad member is kept in rotation, and ejected ones are tried
            before their time.
        waits: True if a call waits for the next trial.
    """

    serves_on: bool = False
    waits: bool = False


ALL_DOWN: Mapping[str, AllDown] = {
    "least_bad": AllDown(serves_on=True),
    "raise": AllDown(),
    "wait": AllDown(waits=True),
}


@attrs.frozen
class PlanRules:
    """The parameters of a pool that planning depends on.

    Attributes:
        all_down: What happens while no member is well.
        probed: True if a probe checks the members; otherwise single calls are the trials.
        one_leads: True if new calls go to one member; otherwise to all that serve.
        goes_on: True if a call that failed at all serving members may try other open members.
    """

    all_down: AllDown = ALL_DOWN["least_bad"]
    probed: bool = False
    one_leads: bool = True
    goes_on: bool = True


@attrs.frozen
class MemberView:
    """What planning needs to know of a member.

    Attributes:
        trial_at: The end of the ejection, or of the lease of the trial.
        is_open: True if the member has a resource.
        draining: True if the member gets no new calls, at the user's request.
        barred: True if the member gets no calls, however healthy, until it is readmitted.
        grace_until: The end of the grace period after a readmission.
        ramp_until: The end of the ramp, when the share of calls is whole again.
        start_until: When the pool stops waiting for the start; None without a start.
        cleared: The duties that the member may take over; None for all.
        usable: True if the member may get a call at all, if only as a trial.
    """

    name: str
    standby: Literal["hot", "cold"] | None = None
    phase: Phase = Phase.WELL
    trial_at: float = -math.inf
    is_open: bool = True
    draining: bool = False
    barred: bool = False
    grace_until: float = -math.inf
    ramp_until: float = -math.inf
    start_until: float | None = None
    start_timeout: float = 60.0
    cleared: frozenset[str] | None = None
    usable: bool = True

    @property
    def well(self) -> bool:
        """True if calls may be given to it, if it is open and past its grace."""
        in_rotation = self.phase in (Phase.WELL, Phase.FAILING)
        return in_rotation and not self.draining and not self.barred

    @property
    def ejected(self) -> bool:
        """True if it is out of rotation, in a trial too."""
        return self.phase in (Phase.EJECTED, Phase.TRIAL)

    def may_do(self, duties: Collection[str]) -> bool:
        """True if it is open and cleared for *duties*; for any duty at all if that is none."""
        cleared = self.cleared is None or (bool(self.cleared) and self.cleared.issuperset(duties))
        return self.is_open and cleared

    def needs_stand_in(self, now: float) -> bool:
        """True if its share still grows, or it fails and is being opened again."""
        return now < self.ramp_until or (self.phase is Phase.FAILING and not self.is_open)


@attrs.frozen
class Assignment:
    """Which member does what, by name.

    Attributes:
        serving: The members that get calls, the most preferred first.
        wanted: The members that have to be open.
        stand_ins: The standbys that stand in, each with its duties.
        idle_cold: The cold standbys that are not needed.
    """

    serving: tuple[str, ...]
    wanted: tuple[str, ...]
    stand_ins: Mapping[str, tuple[str, ...]]
    idle_cold: tuple[str, ...]


@attrs.frozen
class Switch:
    """New calls go to another member: from whom, to whom, and why, as in `failovers_total`."""

    old: str
    new: str
    reason: str


@attrs.frozen
class Plan:
    """What is to be the case in a pool, until something changes.

    Attributes:
        serving: Who gets calls, the most preferred first.
        stand_ins: Which standbys stand in, and for whom.
        kept_failing: Who is put back into rotation, failing, since nobody is well.
        starts: Whom to start, or to clear for its duties.
        stops: Whom to close.
        leaders: Who does each duty, as far as it was ever done.
        switches: What changed in that.
        trials: Whom a call may try once its ejection is over.
        spares: To whom a call may go on that has tried everyone who serves.
        reserves: Which standbys are well and do not serve.
        starting: Who is being started, and when that is given up.
        ejected: Who is out of rotation, the soonest trial first.
        down: True if a call that finds nobody is to act by `ALL_DOWN`.
        wake: When there has to be another plan.
    """

    serving: tuple[str, ...] = ()
    stand_ins: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    kept_failing: str | None = None
    starts: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    leaders: Mapping[str, str] = attrs.field(factory=dict)
    switches: tuple[Switch, ...] = ()
    trials: tuple[MemberView, ...] = ()
    spares: tuple[str, ...] = ()
    reserves: tuple[str, ...] = ()
    starting: Mapping[str, float] = attrs.field(factory=dict)
    ejected: tuple[MemberView, ...] = ()
    down: bool = False
    wake: float = -math.inf

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until an ejected member is tried again; None if none is ejected."""
        return max(0.0, self.ejected[0].trial_at - now) if self.ejected else None


def plan(
    views: Sequence[MemberView],
    rules: PlanRules,
    *,
    now: float,
    last_active: str,
    forced: str | None = None,
    leaders: Mapping[str, str] | None = None,
) -> Plan:
    """Return what is to be the case.

    Args:
        views: The members, in the order listed.
        rules: The parameters of the pool.
        now: The time.
        last_active: Whose duty is to be done where no active member is left.
        forced: The member that the user wants, or None.
        leaders: Who did each duty before.
    """
    failing = _least_bad(views) if rules.all_down.serves_on else None
    if failing is not None:
        views = [attrs.evolve(v, phase=Phase.FAILING) if v.name == failing else v for v in views]
    assigned = assign(views, now=now, last_active=last_active, forced=forced)
    known = leaders or {}
    leading = _leaders(views, assigned, rules, forced, known)
    switches = _switches(views, leading, known, forced)
    stops = assigned.idle_cold
    if stops:
        views = [attrs.evolve(v, is_open=False) if v.name in stops else v for v in views]
    starts = [view for view in views if _to_start(view, assigned, forced, now)]
    starting = {v.name: v.start_until for v in views if v.start_until is not None}
    starting |= {view.name: now + view.start_timeout for view in starts}
    ejected = sorted((v for v in views if v.ejected), key=lambda view: view.trial_at)
    trials = {v.name: v for v in views if v.ejected and _tried_by_calls(v, rules, forced)}
    idle = [view for view in views if view.name not in assigned.serving]
    spares = [view.name for view in idle if view.is_open and view.well]
    reserves = [view.name for view in idle if view.standby is not None and view.well]
    return Plan(
        serving=assigned.serving,
        stand_ins=assigned.stand_ins,
        kept_failing=failing,
        starts=tuple(view.name for view in starts),
        stops=stops,
        leaders={**known, **leading},
        switches=switches,
        trials=tuple(v for v in trials.values() if v.is_open and v.phase is Phase.EJECTED),
        spares=tuple(spares) if rules.goes_on and forced is None else (),
        reserves=tuple(reserves) if forced is None else (),
        starting=starting,
        ejected=tuple(ejected),
        down=forced is None and not any(v.phase is Phase.WELL and v.well for v in views),
        wake=now if comebacks(views, rules, now) else _wake(views, starting, trials, now),
    )


def _least_bad(views: Sequence[MemberView]) -> str | None:
    """Return the ejected member that serves all the same, since no member is well."""
    if any(view.well for view in views):
        return None
    ready = [view for view in views if view.is_open and not view.draining and view.usable]
    return min(ready, key=lambda view: view.trial_at).name if ready else None


def _to_start(view: MemberView, assigned: Assignment, forced: str | None, now: float) -> bool:
    """True if a member is to be started, or an open standby to be cleared for its duties."""
    if view.start_until is not None:
        return False
    duties = assigned.stand_ins.get(view.name, ())
    if view.is_open and (view.cleared is None or view.cleared.issuperset(duties)):
        return False
    wanted = view.name in assigned.wanted
    if not view.ejected:
        return wanted
    trial_due = view.phase is Phase.EJECTED and now >= view.trial_at
    opens_for_trial = view.standby != "cold" or view.name == forced
    return trial_due and opens_for_trial and (wanted or not view.draining)


def _tried_by_calls(view: MemberView, rules: PlanRules, forced: str | None) -> bool:
    """True if calls may find out if an ejected member is well; a probe does it better."""
    return not rules.probed and forced is None and not view.draining and view.usable


def _leaders(
    views: Sequence[MemberView],
    assigned: Assignment,
    rules: PlanRules,
    forced: str | None,
    known: Mapping[str, str],
) -> dict[str, str]:
    """Return who does each duty; a forced member does all that there are."""
    if rules.one_leads or forced is not None:
        duties = tuple(known) if forced is not None else ()
        return {duty: name for name in assigned.serving[:1] for duty in duties or (SOLE_DUTY,)}
    actives = {view.name for view in views if view.standby is None}
    leading = {name: name for name in assigned.serving if name in actives}
    for stand_in, duties in assigned.stand_ins.items():
        for duty in duties if stand_in in assigned.serving else ():
            leading.setdefault(duty, stand_in)
    return leading


def _switches(
    views: Sequence[MemberView],
    leading: Mapping[str, str],
    known: Mapping[str, str],
    forced: str | None,
) -> tuple[Switch, ...]:
    """Return which calls go to another member than before, each change once."""
    pairs = [(known[duty], new) for duty, new in leading.items() if known.get(duty, new) != new]
    by_name = {view.name: view for view in views} if pairs else {}
    return tuple(
        Switch(old, new, _reason(by_name.get(old), forced)) for old, new in dict.fromkeys(pairs)
    )


def _reason(old: MemberView | None, forced: str | None) -> str:
    """Return why calls do not go to *old* any more."""
    if old is None:
        return "removed"
    if old.draining:
        return "drained"
    if forced is not None:
        return "forced"
    return "failback" if old.well and old.is_open else "ejected"


def _wake(
    views: Sequence[MemberView],
    starting: Mapping[str, float],
    trials: Collection[str],
    now: float,
) -> float:
    """Return when time alone changes something."""
    times = [math.inf, *starting.values()]
    for view in views:
        times += [each for each in (view.grace_until, view.ramp_until) if each > now]
        due_later = view.is_open or view.name not in starting
        due_later = due_later and (view.trial_at > now or view.name in trials)
        if view.phase is Phase.TRIAL or (view.phase is Phase.EJECTED and due_later):
            times.append(view.trial_at)
    return min(times)


# Who does what.


def assign(
    views: Sequence[MemberView], *, now: float, last_active: str, forced: str | None = None
) -> Assignment:
    """Return who does what, by the table at the top."""
    actives = [view for view in views if view.standby is None]
    standbys = [view for kind in ("hot", "cold") for view in views if view.standby == kind]
    duties = [view.name for view in actives] or [last_active]
    if forced is not None and any(view.name == forced for view in views):
        return _only(forced, views, duties)
    fit = [view for view in actives if view.well and now >= view.grace_until]
    covered = {view.name for view in fit if not view.needs_stand_in(now)}
    lost = [duty for duty in duties if duty not in covered]
    stand_ins = _stand_ins([view for view in standbys if view.well], lost)
    wanted = fit + [view for view in standbys if view.name in stand_ins]
    serving = [view for view in wanted if view.may_do(stand_ins.get(view.name, ()))]
    if not serving:
        others = actives + (standbys if lost or not fit else [])
        others = [view for view in others if view.well]
        serving = [view for view in others if view.may_do(stand_ins.get(view.name, ()))]
    serves = tuple(view.name for view in serving)
    kept_open = [view for view in actives + standbys if view.well and view.standby != "cold"]
    return Assignment(
        serving=serves,
        wanted=tuple(dict.fromkeys(view.name for view in [*wanted, *kept_open])),
        stand_ins=stand_ins,
        idle_cold=_idle_cold(views, {*stand_ins, *serves}),
    )


def _stand_ins(standbys: Sequence[MemberView], lost: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return which standbys stand in, and for whom."""
    stand_ins = {}
    for view in standbys:
        kept = tuple(duty for duty in lost if duty in (view.cleared or ()))
        if kept:
            stand_ins[view.name] = kept
            lost = [duty for duty in lost if duty not in kept]
    free = [view.name for view in standbys if view.name not in stand_ins]
    return stand_ins | {name: (duty,) for name, duty in zip(free, lost, strict=False)}


def _only(forced: str, views: Sequence[MemberView], duties: Sequence[str]) -> Assignment:
    """Return what the user wants: one member that does everything."""
    view = next(view for view in views if view.name == forced)
    stand_ins = {} if view.standby is None else {forced: tuple(duties)}
    serves = (forced,) if view.may_do(stand_ins.get(forced, ())) else ()
    return Assignment(serves, (forced,), stand_ins, _idle_cold(views, {forced}))


def _idle_cold(views: Sequence[MemberView], needed: Collection[str]) -> tuple[str, ...]:
    return tuple(v.name for v in views if v.standby == "cold" and v.name not in needed)


# What a call does next.


@attrs.frozen
class TryMember:
    """Make the call the trial of an ejected member."""

    name: str


@attrs.frozen
class StartMember:
    """Have an ejected member started before its time, and ask again."""

    name: str


@attrs.frozen
class WaitFor:
    """Ask again after a time.

    Attributes:
        seconds: The time to wait.
        news: True if the pool may wake the call earlier.
    """

    seconds: float
    news: bool


NextStep: TypeAlias = tuple[str, ...] | TryMember | StartMember | WaitFor | None
"""What a call does next: names are for the strategy of the pool to select one; None is the end."""


def next_member(
    current: Plan,
    rules: PlanRules,
    *,
    now: float,
    tried: Collection[str] = (),
    requested: Collection[str] = (),
) -> NextStep:
    """Return what a call does next.

    Args:
        current: The plan of the pool.
        rules: The parameters of the pool.
        now: The time.
        tried: Whom the call has tried.
        requested: Whom it has had started because all are down.
    """
    for view in current.trials:
        if now >= view.trial_at and view.name not in tried:
            return TryMember(view.name)
    left = current.serving
    if tried:
        left = tuple(name for name in current.serving if name not in tried)
        left = left or tuple(name for name in current.spares if name not in tried)
    if left:
        return left
    starting = [until for name, until in current.starting.items() if name not in tried]
    if starting:
        return WaitFor(max(0.0, min(starting) - now), news=True)
    if not current.down:
        return None
    untried = [view for view in current.ejected if view.name not in tried and not view.draining]
    return last_resort(untried, rules.all_down, requested, now)


def last_resort(
    ejected: Sequence[MemberView], all_down: AllDown, requested: Collection[str], now: float
) -> NextStep:
    """Return what a call does that finds no member to call while no member is well.

    Args:
        ejected: The members that the call has not tried, the soonest trial first.
        all_down: What happens while no member is well.
        requested: The members whose start the call has requested already.
        now: The time.
    """
    if all_down.serves_on:
        for view in ejected:
            if view.phase is Phase.TRIAL or not view.usable:
                continue
            if view.is_open:
                return TryMember(view.name)
            if view.name not in requested:
                return StartMember(view.name)
    if all_down.waits and ejected:
        times = [view.trial_at for view in ejected if view.trial_at > now]
        if not times:  # a probe or the user will tell
            return WaitFor(math.inf, news=True)
        return WaitFor(min(times) - now, news=any(v.phase is Phase.TRIAL for v in ejected))
    return None


def is_kept(rules: PlanRules, *, forced: bool, others_well: bool) -> bool:
    """True if a member that has failed too much stays in rotation, since nobody could take over.

    Args:
        rules: The parameters of the pool.
        forced: True if the user wants that member.
        others_well: True if another member is well.
    """
    return forced or (rules.all_down.serves_on and not others_well)


def comebacks(views: Sequence[MemberView], rules: PlanRules, now: float) -> tuple[str, ...]:
    """Return the standbys whose ejection is over and that no call can try.

    They are not needed, or their next start will show if they are well.
    """
    actives = [view for view in views if view.standby is None]
    nobody_is_lost = bool(actives) and all(view.well for view in actives)
    return tuple(
        view.name
        for view in views
        if view.standby is not None
        and view.phase is Phase.EJECTED
        and now >= view.trial_at
        and not view.barred
        and (
            (not view.is_open and view.standby == "cold")
            if rules.probed
            else (not view.is_open or nobody_is_lost or not view.usable)
        )
    )
