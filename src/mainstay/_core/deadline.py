"""`deadline`: the time left for everything inside a block, and what happens when it is over.

    form                 at the end of its time
    with deadline        nothing: policies read what is left before they start and before they wait
    async with deadline  the task that entered it is cancelled, once

1. Nested deadlines end each by itself. To an inner one the cancellation of an outer one comes from
   outside, so of several that have ended the outermost speaks.
2. If a deadline around a call caused a cancellation, the policy counts a timeout, and lets the
   cancellation through unchanged (`interrupts`, which only async code loads).
"""

import math
import sys
from collections.abc import Awaitable
from types import ModuleType, TracebackType
from typing import Any, TypeVar, overload
from weakref import ref

from mainstay._core.arguments import Duration, to_seconds
from mainstay._core.clock import SYSTEM, monotonic
from mainstay._core.context import (
    DeadlineEntry,
    Entry,
    block_context,
    current_context,
    end,
    enter,
    leave,
    no_block,
    process_contexts,
    set_block_context,
)
from mainstay._core.functions import name_of_frame
from mainstay.errors import DeadlineExpiredError

E = TypeVar("E", bound=DeadlineEntry)


class deadline:  # noqa: N801 - used like a function, and a class because each call makes one
    """Limit the time for everything inside the block.

    ``with`` never interrupts running code. A policy that is called with no time left raises
    `DeadlineExpiredError` and calls nothing, and no retry starts a wait that would end after the
    deadline. A nested deadline can only shorten the outer one. The deadline follows the context:
    into nested calls, into tasks made inside the block, and into threads that run in a copy of the
    context. It ends with the block for all of them.

    ``async with`` interrupts, too. When the time is over, the task that entered the block is
    cancelled once, as by `asyncio.timeout`, and the block ends with `DeadlineExpiredError`; the
    ``__cause__`` of that is the last exception of the policy that was interrupted. A cancellation
    from outside wins over the deadline, any other exception passes unchanged, and shielded code
    goes on.

    Args:
        seconds: The time from the entry of the block: seconds or a `timedelta`, at least 0 and
            finite. 0 leaves no time.

    Returns:
        A context manager for ``with``, in sync and async code, and for ``async with``. The time
        starts again with each entry.

    Raises:
        TypeError: If *seconds* is neither a number nor a `timedelta`.
        ValueError: If *seconds* is negative, NaN or infinite.
        RuntimeError: From ``async with``, outside a task.
        DeadlineExpiredError: From an ``async with`` block whose own time was over.

    Metrics:
        A call that began with no time left, or that ``async with`` interrupted, counts in
        `calls_total{outcome="timeout"}` and `give_ups_total{reason="timeout"}`.

    Source:
        The deadline in the request context of Finagle and gRPC; the counting of `Task.cancelling`
        and `Task.uncancel` is that of `asyncio.timeout`.

    Example:
        >>> from mainstay import deadline, remaining
        >>> with deadline(2.0):
        ...     with deadline(60):
        ...         remaining() <= 2.0
        True
    """

    __slots__ = ("__weakref__", "_entries", "_seconds")

    def __init__(self, seconds: Duration) -> None:
        if type(seconds) is float and 0.0 <= seconds < math.inf:  # the usual one, at no cost
            self._seconds = seconds
        else:
            self._seconds = to_seconds(seconds, "seconds")
        self._entries: list[Entry] = []

    # `with` is written out at both ends, without a call of ours: each block pays for that.

    def __enter__(self) -> None:
        outer = block_context()
        if process_contexts or (outer is not None and not outer.plain):
            self._enter_elsewhere(DeadlineEntry)
            return
        until = monotonic() + self._seconds
        entry = DeadlineEntry(ref(self), outer, until)
        if outer is not None and outer.deadline < until:
            entry.deadline = outer.deadline
        self._entries.append(entry)
        set_block_context(entry)

    def _enter_elsewhere(self, kind: type[E]) -> E:
        """Enter where the clock may be another one, or where an entry is over."""
        context = current_context()
        until = context.clock.now() + self._seconds
        entry = kind(ref(self), block_context(), until)
        entry.plain = context.clock is SYSTEM and context.metrics is None and not process_contexts
        entry.deadline = min(until, context.deadline)
        if context.clock is not SYSTEM:
            entry.clock = ref(context.clock)  # a `FakeClock` is a block, which no entry keeps
        enter(self._entries, entry)
        return entry

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entry = block_context()
        if entry is None or entry.block() is not self or len(self._entries) > 1:
            leave(self, self._entries)
            return
        self._entries.clear()
        entry.block = no_block
        entry.plain = False
        outer = entry.outer
        if outer is None or outer.plain:
            set_block_context(outer)
        else:
            end(entry)

    def _leave(self) -> Entry | None:
        entry = block_context()
        if entry is None or entry.block() is not self:
            return leave(self, self._entries)
        self._entries.remove(entry)
        end(entry)
        return entry

    def __aenter__(self) -> Awaitable[None]:
        begin_interrupting(self)
        done: Awaitable[None] = (_interrupts or _load_interrupts()).DONE
        return done

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Awaitable[None]:
        entry = end_interrupting(self, kind)
        if entry is not None:
            name = name_of_frame(sys._getframe(1))  # noqa: SLF001 - the code around the block
            raise DeadlineExpiredError(name, self._seconds) from (
                error if entry.cause is None else entry.cause
            )
        done: Awaitable[None] = (_interrupts or _load_interrupts()).DONE
        return done


def deadline_of(seconds: float | None) -> deadline:
    """Return a deadline of so many seconds; for None one that changes nothing."""
    block = deadline(0.0 if seconds is None else seconds)
    if seconds is None:
        block._seconds = math.inf  # noqa: SLF001 - of this module
    return block


def begin_interrupting(block: deadline) -> None:
    """Enter *block*, and have the task that runs here cancelled when its time ends.

    Raises:
        RuntimeError: If no task runs here.
    """
    interrupts = _interrupts or _load_interrupts()
    outer, seconds = block_context(), block._seconds  # noqa: SLF001 - of this module
    if process_contexts or seconds == math.inf or (outer is not None and not outer.plain):
        block._enter_elsewhere(interrupts.InterruptingEntry).watch()  # noqa: SLF001 - as above
    else:
        task = interrupts.task_here()
        entry = interrupts.begin_limited(task, outer, monotonic() + seconds, ref(block))
        block._entries.append(entry)  # noqa: SLF001 - as above


def end_interrupting(block: deadline, kind: type[BaseException] | None) -> Any:
    """Leave *block*, with an exception of *kind* or None.

    Returns:
        Its entry if the block ends by its own cancellation alone; else None.
    """
    interrupts = _interrupts or _load_interrupts()
    entry: Any = block._leave()  # noqa: SLF001 - of this module
    left = isinstance(entry, interrupts.InterruptingEntry) and entry.is_left_by(kind)
    return entry if left else None


_interrupts: ModuleType | None = None


def _load_interrupts() -> ModuleType:
    """Load what only async code needs, and asyncio with it, at the first ``async with``."""
    global _interrupts
    from mainstay._core import interrupts  # noqa: PLC0415 - programs without async code do without

    _interrupts = interrupts
    return interrupts


@overload
def remaining(default: None = None) -> float | None: ...
@overload
def remaining(default: Duration) -> float: ...
def remaining(default: Duration | None = None) -> float | None:
    """Return the seconds that are left of the surrounding `deadline`.

    Args:
        default: The time to return outside of deadlines, and the longest time to return inside:
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
