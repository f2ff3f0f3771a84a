"""`RetryBudget`: how many extra calls policies may make, as a share of the observed calls.

The rules, for a budget of `ratio` r, `floor` f per second and `window` w seconds:

1. The extra calls of the last w seconds are at most r x (calls of the last w seconds) + f x w.
2. Where f is 0, credit that leaves the window unspent is kept until it makes one whole token,
   and no more: at low rates the tokens of long spans add up instead of being lost.
3. Observing a call never spends; a refusal changes nothing.
4. A lenient extra call is granted, and charged as any other, while the calls of the window are
   fewer than 1 / r: too few to make a token, and so to tell a share. Rules 1 and 2 then hold for
   the others. Where r is 0, nothing is granted to it that is not to others.
5. Time never goes back: a reading that is older than the newest one counts as that one.

`BudgetWindow` is the arithmetic: it takes the time as an argument and knows no lock. Time is cut
into `SLICES` slices a window. Calls are summed over at most the window and extra calls over at
least it, so that the rounding errs on the side of fewer extra calls.

Source:
    The retry budget of Finagle (`RetryBudget`: a share of the requests plus a minimum a second,
    over a sliding window).
"""

import math
import threading
from collections import deque

import attrs

from mainstay._core import context
from mainstay._core.arguments import Duration, to_number, to_seconds, to_share
from mainstay._core.clock import SYSTEM, Clock
from mainstay._core.forks import reset_after_fork, unlocked_copy
from mainstay._core.misuse import shows_use
from mainstay._core.sharing import Shared, reset_with_all

SLICES = 100
_SHORTEST = 1e-9  # the shortest window that a clock can measure
_ROUNDING = 1e-9  # so that ten times 0.1 makes a whole token


@attrs.define(eq=False, repr=False)
class _Slice:
    number: int
    calls: int = 0
    extra: int = 0


@attrs.define(eq=False, repr=False)
class BudgetWindow:
    """The calls and extra calls of a window, and what may still be spent."""

    ratio: float
    floor: float
    window: float
    _slices: deque[_Slice] = attrs.field(factory=deque, init=False)
    _kept: float = attrs.field(default=0.0, init=False)

    def observe(self, now: float, calls: int = 1) -> None:
        """Count calls that the policies were asked for."""
        self._at(now).calls += calls

    def spend(self, now: float, *, lenient: bool = False) -> bool:
        """Take a token for one extra call, if there is one, or by rule 4."""
        here = self._at(now)
        here.extra += 1  # before the decision, or a signal handler could spend the same one
        if self.balance(now) < -_ROUNDING and not (lenient and self._knows_too_few()):
            here.extra -= 1
            return False
        return True

    def balance(self, now: float) -> float:
        """Return the number of extra calls that rules 1 and 2 still allow."""
        self._at(now)
        slices = tuple(self._slices)  # a signal handler may come in and move the window
        share = self.ratio * _calls_in(slices)
        extra = sum(each.extra for each in slices)
        return self._kept + share + self.floor * self.window - extra

    def _knows_too_few(self) -> bool:
        """True if the calls of the window do not make one token."""
        return self.ratio > 0 and self.ratio * _calls_in(tuple(self._slices)) < 1 - _ROUNDING

    def _at(self, now: float) -> _Slice:
        """Drop the slices that have left the window, and return the newest one."""
        number = math.floor(now * SLICES / max(self.window, _SHORTEST))
        slices = self._slices
        if slices:
            number = max(number, slices[-1].number)
        while slices and slices[0].number < number - SLICES:
            old = slices.popleft()
            if self.floor == 0:
                credit = self._kept + self.ratio * old.calls - old.extra
                self._kept = min(1.0, max(0.0, credit))
        if not slices or slices[-1].number < number:
            slices.append(_Slice(number))
        return slices[-1]


def _calls_in(slices: tuple[_Slice, ...]) -> int:
    """Return the number of calls in the window that ends with the last of *slices*."""
    first = slices[-1].number - SLICES
    return sum(each.calls for each in slices if each.number > first)


