"""Availability, and the counters of uptime, under threads, scrapes and signal handlers."""

import copy
import pickle
import sys
import threading
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from mainstay import Availability, CircuitBreaker, Metrics
from mainstay._core.clock import SystemClock
from mainstay._core.dependability import MOST_POINTS, OutageLog
from mainstay.availability import follow
from support.contexts import OnClock
from support.interruptions import at_each_interruption
from support.processes import python

NAMES = ("component_uptime_seconds_total", "component_downtime_seconds_total",
         "component_failures_total")  # fmt: skip


class Interrupted(SystemClock):
    """A clock under control, in whose readings something else happens."""

    def __init__(self):
        self.time, self.meanwhile = 100.0, None

    def now(self):
        reading, meanwhile, self.meanwhile = self.time, self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return reading


@pytest.fixture
def clock():
    clock = Interrupted()
    with OnClock(clock):
        yield clock


def check(metrics, last):
    for metric in metrics.collect():
        for sample in metric.samples:
            name = sample.name.removeprefix("mainstay_")
            if name in last:
                assert sample.value >= last[name]
                last[name] = sample.value


@pytest.fixture
def counters():
    """Read the counters of a component; they must never be less than at the time before."""
    metrics = Metrics(CollectorRegistry())
    last = dict.fromkeys(NAMES, 0.0)

    def read():
        check(metrics, last)
        return tuple(last.values())

    read.metrics = metrics
    return read


# Counters never go down.


@pytest.mark.parametrize("down", [False, True])
def test_a_scrape_between_a_reading_and_a_change_takes_nothing_back(clock, counters, down):
    database = Availability("db", metrics=counters.metrics)
    clock.time += 10
    if down:
        database.fail()
        clock.time += 10
    seen = []

    def scrape():
        clock.time += 5
        seen.append(counters())

    clock.meanwhile = scrape
    if down:
        database.restore()
    else:
        database.fail()
    clock.time += 1
    after = counters()
    assert seen == [(10.0, 15.0, 1.0) if down else (15.0, 0.0, 0.0)]
    assert after == ((11.0, 15.0, 1.0) if down else (15.0, 1.0, 1.0))


def test_figures_that_were_read_are_not_taken_back_either(clock, counters):
    database = Availability("db", metrics=counters.metrics)
    clock.time += 10
    seen = []

    def read():
        clock.time += 5
        seen.append(database.over(1_000).uptime)

    clock.meanwhile = read
    database.fail()
    assert seen == [15.0]
    assert database.over(1_000).uptime == 15.0


class Database:
    """An `Availability` on a clock that something may come into, and how many outages are open."""

    def __init__(self):
        self.clock, self.metrics = Interrupted(), Metrics(None)
        self.last, self.outages = dict.fromkeys(NAMES, 0.0), 0
        with OnClock(self.clock):
            self.availability = Availability("db", metrics=self.metrics)

    def fail(self):
        self.availability.fail()
        self.outages += 1

    def restore(self):
        if self.outages:
            self.outages -= 1
            self.availability.restore()

    def scrape(self):
        check(self.metrics, self.last)

    def pass_over(self, action):
        self.clock.time += 3
        getattr(self, action)()


ACTIONS = st.sampled_from(["fail", "restore", "scrape"])


@given(st.lists(st.tuples(ACTIONS, st.integers(0, 20), st.none() | ACTIONS), max_size=40))
def test_no_counter_goes_down_whatever_comes_in_between(steps):
    database = Database()
    for action, seconds, between in steps:
        database.clock.time += seconds
        database.clock.meanwhile = between and partial(database.pass_over, between)
        getattr(database, action)()
        database.clock.meanwhile = None
    database.scrape()
    up, down, _ = database.last.values()
    assert up + down == database.clock.time - 100
    assert repr(database.availability).endswith("up>") == (database.outages == 0)


# Threads.


def test_outages_and_scrapes_from_many_threads_are_exact(counters):
    database, ready, ended = (
        Availability("db", metrics=counters.metrics),
        threading.Barrier(5),
        threading.Event(),
    )

    def work():
        ready.wait()
        for _ in range(1_000):
            with database.outage():
                pass

    def scrape():
        ready.wait()
        while not ended.is_set():
            counters()

    threads = [threading.Thread(target=work) for _ in range(4)]
    scraper = threading.Thread(target=scrape)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for each in (*threads, scraper):
            each.start()
        for each in threads:
            each.join()
    finally:
        sys.setswitchinterval(interval)
        ended.set()
        scraper.join()
    figures = database.over(3_600)
    assert repr(database) == "<Availability of 'db': up>"
    assert figures.failures == figures.repairs
    assert counters()[2] == figures.failures


