"""The rules: what Prometheus accepts, what they are made of, and that the figures are right."""

import re
import subprocess

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mainstay import Availability, ops
from mainstay.ops._yaml import to_yaml
from mainstay.testing import FakeClock, recorded
from support.monitoring import promtool_test
from support.processes import require_tool
from support.queries import all_rules, exported_names, names_in


def check_rules(text):
    promtool = require_tool("promtool", package="prometheus")
    return subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", "/dev/stdin"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.process
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"slo": 0.5, "windows": ["7d"]},
        {"selector": 'job="api",env!~"te\\"st.*"', "namespace": "shop"},
        {"labels": {"team": 'the "a" team\n', "e": "\u00e9\u2028\U0001f600"}, "windows": ()},
    ],
    ids=["plain", "slo", "selector", "labels"],
)
def test_prometheus_accepts_the_rules(options):
    done = check_rules(ops.rules(**options))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_every_name_in_the_rules_is_in_the_schema_or_recorded():
    rules = all_rules()
    recorded_names = {rule["record"] for rule in rules if "record" in rule}
    used = set().union(*(names_in(rule["expr"]) for rule in rules))
    assert used - exported_names() - recorded_names == {"up"}


def test_every_rule_has_a_name_of_its_own():
    rules = all_rules(windows=("1h", "1h", "30d"))
    names = [rule.get("record") or rule["alert"] for rule in rules]
    assert len(names) == len(set(names))


def test_another_namespace_is_everywhere():
    for rule in all_rules(namespace="shop"):
        assert "mainstay_" not in rule["expr"]
        assert "mainstay" not in rule.get("record", "")


def test_a_selector_is_on_every_series_but_never_asks_up_for_what_it_does_not_have():
    for rule in all_rules(selector='job="api", component=~"a|b"'):
        written = rule["expr"]
        series = len(re.findall(r"(?<!:)\bmainstay_", written))
        assert written.count('job="api"') == series + len(re.findall(r"\bup{", written))
        assert written.count('component=~"a|b"') == series


def test_labels_are_on_every_rule_and_leave_the_severity():
    rules = all_rules(labels={"team": "x"})
    assert {rule["labels"]["team"] for rule in rules} == {"x"}
    assert {rule["labels"]["severity"] for rule in rules if "alert" in rule} == {"page", "ticket"}


def test_a_burn_rate_that_cannot_be_reached_is_left_out():
    by_slo = {
        slo: [rule["alert"] for rule in all_rules(slo=slo) if "alert" in rule]
        for slo in (0.5, 0.999)
    }
    assert set(by_slo[0.999]) - set(by_slo[0.5]) == {"MainstayErrorBudgetBurnsFast"}


def test_the_least_number_of_events_is_in_every_alert_on_a_share_of_calls():
    rules = all_rules(min_events=7_654)
    assert {rule["alert"] for rule in rules if ">= 7654" in rule["expr"]} == {
        "MainstayErrorBudgetBurnsFast",
        "MainstayErrorBudgetBurnsSlowly",
        "MainstayMostlyNotRetryable",
        "MainstayRecoveredShareRises",
        "MainstayRetryAmplification",
        "MainstayHedgeWasteHigh",
        "MainstayVotersDisagree",
        "MainstayRateLimitReached",
        "MainstayBulkheadSheds",
        "MainstayFallbackServed",
    }


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"slo": 0}, ValueError, "`slo` must be above 0 and below 1"),
        ({"slo": 1.0}, ValueError, "`slo` must be above 0 and below 1"),
        ({"slo": float("nan")}, ValueError, "`slo` must be above 0 and below 1"),
        ({"slo": "0.9"}, TypeError, "`slo` must be a number"),
        ({"min_events": 0}, ValueError, "`min_events` must be at least 1"),
        ({"min_events": 1.5}, TypeError, "`min_events` must be a whole number"),
        ({"min_events": True}, TypeError, "`min_events` must be a whole number"),
        ({"runbook_base": None}, TypeError, "`runbook_base` must be a str"),
        ({"runbook_base": "alerts.html"}, ValueError, "`runbook_base` must be the address"),
        ({"runbook_base": "https://a/b#c"}, ValueError, "`runbook_base` must be the address"),
        ({"runbook_base": "https://a/{{ x }}"}, ValueError, "`runbook_base` must be the address"),
        ({"selector": "job"}, ValueError, "`selector` must be conditions"),
        ({"selector": 'job="a'}, ValueError, "cannot read 'job=\"a'"),
        ({"selector": 'job="a" env="b"'}, ValueError, "`selector` must be conditions"),
        ({"selector": 'job=~"a\\.b"'}, ValueError, "`selector` must be conditions"),
        ({"selector": '__name__="up"'}, ValueError, "`selector` must be conditions"),
        ({"selector": None}, TypeError, "`selector` must be a str"),
        ({"namespace": "a-b"}, ValueError, "`namespace` must consist of"),
        ({"namespace": ""}, ValueError, "`namespace` must consist of"),
        ({"windows": "1h"}, TypeError, "`windows` must be several"),
        ({"windows": ["1y"]}, ValueError, "`windows` must be a number"),
        ({"windows": ["0h"]}, ValueError, "`windows` must be a number"),
        ({"windows": [60]}, TypeError, "`windows` must hold strings"),
        ({"labels": {"a-b": "c"}}, ValueError, "`labels` cannot have the name 'a-b'"),
        ({"labels": {"severity": "c"}}, ValueError, "`labels` cannot have the name 'severity'"),
        ({"labels": {"team": 1}}, TypeError, "`labels` must map strings"),
    ],
)
def test_bad_input_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        ops.rules(**options)


