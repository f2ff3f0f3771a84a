"""What redundant calls record besides the calls themselves."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mainstay._core.threads import get_or_create
from mainstay._metrics.layouts import COPY_LAYOUT, HEDGE_LAYOUT
from mainstay._metrics.schema import (
    COPY_WINS,
    DISSENTS,
    HEDGES,
    HEDGES_DENIED,
    MOST_COPIES,
    OTHER,
    VOTES,
    WASTED_SECONDS,
)

if TYPE_CHECKING:
    from mainstay._metrics.book import Book
    from mainstay._metrics.cells import Group

_HEDGES = HEDGE_LAYOUT.slots(HEDGES)
_DENIALS = HEDGE_LAYOUT.slots(HEDGES_DENIED)
_VOTES = HEDGE_LAYOUT.slots(VOTES)
_WASTED = HEDGE_LAYOUT.slot(WASTED_SECONDS)
_WINS = COPY_LAYOUT.slot(COPY_WINS)
_DISSENTS = COPY_LAYOUT.slot(DISSENTS)


class CopiesRecorder:
    """Records the copies of one component's calls. As `Recorder`, it never raises and never blocks.

    Attributes:
        component: The name of the policy.
    """

    __slots__ = ("_book", "_copies", "_hedges", "_local", "_primary", "component")

    def __init__(self, book: "Book", component: str) -> None:
        self.component: str = component
        self._book = book
        self._hedges = book.group(HEDGE_LAYOUT, (component,))
        self._copies: dict[str, Group] = {}
        self._primary: Group | None = None
        # Resolved for `primary_won`, which is part of the path that has to be short.
        self._local = book.cells.local

    def primary_won(self) -> None:
        """Record that the primary's answer was returned."""
        try:
            self._local.cells[self._primary][1][_WINS] += 1.0
        except (AttributeError, KeyError):  # the first call in this thread
            self._primary = self._group(0)
            self._book.cells.cell(self._primary)[1][_WINS] += 1.0

    def won(self, copy: int | str) -> None:
        """Record that the answer of a copy, told by its number or its member, was returned."""
        self._book.cells.cell(self._group(copy))[1][_WINS] += 1.0

    def dissented(self, copy: int | str) -> None:
        """Record that the answer of a copy was outvoted."""
        self._book.cells.cell(self._group(copy))[1][_DISSENTS] += 1.0

    def hedged(self, reason: str) -> None:
        """Record that a copy was started, and why."""
        self._book.cells.cell(self._hedges)[1][_HEDGES[reason]] += 1.0

    def denied(self, reason: str) -> None:
        """Record that no copy was started, and why not."""
        self._book.cells.cell(self._hedges)[1][_DENIALS[reason]] += 1.0

    def voted(self, verdict: str) -> None:
        """Record how a vote ended."""
        self._book.cells.cell(self._hedges)[1][_VOTES[verdict]] += 1.0

    def wasted(self, seconds: float) -> None:
        """Record how long a copy ran in vain."""
        self._book.cells.cell(self._hedges)[1][_WASTED] += seconds

    def show(self, copies: Iterable[int | str]) -> None:
        """Let the series of these copies start at 0 now."""
        for copy in copies:
            self._group(copy)

    def _group(self, copy: int | str) -> "Group":
        label = self._label(copy)
        labels = self.component, label
        return get_or_create(self._copies, label, lambda: self._book.group(COPY_LAYOUT, labels))

    def _label(self, copy: int | str) -> str:
        if isinstance(copy, str):
            return self._book.member(self.component, copy, COPY_WINS)
        return str(copy) if copy < MOST_COPIES else OTHER
