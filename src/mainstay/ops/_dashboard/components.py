"""What pools, breakers and `Availability` say of uptime."""

from mainstay.ops import _queries as ask
from mainstay.ops._dashboard.questions import ALL, gauge, legend
from mainstay.ops._grafana import color
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.row import Row, low
from mainstay.ops._grafana.stat import stat
from mainstay.ops._grafana.thresholds import above
from mainstay.ops._grafana.timeline import timeline
from mainstay.ops._grafana.unit import FINE_SHARE, PER_SECOND, SECONDS
from mainstay.ops._grafana.word import Word
from mainstay.ops._promql import Series

_WORDS = (Word(0, "down", color.FAILING), Word(1, "up", color.dim(color.WELL)))


def components(series: Series) -> Row:
    """Return the row for the figures of availability."""
    is_up = f"min by ({ask.COMPONENT}) (sgn({series('component_up')}))"
    failures = ask.events(series, "component_failures_total", ALL)
    downtime = ask.increase(series, "component_downtime_seconds_total", ALL)
    return Row(
        "Availability of components ($availabilities)",
        (
            timeline(
                "Up and down",
                "What pools, breakers and `Availability` say; down where one process sees that.",
                Query(is_up, legend()),
                words=_WORDS,
            ),
            stat(
                "Failures",
                "Outages that began within the time shown.",
                Query(f"{failures} > 0", legend()),
                thresholds=above(degraded=1),
            ),
            stat(
                "Downtime",
                "How long components were down within the time shown.",
                Query(f"{downtime} > 0", legend()),
                unit=SECONDS,
                thresholds=above(degraded=1),
            ),
        ),
        low(
            stat(
                "Availability since the start",
                "Of the process that sees the worst: no process knows of the time when it was not "
                "running.",
                gauge(series, "availability_ratio", "min"),
                unit=FINE_SHARE,
            ),
            stat(
                "Failure rate since the start",
                "Failures per second of uptime, of the process that sees the worst.",
                gauge(series, "failure_rate_per_second", "max"),
                unit=PER_SECOND,
            ),
            stat(
                "Mean time between failures",
                "Uptime / failures since the start, of the process that sees the worst; infinite "
                "without failures.",
                gauge(series, "mtbf_seconds", "min"),
                unit=SECONDS,
            ),
            stat(
                "Mean time to repair",
                "Mean length of the outages that ended since the start, of the process that sees "
                "the worst.",
                gauge(series, "mttr_seconds", "max"),
                unit=SECONDS,
            ),
        ),
        is_collapsed=True,
    )
