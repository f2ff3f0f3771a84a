"""Gauges of what is in one of several states: 1 for that state, 0 for the others.

They are computed when Prometheus asks, so that a state that has run out by itself is not shown any
longer. In multiprocess mode nobody asks a worker: there each change is written at once, through a
gauge of prometheus_client that adds up the living processes. Two sources with the same labels are
added up in both.
"""

import contextlib
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from mainstay._metrics.schema import (
    BREAKER_STATE,
    BREAKER_STATES,
    MEMBER_STATE,
    MEMBER_STATES,
    Family,
)

if TYPE_CHECKING:
    from mainstay._metrics.book import Book

_VALUES = {MEMBER_STATE.name: MEMBER_STATES, BREAKER_STATE.name: BREAKER_STATES}


class Stateful(Protocol):
    """What has states to show."""

    def states(self) -> Mapping[str, str]:
        """Give the present states, by member; by "" for what has no members."""
        ...


class States:
    """The states of one source, in one gauge."""

    def __init__(self, book: "Book", family: Family, component: str, source: Stateful) -> None:
        self._book = book
        self._family = family
        self._component = component
        self._source = weakref.ref(source)

    def outlives(self, source: Stateful) -> bool:
        """Whether its own source is still there, and another one than *source*."""
        return self._source() not in (None, source)

    def samples(self) -> Iterator[tuple[Family, tuple[str, ...], float]]:
        """Give the labels and values of all series."""
        for labels, state in self._present():
            for value in _VALUES[self._family.name]:
                yield self._family, (*labels, value), float(value == state)

    def changed(self) -> None:
        """Take note that a state has changed."""

    def _present(self) -> list[tuple[tuple[str, ...], str]]:
        source = self._source()
        if source is None:
            return []
        return [(self._labels(name), state) for name, state in source.states().items()]

    def _labels(self, member: str) -> tuple[str, ...]:
        if not member:
            return (self._component,)
        return self._component, self._book.member(self._component, member)


class StatesInFiles(States):
    """The states of one source, written at each change for another process to read."""

    def __init__(self, book: "Book", family: Family, component: str, source: Stateful) -> None:
        super().__init__(book, family, component, source)
        self._gauge = book.gauge(family)
        self._written: dict[tuple[str, ...], float] = {}
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread

    def samples(self) -> Iterator[tuple[Family, tuple[str, ...], float]]:
        """Give nothing: the files say it."""
        return iter(())

    def changed(self) -> None:
        """Write what is different from the last time; a full disk must not break a call."""
        with contextlib.suppress(OSError), self._lock:
            samples = super().samples()
            present = {labels: value for _, labels, value in samples}
            for labels in present.keys() | self._written.keys():
                step = present.get(labels, 0.0) - self._written.get(labels, 0.0)
                self._gauge.labels(*labels).inc(step)
            self._written = present
