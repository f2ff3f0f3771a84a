"""`Archive`: the cursors of iterations that have ended, kept out of the document.

A run may have thousands of iterations, one after the other, and a resume needs the cursor of each.
If the document held all cursors, each save would be larger than the one before. So the document
holds a few cursors of each place; the others are in rows, like results of steps: written once, and
removed with the item that they belong to.

A row has only cursors that the document of the previous save had, too. So if the newest document is
damaged, the rows also fit the document before it.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import attrs

from mainstay._checkpoint.scalars import Json

MOST_KEPT = 32
"""How many cursors of a place may be in the document before some are moved."""


class _Place(Protocol):
    """Where iterations are: outside everything, or inside an item."""

    path: str
    cursors: dict[str, Json]


class _Rows(Protocol):
    """What keeps rows of cursors."""

    def keep_cursors(self, place: Any, cursors: dict[str, Json]) -> int:
        """Keep a row, to be written with the next save; return its number."""
        ...

    def is_unsaved(self, number: int) -> bool:
        """True if a row is not written yet."""
        ...


@attrs.define(eq=False)
class Archive:
    """Moves cursors from the document into rows, a row at a time for each place."""

    _rows: _Rows
    _moving: dict[str, tuple[int, dict[str, Json]]] = attrs.field(factory=dict, init=False)
    _captured: dict[str, dict[str, Json]] = attrs.field(factory=dict, init=False)
    _saved: dict[str, dict[str, Json]] = attrs.field(factory=dict, init=False)

    def capture(self, places: Sequence[tuple[_Place, dict[str, Json]]]) -> None:
        """Begin a save: take out what rows have by now, and move what the last document had.

        Args:
            places: The places whose iterations are over or go on, each with the cursors of those
                that are over, which the document would hold.
        """
        captured = {}
        for place, kept in places:
            if place.path in self._moving:
                self._take_out_what_is_moved(place, kept)
            if len(kept) > MOST_KEPT and place.path not in self._moving:
                there = self._saved.get(place.path, {})
                moved = {name: each for name, each in kept.items() if there.get(name) is each}
                if moved:
                    number = self._rows.keep_cursors(place, moved)
                    self._moving[place.path] = number, moved
                captured[place.path] = dict(kept)
        self._captured = captured

    def saved(self) -> None:
        """Record that the save is made that was begun last."""
        self._saved = self._captured

    def _take_out_what_is_moved(self, place: _Place, kept: dict[str, Json]) -> None:
        number, moved = self._moving[place.path]
        if self._rows.is_unsaved(number):
            return
        del self._moving[place.path]
        for name, cursor in moved.items():
            if kept.get(name) is cursor:  # or the iteration has gone on since
                place.cursors[name] = kept.pop(name)
