"""A panel of a dashboard; `graph`, `stat` and `timeline` make them."""

import attrs

from mainstay.ops._grafana.document import DATASOURCE, HERE, Json
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.thresholds import Thresholds
from mainstay.ops._grafana.unit import Unit
from mainstay.ops._grafana.word import Word, mappings

HEIGHT = 8

_REFERENCES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ONLY_THIS: Json = {
    "title": "Show only ${__field.labels.component}",
    "url": f"{HERE}&var-component=${{__field.labels.component}}",
}


@attrs.frozen(kw_only=True)
class Panel:
    """One panel.

    Attributes:
        kind: Its type, as Grafana names it.
        description: What it shows, and what to make of it.
        unit: That of its numbers.
        thresholds: Colors of its numbers by size.
        words: What is written in place of numbers.
        field: More of how its figures look, as Grafana reads it.
        options: More of how it looks itself, as Grafana reads it.
        is_instant: True if it asks for now, False if for all of the time that is shown.
        no_value: What is written where there is no answer; "" for Grafana's own words.
        data_points: How many points it wants; None for as many as there is room for.
        width: In columns; 0 for an equal share of its line.
        height: In rows.
    """

    kind: str
    title: str
    description: str
    queries: tuple[Query, ...]
    unit: Unit
    thresholds: Thresholds
    field: Json
    options: Json
    words: tuple[Word, ...] = ()
    is_instant: bool = False
    no_value: str = ""
    data_points: int | None = None
    width: int = 0
    height: int = HEIGHT

    def sized(self, width: int, height: int) -> "Panel":
        """Return the same in another size."""
        return attrs.evolve(self, width=width, height=height)

    def json(self, number: int, x: int, y: int, width: int) -> Json:
        """Return it as Grafana reads it."""
        referred = list(zip(_REFERENCES, self.queries, strict=False))
        overrides = [query.override(reference) for reference, query in referred]
        written: Json = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": width, "h": self.height},
            "fieldConfig": {
                "defaults": self._defaults(),
                "overrides": [each for each in overrides if each is not None],
            },
            "options": self.options,
            "targets": [
                query.target(reference, is_instant=self.is_instant) for reference, query in referred
            ],
        }
        if self.data_points is not None:
            written["maxDataPoints"] = self.data_points
        return written

    def _defaults(self) -> Json:
        """Return how figures look, with a link to their component alone where they have one."""
        defaults: Json = {
            "unit": self.unit.name,
            "thresholds": self.thresholds.json(),
            "mappings": mappings(self.words),
            **self.field,
        }
        if self.unit.decimals is not None:
            defaults["decimals"] = self.unit.decimals
        if self.unit.most is not None:
            defaults["max"] = self.unit.most
        if self.no_value:
            defaults["noValue"] = self.no_value
        if any("{{component}}" in query.legend for query in self.queries):
            defaults["links"] = [_ONLY_THIS]
        return defaults
