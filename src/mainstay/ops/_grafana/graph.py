"""Panels that show figures over time as lines, areas or bars."""

from mainstay.ops._grafana.document import Json
from mainstay.ops._grafana.panel import Panel
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.thresholds import PLAIN, Thresholds
from mainstay.ops._grafana.unit import COUNT, Unit

_TOOLTIP: Json = {"mode": "multi", "sort": "desc", "hideZeros": True}


def graph(
    title: str,
    description: str,
    *queries: Query,
    unit: Unit = COUNT,
    thresholds: Thresholds = PLAIN,
    is_logarithmic: bool = False,
) -> Panel:
    """Return a panel with a line for each answer, and one at each threshold."""
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 0 if is_logarithmic else 10,
        "showPoints": "auto",
        "scaleDistribution": {"type": "log", "log": 10} if is_logarithmic else {"type": "linear"},
        "thresholdsStyle": {"mode": "dashed" if thresholds.steps else "off"},
    }
    field: Json = {"color": {"mode": "palette-classic-by-name"}, "custom": custom}
    if not is_logarithmic:
        field["min"] = 0
    return _over_time(title, description, queries, unit, thresholds, field)


def areas(title: str, description: str, *queries: Query, unit: Unit) -> Panel:
    """Return a panel whose answers stand on each other, the first one at the bottom."""
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 60,
        "showPoints": "never",
        "stacking": {"mode": "normal", "group": "A"},
    }
    field: Json = {"min": 0, "color": {"mode": "palette-classic"}, "custom": custom}
    return _over_time(title, description, queries, unit, PLAIN, field)


def bars(title: str, description: str, *queries: Query) -> Panel:
    """Return a panel with bars for numbers of events, which stand on each other."""
    custom: Json = {
        "drawStyle": "bars",
        "lineWidth": 0,
        "fillOpacity": 80,
        "stacking": {"mode": "normal", "group": "A"},
    }
    field: Json = {"min": 0, "color": {"mode": "palette-classic-by-name"}, "custom": custom}
    return _over_time(title, description, queries, COUNT, PLAIN, field)


def _over_time(
    title: str,
    description: str,
    queries: tuple[Query, ...],
    unit: Unit,
    thresholds: Thresholds,
    field: Json,
) -> Panel:
    has_names = any("{{" in query.legend for query in queries)
    legend: Json = {
        "showLegend": True,
        "displayMode": "table" if has_names else "list",
        "placement": "bottom",
        "calcs": ["lastNotNull", "max"] if has_names else [],
    }
    if has_names:
        legend |= {"sortBy": "Last *", "sortDesc": True}
    return Panel(
        kind="timeseries",
        title=title,
        description=description,
        queries=queries,
        unit=unit,
        thresholds=thresholds,
        field=field,
        options={"legend": legend, "tooltip": _TOOLTIP},
    )
