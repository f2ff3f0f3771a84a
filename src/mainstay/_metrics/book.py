"""The book: all that one `Metrics` has recorded in this process, and who may record into it.

Nothing here takes a lock (see `finding`), and numbers come from `itertools.count`. A group made
twice does no harm, since series with the same labels are added up.
"""

import itertools
import os
import weakref
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from pathlib import Path

from prometheus_client import Gauge as StockGauge
from prometheus_client.samples import Exemplar

from mainstay._core.threads import get_or_create, values_now
from mainstay._core.version import VERSION
from mainstay._metrics import multiprocess, schema
from mainstay._metrics.cells import Cells, Group, cell_in_memory
from mainstay._metrics.checkpoint import CheckpointRecorder
from mainstay._metrics.copies import CopiesRecorder
from mainstay._metrics.exemplars import exemplar
from mainstay._metrics.gauges import NumberGauge, Sample, StateGauge
from mainstay._metrics.layouts import DROPPED_LAYOUT, ERROR_LAYOUT, Layout
from mainstay._metrics.pools import MemberRecorder, SwitchRecorder
from mainstay._metrics.recorder import Recorder
from mainstay._metrics.schema import Family
from mainstay._metrics.upkeep import Upkeep
from mainstay._metrics.writer import Writer

_name_of_class = type.__dict__["__name__"].__get__
"""Reads a class's own name, which its metaclass can neither hide nor make fail."""

_RECORDERS = {"checkpoint": CheckpointRecorder}
"""The recorders of the policies that record more than every one does."""

_in_files: "weakref.WeakSet[Book]" = weakref.WeakSet()


