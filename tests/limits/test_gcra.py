"""The decision of a rate limit alone: plain numbers, no clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._limits.gcra import Gcra
from support.examples import strides
from support.rates import most_in_a_window

RATES = st.integers(1, 200)
PERIODS = st.sampled_from([0.001, 0.1, 1.0, 7.0, 60.0, 3600.0])
BURSTS = st.integers(1, 20)
STARTS = st.sampled_from([0.0, 12.5, 1e6])


@given(
    RATES,
    PERIODS,
    BURSTS,
    STARTS,
    st.lists(st.floats(0, 3), min_size=1, max_size=300),
    st.booleans(),
)
def test_in_any_window_at_most_rate_and_burst_are_taken(rate, per, burst, start, gaps, greedy):
    gcra, now, taken = Gcra(rate, per, burst), start, []
    for gap in gaps:
        now += 0.0 if greedy else gap * gcra.interval
        wait = gcra.take(now)
        if wait is not None and greedy:
            now += wait
            gcra.take_due(now, 1.0)
            wait = None
        if wait is None:
            taken.append(now)
    assert most_in_a_window(taken, per) <= rate + burst


@given(RATES, PERIODS, BURSTS, st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_costs_count_as_so_many_turns(rate, per, burst, costs):
    gcra, now, taken = Gcra(rate, per, burst), 0.0, []
    for each in costs:
        cost = min(each, burst)
        now += gcra.wait(now, cost)
        gcra.take_due(now, cost)
        taken += [now] * cost
    assert most_in_a_window(taken, per) <= rate + burst


@given(RATES, PERIODS, BURSTS, STARTS, st.integers(0, 10), st.integers(1, 20))
def test_the_wait_is_exact(rate, per, burst, start, ahead, cost):
    """Just before it there are no turns; at it there are."""
    cost = min(cost, burst)
    gcra = Gcra(rate, per, burst)
    while gcra.take(start) is None:
        pass
    wait = gcra.wait(start, cost, ahead)
    assert wait == pytest.approx((cost + ahead) * per / rate, abs=1e-6 * per / rate + 1e-9)
    for _ in range(ahead):
        gcra.take_due(start + gcra.wait(start, 1.0), 1.0)
    assert gcra.wait(start, cost) == pytest.approx(wait, abs=1e-9)
    early = gcra.take(start + wait - 0.01 * gcra.interval, cost)
    assert early is not None
    assert gcra.take(start + wait + 1e-9 * max(1.0, start), cost) is None


@given(RATES, BURSTS, st.lists(st.floats(0, 10), min_size=2, max_size=100))
def test_a_now_that_is_older_never_lets_more_through(rate, burst, times):
    """Rule 6 of the design: a `now` that was read before a lock may be older."""
    as_they_came, in_order = Gcra(rate, 1.0, burst), Gcra(rate, 1.0, burst)
    latest, taken, honest = 0.0, 0, 0
    for now in times:
        latest = max(latest, now)
        taken += as_they_came.take(now) is None
        honest += in_order.take(latest) is None
        assert taken <= honest


def test_many_turns_later_nothing_has_drifted():
    gcra = Gcra(1000, 1.0, 1)
    gcra.take(0.0)
    now, turns = 0.0, 1_000_000 // strides()
    for _ in range(turns):
        now += gcra.wait(now, 1.0)
        gcra.take_due(now, 1.0)
    assert now == pytest.approx(turns / 1000, rel=1e-9)


def test_a_clock_that_stands_still_gives_no_more_than_the_burst():
    gcra = Gcra(10, 1.0, 3)
    assert [gcra.take(5.0) for _ in range(3)] == [None] * 3
    assert gcra.take(5.0) == pytest.approx(0.1)


def test_what_is_saved_up_is_no_more_than_the_burst():
    gcra = Gcra(10, 1.0, 3)
    assert sum(gcra.take(1e6) is None for _ in range(10)) == 3


def test_a_large_burst_is_had_to_the_last_turn_after_weeks_of_uptime():
    gcra = Gcra(1000, 1.0, 100_000)
    assert [gcra.take(3e6 + 0.1) for _ in range(100_000)] == [None] * 100_000
    assert gcra.take(3e6 + 0.1) == pytest.approx(0.001, abs=1e-8)


def test_turns_at_round_times_are_not_refused_for_rounding():
    gcra, now = Gcra(10, 1.0, 1), 0.0
    for _ in range(1000):
        assert gcra.take(now) is None
        now += 0.1
