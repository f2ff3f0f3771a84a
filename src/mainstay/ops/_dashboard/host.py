"""What the machine has left."""

from mainstay.ops._grafana.graph import graph
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.row import Row
from mainstay.ops._grafana.thresholds import above
from mainstay.ops._grafana.unit import SHARE
from mainstay.ops._promql import Series

_SCARCE = above(degraded=0.8, failing=0.95)


def host(targets: Series) -> Row:
    """Return the row for what the machine has left; `HostCollector` exports it."""
    return Row(
        "Host ($hosts)",
        (
            graph(
                "Processor",
                "The share of processor time in use since the scrape before.",
                Query(targets("host_cpu_usage_ratio"), "{{instance}}"),
                unit=SHARE,
                thresholds=_SCARCE,
            ),
            graph(
                "Memory",
                "The share of memory in use.",
                Query(targets("host_memory_usage_ratio"), "{{instance}}"),
                unit=SHARE,
                thresholds=_SCARCE,
            ),
            graph(
                "Disks",
                "The share of each file system in use.",
                Query(targets("host_disk_usage_ratio"), "{{instance}} {{mountpoint}}"),
                unit=SHARE,
                thresholds=_SCARCE,
            ),
        ),
        is_collapsed=True,
    )
