"""The decisions of retry, for all numbers."""

import math
import threading
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mainstay._retry.decision import (
    default_wait,
    hint_of,
    hinted_wait,
    out_of_attempts,
    out_of_time,
)

chances = st.floats(0, 1)
attempts = st.integers(1, 10**9)


@given(attempts, chances)
@example(1, 1.0)
@example(10**9, 1.0)
def test_the_default_wait_is_within_its_bounds(attempt, chance):
    exponent = min(attempt - 1, 100)
    assert 0 <= default_wait(attempt, chance) <= min(5.0, 0.1 * 2**exponent)


@given(st.integers(1, 100))
def test_the_default_wait_uses_the_whole_of_its_bounds(attempt):
    most = min(5.0, 0.1 * 2.0 ** (attempt - 1))
    assert default_wait(attempt, 0.0) == 0.0
    assert default_wait(attempt, 0.5) == most / 2
    assert default_wait(attempt, 1.0) == most


@given(attempts, st.tuples(chances, chances))
def test_the_default_wait_grows_with_chance_and_attempt(attempt, pair):
    low, high = sorted(pair)
    assert default_wait(attempt, low) <= default_wait(attempt, high)
    assert default_wait(attempt, low) <= default_wait(attempt + 1, low)


@given(st.floats(0, 1e300), chances)
def test_a_hint_is_waited_with_up_to_ten_percent_more(hint, chance):
    assert hint <= hinted_wait(hint, chance) <= hint * 1.1000001


@given(st.floats(min_value=0) | st.integers(0, 2**1000))
def test_a_delay_is_the_hint(delay):
    assert hint_of(delay) == float(delay)


@given(st.timedeltas(min_value=timedelta(0)))
def test_a_timedelta_is_the_hint_in_seconds(delay):
    assert hint_of(delay) == delay.total_seconds()


@given(
    st.floats(max_value=0, exclude_max=True)
    | st.just(math.nan)
    | st.integers(max_value=-1)
    | st.timedeltas(max_value=timedelta(microseconds=-1))
)
def test_a_negative_or_nan_delay_is_as_good_as_true(delay):
    assert math.isnan(hint_of(delay))
    assert math.isnan(hint_of(True))


@given(st.integers(min_value=2**1024))
def test_a_delay_that_no_float_can_hold_is_endless(delay):
    assert hint_of(delay) == math.inf


def test_false_is_no_hint():
    assert hint_of(False) is None


@given(st.none() | st.text() | st.lists(st.integers()) | st.complex_numbers() | st.binary())
def test_any_other_verdict_is_a_type_error_that_shows_it(verdict):
    with pytest.raises(TypeError, match="`on` must return True, False, or a delay") as caught:
        hint_of(verdict)
    assert repr(verdict) in str(caught.value)


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_attempts_are_out_when_all_are_made(made, most):
    assert out_of_attempts(made, most) is (made >= most)
    assert out_of_attempts(made, None) is False


@given(st.floats(min_value=0), st.floats(allow_nan=False))
def test_time_is_out_when_a_wait_leaves_none_to_call_in(wait, left):
    assert out_of_time(wait, left) is not (wait < min(left, threading.TIMEOUT_MAX))


@pytest.mark.parametrize(
    ("wait", "left", "expected"),
    [(0.0, 0.0, True), (0.0, 1e-9, False), (1.0, math.inf, False), (math.inf, math.inf, True)],
)
def test_the_edges_of_time(wait, left, expected):
    assert out_of_time(wait, left) is expected


def test_a_wait_as_long_as_the_system_can_sleep_is_too_long():
    assert out_of_time(threading.TIMEOUT_MAX, math.inf)
    assert not out_of_time(math.nextafter(threading.TIMEOUT_MAX, 0.0), math.inf)
