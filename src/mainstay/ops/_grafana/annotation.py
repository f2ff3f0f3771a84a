"""Lines through all panels at the moments when something happened."""

import attrs

from mainstay.ops._grafana.document import DATASOURCE, Json


@attrs.frozen
class Annotation:
    """One kind of event.

    Attributes:
        expression: PromQL that is above 0 when it happened.
        title: What is shown on top of the line, with ``{{label}}`` for the values of labels.
        text: What is shown below that.
    """

    name: str
    expression: str
    color: str
    title: str
    text: str

    def json(self) -> Json:
        """Return it as Grafana reads it."""
        return {
            "name": self.name,
            "datasource": DATASOURCE,
            "enable": True,
            "hide": False,
            "iconColor": self.color,
            "expr": self.expression,
            "step": "15s",
            "titleFormat": self.title,
            "textFormat": self.text,
        }
