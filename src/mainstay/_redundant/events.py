"""What a redundant call tells: to the logger "mainstay.redundant" and to `on_event`.

A line names the class of an exception and never its message, which may hold arguments; and never
an answer.
"""

import logging
from typing import ClassVar

import attrs

from mainstay._core.events import Event
from mainstay._redundant.decision import Reason

LOGGER = logging.getLogger("mainstay.redundant")


def counted(copies: int) -> str:
    """Say a number of copies in words."""
    return "1 copy" if copies == 1 else f"{copies} copies"


@attrs.frozen
class HedgeStarted(Event):
    """A copy was started because the primary was slow, or because a copy failed.

    Attributes:
        copy: Which one, from 1; 0 is the primary.
        elapsed: Seconds since the primary's start.
        reason: "slow" or "failed", as in `hedges_total`.
    """

    policy: ClassVar[str] = "redundant"
    kind: ClassVar[str] = "hedge_started"
    copy: int
    elapsed: float
    reason: str

    def __str__(self) -> str:
        return f"{self.component}: copy {self.copy} starts ({self.reason}) at {self.elapsed:.3f} s"


@attrs.frozen
class RedundantGaveUp(Event):
    """A call ended without an answer.

    Attributes:
        copies: How many were started; 0 if the call began with no time left.
        elapsed: Seconds from the start of the first one.
        reason: As in `give_ups_total`.
        error: What is raised.
    """

    policy: ClassVar[str] = "redundant"
    kind: ClassVar[str] = "redundant_gave_up"
    copies: int
    elapsed: float
    reason: Reason
    error: BaseException

    @property
    def level(self) -> int:
        """WARNING; 0 where the exception was none of the policy's business."""
        return 0 if self.reason == "not_retryable" else logging.WARNING

    def __str__(self) -> str:
        return (
            f"{self.component}: gave up ({self.reason}) after {counted(self.copies)} in "
            f"{self.elapsed:.3f} s with {type(self.error).__name__}"
        )
