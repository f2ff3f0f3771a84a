"""What is particular to timeouts, bulkheads, rate limits and fallbacks."""

from mainstay.ops import _queries as ask
from mainstay.ops._dashboard.questions import NOW, counts, gauge, quantile
from mainstay.ops._grafana.graph import bars, graph
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.row import Row
from mainstay.ops._grafana.thresholds import above
from mainstay.ops._grafana.unit import NUMBER, SECONDS
from mainstay.ops._promql import Series

MANY_ABANDONED = 16
"""So many threads raise an alert."""


def timeouts(series: Series) -> Row:
    """Return the row for timeouts, and for what goes on after them."""
    return Row(
        "Timeouts ($timeouts)",
        (
            bars(
                "Calls ended by their timeout",
                "Within each interval. timeout: they took too long. full: too many threads are "
                "abandoned already to start one more.",
                counts(series, "give_ups_total", NOW, "reason", only='policy="timeout"'),
            ),
            graph(
                "Abandoned threads",
                "Threads that still run a call, or a copy of one, whose caller has left. Where one "
                "process comes to the dashed line, an alert fires.",
                gauge(series, "abandoned_threads", "sum"),
                thresholds=above(degraded=MANY_ABANDONED),
            ),
        ),
        is_collapsed=True,
    )


def bulkheads(series: Series) -> Row:
    """Return the row for bulkheads."""
    places, inside, waiting = (
        f"sum by ({ask.COMPONENT}) ({series(name)})"
        for name in ("concurrency_limit", "in_flight", "waiting")
    )
    mean = ask.rate(series, "in_flight_seconds_total", NOW, ask.COMPONENT)
    return Row(
        "Bulkheads ($bulkheads)",
        (
            graph(
                "Places",
                "How many calls may run at a time (dashed), how many did in the mean, and how many "
                "did at the moment of the scrape; over all processes.",
                Query(places, "{{component}} limit", is_dashed=True),
                Query(mean, "{{component}} mean", unit=NUMBER),
                Query(inside, "{{component}} now"),
            ),
            graph(
                "Calls that wait for a place",
                "At the moment of the scrape.",
                Query(waiting, "{{component}}"),
            ),
            bars(
                "Calls that had no place",
                "Within each interval. full: refused at once. wait: after `max_wait`. shed: there "
                "was less time left than a call takes. timeout: the deadline was over.",
                counts(series, "give_ups_total", NOW, "reason", only='policy="bulkhead"'),
            ),
        ),
        (
            graph(
                "Time spent waiting for a place",
                "95 % of the calls that waited did so for no longer.",
                quantile(series, "queue_wait_seconds", NOW, "priority"),
                unit=SECONDS,
            ),
            bars(
                "Changes of the limit",
                "Within each interval: by an adaptive limit, or by `resize`.",
                counts(series, "limit_changes_total", NOW, "direction"),
            ),
        ),
        is_collapsed=True,
    )


def rate_limits(series: Series) -> Row:
    """Return the row for rate limits."""
    return Row(
        "Rate limits ($rate_limits)",
        (
            bars(
                "Calls that had no turn",
                "Refused within each interval because the limit was reached (rate), or the "
                "deadline was too near (timeout).",
                counts(series, "give_ups_total", NOW, "reason", only='policy="rate_limit"'),
            ),
            bars(
                "Errors of the store",
                "Calls of shared limits within each interval that the store did not decide, by "
                "what was done instead.",
                counts(series, "rate_store_errors_total", NOW, "action"),
            ),
        ),
        is_collapsed=True,
    )


def fallbacks(series: Series) -> Row:
    """Return the row for fallbacks."""
    return Row(
        "Fallbacks ($fallbacks)",
        (
            bars(
                "Calls that a fallback answered",
                "Within each interval, by what was given: a value, a call, or the last good "
                "answer.",
                counts(series, "fallbacks_total", NOW, "source"),
            ),
            graph(
                "Age of last good answers",
                "95 % of those that were given were no older.",
                quantile(series, "fallback_age_seconds", NOW),
                unit=SECONDS,
            ),
        ),
        is_collapsed=True,
    )
