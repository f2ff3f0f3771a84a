"""Records a bit of everything in multiprocess mode, next to metrics of prometheus_client.

Argument: "files" for mainstay's own files, "fallback" for metrics of prometheus_client.
Prints three lines of JSON: the samples that this process's own registry gives of mainstay; those
that `MultiProcessCollector` gives of everything; and again, after two `Metrics` of the same names
have recorded five calls each of "shared". Samples are {"name label=value ...": value}.
"""

import contextlib
import json
import logging
import os
import sys
import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from mainstay import Metrics, retry
from mainstay._metrics import multiprocess
from mainstay.testing import FakeClock, Faults

COMPONENTS = ["plain", "line\nbreak", 'quote " and backslash \\', "r\u00e9silience", "\ud800"]


def samples(registry: CollectorRegistry) -> str:
    return json.dumps(
        {
            " ".join([s.name, *(f"{name}={s.labels[name]}" for name in sorted(s.labels))]): s.value
            for metric in registry.collect()
            for s in metric.samples
        },
        sort_keys=True,
    )


def record(metrics: Metrics) -> None:
    with FakeClock(everywhere=True) as clock:
        for component in COMPONENTS:
            policy = retry(on=OSError, name=component, attempts=3, wait=0.5, metrics=metrics)
            policy.call(clock.advance, 0.0625)
            policy.call(clock.advance, 400)
            policy.call(Faults([OSError(), "value"]))
            for fails in (Faults(then=OSError), Faults(then=KeyError)):
                with contextlib.suppress(OSError, KeyError):
                    policy.call(fails)
            thread = threading.Thread(target=policy.call, args=(int,))
            thread.start()
            thread.join()
        for number in range(25):
            with contextlib.suppress(Exception):
                policy.call(Faults([type(f"Error{number}", (Exception,), {})]))


def record_by_turns(*all_metrics: Metrics) -> None:
    calls = [retry(on=OSError, name="shared", metrics=each)(int) for each in all_metrics]
    for _ in range(5):
        for call in calls:
            call()


def record_others() -> None:
    Counter("app_things", "Things.").inc(3)
    Histogram("app_seconds", "Seconds.", buckets=(1, 2)).observe(1.5)
    Gauge("app_level", "Level.", multiprocess_mode="livesum").set(7)


def main(mode: str) -> None:
    logging.disable()
    if mode == "fallback":
        multiprocess.files_work = lambda: False
    registry = CollectorRegistry()
    record_others()
    record(Metrics(registry, buckets={"call_duration_seconds": [0.1, 1, 100]}))
    print(samples(registry))
    everything = CollectorRegistry()
    MultiProcessCollector(everything, os.environ[multiprocess.VARIABLE])
    print(samples(everything))
    record_by_turns(Metrics(registry), Metrics(CollectorRegistry()))
    print(samples(everything))


main(sys.argv[1])
