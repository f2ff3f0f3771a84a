"""`Iteration`: the progress of one loop: number of done items, last key, digest of all keys.

The digest is computed in chunks, and does not depend on their lengths. On a resume, the keys of the
done items are digested again: another order, or an item more or less before the cursor, gives
another digest.

An iterator cannot see if its loop was left by `break` or by an exception that still propagates: it
is dropped in both cases. But the frame that drops it is at an instruction then, and a traceback
says at which instruction each frame was left (`exit_points`).
"""

import contextlib
import inspect
import itertools
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType
from typing import Any, TypeAlias

import attrs

from mainstay._checkpoint.codec import Codec, Json
from mainstay._checkpoint.document import restored
from mainstay._checkpoint.key_digest import KeyDigest
from mainstay._checkpoint.value_digest import (
    ITEMS,
    check_keys,
    is_same_key,
    item_digest,
    value_digest,
)
from mainstay.errors import CheckpointError, CodeChangedError, SourceChangedError
from mainstay.stores.base import RunId

CHUNK = 256
"""The most items that are done before their keys go into the digest."""

OUT_OF_ORDER = frozenset({"above", "position"})
"""What only the cursors of iterations have whose items are done in any order; see `spread`."""

NOTHING: Any = object()
"""In place of an item where none is in progress, and of a key before the first one."""

ExitPoints: TypeAlias = frozenset[tuple[int, int]]
"""Frames by their identity, with the instruction that each was at."""

_KEY = Codec({})
_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_ADVICE = "restore the source, or forget the run"


