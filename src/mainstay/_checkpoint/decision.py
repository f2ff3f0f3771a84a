"""What to do about a run: records and numbers in, a verdict out. Nothing here acts.

    answer of the store     `on_busy`     `on_complete`     then
    acquired                any           any               run
    held                    raise         any               busy
    held                    wait, return  any               wait, and ask again
    finished                return        any               return the result, if it was held before
    finished                any           return            return the result
    finished                any           raise             complete
    poisoned                any           any               poisoned

A save is due after so many items, or so many seconds, whichever the policy counts in.
"""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, TypeAlias

import attrs

from mainstay._core.arguments import Duration, to_seconds
from mainstay.stores.base import Acquired, Acquisition, Finished, Held

OnBusy: TypeAlias = Literal["raise", "wait", "return"]
OnComplete: TypeAlias = Literal["return", "raise", "rerun"]
OnCodeChange: TypeAlias = Literal["warn", "raise", "ignore"] | Callable[[Any], Any]
Verdict: TypeAlias = Literal["run", "busy", "wait", "return", "complete", "poisoned"]

SHORTEST_POLL = 0.02
LONGEST_POLL = 1.0
_SMOOTHING = 0.2


@attrs.frozen
class YoungDaly:
    """Saves at the interval that costs least; see `young_daly`."""

    mtbf: float
    max_replay: float

    def interval(self, cost: float) -> float:
        """Give the seconds between saves that take *cost* seconds each."""
        return min(math.sqrt(2.0 * cost * self.mtbf), self.max_replay)


Every: TypeAlias = int | timedelta | YoungDaly


def young_daly(*, mtbf: Duration, max_replay: Duration = 30.0) -> YoungDaly:
    """Save as often as costs least: every sqrt(2 x cost of a save x MTBF) seconds.

    Saving more often spends more time on saves than crashes would cost; saving less often repeats
    more work after each crash. The cost of a save is measured while the run goes on, and smoothed.

    Args:
        mtbf: Mean time between failures, of whatever interrupts the run: seconds or a
            `timedelta`, above 0.
        max_replay: Most seconds of work to repeat after a crash, which bounds the interval:
            seconds or a `timedelta`, above 0.

    Returns:
        A value for `every=`.

    Raises:
        TypeError: If an argument is neither a number nor a `timedelta`.
        ValueError: If an argument is not above 0, or not finite.

    Metrics:
        `checkpoint_interval_seconds` shows what it chose.

    Source:
        J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17(9),
        1974; J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart
        dumps", FGCS 22(3), 2006.

    Example:
        >>> from mainstay import young_daly
        >>> every = young_daly(mtbf=24 * 3600, max_replay=60)
        >>> round(every.interval(cost=0.001), 1)
        13.1
    """
    return YoungDaly(
        to_seconds(mtbf, "mtbf", zero=False), to_seconds(max_replay, "max_replay", zero=False)
    )


def next_save(every: Every, items: int, now: float, cost: float) -> tuple[float, float]:
    """Say when the next save is due, after one that left *items* done at *now*.

    Returns:
        The number of items, and the time; whichever comes first, infinity where it does not count.
    """
    if isinstance(every, int):
        return items + every, math.inf
    return math.inf, now + interval_of(every, cost)


def interval_of(every: timedelta | YoungDaly, cost: float) -> float:
    """Give the seconds between saves that take *cost* seconds each."""
    return every.interval(cost) if isinstance(every, YoungDaly) else every.total_seconds()


def smoothed(cost: float, measured: float) -> float:
    """Take one more measurement of what a save costs; the first one stands for itself."""
    return measured if cost == 0 else cost + _SMOOTHING * (measured - cost)


def verdict_of(
    answer: Acquisition, on_busy: OnBusy, on_complete: OnComplete, *, waited: bool
) -> Verdict:
    """Say what an answer of the store means under the policy: the table above."""
    if isinstance(answer, Acquired):
        return "run"
    if isinstance(answer, Held):
        return "busy" if on_busy == "raise" else "wait"
    if isinstance(answer, Finished):
        attached = waited and on_busy == "return"
        return "complete" if on_complete == "raise" and not attached else "return"
    return "poisoned"


def reruns(on_busy: OnBusy, on_complete: OnComplete, *, waited: bool) -> bool:
    """Whether a finished run is to begin anew; not for a caller who waited for its result."""
    return on_complete == "rerun" and not (waited and on_busy == "return")


def poll_wait(polls: int, lease_left: float) -> float:
    """Give the seconds until a held run is asked for again: growing, not past its lease."""
    wait = min(LONGEST_POLL, SHORTEST_POLL * 2.0 ** min(polls, 10))
    return max(SHORTEST_POLL, min(wait, lease_left))


@attrs.frozen
class Code:
    """What is known of the code of a function.

    Attributes:
        version: What the user calls it.
        digest: What it is, without comments and layout; empty where there is no source.
    """

    version: str
    digest: str

    def change_since(self, saved: "Code") -> str | None:
        """Say how it differs from what the run was saved by; None if it does not."""
        if saved.version != self.version:
            return f"it was version {saved.version!r} and is version {self.version!r}"
        if saved.digest and self.digest and saved.digest != self.digest:
            return f"the source of the function differs, in the same version {self.version!r}"
        return None
