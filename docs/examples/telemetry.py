"""OpenTelemetry with mainstay: metrics in each export, and a trace that shows the attempts.

pip install 'mainstay[opentelemetry]'
python telemetry.py
"""

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from mainstay import retry
from mainstay.integrations.opentelemetry import MetricExporter, trace_attempts
from mainstay.testing import Faults

# What a program has: exporters, here to the console; there it is OTLPMetricExporter() and
# OTLPSpanExporter() of opentelemetry-exporter-otlp.


def shown(batch: MetricsData) -> str:
    """Show the counters of calls that are not 0."""
    every = [metric for each in batch.resource_metrics[0].scope_metrics for metric in each.metrics]
    calls = next(metric for metric in every if metric.name == "mainstay.calls")
    return "".join(
        f"{calls.name} {dict(point.attributes)} {point.value}\n"
        for point in calls.data.data_points
        if point.value
    )


def named(span: ReadableSpan) -> str:
    """Show a span in one line."""
    return f"{span.name} {dict(span.attributes)}\n"


metric_exporter = ConsoleMetricExporter(formatter=shown)
span_exporter = ConsoleSpanExporter(formatter=named)

# What mainstay needs: a wrapper around the one, and a line for the other.

reader = PeriodicExportingMetricReader(MetricExporter(metric_exporter))
metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))

tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(span_exporter))
trace.set_tracer_provider(tracers)
trace_attempts()

# The program itself, whose server fails twice.

server = Faults([ConnectionError("reset"), ConnectionError("reset"), "page"])


@retry(on=ConnectionError, name="fetch", wait=0.01)
def fetch(_url: str) -> str:
    """Get a page."""
    with trace.get_tracer("http").start_as_current_span("GET"):
        return server()


if __name__ == "__main__":
    with trace.get_tracer("shop").start_as_current_span("request"):
        fetch("https://shop.example")
    metrics.get_meter_provider().shutdown()
