"""The saved results of a run's steps, and which of them a step finds.

A step is known by its place (outside everything, or inside an item, told by its key), its name, and
how often that name was used there before. It also has a position there: on a resume another name at
the same position means that the code is not the one that saved it. Where steps overlap in tasks,
their order says nothing: there they have no position.

A place is left when its item is done, and until the next save its results are kept. An item with an
equal key that comes meanwhile is told by its position, too.

A step is atomic: nothing of its run is inside it. Which steps are going on around the code that
asks goes with the context: what a step calls is inside it, tasks begun there included, as long as
the step goes on; what runs beside it in other tasks is not.

A result has a number, one above the highest there is, and a slot, which says what it is of:

    checksum | position | use | length of the path | path of the place | name of the step

The path has a part for each item around the step, the outermost first: the length of its label,
and the label. Earlier versions let steps have steps and iterations inside them; their paths, and
the names of their cursors, have parts such as `load#1()` for these steps, too.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar, Token
from zlib import crc32

import attrs

from mainstay._checkpoint.codec import Json, to_bytes
from mainstay._checkpoint.document import unsealed
from mainstay._checkpoint.envelope import DamagedError, seal
from mainstay._core.threads import values_now
from mainstay.errors import CheckpointError, CorruptCheckpointError
from mainstay.stores.base import MOST_RESULTS, Result

_NOWHERE = -1
"""In place of a position, where steps overlapped."""

_OLD_STEP = re.compile(r"(?s)(.+?)#([0-9]+)\(\)(/|$)")
"""How earlier versions named what is inside a step: after the step's name and use."""


@attrs.define(eq=False)
class Place:
    """Where steps are: outside everything, or inside an item.

    Attributes:
        path: What tells it from all others.
        saved: The numbers of the results that there were at the beginning, by name and use.
        positions: The name and use that each of these had, by position.
        numbers: The numbers of all results that go when it is left.
        inner: The places of items inside it that are not left, by label.
        left: The labels of items that were left since the last save.
        begun: How many steps were begun.
        uses: How often each name was used.
        going_on: How many steps that were not there before have not ended.
        overlapped: Whether there were ever two at once.
    """

    path: str = ""
    saved: dict[tuple[str, int], int] = attrs.field(factory=dict)
    positions: dict[int, tuple[str, int]] = attrs.field(factory=dict)
    numbers: list[int] = attrs.field(factory=list)
    inner: dict[str, "Place"] = attrs.field(factory=dict)
    left: set[str] = attrs.field(factory=set)
    begun: int = 0
    uses: dict[str, int] = attrs.field(factory=dict)
    going_on: int = 0
    overlapped: bool = False


@attrs.define(eq=False)
class Step:
    """One use of a step.

    Attributes:
        place: Where it is.
        name: What it is called.
        use: How often the name was used there, this time included.
        position: Which of the steps there it is.
        instead: The label of what was saved at its position, if that is another step.
        number: What its result is kept under, once there is one.
        saved: The result, as JSON, if it was there before.
    """

    place: Place
    name: str
    use: int
    position: int
    instead: str | None
    number: int | None = None
    saved: Json = None

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return _label(self.name, self.use)


