"""Durations: what is taken and what is refused."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._core.arguments import to_seconds


@given(st.floats(min_value=0, allow_infinity=False) | st.integers(0, 2**1000))
def test_numbers_that_are_not_negative_are_taken_as_they_are(value):
    seconds = to_seconds(value, "wait")
    assert type(seconds) is float
    assert seconds == float(value)


@given(st.timedeltas(min_value=timedelta(0)))
def test_timedeltas_that_are_not_negative_are_their_seconds(value):
    assert to_seconds(value, "wait") == value.total_seconds()


@given(
    st.floats(max_value=0, exclude_max=True)
    | st.integers(max_value=-1)
    | st.just(math.nan)
    | st.just(math.inf)
    | st.integers(min_value=2**1024)
    | st.timedeltas(max_value=timedelta(microseconds=-1)),
)
def test_other_numbers_are_refused_by_name_and_value(value):
    with pytest.raises(ValueError, match="`wait` must be finite and at least 0 seconds") as caught:
        to_seconds(value, "wait")
    assert repr(value) in str(caught.value)


@given(st.none() | st.booleans() | st.text() | st.complex_numbers() | st.lists(st.integers()))
def test_everything_else_is_refused_by_its_type(value):
    with pytest.raises(TypeError, match="`wait` must be seconds") as caught:
        to_seconds(value, "wait")
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [0, 0.0, -0.0, timedelta(0)])
def test_zero_is_taken_only_where_it_makes_sense(value):
    assert to_seconds(value, "wait") == 0.0
    with pytest.raises(ValueError, match="`timeout` must be finite and above 0 seconds"):
        to_seconds(value, "timeout", zero=False)
