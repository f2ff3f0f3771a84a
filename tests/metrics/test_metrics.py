"""`Metrics`: where it registers, what it refuses, what it counts, and what stays bounded."""

import asyncio
import contextlib
import json
import math
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Metric

from mainstay import (
    CircuitBreaker,
    FailoverPool,
    Member,
    Metrics,
    default_metrics,
    on_event,
    retry,
    set_default_metrics,
)
from mainstay._metrics import collector, layouts, schema
from mainstay._metrics.collector import recorders_of
from mainstay._metrics.series import LabelValues
from mainstay.testing import FakeClock, Faults, recorded
from support.processes import python

BUCKETS = {"call_duration_seconds": (0.1, 1.0, 10.0)}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def default_kept() -> Iterator[None]:
    """Put back the process's default afterwards."""
    before = collector._default
    yield
    collector._default = before


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def successes(registry: CollectorRegistry, component: str, prefix: str = "mainstay") -> Any:
    return value(
        registry, f"{prefix}_calls_total", component=component, policy="retry", outcome="success"
    )


def call_once(metrics: Metrics, name: str = "work") -> None:
    retry(on=ConnectionError, name=name, metrics=metrics).call(int)


# Where it registers.


@pytest.mark.usefixtures("default_kept")
def test_policies_record_into_the_default_registry_without_being_asked() -> None:
    retry(on=ConnectionError, name="test_metrics.unasked").call(int)
    assert successes(REGISTRY, "test_metrics.unasked") == 1


@pytest.mark.usefixtures("default_kept")
def test_the_default_can_be_set_for_policies_made_after_it(registry: CollectorRegistry) -> None:
    before = retry(on=ConnectionError, name="test_metrics.before")
    metrics = Metrics(registry)
    set_default_metrics(metrics)
    retry(on=ConnectionError, name="after").call(int)
    before.call(int)
    assert default_metrics() is metrics
    assert successes(registry, "after") == 1
    assert successes(registry, "test_metrics.before") is None


def test_only_a_metrics_can_be_the_default(registry: CollectorRegistry) -> None:
    with pytest.raises(TypeError, match="`metrics` must be a Metrics, not"):
        set_default_metrics(registry)  # type: ignore[arg-type]  # the error under test


def test_a_policy_takes_only_a_metrics(registry: CollectorRegistry) -> None:
    with pytest.raises(TypeError, match="`metrics` must be a Metrics or None, not"):
        retry(on=ConnectionError, metrics=registry)  # type: ignore[arg-type]  # the error under test


def test_a_second_one_on_the_same_registry_is_a_view_of_the_first(
    registry: CollectorRegistry,
) -> None:
    first, second = Metrics(registry), Metrics(registry)
    call_once(first)
    call_once(second)
    assert first == second
    assert len({first, second}) == 1
    assert successes(registry, "work") == 2
    assert len([m for m in registry.collect() if m.name == "mainstay_calls"]) == 1


def test_a_view_takes_the_same_buckets_and_refuses_others(registry: CollectorRegistry) -> None:
    first = Metrics(registry, buckets=BUCKETS)
    assert Metrics(registry) == first
    assert Metrics(registry, buckets={"call_duration_seconds": [0.1, 1, 10, math.inf]}) == first
    with pytest.raises(ValueError, match="`buckets` must be those of the first Metrics"):
        Metrics(registry, buckets={"call_duration_seconds": [1, 2]})
    with pytest.raises(ValueError, match="`buckets` must be those of the first Metrics"):
        Metrics(registry, buckets={})


def test_registries_do_not_share_counts() -> None:
    one, other = CollectorRegistry(), CollectorRegistry()
    call_once(Metrics(one))
    Metrics(other)
    assert successes(one, "work") == 1
    assert successes(other, "work") is None
    assert Metrics(one) != Metrics(other)


def test_namespaces_do_not_share_counts(registry: CollectorRegistry) -> None:
    call_once(Metrics(registry, namespace="app"))
    call_once(Metrics(registry), "other")
    assert successes(registry, "work", prefix="app") == 1
    assert successes(registry, "work") is None


