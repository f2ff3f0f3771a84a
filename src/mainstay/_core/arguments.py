"""Checks of arguments that all policies share: numbers, durations, flags and choices."""

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeAlias

from mainstay._core.words import kind_in_words

Duration: TypeAlias = float | timedelta
"""Seconds (`float` or `int`) or a `timedelta`."""

LONGEST = 1e9
"""The longest limit of time that is passed on to sockets and stores, in seconds: 31 years."""


def to_count(value: object, parameter: str) -> int:
    """Return a whole number of at least 1.

    Raises:
        TypeError: If *value* is not a whole number.
        ValueError: If it is below 1.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{parameter}` must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"`{parameter}` must be at least 1, not {value}")
    return value


def to_number(value: object, parameter: str, *, zero: bool = True) -> float:
    """Return a finite number of at least 0, or above it where *zero* is false.

    Raises:
        TypeError: If *value* is not a number.
        ValueError: If it is NaN, infinite, negative, or 0 where *zero* is false.
    """
    number = _number(value, parameter)
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        least = "at least" if zero else "above"
        raise ValueError(f"`{parameter}` must be finite and {least} 0, not {value!r}")
    return number


def to_share(value: object, parameter: str) -> float:
    """Return a number from 0 to 1.

    Raises:
        TypeError: If *value* is not a number.
        ValueError: If it is not from 0 to 1.
    """
    number = _number(value, parameter)
    if not 0 <= number <= 1:
        raise ValueError(f"`{parameter}` must be from 0 to 1, not {value!r}")
    return number


def to_flag(value: object, parameter: str) -> bool:
    """Return *value*, which must be True or False itself.

    Raises:
        TypeError: If *value* is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"`{parameter}` must be True or False, not {value!r}")
    return value


def _number(value: object, parameter: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{parameter}` must be a number, not {value!r}")
    return as_float(value)


def as_float(number: float) -> float:
    """Return *number* as a float; an int that no float can hold is as good as infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def to_seconds(value: object, parameter: str, *, zero: bool = True) -> float:
    """Return a duration in seconds.

    Args:
        value: Seconds or a `timedelta`. Finite, not negative.
        parameter: The name that the error messages use.
        zero: True if 0 is allowed.

    Raises:
        TypeError: If *value* is neither a number nor a `timedelta`.
        ValueError: If *value* is NaN, infinite, negative, or 0 where *zero* is false.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = as_float(value)
    else:
        raise TypeError(f"`{parameter}` must be seconds (a number) or a timedelta, not {value!r}")
    if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not zero):
        least = "at least 0" if zero else "above 0"
        raise ValueError(f"`{parameter}` must be finite and {least} seconds, not {value!r}")
    return seconds


def to_limit(value: object, parameter: str) -> float | None:
    """Return a limit of time in seconds, above 0; None for no limit.

    That is `LONGEST` for whatever is longer, and comes to the same.

    Raises:
        TypeError: If *value* is not a number, a `timedelta` or None.
        ValueError: If *value* is NaN, infinite, or not above 0.
    """
    return None if value is None else min(to_seconds(value, parameter, zero=False), LONGEST)


def check_choice(value: object, parameter: str, choices: Sequence[object]) -> None:
    """Raise unless *value* is one of *choices*.

    Raises:
        ValueError: If it is none of them.
    """
    if value not in choices:
        *others, last = map(repr, choices)
        raise ValueError(f"`{parameter}` must be {', '.join(others)} or {last}, not {value!r}")


def check_callable(fn: object, policy: str) -> None:
    """Raise if a policy is given something else than a function.

    Raises:
        TypeError: If *fn* cannot be called.
    """
    if not callable(fn):
        raise TypeError(f"{policy} wraps callables, not {kind_in_words(fn)}")


class DefaultInt(int):
    """A default that can be distinguished from the same number given by the caller."""
