"""The retry budget: how many extra calls a share of the calls allows."""

import contextlib
import math
import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import (
    FailoverPool,
    Member,
    RateLimitedError,
    RejectedError,
    RetryBudget,
    hedge,
    redundant,
    retry,
)
from mainstay._core.budget import BudgetWindow, budget_of, observe, spend
from mainstay.testing import FakeClock, Faults

CALL, EXTRA = "call", "extra"

histories = st.lists(
    st.tuples(st.floats(0, 3), st.sampled_from([CALL, CALL, EXTRA])), min_size=1, max_size=150
)
"""Steps: how long after the one before, and what is asked for."""

ratios = st.sampled_from([0.0, 0.05, 0.1, 0.5, 1.0]) | st.floats(0, 1)
floors = st.sampled_from([0.0, 0.0, 0.1, 1.0]) | st.floats(0, 3)


def play(ledger, history):
    """Run a history; give the times of the calls and of the extra calls that were granted."""
    now, calls, extra = 0.0, [], []
    for pause, step in history:
        now += pause
        if step is CALL:
            ledger.observe(now)
            calls.append(now)
        elif ledger.spend(now):
            extra.append(now)
    return calls, extra


def test_a_lenient_call_is_granted_while_too_few_calls_are_known_and_charged_all_the_same():
    ledger = BudgetWindow(0.25, 0.0, 10.0)
    assert not ledger.spend(0.0)
    for _ in range(3):
        ledger.observe(0.0)
        assert ledger.spend(0.0, lenient=True)
    ledger.observe(0.0, 8)
    assert not ledger.spend(0.0, lenient=True)
    ledger.observe(0.0, 5)
    assert ledger.spend(0.0)
    assert not ledger.spend(0.0)
    ledger.observe(10.2)
    assert ledger.spend(10.2, lenient=True)  # the calls before have left the window


def test_calls_that_make_one_token_are_enough_to_know():
    for calls, granted in ((9, True), (10, False), (19, False)):
        ledger = BudgetWindow(0.1, 0.0, 10.0)
        ledger.observe(0.0, calls)
        ledger.spend(0.0)
        assert ledger.spend(0.0, lenient=True) == granted


def test_a_budget_of_nothing_grants_nothing_lenient_or_not():
    assert not BudgetWindow(0.0, 0.0, 10.0).spend(0.0, lenient=True)


def within(times, start, end):
    return sum(start <= time <= end for time in times)


@given(ratios, floors, st.floats(0.5, 20), histories)
def test_extra_calls_of_a_window_never_exceed_their_share(ratio, floor, window, history):
    calls, extra = play(BudgetWindow(ratio, floor, window), history)
    carried = 1 if floor == 0 else 0
    for spent in extra:
        start = spent - window
        allowed = ratio * within(calls, start, spent) + floor * window + carried
        # A call at the very start of the window may be on either side of it by rounding.
        allowed_extra = within([time for time in extra if time > start], start, spent)
        assert allowed_extra <= allowed + 1e-6


@given(ratios, st.floats(0.5, 20), histories)
def test_without_a_floor_credit_is_never_made_of_nothing(ratio, window, history):
    calls, extra = play(BudgetWindow(ratio, 0.0, window), history)
    for count, spent in enumerate(extra, 1):
        assert count <= ratio * within(calls, 0, spent) + 1e-6


@given(st.integers(1, 40), st.floats(0.1, 100), st.floats(1.2, 50))
def test_without_a_floor_a_low_rate_adds_up_to_whole_tokens(divisor, window, windows_between):
    ledger = BudgetWindow(1 / divisor, 0.0, window)
    now, granted = 0.0, 0
    for _ in range(3 * divisor):
        now += windows_between * window
        ledger.observe(now)
        granted += ledger.spend(now)
    assert granted == 3


def test_without_a_floor_no_more_than_one_token_is_kept():
    ledger = BudgetWindow(0.5, 0.0, 10.0)
    for _ in range(100):
        ledger.observe(0.0)
    assert ledger.balance(0.0) == 50.0
    assert ledger.balance(1_000.0) == 1.0
    assert [ledger.spend(1_000.0), ledger.spend(1_000.0)] == [True, False]
    assert ledger.balance(2_000.0) == 0.0


def test_with_a_floor_nothing_is_kept():
    ledger = BudgetWindow(0.5, 0.2, 10.0)
    for _ in range(100):
        ledger.observe(0.0)
    assert ledger.balance(1_000.0) == 2.0


