"""One question of a panel."""

import attrs

from mainstay.ops._grafana.document import DATASOURCE, Json
from mainstay.ops._grafana.unit import Unit
from mainstay.ops._grafana.word import Word, mappings


@attrs.frozen
class Query:
    """One question of a panel, and how its answers look where they differ from the panel's others.

    Attributes:
        expression: The question, as PromQL.
        legend: How its answers are called, with ``{{label}}`` for the values of labels.
        color: That of all its answers; None for those of the panel.
        unit: None for that of the panel.
        words: What is written in place of numbers.
        is_dashed: True for a line that is no figure, but what figures are compared with.
    """

    expression: str
    legend: str
    color: str | None = None
    unit: Unit | None = None
    words: tuple[Word, ...] = ()
    is_dashed: bool = False

    def target(self, reference: str, *, is_instant: bool) -> Json:
        """Return the question as Grafana reads it."""
        return {
            "refId": reference,
            "datasource": DATASOURCE,
            "expr": self.expression,
            "legendFormat": self.legend,
            "instant": is_instant,
            "range": not is_instant,
        }

    def override(self, reference: str) -> Json | None:
        """Return how its answers look, as Grafana reads it; None if as the panel's others."""
        properties: list[Json] = []
        if self.color is not None:
            looks = {"mode": "fixed", "fixedColor": self.color}
            properties.append({"id": "color", "value": looks})
        if self.unit is not None:
            properties.append({"id": "unit", "value": self.unit.name})
            if self.unit.decimals is not None:
                properties.append({"id": "decimals", "value": self.unit.decimals})
        if self.words:
            properties.append({"id": "mappings", "value": mappings(self.words)})
        if self.is_dashed:
            dashes = {"fill": "dash", "dash": [10, 10]}
            properties.append({"id": "custom.lineStyle", "value": dashes})
            properties.append({"id": "custom.fillOpacity", "value": 0})
        if not properties:
            return None
        return {"matcher": {"id": "byFrameRefID", "options": reference}, "properties": properties}
