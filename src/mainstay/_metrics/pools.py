"""What pools and breakers call to record what happens in them, besides the calls themselves."""

from mainstay._metrics.layouts import (
    DETECT_LAYOUT,
    FAILOVER_LAYOUT,
    MEMBER_LAYOUT,
    OUTAGE_LAYOUTS,
    RECOVER_LAYOUT,
    SHARED_CALL_LAYOUT,
    START_LAYOUT,
    TRANSITION_LAYOUT,
    Layout,
)
from mainstay._metrics.schema import CALLS, EJECTIONS, MEMBER_ATTEMPTS
from mainstay._metrics.series import SeriesTable

_OUTCOMES = MEMBER_LAYOUT.slots[MEMBER_ATTEMPTS]
_SUCCESS = _OUTCOMES["success"]
_CALL_SUCCESS = SHARED_CALL_LAYOUT.slots[CALLS]["success"]
_CAUSES = MEMBER_LAYOUT.slots[EJECTIONS]


class MemberRecorder:
    """Records the attempts at one member of a pool, and its ejections.

    It raises nothing and blocks nowhere, as `Recorder`.
    """

    __slots__ = ("_calls", "_group", "_local", "_shortest", "_sum", "_table")

    def __init__(self, table: SeriesTable, component: str, member: str) -> None:
        self._table = table
        self._group = table.group(MEMBER_LAYOUT, (component, member))
        # Resolved for `answered`, the path that has to be short.
        self._calls = table.group(SHARED_CALL_LAYOUT, (component, "failover"))
        self._local = table.cells.local
        self._shortest = self._calls.bounds[0]
        self._sum = len(self._calls.bounds) + 1

    def answered(self, seconds: float) -> None:
        """Record a call, and its only attempt, that this member answered after *seconds*."""
        try:
            cells = self._local.cells
            durations, calls = cells[self._calls]
            attempts = cells[self._group][1]
        except (AttributeError, KeyError):  # the first one in this thread
            durations, calls = self._table.cells.cell(self._calls)
            attempts = self._table.cells.cell(self._group)[1]
        bucket = 0 if seconds <= self._shortest else self._table.slow_call(self._calls, seconds)
        durations[bucket] += 1.0
        durations[self._sum] += seconds
        calls[_CALL_SUCCESS] += 1.0
        attempts[_SUCCESS] += 1.0

    def attempt(self, outcome: str) -> None:
        """Record an attempt that ended in any way."""
        self._table.add(self._group, _OUTCOMES[outcome])

    def ejected(self, cause: str) -> None:
        """Record that the member was ejected."""
        self._table.add(self._group, _CAUSES[cause])


class SwitchRecorder:
    """Records what changes in one pool or breaker."""

    __slots__ = ("_component", "_table")

    def __init__(self, table: SeriesTable, component: str) -> None:
        self._table = table
        self._component = component

    def switched(self, old: str, new: str, reason: str) -> None:
        """Record that new calls go to the member *new* instead of *old*."""
        names = (self._table.member(self._component, each) for each in (old, new))
        self._table.add(self._table.group(FAILOVER_LAYOUT, (self._component, *names, reason)))

    def transition(self, old: str, new: str) -> None:
        """Record that a breaker went from state *old* to *new*."""
        self._table.add(self._table.group(TRANSITION_LAYOUT, (self._component, old, new)))

    def detected(self, seconds: float) -> None:
        """Record how long it took from the first failure to the ejection."""
        self._observe(DETECT_LAYOUT, seconds)

    def recovered(self, seconds: float) -> None:
        """Record how long it took from the ejection to the readmission."""
        self._observe(RECOVER_LAYOUT, seconds)

    def standby_started(self, seconds: float) -> None:
        """Record how long it took until a standby was ready."""
        self._observe(START_LAYOUT, seconds)

    def show_outages(self) -> None:
        """Start the histograms at 0, as a pool does when it is made."""
        for layout in OUTAGE_LAYOUTS:
            self._table.group(layout, (self._component,))

    def _observe(self, layout: Layout, seconds: float) -> None:
        self._table.observe(self._table.group(layout, (self._component,)), max(0.0, seconds))
