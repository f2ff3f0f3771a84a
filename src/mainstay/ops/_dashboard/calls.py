"""How calls end, how long they take, and what it takes to make them succeed."""

from mainstay._metrics import verdict
from mainstay.ops import _queries as ask
from mainstay.ops._dashboard.questions import ALL, CALL, NOW, counts, seconds
from mainstay.ops._grafana.graph import bars, graph
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.row import Row
from mainstay.ops._grafana.stat import stat
from mainstay.ops._grafana.thresholds import PLAIN, above
from mainstay.ops._grafana.unit import NUMBER, RATE, SECONDS, SHARE
from mainstay.ops._promql import Series

MANY_ATTEMPTS = 2
"""More attempts per call raise an alert."""


def calls(series: Series) -> Row:
    """Return the row for what every policy does."""
    return Row(
        "Calls",
        (
            graph(
                "Share that fails",
                "Of calls that were not cancelled. Exceptions outside `on` are answers, and no "
                "failures. At the dashed line a component is failing.",
                Query(ask.error_ratio_over_time(series, NOW), CALL),
                unit=SHARE,
                thresholds=above(failing=verdict.TOO_MANY),
            ),
            graph(
                "Would have failed without it",
                "The share of calls that had failed, and succeeded since a policy tried again, "
                "took another member, fell back, or went on from a checkpoint; in a pipeline also "
                "those that a copy made fast. Breakers, timeouts, bulkheads and rate limits save "
                "no call: they end some sooner. Redundant calls have a row of their own.",
                Query(ask.saved_ratio(series, NOW), CALL),
                unit=SHARE,
                thresholds=above(degraded=verdict.TOO_MANY),
            ),
            stat(
                "Calls saved",
                "How many calls of the time shown would have failed without mainstay, in the sense "
                "of the panel beside.",
                Query(f"sort_desc(({ask.saved(series, ALL)}) > 0)", CALL),
                thresholds=PLAIN,
            ),
        ),
        (
            graph(
                "Calls per second",
                "However they ended.",
                Query(ask.judged(series, ask.calls(series, NOW)), CALL),
                unit=RATE,
            ),
            graph(
                "Time of a call, p50 and p99",
                "Half of the calls end within the one, 99 % within the other, waits included; of "
                "calls that were not rejected.",
                Query(ask.duration(series, NOW, 0.5), f"{CALL} p50"),
                Query(ask.duration(series, NOW, 0.99), f"{CALL} p99"),
                unit=SECONDS,
                is_logarithmic=True,
            ),
            graph(
                "Attempts per call",
                "1 while nothing is tried again; what is above that is load that the policies add. "
                "At the dashed line an alert fires.",
                Query(ask.attempts_per_call(series, NOW), CALL),
                unit=NUMBER,
                thresholds=above(degraded=MANY_ATTEMPTS),
            ),
        ),
    )


def attempts(series: Series) -> Row:
    """Return the row for the attempts, errors and waits of every policy that makes them."""
    return Row(
        "Attempts",
        (
            bars(
                "Errors by class",
                "Failed attempts within each interval, also those that another attempt made good.",
                counts(series, "errors_total", NOW, "policy", "error_type"),
            ),
            bars(
                "Giving up, by reason",
                "Calls within each interval that ended without a result. not_retryable is not a "
                "failure of what is called: its exception is outside `on`.",
                counts(series, "give_ups_total", NOW, "policy", "reason"),
            ),
            graph(
                "Time spent waiting",
                "Seconds within each interval that calls waited between attempts.",
                seconds(series, "wait_seconds_total", NOW),
                unit=SECONDS,
            ),
            bars(
                "Retries inside retries",
                "Failed attempts within each interval in which another retry had given up: their "
                "numbers multiply.",
                counts(series, "nested_retries_total", NOW),
            ),
        ),
    )