def test_without_a_registry_it_is_registered_by_hand(registry: CollectorRegistry) -> None:
    metrics = Metrics(None)
    call_once(metrics)
    assert metrics != Metrics(None)
    registry.register(metrics)
    assert successes(registry, "work") == 1


def test_it_can_be_unregistered_and_registered_again(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    call_once(metrics)
    registry.unregister(metrics)
    assert successes(registry, "work") is None
    registry.register(metrics)
    assert successes(registry, "work") == 1


def test_a_view_can_unregister_it_and_a_new_view_registers_it_again(
    registry: CollectorRegistry,
) -> None:
    call_once(Metrics(registry))
    registry.unregister(Metrics(registry))
    assert successes(registry, "work") is None
    Metrics(registry)
    assert successes(registry, "work") == 1


def test_other_metrics_of_the_same_names_are_refused_with_the_way_out(
    registry: CollectorRegistry,
) -> None:
    Counter("mainstay_calls", "Somebody else's.", registry=registry)
    with pytest.raises(ValueError, match="choose another `namespace`"):
        Metrics(registry)
    call_once(Metrics(registry, namespace="app"))
    assert successes(registry, "work", prefix="app") == 1


def test_other_metrics_that_came_after_an_unregistration_are_refused_too(
    registry: CollectorRegistry,
) -> None:
    metrics = Metrics(registry)
    registry.unregister(metrics)
    Gauge("mainstay_build_info", "Somebody else's.", registry=registry)
    with pytest.raises(ValueError, match="choose another `namespace`"):
        Metrics(registry)


def test_a_refusal_leaves_nothing_that_the_next_one_would_have_to_agree_with(
    registry: CollectorRegistry,
) -> None:
    others = Counter("mainstay_calls", "Somebody else's.", registry=registry)
    with pytest.raises(ValueError, match="choose another `namespace`"):
        Metrics(registry, buckets={"call_attempts": [2, 3]})
    registry.unregister(others)
    call_once(Metrics(registry, buckets=BUCKETS))
    assert successes(registry, "work") == 1


def test_the_registry_refuses_others_of_its_names(registry: CollectorRegistry) -> None:
    Metrics(registry)
    with pytest.raises(ValueError, match="mainstay_call_attempts"):
        Gauge("mainstay_call_attempts", "Somebody else's.", registry=registry)


def test_two_threads_may_make_the_first_one_at_the_same_time() -> None:
    class Meeting(CollectorRegistry):
        """Lets another thread be first whenever one is about to register."""

        met = False

        def register(self, collector: Any) -> None:
            if not self.met:
                self.met = True
                thread = threading.Thread(target=lambda: made.append(Metrics(self)))
                thread.start()
                thread.join()
            super().register(collector)

    made: list[Metrics] = []
    registry = Meeting()
    made.append(Metrics(registry))
    for metrics in made:
        call_once(metrics)
    assert successes(registry, "work") == 2


def test_a_restricted_registry_gives_the_names_asked_for(registry: CollectorRegistry) -> None:
    call_once(Metrics(registry))
    restricted = registry.restricted_registry(["mainstay_calls_total"])
    assert {s.name for m in restricted.collect() for s in m.samples} == {"mainstay_calls_total"}
    of_histogram = registry.restricted_registry(["mainstay_call_duration_seconds_count"])
    assert [s.value for m in of_histogram.collect() for s in m.samples] == [1.0]


def test_describe_gives_every_family_once_without_samples(registry: CollectorRegistry) -> None:
    described = list(Metrics(registry).describe())
    assert [(m.name, m.type, m.samples) for m in described] == [
        (f"mainstay_{family.name.removesuffix('_total')}", family.kind, [])
        for family in schema.FAMILIES
    ]


def test_equality_is_with_metrics_only(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry, namespace="app")
    assert metrics != "app"
    assert repr(metrics) == "<Metrics of namespace 'app'>"


# What it refuses.


@pytest.mark.parametrize(
    "namespace", ["", "1app", "my-app", "my app", "app:x", "app\n", "résilience", "a.b"]
)
def test_a_namespace_that_prometheus_refuses_is_refused(
    namespace: str, registry: CollectorRegistry
) -> None:
    with pytest.raises(ValueError, match=r"`namespace` must .*, not"):
        Metrics(registry, namespace=namespace)
    assert list(registry.collect()) == []


def test_a_namespace_that_is_no_string_is_refused(registry: CollectorRegistry) -> None:
    with pytest.raises(TypeError, match="`namespace` must be a str, not 5"):
        Metrics(registry, namespace=5)  # type: ignore[arg-type]  # the error under test


def test_what_is_no_registry_is_refused() -> None:
    with pytest.raises(TypeError, match="`registry` must be a CollectorRegistry or None, not 5"):
        Metrics(5)  # type: ignore[arg-type]  # the error under test


@pytest.mark.parametrize(
    "bounds",
    [[], [math.inf], [1, 1], [2, 1], [math.nan], [1, math.nan], [-math.inf, 1], [1, math.inf, 2]],
)
def test_buckets_that_are_not_finite_and_ascending_are_refused(
    bounds: list[float], registry: CollectorRegistry
) -> None:
    with pytest.raises(ValueError, match=r"`buckets\['call_attempts'\]` must be one or more"):
        Metrics(registry, buckets={"call_attempts": bounds})


@pytest.mark.parametrize("name", ["calls_total", "mainstay_call_duration_seconds", ""])
def test_buckets_for_what_is_no_histogram_are_refused(
    name: str, registry: CollectorRegistry
) -> None:
    with pytest.raises(ValueError, match="`buckets` may name call_duration_seconds, call_attempts"):
        Metrics(registry, buckets={name: [1, 2]})


@pytest.mark.parametrize("buckets", [5, [0.1, 1], {"call_attempts": 3}, {"call_attempts": ["x"]}])
def test_buckets_of_another_type_are_refused(buckets: Any, registry: CollectorRegistry) -> None:
    with pytest.raises(TypeError, match="`buckets"):
        Metrics(registry, buckets=buckets)


# What it counts.


def test_other_buckets_are_used(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry, buckets=BUCKETS)
    with FakeClock() as clock:
        work = retry(on=ConnectionError, name="work", metrics=metrics)(clock.advance)
        for seconds in (0.1, 0.5, 20):
            work(seconds)
    counts = {
        sample.labels["le"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "mainstay_call_duration_seconds_bucket"
    }
    assert counts == {"0.1": 1, "1.0": 2, "10.0": 2, "+Inf": 3}
    labels = {"component": "work", "policy": "retry"}
    assert value(registry, "mainstay_call_duration_seconds_sum", **labels) == pytest.approx(20.6)


def test_series_with_closed_labels_start_at_0_when_the_policy_wraps_something(
    registry: CollectorRegistry,
) -> None:
    retry(on=ConnectionError, name="work", metrics=Metrics(registry))(int)
    zeros = {
        (sample.name.removeprefix("mainstay_"), *list(sample.labels.values())[2:])
        for metric in registry.collect()
        for sample in metric.samples
        if sample.value == 0 and not {"le", "hook", "header"} & sample.labels.keys()
    }
    assert zeros == {
        *(("calls_total", outcome) for outcome in schema.OUTCOMES),
        *(("give_ups_total", reason) for reason in schema.GIVE_UP_REASONS["retry"]),
        ("wait_seconds_total",),
        ("call_duration_seconds_count",),
        ("call_duration_seconds_sum",),
        ("call_attempts_count",),
        ("call_attempts_sum",),
    }


def test_the_build_is_named_with_its_version(registry: CollectorRegistry) -> None:
    Metrics(registry)
    samples = [s for m in registry.collect() if m.name == "mainstay_build_info" for s in m.samples]
    assert [(sorted(s.labels), s.value) for s in samples] == [(["version"], 1.0)]


OUTCOMES = [
    ("success", [1], {}),
    ("recovered", [ConnectionError(), ConnectionError(), 1], {}),
    ("error", [ConnectionError(), ConnectionError()], {"attempts": 2}),
    ("error", [KeyError("not ours")], {}),
    ("timeout", [ConnectionError(), ConnectionError()], {"wait": 10, "timeout": 5}),
    ("cancelled", [KeyboardInterrupt()], {}),
    ("cancelled", [ConnectionError(), KeyboardInterrupt()], {}),
]


def test_a_rejected_call_has_an_outcome_and_no_duration() -> None:
    with recorded() as metrics:
        recorder = recorders_of(metrics).calls("work", "failover")
    recorder.call("rejected", 2.0)
    recorder.call("error", 3.0)
    assert metrics.value("calls_total", outcome="rejected") == 1
    assert metrics.value("call_duration_seconds_count") == 1
    assert metrics.value("call_duration_seconds_sum") == 3.0


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(("outcome", "script", "rules"), OUTCOMES)
def test_each_call_has_exactly_one_outcome_and_one_duration(
    kind: str, outcome: str, script: list[Any], rules: dict[str, Any]
) -> None:
    faults = Faults(script)
    with recorded() as metrics, FakeClock():
        policy = retry(on=ConnectionError, name="work", **rules)
        try:
            if kind == "def":
                policy.call(faults)
            else:
                asyncio.run(policy.call(faults.acall))
        except (ConnectionError, KeyError, KeyboardInterrupt):
            pass
    assert {o: metrics.value("calls_total", outcome=o) for o in schema.OUTCOMES} == {
        o: float(o == outcome) for o in schema.OUTCOMES
    }
    assert metrics.value("call_duration_seconds_count") == 1
    assert metrics.value("calls_total", component="work", policy="retry") == 1


def test_waits_and_attempts_are_added_up() -> None:
    with recorded() as metrics, FakeClock():
        policy = retry(on=ConnectionError, name="work", wait=timedelta(seconds=2))
        policy.call(Faults([ConnectionError(), ConnectionError(), 1]))
        policy.call(Faults([1]))
    assert metrics.value("wait_seconds_total", component="work") == 4
    assert metrics.value("call_attempts_count") == 1  # calls with one attempt have none
    assert metrics.value("call_attempts_sum") == 3
    assert metrics.value("call_attempts_bucket", le="3.0") == 1
    assert metrics.value("call_attempts_bucket", le="2.0") == 0
    assert metrics.value("call_duration_seconds_sum") == 4
    assert metrics.value("errors_total", error_type="ConnectionError") == 2


def test_what_a_listener_raises_is_counted_under_its_own_name() -> None:
    def listens_badly(_event: object) -> None:
        raise ZeroDivisionError

    stop = on_event(listens_badly)
    try:
        with recorded() as metrics, FakeClock():
            assert (
                retry(on=ConnectionError, name="work").call(Faults([ConnectionError(), "value"]))
                == "value"
            )
    finally:
        stop()
    assert metrics.value("errors_total", policy="event", error_type="ZeroDivisionError") == 1


class NamelessType(type):
    """A metaclass whose classes do not tell their name."""

    @property
    def __name__(cls) -> str:
        raise RuntimeError("no name")


def test_an_error_class_that_hides_its_name_breaks_no_call() -> None:
    class NamelessError(ConnectionError, metaclass=NamelessType):
        pass

    with recorded() as metrics, FakeClock():
        assert (
            retry(on=ConnectionError, name="work").call(Faults([NamelessError(), "value"]))
            == "value"
        )
    assert metrics.value("calls_total", outcome="recovered") == 1


def test_a_recorder_finds_the_one_of_its_kind_in_other_metrics() -> None:
    here, there = recorders_of(Metrics(None)), Metrics(None)
    found = recorders_of(there)
    assert here.calls("work", "retry").within(there, "work") is found.calls("work", "retry")
    assert here.checkpoint("job").within(there, "job") is found.checkpoint("job")
    assert here.calls("work", "retry") is not found.calls("work", "retry")


# What stays bounded.


def test_the_name_of_an_error_class_is_cut_at_200_characters(registry: CollectorRegistry) -> None:
    policy = retry(on=OSError, name="work", attempts=1, metrics=Metrics(registry))
    with pytest.raises(ConnectionError):
        policy.call(Faults([type("N" * 5_000, (ConnectionError,), {})()]))
    labels = {"component": "work", "policy": "retry", "error_type": "N" * 200}
    assert registry.get_sample_value("mainstay_errors_total", labels) == 1


@pytest.mark.process
def test_a_second_import_goes_on_in_the_metrics_of_the_first() -> None:
    code = """
import sys
from prometheus_client import REGISTRY

calls = []
for _ in range(2):
    for name in [*sys.modules]:
        if name.partition(".")[0] == "mainstay":
            del sys.modules[name]
    import mainstay
    mainstay.retry(on=OSError, name="work").call(int)
    breaker = mainstay.CircuitBreaker("mail", on=OSError)
    breaker.call(int)
    pool = mainstay.FailoverPool("db", [mainstay.Member("a", 1)], on=OSError)
    pool.call(int)
    mainstay.redundant(copies=2, on=OSError, name="hedged").call(int)
    assert mainstay.Metrics() == mainstay.default_metrics()
    for component, policy in (
        ("work", "retry"), ("mail", "breaker"), ("db", "failover"), ("hedged", "redundant")
    ):
        labels = {"component": component, "policy": policy, "outcome": "success"}
        calls.append(REGISTRY.get_sample_value("mainstay_calls_total", labels))
print(calls)
"""
    assert json.loads(python("-c", code)) == [1.0] * 4 + [2.0] * 4


HOOKS_THAT_FAIL = {
    "on": ("predicate", lambda m: retry(on=lambda _: 1 / 0, metrics=m, name="it").call(broken)),
    "on of a breaker": (
        "predicate",
        lambda m: CircuitBreaker("it", on=lambda _: 1 / 0, metrics=m).call(broken),
    ),
    "on of a pool": (
        "predicate",
        lambda m: FailoverPool("it", [Member("a", 1)], on=lambda _: 1 / 0, metrics=m).call(broken),
    ),
    "on_result": (
        "predicate",
        lambda m: retry(on=OSError, on_result=lambda _: 1 / 0, metrics=m, name="it").call(int),
    ),
    "wait": (
        "predicate",
        lambda m: retry(on=OSError, wait=lambda _: 1 / 0, metrics=m, name="it").call(broken),
    ),
}


def broken(*_: object) -> None:
    raise ConnectionError


@pytest.mark.parametrize("hook", HOOKS_THAT_FAIL)
def test_hooks_that_raise_are_counted_by_kind(hook: str, registry: CollectorRegistry) -> None:
    kind, use = HOOKS_THAT_FAIL[hook]
    with contextlib.suppress(ConnectionError, ZeroDivisionError):
        use(Metrics(registry))
    counts = {
        each: registry.get_sample_value("mainstay_hook_errors_total", {"hook": each})
        for each in schema.HOOKS
    }
    assert counts == {each: float(each == kind) for each in schema.HOOKS}


def test_listeners_that_raise_or_cause_their_own_event_are_counted(
    registry: CollectorRegistry,
) -> None:
    policy = retry(on=OSError, name="it", attempts=1, metrics=Metrics(registry))

    def use_the_policy(_event: object) -> None:
        policy.call(broken)

    stop = on_event(use_the_policy)
    try:
        with pytest.raises(ConnectionError):
            policy.call(broken)
    finally:
        stop()
    counts = {
        each: registry.get_sample_value("mainstay_hook_errors_total", {"hook": each})
        for each in schema.HOOKS
    }
    assert counts == {"listener": 1, "reentry": 1, "predicate": 0, "dispose": 0}


def test_1_000_error_types_become_20_and_other() -> None:
    with recorded() as metrics:
        policy = retry(on=ConnectionError, name="work")
    classes = [type(f"Error{number}", (Exception,), {}) for number in range(1_000)]
    for each in classes:
        with pytest.raises(each):
            policy.call(Faults([each]))
    families = {m.name: m for m in metrics.collect()}
    types = {s.labels["error_type"] for s in families["mainstay_errors"].samples}
    assert len(types) == 21
    assert "_other" in types
    assert metrics.value("errors_total") == 1_000
    assert metrics.value("errors_total", error_type="_other") == 980
    assert metrics.value("series_dropped_total", metric="mainstay_errors_total") == 980
    assert metrics.value("series_dropped_total") == 980


def test_each_component_has_its_own_20_error_types() -> None:
    with recorded() as metrics:
        for component in ("a", "b"):
            for number in range(20):
                error = type(f"Error{component}{number}", (Exception,), {})
                with pytest.raises(error):
                    retry(on=ConnectionError, name=component).call(Faults([error]))
    assert metrics.value("errors_total", error_type="_other") == 0
    assert metrics.value("series_dropped_total") == 0


def test_1_500_components_become_1_000_and_other(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    for number in range(1_500):
        call_once(metrics, f"component {number}")
    families = {m.name: m for m in metrics.collect()}
    components = {s.labels["component"] for s in families["mainstay_calls"].samples}
    assert len(components) == 1_001
    assert sum(s.value for s in families["mainstay_calls"].samples) == 1_500
    assert successes(registry, "_other") == 500
    dropped = value(registry, "mainstay_series_dropped_total", metric="mainstay_calls_total")
    assert dropped == 500


def test_a_failure_of_a_replaced_component_replaces_nothing_again(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MOST_COMPONENTS", 1)
    metrics = Metrics(registry)
    call_once(metrics, "first")
    with pytest.raises(ConnectionError):
        retry(on=ConnectionError, attempts=1, name="second", metrics=metrics).call(
            Faults([ConnectionError])
        )
    labels = {"component": "_other", "policy": "retry", "error_type": "ConnectionError"}
    assert value(registry, "mainstay_errors_total", **labels) == 1
    dropped = value(registry, "mainstay_series_dropped_total", metric="mainstay_calls_total")
    assert dropped == 1


def test_a_replaced_component_keeps_its_name_in_the_log(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(schema, "MOST_COMPONENTS", 1)
    metrics = Metrics(registry)
    call_once(metrics, "first")
    with pytest.raises(ConnectionError):
        retry(on=ConnectionError, attempts=1, name="second", metrics=metrics).call(
            Faults([ConnectionError])
        )
    assert [message.partition(":")[0] for message in caplog.messages] == ["second"]


def test_every_counter_of_a_layout_has_a_place_of_its_own() -> None:
    layout = layouts.FAILURE_LAYOUTS["retry"]
    assert [*layout.slots[schema.GIVE_UPS]] == [*schema.GIVE_UP_REASONS["retry"]]
    places = [place for slots in layout.slots.values() for place in slots.values()]
    assert places == list(range(layout.size))


@pytest.mark.parametrize("policy", schema.GIVE_UP_REASONS)
def test_a_deadline_around_may_end_a_call_of_any_policy(policy) -> None:
    assert "timeout" in schema.GIVE_UP_REASONS[policy]


def test_label_values_are_admitted_up_to_their_number_and_recognised_after_it() -> None:
    values = LabelValues(2)
    assert [values.admit(v) for v in ("a", "b", "c", "a", "b")] == ["a", "b", None, "a", "b"]


def test_a_policy_and_a_block_of_the_same_name_are_one_component() -> None:
    with recorded() as metrics:
        policy = retry(on=ConnectionError, name="work")
        policy.call(int)
        for attempt in policy:
            with attempt:
                pass
        policy(int)()
    assert metrics.value("calls_total", component="work", outcome="success") == 3
    samples = [s for m in metrics.collect() for s in m.samples if "calls_total" in s.name]
    assert len(samples) == len(schema.OUTCOMES)


def test_collecting_gives_metrics_of_prometheus_client(registry: CollectorRegistry) -> None:
    assert all(isinstance(metric, Metric) for metric in Metrics(registry).collect())


class Lost(ConnectionError):
    """The failure that the policies of these tests retry."""


def test_attempt_numbers_and_messages_are_no_labels(caller, metrics):
    """Known fault 25: stamina labels its counter with the attempt: ten attempts make 18 series."""

    def series():
        return sum(len(family.samples) for family in metrics.metrics.collect())

    policy = retry(on=Lost, attempts=None, timeout=None, wait=0, name="fetch")
    caller(policy, Faults([Lost("a"), "ok"]))
    before = series()
    caller(policy, Faults([Lost(f"message {n}") for n in range(50)], then="ok"))
    assert series() == before
