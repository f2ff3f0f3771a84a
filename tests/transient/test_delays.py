"""What servers ask to wait: `Retry-After`, `retry-after-ms`, and the resets of rate limits."""

import math
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay._transient.delays import asked_delay

WALL = 1_800_000_000.0  # 2027-01-15 08:00:00


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:20 GMT"}, 20.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:20 -0000"}, 20.0),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
        ({"retry-after": "Friday, 15-Jan-27 08:00:20 GMT"}, 20.0),
        ({"retry-after": "Fri Jan 15 08:00:20 2027"}, 20.0),
        ({"retry-after": "Fri, 15 Jan 2027 09:00:20 +0100"}, 20.0),
        ({"retry-after": "Fri, 15 Jan 2027 24:00:20 GMT"}, None),
        ({"retry-after": "Fri, 15 Jan 0000 08:00:20 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1, 2"}, None),
        ({"retry-after": " 3 "}, 3.0),
        ({"retry-after": "1_000"}, None),
        ({"retry-after": "\N{FULLWIDTH DIGIT ONE}"}, None),
        ({"retry-after": "1e308"}, None),
        ({"retry-after": "Fri, 99 Jan 2027 08:00:20 GMT"}, None),
        ({"retry-after": 3}, None),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
        ({"x-ratelimit-reset": "7"}, 7.0),
        ({"x-ratelimit-reset": "1800000009"}, 9.0),
        ({"x-ratelimit-reset": "1m30.5s"}, 90.5),
        ({"x-ratelimit-reset": "20ms"}, 0.02),
        ({"x-ratelimit-reset": "2h"}, 7200.0),
        ({"x-ratelimit-reset": "soon"}, None),
        ({"x-ratelimit-reset": f"{'9' * 400}h"}, None),
        ({"x-ratelimit-reset": "1.2.3s"}, None),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6s"}, 6.0),
        ({"x-ratelimit-reset-after": "2.5"}, 2.5),
        ({"x-ratelimit-reset-project-tokens": "4s", "x-ratelimit-reset": "soon"}, 4.0),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "6s",
                "x-ratelimit-remaining-tokens": "100",
            },
            1.0,
        ),
    ],
)
def test_what_headers_say(headers, expected):
    assert asked_delay(headers, WALL, throttled=True) == expected


def test_a_reset_counts_for_status_429_alone():
    assert asked_delay({"x-ratelimit-reset": "7"}, WALL, throttled=False) is None


@pytest.mark.parametrize("headers", [None, object(), 3])
def test_what_are_no_headers_say_nothing(headers):
    assert asked_delay(headers, WALL, throttled=True) is None


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_a_date_is_that_of_the_standard_library(date):
    date = date.replace(microsecond=0, tzinfo=UTC)
    headers = {"retry-after": format_datetime(date, usegmt=True)}
    assert asked_delay(headers, 0.0, throttled=False) == date.timestamp()


NAMES = ("retry-after-ms", "retry-after", "x-ratelimit-reset", "x-ratelimit-remaining")


HUGE = st.integers(0, 10**400).map(str) | st.integers(0, 10**400).map("{}h".format)


@given(
    st.dictionaries(st.sampled_from(NAMES), st.text() | st.floats().map(str) | HUGE), st.booleans()
)
def test_garbage_is_never_an_error_nor_a_delay_that_nobody_can_wait(headers, throttled):
    delay = asked_delay(headers, WALL, throttled=throttled)
    assert delay is None or 0.0 <= delay < math.inf
