"""Keeps the dependability series of a component up to date.

Uptime goes on while nothing happens, so its counters cannot be written by events alone: they are
brought up to date whenever the component changes and before each scrape. Nobody scrapes a worker
process of multiprocess mode; there a daemon thread does it, each second.
"""

import contextlib
import math
import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import attrs

from mainstay._core.dependability import Figures
from mainstay._metrics import schema
from mainstay._metrics.schema import Family

if TYPE_CHECKING:
    from mainstay._metrics.book import Book

PERIOD = 1.0
"""Seconds between two updates in a worker process."""

_UPTIME = schema.AVAILABILITY_LAYOUT.slot(schema.COMPONENT_UPTIME)
_DOWNTIME = schema.AVAILABILITY_LAYOUT.slot(schema.COMPONENT_DOWNTIME)
_FAILURES = schema.AVAILABILITY_LAYOUT.slot(schema.COMPONENT_FAILURES)


class Source(Protocol):
    """What knows when a component is up."""

    def is_up(self) -> bool:
        """Whether it is up now."""
        ...

    def so_far(self) -> Figures:
        """Give its figures since the start; they never shrink, and nothing is raised."""
        ...


@attrs.define(eq=False)
class _Watched:
    """A source, and how much of its time has been counted."""

    source: "weakref.ref[Source]"
    counted: Figures = attrs.field(factory=Figures)


class Upkeep:
    """Writes the series of one component, from the sources that know about it."""

    def __init__(self, book: "Book", component: str) -> None:
        self._book = book
        self._labels = (component,)
        self._group = book.group(schema.AVAILABILITY_LAYOUT, self._labels)
        self._watched: dict[int, _Watched] = {}

    def watch(self, source: Source) -> None:
        """Take *source* into account as long as it lives."""
        key = id(source)
        self._watched[key] = _Watched(weakref.ref(source, lambda _: self._watched.pop(key, None)))
        self.refresh()

    def refresh(self) -> None:
        """Bring the counters up to date."""
        for watched, source in self._alive():
            self._count(watched, source)

    def samples(self) -> Iterator[tuple[Family, tuple[str, ...], float]]:
        """Give the gauges whose value is known."""
        total, up, known = Figures(), True, False
        for _, source in self._alive():
            total, up, known = total + source.so_far(), up and source.is_up(), True
        if not known:
            return
        values = {
            schema.COMPONENT_UP: float(up),
            schema.AVAILABILITY: total.availability,
            schema.FAILURE_RATE: total.failure_rate,
            schema.MTBF: total.mtbf,
            schema.MTTR: total.mttr,
        }
        for family, value in values.items():
            if not math.isnan(value):
                yield family, self._labels, value

    def start_anew(self) -> None:
        """Leave to the parent process what has passed until the fork."""
        for watched, source in self._alive():
            watched.counted = source.so_far()

    def _alive(self) -> Iterator[tuple[_Watched, Source]]:
        # A copy, which no collection can come into: one takes entries out (see `watch`).
        for watched in self._watched.copy().values():
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


class UpkeepInFiles(Upkeep):
    """The series of one component in a worker process: those that rules cannot compute."""

    def refresh(self) -> None:
        """Bring the counters and `component_up` up to date; a full disk must not break a call."""
        super().refresh()
        up = [source.is_up() for _, source in self._alive()]
        if up:
            with contextlib.suppress(OSError):
                gauge = self._book.gauge(schema.COMPONENT_UP)
                gauge.labels(*self._labels).set(float(all(up)))

    def samples(self) -> Iterator[tuple[Family, tuple[str, ...], float]]:
        """Give nothing: the files say it."""
        return iter(())


def keep_up(book: "Book") -> None:
    """Start the thread that brings *book* up to date in a worker process."""
    thread = threading.Thread(
        target=_run, args=(weakref.ref(book),), name="mainstay-upkeep", daemon=True
    )
    thread.start()


def _run(book_of: "weakref.ref[Book]") -> None:
    pause = threading.Event()
    while not pause.wait(PERIOD):
        book = book_of()
        if book is None:
            return
        book.refresh()
        del book
