"""`Availability`: exact figures on a clock under control, and what Prometheus gets of them."""

import gc
import json
import math
import threading

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from mainstay import Availability, Metrics
from mainstay._core.clock import SystemClock
from mainstay._core.dependability import MOST_POINTS, DependabilityFigures, OutageLog
from mainstay._metrics.multiprocess import VARIABLE
from mainstay.testing import FakeClock, recorded
from support.contexts import OnClock
from support.processes import program


@pytest.fixture
def clock():
    with FakeClock() as clock:
        yield clock


@pytest.fixture
def metrics():
    with recorded() as metrics:
        yield metrics


# The figures since the start.


def test_figures_are_exact(clock, metrics):
    database = Availability("database")
    for up, down in ((1_000, 60), (2_000, 180), (240, 120)):
        clock.advance(up)
        with database.outage():
            clock.advance(down)
    assert database.availability == 3_240 / 3_600
    assert database.failure_rate == 3 / 3_240
    assert database.mtbf == 1_080
    assert database.mttr == 120
    assert database.reliability(3_600) == pytest.approx(math.exp(-3.0 / 3_240 * 3_600), rel=1e-15)
    assert database.reliability_linear(270) == 0.75


def test_no_time_at_all_is_survived(clock, metrics):
    database = Availability("database")
    database.fail()
    assert (database.reliability(0), database.reliability_linear(0)) == (1.0, 1.0)


def test_the_linear_form_is_never_below_zero(clock, metrics):
    database = Availability("database")
    clock.advance(100)
    database.fail()
    assert database.reliability_linear(1_000) == 0


def test_overlapping_outages_are_one_failure(clock, metrics):
    database = Availability("database")
    clock.advance(10)
    database.fail()
    clock.advance(5)
    with database.outage():
        clock.advance(5)
    database.fail()
    database.restore()
    clock.advance(10)
    database.restore()
    clock.advance(10)
    assert database.over(1_000) == DependabilityFigures(
        uptime=20, downtime=20, failures=1, repairs=1, repaired=20
    )


def test_an_open_outage_counts_as_downtime_and_not_yet_as_repaired(clock, metrics):
    database = Availability("database")
    clock.advance(30)
    database.fail()
    clock.advance(10)
    assert database.availability == 0.75
    assert math.isnan(database.mttr)
    assert database.mtbf == 30


def test_figures_of_no_time_at_all(clock, metrics):
    database = Availability("database")
    assert math.isnan(database.availability)
    assert database.failure_rate == 0
    assert database.mtbf == math.inf
    assert database.reliability(60) == 1


def test_a_failure_without_any_uptime_is_an_infinite_rate(clock, metrics):
    database = Availability("database")
    database.fail()
    clock.advance(1)
    assert database.failure_rate == math.inf
    assert database.reliability(1) == 0
    assert database.reliability(0) == 1
    assert database.reliability_linear(1) == 0


def test_an_exception_ends_the_outage_block(clock, metrics):
    database = Availability("database")
    with pytest.raises(KeyError), database.outage():
        raise KeyError("lost")
    assert repr(database) == "<Availability of 'database': up>"


# A sliding window.


def test_a_window_begins_inside_an_outage(clock, metrics):
    database = Availability("database")
    clock.advance(100)
    with database.outage():
        clock.advance(40)
    clock.advance(60)
    window = database.over(80)
    assert window == DependabilityFigures(
        uptime=60, downtime=20, failures=0, repairs=1, repaired=40
    )
    assert window.availability == 0.75
    assert window.mttr == 40


def test_a_window_longer_than_the_life_is_the_time_since_the_start(clock, metrics):
    database = Availability("database")
    clock.advance(10)
    with database.outage():
        clock.advance(10)
    assert database.over(86_400).availability == database.availability


def test_history_is_bounded_and_the_totals_are_not(clock, metrics):
    outages = MOST_POINTS
    log = OutageLog.opened(0.0)
    for number in range(outages):
        log = log.failed(2.0 * number + 1).restored(2.0 * number + 2)
    end = 2.0 * outages
    assert log.figures(end).failures == outages
    assert log.figures(end, 10.0) == DependabilityFigures(5.0, 5.0, 5, 5, 5.0)
    remembered = log.figures(end, end - 0.5)
    assert remembered.uptime + remembered.downtime == pytest.approx(MOST_POINTS, abs=64)


@attrs.frozen
class Step:
    seconds: int
    fails: bool


STEPS = st.lists(st.builds(Step, st.integers(0, 50), st.booleans()), max_size=30)


@given(steps=STEPS, window=st.integers(1, 500))
def test_a_ledger_agrees_with_counting_second_by_second(steps, window):
    log, now, depth = OutageLog.opened(0.0), 0, 0
    was_down = []  # second by second
    starts, ends, began = [], [], 0
    for step in steps:
        was_down += [depth > 0] * step.seconds
        now += step.seconds
        if step.fails:
            log, depth = log.failed(now), depth + 1
            if depth == 1:
                starts.append(now)
                began = now
        elif depth:
            log, depth = log.restored(now), depth - 1
            if depth == 0:
                ends.append((now, now - began))
    start = max(0, now - window)
    repaired = [length for end, length in ends if end > start]
    figures = log.figures(now, window)
    assert figures.downtime == sum(was_down[start:])
    assert figures.uptime == now - start - sum(was_down[start:])
    if start > 0:
        assert figures.failures == len([each for each in starts if each > start])
        assert (figures.repairs, figures.repaired) == (len(repaired), sum(repaired))
    else:
        assert figures.failures == len(starts)
        assert (figures.repairs, figures.repaired) == (len(ends), sum(le for _, le in ends))


