"""What the middlewares answer themselves."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import (
    AllMembersFailedError,
    BulkheadFullError,
    CircuitOpenError,
    DeadlineExpiredError,
    NoMemberError,
)
from mainstay.integrations._own_responses import answer_to, health_page, seconds_to_wait
from mainstay.types import ComponentHealth


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


CLOSED, LATER, OVER = (
    BulkheadFullError("orders", "full", None),
    CircuitOpenError("db", 30.0),
    DeadlineExpiredError("orders"),
)
NOBODY = NoMemberError("db", [OSError("a")], 60.0, 0, 0.1, ["a"])
GROUPS = {
    "one": (ExceptionGroup("tasks", [LATER]), 503, "30"),
    "two": (ExceptionGroup("tasks", [CLOSED, LATER]), 503, "30"),
    "in another order": (ExceptionGroup("tasks", [LATER, CLOSED]), 503, "30"),
    "without a time": (ExceptionGroup("tasks", [CLOSED, CLOSED]), 503, "1"),
    "nested": (ExceptionGroup("tasks", [CLOSED, ExceptionGroup("more", [LATER])]), 503, "30"),
    "a pool's own": (ExceptionGroup("tasks", [NOBODY, LATER]), 503, "60"),
    "of a pool": (AllMembersFailedError("db", [LATER], 30.0, 1, 0.1, ["a"]), 503, "30"),
    "times that are over": (ExceptionGroup("tasks", [OVER, OVER]), 504, None),
    "of both": (ExceptionGroup("tasks", [OVER, LATER]), 503, "30"),
    "with somebody else's": (ExceptionGroup("tasks", [LATER, OSError("a")]), None, None),
    "with an end": (BaseExceptionGroup("tasks", [LATER, KeyboardInterrupt()]), None, None),
}


@pytest.mark.parametrize(("group", "status", "seconds"), GROUPS.values(), ids=GROUPS)
def test_a_group_of_refusals_is_answered_as_the_gravest(group, status, seconds):
    answer = answer_to(group, 0.0)
    assert (answer and answer.status) == status
    if answer:
        assert dict(answer.headers).get("retry-after") == seconds


def test_an_answer_tells_nobody_what_it_is_about():
    assert b"orders" not in answer_to(BulkheadFullError("orders", "full", 2.0), 0.0).body


@pytest.mark.parametrize(
    ("retry_after", "chance", "seconds"),
    [(100.0, 0.5, 105), (100.0, 0.0, 100), (2.0, 0.5, 3), (2.5, 0.25, 3), (0.2, 0.9, 2)],
)
def test_a_tenth_is_added_or_a_second(retry_after, chance, seconds):
    assert seconds_to_wait(retry_after, chance) == seconds


def test_no_cache_keeps_an_answer():
    headers = dict(answer_to(DeadlineExpiredError("orders"), 0.0).headers)
    assert headers["cache-control"] == "no-store"
    assert headers["content-type"] == "text/plain; charset=utf-8"


def test_the_page_about_health_says_how_each_is_and_since_when():
    states = ("ok", "failing", "full", "open", "down")
    components = {each: ComponentHealth(each, "breaker", each, 12.34567) for each in states}
    page = json.loads(health_page((), components).body)
    assert page["status"] == "pass"
    assert {name: check["status"] for name, (check,) in page["checks"].items()} == {
        "ok": "pass",
        "failing": "warn",
        "full": "fail",
        "open": "fail",
        "down": "fail",
    }
    assert page["checks"]["ok"][0]["since"] == 12.346
    assert "notes" not in page


def test_the_page_about_health_says_why_a_process_is_not_ready():
    answer = health_page(("the process drains",), {})
    assert answer.status == 503
    assert json.loads(answer.body) == {
        "status": "fail",
        "checks": {},
        "notes": ["the process drains"],
    }
