"""A retry budget whose users read the clock late, early, or not the same one."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import RetryBudget
from mainstay._core.budget import BudgetWindow, observe, spend
from mainstay._core.clock import SystemClock
from mainstay.testing import FakeClock
from support.contexts import OnClock

CALL, EXTRA = "call", "extra"

STEPS = st.lists(
    st.tuples(st.floats(0, 3), st.floats(0, 40), st.sampled_from([CALL, CALL, EXTRA, EXTRA])),
    min_size=1,
    max_size=150,
)
"""Threads that get the lock one after the other: how long after the one before, how long ago each
has read the clock, and what it wants."""


@given(STEPS, st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([0.0, 0.1, 1.0]))
def test_the_limit_holds_however_late_the_readings_are(steps, ratio, floor):
    window = 10.0
    budget = BudgetWindow(ratio, floor, window)
    time, newest, calls, extra = 0.0, 0.0, [], []
    for pause, late, step in steps:
        time += pause
        reading = max(0.0, time - late)
        newest = max(newest, reading)  # what a late one belongs to
        if step is CALL:
            budget.observe(reading)
            calls.append(newest)
        elif budget.spend(reading):
            extra.append(newest)
    carried = 1 if floor == 0 else 0
    for spent in extra:
        since = spent - window
        allowed = ratio * sum(since <= each <= spent for each in calls) + floor * window + carried
        assert sum(since < each <= spent for each in extra) <= allowed + 1e-6


@given(STEPS)
def test_a_late_reading_costs_and_earns_what_one_in_time_does(steps):
    late, in_time = BudgetWindow(0.5, 0.1, 10.0), BudgetWindow(0.5, 0.1, 10.0)
    time, newest = 0.0, 0.0
    for pause, by, step in steps:
        time += pause
        reading = max(0.0, time - by)
        newest = max(newest, reading)
        if step is CALL:
            late.observe(reading)
            in_time.observe(newest)
        else:
            assert late.spend(reading) == in_time.spend(newest)


@pytest.mark.parametrize("late", [0.05, 0.2, 9.9, 10.0, 11.0, 1_000.0])
def test_one_late_reading_forgets_nothing(late):
    budget = BudgetWindow(0.0, 1.0, 10.0)
    assert sum(budget.spend(1_000.0) for _ in range(50)) == 10
    assert not budget.spend(1_000.0 - late)
    assert not budget.spend(1_000.0)


class Interrupted(SystemClock):
    """A clock in whose reading a signal handler comes in, or another thread."""

    def __init__(self):
        self.time, self.meanwhile = 0.0, None

    def now(self):
        reading, meanwhile, self.meanwhile = self.time, self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return reading


@pytest.fixture
def interrupted():
    clock = Interrupted()
    with OnClock(clock):
        yield clock


def test_a_handler_that_spends_between_a_reading_and_its_use_spends_once(interrupted):
    budget = RetryBudget(ratio=0.0, floor=1.0, window=10.0)
    granted = []

    def handler():
        interrupted.time += 0.5
        granted.extend(spend(budget) for _ in range(20))

    interrupted.meanwhile = handler
    granted.append(spend(budget))
    granted.extend(spend(budget) for _ in range(20))
    assert sum(granted) == 10


def test_no_thread_gets_in_between_a_reading_and_its_use(interrupted):
    budget = RetryBudget(ratio=0.0, floor=1.0, window=10.0)
    other = threading.Thread(target=lambda: observe(budget))
    seen = []

    def look():
        other.start()
        other.join(0.05)
        seen.append(other.is_alive())

    interrupted.meanwhile = look
    spend(budget)
    other.join()
    assert seen == [True]


class InterruptedWindow(BudgetWindow):
    """A window that a signal handler uses between a decision and what follows from it."""

    meanwhile = None

    def balance(self, now):
        left = super().balance(now)
        handler, self.meanwhile = self.meanwhile, None
        if handler is not None:
            handler()
        return left


def test_a_handler_between_a_decision_and_its_end_does_not_get_the_same_token():
    budget, granted = InterruptedWindow(0.0, 0.1, 10.0), []
    budget.meanwhile = lambda: granted.append(budget.spend(0.0))
    granted.append(budget.spend(0.0))
    assert sorted(granted) == [False, True]
    assert not budget.spend(0.0)


def test_each_clock_has_a_past_of_its_own():
    budget = RetryBudget(ratio=0.0, floor=0.1, window=10.0)
    for _ in range(3):
        with FakeClock() as clock:
            clock.advance(1_000)
            assert [spend(budget), spend(budget)] == [True, False]
        with FakeClock():
            assert [spend(budget), spend(budget)] == [True, False]


def test_a_context_without_a_clock_of_its_own_does_not_begin_again():
    budget = RetryBudget(ratio=0.0, floor=0.1, window=1_000.0)
    assert sum(spend(budget) for _ in range(200)) == 100
    assert not spend(budget)
