"""The recorder of invalid headers."""

from mainstay._metrics.layouts import WIRE_LAYOUT
from mainstay._metrics.schema import WIRE_ERRORS
from mainstay._metrics.series import SeriesTable

_HEADERS = WIRE_LAYOUT.slots[WIRE_ERRORS]


class WireRecorder:
    """Records headers that are garbage.

    It raises nothing and blocks nowhere, as `Recorder`.
    """

    __slots__ = ("_table",)

    def __init__(self, table: SeriesTable) -> None:
        self._table = table

    def unreadable(self, header: str) -> None:
        """Record a header of one of the kinds `WIRE_HEADERS`."""
        self._table.add(self._table.wire, _HEADERS[header])
