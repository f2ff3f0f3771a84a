"""What pools, breakers and `Availability` say of uptime."""

from mainstay.ops import _queries as ask
from mainstay.ops._dashboard.questions import ALL, counts, gauge
from mainstay.ops._grafana.graph import graph
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.row import Row
from mainstay.ops._grafana.stat import stat
from mainstay.ops._grafana.thresholds import above
from mainstay.ops._grafana.unit import FINE_SHARE, PER_SECOND, SECONDS
from mainstay.ops._promql import Series


def components(series: Series) -> Row:
    """Return the row for the figures of availability."""
    downtime = ask.increase(series, "component_downtime_seconds_total", ALL)
    return Row(
        "Availability of components ($availabilities)",
        (
            graph(
                "Up",
                "1 while the component is up; over worker processes, how many see it up.",
                gauge(series, "component_up"),
            ),
            stat(
                "Failures",
                "Outages that began within the time shown.",
                counts(series, "component_failures_total", ALL),
                thresholds=above(degraded=1),
            ),
            stat(
                "Downtime",
                "How long components were down within the time shown.",
                Query(downtime, "{{component}}"),
                unit=SECONDS,
                thresholds=above(degraded=1),
            ),
        ),
        (
            stat(
                "Availability since the start",
                "As each process sees it: it does not know of the time when it was not running.",
                gauge(series, "availability_ratio"),
                unit=FINE_SHARE,
            ),
            stat(
                "Failure rate since the start",
                "Failures per second of uptime, as each process sees it.",
                gauge(series, "failure_rate_per_second"),
                unit=PER_SECOND,
            ),
            stat(
                "Mean time between failures",
                "Uptime / failures since the start of each process; infinite without failures.",
                gauge(series, "mtbf_seconds"),
                unit=SECONDS,
            ),
            stat(
                "Mean time to repair",
                "Mean length of the outages that ended since the start of each process.",
                gauge(series, "mttr_seconds"),
                unit=SECONDS,
            ),
        ),
        is_collapsed=True,
    )
