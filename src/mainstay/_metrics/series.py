"""The table of series: all that one `Metrics` has counted in this process.

It knows the groups of series, the cells with their numbers, and how many values a label may take,
and nothing of what records into them. Nothing here takes a lock (see `get_or_create`), and numbers
come from `itertools.count`.
"""

import itertools
import sys
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client.samples import Exemplar

from mainstay._core.clock import wall_time
from mainstay._core.forks import reset_after_fork
from mainstay._core.threads import get_or_create, values_now
from mainstay._core.version import VERSION
from mainstay._metrics import schema
from mainstay._metrics.cells import Cells, Group, cell_in_memory
from mainstay._metrics.layouts import (
    DROPPED_LAYOUT,
    ERROR_LAYOUT,
    HOOK_LAYOUT,
    WIRE_LAYOUT,
    Layout,
)
from mainstay._metrics.schema import Family

if TYPE_CHECKING:
    from mainstay._metrics.multiprocess import Files, Forwarding
    from mainstay._metrics.writer import Writer


class LabelValues:
    """The values that a label has taken, at most a fixed number of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._numbers = itertools.count()
        self._known: dict[str, str] = {}

    def admit(self, value: str) -> str | None:
        """Return the value to use as a label, or None if there are too many already."""
        known = self._known.get(value)
        if known is None and next(self._numbers) < self._most:
            # A lone surrogate cannot be encoded, and would break every scrape.
            clean = value.encode("utf-8", "replace").decode()
            known = self._known.setdefault(value, value if clean == value else clean)
        return known


class SeriesTable:
    """The series of one namespace in one registry.

    Where its methods take a component, they take the label that `component` returned for its name.

    Args:
        namespace: The prefix of all metric names.
        buckets: The bounds that were given, by metric name without prefix.
        directory: Where the files of multiprocess mode are; "" to count in memory.

    Attributes:
        cells: Where the numbers are.
        hooks: What counts errors in code of the program's own, of whatever component.
        wire: What counts headers that cannot be read.
        exemplars: By metric name and label values, the last exemplar of each slot.
        refreshers: What brings up to date what goes on with time alone, by kind and component.
        started: When it began to count, by the wall clock.
        times_collected: How often its collector was asked.
        writer: What writes the gauges, in a worker process of multiprocess mode; else None.
    """

    def __init__(
        self, namespace: str, buckets: Mapping[str, tuple[float, ...]], directory: str = ""
    ) -> None:
        self.namespace = namespace
        self.buckets = buckets
        self.cells: Cells = Cells(cell_in_memory)
        self.exemplars: dict[tuple[str, tuple[str, ...]], dict[int, Exemplar]] = {}
        self.refreshers: dict[tuple[str, str], Callable[[], None]] = {}
        self.started: float = wall_time()
        self.times_collected = 0
        self.writer: Writer | None = None
        self._errors: dict[tuple[str, ...], Group] = {}
        self._groups: dict[Layout, dict[tuple[str, ...], Group]] = {ERROR_LAYOUT: self._errors}
        self._components = LabelValues(schema.MOST_COMPONENTS)
        self._error_types: dict[str, LabelValues] = {}
        self._members: dict[str, LabelValues] = {}
        self._directory = directory
        self._files: Files | Forwarding | None = None
        if directory:
            from mainstay._metrics import multiprocess, writer  # noqa: PLC0415 - only for workers

            multiprocess.check_directory(directory)
            self.writer = writer.Writer(self.refresh)
            self._open_files()
            reset_after_fork(self, SeriesTable._leave_files_to_parent)
        self.hooks: Group = self.group(HOOK_LAYOUT, ())
        self.wire: Group = self.group(WIRE_LAYOUT, ())

    def _open_files(self) -> None:
        """Make all further cells in files of this process."""
        from mainstay._metrics import multiprocess  # noqa: PLC0415 - only for workers

        multiprocess.remove_gone(self._directory)
        self._files = multiprocess.cell_maker(self._directory, self.namespace, self.bounds)
        self.cells.restart(self._files.cell)
        self._files.set_gauges(schema.BUILD_INFO, {(VERSION,): 1.0})

    def _leave_files_to_parent(self) -> None:
        """Go on in other files: those of two processes at once would lose counts of both."""
        self._open_files()
        self.started = wall_time()
        if self.writer is not None:
            self.writer.restart()

    def refresh(self) -> None:
        """Bring up to date the counters that go on with time alone."""
        for refresh in values_now(self.refreshers):
            refresh()

    # Labels: the only way from a name to a component or member, and how many there may be.

    def component(self, name: str) -> str:
        """Return the label for the name of a component."""
        return self._admit(self._components, name, schema.CALLS)

    def member(self, component: str, name: str, family: Family = schema.MEMBER_ATTEMPTS) -> str:
        """Return the label for the name of a member, in the series of *family*."""
        members = get_or_create(self._members, component, lambda: LabelValues(schema.MOST_MEMBERS))
        return self._admit(members, name, family)

    def _admit(self, values: LabelValues, value: str, family: Family) -> str:
        """Return the label for *value*: "_other", counted as dropped, if there are too many."""
        label = values.admit(value)
        if label is not None:
            return label
        self.add(self.group(DROPPED_LAYOUT, (f"{self.namespace}_{family.name}",)))
        return schema.OTHER

    # Series.

    def group(self, layout: Layout, labels: tuple[str, ...]) -> Group:
        """Return a group of series, made at first use; they start at 0 then, or late."""
        groups = get_or_create(self._groups, layout, dict)
        known = groups.get(labels)
        if known is None:
            bounds = self.bounds(layout.histogram) if layout.histogram else ()
            known = groups.setdefault(labels, Group(layout, labels, bounds))
            if self.writer is not None and not layout.late:
                self.cells.cell(known)
        return known

    def groups(self) -> list[Group]:
        """Return all groups that are to be seen."""
        return [
            group
            for groups in values_now(self._groups)
            for group in values_now(groups)
            if not group.layout.late or self.cells.has(group)
        ]

    def bounds(self, family: Family) -> tuple[float, ...]:
        """Return the upper bounds of a histogram's buckets, without +Inf."""
        return self.buckets.get(family.name, family.buckets)

    def add(self, group: Group, slot: int = 0, amount: float = 1.0) -> None:
        """Add to a counter of *group*."""
        self.cells.cell(group)[1][slot] += amount

    def observe(self, group: Group, value: float, slot: int | None = None) -> None:
        """Count *value* in the histogram of *group*, and 1 in the counter *slot* if given."""
        slots, counters = self.cells.cell(group)
        slots[bisect_left(group.bounds, value)] += 1.0
        slots[-1] += value
        if slot is not None:
            counters[slot] += 1.0

    def set_gauges(self, family: Family, numbers: Mapping[tuple[str, ...], float]) -> None:
        """Write what is the case in this process, if others have to read it."""
        if self._files is not None:
            self._files.set_gauges(family, numbers)

    def count_failure(self, component: str, policy: str, name: str) -> None:
        """Count a failed attempt by what it failed with."""
        group = self._errors.get((component, policy, name))
        if group is None:
            types = get_or_create(
                self._error_types, component, lambda: LabelValues(schema.MOST_ERROR_TYPES)
            )
            label = self._admit(types, name, schema.ERRORS)
            group = self.group(ERROR_LAYOUT, (component, policy, label))
        self.cells.cell(group)[1][0] += 1.0

    # Exemplars: where the program uses OpenTelemetry and a sampled span is active, calls beyond the
    # first bucket of `call_duration_seconds` and calls that fail leave the span's ids behind.

    def slow_call(self, calls: Group, seconds: float) -> int:
        """Return the bucket of a call beyond the first one, and keep its trace as an example."""
        bucket = bisect_left(calls.bounds, seconds)
        self.keep_exemplar(schema.CALL_DURATION, calls.labels, bucket, seconds)
        return bucket

    def keep_exemplar(
        self, family: Family, labels: tuple[str, ...], slot: int, value: float
    ) -> None:
        """Keep the trace of a call that ends now, if there is one, as the example of a series.

        Args:
            family: A histogram or a counter.
            labels: Those of the series.
            slot: The bucket of a histogram; 0 for a counter.
            value: What the call is counted with: its seconds, or 1.
        """
        example = _exemplar(value)
        if example is not None:
            self.exemplars.setdefault((family.name, labels), {})[slot] = example


def _exemplar(value: float) -> Exemplar | None:
    """Return the exemplar of a call that ends now, if a sampled span is active."""
    opentelemetry: Any = sys.modules.get("opentelemetry.trace")
    if opentelemetry is None:
        return None
    try:
        span = opentelemetry.get_current_span().get_span_context()
        if not (span.is_valid and span.trace_flags.sampled):
            return None
        ids = {
            "trace_id": format(span.trace_id, "032x"),
            "span_id": format(span.span_id, "016x"),
        }
        return Exemplar(ids, value, wall_time())
    except Exception:  # noqa: BLE001 - a tracer of the user's; metrics must never break a call
        return None
