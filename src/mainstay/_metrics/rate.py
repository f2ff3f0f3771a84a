"""What rate limits call to record what their calls do not: the errors of a shared store."""

from mainstay._metrics.layouts import RATE_STORE_LAYOUT
from mainstay._metrics.schema import RATE_STORE_ERRORS
from mainstay._metrics.series import SeriesTable

_ACTIONS = RATE_STORE_LAYOUT.slots[RATE_STORE_ERRORS]


class RateStoreRecorder:
    """Records the errors of the store of one rate limit.

    It raises nothing and blocks nowhere, as `Recorder`.
    """

    __slots__ = ("_group", "_table")

    def __init__(self, table: SeriesTable, component: str) -> None:
        self._table = table
        self._group = table.group(RATE_STORE_LAYOUT, (component,))

    def failed(self, action: str) -> None:
        """Record an error of the store, and what was done instead."""
        self._table.add(self._group, _ACTIONS[action])
