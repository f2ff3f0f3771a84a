"""OpenTelemetry: the metrics of mainstay in each export, and spans of attempts after the first.

No healthy call costs anything for it: an exporter reads, when its time has come, what has been
counted anyway, and a span is made where an attempt has failed. Needs `mainstay[opentelemetry]`.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from operator import sub
from types import TracebackType
from typing import Any, NamedTuple

try:
    from opentelemetry.context import attach, detach
    from opentelemetry.metrics import CallbackOptions, Observation, get_meter
    from opentelemetry.sdk import metrics as sdk_metrics
    from opentelemetry.sdk.metrics import export as sdk
    from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExportResult
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.sdk.version import __version__ as _version
    from opentelemetry.trace import (
        Span,
        StatusCode,
        Tracer,
        TracerProvider,
        get_tracer,
        set_span_in_context,
    )
except ModuleNotFoundError as _error:
    _error.add_note("pip install 'mainstay[opentelemetry]'")
    raise

from mainstay._core.clock import wall_time
from mainstay._core.events import is_first, logger_of
from mainstay._core.version import VERSION
from mainstay._core.watching import WatchedAttempt, watch_attempts
from mainstay._core.words import class_name
from mainstay._metrics.collector import Metrics, metrics_of, recorders_of
from mainstay._metrics.readings import Labels, Reading, Totals, readings
from mainstay._metrics.schema import Family
from mainstay.integrations._versions import check_version

__all__ = ["MetricExporter", "trace_attempts"]

check_version("opentelemetry-sdk", _version, since="1.29", before="2")

_SCOPE = "mainstay"

_INSTRUMENTS = {"counter": sdk_metrics.Counter, "histogram": sdk_metrics.Histogram}
"""The kinds that have a temporality, and what the SDK chooses it by."""

_UNITS = {"bytes": "By", "ratio": "1", "seconds": "s"}
"""By the end of a name. A back end that makes Prometheus's names of ours comes to the same ones."""

_NOT_KEPT: Any = None
"""The least and the largest value of a histogram, which OTLP can do without."""


