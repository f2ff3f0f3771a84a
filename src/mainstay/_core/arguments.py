"""Counts, numbers, shares and switches as users give them, or refused by their parameter's name.

Durations are in `durations`.
"""

import math


def to_count(value: object, parameter: str) -> int:
    """Take a whole number of at least 1.

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
    """Take a finite number of at least 0, or above it where *zero* is false.

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
    """Take a number from 0 to 1.

    Raises:
        TypeError: If *value* is not a number.
        ValueError: If it is not from 0 to 1.
    """
    number = _number(value, parameter)
    if not 0 <= number <= 1:
        raise ValueError(f"`{parameter}` must be from 0 to 1, not {value!r}")
    return number


def to_flag(value: object, parameter: str) -> bool:
    """Take True or False, and nothing that only counts as one of them.

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
    """Give *number* as a float; an int that no float can hold is as good as infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
