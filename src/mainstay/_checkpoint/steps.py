"""The saved results of a run's steps, and which of them a step finds.

A step is known by where it stands (outside all items, or inside one, told by its key), its name,
and how often that name was used there before. It also has a position there: on a resume another
name at the same position means that the code is not the one that saved it. Where steps overlap,
in tasks or one inside another, their order says nothing: there they have no position.
"""

from collections import defaultdict
from collections.abc import Mapping

import attrs

from mainstay._checkpoint.codec import Json, to_bytes
from mainstay._checkpoint.document import unsealed
from mainstay._checkpoint.envelope import seal

_NOWHERE = -1
"""In place of a position, where steps overlapped."""


@attrs.frozen
class Step:
    """One use of a step.

    Attributes:
        slot: What its result is kept under.
        label: What it is called in messages.
        saved: The result that is there already, as JSON: ["v", value] or ["e", error].
        instead: The label of what was saved at its position, if that is another step.
    """

    slot: str
    label: str
    saved: Json = None
    instead: str | None = None


@attrs.define(eq=False)
class _Place:
    """The steps of one place: of the run itself, or of one item."""

    slots: dict[tuple[str, int], str] = attrs.field(factory=dict)
    positions: dict[int, tuple[str, int]] = attrs.field(factory=dict)
    begun: int = 0
    going_on: set[str] = attrs.field(factory=set)
    overlapped: bool = False
    uses: dict[str, int] = attrs.field(factory=dict)


class Steps:
    """All steps of one attempt at a run.

    Args:
        results: What the store keeps, by slot.
        run: What the run is called in messages.
    """

    def __init__(self, results: Mapping[str, bytes], run: str) -> None:
        self._results = dict(results)
        self._run = run
        self._places: defaultdict[str, _Place] = defaultdict(_Place)
        for slot in results:
            self._add(slot)

    def begin(self, scope: str, name: str) -> Step:
        """Begin the next step of a place, whose result may be there already.

        Raises:
            CorruptCheckpointError: If it is there and damaged.
        """
        place = self._places[scope]
        position, place.begun = place.begun, place.begun + 1
        use = place.uses[name] = place.uses.get(name, 0) + 1
        place.overlapped = place.overlapped or bool(place.going_on)
        there = None if place.overlapped else place.positions.get(position)
        instead = None if there is None or there == (name, use) else _label(*there)
        slot = place.slots.get((name, use))
        if slot is None:
            position = _NOWHERE if place.overlapped else position
            slot = f"{position} {use} {len(scope)} {scope}{name}"
            place.going_on.add(slot)
            return Step(slot, _label(name, use), None, instead)
        label = _label(name, use)
        saved = unsealed(self._results[slot], f"the result of step {label!r} of {self._run}")
        return Step(slot, label, saved, instead)

    def ended(self, step: Step) -> None:
        """Take in that a step that was not there is there now, or failed."""
        _, _, scope, _ = parts_of(step.slot)
        if scope in self._places:
            self._places[scope].going_on.discard(step.slot)

    def keep(self, slot: str, saved: Json) -> bytes:
        """Remember a result, and give the bytes to save."""
        self._results[slot] = sealed = seal(to_bytes(saved))
        self._add(slot)
        return sealed

    def inside(self, scope: str) -> bool:
        """Whether anything is kept for the item that *scope* names, or for items inside it."""
        return any(each.startswith(scope) for each in self._places)

    def leave(self, scope: str) -> list[str]:
        """Forget all steps of an item that is done, and of items inside it; give their slots."""
        slots: list[str] = []
        for each in [each for each in self._places if each.startswith(scope)]:
            slots += self._places.pop(each).slots.values()
        for slot in slots:
            self._results.pop(slot, None)
        return slots

    def in_items(self) -> list[str]:
        """Give the slots of everything that is inside an item."""
        return [slot for scope, place in self._places.items() if scope
                for slot in place.slots.values()]  # fmt: skip

    def _add(self, slot: str) -> None:
        position, use, scope, name = parts_of(slot)
        place = self._places[scope]
        place.slots[name, use] = slot
        if position == _NOWHERE:
            place.overlapped = True
        else:
            place.positions[position] = (name, use)


def parts_of(slot: str) -> tuple[int, int, str, str]:
    """Take apart what a result is kept under: position, use, place, and name of the step."""
    position, use, length, rest = slot.split(" ", 3)
    return int(position), int(use), rest[: int(length)], rest[int(length) :]


def _label(name: str, use: int) -> str:
    return name if use == 1 else f"{name}#{use}"
