"""What bulkheads call to record what happens in them.

What can be asked for at a scrape is: limit, calls under way and calls that wait cost a call
nothing. Nobody scrapes a worker process of multiprocess mode, and there its `Writer` asks each
second.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

from mainstay._metrics.gauges import NumberGauge
from mainstay._metrics.layouts import BULKHEAD_LAYOUT, QUEUE_WAIT_LAYOUT, SHARED_CALL_LAYOUT
from mainstay._metrics.schema import CALLS, IN_FLIGHT_SECONDS, LIMIT_CHANGES, Family
from mainstay._metrics.series import SeriesTable

S = TypeVar("S")

_CALL_SUCCESS = SHARED_CALL_LAYOUT.slots[CALLS]["success"]
_IN_FLIGHT = BULKHEAD_LAYOUT.slots[IN_FLIGHT_SECONDS][""]
_CHANGES = BULKHEAD_LAYOUT.slots[LIMIT_CHANGES]


class BulkheadRecorder:
    """Records what happens in the bulkheads of one component.

    It raises nothing and blocks nowhere, as `Recorder`.

    Args:
        table: Where it is recorded.
        component: The label.
        number: Finds a gauge of the component.
    """

    __slots__ = (
        "__weakref__",
        "_calls",
        "_component",
        "_gauges",
        "_group",
        "_local",
        "_number",
        "_shortest",
        "_sum",
        "_table",
    )

    def __init__(
        self, table: SeriesTable, component: str, number: Callable[[Family], NumberGauge]
    ) -> None:
        self._table = table
        self._component = component
        self._number = number
        self._gauges: list[NumberGauge] = []
        self._group = table.group(BULKHEAD_LAYOUT, (component,))
        # Resolved for `answered`, the path that has to be short.
        self._calls = table.group(SHARED_CALL_LAYOUT, (component, "bulkhead"))
        self._local = table.cells.local
        self._shortest = self._calls.bounds[0]
        self._sum = len(self._calls.bounds) + 1

    def answered(self, seconds: float) -> None:
        """Record a call that did not wait and succeeded, after *seconds*."""
        try:
            cells = self._local.cells
            durations, calls = cells[self._calls]
            held = cells[self._group][1]
        except (AttributeError, KeyError):  # the first one in this thread
            durations, calls = self._table.cells.cell(self._calls)
            held = self._table.cells.cell(self._group)[1]
        bucket = 0 if seconds <= self._shortest else self._table.slow_call(self._calls, seconds)
        durations[bucket] += 1.0
        durations[self._sum] += seconds
        calls[_CALL_SUCCESS] += 1.0
        held[_IN_FLIGHT] += seconds

    def held(self, seconds: float) -> None:
        """Record for how long a call had its place."""
        try:
            self._local.cells[self._group][1][_IN_FLIGHT] += seconds
        except (AttributeError, KeyError):  # the first one in this thread
            self._table.add(self._group, _IN_FLIGHT, seconds)

    def waited(self, priority: str, seconds: float) -> None:
        """Record for how long a call waited for a place, whether it got one or not."""
        group = self._table.group(QUEUE_WAIT_LAYOUT, (self._component, priority))
        self._table.observe(group, seconds)

    def limit_changed(self, *, up: bool) -> None:
        """Record that the limit has changed."""
        self._table.add(self._group, _CHANGES["up" if up else "down"])
        self.refresh()

    def follow(self, source: S, reads: Mapping[Family, Callable[[S], float | None]]) -> None:
        """Show what *source* says of these gauges from now on, as long as it lives."""
        for family, read in reads.items():
            gauge = self._number(family)
            gauge.follow(source, read)
            if gauge not in self._gauges:
                self._gauges.append(gauge)
        self._table.refreshers["bulkhead", self._component] = self.refresh
        self.refresh()

    def refresh(self) -> None:
        """Bring up to date what others read of this process."""
        for each in self._gauges:
            each.changed()
