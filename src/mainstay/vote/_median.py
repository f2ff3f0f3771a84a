"""How votes on numbers are decided: `median`, of all or of those within a distance."""

from bisect import bisect_left, insort
from collections.abc import Collection
from decimal import Decimal
from numbers import Real
from typing import Any

import attrs

from mainstay.vote._agreement import more_than_half
from mainstay.vote._tally import State, Tally


@attrs.define
class MedianTally:
    """The numbers in ascending order, each with its copy.

    With m numbers and r copies left, the median of all in the end is the one at some place from
    `(m + r - 1) // 2 - r` (all others answer below) to `(m + r - 1) // 2` (all answer above).
    """

    left: int
    within: float | None
    majority: int
    ordered: list[tuple[Any, int]] = attrs.field(factory=list)
    winner: int = 0

    def answered(self, copy: int, answer: Any, /) -> State:
        if isinstance(answer, bool) or not isinstance(answer, Real | Decimal):
            raise TypeError(f"`median` needs numbers, and copy {copy} answered a {_type(answer)}")
        if answer.is_nan() if isinstance(answer, Decimal) else answer != answer:  # noqa: PLR0124 - so is NaN
            raise ValueError(f"`median` needs numbers, and copy {copy} answered NaN")
        insort(self.ordered, (answer, copy))
        self.left -= 1
        return self._state()

    def failed(self, _copy: int, /) -> State:
        self.left -= 1
        return self._state()

    def needed(self) -> int:
        return max(1, self.majority - len(self.ordered))

    def dissenters(self) -> Collection[int]:
        if self.within is None:
            return ()
        middle = next(number for number, copy in self.ordered if copy == self.winner)
        return [copy for number, copy in self.ordered if abs(number - middle) > self.within]

    def _state(self) -> State:
        if len(self.ordered) + self.left < self.majority:
            return "impossible"
        if self.within is None:
            return self._decided_by_place()
        return self._decided_by_distance(self.within)

    def _decided_by_place(self) -> State:
        if len(self.ordered) < self.majority:
            return "undecided"
        # Fewer are left than have answered, so both places are among those that have.
        highest = (len(self.ordered) + self.left - 1) // 2
        lowest = highest - self.left
        if self.ordered[lowest][0] != self.ordered[highest][0]:
            return "undecided"
        return self._decide(self.ordered[lowest][0])

    def _decided_by_distance(self, within: float) -> State:
        if self._most_in_a_span_of(within) >= self.majority:
            return self._decide(self._middle())
        if self.left:
            reachable = self._most_in_a_span_of(2 * within) + self.left >= self.majority
            return "undecided" if reachable else "impossible"
        middle = self._middle()
        near = sum(abs(number - middle) <= within for number, _ in self.ordered)
        return self._decide(middle) if near >= self.majority else "impossible"

    def _middle(self) -> Any:
        return self.ordered[(len(self.ordered) - 1) // 2][0]

    def _most_in_a_span_of(self, width: float) -> int:
        """Return the most answers of which none differ by more than *width*."""
        numbers = [number for number, _ in self.ordered]
        most = start = 0
        for end, number in enumerate(numbers):
            while number - numbers[start] > width:
                start += 1
            most = max(most, end - start + 1)
        return most

    def _decide(self, number: Any) -> State:
        self.winner = self.ordered[bisect_left(self.ordered, (number, -1))][1]
        return "decided"


@attrs.frozen(repr=False)
class Median:
    within: float | None

    def tally(self, copies: int, /) -> Tally:
        return MedianTally(copies, self.within, more_than_half(copies))

    def __repr__(self) -> str:
        return "vote.median()" if self.within is None else f"vote.median(within={self.within})"


def _type(value: object) -> str:
    return type(value).__name__
