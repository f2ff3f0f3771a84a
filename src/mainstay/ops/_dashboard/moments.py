"""The moments that are marked through all panels: what else changed then."""

from mainstay.ops import _queries as ask
from mainstay.ops._dashboard.questions import NOW
from mainstay.ops._grafana import color
from mainstay.ops._grafana.annotation import Annotation
from mainstay.ops._promql import Series


def moments(series: Series) -> tuple[Annotation, ...]:
    """Return the annotations for failovers, ejections and openings of breakers."""
    failovers = f"{ask.COMPONENT}, from_member, to_member, reason"
    return (
        Annotation(
            "Failovers",
            ask.events(series, "failovers_total", NOW, failovers),
            color.STANDBY,
            "{{component}}: failover",
            "from {{from_member}} to {{to_member}} ({{reason}})",
        ),
        Annotation(
            "Ejections",
            ask.events(series, "ejections_total", NOW, f"{ask.COMPONENT}, member, cause"),
            color.DEGRADED,
            "{{component}}: {{member}} ejected",
            "cause: {{cause}}",
        ),
        Annotation(
            "Breaker openings",
            ask.events(
                series,
                "breaker_transitions_total",
                NOW,
                f"{ask.COMPONENT}, from_state",
                'to_state="open"',
            ),
            color.FAILING,
            "{{component}}: breaker opened",
            "was {{from_state}}",
        ),
    )
