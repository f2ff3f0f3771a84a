"""Our errors as statuses of gRPC: what a server answers for them, and what a client's code sees."""

import math

from mainstay.errors import (
    BulkheadFullError,
    DeadlineExpiredError,
    MainstayError,
    RateLimitedError,
    RejectedError,
    TimedOutError,
)

_STATUSES: tuple[tuple[type[MainstayError], str], ...] = (
    (BulkheadFullError, "RESOURCE_EXHAUSTED"),
    (RateLimitedError, "RESOURCE_EXHAUSTED"),
    (RejectedError, "UNAVAILABLE"),
    (DeadlineExpiredError, "DEADLINE_EXCEEDED"),
    (TimedOutError, "DEADLINE_EXCEEDED"),
)

PUSHBACK = "grpc-retry-pushback-ms"
"""The trailer by which a server says when to come again, in milliseconds."""

_LONGEST_PUSHBACK = 2**31 - 1  # gRPC reads it as 32 bits


def status_of(error: BaseException) -> str | None:
    """Return the name of the status that an error of ours is; None for any other one."""
    for kind, name in _STATUSES:
        if isinstance(error, kind):
            return name
    return None


def pushback_of(error: BaseException) -> tuple[tuple[str, str], ...]:
    """Return the trailers that say when to come again, if *error* knows that."""
    seconds = getattr(error, "retry_after", None)
    if seconds is None or not math.isfinite(seconds):
        return ()
    milliseconds = max(0, math.ceil(seconds * 1000 - 1e-6))
    return ((PUSHBACK, str(min(milliseconds, _LONGEST_PUSHBACK))),)
