"""The time left for everything inside a block.

A deadline never interrupts: policies read it before they start and before they wait. Nested
deadlines can only shorten it. It follows the context: into nested calls, into the tasks made
inside the block, and into threads that run in a copy of the context.
"""

import math
from contextlib import AbstractContextManager

from mainstay._core import ambient
from mainstay._core.durations import Duration, to_seconds


class _Deadline(AbstractContextManager[None]):
    """The block form of `deadline`; may be entered again, and by several threads at once."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        ambient.enter(ambient.with_deadline(self._seconds))

    def __exit__(self, *exc_info: object) -> None:
        ambient.leave()


def deadline(seconds: Duration) -> AbstractContextManager[None]:
    """Set how much time is left for everything inside the block.

    It never interrupts running code. A policy entered with no time left raises
    `DeadlineExpiredError` before it calls anything; a retry does not start a wait that would
    outlast it. A nested deadline can only shorten the outer one.

    Args:
        seconds: Time from the entry of the block, as a number of seconds or a `timedelta`. At
            least 0, which leaves no time, and finite.

    Returns:
        A context manager for ``with``, in sync and async code. Each entry starts anew.

    Raises:
        TypeError: If *seconds* is neither a number nor a `timedelta`.
        ValueError: If *seconds* is negative, NaN or infinite.

    Metrics:
        A call that began with no time left is `calls_total{outcome="timeout"}`, and
        `give_ups_total{reason="timeout"}`.

    Source:
        The deadline in the request context of Finagle and gRPC.

    Example:
        >>> from mainstay import deadline, remaining
        >>> with deadline(2.0):
        ...     with deadline(60):
        ...         remaining() <= 2.0
        True
    """
    return _Deadline(to_seconds(seconds, "seconds"))


def remaining(default: Duration | None = None) -> float | None:
    """Give the seconds that the surrounding `deadline` leaves.

    Args:
        default: What to answer without a deadline, and the most to answer with one: a number of
            seconds or a `timedelta`, at least 0. None for no such limit.

    Returns:
        Seconds, never below 0; None if there is neither a deadline nor a *default*.

    Raises:
        TypeError: If *default* is neither a number nor a `timedelta`.
        ValueError: If *default* is negative, NaN or infinite.

    Example:
        >>> from mainstay import remaining
        >>> remaining() is None
        True
        >>> remaining(default=5)
        5.0
    """
    most = math.inf if default is None else to_seconds(default, "default")
    left = min(most, max(0.0, ambient.surroundings().left()))
    return None if left == math.inf else left
