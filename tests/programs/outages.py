"""Outages in two processes of multiprocess mode; prints what a scrape sees, as JSON.

With the argument "time" it only waits until the uptime of a component that nothing happens to has
grown, in this process and in a forked one.
"""

import json
import os
import sys
import time
import warnings

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from mainstay import Availability
from mainstay._metrics.writer import finish_all
from mainstay.testing import FakeClock

PATIENCE = 15.0
warnings.simplefilter("ignore", DeprecationWarning)  # of forks while there are threads


def scrape():
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return {
        sample.name.removeprefix("mainstay_"): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.labels.get("component") == "db"
    }


def in_child(work):
    child = os.fork()
    if not child:
        work()
        finish_all()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0
    return child


def outages():
    with FakeClock() as clock:
        database = Availability("db")
        clock.advance(10)

        def fail_and_recover():
            clock.advance(5)
            with database.outage():
                clock.advance(3)

        child = in_child(fail_and_recover)
        clock.advance(20)
        database.fail()
        finish_all()
        both = scrape()
        mark_process_dead(child)
        print(json.dumps([both, scrape()]))


def grown(before):
    give_up = time.monotonic() + PATIENCE
    while scrape()["component_uptime_seconds_total"] <= before:
        assert time.monotonic() < give_up
        time.sleep(0.1)


def times():
    database = Availability("db")
    grown(0.0)
    shown, before = repr(database), scrape()["component_uptime_seconds_total"]
    child = os.fork()
    if not child:
        grown(before + 1.0)
        finish_all()
        os._exit(0)
    del database  # from here on only the child counts
    _, status = os.waitpid(child, 0)
    assert status == 0
    print(json.dumps(shown))


if __name__ == "__main__":
    times() if sys.argv[1:] == ["time"] else outages()
