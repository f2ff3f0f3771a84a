"""`StoreCollector`: how many runs a store has, counted at each scrape."""

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from mainstay._core.events import logger_of
from mainstay._core.words import in_words
from mainstay._metrics.exporting import ScrapeCollector, Values
from mainstay._metrics.schema import CHECKPOINT_RUNS, MOST_COMPONENTS, OTHER, Family
from mainstay.stores import store_of
from mainstay.stores.base import Status, Store
from mainstay.stores.selection import count_runs


class StoreCollector(ScrapeCollector):
    """Exports the number of runs in a store, by name and state.

    Register the collector only in the process that is scraped. Each scrape reads the store; if that
    fails, the metric is absent from that scrape. A scrape waits 10 seconds for a server that hangs,
    or for the `timeout` of the store, which should be below the scrape timeout of Prometheus:
    ``StoreCollector(PostgresStore(url, timeout=2.0))``.

    Args:
        store: A `Store`, a URL, or None for the URL in `$MAINSTAY_STORE`.
        namespace: The prefix of the name: ASCII letters, digits and underscores, not a digit
            first.

    Raises:
        TypeError: If *store* is not a store, or *namespace* is not a string.
        ValueError: If there is no store, or *namespace* is not a valid name for Prometheus.

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
        super().__init__(namespace, (CHECKPOINT_RUNS,))
        self._store = store_of(store)

    def _values(self) -> Iterator[tuple[Family, Values]]:
        try:
            found = count_runs(self._store)
        except Exception as error:  # noqa: BLE001 - whatever a store raises, the scrape goes on
            logger_of("checkpoint").warning(
                "the runs of %s could not be counted: %s", self._store.url, in_words(error)
            )
            return
        names = sorted({name for name, _ in found})
        own = set(names[:MOST_COMPONENTS])
        counts: Counter[tuple[str, Status]] = Counter()
        for (name, state), number in found.items():
            counts[name if name in own else OTHER, state] += number
        shown = sorted({name for name, _ in counts})
        states: tuple[Status, ...] = get_args(Status)
        yield (
            CHECKPOINT_RUNS,
            [((name, state), float(counts[name, state])) for name in shown for state in states],
        )