@pytest.mark.parametrize("called", [0.0, 0.3, 0.499])
def test_a_call_counts_for_no_longer_than_the_window(called):
    ledger = BudgetWindow(1.0, 0.001, 10.0)
    ledger.observe(called)
    assert ledger.balance(called + 9.49) > 1
    assert not ledger.spend(called + 10.0)


@pytest.mark.parametrize("spent", [0.0, 0.3, 0.499])
def test_an_extra_call_counts_for_at_least_the_window(spent):
    ledger = BudgetWindow(0.0, 0.1, 10.0)
    assert ledger.spend(spent)
    assert not ledger.spend(spent + 9.999)
    assert ledger.spend(spent + 11.0)


def test_without_a_floor_no_debt_is_kept():
    ledger = BudgetWindow(0.1, 0.0, 10.0)
    for now in (0.0, 1.0):
        for _ in range(10):
            ledger.observe(now)
    assert [ledger.spend(2.0) for _ in range(3)] == [True, True, False]
    assert ledger.balance(100.0) == 0.0


def test_the_floor_is_there_at_once_and_comes_back_with_the_window():
    ledger = BudgetWindow(0.0, 1.0, 10.0)
    assert sum(ledger.spend(0.0) for _ in range(50)) == 10
    assert sum(ledger.spend(9.0) for _ in range(50)) == 0
    assert sum(ledger.spend(10.6) for _ in range(50)) == 10


@pytest.mark.parametrize("every", [1, 3, 10, 37, 100, 200])
def test_a_steady_rate_gets_its_share(every):
    """In the long run one call in `1 / ratio` is granted, whatever the rate is."""
    ledger = BudgetWindow(0.1, 0.0, 10.0)
    granted = 0
    for i in range(1_000):
        now = i * every / 10
        ledger.observe(now)
        granted += ledger.spend(now)
    assert 97 <= granted <= 100


def test_a_refusal_changes_nothing():
    ledger = BudgetWindow(0.1, 0.0, 10.0)
    for _ in range(9):
        ledger.observe(0.0)
        for _ in range(5):
            assert not ledger.spend(0.0)
    ledger.observe(0.0)
    assert ledger.spend(0.0)


def test_ten_tenths_are_a_whole():
    ledger = BudgetWindow(0.1, 0.0, 10.0)
    for _ in range(10):
        ledger.observe(0.0)
    assert ledger.spend(0.0)
    assert not ledger.spend(0.0)


@given(histories)
def test_a_ledger_does_not_grow_with_time(history):
    ledger = BudgetWindow(0.1, 1.0, 2.0)
    play(ledger, history * 5)
    assert len(ledger._slices) <= 22


def test_a_clock_that_starts_again_does_not_freeze_a_budget():
    budget = RetryBudget(ratio=0, floor=0.1, window=10)
    for _ in range(2):  # as two tests that share a budget of the module they test
        with FakeClock() as clock:
            clock.advance(1_000)
            for _ in range(3):
                assert spend(budget)
                assert not spend(budget)
                clock.advance(20)


# The policies' view


def test_calls_are_observed_and_extra_calls_spent(clock):
    budget = RetryBudget(ratio=0.5, floor=0, window=10)
    assert not spend(budget)
    observe(budget)
    observe(budget)
    assert spend(budget)
    assert not spend(budget)


def test_threads_share_a_budget_exactly():
    budget = RetryBudget(ratio=0.0, floor=10.0, window=60.0)
    granted = []
    start = threading.Barrier(4)

    def work():
        start.wait(10)
        granted.extend(spend(budget) for _ in range(500))

    with FakeClock(everywhere=True):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(granted) == 600


def test_a_policy_inside_a_policy_of_the_same_budget_does_not_block(metrics):
    budget = RetryBudget(ratio=0, floor=0.3, window=10)
    policy = retry(on=ConnectionError, wait=0, attempts=2, budget=budget)
    fetch = Faults(then=ConnectionError)
    with FakeClock(), pytest.raises(ConnectionError):
        policy(policy(fetch))()
    assert len(fetch.calls) == 4


def of_retry(budget):
    return retry(on=ConnectionError, attempts=1, budget=budget, name="asked")


def of_waiting_retry(budget):
    return retry(on=(ConnectionError, RejectedError), attempts=2, wait=0, budget=budget)


def of_pool(budget):
    return FailoverPool("db", [Member("a", "a")], on=ConnectionError, budget=budget)


