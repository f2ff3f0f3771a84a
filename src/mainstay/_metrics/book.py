"""The book: all that one `Metrics` has recorded in this process, and who may record into it.

Nothing here takes a lock: what two threads, or a thread and its signal handler, make at the same
time is published with `dict.setdefault`, and numbers come from `itertools.count`. A group made
twice does no harm, since series with the same labels are added up.
"""

import itertools
import os
import weakref
from collections.abc import Mapping
from pathlib import Path

from mainstay._core.version import VERSION
from mainstay._metrics import multiprocess, schema
from mainstay._metrics.cells import Cells, Group, cell_in_memory
from mainstay._metrics.checkpoint import CheckpointRecorder
from mainstay._metrics.gauges import Gauges
from mainstay._metrics.recorder import Recorder
from mainstay._metrics.schema import Family, Layout

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
        times_collected: How often its collector was asked.
    """

    def __init__(
        self, namespace: str, buckets: Mapping[str, tuple[float, ...]], *, in_memory: bool = False
    ) -> None:
        self.namespace = namespace
        self.buckets = buckets
        self.groups: list[Group] = []
        self.times_collected = 0
        self._recorders: dict[tuple[str, str], Recorder] = {}
        self._components = LabelValues(schema.MOST_COMPONENTS)
        self._errors: dict[tuple[str, str, str], Group] = {}
        self._error_types: dict[str, LabelValues] = {}
        self._dropped: dict[str, Group] = {}
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
    """Leave the files to the parent: a file of two processes would lose counts of both."""
    for book in tuple(_in_files):
        book.start_files()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_after_fork)
