"""What policies call to record: series resolved when the policy was made.

`success` is the path that every healthy call pays for: two look-ups for the thread's cell, three
additions. Everything else happens only when something failed.
"""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from mainstay._core.functions import name_of
from mainstay._core.words import class_name
from mainstay._metrics.layouts import (
    CALL_LAYOUT,
    FAILURE_LAYOUTS,
    HOOK_LAYOUT,
    NESTED_LAYOUT,
    OUTCOME_LAYOUT,
    SHARED,
    SHARED_CALL_LAYOUT,
    Layout,
)
from mainstay._metrics.schema import CALLS, GIVE_UPS, HOOK_ERRORS, WAIT_SECONDS
from mainstay._metrics.series import SeriesTable

if TYPE_CHECKING:
    from mainstay._metrics.cells import Group

_OUTCOMES = CALL_LAYOUT.slots[CALLS]
_SUCCESS = _OUTCOMES["success"]
_REJECTED = _OUTCOMES["rejected"]
_FAILED = ("error", "timeout")
"""Outcomes of which one call's trace is kept; calls that were refused have none of interest."""
_HOOKS = HOOK_LAYOUT.slots[HOOK_ERRORS]
_OPEN = FAILURE_LAYOUTS["breaker"].slots[GIVE_UPS]["open"]
_WAIT = FAILURE_LAYOUTS["retry"].slots[WAIT_SECONDS][""]  # the first one, in all that have it


class _Finder(Protocol):
    """What a `Metrics` has to find recorders."""

    def calls(self, component: str, policy: str, /) -> "Recorder": ...


class Recorder:
    """Records the calls of one component under one policy.

    It raises nothing and blocks nowhere, in any thread, signal handler or finaliser.

    Attributes:
        calls: The series that every call writes.
        component: The label, which may be "_other" in place of the component's name.
        policy: The kind of policy.
        table: Where it records.
    """

    __slots__ = (
        "_failures",
        "_local",
        "_shortest",
        "_sum",
        "calls",
        "component",
        "policy",
        "table",
    )

    def __init__(
        self, table: SeriesTable, component: str, policy: str, failures: Layout | None = None
    ) -> None:
        labels = component, policy
        self.component: str = component
        self.policy: str = policy
        self.table: SeriesTable = table
        shared = policy in SHARED
        self.calls: Group = table.group(SHARED_CALL_LAYOUT if shared else CALL_LAYOUT, labels)
        self._failures: Group = table.group(failures or FAILURE_LAYOUTS[policy], labels)
        if shared:
            table.group(OUTCOME_LAYOUT, labels)
            self.calls.companion = self._failures
        # Resolved for `success`, the path that has to be short.
        self._local = table.cells.local
        self._shortest = self.calls.bounds[0]
        self._sum = len(self.calls.bounds) + 1

    def within(self, metrics: Any, component: str) -> "Recorder":
        """Return the recorder of *component* under the same policy in other metrics."""
        finder: _Finder = metrics._recorders  # noqa: SLF001 - which users do not see
        return finder.calls(component, self.policy)

    def appear(self) -> None:
        """Show all series, at 0, where they would appear with the first call only."""
        self.table.cells.cell(self.calls)

    def success(self, seconds: float) -> None:
        """Record a call that its first attempt answered, after *seconds*."""
        try:
            durations, calls = self._local.cells[self.calls]
        except (AttributeError, KeyError):  # the first call in this thread
            durations, calls = self.table.cells.cell(self.calls)
        bucket = 0 if seconds <= self._shortest else self.table.slow_call(self.calls, seconds)
        durations[bucket] += 1.0
        durations[self._sum] += seconds
        calls[_SUCCESS] += 1.0

    def call(self, outcome: str, seconds: float, attempts: int = 1) -> None:
        """Record a call that ended in any way, after *seconds* and that many attempts.

        Calls that were rejected ran nothing, so they have no duration.
        """
        table = self.table
        durations, calls = table.cells.cell(self.calls)
        if outcome != "rejected":
            quick = seconds <= self._shortest
            durations[0 if quick else table.slow_call(self.calls, seconds)] += 1.0
            durations[self._sum] += seconds
        calls[_OUTCOMES[outcome]] += 1.0
        if outcome in _FAILED:
            table.keep_exemplar(CALLS, (*self.calls.labels, outcome), 0, 1.0)
        if attempts > 1:
            table.observe(self._failures, attempts)

    def rejected(self) -> None:
        """Record a call that a breaker did not let through."""
        try:
            cells = self._local.cells
            calls, failures = cells[self.calls][1], cells[self._failures][1]
        except (AttributeError, KeyError):  # the first one in this thread
            calls = self.table.cells.cell(self.calls)[1]
            failures = self.table.cells.cell(self._failures)[1]
        calls[_REJECTED] += 1.0
        failures[_OPEN] += 1.0

    def gave_up(self, reason: str) -> None:
        """Record why a call gave up."""
        self.table.add(self._failures, self._failures.layout.slots[GIVE_UPS][reason])

    def waited(self, seconds: float) -> None:
        """Record *seconds* spent between attempts."""
        self.table.add(self._failures, _WAIT, seconds)

    def nested_retry(self) -> None:
        """Record a failed attempt of a retry in which another one had given up."""
        self.table.add(self.table.group(NESTED_LAYOUT, (self.component,)))

    def error(self, error: BaseException) -> None:
        """Record a failed attempt."""
        self.table.count_failure(self.component, self.policy, class_name(error))

    def failed_by(self, name: str) -> None:
        """Record a failed attempt that raised nothing, by what it failed with."""
        self.table.count_failure(self.component, self.policy, name)

    def hook_failed(self, hook: str) -> None:
        """Record that something of the program's own raised, of one of the kinds `HOOKS`."""
        self.table.add(self.table.hooks, _HOOKS[hook])

    def listener_failed(
        self, listener: Callable[..., Any], error: Exception, hook: str = "listener"
    ) -> None:
        """Record that a listener of `on_event`, or another *hook* that has a name, raised."""
        self.hook_failed(hook)
        with contextlib.suppress(Exception):
            component = self.table.component(name_of(listener))
            self.table.count_failure(component, "event", class_name(error))
