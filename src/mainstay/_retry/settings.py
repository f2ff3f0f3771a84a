"""What a retry was told: its parameters, checked."""

from collections.abc import Callable
from typing import Any, Literal

import attrs

from mainstay._core.budget import RetryBudget
from mainstay._core.failures import Judge
from mainstay._retry.strategies import RetryStrategy, Strategy


@attrs.frozen(eq=False, kw_only=True)
class RetrySettings:
    """The parameters of a retry; durations in seconds, None where there is no limit."""

    judge: Judge | RetryStrategy
    attempts: int | None
    timeout: float | None
    attempt_timeout: float | None
    wait: float | Strategy | None
    stop: Strategy | None
    on_result: Callable[[Any], Any] | None
    budget: RetryBudget | None
    nested: Literal["allow", "once"]

    def first_attempt_is_special(self) -> bool:
        """True if a call that its first attempt answers needs more than being called."""
        extras = (self.on_result, self.budget, self.attempt_timeout)
        return any(extra is not None for extra in extras)

    def asks_a_strategy(self) -> bool:
        """True if anything is one of tenacity's strategies, which read the state of a call."""
        return self.stop is not None or callable(self.wait) or isinstance(self.judge, RetryStrategy)
