"""Real servers: a program under faults is scraped, rules load, alerts arrive, panels answer."""

import functools
import math
import time

import pytest
import yaml

from mainstay import ops
from support.monitoring import Program, alertmanager, page, prometheus, until, webhook
from support.processes import require_tool
from support.queries import as_sent, expressions, panels

pytestmark = pytest.mark.process

SOON = 10.0  # seconds from a member's death to the alert at the webhook


def rules_without_waiting():
    """Give the rules with every alert firing at once."""
    rules = yaml.safe_load(ops.rules())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    return yaml.safe_dump(rules)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """Run everything there is in production: program, Prometheus, Alertmanager, receiver."""
    require_tool("prometheus", package="prometheus")
    folder = tmp_path_factory.mktemp("system")
    rules = folder / "rules.yml"
    rules.write_text(rules_without_waiting())
    with (
        Program("under_faults.py") as program,
        webhook() as (address, alerts),
        alertmanager(folder, address) as receiver,
        page('mainstay_build_info{version="0"} 1\n') as (port, end),
        prometheus(
            folder,
            targets={"shop": program.port, "gone": port},
            rules=[rules],
            alertmanager=receiver,
        ) as server,
    ):
        until(lambda: len(server.query("count_over_time(up[1m]) >= 2")) == 2, "two scrapes")
        end()
        yield server, program, alerts


def test_every_query_of_the_dashboard_has_an_answer(system):
    """Those of the panels, of what is marked, and of the numbers in headings."""
    server, _, _ = system
    every = {*expressions()}
    empty = {*every}

    def all_answered():
        for expression in tuple(empty):
            if any(math.isfinite(value) for _, value in server.query(expression)):
                empty.discard(expression)
        return not empty

    try:
        until(all_answered, "data for every panel", patience=90.0)
    except AssertionError:
        assert sorted(empty) == []
    print(f"queries with an answer: {len(every) - len(empty)} of {len(every)}")


@pytest.mark.parametrize(
    ("title", "bad", "well"),
    [("Components", "refused", "copy"), ("Members and breakers", "deserted", "orders")],
)
def test_the_lines_of_a_panel_begin_with_what_is_bad(system, title, bad, well):
    server, _, _ = system
    (panel,) = [panel for panel in panels() if panel["title"] == title]
    expression = as_sent(panel["targets"][-1]["expr"])

    def begins():
        now = time.time()
        found = server.api("query_range", query=expression, start=now - 5, end=now, step=1)
        lines = [each["metric"]["component"] for each in found["result"]]
        return {bad, well} <= {*lines} and lines.index(bad) < lines.index(well)

    until(begins, f"{bad} before {well}", patience=40.0)  # what is so is asked at full 15 s


def test_every_rule_is_healthy(system):
    server, _, _ = system

    def evaluated():
        found = [rule for group in server.api("rules")["groups"] for rule in group["rules"]]
        return found if all(rule["health"] != "unknown" for rule in found) else None

    rules = until(evaluated, "the rules")
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    assert len(rules) == ops.rules().count("expr:")


def test_the_death_of_a_member_reaches_the_webhook(system):
    _, program, alerts = system
    killed = time.monotonic()
    program.tell("kill")
    while True:
        alert = alerts.get(timeout=60)
        about = alert["labels"]
        if about["alertname"] == "MainstayPoolDegraded" and about["component"] == "orders":
            break
    took = time.monotonic() - killed
    assert about["member"] == "primary"
    assert alert["annotations"]["summary"] == "primary of the pool orders is out of service"
    print(f"from the member's death to the webhook: {took:.1f} s")
    assert took < SOON


def test_the_first_failover_of_a_pool_is_seen(system):
    """The series of the pair appears with it, and stays at 1."""
    server, program, _ = system
    program.tell("kill")
    (failovers,) = [panel for panel in panels() if panel["title"] == "Failovers"]
    queries = {
        "panel": as_sent(failovers["targets"][0]["expr"], during="1h"),
        "rule": "job_component:mainstay_failovers:increase1h",
    }
    for name, query in queries.items():
        ejected = f'{query} and on (component) mainstay_failovers_total{{component="orders"}}'
        ((labels, count),) = until(functools.partial(server.query, ejected), f"the {name}")
        assert labels["component"] == "orders"
        assert count == 1


def test_an_outage_whose_exceptions_are_not_matched_raises_an_alert(system):
    server, program, _ = system
    program.tell("shut")

    def firing():
        return {
            alert["labels"]["component"]: alert
            for alert in server.api("alerts")["alerts"]
            if alert["labels"]["alertname"] == "MainstayMostlyNotRetryable"
            and alert["state"] == "firing"
        }

    alert = until(firing, "the alert")["catalogue"]
    assert alert["annotations"]["description"].startswith("100% of the calls ended")


def test_live_figures_are_those_of_availability_within_a_scrape(system):
    server, _, _ = system
    within = 2.0  # seconds: a scrape interval at either end

    def both():
        since_start = server.query('mainstay_availability_ratio{component="by-hand"}')
        rule = server.query('job_component:mainstay_availability:ratio1h{component="by-hand"}')
        return (since_start, rule) if since_start and rule else None

    ((labels, exact),), ((_, ruled),) = until(both, "the figures")
    ((_, seconds),) = server.query(
        'mainstay_component_uptime_seconds_total{component="by-hand"}'
        ' + mainstay_component_downtime_seconds_total{component="by-hand"}'
    )
    assert labels["job"] == "shop"
    assert abs(exact - ruled) * seconds < within