def test_a_change_is_made_by_one_thread_at_a_time(counters):
    """Without a lock, the comparison before the replacement is atomic by the GIL only."""
    database = Availability("db", metrics=counters.metrics)
    track, inside, most = database._track, [], []

    def step(log, now):
        inside.append(None)
        most.append(len(inside))
        time.sleep(0.0001)
        inside.pop()
        return log.failed(now)

    threads = [
        threading.Thread(target=lambda: [track.change(step) for _ in range(20)]) for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert max(most) == 1
    assert track._log.depth == 80


def test_a_handler_in_the_middle_of_a_change_is_counted_too(clock, counters):
    database = Availability("db", metrics=counters.metrics)
    clock.meanwhile = database.fail
    database.fail()
    database.restore()
    assert repr(database) == "<Availability of 'db': down>"
    database.restore()
    assert counters()[2] == 1.0


FORKED = """
import os, threading
from mainstay import Availability, Metrics, availability
from mainstay._metrics import uptime

database = Availability("db", metrics=Metrics(None))

def hold(lock):
    held = threading.Event()
    def run():
        with lock:
            held.set()
            threading.Event().wait()
    threading.Thread(target=run, daemon=True).start()
    held.wait()

hold(availability._lock)
hold(uptime._lock)
child = os.fork()
if not child:
    with database.outage():
        pass
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0)
"""


@pytest.mark.process
def test_a_child_finds_the_locks_of_an_availability_free():
    assert python("-W", "ignore", "-c", FORKED).strip() == "0"


# Bounded work.


def test_an_outage_copies_no_more_of_the_past_the_longer_it_is():
    log = OutageLog.opened(0.0)
    known = set()
    for number in range(3 * MOST_POINTS):
        log = log.failed(2.0 * number + 1).restored(2.0 * number + 2)
        parts = {id(each): len(each) for each in (log.history.recent, *log.history.blocks)}
        assert max(len(log.history.blocks), *parts.values()) <= 65
        new = parts.keys() - known
        assert len(new) <= 2
        known = set(parts)
    assert log.figures(2.0 * number + 2).failures == 3 * MOST_POINTS


def test_what_is_remembered_is_found_at_any_distance():
    log, outages = OutageLog.opened(0.0), 3_000
    for number in range(outages):
        log = log.failed(2.0 * number + 1).restored(2.0 * number + 2)
    end = 2.0 * outages
    for outage in (1, 2, 31, 32, 33, 64, 100, 1_000, 2_000, 2_047):
        figures = log.figures(end, 2.0 * outage)
        assert (figures.failures, figures.uptime, figures.downtime) == (outage, outage, outage)


def test_what_is_forgotten_is_left_out_and_the_totals_are_whole():
    log, outages = OutageLog.opened(0.0), 3_000
    for number in range(outages):
        log = log.failed(2.0 * number + 1).restored(2.0 * number + 2)
    end, oldest = 2.0 * outages, log.history.oldest
    assert oldest is log.history.blocks[0][0]
    assert log.figures(end, end) == log.figures(end) == log.figures(end, 2 * end)
    assert log.figures(end).failures == outages
    remembered = log.figures(end, end - 1)
    assert remembered == log.figures(end, end - oldest.when)
    assert remembered.uptime + remembered.downtime == end - oldest.when
    assert remembered.failures == outages - oldest.total.failures


def test_a_span_begins_after_what_happens_at_its_first_moment():
    log = OutageLog.opened(0.0)
    for number in range(200):
        log = log.failed(2.0 * number + 1).restored(2.0 * number + 2)
    for point in (log.history.recent[0], log.history.blocks[-1][0], log.history.recent[1]):
        figures = log.figures(400.0, 400.0 - point.when)
        assert figures == log.figures(400.0) - point.total


# Copies.


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_an_availability_has_no_copy(counters, copied):
    with pytest.raises(TypeError, match="<Availability of 'db': up> cannot be copied or pickled"):
        copied(Availability("db", metrics=counters.metrics))


# Signal handlers.


def is_shown_as_down(registry):
    return registry.get_sample_value("mainstay_component_up", {"component": "db"}) == 0


@pytest.mark.parametrize("handled", ["open", "close"])
def test_a_handler_may_open_a_breaker_that_is_closed_just_now_and_close_it(handled):
    """Its outage was counted twice, or ended before it began: a ValueError in the handler."""

    def attempt():
        registry = CollectorRegistry()
        breaker = CircuitBreaker("db", on=OSError, metrics=Metrics(registry))
        if handled == "open":
            breaker.open()

        def check():
            assert is_shown_as_down(registry) == (breaker.state == "open")
            assert breaker._bound.engine.is_open == (breaker.state == "open")

        if handled == "open":
            return breaker.close, breaker.open, check
        return breaker.open, breaker.close, check

    assert at_each_interruption(attempt) > 100


@pytest.mark.parametrize("down", [True, False])
def test_a_handler_may_bring_back_what_goes_down_just_now_and_take_it_down(down):
    def attempt():
        registry = CollectorRegistry()
        availability = Availability("db", metrics=Metrics(registry))
        here = {"down": False}

        def is_now(state):
            here["down"] = state
            follow(availability, lambda: here["down"])

        def check():
            assert is_shown_as_down(registry) == here["down"]

        is_now(not down)
        return partial(is_now, down), partial(is_now, not down), check

    assert at_each_interruption(attempt) > 20


def test_a_change_of_one_source_asks_no_other_one():
    """A thousand breakers share `_other`: each change read the figures of them all."""

    class Counting(SystemClock):
        readings = 0

        def now(self):
            self.readings += 1
            return super().now()

    clock = Counting()
    with OnClock(clock):
        metrics = Metrics(CollectorRegistry())
        sources = [Availability("database", metrics=metrics) for _ in range(50)]
        before = clock.readings
        sources[0].fail()
        assert clock.readings - before < 5
        list(metrics.collect())
        assert clock.readings - before >= 50
