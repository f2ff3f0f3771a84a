"""OpenTelemetry's SDK: our metrics in its exports."""

import importlib
import math
import re
import sys
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExportResult
from opentelemetry.sdk.trace import TracerProvider

from mainstay import Bulkhead, CircuitBreaker, Metrics, retry
from mainstay._metrics import schema
from mainstay.integrations._versions import check_version
from mainstay.integrations.opentelemetry import MetricExporter
from mainstay.testing import FakeClock, Faults
from support.processes import python

DELTA = {
    Counter: AggregationTemporality.DELTA,
    HistogramInstrument: AggregationTemporality.DELTA,
}


class InMemory(sdk.MetricExporter):
    """Keeps what it is given, in the encoding that goes over the wire; may be out of order."""

    def __init__(self, **preferred: Any) -> None:
        super().__init__(**preferred)
        self.batches: list[sdk.MetricsData] = []
        self.calls: list[Any] = []
        self.works = True

    def export(self, metrics_data, timeout_millis=10_000, **kwargs):
        self.batches.append(metrics_data)
        self.calls.append(("export", timeout_millis, kwargs))
        return MetricExportResult.SUCCESS if self.works else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis=10_000):
        self.calls.append(("force_flush", timeout_millis))
        return self.works

    def shutdown(self, timeout_millis=30_000, **kwargs):
        self.calls.append(("shutdown", timeout_millis, kwargs))


