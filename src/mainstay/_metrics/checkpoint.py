"""What checkpointed functions record, besides what every call does.

Nothing here is called for each item: what items came to is counted with the save that makes it
last.
"""

from bisect import bisect_left
from typing import TYPE_CHECKING

from mainstay._core.clock import wall_time
from mainstay._metrics import schema
from mainstay._metrics.gauges import Latest
from mainstay._metrics.layouts import SAVE_LAYOUT, SIZE_LAYOUT
from mainstay._metrics.recorder import Recorder

if TYPE_CHECKING:
    from mainstay._metrics.book import Book


_SAVES = SAVE_LAYOUT.slots(schema.CHECKPOINT_SAVES)
_SAVED = _SAVES["ok"]
_ITEMS = SAVE_LAYOUT.slots(schema.CHECKPOINT_ITEMS)
_STEPS = SAVE_LAYOUT.slots(schema.CHECKPOINT_STEPS)
_RESUMES = SAVE_LAYOUT.slots(schema.CHECKPOINT_RESUMES)
_SAVED_SECONDS = SAVE_LAYOUT.slot(schema.CHECKPOINT_SAVED_SECONDS)
_REPLAYED_SECONDS = SAVE_LAYOUT.slot(schema.CHECKPOINT_REPLAYED_SECONDS)
_LEASE_LOST = SAVE_LAYOUT.slot(schema.CHECKPOINT_LEASE_LOST)
_CORRUPT = SAVE_LAYOUT.slot(schema.CHECKPOINT_CORRUPT)


class CheckpointRecorder(Recorder):
    """Records the runs of one component. It raises nothing and blocks nowhere."""

    __slots__ = ("_interval", "_last_save", "_saves", "_sizes")

    def __init__(self, book: "Book", labels: tuple[str, str]) -> None:
        super().__init__(book, labels)
        component = labels[:1]
        self._saves = book.group(SAVE_LAYOUT, component)
        self._sizes = book.group(SIZE_LAYOUT, component)
        self._last_save = Latest(book.number(schema.CHECKPOINT_LAST_SAVE, labels[0]))
        self._interval = Latest(book.number(schema.CHECKPOINT_INTERVAL, labels[0]))

    def saved(self, seconds: float, size: int | None) -> None:
        """Record a save that took *seconds*; *size* is the document's, if there was one."""
        durations, counters = self._book.cells.cell(self._saves)
        durations[bisect_left(self._saves.bounds, seconds)] += 1.0
        durations[-1] += seconds
        counters[_SAVED] += 1.0
        if size is not None:
            sizes, _ = self._book.cells.cell(self._sizes)
            sizes[bisect_left(self._sizes.bounds, size)] += 1.0
            sizes[-1] += size
        self._last_save.set(wall_time())

    def save_failed(self) -> None:
        """Record a save that the store could not make."""
        self._add(_SAVES["error"])

    def fenced(self) -> None:
        """Record a save that came after a takeover."""
        self._add(_SAVES["fenced"])

    def lease_lost(self) -> None:
        """Record that a run was taken over."""
        self._add(_LEASE_LOST)

    def damaged(self) -> None:
        """Record that something saved could not be read."""
        self._add(_CORRUPT)

    def items(self, outcome: str, count: float) -> None:
        """Record *count* items: done, skipped or failed."""
        self._add(_ITEMS[outcome], count)

    def step(self, source: str) -> None:
        """Record a step: executed or replayed."""
        self._add(_STEPS[source])

    def resumed(self, reason: str, saved_seconds: float, replayed_seconds: float) -> None:
        """Record that a run goes on, what need not be done again, and what must."""
        self._add(_RESUMES[reason])
        self._add(_SAVED_SECONDS, saved_seconds)
        self._add(_REPLAYED_SECONDS, replayed_seconds)

    def interval(self, seconds: float) -> None:
        """Record the interval between saves that is in force."""
        self._interval.set(seconds)

    def _add(self, slot: int, amount: float = 1.0) -> None:
        self._book.cells.cell(self._saves)[1][slot] += amount
