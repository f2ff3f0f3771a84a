"""`RetrySettings`: the checked parameters of a retry."""

import math
from collections.abc import Callable
from typing import Any, Literal

import attrs

from mainstay._core.budget import RetryBudget
from mainstay._core.failures import Judge
from mainstay._core.layers import Layer, classes_of
from mainstay._retry.decision import default_wait
from mainstay._retry.strategies import RetryStrategy, Strategy
from mainstay.errors import AllMembersFailedError, RejectedError


@attrs.frozen(eq=False, repr=False, kw_only=True)
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

    def layer(self, component: str) -> Layer:
        """Return the worst case of a call of a retry with this name."""
        return Layer(
            kind="retry",
            component=component,
            calls=math.inf if self.attempts is None else self.attempts,
            first_wait=self._longest_waits(1),
            waits=math.inf if self.attempts is None else self._longest_waits(self.attempts - 1),
            timeout=math.inf if self.timeout is None else self.timeout,
            attempt_timeout=math.inf if self.attempt_timeout is None else self.attempt_timeout,
            once=self.nested == "once",
            stops=self.stop is not None,
            classes=classes_of(self.judge),
        )

    def _longest_waits(self, number: int) -> float:
        """Return the longest that so many waits may take; infinite where others say how long."""
        classes = classes_of(self.judge)
        if number and (callable(self.wait) or classes is None or _may_ask_for_a_wait(classes)):
            return math.inf
        if isinstance(self.wait, float):
            return number * self.wait
        return math.fsum(default_wait(each, 1.0) for each in range(1, number + 1))

    def asks_a_strategy(self) -> bool:
        """True if anything is one of tenacity's strategies, which read the state of a call."""
        return self.stop is not None or callable(self.wait) or isinstance(self.judge, RetryStrategy)


def _may_ask_for_a_wait(classes: tuple[type[Exception], ...]) -> bool:
    """True if an exception of these classes may say when to come back, and is listened to."""
    return any(
        issubclass(each, asking) or issubclass(asking, each)
        for each in classes
        for asking in (RejectedError, AllMembersFailedError)
    )
