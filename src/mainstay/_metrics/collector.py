"""`Metrics`: what users make, and what Prometheus reads."""

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from mainstay._core.context import current_context
from mainstay._core.sharing import Shared
from mainstay._metrics import schema
from mainstay._metrics.cells import VARIABLE
from mainstay._metrics.exporting import empty_metric
from mainstay._metrics.readings import readings
from mainstay._metrics.recorders import Recorders
from mainstay._metrics.series import SeriesTable

_HISTOGRAMS = {f.name: f for f in schema.FAMILIES if f.kind == "histogram"}

_ATTRIBUTE = "mainstay_recorders"
"""What each registry has, by namespace, stands at the registry itself: a program that takes
mainstay out of `sys.modules` and imports it again finds there what it has recorded so far."""


class Metrics(Shared, Collector):
    """Where policies record, and what Prometheus reads: a collector of prometheus_client.

    Policies without `metrics=` use `default_metrics()`, which is in `REGISTRY`, the registry that
    `prometheus_client.start_http_server` serves. A second `Metrics` with the same registry and
    namespace is a view of the same counts.

    Safe to use from threads, tasks, signal handlers and finalisers, and after a fork. If
    `PROMETHEUS_MULTIPROC_DIR` is set when the object is made, its counts are read by
    `prometheus_client.multiprocess.MultiProcessCollector`, and survive SIGKILL.

    Args:
        registry: The registry to register with. None to call ``registry.register(metrics)``
            yourself.
        namespace: The prefix of all names, such as `mainstay` in `mainstay_calls_total`: ASCII
            letters, digits and underscores, not a digit first.
        buckets: Other upper bounds for histograms: from the metric's name without prefix, such as
            "call_duration_seconds", to finite ascending numbers in the metric's unit. +Inf is
            added.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If *namespace* is not a valid name for Prometheus; *buckets* names no histogram
            of mainstay, or has bounds that are not ascending; the registry already holds other
            collectors with these names; a view asks for other buckets; or
            `PROMETHEUS_MULTIPROC_DIR` is not a directory.

    Metrics:
        All metrics of mainstay; the reference has the table.

    Example:
        >>> from prometheus_client import CollectorRegistry, generate_latest
        >>> from mainstay import Metrics, retry
        >>> registry = CollectorRegistry()
        >>> metrics = Metrics(registry, buckets={"call_duration_seconds": [0.1, 1, 10]})
        >>> retry(on=OSError, name="answer", metrics=metrics).call(lambda: 42)
        42
        >>> registry.get_sample_value(
        ...     "mainstay_calls_total",
        ...     {"component": "answer", "policy": "retry", "outcome": "success"},
        ... )
        1.0
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = REGISTRY,
        *,
        namespace: str = "mainstay",
        buckets: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        given: object = registry
        if given is not None and not isinstance(given, CollectorRegistry):
            raise TypeError(f"`registry` must be a CollectorRegistry or None, not {given!r}")
        schema.check_namespace(namespace)
        bounds = _checked_buckets(buckets)
        if registry is None:
            self._recorders = _new_recorders(namespace, bounds)
            return
        here: dict[str, Recorders] = vars(registry).setdefault(_ATTRIBUTE, {})
        known = here.get(namespace)
        self._recorders = known or here.setdefault(namespace, _new_recorders(namespace, bounds))
        table = self._recorders.table
        if bounds is not None and bounds != table.buckets:
            raise ValueError(
                f"`buckets` must be those of the first Metrics of namespace {namespace!r} in "
                f"this registry, {dict(table.buckets)!r}, not {bounds!r}"
            )
        try:
            registry.register(self)
        except ValueError as error:
            if not _is_in(registry, table):
                if known is None:
                    here.pop(namespace, None)
                raise ValueError(
                    f"`registry` already has other metrics of namespace {namespace!r}: {error}; "
                    f"choose another `namespace`"
                ) from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Metrics) and other._recorders is self._recorders

    def __hash__(self) -> int:
        return hash(id(self._recorders))

    def __repr__(self) -> str:
        return f"<Metrics of namespace {self._recorders.table.namespace!r}>"

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples; registries use this to refuse duplicate names."""
        namespace = self._recorders.table.namespace
        return [empty_metric(namespace, family) for family in schema.FAMILIES]

    def collect(self) -> Iterator[Metric]:
        """Yield the families with their present values; called by the registry at each scrape."""
        table = self._recorders.table
        table.times_collected += 1
        for family, bounds, totals, exemplars in readings(self._recorders):
            metric = empty_metric(table.namespace, family)
            name = f"{table.namespace}_{family.name}"
            ends = [*map(floatToGoString, (*bounds, math.inf))]
            for values, numbers in totals.items():
                labels = dict(zip(family.labels, values, strict=True))
                known = exemplars.get(values, {})
                if family.kind == "histogram":
                    _add_histogram(metric, name, labels, ends, numbers, known)
                else:
                    metric.add_sample(name, labels, numbers[0], exemplar=known.get(0))
            yield metric


