"""What to do after a failed attempt: numbers in, a wait or a reason out. Nothing here acts.

    verdict of `on`     attempts made   `stop`   time left       budget    then
    False               any             any      any             any       "not_retryable"
    True, or a delay    all of them     any      any             any       "attempts"
    True, or a delay    fewer, and an argument is used up        any       "attempts"
    True, or a delay    fewer           True     any             any       "attempts"
    True, or a delay    fewer           False    wait >= left    any       "timeout"
    True, or a delay    fewer           False    wait < left     spent     "budget"
    True, or a delay    fewer           False    wait < left     granted   wait, again

The columns are evaluated from left to right, and no further than necessary: a wait is computed only
if another attempt may follow, and the budget is charged only if another attempt will follow. A
refused result counts as the verdict True; where the table says "attempts", its reason is
"refused_result".
"""

import math
from datetime import timedelta
from threading import TIMEOUT_MAX as _LONGEST_SLEEP

from mainstay._core.arguments import as_float
from mainstay._core.words import described

FIRST_WAIT = 0.1
LONGEST_WAIT = 5.0
HINT_JITTER = 0.1
NEXT_TO_NOTHING = 0.001
_MOST_DOUBLINGS = 60  # more than any wait needs; only to stay within a float


def default_wait(
    attempt: int, chance: float, first: float = FIRST_WAIT, longest: float = LONGEST_WAIT
) -> float:
    """Return the seconds to wait after failed attempt *attempt*: uniform(0, min(5, 0.1 x 2^(n-1))).

    Args:
        attempt: The number of the attempt that failed, from 1.
        chance: A random number from 0 to 1.
        first: The most seconds after the first attempt.
        longest: The most seconds after any attempt.

    Source:
        "Full jitter" in Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog,
        2015.
    """
    doublings = min(attempt - 1, _MOST_DOUBLINGS)
    return chance * min(longest, first * 2.0**doublings)


def hinted_wait(hint: float, chance: float) -> float:
    """Return the seconds to wait if the error itself asks for *hint* seconds: up to 10 % more.

    Never less, since the server said when to come back; more, so that callers do not all come back
    at the same moment.
    """
    return hint * (1.0 + HINT_JITTER * chance)


def hint_of(verdict: object) -> float | None:
    """Return the delay in a verdict of `on`: None for False, NaN for True.

    Verdicts are compared by identity, so that a 1 is a delay of a second and not a True. A negative
    or NaN delay means "use `wait`", which is what True means.

    Raises:
        TypeError: If *verdict* is not one.
    """
    if verdict is True:
        return math.nan
    if verdict is False:
        return None
    if isinstance(verdict, timedelta):
        delay = verdict.total_seconds()
    elif isinstance(verdict, int | float) and not isinstance(verdict, bool):
        delay = as_float(verdict)
    else:
        raise TypeError(
            f"`on` must return True, False, or a delay in seconds or as a timedelta, "
            f"not {described(verdict)}"
        )
    return delay if delay >= 0 else math.nan


def out_of_attempts(made: int, most: int | None) -> bool:
    """True if *made* attempts are all that *most* allows; None allows any number."""
    return most is not None and made >= most


def usable_hint(hint: float, last: float) -> float:
    """Return *hint*, or NaN where it is the second in a row that asks for next to no wait.

    A server that answers "at once" again and again would be called in a busy loop.
    """
    return math.nan if hint < NEXT_TO_NOTHING and last < NEXT_TO_NOTHING else hint


def out_of_time(wait: float, left: float) -> bool:
    """True if a wait of *wait* seconds would use up the *left* seconds, leaving none to call in.

    A wait that the system cannot sleep, about 290 years, never fits.
    """
    return wait >= left or wait >= _LONGEST_SLEEP