def of_closed_pool(budget):
    pool = FailoverPool("db", [Member("a", "a")], on=ConnectionError, budget=budget)
    pool.drain("a")
    return pool


def of_copies(budget):
    return redundant(copies=2, start=hedge.together(), budget=budget, name="asked")


ASKED = [of_retry, of_waiting_retry, of_pool, of_closed_pool, of_copies]


def granted_after(caller, make, script):
    """Call what a policy has, 20 times or as often; return whether there is one extra call."""
    budget = RetryBudget(ratio=0.5, floor=0)
    policy = make(budget)
    with FakeClock():
        for step in script:
            given = Faults(then=step)
            with contextlib.suppress(Exception):
                caller(policy, lambda *_resource, given=given: given())
        return spend(budget)


@pytest.mark.parametrize("make", ASKED)
def test_a_call_that_is_refused_before_it_runs_is_not_observed(make, sync_and_async, metrics):
    refused = RateLimitedError("mail", 1.0)
    assert not granted_after(sync_and_async.called, make, [refused] * 20)


@pytest.mark.parametrize("make", [of_retry, of_pool, of_copies])
@pytest.mark.parametrize("step", ["ok", ConnectionError("lost"), KeyError("other")])
def test_a_call_that_runs_is_observed_however_it_ends(make, step, sync_and_async, metrics):
    assert granted_after(sync_and_async.called, make, [step] * 2)


def test_a_call_whose_first_attempts_were_refused_is_observed_once(sync_and_async, metrics):
    refused = RateLimitedError("mail", 0.0)
    budget = RetryBudget(ratio=1.0, floor=0.2)  # two extra calls in ten seconds, and one
    policy = retry(on=RejectedError, wait=0, budget=budget)
    with FakeClock():
        assert sync_and_async.called(policy, Faults([refused, refused, "ok"])) == "ok"
        assert [spend(budget), spend(budget)] == [True, False]


def test_a_budget_says_what_it_is():
    assert repr(RetryBudget(0.2, floor=3, window=timedelta(seconds=5))) == (
        "RetryBudget(ratio=0.2, floor=3.0, window=5.0)"
    )
    assert repr(RetryBudget()) == "RetryBudget(ratio=0.1, floor=1.0, window=10.0)"


def test_a_float_is_a_budget_with_that_ratio_and_no_floor():
    assert repr(budget_of(0.25)) == "RetryBudget(ratio=0.25, floor=0.0, window=10.0)"
    assert budget_of(0.25) is not budget_of(0.25)
    shared = RetryBudget()
    assert budget_of(shared) is shared
    assert budget_of(None) is None


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"ratio": -0.1}, ("`ratio`", "from 0 to 1", "-0.1")),
        ({"ratio": 1.1}, ("`ratio`", "from 0 to 1", "1.1")),
        ({"ratio": math.nan}, ("`ratio`", "from 0 to 1", "nan")),
        ({"ratio": 10**400}, ("`ratio`", "from 0 to 1")),
        ({"floor": -1}, ("`floor`", "finite and at least 0", "-1")),
        ({"floor": math.inf}, ("`floor`", "finite and at least 0", "inf")),
        ({"floor": math.nan}, ("`floor`", "finite and at least 0", "nan")),
        ({"floor": 10**400}, ("`floor`", "finite and at least 0")),
        ({"window": 0}, ("`window`", "above 0 seconds", "0")),
        ({"window": -1}, ("`window`", "above 0 seconds", "-1")),
        ({"window": math.inf}, ("`window`", "finite", "inf")),
        ({"window": timedelta(0)}, ("`window`", "above 0 seconds")),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(arguments, parts):
    with pytest.raises(ValueError, match="must be") as caught:
        RetryBudget(**arguments)
    assert [part for part in parts if part not in str(caught.value)] == []


@pytest.mark.parametrize("value", ["0.1", True, None, [1]])
@pytest.mark.parametrize("parameter", ["ratio", "floor", "window"])
def test_values_of_other_types_are_refused(parameter, value):
    with pytest.raises(TypeError, match=f"`{parameter}` must be") as caught:
        RetryBudget(**{parameter: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("window", [5e-324, 1e-9, 1e300, 1.7e308])
def test_no_window_that_is_accepted_overflows_later(window):
    budget = RetryBudget(ratio=0.5, window=window)
    for _ in range(3):
        observe(budget)
    assert spend(budget) in (True, False)
