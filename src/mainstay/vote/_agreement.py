"""How votes on equal answers are decided: `first`, and all that count who agrees with whom."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any

import attrs

from mainstay.vote._tally import Key, State, Tally


class FirstTally:
    __slots__ = ("_left", "winner")

    def __init__(self, copies: int) -> None:
        self._left = copies
        self.winner = 0

    def answered(self, copy: int, _answer: Any, /) -> State:
        self.winner = copy
        return "decided"

    def failed(self, _copy: int, /) -> State:
        self._left -= 1
        return "undecided" if self._left else "impossible"

    def needed(self) -> int:
        return 1

    def dissenters(self) -> Collection[int]:
        return ()


@attrs.frozen(repr=False)
class First:
    def tally(self, copies: int, /) -> Tally:
        return FirstTally(copies)

    def __repr__(self) -> str:
        return "vote.first()"


@attrs.define
class Groups(ABC):
    """The copies in groups of equal answers; the largest first, then the one that grew first.

    Attributes:
        left: How many copies have not ended.
        key: What answers are compared by, or None.
        groups: Each answer with the copies that gave it.
        winner: Once decided, the copy whose answer is returned.
    """

    left: int
    key: Key | None
    groups: list[tuple[object, list[int]]] = attrs.field(factory=list)
    winner: int = 0

    def answered(self, copy: int, answer: Any, /) -> State:
        value = answer if self.key is None else self.key(answer)
        self.left -= 1
        self._add(copy, value)
        return self._state()

    def failed(self, _copy: int, /) -> State:
        self.left -= 1
        return self._state()

    def dissenters(self) -> Collection[int]:
        return [copy for _, copies in self.groups[1:] for copy in copies]

    @abstractmethod
    def _state(self) -> State:
        """Return what the vote has come to by now."""

    def _add(self, copy: int, value: object) -> None:
        """Add a copy to those with an equal answer."""
        for place, (other, copies) in enumerate(self.groups):
            if value is other or value == other:
                copies.append(copy)
                self._move_up(place)
                return
        self.groups.append((value, [copy]))

    def _move_up(self, place: int) -> None:
        groups = self.groups
        while place and len(groups[place - 1][1]) < len(groups[place][1]):
            groups[place - 1], groups[place] = groups[place], groups[place - 1]
            place -= 1

    def size(self, place: int) -> int:
        """Return the number of copies in the group at *place*, 0 if there is none."""
        return len(self.groups[place][1]) if place < len(self.groups) else 0

    def decide(self) -> State:
        """Make the first group the winner; of its copies, the one that began first."""
        self.winner = min(self.groups[0][1])
        return "decided"


@attrs.define
class ThresholdTally(Groups):
    """Decided when a group has *threshold* copies."""

    threshold: int = attrs.field(kw_only=True)

    def needed(self) -> int:
        return self.threshold - self.size(0)

    def _state(self) -> State:
        if self.size(0) >= self.threshold:
            return self.decide()
        return "undecided" if self.needed() <= self.left else "impossible"


@attrs.define
class PluralityTally(Groups):
    """Decided when the others cannot catch up with the largest group."""

    def needed(self) -> int:
        return (self.left - self._lead()) // 2 + 1

    def _lead(self) -> int:
        return self.size(0) - self.size(1)

    def _state(self) -> State:
        if self._lead() > self.left:
            return self.decide()
        return "undecided" if self.left else "impossible"


@attrs.frozen(repr=False)
class Quorum:
    k: int
    key: Key | None

    def tally(self, copies: int, /) -> Tally:
        if self.k > copies:
            raise ValueError(f"{self!r} can never be reached by {copies} copies")
        return ThresholdTally(copies, self.key, threshold=self.k)

    def __repr__(self) -> str:
        return f"vote.quorum({self.k})"


@attrs.frozen(repr=False)
class Majority:
    key: Key | None

    def tally(self, copies: int, /) -> Tally:
        return ThresholdTally(copies, self.key, threshold=more_than_half(copies))

    def __repr__(self) -> str:
        return "vote.majority()"


@attrs.frozen(repr=False)
class Unanimous:
    key: Key | None

    def tally(self, copies: int, /) -> Tally:
        return ThresholdTally(copies, self.key, threshold=copies)

    def __repr__(self) -> str:
        return "vote.unanimous()"


@attrs.frozen(repr=False)
class Plurality:
    key: Key | None

    def tally(self, copies: int, /) -> Tally:
        return PluralityTally(copies, self.key)

    def __repr__(self) -> str:
        return "vote.plurality()"


def more_than_half(copies: int) -> int:
    return copies // 2 + 1
