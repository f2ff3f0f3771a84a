"""What pools and breakers call to record what happens in them, besides the calls themselves."""

from bisect import bisect_left
from typing import TYPE_CHECKING

from mainstay._core.threads import get_or_create
from mainstay._metrics.cells import Group
from mainstay._metrics.layouts import (
    CALL_LAYOUT,
    FAILOVER_LAYOUT,
    MEMBER_LAYOUT,
    OUTAGE_LAYOUTS,
    TRANSITION_LAYOUT,
    Layout,
)
from mainstay._metrics.schema import (
    CALLS,
    EJECTIONS,
    MEMBER_ATTEMPTS,
    STANDBY_START,
    TIME_TO_DETECT,
    TIME_TO_RECOVER,
)

if TYPE_CHECKING:
    from mainstay._metrics.book import Book

_OUTCOMES = MEMBER_LAYOUT.slots(MEMBER_ATTEMPTS)
_SUCCESS = _OUTCOMES["success"]
_CALL_SUCCESS = CALL_LAYOUT.slot(CALLS, "success")
_CAUSES = MEMBER_LAYOUT.slots(EJECTIONS)


class MemberRecorder:
    """Records the attempts at one member of a pool, and its ejections.

    It raises nothing and blocks nowhere, as `Recorder`.
    """

    __slots__ = ("_book", "_calls", "_group", "_local", "_shortest", "_sum")

    def __init__(self, book: "Book", component: str, member: str, calls: Group) -> None:
        self._book = book
        self._group = book.group(MEMBER_LAYOUT, (component, member))
        # Resolved for `answered`, the path that has to be short.
        self._calls = calls
        self._local = book.cells.local
        self._shortest = calls.bounds[0]
        self._sum = len(calls.bounds) + 1

    def answered(self, seconds: float) -> None:
        """Record a call, and its only attempt, that this member answered after *seconds*."""
        try:
            cells = self._local.cells
            durations, calls = cells[self._calls]
            attempts = cells[self._group][1]
        except (AttributeError, KeyError):  # the first one in this thread
            durations, calls = self._book.cells.cell(self._calls)
            attempts = self._book.cells.cell(self._group)[1]
        bucket = 0 if seconds <= self._shortest else self._book.slow_call(self._calls, seconds)
        durations[bucket] += 1.0
        durations[self._sum] += seconds
        calls[_CALL_SUCCESS] += 1.0
        attempts[_SUCCESS] += 1.0

    def attempt(self, outcome: str) -> None:
        """Record an attempt that ended in any way."""
        self._book.cells.cell(self._group)[1][_OUTCOMES[outcome]] += 1.0

    def ejected(self, cause: str) -> None:
        """Record that the member was ejected."""
        self._book.cells.cell(self._group)[1][_CAUSES[cause]] += 1.0


class SwitchRecorder:
    """Records what changes in one pool or breaker."""

    def __init__(self, book: "Book", component: str) -> None:
        self._book = book
        self._component = component
        self._pairs: dict[tuple[str, ...], Group] = {}
        self._outages: dict[str, Group] = {}

    def switched(self, old: str, new: str, reason: str) -> None:
        """Record that new calls go to the member *new* instead of *old*."""
        names = (self._book.member(self._component, each) for each in (old, new))
        self._count(FAILOVER_LAYOUT, (self._component, *names, reason))

    def transition(self, old: str, new: str) -> None:
        """Record that a breaker went from state *old* to *new*."""
        self._count(TRANSITION_LAYOUT, (self._component, old, new))

    def detected(self, seconds: float) -> None:
        """Record how long it took from the first failure to the ejection."""
        self._observe(TIME_TO_DETECT.name, seconds)

    def recovered(self, seconds: float) -> None:
        """Record how long it took from the ejection to the readmission."""
        self._observe(TIME_TO_RECOVER.name, seconds)

    def standby_started(self, seconds: float) -> None:
        """Record how long it took until a standby was ready."""
        self._observe(STANDBY_START.name, seconds)

    def show_outages(self) -> None:
        """Let the histograms start at 0 now: what a pool does when it is made."""
        for name in OUTAGE_LAYOUTS:
            self._outage_group(name)

    def _count(self, layout: Layout, labels: tuple[str, ...]) -> None:
        group = get_or_create(self._pairs, labels, lambda: self._book.group(layout, labels))
        self._book.cells.cell(group)[1][0] += 1.0

    def _outage_group(self, name: str) -> Group:
        labels = (self._component,)
        return get_or_create(
            self._outages, name, lambda: self._book.group(OUTAGE_LAYOUTS[name], labels)
        )

    def _observe(self, name: str, seconds: float) -> None:
        group = self._outage_group(name)
        slots, _ = self._book.cells.cell(group)
        slots[bisect_left(group.bounds, seconds)] += 1.0
        slots[-1] += seconds