class MetricExporter(sdk.MetricExporter):
    """Adds the metrics of mainstay to each export of another exporter.

    Pass it to the reader in place of the exporter that it wraps. Each export gets all metrics of
    mainstay as one more scope, `mainstay`: counters as sums, gauges, and histograms with their
    buckets and with the exemplars since the last export. The names are those of Prometheus, with a
    dot after the namespace and without `_total`: `mainstay.calls`,
    `mainstay.call_duration_seconds`. The attributes are the labels. The temporality is the one that
    *exporter* prefers for counters and histograms; with delta, the counts of an export that failed
    are in the next export.

    Do not also let Prometheus scrape the same program into the same back end: each number would be
    there twice.

    A reader exports nothing if the program itself has no metrics. So this class makes a gauge,
    `mainstay.exporting`, in the global `MeterProvider`. A program with another provider needs an
    observable gauge of its own.

    Args:
        exporter: The exporter that sends the batches, such as an `OTLPMetricExporter`.
        metrics: The metrics to export. None for `default_metrics()`.

    Raises:
        ImportError: When the module is imported, if the SDK is missing or of an unknown version.
        TypeError: If an argument has the wrong type.

    Metrics:
        All of them; the reference has the table.

    Example:
        >>> from mainstay.integrations.opentelemetry import MetricExporter
        >>> from opentelemetry.sdk.metrics import MeterProvider
        >>> from opentelemetry.sdk.metrics.export import (
        ...     ConsoleMetricExporter,
        ...     PeriodicExportingMetricReader,
        ... )
        >>> reader = PeriodicExportingMetricReader(MetricExporter(ConsoleMetricExporter()))
        >>> provider = MeterProvider(metric_readers=[reader])
        >>> provider.shutdown()
    """

    def __init__(self, exporter: sdk.MetricExporter, *, metrics: Metrics | None = None) -> None:
        given: object = exporter
        if not isinstance(given, sdk.MetricExporter):
            raise TypeError(
                f"`exporter` must be a MetricExporter of opentelemetry.sdk, not {given!r}"
            )
        # Where readers look for them, too; there is no other place.
        preferred = exporter._preferred_temporality  # noqa: SLF001
        super().__init__(preferred, exporter._preferred_aggregation)  # noqa: SLF001
        self._exporter = exporter
        self._recorders = recorders_of(metrics_of(metrics))
        self._temporality = _temporalities(preferred or {})
        self._last = _nanoseconds(self._recorders.table.started)
        self._sent: dict[str, Totals] = {}
        _wake_readers()

    def export(
        self, metrics_data: sdk.MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Add the metrics of mainstay to a batch, and hand it on; called by the reader.

        Args:
            metrics_data: The batch.
            timeout_millis: Handed on.
            **kwargs: Handed on.

        Returns:
            What the wrapped exporter returns.
        """
        table = self._recorders.table
        start = _nanoseconds(table.started)
        if start > self._last:  # a process that was forked, and counts from 0
            self._last, self._sent = start, {}
        period = _Period(start, self._last, max(_nanoseconds(wall_time()), self._last))
        present = [*readings(self._recorders)]
        added = [
            _metric(table.namespace, each, period, self._temporality, self._sent)
            for each in present
            if each.totals
        ]
        batch = _with_scope(metrics_data, added)
        result = self._exporter.export(batch, timeout_millis=timeout_millis, **kwargs)
        if result is MetricExportResult.SUCCESS:
            self._last = period.end
            self._sent = {each.family.name: each.totals for each in present}
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Make the wrapped exporter send what it holds."""
        return self._exporter.force_flush(timeout_millis=timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """End the wrapped exporter."""
        self._exporter.shutdown(timeout_millis=timeout_millis, **kwargs)


class _Period(NamedTuple):
    """What a batch is about, in nanoseconds since 1970.

    Attributes:
        start: When the counters began at 0.
        last: The end of the last export that arrived.
        end: Now.
    """

    start: int
    last: int
    end: int


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _temporalities(preferred: Mapping[Any, object]) -> dict[str, AggregationTemporality]:
    """Return what counters and histograms are to be exported as."""
    delta = AggregationTemporality.DELTA
    return {
        kind: delta if preferred.get(instrument) == delta else AggregationTemporality.CUMULATIVE
        for kind, instrument in _INSTRUMENTS.items()
    }


def _metric(
    namespace: str,
    reading: Reading,
    period: _Period,
    temporality: Mapping[str, AggregationTemporality],
    sent: Mapping[str, Totals],
) -> sdk.Metric:
    """Return a reading in the words of the SDK, without what was sent before where it is delta."""
    family = reading.family
    kind = temporality.get(family.kind)
    start, before = period.start, {}
    if kind is AggregationTemporality.DELTA:
        start, before = period.last, sent.get(family.name, {})
    points = [
        _point(reading, labels, _since(numbers, before.get(labels)), start, period)
        for labels, numbers in reading.totals.items()
    ]
    data: Any
    if kind is None:
        data = sdk.Gauge(points)
    elif family.kind == "counter":
        data = sdk.Sum(points, kind, is_monotonic=True)
    else:
        data = sdk.Histogram(points, kind)
    name = family.name.removesuffix("_total")
    return sdk.Metric(f"{namespace}.{name}", family.help, _unit(family), data)


def _unit(family: Family) -> str:
    return _UNITS.get(family.name.removesuffix("_total").rpartition("_")[2], "")


def _since(numbers: list[float], before: list[float] | None) -> list[float]:
    return numbers if before is None else [*map(sub, numbers, before)]


def _point(
    reading: Reading, labels: Labels, numbers: list[float], start: int, period: _Period
) -> Any:
    family = reading.family
    attributes = dict(zip(family.labels, labels, strict=True))
    known = map(_exemplar, reading.exemplars.get(labels, {}).values())
    exemplars = [each for each in known if each.time_unix_nano > period.last]
    if family.kind != "histogram":
        return sdk.NumberDataPoint(attributes, start, period.end, numbers[0], exemplars)
    *counts, total = numbers
    return sdk.HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=start,
        time_unix_nano=period.end,
        count=int(sum(counts)),
        sum=total,
        bucket_counts=[*map(int, counts)],
        explicit_bounds=reading.bounds,
        min=_NOT_KEPT,
        max=_NOT_KEPT,
        exemplars=exemplars,
    )


def _exemplar(of: Any) -> sdk_metrics.Exemplar:
    trace, span = (int(of.labels[name], 16) for name in ("trace_id", "span_id"))
    return sdk_metrics.Exemplar({}, of.value, _nanoseconds(of.timestamp), span, trace)


def _with_scope(batch: sdk.MetricsData, metrics: list[sdk.Metric]) -> sdk.MetricsData:
    """Return a batch with our metrics in it, in place of the gauge that woke the reader."""
    (resource, *others) = batch.resource_metrics
    scope = sdk.ScopeMetrics(InstrumentationScope(_SCOPE, VERSION), metrics, "")
    scopes = [each for each in resource.scope_metrics if each.scope.name != _SCOPE]
    ours = sdk.ResourceMetrics(resource.resource, [*scopes, scope], resource.schema_url)
    return sdk.MetricsData([ours, *others])


@functools.cache  # once in a process, whatever number of exporters there are
def _wake_readers() -> None:
    """Make a gauge, since without an instrument readers export nothing."""

    def one(_options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(1)]

    get_meter(_SCOPE, VERSION).create_observable_gauge(
        "mainstay.exporting", [one], description="1 where a MetricExporter of mainstay is made."
    )


def trace_attempts(tracer_provider: TracerProvider | None = None) -> Callable[[], None]:
    """Make a span of each attempt after the first, so that a trace shows why a call took long.

    These attempts get a span: those of `retry` and `FailoverPool` after the first, and the copies
    of `redundant` other than the primary. The span is current while its attempt runs, so the spans
    of the attempt itself are its children. A first attempt gets no span, so that tracing costs a
    call that succeeds at once nothing.

    A span has the name ``<component> attempt``, and the attributes `mainstay.policy`,
    `mainstay.component`, `mainstay.attempt` (the number, from 2), in a pool `mainstay.member`, and
    after a failure `error.type` and the status ERROR. It has no messages and no arguments.

    Args:
        tracer_provider: The provider of the spans. None for the global provider, even if that is
            set later.

    Returns:
        A function without parameters that ends the tracing.

    Raises:
        ImportError: When the module is imported, if the SDK is missing or of an unknown version.
        TypeError: If *tracer_provider* is not a `TracerProvider`.

    Example:
        >>> from mainstay.integrations.opentelemetry import trace_attempts
        >>> stop = trace_attempts()
        >>> stop()
    """
    given: object = tracer_provider
    if given is not None and not isinstance(given, TracerProvider):
        raise TypeError(f"`tracer_provider` must be a TracerProvider or None, not {given!r}")
    tracer = get_tracer(_SCOPE, VERSION, tracer_provider)
    return watch_attempts(functools.partial(_AttemptSpan, tracer))


class _AttemptSpan:
    """What is around an attempt: its span. A tracer that raises breaks no call."""

    def __init__(self, tracer: Tracer, attempt: WatchedAttempt) -> None:
        self._tracer = tracer
        self._attempt = attempt
        self._span: Span | None = None
        self._token: Any = None

    def __enter__(self) -> None:
        policy, component, number, member = self._attempt
        attributes: dict[str, str | int] = {
            "mainstay.policy": policy,
            "mainstay.component": component,
            "mainstay.attempt": number,
        }
        if member is not None:
            attributes["mainstay.member"] = member
        try:
            span = self._tracer.start_span(f"{component} attempt", attributes=attributes)
            self._token = attach(set_span_in_context(span))
        except Exception as broken:  # noqa: BLE001 - see above
            _log_broken(broken)
        else:
            self._span = span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._span is None:
            return
        try:
            detach(self._token)
            if error is not None:
                self._span.set_attribute("error.type", class_name(error))
                if isinstance(error, Exception):
                    self._span.set_status(StatusCode.ERROR)
            self._span.end()
        except Exception as broken:  # noqa: BLE001 - see above
            _log_broken(broken)


def _log_broken(broken: Exception) -> None:
    name = class_name(broken)
    if is_first(_SCOPE, "opentelemetry", name):
        logger_of("opentelemetry").warning("the tracer raised %s, so attempts lack spans", name)
