"""Which series a pipeline and its layers show: few, and those of shared objects when used."""

from collections import Counter

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from mainstay import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    FailoverPool,
    Member,
    Metrics,
    RateLimit,
    RejectedError,
    fallback,
    pipeline,
    redundant,
    retry,
    timeout,
)
from mainstay.testing import Faults

MOST = 80
"""Series of a pipeline of six, those of its breaker, rate limit and bulkhead included."""

SHARED = {
    "breaker": lambda metrics: CircuitBreaker("own", on=OSError, metrics=metrics),
    "bulkhead": lambda metrics: Bulkhead("own", 2, metrics=metrics),
    "rate_limit": lambda metrics: RateLimit("own", 1e6, burst=9, metrics=metrics),
    "failover": lambda metrics: FailoverPool("own", [Member("a", 1)], on=OSError, metrics=metrics),
}


@pytest.fixture(params=["memory", "files"])
def shows(request, tmp_path, monkeypatch):
    """A `Metrics`, and a function that counts the series shown, by name and policy."""
    if request.param == "files":
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    metrics = Metrics(None)

    def collected():
        if request.param == "memory":
            return metrics.collect()
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(tmp_path))
        return registry.collect()

    def shown(component):
        return Counter(
            sample.name.removeprefix("mainstay_")
            for family in collected()
            for sample in family.samples
            if sample.labels.get("component") == component
        )

    return metrics, shown


def call(*_resource):
    return "ok"


def test_a_pipeline_of_six_has_few_series(shows):
    metrics, shown = shows
    here = {"metrics": metrics}
    six = pipeline(
        "six",
        fallback(default=None, on=RejectedError),
        retry(on=OSError),
        CircuitBreaker("breaker", on=OSError, **here),
        RateLimit("rate", 1e6, burst=9, **here),
        Bulkhead("bulkhead", 2, **here),
        timeout(60.0),
        **here,
    )
    six(call)()
    names = ("six", "breaker", "rate", "bulkhead")
    gauges = ("component_up", "availability_ratio", "failure_rate_per_second", "mtbf_seconds")
    counted = sum((shown(name) for name in names), Counter())
    assert 60 < sum(counted.values()) <= MOST
    assert counted["call_duration_seconds_count"] == 1
    assert counted["call_attempts_count"] == 1
    assert all(counted[name] <= 1 for name in gauges)


def test_a_layer_without_state_shows_no_calls_of_its_own(shows):
    """A redundant call showed all series of its own calls, at 0, beside those of its pipeline."""
    metrics, shown = shows
    layers = fallback(default=0, on=OSError), retry(on=OSError), redundant(), timeout(60.0)
    pipeline("all", *layers, metrics=metrics)(call)()
    assert shown("all")["calls_total"] == 6
    for name in ("call_duration_seconds_count", "call_attempts_count"):
        assert shown("all")[name] == 1
    assert shown("all")["wait_seconds_total"] == 0  # made when something waits


@pytest.mark.parametrize("policy", SHARED)
def test_what_is_used_in_pipelines_only_shows_no_durations_of_its_own(policy, shows):
    metrics, shown = shows
    pipeline("all", SHARED[policy](metrics), metrics=metrics)(call)()
    own = shown("own")
    assert own["calls_total"] == 6
    assert own["call_duration_seconds_count"] == own["give_ups_total"] == 0


@pytest.mark.parametrize("policy", SHARED)
def test_a_decorated_function_shows_all_of_it_at_0(policy, shows):
    metrics, shown = shows
    SHARED[policy](metrics)(call)
    own = shown("own")
    assert own["calls_total"] == 6
    assert own["call_duration_seconds_count"] == 1
    assert own["give_ups_total"] >= 2


@pytest.mark.parametrize("policy", SHARED)
def test_the_first_call_shows_all_of_it(policy, shows):
    metrics, shown = shows
    SHARED[policy](metrics).call(call)
    own = shown("own")
    assert own["call_duration_seconds_count"] == 1
    assert own["give_ups_total"] >= 2


def test_why_a_shared_object_refuses_in_a_pipeline_is_shown(shows):
    metrics, shown = shows
    breaker = CircuitBreaker("own", on=OSError, metrics=metrics)
    guarded = pipeline("all", breaker, metrics=metrics)(Faults(then=OSError))
    breaker.open()
    with pytest.raises(CircuitOpenError):
        guarded()
    own = shown("own")
    assert own["give_ups_total"] >= 2
    assert own["call_duration_seconds_count"] == 0
