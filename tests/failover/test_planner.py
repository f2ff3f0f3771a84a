"""What is decided about a pool, as values: who serves, starts and stops, and what a call does."""

import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._core.detector import Phase
from mainstay._failover.planner import (
    ALL_DOWN,
    SOLE_DUTY,
    MemberView,
    PlanRules,
    StartMember,
    Switch,
    TryMember,
    WaitFor,
    assign,
    comebacks,
    is_kept,
    next_member,
    plan,
)

NOW = 100.0
NAMES = "abcdefgh"
GONE = "z"  # the active member that was removed last

times = st.sampled_from([-math.inf, 40.0, NOW, 130.0])


@st.composite
def views(draw, most=6, *, fenced=None):
    """Members of a pool, with or without a fence, in any state."""
    fenced = draw(st.booleans()) if fenced is None else fenced
    members = []
    for name in NAMES[: draw(st.integers(1, most))]:
        standby = draw(st.sampled_from([None, None, "hot", "cold"]))
        barred = fenced and draw(st.booleans())
        members.append(
            MemberView(
                name=name,
                standby=standby,
                phase=draw(st.sampled_from(Phase)),
                trial_at=draw(times),
                is_open=draw(st.booleans()),
                draining=draw(st.sampled_from([False, False, True])),
                barred=barred,
                grace_until=draw(times),
                ramp_until=draw(times),
                start_until=draw(st.sampled_from([None, None, 150.0])),
                cleared=draw(st.frozensets(st.sampled_from(NAMES + GONE), max_size=2))
                if fenced and standby
                else None,
                usable=not (fenced and (barred or draw(st.booleans()))),
            )
        )
    return members


rules = st.builds(
    PlanRules,
    all_down=st.sampled_from([*ALL_DOWN.values()]),
    probed=st.booleans(),
    one_leads=st.booleans(),
)


def planned(members, with_rules=PlanRules(), **options):  # noqa: B008 - frozen
    return plan(members, with_rules, now=NOW, last_active=GONE, **options)


def assigned(members, **options):
    return assign(members, now=NOW, last_active=GONE, **options)


def named(members):
    return {view.name: view for view in members}


def active(name, **options):
    return MemberView(name, **options)


def hot(name, **options):
    return MemberView(name, "hot", **options)


def cold(name, **options):
    return MemberView(name, "cold", **options)


LOST = {"phase": Phase.EJECTED, "trial_at": 130.0}


# Who does what.


@given(views())
def test_who_serves_is_well_and_open_and_cleared(members):
    assignment, by_name = assigned(members), named(members)
    for name in assignment.serving:
        view = by_name[name]
        assert view.well
        assert view.is_open
        assert view.cleared is None or view.cleared
        assert view.cleared is None or view.cleared >= {*assignment.stand_ins.get(name, ())}
    assert len(set(assignment.serving)) == len(assignment.serving)


@given(views(fenced=False))
def test_somebody_serves_if_anybody_may(members):
    actives = [view for view in members if view.standby is None]
    nobody_is_lost = actives and all(
        view.well and view.grace_until <= NOW and not view.needs_stand_in(NOW) for view in actives
    )
    may_serve = actives if nobody_is_lost else members
    somebody = any(view.well and view.is_open for view in may_serve)
    assert bool(assigned(members).serving) == somebody


@given(views())
def test_each_duty_has_one_stand_in_at_most(members):
    duties = [duty for duties in assigned(members).stand_ins.values() for duty in duties]
    assert len(duties) == len(set(duties))


@given(views())
def test_only_standbys_that_are_well_stand_in_and_only_for_duties_that_are_lost(members):
    lost = {
        view.name
        for view in members
        if view.standby is None
        and not (view.well and view.grace_until <= NOW and not view.needs_stand_in(NOW))
    }
    if all(view.standby for view in members):
        lost = {GONE}
    for name, duties in assigned(members).stand_ins.items():
        assert named(members)[name].standby
        assert named(members)[name].well
        assert {*duties} <= lost


@given(views())
def test_no_cold_standby_is_stopped_that_serves_or_stands_in(members):
    assignment = assigned(members)
    assert not {*assignment.idle_cold} & {*assignment.serving, *assignment.stand_ins}
    assert all(named(members)[name].standby == "cold" for name in assignment.idle_cold)


