"""Where counts are kept: for each thread one cell per group of series, written by it alone.

Why it is exact without a lock: a cell has one writer. `cell[i] += x` by that writer cannot be
split by a signal handler or an asynchronous exception, because CPython checks for those at calls
and jumps only, and there is neither between the read and the write. Readers only ever add up.

Why it stays small: when a thread ends, its dict of cells goes to a free list as it is, and the
next new thread goes on counting in it. There are as many dicts as there were ever threads at
once, and nothing is merged, folded or flushed.

Why nothing can block: there is no lock at all. What may be made twice, when a signal handler
comes in while it is being made, is published with `dict.setdefault`, so the first one stands.

A process that forks takes its counts along, as metrics of prometheus_client do; where cells lie in
files, the child starts new ones (see `multiprocess`).
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from operator import add
from typing import Protocol, TypeAlias

from mainstay._metrics.layouts import Layout
from mainstay._metrics.schema import Family

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the directory of cells in files."""


class Slots(Protocol):
    """A row of numbers: a list, or a view into a file."""

    def __getitem__(self, index: int, /) -> float: ...
    def __setitem__(self, index: int, value: float, /) -> None: ...
    def __iter__(self) -> Iterator[float]: ...


Cell: TypeAlias = tuple[Slots, Slots]
"""The row of the histogram and that of the counters of one group, for one thread."""


class Group:
    """A layout with its labels: what cells belong to, and are found by.

    Attributes:
        layout: Which series they are.
        labels: The values of the labels that the series share. A family takes as many of them,
            from the first on, as it has labels besides the closed one.
        bounds: The upper bounds of the histogram's buckets, without +Inf.
        companion: Another group that appears when this one does, or None.
    """

    __slots__ = ("bounds", "companion", "labels", "layout")

    def __init__(
        self, layout: Layout, labels: tuple[str, ...], bounds: tuple[float, ...] = ()
    ) -> None:
        self.layout: Layout = layout
        self.labels: tuple[str, ...] = labels
        self.bounds: tuple[float, ...] = bounds
        self.companion: Group | None = None

    def histogram_size(self) -> int:
        """Return the length of the histogram's row: buckets, +Inf, sum."""
        return len(self.bounds) + 2 if self.layout.histogram else 0

    def counter_series(self) -> Iterator[tuple[Family, tuple[str, ...]]]:
        """Yield the family and the label values of each series in the counters' row, in order."""
        for family, slots in self.layout.slots.items():
            count = len(family.labels)
            for value in slots:
                labels = (*self.labels[: count - 1], value) if value else self.labels[:count]
                yield family, labels


def cell_in_memory(group: Group) -> Cell:
    """Make a cell of plain numbers."""
    return [0.0] * group.histogram_size(), [0.0] * group.layout.size


class _Reclaimer:
    """Hands the cells of a thread on to the next one, when the thread ends and drops this."""

    cells: dict[Group, Cell] | None = None

    def __init__(self, free: deque[dict[Group, Cell]]) -> None:
        self._free = free

    def __del__(self) -> None:
        if self.cells is not None:
            self._free.append(self.cells)


class Cells:
    """All cells of one `Metrics` in this process.

    Attributes:
        local: What each thread sees as its own; in `.cells` its cells, once it has any.
    """

    def __init__(self, new_cell: Callable[[Group], Cell]) -> None:
        self.local: threading.local = threading.local()
        self._new_cell = new_cell
        self._all: list[dict[Group, Cell]] = []
        self._free: deque[dict[Group, Cell]] = deque()

    def cell(self, group: Group) -> Cell:
        """Return the calling thread's cell of *group*, made at first use."""
        try:
            cells: dict[Group, Cell] = self.local.cells
        except AttributeError:
            cells = self._take()
        cell = cells.get(group)
        if cell is None:
            cell = cells.setdefault(group, self._new_cell(group))
            if group.companion is not None:
                self.cell(group.companion)
        return cell

    def has(self, group: Group) -> bool:
        """True if any thread has a cell of *group*."""
        return any(group in cells for cells in tuple(self._all))

    def totals(self, group: Group) -> tuple[list[float], list[float]]:
        """Add up the cells of *group* over all threads, ended ones too."""
        histogram = [0.0] * group.histogram_size()
        counters = [0.0] * group.layout.size
        for cells in tuple(self._all):
            if (cell := cells.get(group)) is not None:
                histogram = [*map(add, histogram, cell[0])]
                counters = [*map(add, counters, cell[1])]
        return histogram, counters

    def restart(self, new_cell: Callable[[Group], Cell]) -> None:
        """Forget all cells and make new ones with *new_cell*: after a fork, or at the start."""
        self._new_cell = new_cell
        self._free = deque()  # the reclaimers of the parent's threads keep the old one
        self._all = []
        self.local.__dict__.clear()

    def _take(self) -> dict[Group, Cell]:
        """Return a dict of cells for the calling thread: one of an ended thread, or a new one."""
        try:
            fresh = self._free.pop()
        except IndexError:
            fresh = {}
            self._all.append(fresh)
        own = self.local.__dict__
        reclaimer = own.setdefault("reclaimer", _Reclaimer(self._free))
        cells: dict[Group, Cell] = own.setdefault("cells", fresh)
        if cells is fresh:
            reclaimer.cells = cells  # last, so that only cells in use are ever handed on
        else:  # a signal handler came in and was first
            self._free.append(fresh)
        return cells
