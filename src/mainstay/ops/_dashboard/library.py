"""What mainstay says of itself."""

from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.row import Row
from mainstay.ops._grafana.stat import stat
from mainstay.ops._grafana.thresholds import above
from mainstay.ops._promql import Series


def library(targets: Series) -> Row:
    """Return the row for mainstay itself; its series have no component."""
    versions = f"count by (job, version) ({targets('build_info')})"
    dropped = f"sum by (job, metric) ({targets('series_dropped_total')})"
    headers = f"sum by (job, header) ({targets('wire_errors_total')})"
    hooks = f"sum by (job, hook) ({targets('hook_errors_total')})"
    return Row(
        "mainstay itself",
        (
            stat(
                "Versions",
                "How many processes run which version.",
                Query(versions, "{{job}}: {{version}}"),
            ),
            stat(
                "Label values dropped",
                "Times that a value was replaced by _other, since the start of each process. "
                "0 is normal.",
                Query(f"{dropped} or 0 * {versions}", "{{job}} {{metric}}"),
                thresholds=above(degraded=1),
            ),
            stat(
                "Hooks that raised",
                "Calls of a function of yours that raised where a call must go on (on_alarm, a "
                "listener, a collector), since the start of each process. 0 is normal.",
                Query(f"{hooks} or 0 * {versions}", "{{job}} {{hook}}"),
                thresholds=above(degraded=1),
            ),
            stat(
                "Headers that are garbage",
                "Deadlines and delays in headers that could not be read, and were passed over, "
                "since the start of each process. 0 is normal.",
                Query(f"{headers} or 0 * {versions}", "{{job}} {{header}}"),
                thresholds=above(degraded=1),
            ),
        ),
        is_collapsed=True,
    )
