"""`StoreCollector`: the runs of a store, for Prometheus, counted at each scrape."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import get_args

from prometheus_client import Metric
from prometheus_client.registry import Collector

from mainstay._metrics.collector import empty_metric
from mainstay._metrics.schema import CHECKPOINT_RUNS, MOST_COMPONENTS, OTHER, check_namespace
from mainstay.errors import CheckpointError
from mainstay.stores import store_of
from mainstay.stores.base import Status, Store


class StoreCollector(Collector):
    """Exports how many runs a store has, by name and state.

    Register it once, in one process: the one that is scraped. Each scrape reads the store; if
    that fails, the metric is absent from that scrape.

    Args:
        store: A `Store`, a URL, or None for the URL in `$MAINSTAY_STORE`.
        namespace: The prefix of the name: ASCII letters, digits and underscores, not a digit
            first.

    Raises:
        TypeError: If *store* is no store, or *namespace* no string.
        ValueError: If there is no store, or *namespace* is not a name that Prometheus takes.

    Metrics:
        `checkpoint_runs`. A run whose owner is gone is "interrupted".

    Example:
        >>> from prometheus_client import CollectorRegistry
        >>> from mainstay import StoreCollector, checkpoint_run
        >>> with checkpoint_run("nightly", store="memory://collected"):
        ...     pass
        >>> registry = CollectorRegistry()
        >>> registry.register(StoreCollector("memory://collected"))
        >>> labels = {"component": "run", "state": "done"}
        >>> registry.get_sample_value("mainstay_checkpoint_runs", labels)
        1.0
    """

    def __init__(self, store: Store | str | None = None, *, namespace: str = "mainstay") -> None:
        check_namespace(namespace)
        self._store = store_of(store)
        self._namespace = namespace

    def describe(self) -> Iterable[Metric]:
        """Give the family without samples, so that a registry does not read the store for it."""
        return [empty_metric(self._namespace, CHECKPOINT_RUNS)]

    def collect(self) -> Iterator[Metric]:
        """Count the runs; called by the registry at each scrape."""
        counts: Counter[tuple[str, Status]] = Counter()
        names: set[str] = set()
        try:
            runs = self._store.list()
        except CheckpointError as error:
            logging.getLogger("mainstay.checkpoint").warning("runs are not counted: %s", error)
            return
        for record, state in runs:
            name = record.run.name
            if name in names or len(names) < MOST_COMPONENTS:
                names.add(name)
            else:
                name = OTHER
            counts[name, state] += 1
        metric = empty_metric(self._namespace, CHECKPOINT_RUNS)
        for name in sorted({name for name, _ in counts}):
            for state in get_args(Status):
                labels = {"component": name, "state": state}
                metric.add_sample(metric.name, labels, float(counts[name, state]))
        yield metric
