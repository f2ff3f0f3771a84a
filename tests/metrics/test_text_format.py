"""`TextReader`: what endpoints of mainstay's say is read back, each time, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from mainstay import Metrics, retry
from mainstay._metrics import schema
from mainstay._metrics.text_format import TextReader, sample_names
from mainstay.testing import Faults

WELL = ("shop", "retry", "success")


def reader(*families, namespace="mainstay"):
    return TextReader(namespace, families or [schema.CALLS, schema.CALL_DURATION])


def line(value, component="shop", more=""):
    labels = f'component="{component}",policy="retry",outcome="success"{more}'
    return f"mainstay_calls_total{{{labels}}} {value}\n"


def test_what_metrics_export_is_what_is_read():
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    fetch = retry(on=OSError, wait=0, name='a "shop"\n}', metrics=metrics)(
        Faults([OSError(), "well"], then="well")
    )
    reading = reader()
    for calls in range(1, 4):
        fetch()
        text = generate_latest(registry).decode()
        samples = reading.read(text)
        exported = {
            tuple(sample.labels[label] for label in schema.CALLS.labels): sample.value
            for family in metrics.collect()
            for sample in family.samples
            if sample.name == "mainstay_calls_total"
        }
        assert samples["calls_total"] == exported
        assert sum(samples["calls_total"].values()) == calls
        buckets = samples["call_duration_seconds_bucket"]
        assert buckets['a "shop"\n}', "retry", "+Inf"] == calls


def test_openmetrics_is_read_the_same():
    registry = CollectorRegistry()
    retry(on=OSError, name="shop", metrics=Metrics(registry))(str)()
    classic = reader().read(generate_latest(registry).decode())
    assert reader().read(generate_openmetrics(registry).decode()) == classic


@pytest.mark.parametrize("value", ["3", "3.0", "3 1700000000000", '3 # {trace_id="a"} 0.5 17.5'])
def test_timestamps_and_exemplars_change_nothing(value):
    reading = reader()
    assert reading.read(line(value)) == {"calls_total": {WELL: 3.0}}
    assert reading.read(line(value)) == {"calls_total": {WELL: 3.0}}


def test_labels_that_others_have_added_are_added_up():
    text = line(1, more=',pid="1"') + line(2, more=',pid="2"')
    assert reader().read(text) == {"calls_total": {WELL: 3.0}}


def test_what_is_not_finite_or_lacks_a_label_is_left_out():
    text = (
        line("NaN") + line("+Inf", "b") + 'mainstay_calls_total{component="c"} 1\n' + line(1, "d")
    )
    assert reader().read(text) == {"calls_total": {("d", "retry", "success"): 1.0}}


def test_series_that_are_gone_are_forgotten():
    reading = reader()
    for number in range(5):
        reading.read(line(1, f"component-{number}"))
    assert len(reading._known) == 1


@given(st.dictionaries(st.text(max_size=8), st.floats(0, 1e15), min_size=1, max_size=5))
def test_any_name_and_value_is_read_as_it_was_written(values):
    registry = CollectorRegistry()
    gauge = Gauge("mainstay_in_flight", "", ["component"], registry=registry)
    for name, value in values.items():
        gauge.labels(name).set(value)
    samples = reader(schema.IN_FLIGHT).read(generate_latest(registry).decode())
    assert samples["in_flight"] == {(name,): value for name, value in values.items()}


@given(st.text())
def test_any_text_is_read_or_refused_with_words(text):
    said = "read"
    try:
        reader().read(f"mainstay_calls_total{{{text}}} 1\n{text}")
    except ValueError as error:
        said = str(error)
    assert said.startswith(("read", "has a line that is no sample: mainstay_"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "answers with something else than metrics"),
        ("<html>mainstay_calls_total</html>", "answers with something else than metrics"),
        (
            "# TYPE up gauge\nup 1\n",
            "has metrics, but none of mainstay's: nothing is named mainstay_...",
        ),
        (
            line(1).replace("mainstay", "shop"),
            "has the namespace shop, not mainstay: --namespace",
        ),
        (
            line("one"),
            'has a line that is no sample: mainstay_calls_total{component="shop",po...',
        ),
        ("mainstay_calls_total{", "has a line that is no sample: mainstay_calls_total{"),
    ],
)
def test_what_is_no_exposition_of_ours_is_refused(text, said):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the message is compared
        reader().read(text)
    assert str(refused.value) == said


def test_another_namespace_can_be_read():
    text = line(1).replace("mainstay", "shop")
    assert reader(namespace="shop").read(text) == {"calls_total": {WELL: 1.0}}


def test_the_names_of_samples_are_those_that_are_exported():
    registry = CollectorRegistry()
    retry(on=OSError, name="shop", metrics=Metrics(registry))(str)()
    exported = {sample.name for family in registry.collect() for sample in family.samples}
    names = {f"mainstay_{name}" for family in schema.EVERY for name in sample_names(family)}
    assert exported - names == set()
