"""What does OpenTelemetry cost a call, on against off, and what does an export cost?

On: the `Metrics` of the policy is what a `MetricExporter` exports, and attempts are traced to the
SDK. Off: neither. Both run inside of a sampled span. By hand: the same counter and histogram as
instruments of the SDK, which is what a program without the exporter would write. No export runs
while calls are timed, since an export is not paid by a call; its own time stands beside that of a
scrape of the same metrics as text.
"""

import math
import time
from collections.abc import Callable

from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.version import __version__ as sdk_version
from prometheus_client import CollectorRegistry, generate_latest

import mainstay
from harness import Loop, Measure, Report, loop_over, main, ratio, times_of
from mainstay.integrations.opentelemetry import MetricExporter, trace_attempts

ROUNDS = 150
QUICK_ROUNDS = 5
FUNCTIONS = 1_000
OFF, ON, BY_HAND = "off", "on", "by hand: instruments of the SDK"
EXPORT, SCRAPE = "export", "scrape as text"


class Kept(sdk.MetricExporter):
    """Sends nothing."""

    def export(self, batch: sdk.MetricsData, **_: object) -> object:
        """Say that all has arrived."""
        self.last = batch
        return sdk.MetricExportResult.SUCCESS

    def force_flush(self, **_: object) -> bool:
        """Have nothing to send."""
        return True

    def shutdown(self, **_: object) -> None:
        """Have nothing to end."""


def provider_of(metrics: mainstay.Metrics) -> MeterProvider:
    """Make a provider that exports *metrics* when it is told to."""
    exporter = MetricExporter(Kept(), metrics=metrics)
    provider = MeterProvider([sdk.PeriodicExportingMetricReader(exporter, math.inf)])
    provider.get_meter("bench").create_observable_gauge("up", [lambda _: [Observation(1)]])
    return provider


def retried(metrics: mainstay.Metrics, *failures: int) -> Callable[[int], int]:
    """Make a function that fails in those of its calls, counted from 1 within three."""
    calls = 0

    @mainstay.retry(on=OSError, wait=0, name="job", metrics=metrics)
    def job(x: int) -> int:
        nonlocal calls
        calls = calls % 3 + 1 if failures else 0
        if calls in failures:
            raise ConnectionError
        return x

    return job


def by_hand() -> Callable[[int], int]:
    """Make a function that records by instruments of the SDK."""
    meter = MeterProvider([sdk.InMemoryMetricReader()]).get_meter("bench")
    calls, seconds = meter.create_counter("calls"), meter.create_histogram("seconds")

    def job(x: int) -> int:
        started = time.monotonic()
        answer = x
        seconds.record(time.monotonic() - started, {"component": "job", "policy": "retry"})
        calls.add(1, {"component": "job", "policy": "retry", "outcome": "success"})
        return answer

    return job


def in_a_span(loop: Loop, provider: TracerProvider, *, traced: bool) -> Loop:
    """Make a loop run in a sampled span of the program, with its attempts traced or not."""

    def inside(times: int) -> float:
        stop = trace_attempts(provider) if traced else None
        with provider.get_tracer("bench").start_as_current_span("request"):
            seconds = loop(times)
        if stop is not None:
            stop()
        return seconds

    return inside


def of_exports(answer: Report, *, quick: bool) -> None:
    """Measure an export of a thousand functions."""
    registry = CollectorRegistry()
    metrics = mainstay.Metrics(registry)
    for number in range(FUNCTIONS // 100 if quick else FUNCTIONS):
        mainstay.retry(on=OSError, name=f"function-{number}", metrics=metrics)(int)()
    provider = provider_of(metrics)

    def exported(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            provider.force_flush()
        return time.perf_counter() - started

    def scraped(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            generate_latest(registry)
        return time.perf_counter() - started

    rounds = QUICK_ROUNDS if quick else ROUNDS // 10
    times = times_of({EXPORT: exported, SCRAPE: scraped}, rounds=rounds)
    answer.times(f"An export of {FUNCTIONS:,} functions", times, SCRAPE)


def report(*, quick: bool) -> Report:
    """Measure calls, and exports."""
    tracers = TracerProvider()
    off, on = mainstay.Metrics(None), mainstay.Metrics(None)
    exported = provider_of(on)
    rounds = QUICK_ROUNDS if quick else ROUNDS
    answer = Report()
    answer.say(f"opentelemetry-sdk {sdk_version}.")
    healthy = times_of(
        {
            OFF: in_a_span(loop_over(retried(off)), tracers, traced=False),
            ON: in_a_span(loop_over(retried(on)), tracers, traced=True),
            BY_HAND: in_a_span(loop_over(by_hand()), tracers, traced=False),
        },
        rounds=rounds,
    )
    answer.times("A healthy call of a retry", healthy, OFF)
    failing = times_of(
        {
            OFF: in_a_span(loop_over(retried(off, 1, 2)), tracers, traced=False),
            ON: in_a_span(loop_over(retried(on, 1, 2)), tracers, traced=True),
        },
        rounds=rounds,
    )
    answer.times("A call that fails twice, which makes two spans", failing, OFF)
    exported.shutdown()
    of_exports(answer, quick=quick)
    text = "OpenTelemetry on, vs off, per call"
    answer.measures += [
        Measure(text, 1.0, 1.0, round(ratio(healthy, ON, OFF), 2)),
        Measure("recording by instruments of the SDK, vs our whole call", None, None,
                ratio(healthy, BY_HAND, ON)),
    ]  # fmt: skip
    return answer


if __name__ == "__main__":
    main(report, __doc__)
