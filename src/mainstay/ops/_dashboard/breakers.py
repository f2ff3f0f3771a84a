"""What is particular to circuit breakers."""

from mainstay.ops import _queries as ask
from mainstay.ops._dashboard.questions import ALL, NOW, counts, legend, time_since
from mainstay.ops._grafana.graph import bars, graph
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.row import Row
from mainstay.ops._grafana.stat import stat
from mainstay.ops._grafana.unit import SECONDS
from mainstay.ops._promql import Series


def breakers(series: Series) -> Row:
    """Return the row for circuit breakers."""
    not_closed = series("breaker_state", 'state!="closed"')
    processes = f"sum by ({ask.COMPONENT}, state) ({not_closed}) > 0"
    changes = ask.events(
        series, "breaker_transitions_total", ALL, f"{ask.COMPONENT}, from_state, to_state"
    )
    return Row(
        "Circuit breakers ($breakers)",
        (
            graph(
                "Breakers that are not closed",
                "How many processes see each breaker open or half open.",
                Query(processes, legend("state")),
            ),
            stat(
                "Time in state of a breaker",
                "Since the state of the breaker began; over processes, since the latest change.",
                time_since(series, "breaker_since_timestamp_seconds"),
                unit=SECONDS,
            ),
        ),
        (
            bars(
                "Refused while open",
                "Calls within each interval that the breaker refused.",
                counts(series, "give_ups_total", NOW, only='policy="breaker",reason="open"'),
            ),
            stat(
                "Changes of state",
                "Within the time shown.",
                Query(f"{changes} > 0", "{{component}}: {{from_state}} to {{to_state}}"),
            ),
        ),
        is_collapsed=True,
    )
