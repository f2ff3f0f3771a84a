"""What is around a call: its clock, its deadline, and the metrics it records into.

One context variable carries all three, so that a call outside every block pays one look-up.
`block_context()` is None there, which policies take as "system clock, no deadline, own metrics".
A `CallContext` keeps the one around it; leaving a block goes back to that, in whatever thread or
task the block is left.

A policy's short path asks for no more than this:

    here = block_context()
    if process_contexts or (here is not None and not (here.plain and started < here.deadline)):
        ...  # the long path

A context is plain where only a deadline was set: the time is the system's and the metrics are the
policy's own, so a healthy call needs nothing of it but that the deadline is not over.
"""

import math
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import attrs

from mainstay._core.arguments import Duration, to_seconds
from mainstay._core.clock import SYSTEM, Clock


@attrs.frozen
class CallContext:
    """What is around a call.

    Attributes:
        clock: Tells the time and sleeps.
        deadline: When the time left ends, in seconds of `clock`; infinity without a deadline.
        metrics: The `Metrics` that policies record into in place of their own, or None. This
            layer only carries it.
        outer: The context to go back to.
        plain: True if the clock is the system's and there are no metrics.
    """

    clock: Clock = SYSTEM
    deadline: float = math.inf
    metrics: Any = None
    outer: "CallContext | None" = None
    plain: bool = attrs.field(init=False)

    @plain.default
    def _plain(self) -> bool:
        return self.clock is SYSTEM and self.metrics is None

    def left(self) -> float:
        """Return the seconds until the deadline: negative once it is over, infinity without one."""
        return self.deadline - self.clock.now()


_CONTEXT: ContextVar[CallContext | None] = ContextVar("mainstay", default=None)

block_context = _CONTEXT.get
"""Return what the blocks around this thread or task have set, or None outside every block."""

process_contexts: list[CallContext] = []
"""Contexts of all code of the process that has none of its own; the last one counts."""

DEFAULT_CONTEXT = CallContext()
"""The context of a call outside every block."""


def current_context() -> CallContext:
    """Return the context of the caller: its blocks' own, else the process's, else the default."""
    return block_context() or (process_contexts[-1] if process_contexts else DEFAULT_CONTEXT)


def with_deadline(seconds: float) -> CallContext:
    """Return the current context with at most *seconds* left."""
    here = current_context()
    return attrs.evolve(here, deadline=min(here.deadline, here.clock.now() + seconds))


def with_clock(clock: Clock) -> CallContext:
    """Return the current context on another clock, with the same time left."""
    here = current_context()
    return attrs.evolve(here, clock=clock, deadline=clock.now() + here.left())


def with_metrics(metrics: object) -> CallContext:
    """Return the current context, recording into *metrics*."""
    return attrs.evolve(current_context(), metrics=metrics)


def enter(context: CallContext) -> None:
    """Make *context* the context of this thread or task until `leave`."""
    _CONTEXT.set(attrs.evolve(context, outer=block_context()))


def leave() -> None:
    """Go back to what was before the last `enter`."""
    here = block_context()
    if here is not None:
        _CONTEXT.set(here.outer)


class _Deadline(AbstractContextManager[None]):
    """The block form of `deadline`; may be entered again, and by several threads at once."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        enter(with_deadline(self._seconds))

    def __exit__(self, *exc_info: object) -> None:
        leave()


def deadline(seconds: Duration) -> AbstractContextManager[None]:
    """Set how much time is left for everything inside the block.

    It never interrupts running code. A policy entered with no time left raises
    `DeadlineExpiredError` before it calls anything; a retry does not start a wait that would
    outlast it. A nested deadline can only shorten the outer one.

    Args:
        seconds: Time from the entry of the block, as a number of seconds or a `timedelta`. At
            least 0, which leaves no time, and finite.

    Returns:
        A context manager for ``with``, in sync and async code. Each entry starts anew.

    Raises:
        TypeError: If *seconds* is neither a number nor a `timedelta`.
        ValueError: If *seconds* is negative, NaN or infinite.

    Metrics:
        A call that began with no time left is `calls_total{outcome="timeout"}`, and
        `give_ups_total{reason="timeout"}`.

    Source:
        The deadline in the request context of Finagle and gRPC.

    Example:
        >>> from mainstay import deadline, remaining
        >>> with deadline(2.0):
        ...     with deadline(60):
        ...         remaining() <= 2.0
        True
    """
    return _Deadline(to_seconds(seconds, "seconds"))


def remaining(default: Duration | None = None) -> float | None:
    """Return the seconds that the surrounding `deadline` leaves.

    Args:
        default: What to answer without a deadline, and the most to answer with one: a number of
            seconds or a `timedelta`, at least 0. None for no such limit.

    Returns:
        Seconds, never below 0; None if there is neither a deadline nor a *default*.

    Raises:
        TypeError: If *default* is neither a number nor a `timedelta`.
        ValueError: If *default* is negative, NaN or infinite.

    Example:
        >>> from mainstay import remaining
        >>> remaining() is None
        True
        >>> remaining(default=5)
        5.0
    """
    most = math.inf if default is None else to_seconds(default, "default")
    left = min(most, max(0.0, current_context().left()))
    return None if left == math.inf else left
