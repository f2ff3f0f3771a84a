"""`CallState`: the state of a call in the form that tenacity's strategies read.

It has the attributes of tenacity's `RetryCallState`. It is built after a failure, and only for
policies with a strategy.
"""

from collections.abc import Callable
from typing import Any

import attrs

from mainstay._retry.strategies import FunctionCall


@attrs.frozen(eq=False, repr=False)
class Outcome:
    """How an attempt ended, as strategies read it: what tenacity's `Future` offers them.

    Attributes:
        attempt_number: The number of the attempt, from 1.
        error: Its exception, or None.
        value: Its result, if there is no exception.
    """

    attempt_number: int
    error: BaseException | None
    value: object = None

    @property
    def failed(self) -> bool:
        """True if the attempt raised."""
        return self.error is not None

    def exception(self) -> BaseException | None:
        """Return the exception, or None."""
        return self.error

    def result(self) -> object:
        """Return the result, or raise the exception."""
        if self.error is not None:
            raise self.error
        return self.value


@attrs.define(eq=False, repr=False)
class CallState:
    """The state of one call, with the attributes of tenacity's `RetryCallState`.

    Times are seconds of the policy's clock.
    """

    retry_object: object
    call: FunctionCall | None
    start_time: float
    outcome_timestamp: float
    attempt_number: int
    outcome: Outcome
    idle_for: float
    upcoming_sleep: float = 0.0
    next_action: None = None

    @property
    def fn(self) -> Callable[..., Any] | None:
        """The function that is retried, or None in a block."""
        return None if self.call is None else self.call[0]

    @property
    def args(self) -> tuple[Any, ...]:
        """Its arguments."""
        return () if self.call is None else self.call[1]

    @property
    def kwargs(self) -> dict[str, Any]:
        """Its keyword arguments."""
        return {} if self.call is None else self.call[2]

    @property
    def seconds_since_start(self) -> float:
        """The seconds from the start of the first attempt to the end of the last one."""
        return self.outcome_timestamp - self.start_time
