"""How a task is interrupted when its time is over, and how other cancellations are recognized.

``async with deadline`` and `timeout` both cancel the task once, and take the request back with
`Task.uncancel` afterwards: if no other request is pending then, the cancellation was only theirs.

Source:
    The counting of `Task.cancelling` and `Task.uncancel` is that of `asyncio.timeout`, which
    cannot be used here because it runs on the loop's own time and has a timer for each block. The
    count at the start is what is compared with, since CPython 3.11 and 3.12 can leave a task with
    a count above 0 behind.
"""

import math
from asyncio import CancelledError, Task, current_task
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import ref

from mainstay._core.alarms import Alarms, alarms_of
from mainstay._core.clock import SYSTEM, Clock, Timer
from mainstay._core.context import (
    DeadlineEntry,
    Entry,
    block_context,
    current_context,
    set_block_context,
    system_clock,
)
from mainstay._core.exceptions import is_a

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

R = TypeVar("R")


def task_here() -> "Task[Any]":
    """Return the task that runs here.

    Raises:
        RuntimeError: If there is none.
    """
    task = current_task()
    if task is None:
        raise RuntimeError("only a task can be interrupted, and no task runs here")
    return task


class InterruptingEntry(DeadlineEntry):
    """A deadline that cancels a task when its time ends.

    Args:
        block: Returns the block; None when the entry is over.
        outer: The entry around it.
        until: When the time ends.
        task: What is cancelled. None for the task that runs here.

    Attributes:
        alarm: The alarm that goes off at the end of the time.
        cause: The last exception of the policy that was interrupted.
        fired: True once it has cancelled the task.

    Raises:
        RuntimeError: If no task runs here.
    """

    __slots__ = ("_cancelling", "_task", "alarm", "cause", "fired")

    def __init__(
        self,
        block: "Callable[[], object]",
        outer: Entry | None,
        until: float,
        task: "Task[Any] | None" = None,
    ) -> None:
        # Written out as the base is: each block that interrupts pays for this.
        self.block = block
        self.outer = outer
        self.deadline = until
        self.plain = True
        self.until = until
        self.clock = system_clock
        if task is None:
            task = task_here()
        self._task = task
        self._cancelling = task.cancelling()
        self.alarm: Alarms | Timer | None = None
        self.cause: Exception | None = None
        self.fired = False

    def watch(self) -> None:
        """Have the task cancelled when the time ends."""
        clock = self.clock()
        if self.until == math.inf:
            return
        if clock is SYSTEM:
            self.alarm = alarms_of(self._task.get_loop())
            self.alarm.add(self.until, self)
        elif clock is not None:
            self.alarm = clock.call_later(max(0.0, self.until - clock.now()), self.fire)

    def is_over(self) -> bool:
        """Return True if what is limited has been left."""
        return self.block() is None

    def fire(self) -> None:
        """Cancel the task, unless what is limited has been left."""
        if self.block() is not None:
            self.fired = True
            self._task.cancel()

    def cancels(self, task: "Task[Any] | None", clock: Clock) -> bool:
        """True if the entry will cancel *task*, by *clock*."""
        is_due = self.block() is not None and not self.fired
        return is_due and self._task is task and self.clock() is clock

    def is_left_by(self, kind: type[BaseException] | None) -> bool:
        """Stop, and take the cancellation back; return True if the block ends by it alone."""
        if not self.fired:
            alarm = self.alarm
            if isinstance(alarm, Alarms):
                alarm.remove(self)
            elif alarm is not None:
                alarm.cancel()
            return False
        if current_task(self._task.get_loop()) is not self._task:
            return False
        ours = self._task.uncancel() <= self._cancelling
        return ours and kind is not None and issubclass(kind, CancelledError)


def begin_limited(
    task: "Task[Any]",
    outer: Entry | None,
    until: float,
    block: "Callable[[], object] | None" = None,
) -> InterruptingEntry:
    """Have *task* cancelled at *until*, on the fast path: by the system's clock, in plain *outer*.

    Args:
        task: What is cancelled: the task that runs here.
        outer: The entry around it.
        until: When the time ends.
        block: Returns the block; None where it is the task itself that is limited.

    Returns:
        The entry. The caller ends it, and then asks `is_left_by` about the exception that came.
    """
    entry = InterruptingEntry(block or ref(task), outer, until, task)
    if outer is not None and outer.deadline < until:
        entry.deadline = outer.deadline
    set_block_context(entry)
    entry.alarm = alarms = alarms_of(task.get_loop())
    alarms.add(until, entry)
    return entry


def is_interruption(error: BaseException, last: Exception | None = None) -> bool:
    """Return True if a deadline around the code has ended, and *error* is its cancellation.

    Args:
        error: What went through the policy.
        last: The last exception that the policy has seen, which the deadline is to name as cause.
    """
    if not is_a(error, CancelledError):
        return False
    entry = block_context()
    found = False
    while entry is not None:
        if isinstance(entry, InterruptingEntry) and entry.fired and entry.block() is not None:
            if entry.cause is None:
                entry.cause = last
            found = True
        entry = entry.outer
    return found


def is_interrupted_in_time() -> bool:
    """Return True if a block cancels the task that runs here at the end of the time left.

    Who limits the same task to the same time need not, and must not: a second cancellation would
    come while the first one cleans up.
    """
    context, entry = current_context(), block_context()
    task = current_task()
    while entry is not None:
        if (
            isinstance(entry, InterruptingEntry)
            and entry.until <= context.deadline
            and entry.cancels(task, context.clock)
        ):
            return True
        entry = entry.outer
    return False


class _Done(tuple[()]):
    """Something to await that is there already."""

    __slots__ = ()
    __await__ = tuple.__iter__


DONE = cast("Awaitable[None]", _Done())
"""What `async with deadline` gives its task to await."""


class TaskTimeout:
    """Cancels the current task after a time, and tells its own cancellation from any other.

    Between `start` and `stop`, a cancellation by this object appears as a `CancelledError`; `stop`
    takes the cancellation back and returns True. A cancellation from outside at the same moment
    wins: `stop` then returns False, and the `CancelledError` must be raised.
    """

    __slots__ = ("_cancelling", "_fired", "_stopped", "_task", "_timer")

    def __init__(self, clock: Clock, seconds: float) -> None:
        task = task_here()
        self._task = task
        self._cancelling = task.cancelling()
        self._fired = False
        self._stopped = False
        self._timer = clock.call_later(seconds, self._fire)

    def _fire(self) -> None:
        if not self._stopped:  # the loop may have been about to call this
            self._fired = True
            self._task.cancel()

    def stop(self, error: BaseException | None) -> bool:
        """End the timeout; return True if *error*, raised meanwhile, is its own cancellation."""
        self._stopped = True
        self._timer.cancel()
        if not self._fired:
            return False
        ours = self._task.uncancel() <= self._cancelling
        return ours and is_a(error, CancelledError)


async def limited(
    clock: Clock,
    limit: float | None,
    attempt: "Awaitable[R]",
    overdue: "Callable[[float], TimeoutError]",
) -> R:
    """Await an attempt for at most *limit* seconds; after them raise what *overdue* returns."""
    if limit is None:
        return await attempt
    timeout = TaskTimeout(clock, limit)
    try:
        value = await attempt
    except BaseException as error:
        if timeout.stop(error):
            raise overdue(limit) from error
        raise
    timeout.stop(None)
    return value
