"""Puts a dashboard together."""

from collections.abc import Iterable, Sequence

from mainstay.ops._grafana.annotation import Annotation
from mainstay.ops._grafana.document import HERE, Json
from mainstay.ops._grafana.row import Row, placed

SCHEMA_VERSION = 36  # Grafana 9 and newer

_ALL_COMPONENTS: Json = {
    "type": "link",
    "title": "All components",
    "tooltip": "Show all components again",
    "url": f"{HERE}&var-component=$__all",
    "icon": "dashboard",
    "tags": [],
    "asDropdown": False,
    "includeVars": False,
    "keepTime": False,
    "targetBlank": False,
}


def board(
    title: str,
    description: str,
    rows: Iterable[Row],
    variables: Sequence[Json],
    annotations: Iterable[Annotation],
) -> Json:
    """Return the dashboard as Grafana imports it."""
    return {
        "title": title,
        "description": description,
        "uid": title,
        "tags": ["mainstay"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "links": [_ALL_COMPONENTS],
        "templating": {"list": list(variables)},
        "annotations": {"list": [each.json() for each in annotations]},
        "panels": list(placed(rows)),
    }
