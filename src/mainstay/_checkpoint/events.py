"""What a checkpointed function tells: to the logger "mainstay.checkpoint" and to `on_event`.

A line names the function and the attempt, never an argument, an item or a message. Nor the key of
the run, which is made of arguments: that is an attribute of the event.
"""

import logging
from typing import ClassVar

import attrs

from mainstay._core.events import Event
from mainstay.stores.base import Exit

LOGGER = logging.getLogger("mainstay.checkpoint")


@attrs.frozen
class CheckpointEvent(Event):
    """Something that happened to a run.

    Attributes:
        key: The key of the run.
        attempt: The number of the attempt.
    """

    policy: ClassVar[str] = "checkpoint"
    _level: ClassVar[int] = logging.WARNING
    key: str
    attempt: int


@attrs.frozen
class RunResumed(CheckpointEvent):
    """A run goes on where an earlier attempt left it.

    Attributes:
        reason: How the attempt before ended.
        items: How many items are done.
    """

    kind: ClassVar[str] = "run_resumed"
    reason: Exit
    items: int

    @property
    def level(self) -> int:
        """WARNING where another owner was still expected, INFO otherwise."""
        return logging.WARNING if self.reason == "takeover" else logging.INFO

    def __str__(self) -> str:
        return (
            f"{self.component}: attempt {self.attempt} goes on after {self.reason or 'nothing'}; "
            f"{self.items} item(s) are done"
        )


@attrs.frozen
class LeaseLost(CheckpointEvent):
    """Somebody else took the run over."""

    kind: ClassVar[str] = "lease_lost"

    def __str__(self) -> str:
        return f"{self.component}: attempt {self.attempt} was taken over and saves nothing more"


@attrs.frozen
class CheckpointDamaged(CheckpointEvent):
    """The last save cannot be read; the one before it is used.

    Attributes:
        problem: What is wrong with it.
    """

    kind: ClassVar[str] = "checkpoint_damaged"
    problem: str

    def __str__(self) -> str:
        return (
            f"{self.component}: attempt {self.attempt} found the last save damaged "
            f"({self.problem}) and goes on from the one before it"
        )


@attrs.frozen
class CodeChanged(CheckpointEvent):
    """The function is not what it was when the run was saved; the run goes on all the same.

    Attributes:
        problem: What differs.
    """

    kind: ClassVar[str] = "code_changed"
    problem: str

    def __str__(self) -> str:
        return f"{self.component}: attempt {self.attempt} goes on with other code: {self.problem}"


@attrs.frozen
class RunPoisoned(CheckpointEvent):
    """The run's process died too often in a row; it is not run again.

    Attributes:
        crashes: How many times.
    """

    kind: ClassVar[str] = "run_poisoned"
    crashes: int

    def __str__(self) -> str:
        return (
            f"{self.component}: a run died {self.crashes} time(s) in a row without progress, last "
            f"in attempt {self.attempt}, and is not run again"
        )
