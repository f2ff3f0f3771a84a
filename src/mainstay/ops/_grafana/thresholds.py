"""From which number on something has another color."""

import attrs

from mainstay.ops._grafana import color
from mainstay.ops._grafana.document import Json


@attrs.frozen
class Thresholds:
    """Colors by size.

    Attributes:
        base: The color of small numbers, and of no number at all.
        steps: Pairs of a number and the color from it on, ascending.
    """

    base: str
    steps: tuple[tuple[float, str], ...] = ()

    def json(self) -> Json:
        """Return it as Grafana reads it."""
        return {
            "mode": "absolute",
            "steps": [
                {"color": self.base, "value": None},
                *({"color": each, "value": value} for value, each in self.steps),
            ],
        }


PLAIN = Thresholds(color.COLD)
"""For numbers that are neither good nor bad."""


def above(
    *, degraded: float | None = None, failing: float | None = None, base: str = color.WELL
) -> Thresholds:
    """Return thresholds for numbers that are bad when they are large."""
    pairs = ((degraded, color.DEGRADED), (failing, color.FAILING))
    return Thresholds(base, tuple((value, each) for value, each in pairs if value is not None))


def below(*, degraded: float, failing: float) -> Thresholds:
    """Return thresholds for numbers that are bad when they are small."""
    return Thresholds(color.FAILING, ((failing, color.DEGRADED), (degraded, color.WELL)))
