"""Units of numbers."""

import attrs


@attrs.frozen
class Unit:
    """What numbers are, and how they are written.

    Attributes:
        name: As Grafana names it, or ``suffix:`` and what is to follow the number.
        decimals: Digits after the point; None for as many as the number is worth.
        most: The largest number there can be; None where there is none.
    """

    name: str
    decimals: int | None = None
    most: float | None = None


COUNT = Unit("none", decimals=0)
NUMBER = Unit("short")
SHARE = Unit("percentunit", most=1)
FINE_SHARE = Unit("percentunit", decimals=2, most=1)
SECONDS = Unit("s")
BYTES = Unit("bytes")
RATE = Unit("ops")
PER_SECOND = Unit("hertz")


def counted(noun: str) -> Unit:
    """Return whole numbers that are followed by a noun."""
    return Unit(f"suffix: {noun}", decimals=0)
