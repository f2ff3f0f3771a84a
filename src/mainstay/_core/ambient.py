"""What surrounds a call: its clock, its deadline, and where it is recorded.

One context variable carries all three, so that a call outside every block pays one look-up.
`current()` is None there, which policies take as "system clock, no deadline, own metrics".
An `Ambient` remembers the one around it; leaving a block goes back to that, in whatever thread
or task the block is left.
"""

import math
from contextvars import ContextVar
from typing import Any

import attrs

from mainstay._core.clock import SYSTEM, Clock


@attrs.frozen
class Ambient:
    """The surroundings of a call.

    Attributes:
        clock: What tells the time and sleeps.
        deadline: When the time left ends, in seconds of `clock`; infinity without a deadline.
        metrics: The `Metrics` that policies record into instead of their own, or None. This layer
            only carries it.
        outer: The surroundings to go back to.
    """

    clock: Clock = SYSTEM
    deadline: float = math.inf
    metrics: Any = None
    outer: "Ambient | None" = None

    def left(self) -> float:
        """Seconds until the deadline, negative when it has passed, infinity without one."""
        return self.deadline - self.clock.now()


_AMBIENT: ContextVar[Ambient | None] = ContextVar("mainstay", default=None)

current = _AMBIENT.get
"""The `Ambient` of this thread or task, or None outside every block."""

everywhere: list[Ambient] = []
"""What surrounds all code of the process that has no `Ambient` of its own; the last one counts."""

PLAIN = Ambient()
"""What surrounds a call outside every block."""


def surroundings() -> Ambient:
    """Give what surrounds the caller: its own context first, then `everywhere`, then nothing."""
    return current() or (everywhere[-1] if everywhere else PLAIN)


def with_deadline(seconds: float) -> Ambient:
    """Give the present surroundings with at most *seconds* left."""
    here = surroundings()
    return attrs.evolve(here, deadline=min(here.deadline, here.clock.now() + seconds))


def with_clock(clock: Clock) -> Ambient:
    """Give the present surroundings on another clock, with the same time left."""
    here = surroundings()
    return attrs.evolve(here, clock=clock, deadline=clock.now() + here.left())


def with_metrics(metrics: object) -> Ambient:
    """Give the present surroundings, recording into *metrics*."""
    return attrs.evolve(surroundings(), metrics=metrics)


def enter(ambient: Ambient) -> None:
    """Make *ambient* the surroundings of this thread or task until `leave`."""
    _AMBIENT.set(attrs.evolve(ambient, outer=current()))


def leave() -> None:
    """Go back to what was before the last `enter`."""
    here = current()
    if here is not None:
        _AMBIENT.set(here.outer)
