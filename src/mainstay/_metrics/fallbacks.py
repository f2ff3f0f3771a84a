"""What a fallback records, besides what every call does."""

from mainstay._metrics.layouts import FALLBACK_AGE_LAYOUT, FALLBACK_LAYOUT
from mainstay._metrics.schema import FALLBACKS
from mainstay._metrics.series import SeriesTable

_SOURCES = FALLBACK_LAYOUT.slots[FALLBACKS]


class FallbackRecorder:
    """Records the answers of one component's fallback. It raises nothing and blocks nowhere."""

    __slots__ = ("_component", "_group", "_table")

    def __init__(self, table: SeriesTable, component: str) -> None:
        self._table = table
        self._component = component
        self._group = table.group(FALLBACK_LAYOUT, (component,))

    def answered(self, source: str, age: float | None) -> None:
        """Record an answer; *age* is how old it is in seconds, if it was kept."""
        self._table.add(self._group, _SOURCES[source])
        if age is not None:
            group = self._table.group(FALLBACK_AGE_LAYOUT, (self._component,))
            self._table.observe(group, max(0.0, age))
