"""Durations as users give them, turned into seconds."""

import math
from datetime import timedelta
from typing import TypeAlias

from mainstay._core.arguments import as_float

Duration: TypeAlias = float | timedelta
"""Seconds (`float` or `int`) or a `timedelta`."""


def to_seconds(value: object, parameter: str, *, zero: bool = True) -> float:
    """Turn a duration into seconds, or refuse it by the name of its parameter.

    Args:
        value: Seconds or a `timedelta`. Finite, not negative.
        parameter: The name that the error messages use.
        zero: Whether 0 is a sensible value.

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
