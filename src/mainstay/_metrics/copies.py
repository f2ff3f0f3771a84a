"""What redundant calls record besides the calls themselves."""

from collections.abc import Iterable

from mainstay._metrics import schema
from mainstay._metrics.cells import Group
from mainstay._metrics.layouts import COPY_LAYOUT, HEDGE_LAYOUT
from mainstay._metrics.series import SeriesTable

_HEDGES = HEDGE_LAYOUT.slots[schema.HEDGES]
_DENIALS = HEDGE_LAYOUT.slots[schema.HEDGES_DENIED]
_VOTES = HEDGE_LAYOUT.slots[schema.VOTES]
_WASTED = HEDGE_LAYOUT.slots[schema.WASTED_SECONDS][""]
_WINS = COPY_LAYOUT.slots[schema.COPY_WINS][""]
_DISSENTS = COPY_LAYOUT.slots[schema.DISSENTS][""]


class CopiesRecorder:
    """Records the copies of one component's calls. As `Recorder`, it never raises nor blocks."""

    __slots__ = ("_component", "_hedges", "_local", "_primary", "_table")

    def __init__(self, table: SeriesTable, component: str) -> None:
        self._component = component
        self._table = table
        self._hedges = table.group(HEDGE_LAYOUT, (component,))
        self._primary: Group | None = None
        # Resolved for `primary_won`, which is part of the path that has to be short.
        self._local = table.cells.local

    def primary_won(self) -> None:
        """Record that the primary's answer was returned."""
        try:
            self._local.cells[self._primary][1][_WINS] += 1.0
        except (AttributeError, KeyError):  # the first call in this thread
            self._primary = self._group(0)
            self._table.add(self._primary, _WINS)

    def won(self, copy: int | str) -> None:
        """Record that the answer of a copy, which has a number or a member, was returned."""
        self._table.add(self._group(copy), _WINS)

    def dissented(self, copy: int | str) -> None:
        """Record that the answer of a copy was outvoted."""
        self._table.add(self._group(copy), _DISSENTS)

    def hedged(self, reason: str) -> None:
        """Record that a copy was started, and why."""
        self._table.add(self._hedges, _HEDGES[reason])

    def denied(self, reason: str) -> None:
        """Record that no copy was started, and why not."""
        self._table.add(self._hedges, _DENIALS[reason])

    def voted(self, verdict: str) -> None:
        """Record how a vote ended."""
        self._table.add(self._hedges, _VOTES[verdict])

    def wasted(self, seconds: float) -> None:
        """Record how long a copy ran whose answer nobody waited for."""
        self._table.add(self._hedges, _WASTED, seconds)

    def show(self, copies: Iterable[int | str]) -> None:
        """Start the series of these copies at 0."""
        for copy in copies:
            self._group(copy)

    def _group(self, copy: int | str) -> Group:
        if isinstance(copy, str):
            label = self._table.member(self._component, copy, schema.COPY_WINS)
        else:
            label = str(copy) if copy < schema.MOST_COPIES else schema.OTHER
        return self._table.group(COPY_LAYOUT, (self._component, label))
