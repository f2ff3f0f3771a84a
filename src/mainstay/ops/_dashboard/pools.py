"""What is particular to failover pools."""

from mainstay._metrics import verdict
from mainstay.ops import _queries as ask
from mainstay.ops._dashboard.questions import (
    ALL,
    NOW,
    counts,
    legend,
    quantile,
    rates,
    time_since,
)
from mainstay.ops._grafana.graph import bars, graph
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.row import Row, low
from mainstay.ops._grafana.stat import stat
from mainstay.ops._grafana.unit import RATE, SECONDS
from mainstay.ops._promql import Series

FAILOVER = "{{component}}: {{from_member}} to {{to_member}} ({{reason}})"


def pools(series: Series) -> Row:
    """Return the row for failover pools."""
    is_out = ask.one_of("state", [*{*verdict.WORST_STATES} - verdict.WELL])
    out = f"sum by ({ask.COMPONENT}, member, state) ({series('member_state', is_out)}) > 0"
    by = f"{ask.COMPONENT}, from_member, to_member, reason"
    return Row(
        "Failover pools ($pools)",
        (
            graph(
                "Members that are out",
                "How many processes see each member in a state in which something is wrong.",
                Query(out, legend("member", "state")),
            ),
            stat(
                "Time in state",
                "Since the state of the member began; over processes, since the latest change.",
                time_since(series, "member_since_timestamp_seconds", "member"),
                unit=SECONDS,
            ),
            graph(
                "Attempts by member",
                "How the attempts at each member ended.",
                rates(series, "member_attempts_total", "member", "outcome"),
                unit=RATE,
            ),
        ),
        (
            stat(
                "Failovers",
                "Changes of the member that new calls go to, within the time shown.",
                Query(f"{ask.events(series, 'failovers_total', ALL, by)} > 0", FAILOVER),
            ),
            bars(
                "Ejections",
                "Members taken out of service within each interval, by cause.",
                counts(series, "ejections_total", NOW, "member", "cause"),
            ),
        ),
        low(
            stat(
                "Time to detect",
                "95 % of the faults of the time shown were noticed within this time.",
                quantile(series, "time_to_detect_seconds", ALL),
                unit=SECONDS,
            ),
            stat(
                "Time to recover",
                "95 % of the members that came back in the time shown did so within this time.",
                quantile(series, "time_to_recover_seconds", ALL),
                unit=SECONDS,
            ),
            stat(
                "Start of a standby",
                "95 % of the standbys started in the time shown were ready within this time.",
                quantile(series, "standby_start_seconds", ALL),
                unit=SECONDS,
            ),
        ),
        is_collapsed=True,
    )
