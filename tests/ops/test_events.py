"""How often something happened: the first event is seen, also where a series is born with it.

`rate` and `increase` take the first sample of a series for the start. Pairs of members and of
states, and classes of errors, appear with their first event, so their first sample is 1.
"""

import pytest

from mainstay import ops
from mainstay.ops._promql import event_count
from support.monitoring import promtool_test
from support.queries import all_rules, as_sent, expressions, panels

TARGET = 'job="shop",instance="a:1"'
LAZY = (
    "failovers_total",
    "breaker_transitions_total",
    "errors_total",
    "dissents_total",
    "series_dropped_total",
    "give_ups_total",
    "call_duration_seconds_bucket",
)
"""Counters whose series may be born with their first event."""


def series(values, name="x_total", labels=""):
    return {"series": f"{name}{{{TARGET}{labels}}}", "values": values}


def counted(tmp_path, expression, expected, *given):
    """Check what an expression finds after an hour, of series of one sample a minute."""
    rules = tmp_path / "rules.yml"
    rules.write_text(ops.rules())
    found = {"expr": f"sum({expression})", "eval_time": "60m30s"}
    found["exp_samples"] = [] if expected is None else [{"labels": "{}", "value": expected}]
    tests = [{"interval": "1m", "input_series": [*given], "promql_expr_test": [found]}]
    promtool_test(rules, tests)


@pytest.mark.process
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param("_x50 1x30", 1, id="it is born with its first event"),
        pytest.param("_x50 1 1 3x30", 3, id="two more follow"),
        pytest.param("_x60 1", 1, id="it has been seen once"),
        pytest.param("_x20 1x10 _x40", 1, id="its process has ended"),
        pytest.param("_x20 1x10 stale _x10 1x40", 1, id="it is born twice, and looks the same"),
        pytest.param("_x20 2x10 stale _x10 1x10 2x40", 2, id="it is born twice, with less"),
        pytest.param("_x20 0x10 1x40", 1, id="it starts at 0"),
        pytest.param("0x40 1x40", 1, id="it was there before"),
        pytest.param("7x30 8 9 10x40", 3, id="it was there before, and not at 0"),
        pytest.param("5x30 0 1x40", 1, id="it was set back"),
        pytest.param("5x80", 0, id="nothing happened"),
        pytest.param("_x80", None, id="there is nothing"),
    ],
)
def test_events_are_whole_and_the_first_is_one_of_them(tmp_path, values, expected):
    counted(tmp_path, event_count("x_total", "1h"), expected, series(values))


def panel_query(title):
    (panel,) = [each for each in panels() if each["title"] == title]
    (target,) = panel["targets"]
    return as_sent(target["expr"], interval="5m", during="1h")


PAIR = ',component="db",from_member="a",to_member="b",reason="ejected"'
STATES = ',component="mail",from_state="closed",to_state="open"'
ERROR = ',component="api",policy="retry",error_type="ConnectionError"'


@pytest.mark.process
@pytest.mark.parametrize(
    ("title", "name", "labels"),
    [
        ("Failovers", "failovers_total", PAIR),
        ("Changes of state", "breaker_transitions_total", STATES),
        ("Errors by class", "errors_total", ERROR),
        ("Ejections", "ejections_total", ',component="db",member="a",cause="rate"'),
        ("Failures", "component_failures_total", ',component="db"'),
        ("Resumed runs", "checkpoint_resumes_total", ',component="import",reason="crash"'),
    ],
)
def test_a_panel_shows_the_first_event_as_1(tmp_path, title, name, labels):
    counted(tmp_path, panel_query(title), 1, series("_x60 1", f"mainstay_{name}", labels))


@pytest.mark.process
def test_a_panel_shows_the_first_wait_whole(tmp_path):
    """In a pipeline, the series is born with it."""
    born = series("_x60 0.25", "mainstay_wait_seconds_total", ',component="api"')
    counted(tmp_path, panel_query("Time spent waiting"), 0.25, born)


@pytest.mark.process
def test_a_rule_counts_the_first_failover(tmp_path):
    rule = "job_component:mainstay_failovers:increase1h"
    counted(tmp_path, rule, 1, series("_x50 1x30", "mainstay_failovers_total", PAIR))


@pytest.mark.process
def test_a_rule_counts_failed_calls_without_those_that_are_not_retryable(tmp_path):
    rule = "job_component_policy:mainstay_call_errors:increase1h"
    calls, reasons = (f"mainstay_{name}_total" for name in ("calls", "give_ups"))
    call = ',component="api",policy="retry"'
    given = (
        series("_x50 15x30", calls, f'{call},outcome="error"'),
        series("0x50 2x30", calls, f'{call},outcome="timeout"'),
        series("_x50 99x30", calls, f'{call},outcome="success"'),
        series("_x50 5x30", reasons, f'{call},reason="not_retryable"'),
        series("_x50 4x30", reasons, f'{call},reason="predicate_error"'),
    )
    counted(tmp_path, rule, 12, *given)


@pytest.mark.parametrize("name", LAZY)
def test_no_query_asks_for_the_growth_alone_where_a_series_is_born_with_its_first_event(name):
    for query in [*expressions(), *(rule["expr"] for rule in all_rules())]:
        assert f"rate(mainstay_{name}" not in query
        whole = query.count(f"round(increase(mainstay_{name}")
        assert query.count(f"increase(mainstay_{name}") == whole
        assert query.count(f"max_over_time(mainstay_{name}") == whole
