"""Makes hedged calls in multiprocess mode; prints what the reader then sees of gauges, as JSON.

A second process, forked, is slower; its delay is the one that is shown.
"""

import json
import os
import warnings

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from mainstay import Metrics, hedge, redundant
from mainstay._metrics.writer import finish_all
from mainstay.testing import FakeClock, Faults

CALLS = 20
warnings.simplefilter("ignore", DeprecationWarning)  # of forks while there are threads


def work(seconds: float) -> None:
    policy = redundant(start=hedge.quantile(0.5), name="it", metrics=Metrics(None))
    with FakeClock():
        for _ in range(CALLS):
            policy.call(Faults([Faults.delay(seconds)]))
        finish_all()


def shown() -> dict[str, float]:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # as prometheus_client has it
    return {
        sample.name: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name.endswith(("hedge_delay_seconds", "abandoned_threads"))
        or (sample.name.endswith("calls_total") and sample.labels["outcome"] == "success")
    }


work(0.25)
reader, writer = os.pipe()
done, released = os.pipe()
child = os.fork()
if not child:
    work(2.0)
    os.write(writer, b"x")
    os.read(done, 1)  # a gauge is shown while its process lives
    os._exit(0)
os.read(reader, 1)
print(json.dumps(shown()))
os.write(released, b"x")
os.waitpid(child, 0)
