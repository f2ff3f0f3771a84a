"""What a retry was told: its parameters, checked."""

from collections.abc import Callable
from typing import Any

import attrs

from mainstay._core.budget import RetryBudget
from mainstay._retry.strategies import Judge, Strategy


@attrs.frozen(eq=False, kw_only=True)
class Rules:
    """The parameters of a retry, as the loops need them.

    Attributes:
        judge: The verdict of `on` about an exception.
        attempts: Most attempts, or None.
        timeout: Seconds from the first attempt's start, or None.
        attempt_timeout: Seconds for each attempt, or None.
        wait: Constant seconds, a strategy, or None for the default.
        stop: A strategy, or None.
        on_result: Whether a result is refused, or None.
        budget: What extra attempts are charged to, or None.
    """

    judge: Judge
    attempts: int | None
    timeout: float | None
    attempt_timeout: float | None
    wait: float | Strategy | None
    stop: Strategy | None
    on_result: Callable[[Any], Any] | None
    budget: RetryBudget | None
