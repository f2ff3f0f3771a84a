"""What a retry tells: to the logger "mainstay.retry" and to `on_event`.

A line names the class of an exception and never its message, which may hold arguments.
"""

import logging
from typing import ClassVar

import attrs

from mainstay._core.events import Event
from mainstay._retry.decision import Reason

LOGGER = logging.getLogger("mainstay.retry")


@attrs.frozen
class RetryScheduled(Event):
    """An attempt failed, and another one follows.

    Attributes:
        attempt: The number of the attempt that failed, from 1.
        wait: Seconds until the next one.
        error: Its exception; a `ResultRefusedError` if its result was refused.
    """

    policy: ClassVar[str] = "retry"
    kind: ClassVar[str] = "retry_scheduled"
    attempt: int
    wait: float
    error: Exception

    def __str__(self) -> str:
        return (
            f"{self.component}: attempt {self.attempt} failed with {type(self.error).__name__}; "
            f"the next one follows in {self.wait:.3f} s"
        )


@attrs.frozen
class RetryGaveUp(Event):
    """A call ended without a result.

    Attributes:
        attempts: How many attempts were made.
        elapsed: Seconds from the start of the first one.
        reason: As in `give_ups_total`.
        error: The exception of the last one; a `ResultRefusedError` if its result was refused.
    """

    policy: ClassVar[str] = "retry"
    kind: ClassVar[str] = "retry_gave_up"
    attempts: int
    elapsed: float
    reason: Reason
    error: Exception

    @property
    def level(self) -> int:
        """WARNING; 0 where the exception was none of the policy's business."""
        return 0 if self.reason == "not_retryable" else logging.WARNING

    def __str__(self) -> str:
        return (
            f"{self.component}: gave up ({self.reason}) after {self.attempts} attempt(s) "
            f"in {self.elapsed:.3f} s with {type(self.error).__name__}"
        )