class LabelValues:
    """The values that a label has taken, at most a fixed number of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._numbers = itertools.count()
        self._known: dict[str, str] = {}

    def admit(self, value: str) -> str | None:
        """Give the value to use as a label, or None if there are too many already."""
        known = self._known.get(value)
        if known is None and next(self._numbers) < self._most:
            # A lone surrogate cannot be encoded, and would break every scrape.
            clean = value.encode("utf-8", "replace").decode()
            known = self._known.setdefault(value, value if clean == value else clean)
        return known


class Book:
    """The groups of one namespace in one registry, their cells, and the limits on labels.

    Where its methods take a component, they take the label that `component` gave for its name.

    Attributes:
        namespace: The prefix of all metric names.
        buckets: The bounds that were given, by metric name without prefix.
        cells: Where the counts are.
        groups: All groups of series that were ever made; only ever appended to.
        exemplars: By metric name and label values, the last exemplar of each slot.
        times_collected: How often its collector was asked.
        writer: What writes the gauges, in a worker process of multiprocess mode; else None.
    """

    def __init__(
        self, namespace: str, buckets: Mapping[str, tuple[float, ...]], *, in_memory: bool = False
    ) -> None:
        self.namespace = namespace
        self.buckets = buckets
        self.groups: list[Group] = []
        self.exemplars: dict[tuple[str, tuple[str, ...]], dict[int, Exemplar]] = {}
        self.times_collected = 0
        self._recorders: dict[tuple[str, str], Recorder] = {}
        self._components = LabelValues(schema.MOST_COMPONENTS)
        self._errors: dict[tuple[str, str, str], Group] = {}
        self._error_types: dict[str, LabelValues] = {}
        self._members: dict[str, LabelValues] = {}
        self._member_recorders: dict[tuple[str, str], MemberRecorder] = {}
        self._switch_recorders: dict[str, SwitchRecorder] = {}
        self._copies_recorders: dict[str, CopiesRecorder] = {}
        self._numbers: dict[tuple[str, str], NumberGauge] = {}
        self._states: dict[tuple[str, str], StateGauge] = {}
        self._stock_gauges: dict[str, StockGauge] = {}
        self._dropped: dict[str, Group] = {}
        self._upkeeps: dict[str, Upkeep] = {}
        self._directory = "" if in_memory else os.environ.get(multiprocess.VARIABLE, "")
        self.cells: Cells = Cells(cell_in_memory)
        self.writer: Writer | None = None
        if self._directory:
            if not Path(self._directory).is_dir():
                raise ValueError(
                    f"{multiprocess.VARIABLE} must name a directory, not {self._directory!r}; "
                    f"make it, empty, before the program starts"
                )
            self.writer = Writer(self.refresh)
            self.start_files()
            _in_files.add(self)

    def start_files(self) -> None:
        """Let all cells made from now on lie in files of this process."""
        try:
            files_work = multiprocess.files_work()
        except OSError:  # no room to try it; the first cell will say so in the log
            files_work = True
        maker = (
            multiprocess.Files(self._directory, self.namespace)
            if files_work
            else multiprocess.Forwarding(self.namespace, self.bounds)
        )
        self.cells.start_anew(maker.cell)
        maker.set_gauge(schema.BUILD_INFO, (VERSION,), 1.0)

    def go_on_after_fork(self) -> None:
        """Leave the files to the parent: a file of two processes would lose counts of both."""
        self.start_files()
        for numbers in self._numbers.values():
            numbers.start_anew()
        for states in self._states.values():
            states.start_anew()
        for upkeep in self._upkeeps.values():
            upkeep.start_anew()
        if self.writer is not None:
            self.writer.start_anew()
            if self._upkeeps:
                self.writer.start()

    def refresh(self) -> None:
        """Bring up to date the counters that go on with time alone."""
        for upkeep in values_now(self._upkeeps):
            upkeep.refresh()

    # Labels: the only way from a name to a component or member, and how many there may be.

    def component(self, name: str) -> str:
        """Give the label for the name of a component."""
        return self._admit(self._components, name, schema.CALLS)

    def member(self, component: str, name: str, family: Family = schema.MEMBER_ATTEMPTS) -> str:
        """Give the label for the name of a member, in the series of *family*."""
        members = get_or_create(self._members, component, lambda: LabelValues(schema.MOST_MEMBERS))
        return self._admit(members, name, family)

    def _admit(self, values: LabelValues, value: str, family: Family) -> str:
        """Give the label for *value*: "_other", and counted as dropped, if there are too many."""
        label = values.admit(value)
        if label is not None:
            return label
        name = f"{self.namespace}_{family.name}"
        group = get_or_create(self._dropped, name, lambda: self.group(DROPPED_LAYOUT, (name,)))
        self.cells.cell(group)[1][0] += 1.0
        return schema.OTHER

    # What policies record with.

    def recorder(self, component: str, policy: str) -> Recorder:
        """Find the recorder of a component under a policy, or make it."""
        labels = component, policy
        kind = _RECORDERS.get(policy, Recorder)
        return get_or_create(self._recorders, labels, lambda: kind(self, labels))

    def member_recorder(self, component: str, member: str) -> MemberRecorder:
        """Find the recorder of one member of a pool, or make it."""
        labels = component, self.member(component, member)
        calls = self.recorder(component, "failover").calls
        return get_or_create(
            self._member_recorders, labels, lambda: MemberRecorder(self, *labels, calls)
        )

    def switch_recorder(self, component: str) -> SwitchRecorder:
        """Find the recorder of the changes in a pool or a breaker, or make it."""
        known = self._switch_recorders
        return get_or_create(known, component, lambda: SwitchRecorder(self, component))

    def copies_recorder(self, component: str) -> CopiesRecorder:
        """Find the recorder of the copies of redundant calls, or make it."""
        known = self._copies_recorders
        return get_or_create(known, component, lambda: CopiesRecorder(self, component))

    def upkeep(self, component: str) -> Upkeep:
        """Find the upkeep of a component's dependability, or make it."""
        upkeep = get_or_create(self._upkeeps, component, lambda: Upkeep(self, component))
        if self.writer is not None:
            self.writer.start()
        return upkeep

    def number(self, family: Family, component: str) -> NumberGauge:
        """Find a gauge of one number, or make it."""
        key = family.name, component
        return get_or_create(self._numbers, key, lambda: NumberGauge(self, family, component))

    def states(self, family: Family, component: str) -> StateGauge:
        """Find a gauge of states, or make it."""
        key = family.name, component
        return get_or_create(self._states, key, lambda: StateGauge(self, family, component))

    # What recorders ask for.

    def group(self, layout: Layout, labels: tuple[str, ...]) -> Group:
        """Make a group of series; they start at 0 now."""
        bounds = self.bounds(layout.histogram) if layout.histogram else ()
        group = Group(layout, labels, bounds)
        self.groups.append(group)
        if self.writer is not None:
            self.cells.cell(group)
        return group

    def bounds(self, family: Family) -> tuple[float, ...]:
        """Give the upper bounds of a histogram's buckets, without +Inf."""
        return self.buckets.get(family.name, family.buckets)

    def count_error(self, component: str, policy: str, error: BaseException) -> None:
        """Count a failed attempt by the class of its exception."""
        name = _name_of_class(type(error))
        group = self._errors.get((component, policy, name))
        if group is None:
            group = self._error_group(component, policy, name)
        self.cells.cell(group)[1][0] += 1.0

    def _error_group(self, component: str, policy: str, name: str) -> Group:
        types = get_or_create(
            self._error_types, component, lambda: LabelValues(schema.MOST_ERROR_TYPES)
        )
        labels = component, policy, self._admit(types, name, schema.ERRORS)
        return get_or_create(self._errors, labels, lambda: self.group(ERROR_LAYOUT, labels))

    def slow_call(self, calls: Group, seconds: float) -> int:
        """Find the bucket of a call beyond the first one, and keep its trace as an example."""
        bucket = bisect_left(calls.bounds, seconds)
        example = exemplar(seconds)
        if example is not None:
            self.keep_exemplar(schema.CALL_DURATION, calls.labels, bucket, example)
        return bucket

    def keep_exemplar(
        self, family: Family, labels: tuple[str, ...], slot: int, example: Exemplar
    ) -> None:
        """Keep the exemplar of one bucket of a histogram, or of a counter, whose slot is 0."""
        self.exemplars.setdefault((family.name, labels), {})[slot] = example

    # Gauges, for the collector and for workers.

    def gauges(self) -> Iterable[Sample]:
        """Give the present values of all gauges."""
        for numbers in values_now(self._numbers):
            yield from numbers.samples()
        for states in values_now(self._states):
            yield from states.samples()

    def stock_gauge(self, family: Family) -> StockGauge:
        """Find the gauge of prometheus_client that workers write *family* through, or make it."""
        name, mode = f"{self.namespace}_{family.name}", family.mode
        assert mode is not None  # noqa: S101 - a gauge without one is not written

        def make() -> StockGauge:
            return StockGauge(
                name, family.help, family.labels, registry=None, multiprocess_mode=mode
            )

        return get_or_create(self._stock_gauges, name, make)


def _start_anew_after_fork() -> None:
    for book in tuple(_in_files):
        book.go_on_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_after_fork)
