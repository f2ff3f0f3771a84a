"""What Prometheus reads is well formed, whatever names and errors the program has."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from mainstay import Metrics, retry
from mainstay._metrics import schema
from mainstay.testing import FakeClock, Faults
from support.processes import require_tool

NAMES = [
    "plain",
    "line\nbreak",
    'quote " and backslash \\ and {brace}',
    "backslash before n \\n",
    "r\u00e9silience \u65e5\u672c \U0001f6df",
    "tab\t return\r null\0 separator\u2028",
    " spaces ",
    "a" * 5_000,
]
SURROGATES = ["lone \ud800 surrogate", "lone \udfff surrogate"]


def run(metrics: Metrics, name: str) -> None:
    """Let every family have samples of *name*."""
    with FakeClock():
        policy = retry(on=ConnectionError, name=name, attempts=3, wait=1, metrics=metrics)
        policy.call(int)
        policy.call(Faults([ConnectionError(), "value"]))
        with pytest.raises(ConnectionError):
            policy.call(Faults(then=ConnectionError))


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def full(registry: CollectorRegistry) -> CollectorRegistry:
    metrics = Metrics(registry)
    for name in (*NAMES, *SURROGATES):
        run(metrics, name)
    return registry


def text(registry: CollectorRegistry) -> Iterator[Any]:
    return parse_text(generate_latest(registry).decode())


def openmetrics(registry: CollectorRegistry) -> Iterator[Any]:
    return parse_openmetrics(generate_openmetrics(registry).decode())


@pytest.mark.parametrize("parsed", [text, openmetrics])
def test_every_name_comes_out_as_it_went_in(parsed: Any, full: CollectorRegistry) -> None:
    components = {s.labels["component"] for m in parsed(full) if m.name == "mainstay_calls"
                  for s in m.samples}  # fmt: skip
    assert components == {*NAMES, "lone ? surrogate"}


@pytest.mark.parametrize("parsed", [text, openmetrics])
def test_both_formats_give_the_same_samples_as_the_collector(
    parsed: Any, full: CollectorRegistry
) -> None:
    def samples(families: Any) -> dict[Any, float]:
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    assert samples(parsed(full)) == samples(full.collect())


@pytest.mark.parametrize("parsed", [text, openmetrics])
def test_both_formats_name_every_family_with_its_type_and_help(
    parsed: Any, full: CollectorRegistry
) -> None:
    families = {m.name: (m.type, m.documentation) for m in parsed(full)}
    assert families == {
        f"mainstay_{f.name.removesuffix('_total')}": (f.kind, f.help) for f in schema.FAMILIES
    }


def test_names_that_differ_in_what_cannot_be_encoded_are_one_component(
    full: CollectorRegistry,
) -> None:
    labels = {"component": "lone ? surrogate", "policy": "retry", "outcome": "recovered"}
    assert full.get_sample_value("mainstay_calls_total", labels) == 2


def test_error_types_with_strange_names_come_out(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    names = ["Gr\u00f6\u00dfer", 'With " quote', "With\nbreak"]
    for name in names:
        error = type(name, (Exception,), {})
        with pytest.raises(error):
            retry(on=ConnectionError, name="work", metrics=metrics).call(Faults([error]))
    types = [s.labels["error_type"] for m in text(registry) if m.name == "mainstay_errors"
             for s in m.samples]  # fmt: skip
    assert types == names


def test_an_empty_registry_is_well_formed(registry: CollectorRegistry) -> None:
    Metrics(registry)
    in_text = {s.name for m in text(registry) for s in m.samples}
    in_openmetrics = {s.name for m in openmetrics(registry) for s in m.samples}
    assert (
        in_text
        == in_openmetrics
        == {
            "mainstay_build_info",
            "mainstay_hook_errors_total",
            "mainstay_wire_errors_total",
        }
    )


def test_labels_are_those_of_the_schema_in_order(full: CollectorRegistry) -> None:
    families = {f"mainstay_{f.name.removesuffix('_total')}": f.labels for f in schema.FAMILIES}
    for metric in full.collect():
        names = {tuple(name for name in s.labels if name != "le") for s in metric.samples}
        assert names <= {families[metric.name]}


def test_no_component_makes_more_than_the_series_of_its_layouts(
    registry: CollectorRegistry,
) -> None:
    metrics = Metrics(registry)
    run(metrics, "one")
    of_one = sum(len(m.samples) for m in registry.collect())
    run(metrics, "two")
    of_two = sum(len(m.samples) for m in registry.collect())
    of_none = 1 + len(schema.HOOKS) + len(schema.WIRE_HEADERS)  # those without a component
    assert of_two - of_one == of_one - of_none
    assert of_one - of_none < 45


def test_the_exposition_stays_bounded_under_many_components_and_error_types(
    registry: CollectorRegistry,
) -> None:
    metrics = Metrics(registry)
    policies = [
        retry(on=ConnectionError, name=f"{n}", metrics=metrics)(Faults()) for n in range(1_100)
    ]
    errors = [type(f"Error{number}", (Exception,), {}) for number in range(200)]
    fails = retry(on=ConnectionError, name="0", metrics=metrics)
    for error in errors:
        with pytest.raises(error):
            fails.call(Faults([error]))
    before = sum(len(m.samples) for m in registry.collect())
    assert before < (schema.MOST_COMPONENTS + 1) * 45
    for call in policies:
        call()
    assert sum(len(m.samples) for m in registry.collect()) == before


@pytest.mark.process
def test_promtool_finds_nothing_to_complain_about(full: CollectorRegistry) -> None:
    promtool = require_tool("promtool", package="prometheus")
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=generate_latest(full),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_a_missing_tool_is_a_skip_that_names_its_package_and_in_ci_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MAINSTAY_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="Debian package nothing-has-it"):
        require_tool("no-such-tool", package="nothing-has-it")
    monkeypatch.setenv("MAINSTAY_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="Debian package nothing-has-it"):
        require_tool("no-such-tool", package="nothing-has-it")
