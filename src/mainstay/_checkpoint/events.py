"""What a checkpointed function tells: to the logger "mainstay.checkpoint" and to `on_event`.

A line names the key of a run and the class of an exception, never an argument, an item or a
message.
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
    """

    policy: ClassVar[str] = "checkpoint"
    _level: ClassVar[int] = logging.WARNING
    key: str


@attrs.frozen
class RunResumed(CheckpointEvent):
    """A run goes on where an earlier attempt left it.

    Attributes:
        attempt: The number of the attempt that begins.
        reason: How the attempt before ended.
        items: How many items are done.
    """

    kind: ClassVar[str] = "run_resumed"
    attempt: int
    reason: Exit
    items: int

    @property
    def level(self) -> int:
        """WARNING where another owner was still expected, INFO otherwise."""
        return logging.WARNING if self.reason == "takeover" else logging.INFO

    def __str__(self) -> str:
        return (
            f"{self.component}: run {self.key!r} goes on with attempt {self.attempt} after "
            f"{self.reason or 'nothing'}; {self.items} item(s) are done"
        )


@attrs.frozen
class LeaseLost(CheckpointEvent):
    """Somebody else took the run over."""

    kind: ClassVar[str] = "lease_lost"

    def __str__(self) -> str:
        return f"{self.component}: run {self.key!r} was taken over; this attempt saves nothing more"


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
            f"{self.component}: the last save of run {self.key!r} is damaged ({self.problem}); "
            f"the run goes on from the one before it"
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
        return f"{self.component}: run {self.key!r} goes on with other code: {self.problem}"


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
            f"{self.component}: run {self.key!r} died {self.crashes} time(s) in a row without "
            f"progress and is not run again"
        )