@given(views(), st.data())
def test_a_forced_member_serves_alone(members, data):
    forced = data.draw(st.sampled_from(members))
    assignment = assigned(members, forced=forced.name)
    may_do = forced.may_do(assignment.stand_ins.get(forced.name, ()))
    assert assignment.serving == ((forced.name,) if may_do else ())
    assert assignment.wanted == (forced.name,)


@pytest.mark.parametrize(
    ("members", "stand_ins"),
    [
        ([active("a", **LOST), cold("c"), hot("b")], {"b": ("a",)}),
        ([active("a", draining=True), cold("c")], {"c": ("a",)}),
        ([active("a", grace_until=130.0), hot("b")], {"b": ("a",)}),
        ([active("a", ramp_until=130.0), hot("b")], {"b": ("a",)}),
        ([active("a", phase=Phase.FAILING), hot("b")], {}),
        ([active("a", phase=Phase.FAILING, is_open=False), hot("b")], {"b": ("a",)}),
        ([active("a", is_open=False), hot("b")], {}),
        ([active("a", **LOST), active("b", **LOST), hot("c"), hot("d"), hot("e")],
         {"c": ("a",), "d": ("b",)}),
        ([active("a", **LOST), hot("b", **LOST), hot("c")], {"c": ("a",)}),
        ([hot("b"), cold("c")], {"b": (GONE,)}),
        ([active("a", **LOST), hot("b", cleared=frozenset()), hot("c", cleared=frozenset("a"))],
         {"c": ("a",)}),
        ([active("a", **LOST), active("b", **LOST), hot("c", cleared=frozenset("ab")), hot("d")],
         {"c": ("a", "b")}),
    ],
)  # fmt: skip
def test_one_standby_stands_in_for_each_that_is_lost(members, stand_ins):
    assert assigned(members).stand_ins == stand_ins


@pytest.mark.parametrize(
    ("members", "serving"),
    [
        ([active("a"), active("b"), hot("c")], ("a", "b")),
        ([active("a", is_open=False), hot("b")], ()),
        ([active("a", **LOST), hot("b")], ("b",)),
        ([active("a", **LOST), hot("b", cleared=frozenset())], ()),
        ([active("a", ramp_until=130.0), hot("b")], ("a", "b")),
        ([active("a", grace_until=130.0)], ("a",)),
        ([active("a", grace_until=130.0), active("b")], ("b",)),
        ([active("a", **LOST), hot("b", **LOST), cold("c")], ("c",)),
        ([active("a", **LOST), hot("b", is_open=False), cold("c")], ("c",)),
    ],
)
def test_who_serves(members, serving):
    assert assigned(members).serving == serving


# The plan.


def carried_out(members, value):
    """What the members are once a plan of them has been carried out."""
    return [
        attrs.evolve(
            view,
            phase=Phase.FAILING if view.name == value.kept_failing else view.phase,
            start_until=value.starting.get(view.name),
            is_open=view.is_open and view.name not in value.stops,
        )
        for view in members
    ]


@given(views(), rules)
def test_a_plan_starts_and_stops_nobody_twice(members, with_rules):
    value, by_name = planned(members, with_rules), named(members)
    assert not {*value.starts} & {*value.stops}
    for name in value.starts:
        assert by_name[name].start_until is None
        assert not by_name[name].is_open or by_name[name].cleared is not None
    assert value.starting.keys() == {*value.starts} | {
        view.name for view in members if view.start_until is not None
    }


@given(views(), rules)
def test_a_plan_of_what_a_plan_says_is_the_same_plan(members, with_rules):
    """Nothing is to be done twice, and nothing goes back and forth."""
    first = planned(members, with_rules)
    second = planned(carried_out(members, first), with_rules, leaders=first.leaders)
    assert (second.serving, second.stand_ins, second.starting) == (
        first.serving, first.stand_ins, first.starting
    )  # fmt: skip
    assert (second.starts, second.switches, second.kept_failing) == ((), (), None)
    assert second.wake == first.wake


@given(views(), rules)
def test_a_plan_has_to_be_made_again_only_when_time_changes_something(members, with_rules):
    """While all are down, no call makes another one, unless it may be the trial."""
    members = [view for view in members if view.phase is not Phase.TRIAL or view.trial_at > NOW]
    value = planned(members, with_rules)
    due = [view for view in value.trials if view.trial_at <= NOW]
    back = comebacks(carried_out(members, value), with_rules, NOW)
    assert (value.wake <= NOW) == bool(due or back)


