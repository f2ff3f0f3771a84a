"""The steps of a run: which saved result belongs to which step, and which results are unsaved.

A step is identified by its place (outside of items, or inside an item, by the key of the item), its
name, and the number of earlier uses of that name in the place. It also has a position in its place:
if another name is at that position on a resume, the code has changed. Steps that overlap in tasks
have no order, and so no position.

When an item is done, its place is left; its results are kept until the next save. If an item with
an equal key comes before that save, its position is used to tell the two apart.

A step is atomic: no other operation of its run may be inside it. The context says which steps are
around the code: everything that a step calls is inside the step while it goes on, including tasks
that it starts; other tasks beside it are not.

Cursors of iterations that have ended are saved as results, too (see `archive`), in the place of the
iteration, with an empty name, which no step has.

A result has a number, one above the highest so far, and a slot, which says what it belongs to:

    checksum | position | use | length of the path | path of the place | name of the step

The path has a part for each item around the step, the outermost first: the length of its label,
and the label. Earlier versions let steps have steps and iterations inside them; their paths, and
the names of their cursors, have parts such as `load#1()` for these steps, too.
"""

import re
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any
from zlib import crc32

import attrs

from mainstay._checkpoint.codec import Codec, Json, to_bytes
from mainstay._checkpoint.document import opened_value, restored, run_in_words, seal
from mainstay._checkpoint.scalars import TAG
from mainstay._checkpoint.shape import MOST_INNER, DamagedError, check_cursors, check_result
from mainstay._checkpoint.types import allowed_by, allowed_by_result
from mainstay._core.events import is_first, logger_of
from mainstay._core.functions import name_of
from mainstay._core.threads import values_now
from mainstay.errors import CheckpointError, CorruptCheckpointError
from mainstay.stores.base import MOST_RESULTS, Change, Result, RunId

_NOWHERE = -1
"""In place of a position, where steps overlapped."""

_CURSORS = -2
"""In place of a position, where a result holds cursors."""

_OLD_STEP = re.compile(r"(?s)(.+?)#([0-9]+)\(\)(/|$)")
"""How earlier versions named what is inside a step: after the step's name and use."""


@attrs.define(eq=False)
class Place:
    """Where steps are: outside everything, or inside an item.

    Attributes:
        path: The path that identifies the place.
        saved: The numbers of the results that were saved before this attempt, by name and use.
        positions: The name and use of each of these results, by position.
        numbers: The numbers of the results that are removed when the place is left.
        inner: The places of items inside this place that are not left, by label.
        begun: The number of steps that were begun.
        uses: The number of uses of each name.
        going_on: The number of running steps without a saved result.
        overlapped: True if two steps ever ran at the same time.
        cursors: The cursors of iterations in this place that are not in the document.
    """

    path: str = ""
    saved: dict[tuple[str, int], int] = attrs.field(factory=dict)
    positions: dict[int, tuple[str, int]] = attrs.field(factory=dict)
    numbers: list[int] = attrs.field(factory=list)
    inner: dict[str, "Place"] = attrs.field(factory=dict)
    begun: int = 0
    uses: dict[str, int] = attrs.field(factory=dict)
    going_on: int = 0
    overlapped: bool = False
    cursors: dict[str, Json] = attrs.field(factory=dict)

    def path_of(self, label: str) -> str:
        """Return the path of the place of an item inside this one."""
        return f"{self.path}{len(label)} {label}"


@attrs.define(eq=False)
class Step:
    """One use of a step.

    Attributes:
        place: Where it is.
        name: What it is called.
        use: How often the name was used there, this time included.
        position: Which of the steps there it is.
        instead: The label of what was saved at its position, if that is another step.
        number: The number of its result; below 0 as long as there is none.
        saved: The result, as JSON, if it was there before.
    """

    place: Place
    name: str
    use: int
    position: int
    instead: str | None
    number: int = -1
    saved: Json = None

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return _label(self.name, self.use)

    @property
    def has_result(self) -> bool:
        """True if it need not be computed."""
        return self.number >= 0


