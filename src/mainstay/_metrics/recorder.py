"""What policies call to record: series resolved when the policy was made.

`success` is the path that every healthy call pays for: two look-ups for the thread's cell, three
additions. Everything else happens only when something failed.
"""

import contextlib
from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mainstay._core.callables import name_of
from mainstay._metrics.schema import (
    CALL_LAYOUT,
    CALLS,
    GIVE_UP_REASONS,
    GIVE_UPS,
    OUTCOMES,
    TROUBLE_LAYOUTS,
    WAIT_SECONDS,
)

if TYPE_CHECKING:
    from mainstay._metrics.book import Book

_OUTCOMES = {outcome: CALL_LAYOUT.slot(CALLS, outcome) for outcome in OUTCOMES}
_SUCCESS = _OUTCOMES["success"]
_REASONS = {
    (policy, reason): layout.slot(GIVE_UPS, reason)
    for policy, layout in TROUBLE_LAYOUTS.items()
    for reason in GIVE_UP_REASONS[policy]
}
_WAITS = {policy: layout.slot(WAIT_SECONDS) for policy, layout in TROUBLE_LAYOUTS.items()}


class Recorder:
    """Records the calls of one component under one policy.

    It raises nothing and blocks nowhere, in any thread, signal handler or finaliser.
    """

    __slots__ = (
        "_book",
        "_bounds",
        "_calls",
        "_local",
        "_shortest",
        "_sum",
        "_trouble",
        "component",
        "policy",
    )

    def __init__(self, book: "Book", labels: tuple[str, str]) -> None:
        component, policy = labels
        self.component: str = component
        self.policy: str = policy
        self._book = book
        self._calls = book.group(CALL_LAYOUT, labels)
        self._trouble = book.group(TROUBLE_LAYOUTS[policy], labels)
        # Resolved for `success`, the path that has to be short.
        self._local = book.cells.local
        self._bounds = self._calls.bounds
        self._shortest = self._bounds[0]
        self._sum = len(self._bounds) + 1

    def success(self, seconds: float) -> None:
        """Record a call that its first attempt answered, after *seconds*."""
        try:
            durations, calls = self._local.cells[self._calls]
        except (AttributeError, KeyError):  # the first call in this thread
            durations, calls = self._book.cells.cell(self._calls)
        bucket = 0 if seconds <= self._shortest else bisect_left(self._bounds, seconds)
        durations[bucket] += 1.0
        durations[self._sum] += seconds
        calls[_SUCCESS] += 1.0

    def call(self, outcome: str, seconds: float, attempts: int = 1) -> None:
        """Record a call that ended in any way, after *seconds* and that many attempts."""
        durations, calls = self._book.cells.cell(self._calls)
        durations[bisect_left(self._bounds, seconds)] += 1.0
        durations[self._sum] += seconds
        calls[_OUTCOMES[outcome]] += 1.0
        if attempts > 1:
            counts, _ = self._book.cells.cell(self._trouble)
            counts[bisect_left(self._trouble.bounds, attempts)] += 1.0
            counts[-1] += attempts

    def gave_up(self, reason: str) -> None:
        """Record why a call gave up."""
        self._book.cells.cell(self._trouble)[1][_REASONS[self.policy, reason]] += 1.0

    def waited(self, seconds: float) -> None:
        """Record *seconds* spent between attempts."""
        self._book.cells.cell(self._trouble)[1][_WAITS[self.policy]] += seconds

    def error(self, error: BaseException) -> None:
        """Record a failed attempt."""
        self._book.count_error(self.component, self.policy, error)

    def listener_failed(self, listener: Callable[..., Any], error: Exception) -> None:
        """Record that a listener of `on_event` raised."""
        with contextlib.suppress(Exception):
            component = self._book.component(name_of(listener))
            self._book.count_error(component, "event", error)