@given(views(), rules)
def test_the_least_bad_member_is_kept_only_if_nobody_is_well(members, with_rules):
    value = planned(members, with_rules)
    kept = named(members).get(value.kept_failing)
    if kept is not None:
        assert with_rules.all_down.serves_on
        assert not any(view.well for view in members)
        assert kept.is_open
        assert kept.usable
        assert not kept.draining
    elif with_rules.all_down.serves_on and not any(view.well for view in members):
        assert not any(view.is_open and view.usable and not view.draining for view in members)


def test_the_least_bad_member_is_the_one_whose_trial_is_due_first():
    members = [
        active("a", phase=Phase.EJECTED, trial_at=140.0),
        active("b", phase=Phase.EJECTED, trial_at=120.0),
        active("c", phase=Phase.EJECTED, trial_at=110.0, is_open=False),
    ]
    value = planned(members)
    assert (value.kept_failing, value.serving) == ("b", ("b",))
    assert planned(members, PlanRules(ALL_DOWN["raise"])).serving == ()


@pytest.mark.parametrize(
    ("members", "starts", "stops"),
    [
        ([active("a", is_open=False), hot("b", is_open=False), cold("c", is_open=False)],
         ("a", "b"), ("c",)),
        ([active("a", **LOST), cold("c", is_open=False)], ("c",), ()),
        ([active("a", **LOST, is_open=False), hot("b")], (), ()),
        ([active("a", phase=Phase.EJECTED, trial_at=NOW, is_open=False), hot("b")], ("a",), ()),
        ([active("a", is_open=False, start_until=150.0)], (), ()),
        ([active("a", is_open=False, draining=True), active("b")], (), ()),
        ([active("a"), cold("c")], (), ("c",)),
        ([active("a", **LOST), hot("b", cleared=frozenset())], ("b",), ()),
        ([active("a", **LOST), hot("b", cleared=frozenset("a"))], (), ()),
    ],
)  # fmt: skip
def test_whom_to_start_and_to_stop(members, starts, stops):
    value = planned(members, PlanRules(ALL_DOWN["raise"]))
    assert (value.starts, value.stops) == (starts, stops)


@pytest.mark.parametrize(
    ("members", "forced", "reason"),
    [
        ([active("a", **LOST), active("b")], None, "ejected"),
        ([active("a", draining=True), active("b")], None, "drained"),
        ([active("a"), active("b")], "b", "forced"),
        ([active("b")], None, "removed"),
        ([active("b"), active("a")], None, "failback"),
    ],
)
def test_a_switch_has_a_reason(members, forced, reason):
    value = planned(members, forced=forced, leaders={SOLE_DUTY: "a"})
    assert value.switches == (Switch("a", "b", reason),)
    assert value.leaders == {SOLE_DUTY: "b"}


def test_where_members_share_calls_each_duty_switches_by_itself():
    shared = PlanRules(one_leads=False)
    first = planned([active("a"), active("b"), hot("c")], shared)
    assert first.leaders == {"a": "a", "b": "b"}
    second = planned([active("a", **LOST), active("b"), hot("c")], shared, leaders=first.leaders)
    assert second.switches == (Switch("a", "c", "ejected"),)
    assert second.leaders == {"a": "c", "b": "b"}


def test_nobody_new_is_a_switch_until_there_was_somebody():
    assert planned([active("a"), active("b")]).switches == ()
    nobody = planned([active("a", is_open=False)], leaders={SOLE_DUTY: "a"})
    assert (nobody.switches, nobody.leaders) == ((), {SOLE_DUTY: "a"})


@pytest.mark.parametrize(
    ("member", "wake"),
    [
        (active("a"), math.inf),
        (active("a", grace_until=110.0, ramp_until=130.0), 110.0),
        (active("a", is_open=False), 160.0),
        (active("a", is_open=False, start_until=120.0), 120.0),
        (active("a", phase=Phase.EJECTED, trial_at=130.0), 130.0),
        (active("a", phase=Phase.EJECTED, trial_at=NOW), NOW),
        (active("a", phase=Phase.EJECTED, trial_at=NOW, draining=True), math.inf),
        (active("a", phase=Phase.TRIAL, trial_at=130.0), 130.0),
        (hot("a", phase=Phase.EJECTED, trial_at=NOW, is_open=False), NOW),
    ],
)
def test_when_there_has_to_be_another_plan(member, wake):
    assert planned([member], PlanRules(ALL_DOWN["raise"])).wake == wake


