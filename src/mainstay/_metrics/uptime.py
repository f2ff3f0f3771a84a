"""The dependability series of a component.

Uptime goes on while nothing happens, so its counters cannot be written by events alone: they are
brought up to date whenever the component changes and before each scrape. Nobody scrapes a worker
process of multiprocess mode; there its `Writer` does it, each second.
"""

import functools
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from operator import add
from typing import Protocol

import attrs

from mainstay._core.dependability import DependabilityFigures
from mainstay._core.forks import around_forks, reset_after_fork, unlocked_copy
from mainstay._core.threads import values_now
from mainstay._metrics import schema
from mainstay._metrics.gauges import NumberGauge
from mainstay._metrics.layouts import AVAILABILITY_LAYOUT
from mainstay._metrics.schema import Family
from mainstay._metrics.series import SeriesTable

_UPTIME = AVAILABILITY_LAYOUT.slots[schema.COMPONENT_UPTIME][""]
_DOWNTIME = AVAILABILITY_LAYOUT.slots[schema.COMPONENT_DOWNTIME][""]
_FAILURES = AVAILABILITY_LAYOUT.slots[schema.COMPONENT_FAILURES][""]

_FIGURES: dict[Family, Callable[[DependabilityFigures], float]] = {
    schema.AVAILABILITY: lambda total: total.availability,
    schema.FAILURE_RATE: lambda total: total.failure_rate,
    schema.MTBF: lambda total: total.mtbf,
    schema.MTTR: lambda total: total.mttr,
}
"""The figures since the start, by their gauges."""

_lock = threading.RLock()


def _reset_after_fork() -> None:
    global _lock
    _lock = unlocked_copy(_lock)


around_forks(in_child=_reset_after_fork)


class UptimeSource(Protocol):
    """What knows when a component is up."""

    def is_up(self) -> bool:
        """True if it is up now."""
        ...

    def so_far(self) -> DependabilityFigures:
        """Return its figures since the start; they never shrink, and nothing is raised."""
        ...


@attrs.define(eq=False)
class _Watched:
    """A source, and how much of its time has been counted."""

    source: "weakref.ref[UptimeSource]"
    counted: DependabilityFigures = attrs.field(factory=DependabilityFigures)


class UptimeSeries:
    """Writes the series of one component, from the sources that know about it.

    Args:
        table: Where the counters are.
        component: The label.
        number: Finds a gauge of the component.
    """

    def __init__(
        self, table: SeriesTable, component: str, number: Callable[[Family], NumberGauge]
    ) -> None:
        self._table = table
        self._group = table.group(AVAILABILITY_LAYOUT, (component,))
        self._watched: dict[int, _Watched] = {}
        self._up = number(schema.COMPONENT_UP)
        self._up.follow(self, UptimeSeries._is_up)
        for family, figure in _FIGURES.items():
            read = functools.partial(UptimeSeries._figure, figure=figure)
            number(family).follow(self, read)
        if table.writer is not None:
            reset_after_fork(self, UptimeSeries._leave_past_to_parent)

    def watch(self, source: UptimeSource) -> None:
        """Count the time of *source* as long as it lives."""
        key = id(source)
        self._watched[key] = _Watched(weakref.ref(source, lambda _: self._watched.pop(key, None)))
        self.count(source)

    def count(self, source: UptimeSource) -> None:
        """Bring the counters and `component_up` up to date about *source*, which has changed.

        The others wait for the next scrape: there may be a thousand under one label, `_other`.
        """
        watched = self._watched.get(id(source))
        if watched is not None:
            self._count(watched, source)
        self._up.changed()

    def refresh(self) -> None:
        """Bring the counters and `component_up` up to date."""
        for watched, source in self._alive():
            self._count(watched, source)
        self._up.changed()

    def _leave_past_to_parent(self) -> None:
        """Leave to the parent process what has passed until the fork."""
        for watched, source in self._alive():
            watched.counted = source.so_far()
        if self._table.writer is not None:
            self._table.writer.start()  # it refreshes, also if nothing ever changes here

    def _is_up(self) -> float | None:
        up = [source.is_up() for _, source in self._alive()]
        return float(all(up)) if up else None

    def _figure(self, figure: Callable[[DependabilityFigures], float]) -> float | None:
        figures = [source.so_far() for _, source in self._alive()]
        value = figure(functools.reduce(add, figures)) if figures else math.nan
        return None if math.isnan(value) else value

    def _alive(self) -> Iterator[tuple[_Watched, UptimeSource]]:
        for watched in values_now(self._watched):  # a collection takes entries out
            source = watched.source()
            if source is not None:
                yield watched, source

    def _count(self, watched: _Watched, source: UptimeSource) -> None:
        """Add what has passed since the last time.

        The source is asked outside of the lock, since it has a lock of its own.
        """
        while True:
            before = watched.counted
            now = source.so_far()
            with _lock:  # or two threads could add the same time
                if watched.counted is before:
                    watched.counted = now
                    break
        _, counters = self._table.cells.cell(self._group)
        counters[_UPTIME] += now.uptime - before.uptime
        counters[_DOWNTIME] += now.downtime - before.downtime
        counters[_FAILURES] += now.failures - before.failures
