"""Keeps the dependability series of a component up to date.

Uptime goes on while nothing happens, so its counters cannot be written by events alone: they are
brought up to date whenever the component changes and before each scrape. Nobody scrapes a worker
process of multiprocess mode; there its `Writer` does it, each second.
"""

import functools
import math
import weakref
from collections.abc import Callable, Iterator
from operator import add
from typing import TYPE_CHECKING, Protocol

import attrs

from mainstay._core.dependability import DependabilityFigures
from mainstay._core.threads import values_now
from mainstay._metrics import schema
from mainstay._metrics.layouts import AVAILABILITY_LAYOUT
from mainstay._metrics.schema import Family

if TYPE_CHECKING:
    from mainstay._metrics.book import Book

_UPTIME = AVAILABILITY_LAYOUT.slot(schema.COMPONENT_UPTIME)
_DOWNTIME = AVAILABILITY_LAYOUT.slot(schema.COMPONENT_DOWNTIME)
_FAILURES = AVAILABILITY_LAYOUT.slot(schema.COMPONENT_FAILURES)

_FIGURES: dict[Family, Callable[[DependabilityFigures], float]] = {
    schema.AVAILABILITY: lambda total: total.availability,
    schema.FAILURE_RATE: lambda total: total.failure_rate,
    schema.MTBF: lambda total: total.mtbf,
    schema.MTTR: lambda total: total.mttr,
}
"""The figures since the start, by their gauges."""


class Source(Protocol):
    """What knows when a component is up."""

    def is_up(self) -> bool:
        """Whether it is up now."""
        ...

    def so_far(self) -> DependabilityFigures:
        """Give its figures since the start; they never shrink, and nothing is raised."""
        ...


@attrs.define(eq=False)
class _Watched:
    """A source, and how much of its time has been counted."""

    source: "weakref.ref[Source]"
    counted: DependabilityFigures = attrs.field(factory=DependabilityFigures)


class Upkeep:
    """Writes the series of one component, from the sources that know about it."""

    def __init__(self, book: "Book", component: str) -> None:
        self._book = book
        self._group = book.group(AVAILABILITY_LAYOUT, (component,))
        self._watched: dict[int, _Watched] = {}
        self._up = book.number(schema.COMPONENT_UP, component)
        self._up.follow(self, Upkeep._is_up)
        for family, figure in _FIGURES.items():
            read = functools.partial(Upkeep._figure, figure=figure)
            book.number(family, component).follow(self, read)

    def watch(self, source: Source) -> None:
        """Take *source* into account as long as it lives."""
        key = id(source)
        self._watched[key] = _Watched(weakref.ref(source, lambda _: self._watched.pop(key, None)))
        self.refresh()

    def refresh(self) -> None:
        """Bring the counters and `component_up` up to date."""
        for watched, source in self._alive():
            self._count(watched, source)
        self._up.changed()

    def start_anew(self) -> None:
        """Leave to the parent process what has passed until the fork."""
        for watched, source in self._alive():
            watched.counted = source.so_far()

    def _is_up(self) -> float | None:
        up = [source.is_up() for _, source in self._alive()]
        return float(all(up)) if up else None

    def _figure(self, figure: Callable[[DependabilityFigures], float]) -> float | None:
        figures = [source.so_far() for _, source in self._alive()]
        value = figure(functools.reduce(add, figures)) if figures else math.nan
        return None if math.isnan(value) else value

    def _alive(self) -> Iterator[tuple[_Watched, Source]]:
        for watched in values_now(self._watched):  # a collection takes entries out
            source = watched.source()
            if source is not None:
                yield watched, source

    def _count(self, watched: _Watched, source: Source) -> None:
        """Add what has passed since the last time.

        Between the comparison and the assignment no other thread comes in (see `availability`).
        """
        while True:
            before = watched.counted
            now = source.so_far()
            if watched.counted is before:
                watched.counted = now
                break
        _, counters = self._book.cells.cell(self._group)
        counters[_UPTIME] += now.uptime - before.uptime
        counters[_DOWNTIME] += now.downtime - before.downtime
        counters[_FAILURES] += now.failures - before.failures