# What a call does next.


@given(views(), rules, st.data())
def test_a_call_never_tries_anybody_twice_nor_who_may_not_be_used(members, with_rules, data):
    tried = data.draw(st.sets(st.sampled_from([view.name for view in members])))
    value, by_name = planned(members, with_rules), named(members)
    step = next_member(value, with_rules, now=NOW, tried=tried)
    names = step if isinstance(step, tuple) else ()
    if isinstance(step, TryMember | StartMember):
        names = (step.name,)
        assert by_name[step.name].phase is Phase.EJECTED
        assert by_name[step.name].usable
    assert not {*names} & tried
    assert not any(by_name[name].draining for name in names)
    if isinstance(step, TryMember | tuple):
        assert all(by_name[name].is_open and name not in value.stops for name in names)
        assert names


@given(views(), rules)
def test_the_first_attempt_is_a_trial_or_at_one_who_serves(members, with_rules):
    value = planned(members, with_rules)
    step = next_member(value, with_rules, now=NOW)
    due = [view.name for view in value.trials if view.trial_at <= NOW]
    if due:
        assert step == TryMember(due[0])
    elif value.serving:
        assert step == value.serving


def test_a_call_that_failed_at_all_who_serve_goes_on_to_a_spare():
    members = [active("a"), active("b", grace_until=130.0), hot("c"), cold("d")]
    value = planned(members)
    assert next_member(value, PlanRules(), now=NOW) == ("a", "c")
    assert next_member(value, PlanRules(), now=NOW, tried="a") == ("c",)
    assert next_member(value, PlanRules(), now=NOW, tried="ac") == ("b",)
    assert next_member(value, PlanRules(), now=NOW, tried="abc") is None


def test_a_call_waits_for_a_member_that_is_being_opened():
    value = planned([active("a", is_open=False, start_until=130.0)])
    assert next_member(value, PlanRules(), now=NOW) == WaitFor(30.0, news=True)
    assert next_member(value, PlanRules(), now=NOW, tried="a") is None


DOWN = [
    active("a", phase=Phase.EJECTED, trial_at=130.0, is_open=False),
    active("b", phase=Phase.EJECTED, trial_at=120.0, is_open=False),
]


def test_when_all_are_down_and_raise_a_call_ends():
    with_rules = PlanRules(ALL_DOWN["raise"])
    assert next_member(planned(DOWN, with_rules), with_rules, now=NOW) is None


def test_when_all_are_down_and_wait_a_call_waits_for_the_next_trial():
    with_rules = PlanRules(ALL_DOWN["wait"])
    value = planned(DOWN, with_rules)
    assert next_member(value, with_rules, now=NOW) == WaitFor(20.0, news=False)
    assert next_member(value, with_rules, now=NOW, tried="b") == WaitFor(30.0, news=False)
    assert next_member(value, with_rules, now=NOW, tried="ab") is None


def test_when_all_are_down_and_wait_a_trial_that_is_under_way_is_news():
    with_rules = PlanRules(ALL_DOWN["wait"])
    members = [DOWN[0], active("b", phase=Phase.TRIAL, trial_at=120.0)]
    step = next_member(planned(members, with_rules), with_rules, now=NOW)
    assert step == WaitFor(20.0, news=True)


def test_when_all_are_down_and_wait_somebody_has_to_tell_where_no_call_may_try():
    with_rules = PlanRules(ALL_DOWN["wait"], probed=True)
    members = [active("a", phase=Phase.EJECTED, trial_at=NOW)]
    step = next_member(planned(members, with_rules), with_rules, now=NOW)
    assert step == WaitFor(math.inf, news=True)


def test_when_all_are_down_the_least_bad_is_opened_before_its_time_once():
    value = planned(DOWN)
    assert next_member(value, PlanRules(), now=NOW) == StartMember("b")
    assert next_member(value, PlanRules(), now=NOW, requested="b") == StartMember("a")
    assert next_member(value, PlanRules(), now=NOW, requested="ab") is None


def test_when_all_are_down_a_second_attempt_tries_one_before_its_time():
    members = [active("a", phase=Phase.FAILING), active("b", phase=Phase.EJECTED, trial_at=120.0)]
    value = planned(members)
    assert next_member(value, PlanRules(), now=NOW, tried="a") == TryMember("b")