def _is_in(registry: CollectorRegistry, table: SeriesTable) -> bool:
    """True if the names of *table* are its own in *registry*: if asking for one asks it."""
    asked = table.times_collected
    for _ in registry.restricted_registry([f"{table.namespace}_{schema.CALLS.name}"]).collect():
        pass
    return table.times_collected > asked


def _new_recorders(namespace: str, bounds: dict[str, tuple[float, ...]] | None) -> Recorders:
    directory = os.environ.get(VARIABLE, os.environ.get(VARIABLE.lower(), ""))
    return Recorders(SeriesTable(namespace, bounds or {}, directory))


def _add_histogram(
    metric: Metric,
    name: str,
    labels: dict[str, str],
    bounds: list[str],
    numbers: list[float],
    exemplars: Mapping[int, Exemplar],
) -> None:
    *counts, total = numbers
    cumulative = [*itertools.accumulate(counts)]
    bucket = f"{name}_bucket"
    for slot, (bound, count) in enumerate(zip(bounds, cumulative, strict=True)):
        example = exemplars.get(slot)
        metric.add_sample(bucket, {**labels, "le": bound}, count, exemplar=example)
    metric.add_sample(f"{name}_count", labels, cumulative[-1])
    metric.add_sample(f"{name}_sum", labels, total)


def _checked_buckets(
    buckets: Mapping[str, Sequence[float]] | None,
) -> dict[str, tuple[float, ...]] | None:
    if buckets is None:
        return None
    if not isinstance(buckets, Mapping):
        raise TypeError(f"`buckets` must map names to bounds, not be {buckets!r}")
    checked = {}
    for name, given in buckets.items():
        if name not in _HISTOGRAMS:
            raise ValueError(f"`buckets` may name {', '.join(_HISTOGRAMS)}, not {name!r}")
        try:
            bounds = [float(bound) for bound in given]
        except (TypeError, ValueError):
            raise TypeError(f"`buckets[{name!r}]` must be numbers, not {given!r}") from None
        if bounds and bounds[-1] == math.inf:
            bounds.pop()
        ascending = all(a < b for a, b in itertools.pairwise(bounds))
        if not bounds or not ascending or not all(map(math.isfinite, bounds)):
            raise ValueError(
                f"`buckets[{name!r}]` must be one or more finite ascending numbers, not {given!r}"
            )
        checked[name] = tuple(bounds)
    return checked


_default: Metrics | None = None


def default_metrics() -> Metrics:
    """Return the `Metrics` that policies without `metrics=` use, which is in `REGISTRY`.

    The object is made at first use. Inside a block of `mainstay.testing.recorded()`, the function
    returns the metrics of that block.

    Example:
        >>> from mainstay import default_metrics
        >>> default_metrics() == default_metrics()
        True
    """
    global _default
    context: Metrics | None = current_context().metrics
    if context is not None:
        return context
    if _default is None:
        _default = Metrics()
    return _default


def set_default_metrics(metrics: Metrics) -> None:
    """Make *metrics* the default of all policies that are made from now on.

    Args:
        metrics: The object that `default_metrics()` returns from now on. Policies that exist
            already keep their metrics.

    Raises:
        TypeError: If *metrics* is not a `Metrics`.

    Example:
        >>> from prometheus_client import CollectorRegistry
        >>> from mainstay import Metrics, default_metrics, set_default_metrics
        >>> before = default_metrics()
        >>> shop = Metrics(CollectorRegistry(), namespace="shop")
        >>> set_default_metrics(shop)
        >>> default_metrics() == shop
        True
        >>> set_default_metrics(before)
    """
    global _default
    if not isinstance(metrics, Metrics):
        raise TypeError(f"`metrics` must be a Metrics, not {metrics!r}")
    _default = metrics


# What policies ask for: functions, so that users see of a `Metrics` what a collector has, no more.


def metrics_of(metrics: object) -> Metrics:
    """Turn what users give as `metrics=` into a `Metrics`."""
    if metrics is None:
        return default_metrics()
    if not isinstance(metrics, Metrics):
        raise TypeError(f"`metrics` must be a Metrics or None, not {metrics!r}")
    return metrics


def recorders_of(metrics: Metrics) -> Recorders:
    """Return what policies record with in *metrics*."""
    return metrics._recorders
