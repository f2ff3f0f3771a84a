"""From rows of the schema to what Prometheus reads, for every collector of this package.

`Metrics` exports what policies recorded. The collectors above this layer ask something else at each
scrape, a machine or a store: each is a `ScrapeCollector`, which leaves them nothing of
prometheus_client to know.
"""

import abc
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from prometheus_client import Metric
from prometheus_client.registry import Collector

from mainstay._metrics.schema import Family, check_namespace

Values: TypeAlias = Iterable[tuple[tuple[str, ...], float]]
"""What a family has now: values of its labels, in order, and the number."""


class ScrapeCollector(Collector, abc.ABC):
    """A collector that asks for its values at each scrape.

    Args:
        namespace: The prefix of the names.
        families: What it exports.
    """

    def __init__(self, namespace: str, families: tuple[Family, ...]) -> None:
        check_namespace(namespace)
        self._namespace = namespace
        self._families = families

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples; registries use this to refuse duplicate names."""
        return [empty_metric(self._namespace, family) for family in self._families]

    def collect(self) -> Iterator[Metric]:
        """Yield the families with their present values; called by the registry at each scrape."""
        for family, values in self._values():
            metric = empty_metric(self._namespace, family)
            for labels, value in values:
                named = dict(zip(family.labels, labels, strict=True))
                metric.add_sample(metric.name, named, value)
            yield metric

    @abc.abstractmethod
    def _values(self) -> Iterator[tuple[Family, Values]]:
        """Yield each family with its values; one that cannot be asked for now is left out."""


def empty_metric(namespace: str, family: Family) -> Metric:
    """Return what Prometheus reads of a family, without samples."""
    return Metric(f"{namespace}_{family.name}".removesuffix("_total"), family.help, family.kind)