class Exports:
    """A program with OpenTelemetry and its own `Metrics`, which exports when it is told to."""

    def __init__(self, **preferred: Any) -> None:
        self.metrics = Metrics(None)
        self.inner = InMemory(**preferred)
        exporter = MetricExporter(self.inner, metrics=self.metrics)
        reader = sdk.PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
        self.provider = MeterProvider(metric_readers=[reader])
        meter = self.provider.get_meter("shop")
        self.own = meter.create_counter("orders")
        self.own.add(1)
        # As the global provider has one: with delta a reader exports only what is there each time.
        meter.create_observable_gauge("up", [lambda _: [Observation(1)]])

    def call(self, *script: object, name: str = "work", **more: Any) -> Any:
        policy = retry(on=OSError, wait=0, attempts=2, name=name, metrics=self.metrics, **more)
        return policy.call(Faults([*script]))

    def next(self) -> dict[str, Any]:
        """Export, and give what was sent by scope and metric, as OTLP."""
        self.provider.force_flush()
        (resource,) = encode_metrics(self.inner.batches[-1]).resource_metrics
        return {
            f"{scope.scope.name}/{metric.name}": metric
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def exports():
    return Exports()


def points(metric: Any) -> dict[tuple[str, ...], Any]:
    """Give the points of a metric by the values of their attributes, in order."""
    data = getattr(metric, metric.WhichOneof("data"))
    return {tuple(a.value.string_value for a in p.attributes): p for p in data.data_points}


def values(metric: Any) -> dict[tuple[str, ...], float]:
    return {labels: point.as_double for labels, point in points(metric).items()}


def successes(sent: dict[str, Any]) -> Any:
    return points(sent["mainstay/mainstay.calls"])["work", "retry", "success"]


def test_a_counter_is_a_sum_that_only_grows(exports):
    exports.call("answer")
    metric = exports.next()["mainstay/mainstay.calls"]
    assert (metric.sum.is_monotonic, metric.unit) == (True, "")
    assert metric.sum.aggregation_temporality == AggregationTemporality.CUMULATIVE.value
    assert values(metric)["work", "retry", "success"] == 1.0
    assert [a.key for a in metric.sum.data_points[0].attributes] == [*schema.CALLS.labels]


def test_a_histogram_has_its_buckets(exports):
    with FakeClock():
        for seconds in (0.0, 0.02, 0.02, 7.0, 1000.0):
            exports.call(Faults.delay(seconds))
    metric = exports.next()["mainstay/mainstay.call_duration_seconds"]
    point = points(metric)["work", "retry"]
    assert (metric.unit, point.count, point.sum) == ("s", 5, 1007.04)
    assert [*point.explicit_bounds] == [*schema.CALL_DURATION.buckets]
    assert [*point.bucket_counts] == [1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert (point.HasField("min"), point.HasField("max")) == (False, False)


def test_a_gauge_has_what_is_the_case(exports):
    breaker = CircuitBreaker("db", on=OSError, metrics=exports.metrics)
    breaker.open()
    orders = Bulkhead("orders", 7, metrics=exports.metrics)
    sent = exports.next()
    states = values(sent["mainstay/mainstay.breaker_state"])
    assert {state[1]: value for state, value in states.items()} == {
        "closed": 0.0,
        "open": 1.0,
        "half_open": 0.0,
    }
    assert values(sent["mainstay/mainstay.concurrency_limit"]) == {(orders.name,): 7.0}


def test_the_programs_own_metrics_come_first_and_unchanged(exports):
    sent = exports.next()
    assert next(iter(sent)) == "shop/orders"
    (point,) = sent["shop/orders"].sum.data_points
    assert point.as_int == 1
    (resource,) = exports.inner.batches[-1].resource_metrics
    assert resource.resource.attributes["telemetry.sdk.name"] == "opentelemetry"


def test_every_number_is_that_of_prometheus(exports):
    """Whatever `Metrics` has is exported, with the same numbers."""
    with pytest.raises(OSError, match="a"):
        exports.call(OSError("a"), OSError("a"))
    exports.call(OSError("b"), "answer", name="other")
    sent = exports.next()
    ours = {name.removeprefix("mainstay/"): metric for name, metric in sent.items()}
    scraped: dict[str, dict[tuple[str, ...], float]] = {}
    for family in exports.metrics.collect():
        for sample in family.samples:
            name = sample.name.replace("mainstay_", "mainstay.", 1).removesuffix("_total")
            scraped.setdefault(name, {})[tuple(sample.labels.values())] = sample.value
    for family in schema.FAMILIES:
        name = "mainstay." + family.name.removesuffix("_total")
        if family.kind == "histogram":
            got = points(ours[name]) if name in ours else {}
            assert {key: each.count for key, each in got.items()} == scraped.get(
                f"{name}_count", {}
            )
            assert {key: each.sum for key, each in got.items()} == scraped.get(f"{name}_sum", {})
        else:
            assert (values(ours[name]) if name in ours else {}) == scraped.get(name, {})


def test_an_exemplar_leads_to_its_trace_and_is_sent_once(exports):
    tracer = TracerProvider().get_tracer("test")
    with FakeClock(), tracer.start_as_current_span("slow") as span:
        exports.call(Faults.delay(2.0))
    point = points(exports.next()["mainstay/mainstay.call_duration_seconds"])["work", "retry"]
    (exemplar,) = point.exemplars
    context = span.get_span_context()
    assert exemplar.as_double == 2.0
    assert int.from_bytes(exemplar.trace_id, "big") == context.trace_id
    assert int.from_bytes(exemplar.span_id, "big") == context.span_id
    assert point.start_time_unix_nano < exemplar.time_unix_nano <= point.time_unix_nano
    again = points(exports.next()["mainstay/mainstay.call_duration_seconds"])["work", "retry"]
    assert (again.count, [*again.exemplars]) == (1, [])


def test_an_exemplar_of_a_failed_call_is_at_its_counter(exports):
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("fails"), pytest.raises(OSError, match="a"):
        exports.call(OSError("a"), OSError("a"))
    calls = points(exports.next()["mainstay/mainstay.calls"])
    assert [key[2] for key, point in calls.items() if point.exemplars] == ["error"]


def test_cumulative_numbers_grow_from_one_start(exports):
    first, second = (exports.call("answer") and exports.next() for _ in range(2))
    one, two = (successes(each) for each in (first, second))
    assert (one.as_double, two.as_double) == (1.0, 2.0)
    assert one.start_time_unix_nano == two.start_time_unix_nano < one.time_unix_nano
    assert one.time_unix_nano <= two.time_unix_nano


def test_delta_numbers_begin_where_the_last_export_ended():
    exports = Exports(preferred_temporality=DELTA)
    exports.call("answer")
    first = exports.next()
    exports.call("answer")
    exports.call("answer")
    second = exports.next()
    for name in ("calls", "call_duration_seconds"):
        metric = second[f"mainstay/mainstay.{name}"]
        data = getattr(metric, metric.WhichOneof("data"))
        assert data.aggregation_temporality == AggregationTemporality.DELTA.value
    one, two = (successes(each) for each in (first, second))
    assert (one.as_double, two.as_double) == (1.0, 2.0)
    assert one.time_unix_nano == two.start_time_unix_nano
    point = points(second["mainstay/mainstay.call_duration_seconds"])["work", "retry"]
    assert (point.count, sum(point.bucket_counts)) == (2, 2)
    (info,) = values(second["mainstay/mainstay.build_info"]).values()
    assert info == 1.0


def test_what_was_counted_while_exports_failed_is_in_the_next_one():
    """The SDK's own counters lose it: they begin anew at each collection."""
    exports = Exports(preferred_temporality=DELTA)
    exports.inner.works = False
    exports.call("answer")
    exports.next()
    exports.inner.works = True
    exports.call("answer")
    assert successes(exports.next()).as_double == 2.0
    assert successes(exports.next()).as_double == 0.0


def test_the_exporters_preferences_hold_for_the_programs_own_instruments():
    exports = Exports(preferred_temporality=DELTA)
    exports.next()
    exports.own.add(5)
    metric = exports.next()["shop/orders"]
    assert metric.sum.data_points[0].as_int == 5


def test_one_namespace_is_one_prefix(exports):
    metrics = Metrics(None, namespace="shop")
    exporter = MetricExporter(exports.inner, metrics=metrics)
    exports.next()
    exporter.export(exports.inner.batches[-1])
    scopes = exports.inner.batches[-1].resource_metrics[0].scope_metrics
    assert [scope.scope.name for scope in scopes] == ["shop", "mainstay"]
    assert {m.name for m in scopes[1].metrics} >= {"shop.hook_errors", "shop.build_info"}
    assert all(m.name.startswith("shop.") for m in scopes[1].metrics)


def test_flush_and_shutdown_are_handed_on(exports):
    exporter = MetricExporter(exports.inner, metrics=exports.metrics)
    exports.inner.works = False
    assert exporter.force_flush(timeout_millis=5) is False
    exporter.shutdown(timeout=7)
    assert exports.inner.calls == [
        ("force_flush", 5),
        ("shutdown", 30_000, {"timeout": 7}),
    ]


def test_names_come_back_as_those_of_prometheus(exports):
    """By the rules that back ends have for it, so that our rules and dashboard work there, too.

    Source: "Prometheus and OpenMetrics Compatibility" in the OpenTelemetry specification.
    """
    words = {"s": "seconds", "By": "bytes", "1": "ratio", "": ""}

    def in_prometheus(metric: Any) -> str:
        kind, name = metric.WhichOneof("data"), metric.name.replace(".", "_")
        unit = "" if metric.unit == "1" and kind != "gauge" else words[metric.unit]
        name = name if unit in name.split("_") or not unit else f"{name}_{unit}"
        return f"{name}_total" if kind == "sum" else name

    with pytest.raises(OSError, match="a"):
        exports.call(OSError("a"), OSError("a"))
    CircuitBreaker("db", on=OSError, metrics=exports.metrics)
    sent = [m for name, m in exports.next().items() if name.startswith("mainstay/")]
    ours = {f"mainstay_{family.name}" for family in schema.FAMILIES}
    assert {in_prometheus(metric) for metric in sent} - ours == set()


@pytest.mark.parametrize("family", schema.FAMILIES, ids=lambda family: family.name)
def test_a_unit_is_that_at_the_end_of_the_name(family):
    from mainstay.integrations.opentelemetry import _unit  # noqa: PLC0415 - of this test alone

    ends = {"seconds": "s", "bytes": "By", "ratio": "1"}
    end = family.name.removesuffix("_total").split("_")[-1]
    # A rate has no unit of its own, since back ends differ in what they make of "1/s".
    assert _unit(family) == ends.get(end, "")


@pytest.mark.parametrize("wrong", [None, object(), sdk.ConsoleMetricExporter])
def test_only_an_exporter_can_be_wrapped(wrong):
    with pytest.raises(TypeError, match="`exporter` must be a MetricExporter"):
        MetricExporter(wrong)


def test_a_wrong_metrics_is_refused():
    with pytest.raises(TypeError, match="`metrics` must be a Metrics or None"):
        MetricExporter(InMemory(), metrics="mainstay")


ALONE = """
import math
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import *
from mainstay.integrations.opentelemetry import MetricExporter

class Shown(ConsoleMetricExporter):
    def export(self, metrics_data, timeout_millis=0, **kwargs):
        (resource,) = metrics_data.resource_metrics
        print([(s.scope.name, [m.name for m in s.metrics]) for s in resource.scope_metrics])
        return MetricExportResult.SUCCESS

reader = PeriodicExportingMetricReader(MetricExporter(Shown()), math.inf)
metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
metrics.get_meter_provider().force_flush()
"""


@pytest.mark.process
def test_a_program_without_instruments_exports_all_the_same():
    """A reader hands nothing to its exporter as long as there is none."""
    sent = python("-c", ALONE).splitlines()[0]
    assert re.fullmatch(r"\[\('mainstay', \[.*'mainstay.build_info'\]\)\]", sent)
    assert "mainstay.exporting" not in sent


FORKED = """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork while the SDK has a thread
from opentelemetry import metrics
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import *
from mainstay import retry
from mainstay.integrations.opentelemetry import MetricExporter

class Shown(ConsoleMetricExporter):
    def export(self, metrics_data, timeout_millis=0, **kwargs):
        (resource,) = metrics_data.resource_metrics
        every = [metric for scope in resource.scope_metrics for metric in scope.metrics]
        (calls,) = [metric for metric in every if metric.name == "mainstay.calls"]
        print(*[point.value for point in calls.data.data_points if point.value], flush=True)
        return MetricExportResult.SUCCESS

exporter = MetricExporter(Shown(preferred_temporality={Counter: AggregationTemporality.DELTA}))
provider = MeterProvider(metric_readers=[PeriodicExportingMetricReader(exporter, 1e9)])
metrics.set_meter_provider(provider)
call = retry(on=OSError, name="work")(int)
call()
call()
provider.force_flush()
child = os.fork()
call()
provider.force_flush()
if child:
    os.waitpid(child, 0)
os._exit(0)
"""


@pytest.mark.process
@pytest.mark.parametrize("in_files", [False, True], ids=["in memory", "in files"])
def test_a_forked_process_exports_what_it_has_counted_itself(in_files, tmp_path, monkeypatch):
    if in_files:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert python("-c", FORKED).split() == ["2.0", "1.0", "1.0"]


@pytest.mark.parametrize("version", ["1.28.9", "2.0.0", "2", "0.66b2", "unknown"])
def test_an_unknown_version_is_refused_with_those_that_are_known(version):
    with pytest.raises(ImportError, match=f"from 1.29 to below 2, and {version} is installed"):
        check_version("opentelemetry-sdk", version, since="1.29", before="2")


@pytest.mark.parametrize("version", ["1.29", "1.29.0", "1.29.0b3", "1.45.2", "1.100"])
def test_a_known_version_is_taken(version):
    check_version("opentelemetry-sdk", version, since="1.29", before="2")


def test_the_module_refuses_an_unknown_version_when_it_is_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "mainstay.integrations.opentelemetry")
    monkeypatch.setattr("opentelemetry.sdk.version.__version__", "2.1.0")
    with pytest.raises(ImportError, match=r"pip install 'opentelemetry-sdk>=1\.29,<2'"):
        importlib.import_module("mainstay.integrations.opentelemetry")
