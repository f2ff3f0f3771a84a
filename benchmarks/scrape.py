"""What does a scrape of a thousand decorated functions cost, and one of a store of many runs?

Functions are scraped against the same series kept by plain metrics of prometheus_client, in a
registry of their own: text in the classic format, and in OpenMetrics, which Prometheus asks for.
The `_created` samples that prometheus_client would add to its own are off, so that both write the
same lines.

A `StoreCollector` over 100,000 finished runs of ten names is collected against the statement by
hand, on a connection of its own to the same file: `SELECT name, status, count(*)` with `GROUP BY`,
and the same of the finished ones alone, which SQLite answers from an index of ours. Ten runs are
made, the others are copies of their rows.
"""

import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

import mainstay
from harness import Measure, Report, Times, main, ratio, times_of
from mainstay._metrics import schema
from mainstay.stores import SQLiteStore

FUNCTIONS = 1_000
ROUNDS = 15
QUICK_ROUNDS = 2
OURS, PLAIN = "mainstay", "prometheus_client"
NAMES = 10
RUNS = 100_000
COLLECTED, BY_HAND, OF_DONE = "StoreCollector", "by hand", "by hand, finished ones alone"
PLACES = "WITH RECURSIVE place(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM place WHERE n < ?)"
COUNT = "SELECT name, status, count(*) FROM run GROUP BY name, status"
COUNT_DONE = "SELECT name, count(*) FROM run WHERE status = 'done' GROUP BY name"


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
    headers = counter(schema.WIRE_ERRORS)
    for header in schema.WIRE_HEADERS:
        headers.labels(header)
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


def finished(path: Path, runs: int) -> SQLiteStore:
    """Make a store of so many finished runs."""
    store = SQLiteStore(path)
    for number in range(NAMES):
        with mainstay.checkpoint_run(f"name-{number}", store=store) as cp:
            cp.step("made", str, "x" * 200)
    db = sqlite3.connect(path)
    own = {"id", "name", "key"}
    table = db.execute("PRAGMA table_info(run)")
    others = ", ".join(column[1] for column in table if column[1] not in own)
    with db:
        db.execute(
            f"{PLACES} INSERT INTO run (name, key, {others}) "  # noqa: S608 - names of columns
            f"SELECT name, key || n, {others} FROM run, place",
            (runs // NAMES - 1,),
        )
    db.close()
    return store


def of_a_store(answer: Report, *, quick: bool) -> None:
    """Measure a scrape of a store."""
    runs = RUNS // 100 if quick else RUNS
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "runs.db"
        collector = mainstay.StoreCollector(finished(path, runs))
        db = sqlite3.connect(path)
        found = sum(sample.value for family in collector.collect() for sample in family.samples)
        if found != runs or sum(row[2] for row in db.execute(COUNT)) != runs:
            raise SystemExit(f"{found} runs were counted, of {runs}")
        times = times_of(
            {
                COLLECTED: repeated(lambda: [*collector.collect()]),
                BY_HAND: repeated(lambda: db.execute(COUNT).fetchall()),
                OF_DONE: repeated(lambda: db.execute(COUNT_DONE).fetchall()),
            },
            rounds=QUICK_ROUNDS if quick else 4 * ROUNDS,
        )
        db.close()
    answer.times(f"Scrape of {runs:,} finished runs", times, BY_HAND, OF_DONE)
    for case, least, aim in ((BY_HAND, 1.5, 1.1), (OF_DONE, None, None)):
        text = f"`StoreCollector` of {runs:,} finished runs, vs SELECT count(*) {case}"
        answer.measures.append(Measure(text, least, aim, ratio(times, COLLECTED, case)))


def repeated(call: Callable[[], object]) -> Callable[[int], float]:
    """Make a loop over a call without arguments."""

    def loop(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            call()
        return time.perf_counter() - started

    return loop


def report(*, quick: bool) -> Report:
    """Measure both formats, and a store."""
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
    of_a_store(answer, quick=quick)
    return answer


if __name__ == "__main__":
    main(report, __doc__)