class Steps:
    """All steps of one attempt at a run, and their results.

    `saved` may be called in the thread that writes; all else belongs to the thread of the run.

    Attributes:
        outside: The place outside everything.
        has_cursors: True if results hold cursors.

    Args:
        results: The results in the store, by number.
        run: The run as messages name it: by its component and key.
        codec: The codec of results, without the types that annotations of steps will add.

    Raises:
        CorruptCheckpointError: If the slot of a result is damaged.
    """

    def __init__(self, results: Mapping[int, Result], run: RunId, codec: Codec) -> None:
        self.outside: Place = Place()
        self.has_cursors: bool = False
        self._results = results
        self._run = run
        self._codec = codec
        self._next = max(results, default=-1) + 1
        self._going_on: set[Step] = set()
        self._pending: dict[int, Result] = {}
        self._inside: set[int] = set()
        self._over: set[int] = set()
        self._left: set[str] = set()
        self._raised: dict[int, tuple[int, Callable[[], object]]] = {}
        places = {"": self.outside}
        for number in sorted(results):
            self._add(number, results[number].slot, places)

    # Where steps are.

    def enter_item(self, outer: Place, label: str, position: int) -> Place:
        """Return the place of the item at *position* of an iteration inside *outer*."""
        label = self._label_in(outer, label, position)
        place = outer.inner.get(label)
        if place is None:
            place = outer.inner[label] = Place(outer.path_of(label))
        return place

    def leave_item(self, outer: Place, label: str, position: int) -> None:
        """Forget the place of an item that is done; the next save removes the results in it."""
        place = outer.inner.pop(self._label_in(outer, label, position), None)
        if place is not None:
            for number in _numbers_in(place):
                self._pending.pop(number, None)
                self._inside.discard(number)
                self._over.add(number)
        self._left.add(outer.path_of(label))

    def _label_in(self, outer: Place, label: str, position: int) -> str:
        """Return a label for an item that no other item has which may come again on a resume."""
        exact = f"{label}@{position}"
        taken = exact in outer.inner or outer.path_of(label) in self._left
        return exact if taken else label

    # A step, from its beginning to its result.

    def begin(self, place: Place, name: str) -> Step:
        """Return the next step of a place, whose result may be there already.

        Raises:
            CorruptCheckpointError: If it is there and damaged.
        """
        place.overlapped = place.overlapped or place.going_on > 0
        position = _NOWHERE if place.overlapped else place.begun
        place.begun += 1
        use = place.uses[name] = place.uses.get(name, 0) + 1
        there = place.positions.get(position, (name, use))
        instead = None if there == (name, use) else _label(*there)
        step = Step(place, name, use, position, instead, place.saved.get((name, use), -1))
        if not step.has_result:
            place.going_on += 1
            self._going_on.add(step)
        else:
            of = f"{_result_of(step)} of {run_in_words(self._run)}"
            step.saved = opened_value(self._results[step.number].value, of, check_result)
        return step

    def around(self) -> Step | None:
        """Return the innermost step that the calling code is inside of."""
        around = (known() for known in reversed(_AROUND.get()))
        return next((step for step in around if step in self._going_on), None)

    def keep_value(self, step: Step, value: object, fn: Callable[..., Any]) -> None:
        """Take what a step of *fn* returned as its result.

        Raises:
            UnsaveableValueError: If it cannot be saved.
            CheckpointError: If there is no number left.
        """
        codec, what = self._codec.allowing(allowed_by_result(fn)), _result_of(step)
        self._keep(step, codec.encode(value, what), what)

    def keep_error(self, step: Step, error: Exception) -> bool:
        """Take what a step raised as its result; False if it is not to be saved.

        That is where its class was not registered, or would be another one at the replay.
        """
        allowed, name = allowed_by(), name_of(type(error))
        if allowed.get(name) is not type(error):
            return False
        try:
            saved = Codec(allowed).encode(error, "exception")
            Codec(allowed).decode(saved, "exception")
        except CheckpointError as refused:  # the exception itself matters more
            if is_first("checkpoint", "exception", name):
                logger_of("checkpoint").warning(
                    "%s: an exception of class %s cannot be saved as a result, so its step "
                    "runs again on a resume: %s",
                    self._run.name,
                    name.removeprefix("builtins."),
                    refused,
                )
            return False
        self._keep(step, {TAG: "raised", "v": saved}, _result_of(step))
        self._propagates(step.number, error)
        return True

    def replay(self, step: Step, fn: Callable[..., Any]) -> Any:
        """Return the saved value of a step of *fn*, or raise the saved exception."""
        codec = self._codec.allowing(allowed_by_result(fn))
        place = _result_of(step)
        if type(step.saved) is not dict or step.saved.get(TAG) != "raised":
            return restored(codec, step.saved, place, self._run)
        error = restored(codec, step.saved["v"], place, self._run)
        self._propagates(step.number, error)
        try:
            raise error
        finally:
            del error  # else frame and exception keep each other alive, and the iterations around

    @property
    def unsaved(self) -> bool:
        """True if a step is going on, or a result of one is not saved yet."""
        return bool(self._pending) or any(not each.has_result for each in self._going_on)

    def ended(self, step: Step) -> None:
        """Record that a step that had no result before is over."""
        step.place.going_on -= 1
        self._going_on.discard(step)

    def _keep(self, step: Step, saved: Json, what: str) -> None:
        sealed = seal(to_bytes(saved), what)
        step.number = self._add_result(step.place, step.position, step.use, step.name, sealed)

    def _add_result(self, place: Place, position: int, use: int, name: str, sealed: bytes) -> int:
        """Keep a result for the next save; return its number."""
        number = self._next
        if number >= MOST_RESULTS:
            raise CheckpointError(
                f"{run_in_words(self._run)} has saved {number} results of steps, which is the most "
                f"that a run can have; use another run for the rest"
            )
        self._next += 1
        self._goes_with(place, number)
        of = f"{position} {use} {len(place.path)} {place.path}{name}"
        self._pending[number] = Result(f"{_checksum(of)} {of}", sealed)
        return number

    # Cursors of iterations that have ended.

    def keep_cursors(self, place: Place, cursors: dict[str, Json]) -> int:
        """Keep cursors of a place for the next save, out of the document; return their number."""
        self.has_cursors = True
        sealed = seal(to_bytes(cursors), "the cursors of iterations that have ended")
        return self._add_result(place, _CURSORS, 0, "", sealed)

    def is_unsaved(self, number: int) -> bool:
        """True if the result of that number is not saved; not if its item is done."""
        return number in self._pending

    # Saved exceptions, whose steps run again if they end the run.

    def _propagates(self, number: int, error: Exception) -> None:
        """Record that a result propagates as an exception; it is not kept alive for that."""
        get: Callable[[], object]
        try:
            get = weakref.ref(error, lambda _: self._raised.pop(number, None))
        except TypeError:  # one of Python's own classes
            get = lambda: error  # noqa: E731 - in place of a reference
        self._raised[number] = number, get

    def numbers_of(self, error: BaseException | None) -> tuple[int, ...]:
        """Return the numbers of the saved exceptions that *error* is."""
        return tuple(number for number, raised in values_now(self._raised) if raised() is error)

    # What a save writes of them.

    def is_pending(self, step: Step) -> bool:
        """True if a step has a result that is not saved; not if its item is done."""
        return self.is_unsaved(step.number)

    def save_alone(self) -> Change:
        """Return the save of the pending results: of one step, mostly.

        Of another one where that is in another task, or a signal handler raised before its save.
        """
        return Change(put=dict(self._pending))

    def to_save(self, *, finished: bool) -> tuple[dict[int, Result], tuple[int, ...]]:
        """Return the results that a save of everything adds, and the numbers that it removes."""
        if not (finished or self._pending or self._over):
            return {}, ()
        pending = [*self._pending.items()]  # first: a thread that writes takes out what is saved
        gone = self._over | self._inside if finished else {*self._over}
        return {n: result for n, result in pending if n not in gone}, tuple(gone)

    def saved(self, change: Change) -> None:
        """Record that a change is saved."""
        for number in change.put:
            self._pending.pop(number, None)
        if change.document is not None:
            self._over.difference_update(change.drop)
            self._left.clear()  # what was left does not come again on a resume

    # What was there before.

    def check_resumable(self, cursors: Mapping[str, Json]) -> None:
        """Raise if the run was interrupted in a step with steps or iterations inside it.

        Only earlier versions allowed that, and only they can continue such a run.
        """
        step = _interrupted_inside(self.outside, cursors)
        if step is not None:
            raise CheckpointError(
                f"{self._run.name}: run {self._run.key!r} cannot go on, since it was interrupted "
                f"in step {step!r} with steps or iterations inside it, by a version of mainstay "
                f"that allowed that; end it with that version, or forget it and begin it again"
            )

    def _add(self, number: int, slot: str, places: dict[str, Place]) -> None:
        """Put a result that was there before in its place; *places* are all of them, by path."""
        try:
            position, use, path, name = _parts_of(slot)
        except DamagedError as error:
            raise CorruptCheckpointError(
                f"a step of {run_in_words(self._run)}", str(error)
            ) from None
        place = _place_at(path, places)
        self._goes_with(place, number)
        if position == _CURSORS:
            self.has_cursors = True
            of = f"the cursors of {run_in_words(self._run)}"
            place.cursors.update(opened_value(self._results[number].value, of, check_cursors))
            return
        place.saved[name, use] = number
        if position == _NOWHERE:
            place.overlapped = True
        else:
            place.positions[position] = (name, use)

    def _goes_with(self, place: Place, number: int) -> None:
        if place is not self.outside:
            place.numbers.append(number)
            self._inside.add(number)


