"""What policies call to record: series resolved when the policy was made.

`success` is the path that every healthy call pays for: two look-ups for the thread's cell, three
additions. Everything else happens only when something failed.
"""

import contextlib
from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from mainstay._core.functions import name_of
from mainstay._metrics.exemplars import exemplar
from mainstay._metrics.layouts import CALL_LAYOUT, TROUBLE_LAYOUTS
from mainstay._metrics.schema import CALLS, GIVE_UPS, WAIT_SECONDS

if TYPE_CHECKING:
    from mainstay._metrics.book import Book
    from mainstay._metrics.cells import Group
    from mainstay._metrics.collector import Metrics

_OUTCOMES = CALL_LAYOUT.slots(CALLS)
_SUCCESS = _OUTCOMES["success"]
_REJECTED = _OUTCOMES["rejected"]
_FAILED = ("error", "timeout")
"""Outcomes of which one call's trace is kept; calls that were refused have none of interest."""
_REASONS = {policy: layout.slots(GIVE_UPS) for policy, layout in TROUBLE_LAYOUTS.items()}
_WAITS = {
    policy: layout.slot(WAIT_SECONDS)
    for policy, layout in TROUBLE_LAYOUTS.items()
    if policy != "breaker"
}
_OPEN = _REASONS["breaker"]["open"]


class Recorder:
    """Records the calls of one component under one policy.

    It raises nothing and blocks nowhere, in any thread, signal handler or finaliser.

    Attributes:
        calls: The series that every call writes.
    """

    __slots__ = (
        "_book",
        "_local",
        "_shortest",
        "_sum",
        "_trouble",
        "calls",
        "component",
        "policy",
    )

    def __init__(self, book: "Book", labels: tuple[str, str]) -> None:
        component, policy = labels
        self.component: str = component
        self.policy: str = policy
        self._book = book
        self.calls: Group = book.group(CALL_LAYOUT, labels)
        self._trouble = book.group(TROUBLE_LAYOUTS[policy], labels)
        # Resolved for `success`, the path that has to be short.
        self._local = book.cells.local
        self._shortest = self.calls.bounds[0]
        self._sum = len(self.calls.bounds) + 1

    def within(self, metrics: "Metrics", component: str) -> Self:
        """Return the recorder of *component* under the same policy in other metrics."""
        from mainstay._metrics.collector import recorder_of  # noqa: PLC0415 - goes with the split

        recorder = recorder_of(metrics, component, self.policy)
        assert isinstance(recorder, type(self))  # noqa: S101
        return recorder

    def success(self, seconds: float) -> None:
        """Record a call that its first attempt answered, after *seconds*."""
        try:
            durations, calls = self._local.cells[self.calls]
        except (AttributeError, KeyError):  # the first call in this thread
            durations, calls = self._book.cells.cell(self.calls)
        bucket = 0 if seconds <= self._shortest else self._book.slow_call(self.calls, seconds)
        durations[bucket] += 1.0
        durations[self._sum] += seconds
        calls[_SUCCESS] += 1.0

    def call(self, outcome: str, seconds: float, attempts: int = 1) -> None:
        """Record a call that ended in any way, after *seconds* and that many attempts."""
        durations, calls = self._book.cells.cell(self.calls)
        quick = seconds <= self._shortest
        durations[0 if quick else self._book.slow_call(self.calls, seconds)] += 1.0
        durations[self._sum] += seconds
        calls[_OUTCOMES[outcome]] += 1.0
        if outcome in _FAILED and (example := exemplar(1.0)) is not None:
            self._book.keep_exemplar(CALLS, (*self.calls.labels, outcome), 0, example)
        if attempts > 1:
            counts, _ = self._book.cells.cell(self._trouble)
            counts[bisect_left(self._trouble.bounds, attempts)] += 1.0
            counts[-1] += attempts

    def rejected(self) -> None:
        """Record a call that a breaker did not let through."""
        try:
            cells = self._local.cells
            durations, calls = cells[self.calls]
            trouble = cells[self._trouble][1]
        except (AttributeError, KeyError):  # the first one in this thread
            durations, calls = self._book.cells.cell(self.calls)
            trouble = self._book.cells.cell(self._trouble)[1]
        durations[0] += 1.0
        calls[_REJECTED] += 1.0
        trouble[_OPEN] += 1.0

    def gave_up(self, reason: str) -> None:
        """Record why a call gave up."""
        self._book.cells.cell(self._trouble)[1][_REASONS[self.policy][reason]] += 1.0

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
