"""The book: all that one `Metrics` has recorded in this process, and who may record into it.

Nothing here takes a lock: what two threads, or a thread and its signal handler, make at the same
time is published with `dict.setdefault`, and numbers come from `itertools.count`. A group made
twice does no harm, since series with the same labels are added up.
"""

import itertools
import os
import weakref
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from prometheus_client import Gauge
from prometheus_client.samples import Exemplar

from mainstay._core.version import VERSION
from mainstay._metrics import multiprocess, schema
from mainstay._metrics.cells import Cells, Group, cell_in_memory
from mainstay._metrics.checkpoint import CheckpointRecorder
from mainstay._metrics.copies import CopiesRecorder
from mainstay._metrics.exemplars import exemplar
from mainstay._metrics.gauges import Gauges
from mainstay._metrics.levels import Level, LevelInFiles, gauge_of
from mainstay._metrics.pools import MemberRecorder, SwitchRecorder
from mainstay._metrics.recorder import Recorder
from mainstay._metrics.schema import Family, Layout
from mainstay._metrics.states import Stateful, States, StatesInFiles
from mainstay._metrics.upkeep import Upkeep, UpkeepInFiles, keep_up

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

    Attributes:
        namespace: The prefix of all metric names.
        buckets: The bounds that were given, by metric name without prefix.
        cells: Where the counts are.
        gauges: The values that go up and down.
        groups: All groups of series that were ever made; only ever appended to.
        exemplars: By metric name and label values, the last exemplar of each slot.
        times_collected: How often its collector was asked.
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
        self._states: list[States] = []
        self._copies_recorders: dict[str, CopiesRecorder] = {}
        self._levels: dict[tuple[str, str], Level] = {}
        self._gauges: dict[str, Gauge] = {}
        self._dropped: dict[str, Group] = {}
        self._upkeeps: dict[str, Upkeep] = {}
        self._is_kept_up = False
        self._directory = "" if in_memory else os.environ.get(multiprocess.VARIABLE, "")
        self.cells: Cells = Cells(cell_in_memory)
        self.gauges: Gauges = Gauges(namespace, in_files=bool(self._directory))
        if self._directory:
            if not Path(self._directory).is_dir():
                raise ValueError(
                    f"{multiprocess.VARIABLE} must name a directory, not {self._directory!r}; "
                    f"make it, empty, before the program starts"
                )
            _in_files.add(self)
            self.start_files()

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

    def bounds(self, family: Family) -> tuple[float, ...]:
        """Give the upper bounds of a histogram's buckets, without +Inf."""
        return self.buckets.get(family.name, family.buckets)

    def recorder(self, component: str, policy: str) -> Recorder:
        """Find the recorder of a component under a policy, or make it."""
        labels = self.component(component), policy
        recorder = self._recorders.get(labels)
        if recorder is None:
            kind = _RECORDERS.get(policy, Recorder)
            recorder = self._recorders.setdefault(labels, kind(self, labels))
        return recorder

    def member_recorder(self, component: str, member: str) -> MemberRecorder:
        """Find the recorder of one member of a pool, or make it."""
        labels = self.component(component), self.member(component, member)
        recorder = self._member_recorders.get(labels)
        if recorder is None:
            fresh = MemberRecorder(self, *labels, self.recorder(component, "failover").calls)
            recorder = self._member_recorders.setdefault(labels, fresh)
        return recorder

    def switch_recorder(self, component: str) -> SwitchRecorder:
        """Find the recorder of the changes in a pool or a breaker, or make it."""
        component = self.component(component)
        recorder = self._switch_recorders.get(component)
        if recorder is None:
            fresh = SwitchRecorder(self, component)
            recorder = self._switch_recorders.setdefault(component, fresh)
        return recorder

    def member(self, component: str, name: str, family: Family = schema.MEMBER_ATTEMPTS) -> str:
        """Give the label for a member of a component, in the series of *family*."""
        component = self.component(component)
        members = self._members.get(component)
        if members is None:
            members = self._members.setdefault(component, LabelValues(schema.MOST_MEMBERS))
        return self._admit(members, name, family)

    def follow(self, family: Family, component: str, source: Stateful) -> States:
        """Show the states of *source* in the gauge *family*, as long as *source* lives."""
        kind = StatesInFiles if self._directory else States
        states = kind(self, family, self.component(component), source)
        self._states = [each for each in self._states if each.outlives(source)]
        self._states.append(states)
        return states

    def samples(self) -> Iterable[tuple[Family, tuple[str, ...], float]]:
        """Give the present values of all gauges."""
        sources: tuple[Gauges | States | Level | Upkeep, ...] = (
            self.gauges,
            *self._states,
            *self._levels.values(),
            *self._upkeeps.values(),
        )
        for source in sources:
            yield from source.samples()

    def upkeep(self, component: str) -> Upkeep:
        """Find the upkeep of a component's dependability, or make it."""
        component = self.component(component)
        upkeep = self._upkeeps.get(component)
        if upkeep is None:
            kind = UpkeepInFiles if self._directory else Upkeep
            upkeep = self._upkeeps.setdefault(component, kind(self, component))
            if self._directory and not self._is_kept_up:
                self._is_kept_up = True
                keep_up(self)
        return upkeep

    def refresh(self) -> None:
        """Bring up to date the counters that go on with time alone."""
        for upkeep in tuple(self._upkeeps.values()):
            upkeep.refresh()

    def go_on_after_fork(self) -> None:
        """Leave the files to the parent: a file of two processes would lose counts of both."""
        self.start_files()
        for upkeep in tuple(self._upkeeps.values()):
            upkeep.start_anew()
        if self._is_kept_up:
            keep_up(self)

    def copies_recorder(self, component: str) -> CopiesRecorder:
        """Find the recorder of the copies of redundant calls, or make it."""
        component = self.component(component)
        recorder = self._copies_recorders.get(component)
        if recorder is None:
            fresh = CopiesRecorder(self, component)
            recorder = self._copies_recorders.setdefault(component, fresh)
        return recorder

    def level(self, family: Family, component: str) -> Level:
        """Find the gauge *family* of a component, or make it."""
        key = family.name, self.component(component)
        level = self._levels.get(key)
        if level is None:
            kind = LevelInFiles if self._directory else Level
            level = self._levels.setdefault(key, kind(self, family, key[1]))
        return level

    def gauge(self, family: Family, mode: Literal["livemax", "livesum"] = "livesum") -> Gauge:
        """Find the gauge of prometheus_client that a family is written to in multiprocess mode."""
        gauge = self._gauges.get(family.name)
        if gauge is None:
            fresh = gauge_of(self.namespace, family, mode)
            gauge = self._gauges.setdefault(family.name, fresh)
        return gauge

    def count_error(self, component: str, policy: str, error: BaseException) -> None:
        """Count a failed attempt by the class of its exception; *component* is a label already."""
        name = _name_of_class(type(error))
        group = self._errors.get((component, policy, name))
        if group is None:
            group = self._error_group(component, policy, name)
        self.cells.cell(group)[1][0] += 1.0

    def _error_group(self, component: str, policy: str, name: str) -> Group:
        types = self._error_types.get(component)
        if types is None:
            types = self._error_types.setdefault(component, LabelValues(schema.MOST_ERROR_TYPES))
        labels = component, policy, self._admit(types, name, schema.ERRORS)
        group = self._errors.get(labels)
        if group is None:
            group = self._errors.setdefault(labels, self.group(schema.ERROR_LAYOUT, labels))
        return group

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

    def component(self, name: str) -> str:
        """Give the label for the name of a component."""
        return self._admit(self._components, name, schema.CALLS)

    def _admit(self, values: LabelValues, value: str, family: Family) -> str:
        """Give the label for *value*: "_other", and counted as dropped, if there are too many."""
        label = values.admit(value)
        if label is not None:
            return label
        group = self._dropped.get(family.name)
        if group is None:
            fresh = self.group(schema.DROPPED_LAYOUT, (f"{self.namespace}_{family.name}",))
            group = self._dropped.setdefault(family.name, fresh)
        self.cells.cell(group)[1][0] += 1.0
        return schema.OTHER

    def group(self, layout: Layout, labels: tuple[str, ...]) -> Group:
        """Make a group of series; they start at 0 now."""
        bounds = self.bounds(layout.histogram) if layout.histogram else ()
        group = Group(layout, labels, bounds)
        self.groups.append(group)
        if self._directory:
            self.cells.cell(group)
        return group


def _start_anew_after_fork() -> None:
    for book in tuple(_in_files):
        book.go_on_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_after_fork)
