"""What the middlewares answer themselves."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import BulkheadFullError, DeadlineExpiredError
from mainstay.integrations._own_responses import answer_to, seconds_to_wait


@given(st.floats(0, 86_400) | st.none(), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_in_whole_seconds_and_never_too_short(retry_after, chance):
    seconds = seconds_to_wait(retry_after, chance)
    least = retry_after or 0.0
    assert max(1, least) <= seconds <= math.ceil(least + max(1.0, least * 0.1))


@pytest.mark.parametrize("retry_after", [math.inf, 1e300])
def test_a_delay_is_at_most_a_day_and_its_jitter(retry_after):
    assert seconds_to_wait(retry_after, 0.0) == 86_400


@pytest.mark.parametrize("retry_after", [-5.0, 0.0, None, math.nan])
def test_a_delay_that_is_none_is_a_second(retry_after):
    assert seconds_to_wait(retry_after, 0.5) == 1


def test_only_what_policies_say_is_answered():
    assert answer_to(BulkheadFullError("orders", "full", 2.0), 0.0).status == 503
    assert answer_to(DeadlineExpiredError("orders"), 0.0).status == 504
    assert answer_to(TimeoutError(), 0.0) is None
    assert answer_to(KeyboardInterrupt(), 0.0) is None


def test_an_answer_tells_nobody_what_it_is_about():
    assert b"orders" not in answer_to(BulkheadFullError("orders", "full", 2.0), 0.0).body
