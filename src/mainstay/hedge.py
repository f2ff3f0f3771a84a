"""When to start the next copy of a redundant call: its `start=`.

What `together()` starts is the call itself. What the other two start because the primary is slow
is a hedge, and is charged to the budget.

Example:
    >>> from mainstay import hedge, redundant
    >>> policy = redundant(copies=2, start=hedge.after(0.05))
    >>> policy.call(str.upper, "ok")
    'OK'
"""

import math

import attrs

from mainstay._core.arguments import Duration, to_seconds

__all__ = ["Start", "after", "quantile", "together"]


@attrs.frozen
class Delay:
    """After how long the next copy starts; what is in a `Start`.

    Attributes:
        seconds: After how long without an answer; None where that follows from the quantile.
        q: The quantile, above 0 and below 1; 0 where there is none.
        at_least: The shortest time that may follow from the quantile, in seconds.
        at_most: The longest one.
    """

    seconds: float | None = 0.0
    q: float = 0.0
    at_least: float = 0.0
    at_most: float = math.inf

    @property
    def together(self) -> bool:
        """True if all copies start at once."""
        return self.seconds == 0.0

    def limited(self, seconds: float) -> float:
        """Return what follows from the quantile, between floor and ceiling."""
        return min(self.at_most, max(self.at_least, seconds))


@attrs.frozen
class Start:
    """When copies start: the result of the functions of this module.

    Example:
        >>> from mainstay import hedge, redundant
        >>> slow_start: hedge.Start = hedge.after(0.05)
        >>> redundant(copies=2, start=slow_start).call(str.upper, "ok")
        'OK'
    """

    _delay: Delay = attrs.field(alias="delay")


def delay_of(start: Start) -> Delay:
    """Return what is in a `Start`, which shows users nothing."""
    return start._delay


def together() -> Start:
    """Start all copies at once.

    Example:
        >>> from mainstay import hedge, redundant
        >>> redundant(copies=2, start=hedge.together()).call(str.upper, "ok")
        'OK'
    """
    return Start(Delay())


def after(seconds: Duration) -> Start:
    """Start the next copy each time that *seconds* have passed without an answer.

    Args:
        seconds: A number of seconds or a `timedelta`, above 0.

    Raises:
        TypeError: If *seconds* is neither a number nor a `timedelta`.
        ValueError: If *seconds* is 0, negative, NaN or infinite.

    Example:
        >>> from mainstay import hedge, redundant
        >>> redundant(copies=2, start=hedge.after(0.25)).call(str.upper, "ok")
        'OK'
    """
    return Start(Delay(to_seconds(seconds, "seconds", zero=False)))


def quantile(q: float, at_least: Duration = 0.001, at_most: Duration | None = None) -> Start:
    """Start the next copy when the call takes longer than the share *q* of the last calls.

    The measured time of a call is that from the start of the primary to the answer, whichever copy
    answered; so about 1 - *q* of the calls start a second copy. The last few thousand calls count.
    No copy starts for slowness before `max(20, 5 / (1 - q))` calls have been answered.

    Args:
        q: The quantile, above 0 and below 1: 0.95 hedges about 5 % of the calls.
        at_least: The shortest delay of a copy: seconds or a `timedelta`, at least 0.
        at_most: The longest delay of a copy, once enough calls were measured: seconds or a
            `timedelta`, at least *at_least*. None for no such limit.

    Raises:
        TypeError: If *q* is not a number, or *at_least* or *at_most* is neither a number nor a
            `timedelta`.
        ValueError: If an argument is outside its range.

    Source:
        Jeffrey Dean and Luiz André Barroso, "The Tail at Scale", Communications of the ACM 56(2),
        2013: hedged requests after the 95th percentile.

    Example:
        >>> from mainstay import hedge, redundant
        >>> start = hedge.quantile(0.95, at_least=0.01, at_most=1.0)
        >>> redundant(copies=2, start=start).call(str.upper, "ok")
        'OK'
    """
    if isinstance(q, bool) or not isinstance(q, int | float):
        raise TypeError(f"`q` must be a number, not {q!r}")
    if not 0 < q < 1:
        raise ValueError(f"`q` must be above 0 and below 1, not {q!r}")
    floor = to_seconds(at_least, "at_least")
    ceiling = math.inf if at_most is None else to_seconds(at_most, "at_most")
    if floor > ceiling:
        raise ValueError(f"`at_least` ({at_least!r}) must not be above `at_most` ({at_most!r})")
    return Start(Delay(None, float(q), floor, ceiling))
