"""Gauges: values that go up and down, asked for whenever Prometheus asks.

A gauge keeps no value itself. It has sources, and at each scrape those that still live say what is
the case: so a state that has run out by itself is not shown any longer, and what is gone ends.

Nobody scrapes a worker process of multiprocess mode. There a source reports each change, and what
is the case then is written by the process's `Writer`, to a file whose name says how the values of
all processes become one.
"""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from operator import add
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from mainstay._core.clock import wall_time
from mainstay._core.threads import values_now
from mainstay._metrics.schema import Family
from mainstay._metrics.series import SeriesTable

S = TypeVar("S")
T = TypeVar("T")

Sample: TypeAlias = tuple[Family, tuple[str, ...], float]


class Stateful(Protocol):
    """What is, or has members that are, in one of several states."""

    def states(self) -> Mapping[str, str]:
        """Return the present states, by member; by "" for what has no members."""
        ...


class Gauge(ABC, Generic[T]):
    """The series that one component has in one family: what its sources say.

    Where several say something of the same series, the family's `mode` makes it one value, in a
    process as over all of them. There is no lock here, so that a signal handler may come in.
    """

    def __init__(self, table: SeriesTable, component: str, family: Family) -> None:
        self._table = table
        self._component = component
        self._family = family
        self._sources: dict[int, tuple[weakref.ref[Any], Callable[[Any], T]]] = {}
        self._written: dict[tuple[str, ...], None] = {}

    def follow(self, source: S, read: Callable[[S], T]) -> None:
        """Ask *source* from now on, by *read*, as long as it lives."""
        sources, key = self._sources, id(source)
        sources[key] = weakref.ref(source, lambda _: sources.pop(key, None)), read

    def samples(self) -> Iterator[Sample]:
        """Yield what is the case now, as far as it is known."""
        for labels, value in self._values().items():
            yield self._family, labels, value

    def changed(self) -> None:
        """Have a change written where others have to read it."""
        writer = self._table.writer
        if writer is not None and self._family.mode is not None:
            writer.do(self._write)

    def _write(self) -> None:
        """Write what is the case now, in the writer's thread; what is gone counts as 0."""
        values = self._values()
        self._written.update(dict.fromkeys(values))
        numbers = {labels: values.get(labels, 0.0) for labels in self._written}
        self._table.set_gauges(self._family, numbers)

    def _values(self) -> dict[tuple[str, ...], float]:
        values: dict[tuple[str, ...], float] = {}
        combined: Callable[[float, float], float] = add if self._family.mode == "livesum" else max
        for source_of, read in values_now(self._sources):
            source = source_of()
            if source is None:
                continue
            for more, value in self._series(read(source)):
                labels = self._component, *more
                before = values.get(labels)
                values[labels] = value if before is None else combined(before, value)
        return values

    @abstractmethod
    def _series(self, said: T) -> Iterator[tuple[tuple[str, ...], float]]:
        """Yield the labels after the component, and the values, of what a source has said."""


class NumberGauge(Gauge[float | None]):
    """One number; None while it is not known."""

    def _series(self, said: float | None) -> Iterator[tuple[tuple[str, ...], float]]:
        if said is not None:
            yield (), said


class LatestNumber:
    """A source whose number is set, not read: the last one stands as long as this lives."""

    def __init__(self, gauge: NumberGauge) -> None:
        self._gauge = gauge
        self._value: float | None = None
        gauge.follow(self, LatestNumber.value)

    def value(self) -> float | None:
        """Return it, or None if there is none yet."""
        return self._value

    def set(self, value: float) -> None:
        """Make *value* the present one."""
        self._value = value
        self._gauge.changed()


class Beginnings(Generic[S]):
    """When the present states of one source began, as far as they were looked at.

    Args:
        states: Asks the source for them.
    """

    def __init__(self, states: Callable[[S], Mapping[str, str]]) -> None:
        self._states = states
        self._began: dict[str, tuple[str, float]] = {}

    def __call__(self, source: S) -> Mapping[str, float]:
        """Return by name, in seconds since 1970, when the states began."""
        now, states = wall_time(), self._states(source)
        before = self._began
        self._began = {
            name: before[name] if name in before and before[name][0] == state else (state, now)
            for name, state in states.items()
        }
        return {name: at for name, (_, at) in self._began.items()}


class SinceGauge(Gauge[Mapping[str, float]]):
    """Times by member, or by "": when its state began, the latest where several say so."""

    def changed(self) -> None:
        """Look at the states now, since a scrape comes later."""
        if self._table.writer is None:
            self._values()
        super().changed()

    def _series(self, said: Mapping[str, float]) -> Iterator[tuple[tuple[str, ...], float]]:
        for name, at in said.items():
            yield ((self._table.member(self._component, name),) if name else ()), at


class StateGauge(Gauge[Mapping[str, str]]):
    """States by member, or by "": 1 for that state, 0 for the others.

    Args:
        table: Where it is written.
        component: Whose states they are.
        family: The metric.
        since: Tells when they began.
    """

    def __init__(
        self, table: SeriesTable, component: str, family: Family, *, since: SinceGauge
    ) -> None:
        super().__init__(table, component, family)
        self._since = since

    def changed(self) -> None:
        """Have a change written where others have to read it, and its time kept."""
        super().changed()
        self._since.changed()

    def _series(self, said: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], float]]:
        for name, state in said.items():
            member = (self._table.member(self._component, name),) if name else ()
            for each in self._family.states:
                yield (*member, each), float(each == state)
