"""`priority`: how early the calls inside a block are served if they have to wait."""

from typing import NoReturn

from mainstay._core import context
from mainstay._core.arguments import check_choice
from mainstay._core.context import Priority
from mainstay._limits.places import PRIORITIES


class priority:  # noqa: N801 - used like a function, as `deadline` is
    """Set the priority of the calls inside the block in the queue of a bulkhead.

    A full bulkhead serves "high" calls first, and "low" calls only while no other call waits. So
    under a lasting overload "low" calls are rejected first and "high" calls last, and "low" calls
    may get no place at all. Outside of blocks a call is "normal"; in nested blocks the innermost
    block counts. The priority follows the context: into nested calls, into the tasks made inside
    the block, and into threads that run in a copy of the context. It ends with the block for all of
    them.

    Args:
        level: "high", "normal" or "low".

    Returns:
        A context manager for ``with``, in sync and async code.

    Raises:
        TypeError: If *level* is not a str.
        ValueError: If *level* is none of these.

    Metrics:
        `queue_wait_seconds` has the priority as the label `priority`.

    Example:
        >>> from mainstay import Bulkhead, priority
        >>> reports = Bulkhead("reports", limit=2)
        >>> with priority("low"):
        ...     reports.call(str.upper, "monthly")
        'MONTHLY'
    """

    __slots__ = ("__weakref__", "_entries", "_level")

    def __init__(self, level: Priority) -> None:
        if not isinstance(level, str):
            raise TypeError(f"`level` must be a str, not {level!r}")
        check_choice(level, "level", PRIORITIES)
        self._level: Priority = level
        self._entries: list[context.Entry] = []

    def __aenter__(self) -> NoReturn:
        raise TypeError("write `with priority(...):`, without `async`, in async code too")

    __aexit__ = __aenter__

    def __enter__(self) -> None:
        context.enter(self._entries, context.PriorityEntry(self, self._level))

    def __exit__(self, *exc_info: object) -> None:
        context.leave(self, self._entries)