@attrs.define(eq=False)
class Iteration:
    """One iteration of a run.

    Attributes:
        run: The run as messages name it: by its component and key.
        name: The name of the iteration, with a number if the name was used before.
        trusted: True if the source is a callable, which begins after the last key.
        scope: The items around the iteration, which are part of its identity.
        by_position: True if items have no key of the user's, and are identified by position.
        count: The number of done items whose keys are in the digest.
        last: The key of the last item that is done, or of the item in progress.
        keys: The keys of done items that are not in the digest yet.
        used: True if steps or iterations were saved or begun in the item in progress.
        nests: True if there are iterations inside the items.
        dirty: True if the item in progress changed the state before an iteration inside it.
        began: The number of items that were done before this attempt.
        length: The number of items of the source, done ones included; None if unknown.
        inner: The cursors of iterations inside the item in progress.
        names: The number of uses of each name by these iterations.
        waits: True if saves wait for the end of the outer item.
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
    length: int | None = None
    inner: dict[str, Json] = attrs.field(factory=dict)
    names: dict[str, int] = attrs.field(factory=dict)
    waits: bool = False
    _left: ExitPoints | None = None
    _done: Any = NOTHING
    _digest: KeyDigest = attrs.field(factory=KeyDigest)
    _expected: str = ""
    _start: int = 0
    _at: str = ""

    @property
    def closed(self) -> bool:
        """True if it was left before its end; not by an exception that still propagates.

        What a `finally` or `except` does meanwhile belongs to the item that is to run again.
        """
        return self._left is not None and not still_propagating(self._left)

    def measure(self, source: Any) -> None:
        """Take the length of the source, or of what a callable gave for the rest of it.

        A run does not fail because nobody can see how far it is: `__len__` may raise anything.
        """
        with contextlib.suppress(Exception):
            self.length = len(source) + (self.count if self.trusted else 0)

    def leave(self, frame: FrameType | None) -> None:
        """Record that it is left before its end, by the code in *frame*.

        There is none at the end of the process, where Python drops what is left.
        """
        self._left = exit_points(frame)

    def restore(self, cursor: Json) -> None:
        """Go back to where *cursor* says that the iteration was.

        Raises:
            CodeChangedError: If items were done in another order than that of the source, or the
                last key cannot be read any more, as without its time zone.
        """
        if OUT_OF_ORDER.intersection(cursor):
            raise CodeChangedError(
                self.run.name,
                self.run.key,
                f"iteration {self.name!r} was a `cp.map` with ordered=False, and has items that "
                f"were done after the first unfinished item",
                "use `cp.map`, or forget the run",
            )
        self.count = self.began = self._start = cursor["count"]
        place = f"the last key of iteration {self.name!r}"
        self.last = (
            restored(_KEY, cursor["last"][0], place, self.run) if cursor["last"] else NOTHING
        )
        self._done = self.last
        self.inner = cursor["inner"]
        self.used = bool(self.inner)
        self._expected = cursor["digest"]
        self._at = cursor["at"]

    def cursor(self, going_on: Json | None = None) -> Json:
        """Return the cursor to save: up to the last item done, and where inside the next one.

        Args:
            going_on: The cursors of iterations that are going on inside the item in progress.
        """
        if self.keys:
            self.flush()
        inner = {**self.inner, **(going_on or {})} if self.item is not NOTHING else {}
        return {
            "count": self.count,
            "last": [] if self._done is NOTHING else [_KEY.encode(self._done, "last key")],
            "digest": "" if self.trusted else self._digest.digest(),
            "closed": self.closed,
            "at": item_digest(self.last) if inner else "",
            "inner": inner,
        }

    def flush(self) -> int:
        """Add the keys of items done to the digest; return how many there were."""
        done = len(self.keys)
        if done:
            self._add(self.keys)
            self.keys.clear()
        return done

    def _add(self, keys: list[Any]) -> None:
        types = check_keys(keys, self.name)
        if not self.trusted:
            self._digest.add(keys, types)
        self.count += len(keys)
        self._done = keys[-1]

    def item_done(self) -> None:
        """Count the item in progress as done, where the loop that asked for it was left."""
        if self.item is not NOTHING:
            self.item = NOTHING
            self.keys.append(self.last)

    def item_label(self) -> str:
        """Return what the item in progress is called in the paths of steps."""
        return f"{self.name}[{self._item_digest(self.last)}]"

    def item_scope(self) -> str:
        """Return the scope of everything inside the item in progress."""
        return f"{self.scope}{self.item_label()}/"

    def digest_of_item(self, item: object) -> str:
        """Return 32 hexadecimal digits that identify an item; None means the item in progress.

        Without a key of the user's, an item equal to the one in progress is that item. The place of
        any other item is unknown, and equal items would have the same digits.

        Raises:
            CheckpointError: If there is no key of the user's, and *item* is not in progress.
            UnsaveableValueError: If the key of *item* is not the same in every process.
        """
        if item is None or item is self.item:
            return self._item_digest(self.last)
        if not self.by_position:
            return self._item_digest(self.key_of(item))
        if value_digest(item, "item", ITEMS) != self.last[1]:
            raise CheckpointError(
                f"{self.run.name}: without `key`, only the item in progress of iteration "
                f"{self.name!r} of run {self.run.key!r} has an idempotency key, since equal items "
                f"differ by nothing but their place; give the iteration a `key`"
            )
        return self._item_digest(self.last)

    def _item_digest(self, key: Any) -> str:
        check_keys([key], self.name)
        return item_digest(key)

    @property
    def done(self) -> int:
        """How many items are done, by all attempts."""
        return self.count + len(self.keys)

    @property
    def position(self) -> int:
        """How many items of the source come before the one in progress."""
        return self.done

    @property
    def read(self) -> int:
        """How many items of the source come before the one that was read last."""
        return self.position

    @property
    def is_at_first_item(self) -> bool:
        """True if no item is done yet in this attempt."""
        return self.done == self.began

    def check_item(self) -> None:
        """Check that saved iterations inside an item belong to the one in progress."""
        if self._at and item_digest(self.last) != self._at:
            raise self.changed("the item that was in progress at the last save is now another item")

    def leave_item(self) -> None:
        """Forget what was inside the item in progress."""
        self.inner = {}
        self.names = {}
        self._at = ""
        self.used = self.nests
        self.dirty = False

    def same_key(self, key: object) -> SourceChangedError:
        """Return the error of two neighbouring items with the same key."""
        if self.trusted and self.read == self._start:
            return self.changed(
                f"the key {key!r:.60} comes twice in a row, so the source does not begin after it"
            )
        return self._error(
            f"two neighbouring items have the same key {key!r:.60}; give a `key` that tells them "
            f"apart"
        )

    def changed(self, problem: str) -> SourceChangedError:
        """Return the error of a source whose items have changed."""
        return self._error(f"{problem}; {_ADVICE}")

    def _error(self, problem: str) -> SourceChangedError:
        return SourceChangedError(self.run.name, self.run.key, self.name, self.read, problem)

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
            raise self.changed(f"it ends too early: {left} more had been done before")
        self._add([*map(self.key_of, chunk)])
        return left - len(chunk)

    def _verify(self) -> None:
        # Without a digest, the source was a callable, of whose items only the last key is known.
        digest = self._digest.digest()
        same = digest == self._expected if self._expected else is_same_key(self._done, self.last)
        if not same:
            raise self.changed("the items before that are not the same, or in another order")


def key_function(key: Callable[[Any], Any] | None, name: str, done: int) -> Callable[[Any], Any]:
    """Return the function from an item to its key: the user's, or position and digest."""
    if key is not None:
        return key
    positions = itertools.count(done)

    def position_and_digest(item: object) -> tuple[int, str]:
        position = next(positions)
        return position, value_digest(item, f"iteration {name!r}: items[{position}]", ITEMS)

    return position_and_digest


def numbered(used: dict[str, int], name: str) -> str:
    """Return a name that nothing else among *used* has: `name`, `name#2`, `name#3` and so on."""
    number = used.get(name, 0) + 1
    unique = name if number == 1 else f"{name}#{number}"
    while unique != name and unique in used:  # a name that a user chose
        number += 1
        unique = f"{name}#{number}"
    used[name] = number
    used.setdefault(unique, 1)
    return unique


def exit_points(frame: FrameType | None) -> ExitPoints:
    """Return the instruction of *frame*; for a generator, those of the frames that consume it."""
    points = []
    while frame is not None:
        points.append((id(frame), frame.f_lasti))
        frame = frame.f_back if frame.f_code.co_flags & _GENERATOR else None
    return frozenset(points)


def still_propagating(points: ExitPoints) -> bool:
    """True if the exception that is being handled, or one before it, was raised at *points*."""
    error, seen = sys.exception(), set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        trace = error.__traceback__
        while trace is not None:
            if (id(trace.tb_frame), trace.tb_lasti) in points:
                return True
            trace = trace.tb_next
        error = error.__context__
    return False
