"""What is known of an endpoint: what happened between scrapes, restarts, and answers that fail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._metrics import schema
from mainstay._top.figures import figures_of
from mainstay._top.target import Target, growth

WELL = ("shop", "retry", "success")
ERROR = ("shop", "retry", "error")


def calls(well, errors=None):
    values = {WELL: float(well)} | ({} if errors is None else {ERROR: float(errors)})
    return {"calls_total": values}


def target_after(*answers):
    """Return a target that answered at the given times."""
    target = Target("shop")
    for at, samples in answers:
        target.answered(samples, at=at, took=0.1)
    return target


COUNTS = st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e6), max_size=3)


@given(COUNTS, COUNTS)
def test_growth_and_what_was_before_are_what_is_now(before, more):
    after = {name: before.get(name, 0.0) + more.get(name, 0.0) for name in {*before, *more}}
    named = {"calls_total": {(name,): value for name, value in after.items()}}
    grown, fell = growth({"calls_total": {(name,): v for name, v in before.items()}}, named)
    assert not fell
    for name, value in after.items():
        grew = grown.get("calls_total", {}).get((name,), 0.0)
        assert grew == pytest.approx(value - before.get(name, 0.0))


def test_a_counter_that_falls_is_a_restart_and_all_begin_at_0():
    grown, fell = growth(calls(100, 5), calls(120, 2))
    assert (grown, fell) == (calls(120, 2), True)


def test_gauges_do_not_grow():
    before, after = {"in_flight": {("shop",): 5.0}}, {"in_flight": {("shop",): 2.0}}
    assert growth(before, after) == ({}, False)


def test_buckets_of_histograms_grow():
    key = ("shop", "retry", "0.1")
    before, after = ({"call_duration_seconds_bucket": {key: value}} for value in (1.0, 4.0))
    assert growth(before, after)[0] == {"call_duration_seconds_bucket": {key: 3.0}}


def test_one_scrape_says_how_things_are_and_not_how_often():
    figures = figures_of([target_after((0.0, calls(7)))])
    assert (figures.has_rates, figures.grown, figures.now) == (False, {}, calls(7))


def test_figures_are_over_the_last_ten_seconds():
    target = target_after(
        *((float(at), calls(at * 10 if at < 30 else 300)) for at in range(0, 44, 2))
    )
    figures = figures_of([target])
    assert figures.grown == {}
    assert sum(interval.seconds for interval in target.window()) == 10


def test_several_processes_are_added_up_each_over_its_own_time():
    first = target_after((0.0, calls(0)), (1.0, calls(10)))
    second = target_after((0.0, calls(0)), (5.0, calls(10)))
    figures = figures_of([first, second])
    assert figures.grown == calls(20)
    assert figures.rates == calls(12)
    assert figures.processes == 2


def test_gauges_are_added_up_as_those_of_worker_processes_are():
    states = {schema.MEMBER_STATE.name: {("db", "a", "active"): 1.0}}
    first = target_after((0.0, {**states, "hedge_delay_seconds": {("db",): 0.1}}))
    second = target_after((0.0, {**states, "hedge_delay_seconds": {("db",): 0.3}}))
    assert figures_of([first, second]).now == {
        "member_state": {("db", "a", "active"): 2.0},
        "hedge_delay_seconds": {("db",): 0.3},
    }


def test_a_scrape_that_fails_leaves_what_was_there():
    target = target_after((0.0, calls(0)), (2.0, calls(10)))
    target.failed("no answer", at=4.0)
    target.failed("nobody listens there", at=6.0)
    assert (target.is_up, target.failing_since, target.failure) == (
        False,
        4.0,
        "nobody listens there",
    )
    assert figures_of([target]).grown == calls(10)
    target.answered(calls(30), at=8.0, took=0.1)
    assert target.is_up
    assert figures_of([target]).grown == calls(30)


def test_a_restart_is_remembered():
    target = target_after((0.0, calls(10)), (2.0, calls(3)))
    assert target.restarted_at == 2.0
    assert figures_of([target]).grown == calls(3)
