"""Where an iteration is: how many items are done, the last key, and the digest of all keys.

The digest is fed in chunks, and does not depend on how they are cut. Passing over what is done
feeds it again, so that any other order, any item more or less before the cursor, gives another
digest.
"""

import itertools
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import attrs

from mainstay._checkpoint.codec import Codec, Json
from mainstay._checkpoint.fingerprint import check_keys, fingerprint, mark
from mainstay._checkpoint.leaving import Way, is_on_its_way, way_out
from mainstay._checkpoint.order import Order
from mainstay.errors import CheckpointError, SourceChangedError
from mainstay.stores.base import RunId

CHUNK = 256
NOTHING: Any = object()
"""In place of an item where none is in progress, and of a key before the first one."""

_KEY = Codec({})


@attrs.define(eq=False)
class Loop:
    """One iteration of a run.

    Attributes:
        run: Which run.
        name: What it is called, with its number where the name was used before.
        trusted: Whether the source begins after the last key by itself.
        scope: What its name is within, in the whole run: the items around it.
        by_position: Whether items have no key of the user's, and are told apart by their place.
        count: Items done that the digest knows of.
        last: The key of the last item done, or in progress.
        keys: The keys of items done since.
        item: The item in progress.
        used: Whether something in the item in progress was saved or begun that ends with it.
        nests: Whether there are iterations inside its items.
        dirty: Whether the item in progress changed the state itself, before one of them.
        began: How many items were done before this attempt.
        inner: The cursors of iterations inside the item in progress.
        deferred: Whether saves have to wait for the item around it.
        limit: After how many items to come to a boundary, whatever the time.
    """

    run: RunId
    name: str
    key_of: Callable[[Any], Any]
    trusted: bool
    scope: str
    by_position: bool = attrs.field(default=False, kw_only=True)
    count: int = 0
    last: Any = NOTHING
    keys: list[Any] = attrs.field(factory=list)
    item: Any = NOTHING
    used: bool = False
    nests: bool = False
    dirty: bool = False
    began: int = 0
    inner: dict[str, Json] = attrs.field(factory=dict)
    deferred: bool = False
    limit: int = CHUNK
    _left: Way | None = None
    _done: Any = NOTHING
    _order: Order = attrs.field(factory=Order)
    _expected: str = ""
    _at: str = ""

    @property
    def closed(self) -> bool:
        """Whether it was left before its end; not by an exception that is still on its way.

        What a `finally` or `except` does meanwhile belongs to the item that is to run again.
        """
        return self._left is not None and not is_on_its_way(self._left)

    @closed.setter
    def closed(self, left: bool) -> None:
        # Of who let go of it, which is nobody at the end of the process.
        self._left = way_out(sys._getframe(1).f_back) if left else None  # noqa: SLF001

    def restore(self, cursor: Json) -> None:
        """Go back to where a cursor says that the iteration was."""
        self.count = self.began = cursor["count"]
        self.last = _KEY.decode(cursor["last"][0], "last key") if cursor["last"] else NOTHING
        self._done = self.last
        self.closed = cursor["closed"]
        self.inner = cursor["inner"]
        self.used = bool(self.inner)
        self._expected = cursor["digest"]
        self._at = cursor["at"]

    def cursor(self, going_on: Json | None = None) -> Json:
        """Give the cursor to save: up to the last item done, and where inside the next one.

        Args:
            going_on: The cursors of iterations that are going on inside the item in progress.
        """
        self.flush()
        inner = {**self.inner, **(going_on or {})} if self.item is not NOTHING else {}
        return {
            "count": self.count,
            "last": [] if self._done is NOTHING else [_KEY.encode(self._done, "last key")],
            "digest": "" if self.trusted else self._order.digest(),
            "closed": self.closed,
            "at": mark(self.last) if inner else "",
            "inner": inner,
        }

    def flush(self) -> None:
        """Take the keys of items done into the digest."""
        keys = self.keys
        if keys:
            types = check_keys(keys, self.name)
            if not self.trusted:
                self._order.add(keys, types)
            self.count += len(keys)
            self._done = keys[-1]
            keys.clear()

    def item_done(self) -> None:
        """Count the item in progress as done, where the loop that asked for it was left."""
        if self.item is not NOTHING:
            self.item = NOTHING
            self.keys.append(self.last)

    def item_label(self) -> str:
        """Name the item in progress."""
        return f"{self.name}[{self._mark(self.last)}]"

    def item_scope(self) -> str:
        """Say what the names of everything inside the item in progress begin with."""
        return f"{self.scope}{self.item_label()}/"

    def mark_of(self, item: object) -> str:
        """Give 32 hexadecimal digits that an item is known by, None being the one in progress.

        Without a key of the user's, an item equal to the one in progress is that one. Of any other
        nobody knows which place it has; the digits of two equal ones would be the same.

        Raises:
            CheckpointError: If there is no key of the user's, and it is another item.
            UnsaveableValueError: If its key is not the same in every process.
        """
        if item is None or item is self.item:
            return self._mark(self.last)
        if not self.by_position:
            return self._mark(self.key_of(item))
        if fingerprint(item, "item") != self.last[1]:
            raise CheckpointError(
                f"{self.run.name}: without `key`, only the item in progress of iteration "
                f"{self.name!r} of run {self.run.key!r} has an idempotency key, since equal items "
                f"differ by nothing but their place; give the iteration a `key`"
            )
        return self._mark(self.last)

    def _mark(self, key: Any) -> str:
        check_keys([key], self.name)
        return mark(key)

    @property
    def position(self) -> int:
        """How many items come before the one in progress."""
        return self.count + len(self.keys)

    @property
    def is_at_first_item(self) -> bool:
        """Whether no item is done yet in this attempt."""
        return self.position == self.began

    def check_item(self) -> None:
        """Check that saved iterations inside an item belong to the one in progress."""
        if self._at and mark(self.last) != self._at:
            raise self.changed("the item in progress when the run was saved is another one now")

    def leave_item(self) -> None:
        """Forget what was inside the item in progress."""
        self.inner = {}
        self._at = ""
        self.used = self.nests
        self.dirty = False

    def refuse(self, key: object) -> SourceChangedError:
        """Make the error of a key that is the same as the one before it."""
        consequence = "and `key` must tell neighbours apart"
        if self.trusted and not self.keys:
            consequence = "so the source does not begin after it"
        return self.changed(f"the key {key!r:.60} comes twice in a row, {consequence}")

    def changed(self, problem: str) -> SourceChangedError:
        """Make the error of a source that is not what it was."""
        return SourceChangedError(
            self.run.name, self.run.key, self.name, self.count + len(self.keys), problem
        )

    # Passing over what is done, sync and async side by side.

    def pass_over(self, items: Iterator[Any]) -> None:
        """Take the items that are done out of *items*, and check that they are the same."""
        left, self.count = self.count, 0
        while left:
            chunk = [*itertools.islice(items, min(left, CHUNK))]
            left = self._passed(chunk, left)
        self._verify()

    async def apass_over(self, items: AsyncIterator[Any]) -> None:
        """Take the items that are done out of *items*, and check that they are the same."""
        left, self.count = self.count, 0
        while left:
            chunk: list[Any] = []
            while len(chunk) < min(left, CHUNK):
                try:
                    chunk.append(await anext(items))
                except StopAsyncIteration:
                    break
            left = self._passed(chunk, left)
        self._verify()

    def _passed(self, chunk: list[Any], left: int) -> int:
        if not chunk:
            raise self.changed(f"it has ended, and {left} more had been done before")
        self.keys.extend(map(self.key_of, chunk))
        self.flush()
        return left - len(chunk)

    def _verify(self) -> None:
        # Without a digest the source was a callable then; of what it gave the last key is known.
        same = self._order.digest() == self._expected if self._expected else self._done == self.last
        if not same:
            raise self.changed("the items up to there are not the same, or in another order")


def key_function(key: Callable[[Any], Any] | None, name: str, done: int) -> Callable[[Any], Any]:
    """Give the function from an item to its key: the user's, or position and fingerprint."""
    if key is not None:
        return key
    positions = itertools.count(done)

    def position_and_fingerprint(item: object) -> tuple[int, str]:
        position = next(positions)
        return position, fingerprint(item, f"iteration {name!r}: items[{position}]")

    return position_and_fingerprint
