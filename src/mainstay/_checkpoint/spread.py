"""`Spread`: the progress of a `cp.map`, whose items may end in any order.

As long as all items before the last done one are done, the cursor is that of `iterate`, and either
can continue from the other's cursor. Otherwise the cursor also has

    "above"     the done items beyond the first unfinished one, and the sum of their keys
    "position"  the position of the item in progress, if it is not the first unfinished one

On a resume, the source is read up to the last done item, and the keys are compared before an item
begins. An item with saved inner iterations comes before all others, since the state has their
changes.
"""

import itertools
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs

from mainstay._checkpoint.above import Above, positions_in
from mainstay._checkpoint.codec import Json
from mainstay._checkpoint.iteration import NOTHING, OUT_OF_ORDER, Iteration
from mainstay._checkpoint.value_digest import check_keys, is_same_key, item_digest
from mainstay.errors import SourceChangedError


@attrs.frozen(eq=False)
class Item:
    """An item of the source, as it was when it was read."""

    position: int
    value: Any
    key: Any


@attrs.define(eq=False)
class Spread(Iteration):
    """One iteration of a run whose items are worked on side by side.

    Attributes:
        ordered: True if the loop gets its items in the order of the source.
        first: The position of the item that has to come first, or None.
        waiting: Items that were read on the way to others that are done, to begin next.
    """

    ordered: bool = True
    first: int | None = None
    waiting: deque[Item] = attrs.field(factory=deque)
    _position: int = 0
    _read: int = 0
    _last_read: Any = NOTHING
    _positions: list[int] = attrs.field(factory=list)
    _above: Above = attrs.field(factory=Above)
    _saved_above: list[str] = attrs.field(factory=lambda: ["0", "0"])
    _done_above: frozenset[int] = frozenset()
    _open: set[str] = attrs.field(factory=set)

    @property
    def done(self) -> int:
        """How many items are done, by all attempts."""
        return self.count + len(self.keys) + len(self._above)

    @property
    def position(self) -> int:
        """Where in the source the item in progress is."""
        return self._position

    @property
    def read(self) -> int:
        """How many items of the source were read, or passed over."""
        return max(self.count, self._read)

    @property
    def next_position(self) -> int:
        """The position of the item that begins next."""
        return self.waiting[0].position if self.waiting else self.read

    def restore(self, cursor: Json) -> None:
        """Go back to where *cursor* says that the iteration was."""
        position = cursor.get("position", cursor["count"])
        self._saved_above = cursor.get("above", self._saved_above)
        super().restore({name: cursor[name] for name in cursor.keys() - OUT_OF_ORDER})
        self._done_above = positions_in(self._saved_above, self.count)
        self.began += len(self._done_above)
        self._last_read = self.last
        if self.inner:
            self.first = position

    def cursor(self, going_on: Json | None = None) -> Json:
        """Return the cursor to save: what is done, and where inside the item in progress."""
        cursor = super().cursor(going_on)
        if self._above:
            cursor["above"] = self._above.saved()
        if cursor["inner"] and self.position != self.count:
            cursor["position"] = self.position
        return cursor

    def item_done(self) -> None:
        """Count the item in progress as done."""
        if self.item is not NOTHING:
            self._positions.append(self.position)
        super().item_done()

    def flush(self) -> int:
        """Put the items done into the digest as far as there is no gap; return their number."""
        done = len(self.keys)
        for position, key in zip(self._positions, self.keys, strict=True):
            passed = self._above.add(position, key)
            if passed:
                self._add(passed)
                if self._open:
                    self._open.difference_update(map(item_digest, passed))
        self.keys.clear()
        self._positions.clear()
        return done

    def enter(self, item: Item) -> None:
        """Record that *item* is in progress."""
        self._position, self.last, self.item = item.position, item.key, item.value

    # Reading the source.

    def item_of(self, value: Any) -> Item:
        """Return what was read next as an item.

        Raises:
            SourceChangedError: If its key is that of its neighbour, or of another one under way.
            UnsaveableValueError: If its key is not the same in every process.
        """
        key = self.key_of(value)
        if key == self._last_read and is_same_key(key, self._last_read):
            raise self.same_key(key)
        check_keys([key], self.name)
        if not (self.ordered or self.by_position):
            digest = item_digest(key)
            if digest in self._open:
                raise self._key_under_way(key)
            self._open.add(digest)
        item = Item(self.read, value, key)
        self._last_read, self._read = key, item.position + 1
        return item

    def pass_over(self, items: Iterator[Any]) -> None:
        """Take the items that are done out of *items*, with those between, and check them."""
        if not self.trusted:
            super().pass_over(items)
        for value in itertools.islice(items, self._begin_reading()):
            self._reread(self.item_of(value))
        self._verify_above()

    async def apass_over(self, items: AsyncIterator[Any]) -> None:
        """Take the items that are done out of *items*, with those between, and check them."""
        if not self.trusted:
            await super().apass_over(items)
        for _ in range(self._begin_reading()):
            value = await anext(items, NOTHING)
            if value is NOTHING:
                break
            self._reread(self.item_of(value))
        self._verify_above()

    def _begin_reading(self) -> int:
        """Return how many items there are to read, beyond the first gap, before any may begin."""
        self._above.gap = self.count
        return 1 + self._last_to_reread() - self.count

    def _last_to_reread(self) -> int:
        first = -1 if self.first is None else self.first
        return max(self.count - 1, first, *self._done_above)

    def _reread(self, item: Item) -> None:
        if item.position in self._done_above:
            self._above.add(item.position, item.key)
        elif item.position == self.first:
            self.waiting.appendleft(item)
        else:
            self.waiting.append(item)

    def _verify_above(self) -> None:
        missing = sum(position >= self.read for position in self._done_above)
        if missing:
            raise self.changed(f"it ends too early: {missing} more had been done before")
        if self._above.saved() != self._saved_above or self._last_to_reread() >= self.read:
            raise self.changed(
                "the items beyond the first unfinished item are not the same, or in another order"
            )

    def _key_under_way(self, key: object) -> SourceChangedError:
        return self._error(
            f"another item under way has the key {key!r:.60}, too; out of order give a `key` that "
            f"tells all items apart"
        )
