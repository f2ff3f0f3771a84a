"""Words in place of numbers."""

from collections.abc import Sequence

import attrs

from mainstay.ops._grafana.document import Json


@attrs.frozen
class Word:
    """What is written for a number.

    Attributes:
        value: The number, or the end of the range below 0 where `is_below` is true.
        color: That of the text, or of what the text stands on; None for that of the thresholds.
    """

    value: float
    text: str
    color: str | None = None
    is_below: bool = False

    def json(self, place: int) -> Json:
        """Return it as Grafana reads it."""
        result: Json = {"text": self.text, "index": place}
        if self.color is not None:
            result["color"] = self.color
        if self.is_below:
            return {"type": "range", "options": {"from": None, "to": self.value, "result": result}}
        return {"type": "value", "options": {f"{self.value:g}": result}}


def mappings(words: Sequence[Word]) -> list[Json]:
    """Return words as Grafana reads them."""
    return [word.json(place) for place, word in enumerate(words)]
