"""What checkpointed functions record, besides what every call does.

Nothing here is called for each item: what items came to is counted with the save that makes it
last.
"""

from collections.abc import Callable
from typing import Any, Protocol

from mainstay._core.clock import wall_time
from mainstay._metrics import schema
from mainstay._metrics.expected import ExpectedItems
from mainstay._metrics.gauges import LatestNumber, NumberGauge
from mainstay._metrics.layouts import SAVE_LAYOUT, SIZE_LAYOUT
from mainstay._metrics.recorder import Recorder
from mainstay._metrics.schema import Family
from mainstay._metrics.series import SeriesTable

_SAVES = SAVE_LAYOUT.slots[schema.CHECKPOINT_SAVES]
_ITEMS = SAVE_LAYOUT.slots[schema.CHECKPOINT_ITEMS]
_STEPS = SAVE_LAYOUT.slots[schema.CHECKPOINT_STEPS]
_RESUMES = SAVE_LAYOUT.slots[schema.CHECKPOINT_RESUMES]
_SAVED_SECONDS = SAVE_LAYOUT.slots[schema.CHECKPOINT_SAVED_SECONDS][""]
_REPLAYED_SECONDS = SAVE_LAYOUT.slots[schema.CHECKPOINT_REPLAYED_SECONDS][""]
_LEASE_LOST = SAVE_LAYOUT.slots[schema.CHECKPOINT_LEASE_LOST][""]
_STORE_RETRIES = SAVE_LAYOUT.slots[schema.CHECKPOINT_STORE_RETRIES][""]
_CORRUPT = SAVE_LAYOUT.slots[schema.CHECKPOINT_CORRUPT][""]


class _RunFinder(Protocol):
    """What a `Metrics` has to find the recorders of checkpointed functions."""

    def checkpoint(self, component: str, /) -> "CheckpointRecorder": ...


class CheckpointRecorder(Recorder):
    """Records the runs of one component. It raises nothing and blocks nowhere.

    Args:
        table: Where it records.
        component: The label.
        number: Finds a gauge of the component.
    """

    __slots__ = ("_expected", "_interval", "_last_save", "_saves", "_sizes")

    def __init__(
        self, table: SeriesTable, component: str, number: Callable[[Family], NumberGauge]
    ) -> None:
        super().__init__(table, component, "checkpoint")
        self._saves = table.group(SAVE_LAYOUT, (component,))
        self._sizes = table.group(SIZE_LAYOUT, (component,))
        self._last_save = LatestNumber(number(schema.CHECKPOINT_LAST_SAVE))
        self._interval = LatestNumber(number(schema.CHECKPOINT_INTERVAL))
        self._expected = ExpectedItems(number(schema.CHECKPOINT_EXPECTED), self._counted)

    def within(self, metrics: Any, component: str) -> "CheckpointRecorder":
        """Return the recorder of the runs of *component* in other metrics."""
        finder: _RunFinder = metrics._recorders  # noqa: SLF001 - which users do not see
        return finder.checkpoint(component)

    def begins(self) -> None:
        """Record that an attempt begins: the store keeps its number, and who makes it."""
        self._last_save.set(wall_time())

    def saved(self, seconds: float, size: int | None) -> None:
        """Record a save that took *seconds*; *size* is the document's, if there was one."""
        self.table.observe(self._saves, seconds, _SAVES["ok"])
        if size is not None:
            self.table.observe(self._sizes, size)
        self._last_save.set(wall_time())

    def save_failed(self) -> None:
        """Record a save that the store could not make."""
        self.table.add(self._saves, _SAVES["error"])

    def fenced(self) -> None:
        """Record a save that came after a takeover."""
        self.table.add(self._saves, _SAVES["fenced"])

    def lease_lost(self) -> None:
        """Record that a run was taken over."""
        self.table.add(self._saves, _LEASE_LOST)

    def store_retried(self) -> None:
        """Record that a request is sent to the store again."""
        self.table.add(self._saves, _STORE_RETRIES)

    def damaged(self) -> None:
        """Record that something saved could not be read."""
        self.table.add(self._saves, _CORRUPT)

    def items(self, outcome: str, count: float) -> None:
        """Record *count* items: done, skipped or failed."""
        self.table.add(self._saves, _ITEMS[outcome], count)

    def iterates(self, run: object, left: int | None) -> None:
        """Record that an iteration of *run* begins.

        Args:
            run: An object that identifies the run until it is over.
            left: The number of items that it will still count; None if unknown.
        """
        self._expected.begin(run, left)

    def goes_on(self, run: object, left: int | None) -> None:
        """Record how many items *run* is still to count now."""
        self._expected.go_on(run, left)

    def over(self, run: object) -> None:
        """Record that *run* counts nothing more."""
        self._expected.forget(run)

    def _counted(self) -> float:
        _, counters = self.table.cells.totals(self._saves)
        return counters[_ITEMS["done"]] + counters[_ITEMS["skipped"]]

    def step(self, source: str) -> None:
        """Record a step: executed or replayed."""
        self.table.add(self._saves, _STEPS[source])

    def resumed(self, reason: str, saved_seconds: float, replayed_seconds: float) -> None:
        """Record that a run is resumed, and the work that is saved and that is repeated."""
        self.table.add(self._saves, _RESUMES[reason])
        self.table.add(self._saves, _SAVED_SECONDS, saved_seconds)
        self.table.add(self._saves, _REPLAYED_SECONDS, replayed_seconds)

    def interval(self, seconds: float) -> None:
        """Record the interval between saves that is in force."""
        self._interval.set(seconds)
