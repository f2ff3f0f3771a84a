"""Gauges: values that are set when something changes.

In memory a gauge is an entry in a dict. In multiprocess mode it is a gauge of prometheus_client,
which writes it to a file of the process, so that `mark_process_dead` takes a worker's gauges away
with it; there a gauge once set cannot be removed.
"""

from collections.abc import Iterator

from prometheus_client import Gauge

from mainstay._metrics.schema import Family, GaugeMode


class Gauges:
    """The gauges of one `Metrics` in this process.

    Args:
        namespace: The prefix of their names.
        in_files: Whether this is multiprocess mode.
    """

    def __init__(self, namespace: str, *, in_files: bool) -> None:
        self._namespace = namespace
        self._in_files = in_files
        self._values: dict[str, dict[tuple[str, ...], float]] = {}
        self._forwarded: dict[str, Gauge] = {}

    def set(self, family: Family, labels: tuple[str, ...], value: float) -> None:
        """Set one gauge; nothing for a family that worker processes do not export."""
        if not self._in_files:
            self._values.setdefault(family.name, {})[labels] = value
        elif family.mode is not None:
            self._gauge(family, family.mode).labels(*labels).set(value)

    def remove(self, family: Family, labels: tuple[str, ...]) -> None:
        """Forget one gauge, where that can be done."""
        self._values.get(family.name, {}).pop(labels, None)

    def series(self, family: Family) -> Iterator[tuple[tuple[str, ...], float]]:
        """Give the label values and the value of each gauge in memory."""
        return iter(tuple(self._values.get(family.name, {}).items()))

    def _gauge(self, family: Family, mode: GaugeMode) -> Gauge:
        known = self._forwarded.get(family.name)
        if known is None:
            fresh = Gauge(
                f"{self._namespace}_{family.name}",
                family.help,
                family.labels,
                registry=None,
                multiprocess_mode=mode,
            )
            known = self._forwarded.setdefault(family.name, fresh)
        return known
