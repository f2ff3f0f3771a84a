"""Exemplars: slow and failed calls in a sampled OpenTelemetry span leave its trace id behind."""

import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from mainstay import FailoverPool, Member, Metrics, retry
from mainstay.testing import FakeClock, Faults

tracer = TracerProvider().get_tracer("test")


@pytest.fixture
def registry():
    return CollectorRegistry()


def call(registry, *script, seconds=0.0):
    """Call through a policy once; each attempt takes so long."""
    policy = retry(on=OSError, wait=0, attempts=2, name="work", metrics=Metrics(registry))
    with FakeClock():
        policy.call(Faults([Faults.delay(seconds, step) for step in script]))


def exemplars(registry):
    """Give all exemplars in OpenMetrics: by sample name and last label, trace and value."""
    text = generate_latest(registry).decode()
    return {
        (sample.name, sample.labels.get("le") or sample.labels["outcome"]): (
            sample.exemplar.labels["trace_id"],
            sample.exemplar.value,
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.exemplar
    }


def trace_of(span):
    return format(span.get_span_context().trace_id, "032x")


def test_a_slow_call_is_the_example_of_its_bucket(registry):
    with tracer.start_as_current_span("slow") as span:
        call(registry, "answer", seconds=2.0)
    assert exemplars(registry) == {
        ("mainstay_call_duration_seconds_bucket", "2.5"): (trace_of(span), 2.0)
    }


def test_a_slow_call_of_a_pool_is_the_example_of_its_bucket(registry):
    members = [Member("a", resource="a")]
    pool = FailoverPool("pool", members, on=OSError, metrics=Metrics(registry))
    answer = Faults([Faults.delay(2.0)])
    with FakeClock(), tracer.start_as_current_span("slow") as span:
        pool.call(answer)
    assert exemplars(registry) == {
        ("mainstay_call_duration_seconds_bucket", "2.5"): (trace_of(span), 2.0)
    }


def test_a_failed_call_is_the_example_of_its_outcome(registry):
    with pytest.raises(OSError, match="fault"), tracer.start_as_current_span("fails") as span:
        call(registry, OSError("fault"), OSError("fault"))
    assert exemplars(registry) == {("mainstay_calls_total", "error"): (trace_of(span), 1.0)}


def test_a_slow_failure_is_both_and_the_last_one_stays(registry):
    for _ in range(2):
        with pytest.raises(OSError, match="f"), tracer.start_as_current_span("fails") as span:
            call(registry, OSError("f"), OSError("f"), seconds=0.04)
    assert exemplars(registry) == {
        ("mainstay_calls_total", "error"): (trace_of(span), 1.0),
        ("mainstay_call_duration_seconds_bucket", "0.1"): (trace_of(span), 0.08),
    }


def test_a_quick_success_leaves_nothing_behind(registry):
    with tracer.start_as_current_span("quick"):
        call(registry, "answer")
    assert exemplars(registry) == {}


def test_no_span_is_no_exemplar(registry):
    call(registry, "answer", seconds=2.0)
    assert exemplars(registry) == {}


def test_a_span_that_is_not_sampled_is_no_exemplar(registry):
    unsampled = TracerProvider(sampler=ALWAYS_OFF).get_tracer("test")
    with unsampled.start_as_current_span("slow"):
        call(registry, "answer", seconds=2.0)
    assert exemplars(registry) == {}


def test_a_program_without_opentelemetry_needs_none(registry, monkeypatch):
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    call(registry, "answer", seconds=2.0)
    assert exemplars(registry) == {}


def test_a_broken_tracer_breaks_no_call(registry, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", object())
    call(registry, "answer", seconds=2.0)
    assert exemplars(registry) == {}
