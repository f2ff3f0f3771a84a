"""Gauges that are one number for each component, such as a delay.

They are computed when Prometheus asks, from whatever sources are alive. In multiprocess mode nobody
asks a worker: there a source says when its number has changed, and it is written at once, through a
gauge of prometheus_client that adds up or compares the living processes.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, TypeAlias

from prometheus_client import Gauge

from mainstay._metrics.schema import ABANDONED_THREADS, HEDGE_DELAY, Family

if TYPE_CHECKING:
    from mainstay._metrics.book import Book

Reading: TypeAlias = Callable[[], float | None]
"""A bound method that gives the present number, or None while it is not known."""

_TOGETHER: dict[str, tuple[Callable[[Iterable[float]], float], Literal["livemax", "livesum"]]] = {
    HEDGE_DELAY.name: (max, "livemax"),
    ABANDONED_THREADS.name: (sum, "livesum"),
}
"""What several sources of one component come to, in a process and in all of them."""


class Level:
    """One gauge of one component."""

    def __init__(self, book: "Book", family: Family, component: str) -> None:
        self.family = family
        self.component = component
        self._book = book
        self._readings: list[weakref.WeakMethod[Reading]] = []

    def follow(self, reading: Reading) -> None:
        """Read from *reading*, too, as long as its object lives."""
        known = [each for each in self._readings if each() is not None]
        if weakref.WeakMethod(reading) not in known:
            self._readings = [*known, weakref.WeakMethod(reading)]

    def value(self) -> float | None:
        """Give the number of all sources, or None if none knows it."""
        readings = [reading() for each in self._readings if (reading := each()) is not None]
        known = [number for number in readings if number is not None]
        return _TOGETHER[self.family.name][0](known) if known else None

    def samples(self) -> Iterator[tuple[Family, tuple[str, ...], float]]:
        """Give the labels and the value, if it is known."""
        value = self.value()
        if value is not None:
            yield self.family, (self.component,), value

    def changed(self) -> None:
        """Take note that the number has changed."""


class LevelInFiles(Level):
    """A gauge that is written at each change, for another process to read."""

    def changed(self) -> None:
        """Write the number; a full disk must not break a call."""
        value = self.value()
        if value is not None:
            with contextlib.suppress(OSError):
                mode = _TOGETHER[self.family.name][1]
                self._book.gauge(self.family, mode).labels(self.component).set(value)


def gauge_of(namespace: str, family: Family, mode: Literal["livemax", "livesum"]) -> Gauge:
    """Make a gauge of prometheus_client that is in no registry."""
    name = f"{namespace}_{family.name}"
    return Gauge(name, family.help, family.labels, registry=None, multiprocess_mode=mode)