# Who stays, and who comes back.


@pytest.mark.parametrize("mode", [*ALL_DOWN])
@pytest.mark.parametrize("others_well", [True, False])
def test_the_last_member_stays_in_rotation_unless_the_user_wants_it_otherwise(mode, others_well):
    kept = is_kept(PlanRules(ALL_DOWN[mode]), forced=False, others_well=others_well)
    assert kept == (mode == "least_bad" and not others_well)
    assert is_kept(PlanRules(ALL_DOWN[mode]), forced=True, others_well=others_well)


@pytest.mark.parametrize(
    ("standby", "back"),
    [
        (hot("b", phase=Phase.EJECTED, trial_at=NOW), ("b",)),
        (hot("b", phase=Phase.EJECTED, trial_at=130.0), ()),
        (hot("b", phase=Phase.TRIAL, trial_at=NOW), ()),
        (hot("b", phase=Phase.EJECTED, trial_at=NOW, barred=True), ()),
        (active("b", phase=Phase.EJECTED, trial_at=NOW), ()),
    ],
)
def test_a_standby_that_nobody_needs_comes_back_when_its_ejection_is_over(standby, back):
    assert comebacks([active("a"), standby], PlanRules(), NOW) == back


def test_a_standby_that_is_needed_comes_back_by_a_trial_unless_it_has_to_be_opened():
    lost = active("a", **LOST)
    is_open = hot("b", phase=Phase.EJECTED, trial_at=NOW)
    assert comebacks([lost, is_open], PlanRules(), NOW) == ()
    assert comebacks([lost, attrs.evolve(is_open, is_open=False)], PlanRules(), NOW) == ("b",)
    assert comebacks([lost, attrs.evolve(is_open, usable=False)], PlanRules(), NOW) == ("b",)


def test_with_a_probe_only_a_cold_standby_comes_back_without_it():
    probed = PlanRules(probed=True)
    closed = {"phase": Phase.EJECTED, "trial_at": NOW, "is_open": False}
    assert comebacks([active("a"), hot("b", **closed), cold("c", **closed)], probed, NOW) == ("c",)


def test_after_how_long_an_ejected_member_is_tried_again():
    ejected = plan(
        [MemberView("a", phase=Phase.EJECTED, trial_at=NOW + 7), MemberView("b")],
        PlanRules(),
        now=NOW,
        last_active="",
    )
    assert [ejected.retry_after(now) for now in (NOW, NOW + 6, NOW + 8)] == [7.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("phases", "forced", "down"),
    [
        ((Phase.WELL, Phase.EJECTED), None, False),
        ((Phase.WELL, Phase.WELL), None, False),
        ((Phase.EJECTED, Phase.TRIAL), None, True),
        ((Phase.EJECTED, Phase.EJECTED), "a", False),
    ],
)
def test_a_pool_is_down_while_nobody_is_well_unless_the_user_wants_one(phases, forced, down):
    members = [MemberView(name, phase=each) for name, each in zip("ab", phases, strict=True)]
    made = plan(members, PlanRules(ALL_DOWN["raise"]), now=NOW, last_active="", forced=forced)
    assert made.down is down


def test_who_was_forced_and_is_gone_is_wanted_no_more():
    well = [MemberView("a"), MemberView("b")]
    assert assign(well, now=NOW, last_active="", forced="z").serving == ("a", "b")
    assert assign(well[:1], now=NOW, last_active="", forced="a").wanted == ("a",)
    alone = assign(well, now=NOW, last_active="", forced="b")
    assert (alone.serving, alone.wanted) == (("b",), ("b",))


def test_an_open_standby_serves_while_those_who_are_to_serve_are_opened():
    members = [
        MemberView("a", phase=Phase.EJECTED),
        MemberView("b", is_open=False),
        MemberView("c", standby="hot", is_open=False),
        MemberView("d", standby="hot"),
    ]
    assert assign(members, now=NOW, last_active="").serving == ("d",)


def test_a_start_that_should_be_over_is_asked_about_at_once():
    late = attrs.evolve(plan([], PlanRules(), now=NOW, last_active=""), starting={"a": NOW - 1})
    assert next_member(late, PlanRules(), now=NOW) == WaitFor(0.0, news=True)