@pytest.mark.process
@pytest.mark.parametrize(
    "selector",
    ["", "  ", 'job="api"', 'job="api",', " job = 'it\\'s' , a=~`x\\d`", 'a!="",b!~"\\\\d+"'],
)
def test_selectors_that_prometheus_reads_are_taken(selector):
    done = check_rules(ops.rules(selector=selector))
    assert done.returncode == 0, done.stdout + done.stderr


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = TEXT | st.integers() | st.sampled_from(["yes", "null", "1e3", "a: b", "- a", "#", "a\nb"])
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, TREES, min_size=1, max_size=3))
def test_what_is_written_as_yaml_is_read_back(tree):
    assert yaml.safe_load(to_yaml(tree)) == tree


# The figures of `Availability` are those of the rules.


@pytest.mark.process
def test_the_rules_compute_the_figures_of_availability(tmp_path):
    """Series sampled at the edges of the window, from the counters of a real `Availability`."""
    minute = 60
    names = ("uptime_seconds", "downtime_seconds", "failures")
    samples = {name: [] for name in names}
    with FakeClock() as clock, recorded() as metrics:
        database = Availability("db")
        clock.advance(7 * minute)  # before the window
        with database.outage():
            clock.advance(31)
        clock.advance(minute - 31)
        for tick in range(61):
            for name in names:
                samples[name].append(metrics.value(f"component_{name}_total"))
            if tick in (10, 25, 40):
                with database.outage():
                    clock.advance(17 + tick)
                clock.advance(minute - 17 - tick)
            elif tick < 60:
                clock.advance(minute)
        figures = database.over(3_600)
    expected = {
        "availability:ratio1h": figures.availability,
        "failure_rate:per_second1h": figures.failure_rate,
        "mtbf_seconds:mean1h": figures.mtbf,
        "mttr_seconds:mean1h": figures.mttr,
        "reliability:ratio1h": figures.reliability(3_600),
        "reliability_linear:ratio1h": figures.reliability_linear(3_600),
    }
    assert figures.failures == 3
    labels = 'job="shop",instance="a:1"'
    (tmp_path / "rules.yml").write_text(ops.rules())
    tests = [
        {
            "interval": "1m",
            "input_series": [
                {"series": f"up{{{labels}}}", "values": "1x60"},
                *(
                    {
                        "series": f'mainstay_component_{name}_total{{{labels},component="db"}}',
                        "values": " ".join(map(repr, values)),
                    }
                    for name, values in samples.items()
                ),
            ],
            "promql_expr_test": [
                {
                    "expr": f"abs(job_component:mainstay_{name} - {value!r}) < bool 1e-6",
                    "eval_time": "60m",
                    "exp_samples": [{"labels": '{component="db", job="shop"}', "value": 1}],
                }
                for name, value in expected.items()
            ],
        }
    ]
    promtool_test(tmp_path / "rules.yml", tests)


@pytest.mark.process
def test_a_dead_process_counts_as_downtime_and_as_a_failure(tmp_path):
    """Ten of sixty minutes dead: the process's own counters know nothing of it."""
    labels = 'job="shop",instance="a:1"'
    uptime = "0+60x24 _x10 0+60x25"
    (tmp_path / "rules.yml").write_text(ops.rules())
    same = '{component="db", job="shop"}'
    tests = [
        {
            "interval": "1m",
            "input_series": [
                {"series": f"up{{{labels}}}", "values": "1x24 0x9 1x25"},
                *(
                    {
                        "series": f'mainstay_component_{name}_total{{{labels},component="db"}}',
                        "values": values,
                    }
                    for name, values in (
                        ("uptime_seconds", uptime),
                        ("downtime_seconds", "0x24 _x10 0x25"),
                        ("failures", "0x24 _x10 0x25"),
                    )
                ),
            ],
            "promql_expr_test": [
                {
                    "expr": f"round(job_component:mainstay_{name}, 0.001)",
                    "eval_time": "60m",
                    "exp_samples": [{"labels": same, "value": value}],
                }
                for name, value in (
                    ("availability:ratio1h", 0.836),
                    ("failures:increase1h", 1),
                )
            ],
        }
    ]
    promtool_test(tmp_path / "rules.yml", tests)
