"""Puts a dashboard of Grafana together: rows of panels, and the JSON that Grafana imports."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import attrs

Json: TypeAlias = dict[str, Any]

SCHEMA_VERSION = 36  # Grafana 9 and newer
COLUMNS = 24
HEIGHT = 8
WIDTHS = {1: 8, 2: 12, 3: 8, 4: 6}
"""Columns that each panel of a line takes, by the number of panels in the line."""

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@attrs.frozen
class Query:
    """One question of a panel.

    Attributes:
        expression: The question, as PromQL.
        legend: How its answers are called, with ``{{label}}`` for the values of labels.
    """

    expression: str
    legend: str


@attrs.frozen
class Panel:
    """One panel; made by `graph` and `stat`.

    Attributes:
        unit: The unit of its numbers, as Grafana names it.
        emphasis: The answers that stand out: a regular expression for their names, or "".
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str
    over_time: bool
    emphasis: str = ""

    def json(self, number: int, x: int, y: int, width: int) -> Json:
        """Return it as Grafana reads it."""
        return {
            "id": number,
            "type": "timeseries" if self.over_time else "stat",
            "title": self.title,
            "description": self.description,
            "datasource": _DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": width, "h": HEIGHT},
            "fieldConfig": {
                "defaults": {"unit": self.unit, **(_CURVES if self.over_time else {})},
                "overrides": [_emphasised(self.emphasis)] if self.emphasis else [],
            },
            "options": _GRAPH_OPTIONS if self.over_time else _STAT_OPTIONS,
            "targets": [
                {
                    "refId": chr(ord("A") + place),
                    "datasource": _DATASOURCE,
                    "expr": query.expression,
                    "legendFormat": query.legend,
                    "instant": not self.over_time,
                    "range": self.over_time,
                }
                for place, query in enumerate(self.queries)
            ],
        }


_CURVES = {"min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}}
_GRAPH_OPTIONS = {
    "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull"]},
    "tooltip": {"mode": "multi", "sort": "desc"},
}
_STAT_OPTIONS = {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value_and_name"}


def _emphasised(names: str) -> Json:
    return {
        "matcher": {"id": "byRegexp", "options": names},
        "properties": [
            {"id": "color", "value": {"mode": "fixed", "fixedColor": "purple"}},
            {"id": "custom.lineWidth", "value": 3},
            {"id": "custom.fillOpacity", "value": 40},
        ],
    }


def graph(
    title: str, description: str, *queries: Query, unit: str = "none", emphasis: str = ""
) -> Panel:
    """Return a panel that shows the answers over time."""
    return Panel(title, description, queries, unit, over_time=True, emphasis=emphasis)


def stat(title: str, description: str, *queries: Query, unit: str = "none") -> Panel:
    """Return a panel that shows one number for each answer."""
    return Panel(title, description, queries, unit, over_time=False)


class Row:
    """Panels under one heading, by the lines that they stand in."""

    def __init__(self, title: str, *lines: Sequence[Panel]) -> None:
        self.title = title
        self.lines = lines


def dashboard_json(title: str, rows: Iterable[Row], variables: Sequence[Json]) -> Json:
    """Return the dashboard as Grafana imports it."""
    return {
        "title": title,
        "uid": title,
        "tags": ["mainstay"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": list(variables)},
        "panels": list(_placed(rows)),
    }


def _placed(rows: Iterable[Row]) -> Iterator[Json]:
    """Number the headings and panels, and place them from left to right, line by line."""
    number, y = 1, 0
    for row in rows:
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            "panels": [],
        }
        number, y = number + 1, y + 1
        for line in row.lines:
            width = WIDTHS[len(line)]
            for place, panel in enumerate(line):
                yield panel.json(number, place * width, y, width)
                number += 1
            y += HEIGHT


def datasource_variable() -> Json:
    """Return the variable with which the reader chooses a Prometheus."""
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
    }


def label_variable(name: str, query: str) -> Json:
    """Return a variable with which the reader chooses values of a label."""
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
    }
