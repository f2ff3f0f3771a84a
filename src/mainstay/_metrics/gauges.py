"""Gauges: values that go up and down, and are absent until they are known.

In one process a gauge is a number that the collector reads at each scrape. In multiprocess mode
it is an ordinary Gauge of prometheus_client, outside every registry: its files say how the values
of several processes become one.
"""

import contextlib
from collections.abc import Iterator
from typing import Literal, TypeAlias

from prometheus_client import Gauge as StockGauge

from mainstay._metrics.schema import Family

Mode: TypeAlias = Literal["max", "mostrecent", "livesum"]


class Gauge:
    """One series of a gauge, in memory."""

    __slots__ = ("labels", "value")

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels: tuple[str, ...] = labels
        self.value: float | None = None

    def set(self, value: float) -> None:
        """Make *value* the present one."""
        self.value = value


class GaugeInFiles(Gauge):
    """One series of a gauge that other processes have, too."""

    __slots__ = ("_stock",)

    def __init__(self, labels: tuple[str, ...], stock: StockGauge) -> None:
        super().__init__(labels)
        self._stock = stock

    def set(self, value: float) -> None:
        """Make *value* the present one of this process."""
        with contextlib.suppress(OSError):  # a full disk; the counters' first cell has said so
            self._stock.labels(*self.labels).set(value)


class Gauges:
    """All gauges of one `Metrics` in this process."""

    def __init__(self, namespace: str, *, in_files: bool) -> None:
        self._namespace = namespace
        self._in_files = in_files
        self._series: dict[tuple[Family, tuple[str, ...]], Gauge] = {}
        self._stock: dict[str, StockGauge] = {}

    def gauge(self, family: Family, labels: tuple[str, ...], mode: Mode) -> Gauge:
        """Find one series of a gauge, or make it; it is absent until it is set."""
        known = self._series.get((family, labels))
        if known is not None:
            return known
        fresh = GaugeInFiles(labels, self._of(family, mode)) if self._in_files else Gauge(labels)
        return self._series.setdefault((family, labels), fresh)

    def samples(self) -> Iterator[tuple[Family, tuple[str, ...], float]]:
        """Give family, labels and value of all that are known."""
        for (family, labels), gauge in tuple(self._series.items()):
            if gauge.value is not None:
                yield family, labels, gauge.value

    def _of(self, family: Family, mode: Mode) -> StockGauge:
        stock = self._stock.get(family.name)
        if stock is None:
            name = f"{self._namespace}_{family.name}"
            fresh = StockGauge(
                name, family.help, family.labels, registry=None, multiprocess_mode=mode
            )
            stock = self._stock.setdefault(family.name, fresh)
        return stock
