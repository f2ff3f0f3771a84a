"""What calls read of a plan without a lock: who serves, who is next, and until when that holds."""

import math

import pytest

from mainstay import Detect, Member, Metrics
from mainstay._core.detector import Detector, Phase
from mainstay._failover.members import OpenedResource, Slot
from mainstay._failover.planner import ALL_DOWN, MemberView, Plan, PlanRules
from mainstay._failover.rotation import CLOSED, rotation_of
from mainstay._failover.selection import strategy_of
from mainstay._metrics.collector import recorders_of


@pytest.fixture
def rotation():
    slots = {}
    for name in "abc":
        recorder = recorders_of(Metrics(None)).member("db", name)
        slots[name] = Slot(Member(name, name), Detector(Detect()), recorder, measured=False)
        slots[name].opened = OpenedResource(name)

    def rotation(plan, select="priority", all_down="least_bad", **options):
        return rotation_of(
            plan,
            PlanRules(all_down=ALL_DOWN[all_down]),
            strategy_of(select),
            lambda name: slots[name].handle_at(1),
            **{"now": 0.0, "clock": lambda: 0.0, "chance": lambda: 0.0, **options},
        )

    return rotation


def members(handles):
    return [handle.lease.member for handle in handles]


def test_calls_pick_among_those_who_serve_until_the_plan_is_due(rotation):
    found = rotation(Plan(serving=("b", "a"), spares=("c",), wake=7.0), "round_robin")
    assert {found.pick().lease.member for _ in range(4)} == {"a", "b"}
    assert (found.wake, found.rejects) == (7.0, -math.inf)


def test_a_call_that_goes_on_finds_spares_behind_those_who_serve(rotation):
    found = rotation(Plan(serving=("b",), spares=("c", "a")))
    assert members(found.handles_of({"a", "b"})) == ["b", "a"]


def test_where_nobody_serves_no_call_picks(rotation):
    found = rotation(Plan(wake=7.0))
    assert found.wake == -math.inf
    with pytest.raises(LookupError):
        found.pick()


@pytest.mark.parametrize(("all_down", "until"), [("raise", 7.0), ("wait", -math.inf)])
def test_calls_are_rejected_at_once_only_where_there_is_nothing_to_wait_for(
    rotation, all_down, until
):
    ejected = MemberView("a", phase=Phase.EJECTED, trial_at=7.0)
    plan = Plan(ejected=(ejected,), trials=(ejected,), down=True, wake=7.0)
    assert rotation(plan, all_down=all_down).rejects == until


def test_where_each_call_has_to_ask_the_rotation_never_stands(rotation):
    assert rotation(Plan(serving=("a",), wake=7.0), stands=False).wake == -math.inf


def test_a_closed_pool_has_nobody():
    assert (CLOSED.handles, CLOSED.wake) == ((), -math.inf)
