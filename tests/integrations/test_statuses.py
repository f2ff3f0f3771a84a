"""Which status of gRPC our errors are, as a table; nothing of gRPC is needed for it."""

import math

import pytest

from mainstay import errors
from mainstay.integrations._statuses import pushback_of, status_of

STATUSES = {
    errors.BulkheadFullError("db", "full", 0.5): "RESOURCE_EXHAUSTED",
    errors.RateLimitedError("db", 0.5): "RESOURCE_EXHAUSTED",
    errors.CircuitOpenError("db", 0.5): "UNAVAILABLE",
    errors.NoMemberError("db", [OSError("a")], 0.5, 0, 0.1, ["a"]): "UNAVAILABLE",
    errors.RejectedError("db"): "UNAVAILABLE",
    errors.DeadlineExpiredError("db"): "DEADLINE_EXCEEDED",
    errors.TimedOutError("db", 1.0): "DEADLINE_EXCEEDED",
    errors.ResultRefusedError("db", 1, 1, 1.0): None,
    errors.CheckpointError("db"): None,
    TimeoutError("of somebody else"): None,
    ValueError("a"): None,
}


@pytest.mark.parametrize(
    ("error", "status"), STATUSES.items(), ids=lambda each: type(each).__name__
)
def test_an_error_is_a_status_or_none(error, status):
    assert status_of(error) == status


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        (0.0, "0"),
        (0.25, "250"),
        (0.0001, "1"),
        (1.5, "1500"),
        (2.3, "2300"),
        (-1.0, "0"),
        (1e12, str(2**31 - 1)),
    ],
)
def test_a_pushback_is_whole_milliseconds_and_never_too_early(seconds, milliseconds):
    assert pushback_of(errors.CircuitOpenError("db", seconds)) == (
        ("grpc-retry-pushback-ms", milliseconds),
    )


@pytest.mark.parametrize(
    "error",
    [errors.RejectedError("db"), ValueError("a"), errors.CircuitOpenError("db", math.inf)],
)
def test_without_a_time_there_is_no_pushback(error):
    assert pushback_of(error) == ()
