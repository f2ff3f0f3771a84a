"""What mainstay says of itself."""

from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.row import Row, low
from mainstay.ops._grafana.stat import stat
from mainstay.ops._grafana.thresholds import above
from mainstay.ops._promql import Series


def library(targets: Series) -> Row:
    """Return the row for mainstay itself; its series have no component."""
    versions = f"count by (job, version) ({targets('build_info')})"
    none = f"0 * count by (job) ({targets('build_info')})"
    dropped, headers, hooks = (
        f"sum by (job, {label}) ({targets(name)}) > 0\nor on (job) {none}"
        for label, name in (
            ("metric", "series_dropped_total"),
            ("header", "wire_errors_total"),
            ("hook", "hook_errors_total"),
        )
    )
    return Row(
        "mainstay itself",
        low(
            stat(
                "Versions",
                "How many processes run which version.",
                Query(versions, "{{job}}: {{version}}"),
            ),
            stat(
                "Label values dropped",
                "Times that a value was replaced by _other, since the start of each process. "
                "0 is normal.",
                Query(dropped, "{{job}} {{metric}}"),
                thresholds=above(degraded=1),
            ),
            stat(
                "Hooks that raised",
                "Calls of a function of yours that raised where a call must go on (on_alarm, a "
                "listener, a collector), since the start of each process. 0 is normal.",
                Query(hooks, "{{job}} {{hook}}"),
                thresholds=above(degraded=1),
            ),
            stat(
                "Headers that are garbage",
                "Deadlines and delays in headers that could not be read, and were passed over, "
                "since the start of each process. 0 is normal.",
                Query(headers, "{{job}} {{header}}"),
                thresholds=above(degraded=1),
            ),
        ),
        is_collapsed=True,
    )