class RetryBudget(Shared):
    """Limits extra calls to a share of the observed calls, so that retries cannot pile up load.

    Any number of policies, threads and tasks may share one budget: all their calls are observed,
    except those whose attempts were all refused before they ran (`RejectedError`). Every retry,
    hedge or further attempt is charged. First attempts are never charged. If the budget denies an
    extra call, the call ends at once, without waiting, and raises its original exception.

    Args:
        ratio: Extra calls per observed call, 0 to 1.
        floor: Extra calls per second that are always allowed, for programs with few calls. At least
            0. With 0, unspent credit is kept beyond the window until it is enough for one extra
            call.
        window: The time for which calls and extra calls count: seconds or a `timedelta`, above 0.

    Raises:
        TypeError: If an argument is not a number (or, for *window*, a `timedelta`).
        ValueError: If an argument is outside its range.

    Metrics:
        A refused retry is `give_ups_total{reason="budget"}`.

    Source:
        Finagle's `RetryBudget`.

    Example:
        >>> from mainstay import RetryBudget, retry
        >>> budget = RetryBudget(ratio=0.1, floor=1.0)
        >>> fetch = retry(on=ConnectionError, budget=budget)
        >>> store = retry(on=TimeoutError, budget=budget)
    """

    __slots__ = ("__weakref__", "_clock", "_lock", "_window")

    @shows_use(
        "RetryBudget(0.1, floor=1.0, window=10.0)",
        elsewhere={
            "percent_can_retry": "`ratio=`",
            "percent": "`ratio=`, a share from 0 to 1",
            "token_ratio": "`ratio=`",
            "min_retries_per_sec": "`floor=`",
            "ttl": "`window=`",
        },
    )
    def __init__(self, ratio: float = 0.1, floor: float = 1.0, window: Duration = 10.0) -> None:
        self._window = BudgetWindow(
            to_share(ratio, "ratio"),
            to_number(floor, "floor"),
            to_seconds(window, "window", zero=False),
        )
        self._clock: Clock = SYSTEM
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread
        reset_after_fork(self, RetryBudget._reset_after_fork)
        reset_with_all(self, RetryBudget._empty)

    def _reset_after_fork(self) -> None:
        self._lock = unlocked_copy(self._lock)

    def _empty(self) -> None:
        with self._lock:
            used = self._window
            self._window = BudgetWindow(used.ratio, used.floor, used.window)

    def _by(self, clock: Clock) -> BudgetWindow:
        """Return the window; by another clock than the last one, an empty one."""
        if clock is not self._clock:
            self._empty()
            self._clock = clock
        return self._window

    def __repr__(self) -> str:
        used = self._window
        return f"RetryBudget(ratio={used.ratio}, floor={used.floor}, window={used.window})"


def budget_of(value: object) -> RetryBudget | None:
    """Turn what users give as `budget=` into a budget: None, a budget, or a ratio of its own."""
    if value is None or isinstance(value, RetryBudget):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            f"`budget` must be a RetryBudget, a share of the calls from 0 to 1, or None, "
            f"not {value!r}"
        )
    return RetryBudget(to_share(value, "budget"), floor=0.0)


def observe(budget: RetryBudget, calls: int = 1) -> None:
    """Count calls that a policy with *budget* was asked for; below 0 to take them back."""
    clock = context.current_context().clock
    with budget._lock:  # the clock is read inside, so that no thread's reading is late
        budget._by(clock).observe(clock.now(), calls)


@attrs.define(eq=False, repr=False)
class ObservedCall:
    """A call that a budget has observed, unless every attempt of it is refused before it runs.

    Needed from the first attempt on that fails.
    """

    _budget: RetryBudget
    _ran: bool = False
    _is_observed: bool = True

    def attempted(self, *, refused: bool) -> None:
        """Record that an attempt has ended, or that there was nobody to make it."""
        if self._ran:
            return
        self._ran = not refused
        if self._is_observed != self._ran:
            self._is_observed = self._ran
            observe(self._budget, 1 if self._ran else -1)


def spend(budget: RetryBudget, *, lenient: bool = False) -> bool:
    """Take one extra call out of *budget*; False if it has none left.

    A lenient one is granted while the budget has observed too few calls to make a token.
    """
    clock = context.current_context().clock
    with budget._lock:
        return budget._by(clock).spend(clock.now(), lenient=lenient)
