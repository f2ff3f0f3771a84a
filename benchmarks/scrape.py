"""What does a scrape of a thousand decorated functions cost?

Against the same series kept by plain metrics of prometheus_client, in a registry of their own:
text in the classic format, and in OpenMetrics, which Prometheus asks for. The `_created` samples
that prometheus_client would add to its own are off, so that both write the same lines.
"""

import random
import time
from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

import mainstay
from harness import Measure, Report, Times, main, ratio
from mainstay._metrics import schema

FUNCTIONS = 1_000
ROUNDS = 15
QUICK_ROUNDS = 2
OURS, PLAIN = "mainstay", "prometheus_client"


def ours() -> CollectorRegistry:
    """Make a thousand decorated functions, each called once."""
    registry = CollectorRegistry()
    metrics = mainstay.Metrics(registry)
    for number in range(FUNCTIONS):
        mainstay.retry(on=OSError, name=f"function-{number}", metrics=metrics)(int)()
    return registry


def plain() -> CollectorRegistry:
    """Make the same series by hand."""
    registry = CollectorRegistry()
    names = {family.name: f"mainstay_{family.name}" for family in schema.FAMILIES}

    def counter(family: schema.Family) -> Counter:
        return Counter(names[family.name], family.help, family.labels, registry=registry)

    def histogram(family: schema.Family) -> Histogram:
        return Histogram(
            names[family.name],
            family.help,
            family.labels,
            registry=registry,
            buckets=family.buckets,
        )

    calls, give_ups, waits = map(counter, (schema.CALLS, schema.GIVE_UPS, schema.WAIT_SECONDS))
    durations, attempts = map(histogram, (schema.CALL_DURATION, schema.CALL_ATTEMPTS))
    hooks = counter(schema.HOOK_ERRORS)
    for hook in schema.HOOKS:
        hooks.labels(hook)
    for number in range(FUNCTIONS):
        labels = f"function-{number}", "retry"
        for outcome in schema.OUTCOMES:
            calls.labels(*labels, outcome)
        for reason in schema.GIVE_UP_REASONS["retry"]:
            give_ups.labels(*labels, reason)
        waits.labels(labels[0])
        attempts.labels(*labels)
        durations.labels(*labels).observe(0.001)
        calls.labels(*labels, "success").inc()
    return registry


def samples(registry: CollectorRegistry, *, but: str = "") -> set[tuple]:
    """Give name and labels of all samples; *but* is a name to leave out."""
    return {
        (sample.name, *sorted(sample.labels.items()))
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name != but
    }


def times_of_scrapes(
    generate: Callable, registries: dict[str, CollectorRegistry], rounds: int
) -> Times:
    """Time one scrape of each registry in each round, in a random order."""
    times: Times = {name: [] for name in registries}
    for _ in range(rounds):
        for name in random.sample([*registries], len(registries)):
            started = time.perf_counter()
            generate(registries[name])
            times[name].append(time.perf_counter() - started)
    return times


def report(*, quick: bool) -> Report:
    """Measure both formats."""
    disable_created_metrics()
    registries = {OURS: ours(), PLAIN: plain()}
    mine, others = (
        samples(registries[OURS], but="mainstay_build_info"),
        samples(registries[PLAIN]),
    )
    if mine != others:
        raise SystemExit(f"the series differ: {sorted(mine ^ others)[:5]}")
    answer = Report()
    answer.say(f"{len(mine):,} samples of {FUNCTIONS:,} functions; times are those of one scrape.")
    for name, generate in (("text", generate_latest), ("OpenMetrics", generate_openmetrics)):
        rounds = QUICK_ROUNDS if quick else ROUNDS
        times = times_of_scrapes(generate, registries, rounds)
        answer.times(f"Scrape as {name}", times, PLAIN)
        text = f"scrape of {FUNCTIONS:,} decorated functions as {name}, vs prometheus_client"
        answer.measures.append(Measure(text, 1.0, 1.0, ratio(times, OURS, PLAIN)))
    return answer


if __name__ == "__main__":
    main(report, __doc__)