_AROUND: ContextVar[tuple[weakref.ref[Step], ...]] = ContextVar("mainstay_steps", default=())
"""The steps that the calling code was begun in, of all runs, the innermost last.

One that an exception of a signal handler left before its end is over with its run.
"""


def enter_step(step: Step) -> None:
    """Make *step* the innermost one around what is called from now on, until `leave_step`."""
    around = [each for each in _AROUND.get() if each() is not None]
    _AROUND.set((*around, weakref.ref(step)))


def leave_step(step: Step) -> None:
    """Go back to the steps that were around before `enter_step`, if it was called in this context.

    It was not for a coroutine that is closed in another one.
    """
    around, this = _AROUND.get(), weakref.ref(step)
    if this in around:
        _AROUND.set(around[: around.index(this)])


def _result_of(step: Step) -> str:
    return f"the result of step {step.label!r}"


def name_in(slot: str) -> str:
    """Return the name of the step that a result is of.

    Raises:
        DamagedError: If that is not what was saved.
    """
    return _parts_of(slot)[3]


def _checksum(text: str) -> str:
    return f"{crc32(text.encode()):08x}"


def _parts_of(slot: str) -> tuple[int, int, str, str]:
    given: object = slot
    if not isinstance(given, str):
        raise DamagedError(f"{slot!r}, which says what it is, is no text")
    checksum, _, of = slot.partition(" ")
    try:
        if checksum != _checksum(of):
            raise DamagedError(f"{slot!r}, which says what it is, does not match its checksum")
        position, use, length, rest = of.split(" ", 3)
        path, name = rest[: int(length)], rest[int(length) :]
        labels = [*_labels_of(path)]
        parts = int(position), int(use), path, name
    except ValueError as error:
        raise DamagedError(f"{slot!r:.200} does not say what it is: {error}") from None
    if not (parts[0] >= _CURSORS and parts[1] >= 0 and len(labels) <= MOST_INNER):
        raise DamagedError(f"{slot!r:.200} does not say what it is")
    return parts


