"""Puts a dashboard of Grafana together: rows of panels, and the JSON that Grafana imports."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import attrs

Json: TypeAlias = dict[str, Any]

SCHEMA_VERSION = 36  # Grafana 9 and newer
COLUMNS = 24
HEIGHT = 8

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
    """One panel.

    Attributes:
        title: What it shows.
        description: What to make of it.
        unit: The unit of its numbers, as Grafana names it.
        queries: What it asks.
        kind: How it shows the answers: over time, or "stat" for one number each.
        width: How many of the 24 columns it takes.
        emphasis: The answers that stand out: a regular expression for their names, or "".
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8
    emphasis: str = ""

    def json(self, number: int, x: int, y: int) -> Json:
        """Give it as Grafana reads it."""
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": _DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": HEIGHT},
            "fieldConfig": {
                "defaults": {"unit": self.unit, **self._style()},
                "overrides": self._overrides(),
            },
            "options": self._options(),
            "targets": [
                {
                    "refId": chr(ord("A") + place),
                    "datasource": _DATASOURCE,
                    "expr": query.expression,
                    "legendFormat": query.legend,
                    "instant": self.kind == "stat",
                    "range": self.kind != "stat",
                }
                for place, query in enumerate(self.queries)
            ],
        }

    def _style(self) -> Json:
        if self.kind == "stat":
            return {}
        return {"min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}}

    def _options(self) -> Json:
        if self.kind == "stat":
            return {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value_and_name"}
        return {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }

    def _overrides(self) -> list[Json]:
        if not self.emphasis:
            return []
        return [
            {
                "matcher": {"id": "byRegexp", "options": self.emphasis},
                "properties": [
                    {"id": "color", "value": {"mode": "fixed", "fixedColor": "purple"}},
                    {"id": "custom.lineWidth", "value": 3},
                    {"id": "custom.fillOpacity", "value": 40},
                ],
            }
        ]


@attrs.frozen
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


def dashboard_json(title: str, rows: Iterable[Row], variables: Sequence[Json]) -> Json:
    """Give the dashboard as Grafana imports it."""
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
    """Fill the columns from left to right, row by row."""
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
        number, x, y = number + 1, 0, y + 1
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + HEIGHT
            yield panel.json(number, x, y)
            number, x = number + 1, x + panel.width
        y += HEIGHT


def datasource_variable() -> Json:
    """Let the reader choose a Prometheus."""
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
    }


def label_variable(name: str, query: str) -> Json:
    """Let the reader choose values of a label."""
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
