"""The long windows, over days of data that are written into a real Prometheus beforehand."""

import subprocess
import time

import pytest

from mainstay import Availability, ops
from mainstay.testing import FakeClock, recorded
from support.monitoring import prometheus, until
from support.processes import require_tool

pytestmark = pytest.mark.process

DAY = 86_400
STEP = 300  # seconds between samples
RECENT = 4 * DAY  # of the time before only two samples a day: promtool is slow per two hours
DAYS = 31
EVERY = 6 * 3_600  # an outage in so many seconds
COUNTERS = ("uptime_seconds", "downtime_seconds", "failures")


def samples_of_a_month(end):
    """Give the counters of a real `Availability` that fails every six hours, and its figures."""
    rows = []
    with FakeClock() as clock, recorded():
        database = Availability("db")
        for number in range(DAYS * DAY // STEP + 1):
            when = end - DAYS * DAY + number * STEP
            so_far = database.over(2 * DAYS * DAY)
            if end - when <= RECENT or number * STEP % (DAY // 2) == 0:
                rows.append((when, [so_far.uptime, so_far.downtime, so_far.failures]))
            if number * STEP % EVERY == EVERY - STEP:
                with database.outage():
                    clock.advance(120)
                clock.advance(STEP - 120)
            else:
                clock.advance(STEP)
        return rows, database.over(30 * DAY)


def openmetrics(rows):
    """Write the counters, calls that burn an error budget slowly, and `up`."""
    target = 'job="shop",instance="a:1"'
    yield "# TYPE up gauge"
    yield from (f"up{{{target}}} 1 {when}" for when, _ in rows)
    for place, name in enumerate(COUNTERS):
        yield f"# TYPE mainstay_component_{name} counter"
        series = f'mainstay_component_{name}_total{{{target},component="db"}}'
        yield from (f"{series} {values[place]} {when}" for when, values in rows)
    call = f'{target},component="api",policy="retry"'
    yield "# TYPE mainstay_calls counter"
    for outcome, per_step in (("success", 995), ("error", 5)):
        series = f'mainstay_calls_total{{{call},outcome="{outcome}"}}'
        last_days = enumerate(rows[-RECENT // STEP :])
        yield from (f"{series} {per_step * n} {when}" for n, (when, _) in last_days)
    yield "# EOF"


@pytest.mark.timeout(240)
def test_a_month_of_data_gives_the_figures_of_a_month(tmp_path):
    promtool = require_tool("promtool", package="prometheus")
    rows, figures = samples_of_a_month(int(time.time()))
    history = tmp_path / "history.txt"
    history.write_text("\n".join(openmetrics(rows)) + "\n")
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", history, tmp_path / "data"],
        check=True,
        capture_output=True,
        timeout=120,
    )
    rules = tmp_path / "rules.yml"
    rules.write_text(ops.rules())
    with prometheus(tmp_path, rules=[rules]) as server:

        def recorded_as(name):
            found = until(lambda: server.query(f"job_component:mainstay_{name}"), name)
            return found[0][1]

        # The window moves on while the test runs, and its edges are not samples any more.
        about = 1e-3
        assert recorded_as("availability:ratio30d") == pytest.approx(
            figures.availability, rel=about
        )
        assert recorded_as("mtbf_seconds:mean30d") == pytest.approx(figures.mtbf, rel=0.02)
        assert recorded_as("mttr_seconds:mean30d") == pytest.approx(figures.mttr, rel=0.02)
        assert recorded_as("failures:increase1d") == pytest.approx(4, rel=0.3)

        def firing():
            alerts = server.api("alerts")["alerts"]
            return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

        until(lambda: "MainstayErrorBudgetBurnsSlowly" in firing(), "the alert of three days")
        assert "MainstayErrorBudgetBurnsFast" not in firing()
