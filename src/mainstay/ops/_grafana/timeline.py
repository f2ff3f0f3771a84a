"""Panels that show states over time, a line for each answer, with words in them."""

from mainstay.ops._grafana.panel import Panel
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.thresholds import PLAIN
from mainstay.ops._grafana.unit import COUNT
from mainstay.ops._grafana.word import Word

LINES = 12
"""Lines on a page of a panel; more would be too low to be read."""


POINTS = 200
"""Points in time that are asked for: a change is shown to within a two-hundredth of the width."""


def timeline(title: str, description: str, *queries: Query, words: tuple[Word, ...]) -> Panel:
    """Return a panel whose answers are numbers that stand for states."""
    options = {
        "mergeValues": True,
        "showValue": "auto",
        "alignValue": "left",
        "rowHeight": 0.85,
        "perPage": LINES,
        "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    field = {
        "color": {"mode": "thresholds"},
        "custom": {"fillOpacity": 100, "lineWidth": 0},
    }
    return Panel(
        kind="state-timeline",
        title=title,
        description=description,
        queries=queries,
        unit=COUNT,
        thresholds=PLAIN,
        field=field,
        options=options,
        words=words,
        data_points=POINTS,
    )