class Steps:
    """All steps of one attempt at a run.

    Attributes:
        outside: The place outside everything.

    Args:
        results: What the store keeps, by number.
        run: What the run is called in messages.

    Raises:
        CorruptCheckpointError: If what a result is of is damaged.
    """

    def __init__(self, results: Mapping[int, Result], run: str) -> None:
        self.outside: Place = Place()
        self._results = results
        self._run = run
        self._next = max(results, default=-1) + 1
        self._going_on: set[Step] = set()
        self._inside: set[int] = set()
        self._outer: dict[int, Place] = {}
        places = {"": self.outside}
        for number in sorted(results):
            self._add(number, results[number].slot, places)

    def enter(self, outer: Place, label: str) -> Place:
        """Find the place of an item inside *outer*, as it was before, or make it."""
        place = outer.inner.get(label)
        if place is None:
            place = outer.inner[label] = Place(f"{outer.path}{len(label)} {label}")
        return place

    def leave(self, outer: Place, label: str) -> list[int]:
        """Forget the place of what is done; give the numbers of all results in it."""
        place = outer.inner.pop(label, None)
        if place is None:
            return []
        numbers = [*_numbers_in(place)]
        self._inside.difference_update(numbers)
        return numbers

    def enter_item(self, outer: Place, label: str, position: int) -> Place:
        """Find the place of the item at *position* of an iteration inside *outer*, or make it."""
        return self.enter(outer, _item_in(outer, label, position))

    def leave_item(self, outer: Place, label: str, position: int) -> list[int]:
        """Forget the place of an item that is done; give the numbers of all results in it."""
        numbers = self.leave(outer, _item_in(outer, label, position))
        outer.left.add(label)
        self._outer[id(outer)] = outer
        return numbers

    def saved(self) -> None:
        """Take in that no item that was left comes again on a resume."""
        for outer in values_now(self._outer):
            outer.left.clear()
        self._outer.clear()

    def inside(self) -> set[int]:
        """Give the numbers of all results that are inside an item."""
        return self._inside

    def begin(self, place: Place, name: str) -> Step:
        """Begin the next step of a place, whose result may be there already.

        Raises:
            CorruptCheckpointError: If it is there and damaged.
        """
        place.overlapped = place.overlapped or place.going_on > 0
        position = _NOWHERE if place.overlapped else place.begun
        place.begun += 1
        use = place.uses[name] = place.uses.get(name, 0) + 1
        there = place.positions.get(position, (name, use))
        instead = None if there == (name, use) else _label(*there)
        step = Step(place, name, use, position, instead, place.saved.get((name, use)))
        if step.number is None:
            place.going_on += 1
            self._going_on.add(step)
        else:
            of = f"the result of step {step.label!r} of {self._run}"
            step.saved = unsealed(self._results[step.number].value, of)
        return step

    def ended(self, step: Step) -> None:
        """Take in that a step that was not there is there now, or failed."""
        step.place.going_on -= 1
        self._going_on.discard(step)

    def around(self) -> Step | None:
        """Find the innermost step that the calling code is inside of."""
        return next((step for step in reversed(_AROUND.get()) if step in self._going_on), None)

    def interrupted_inside(self, cursors: Mapping[str, Json]) -> str | None:
        """Find a step without a result that has something saved inside it, by its label.

        Only earlier versions saved that, and only they could go on from it. What is inside a step
        that has a result is over.
        """
        return _interrupted_inside(self.outside, cursors)

    def keep(self, step: Step, saved: Json) -> tuple[int, Result]:
        """Number the result of a step, and give what to save.

        Raises:
            CheckpointError: If there is no number left.
        """
        number, place = self._next, step.place
        if number >= MOST_RESULTS:
            raise CheckpointError(
                f"{self._run} has saved {number} results of steps, which is as many as a run can "
                f"have; begin another run for what is left to do"
            )
        self._next += 1
        step.number = number
        self._goes_with(place, number)
        of = f"{step.position} {step.use} {len(place.path)} {place.path}{step.name}"
        return number, Result(f"{_checksum(of)} {of}", seal(to_bytes(saved)))

    def _add(self, number: int, slot: str, places: dict[str, Place]) -> None:
        """Put a result that was there before in its place; *places* are all of them, by path."""
        try:
            position, use, path, name = _parts_of(slot)
        except DamagedError as error:
            raise CorruptCheckpointError(f"a step of {self._run}", str(error)) from error
        place = _place_at(path, places)
        self._goes_with(place, number)
        place.saved[name, use] = number
        if position == _NOWHERE:
            place.overlapped = True
        else:
            place.positions[position] = (name, use)

    def _goes_with(self, place: Place, number: int) -> None:
        if place is not self.outside:
            place.numbers.append(number)
            self._inside.add(number)


_AROUND: ContextVar[tuple[Step, ...]] = ContextVar("mainstay_steps", default=())
"""The steps that the calling code was begun in, of all runs, the innermost last."""


def enter(step: Step) -> Token[tuple[Step, ...]]:
    """Take in that everything called from now on is inside *step*, up to `leave`."""
    return _AROUND.set((*_AROUND.get(), step))


def leave(entered: Token[tuple[Step, ...]]) -> None:
    """Take in that a step is not around any more."""
    with contextlib.suppress(ValueError):  # a coroutine that is closed in another context
        _AROUND.reset(entered)


def name_in(slot: str) -> str:
    """Find the name of the step that a result is of.

    Raises:
        DamagedError: If that is not what was saved.
    """
    return _parts_of(slot)[3]


def _checksum(text: str) -> str:
    return f"{crc32(text.encode()):08x}"


def _parts_of(slot: str) -> tuple[int, int, str, str]:
    checksum, _, of = slot.partition(" ")
    if checksum != _checksum(of):
        raise DamagedError(f"{slot!r}, which says what it is, does not match its checksum")
    position, use, length, rest = of.split(" ", 3)
    return int(position), int(use), rest[: int(length)], rest[int(length) :]


def _label(name: str, use: int) -> str:
    return name if use == 1 else f"{name}#{use}"


def _item_in(outer: Place, label: str, position: int) -> str:
    """Name an item as no other one does that may come again on a resume."""
    exact = f"{label}@{position}"
    return exact if exact in outer.inner or label in outer.left else label


def _place_at(path: str, places: dict[str, Place]) -> Place:
    place, rest = places[""], path
    while rest:
        length, rest = rest.split(" ", 1)
        label, rest = rest[: int(length)], rest[int(length) :]
        upto = path.removesuffix(rest)
        if upto not in places:
            places[upto] = Place(upto)
            place.inner[label] = places[upto]
        place = places[upto]
    return place


def _interrupted_inside(place: Place, cursors: Mapping[str, Json]) -> str | None:
    """Find a step without a result, in *place* or in items inside it, that has something inside."""
    nothing: Mapping[str, Json] = {}
    places = {label: (inner, nothing) for label, inner in place.inner.items()}
    for name, cursor in cursors.items():
        label = f"{name}[{cursor['at']}]"
        exact = f"{label}@{cursor['count']}"
        at = exact if exact in places else label
        places[at] = places.get(at, (Place(), nothing))[0], cursor["inner"]
    for label, (inner, cursors_there) in places.items():
        step = _OLD_STEP.match(label)
        if step is None:
            found = _interrupted_inside(inner, cursors_there)
        else:
            name, use = step[1], int(step[2])
            found = None if (name, use) in place.saved else _label(name, use)
        if found:
            return found
    return None


def _numbers_in(place: Place) -> Iterator[int]:
    yield from place.numbers
    for inner in place.inner.values():
        yield from _numbers_in(inner)