# Bad input.


def test_restoring_what_has_not_failed_is_refused(clock, metrics):
    database = Availability("database")
    with database.outage():
        pass
    with pytest.raises(ValueError, match="database: `restore` was called without a `fail`"):
        database.restore()


@pytest.mark.parametrize("window", [0, -1, math.nan, math.inf])
def test_a_window_must_be_a_time(clock, metrics, window):
    with pytest.raises(ValueError, match="`window` must be finite"):
        Availability("database").over(window)


def test_a_period_must_be_a_time(clock, metrics):
    with pytest.raises(ValueError, match="`period` must be finite"):
        Availability("database").reliability(-1)
    with pytest.raises(TypeError, match="`period` must be seconds"):
        Availability("database").reliability_linear("1h")


@pytest.mark.parametrize(("name", "error"), [(None, TypeError), (3, TypeError), ("", ValueError)])
def test_a_name_must_be_a_string(metrics, name, error):
    with pytest.raises(error, match="`name` must"):
        Availability(name)


class Backwards(SystemClock):
    """A clock that somebody sets."""

    time = 100.0

    def now(self):
        return self.time


def test_a_clock_that_goes_backwards_is_refused_and_breaks_no_scrape(metrics):
    clock = Backwards()
    with OnClock(clock):
        database = Availability("database")
    clock.time = 110.0
    database.fail()
    clock.time = 90.0
    with pytest.raises(ValueError, match=r"database: the clock went back from 110.0 to 90.0"):
        database.restore()
    with pytest.raises(ValueError, match="database: the clock went back"):
        _ = database.availability
    assert metrics.value("component_uptime_seconds_total") == 10
    assert metrics.value("component_up", component="database") == 0


# What Prometheus gets.


def test_all_series_are_exported(clock, metrics):
    database = Availability("database")
    clock.advance(90)
    with database.outage():
        clock.advance(10)
    seen = {
        sample.name: sample.value
        for metric in metrics.collect()
        for sample in metric.samples
        if sample.labels == {"component": "database"}
    }
    assert seen == {
        "mainstay_component_up": 1,
        "mainstay_component_uptime_seconds_total": 90,
        "mainstay_component_downtime_seconds_total": 10,
        "mainstay_component_failures_total": 1,
        "mainstay_availability_ratio": 0.9,
        "mainstay_failure_rate_per_second": 1 / 90,
        "mainstay_mtbf_seconds": 90,
        "mainstay_mttr_seconds": 10,
    }


def test_time_goes_on_between_scrapes_without_any_event(clock, metrics):
    database = Availability("database")
    clock.advance(10)
    assert metrics.value("component_uptime_seconds_total") == 10
    database.fail()
    clock.advance(5)
    assert metrics.value("component_downtime_seconds_total") == 5
    clock.advance(5)
    assert metrics.value("component_downtime_seconds_total") == 10
    assert metrics.value("component_uptime_seconds_total") == 10


def test_what_is_not_known_yet_is_absent(clock):
    registry = CollectorRegistry()
    database = Availability("database", metrics=Metrics(registry))
    labels = {"component": "database"}
    assert registry.get_sample_value("mainstay_component_up", labels) == 1
    assert registry.get_sample_value("mainstay_availability_ratio", labels) is None
    assert registry.get_sample_value("mainstay_mttr_seconds", labels) is None
    assert registry.get_sample_value("mainstay_component_failures_total", labels) == 0
    assert database.mtbf == math.inf


def test_several_of_one_name_count_together(clock, metrics):
    first, second = Availability("database"), Availability("database")
    clock.advance(10)
    first.fail()
    assert metrics.value("component_up") == 0
    assert metrics.value("component_uptime_seconds_total") == 20
    first.restore()
    second.fail()
    assert metrics.value("component_up") == 0
    assert metrics.value("component_failures_total") == 2


def test_the_gauges_of_what_is_gone_end_and_its_counters_stay(clock):
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    database = Availability("database", metrics=metrics)
    clock.advance(10)
    database.fail()
    del database
    gc.collect()
    labels = {"component": "database"}
    assert registry.get_sample_value("mainstay_component_up", labels) is None
    assert registry.get_sample_value("mainstay_mtbf_seconds", labels) is None
    assert registry.get_sample_value("mainstay_component_uptime_seconds_total", labels) == 10


def test_outages_from_many_threads_balance(metrics):
    database = Availability("database")
    ready = threading.Barrier(4)

    def work():
        ready.wait()
        for _ in range(500):
            with database.outage():
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    figures = database.over(3_600)
    assert repr(database) == "<Availability of 'database': up>"
    assert figures.failures == figures.repairs
    assert metrics.value("component_failures_total") == figures.failures


# In multiprocess mode.


@pytest.mark.process
def test_worker_processes_count_their_own_time_once(tmp_path):
    all_time, after_a_hook = json.loads(program("outages.py", **{VARIABLE: str(tmp_path)}))
    assert all_time == {
        "component_uptime_seconds_total": 35,
        "component_downtime_seconds_total": 3,
        "component_failures_total": 2,
        "component_up": 0,  # the child, which saw it up, has ended
    }
    assert after_a_hook == all_time


@pytest.mark.process
def test_the_time_of_a_worker_goes_on_without_any_event(tmp_path):
    printed = program("outages.py", "time", **{VARIABLE: str(tmp_path)})
    assert json.loads(printed) == "<Availability of 'db': up>"