def _labels_of(path: str) -> Iterator[str]:
    """Yield the labels of the items around a place, the outermost first.

    Raises:
        ValueError: If it is no path.
    """
    rest = path
    while rest:
        length, rest = rest.split(" ", 1)
        label, rest = rest[: int(length)], rest[int(length) :]
        if len(label) != int(length):
            raise ValueError(f"{path!r:.100} is no path")
        yield label


def _label(name: str, use: int) -> str:
    return name if use == 1 else f"{name}#{use}"


def _place_at(path: str, places: dict[str, Place]) -> Place:
    place, upto = places[""], ""
    for label in _labels_of(path):
        upto = place.path_of(label)
        if upto not in places:
            places[upto] = place.inner[label] = Place(upto)
        place = places[upto]
    return place


def _numbers_in(place: Place) -> Iterator[int]:
    yield from place.numbers
    for inner in place.inner.values():
        yield from _numbers_in(inner)


def _interrupted_inside(place: Place, cursors: Mapping[str, Json]) -> str | None:
    """Return a step in *place*, or in items inside it, that has something inside and no result.

    What is inside a step that has a result is over. *cursors* are those of the iterations there.
    """
    nothing: Mapping[str, Json] = {}
    inside = {label: (inner, nothing) for label, inner in place.inner.items()}
    for name, cursor in cursors.items():
        label = f"{name}[{cursor['at']}]"
        exact = f"{label}@{cursor['count']}"
        at = exact if exact in inside else label
        inside[at] = inside.get(at, (Place(), nothing))[0], cursor["inner"]
    for label, (inner, cursors_there) in inside.items():
        step = _OLD_STEP.match(label)
        if step is None:
            found = _interrupted_inside(inner, cursors_there)
        else:
            name, use = step[1], int(step[2])
            found = None if (name, use) in place.saved else _label(name, use)
        if found:
            return found
    return None
