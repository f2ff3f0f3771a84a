"""Which answer to believe: the `decide=` of a redundant call.

A `Rule` knows no call. For each call it makes a `Tally`, which is told of every copy that ended
and says whether the vote is settled:

    undecided     it depends on copies that have not ended
    decided       no copy that has not ended can change it any more
    impossible    no copy that has not ended can bring it about any more

The first of the last two ends the call. Nothing here acts, waits or knows the time.

A rule of one's own is any object with `tally(copies)`, whose tallies have what `Tally` has.

Example:
    >>> from mainstay import redundant, vote
    >>> policy = redundant(copies=3, decide=vote.majority())
    >>> policy.call(str.upper, "ok")
    'OK'
"""

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Collection
from decimal import Decimal
from numbers import Real
from typing import Any, Literal, Protocol, TypeAlias

import attrs

from mainstay._core.callables import Colour, colour_of

__all__ = [
    "Rule",
    "Tally",
    "first",
    "majority",
    "median",
    "plurality",
    "quorum",
    "unanimous",
]

State: TypeAlias = Literal["undecided", "decided", "impossible"]
"""Whether a vote is settled, and how."""

Key: TypeAlias = Callable[[Any], object]
"""Takes an answer and gives what it is compared by."""


class Tally(Protocol):
    """Counts the answers of one call. Copies are numbered from 0; each ends at most once.

    Attributes:
        winner: Once decided, the copy whose answer is returned.
    """

    winner: int

    def answered(self, copy: int, answer: Any, /) -> State:
        """Take the answer of a copy. What this raises ends the call."""
        ...

    def failed(self, copy: int, /) -> State:
        """Take note that a copy gives no answer."""
        ...

    def needed(self) -> int:
        """Give the fewest further answers that could decide; while undecided, at least 1."""
        ...

    def dissenters(self) -> Collection[int]:
        """Give the copies whose answers differ from the winner's."""
        ...


class Rule(Protocol):
    """Makes the tally of each call; shared by all of them."""

    def tally(self, copies: int, /) -> Tally:
        """Begin a vote of so many copies.

        Raises:
            ValueError: If the rule does not fit that number. Asked for at decoration, too.
        """
        ...


def first() -> Rule:
    """Believe the first answer there is: what a hedged call wants.

    Example:
        >>> from mainstay import redundant, vote
        >>> redundant(decide=vote.first()).call(str.upper, "ok")
        'OK'
    """
    return _First()


def quorum(k: int, *, key: Key | None = None) -> Rule:
    """Believe an answer that *k* copies agree on.

    Args:
        k: How many have to agree: at least 1, at most the number of copies, which is checked at
            decoration. If two answers could both reach it, the first one to do so wins.
        key: What answers are compared by, with ``==``; it need not be hashable. None for the
            answers themselves.

    Raises:
        TypeError: If *k* is not a whole number, or *key* cannot be called.
        ValueError: If *k* is below 1.

    Example:
        >>> from mainstay import redundant, vote
        >>> redundant(copies=3, decide=vote.quorum(2)).call(round, 2.4)
        2
    """
    return _Quorum(_checked_k(k), _checked_key(key))


def majority(*, key: Key | None = None) -> Rule:
    """Believe an answer that more than half of all copies agree on; failed ones count as against.

    Args:
        key: As for `quorum`.

    Raises:
        TypeError: If *key* cannot be called.

    Source:
        The majority voter of N-modular redundancy: R. E. Lyons and W. Vanderkulk, "The Use of
        Triple-Modular Redundancy to Improve Computer Reliability", IBM Journal, 1962.

    Example:
        >>> from mainstay import redundant, vote
        >>> redundant(copies=3, decide=vote.majority()).call(max, [3, 1, 2])
        3
    """
    return _Majority(_checked_key(key))


def plurality(*, key: Key | None = None) -> Rule:
    """Believe the answer that more copies gave than any other; a tie is no decision.

    Failed copies do not count, so that a single answer wins if all others failed.

    Args:
        key: As for `quorum`.

    Raises:
        TypeError: If *key* cannot be called.

    Example:
        >>> from mainstay import redundant, vote
        >>> others = [lambda: "lamp", lambda: "chair"]
        >>> redundant(alternatives=others, decide=vote.plurality()).call(lambda: "lamp")
        'lamp'
    """
    return _Plurality(_checked_key(key))


def median(within: float | None = None) -> Rule:
    """Believe the middle one of the answers, which must be numbers.

    More than half of all copies must answer, so that fewer than half that are wrong cannot
    move it beyond the right ones. Of an even number of answers it is the lower middle one, so
    that what is returned is always what a copy gave.

    Args:
        within: If given, more than half of all copies must be no further than this from the
            median: at least 0. The call then ends as soon as that many lie within this distance
            of each other, and the answer may differ by it from the median of all.

    Raises:
        TypeError: If *within* is not a number; from a call, if an answer is not.
        ValueError: If *within* is negative or NaN.

    Example:
        >>> from mainstay import redundant, vote
        >>> others = [lambda x: x / 3, lambda x: 99.0]
        >>> policy = redundant(alternatives=others, decide=vote.median(within=1e-6))
        >>> round(policy.call(lambda x: x * 0.3333333, 6), 3)
        2.0
    """
    return _MedianRule(_checked_within(within))


def unanimous(*, key: Key | None = None) -> Rule:
    """Believe an answer only if all copies give it; one that fails or differs is no decision.

    Args:
        key: As for `quorum`.

    Raises:
        TypeError: If *key* cannot be called.

    Example:
        >>> from mainstay import redundant, vote
        >>> redundant(copies=3, decide=vote.unanimous()).call(round, 2.4)
        2
    """
    return _Unanimous(_checked_key(key))


def _checked_k(k: object) -> int:
    if not isinstance(k, int) or isinstance(k, bool):
        raise TypeError(f"`k` must be a whole number, not {k!r}")
    if k < 1:
        raise ValueError(f"`k` must be at least 1, not {k}")
    return k


def _checked_within(within: object) -> float | None:
    if within is None:
        return None
    if not isinstance(within, int | float) or isinstance(within, bool):
        raise TypeError(f"`within` must be a number or None, not {within!r}")
    if not within >= 0:
        raise ValueError(f"`within` must be at least 0, not {within!r}")
    return within


def _checked_key(key: object) -> Key | None:
    if key is None:
        return None
    if not callable(key):
        raise TypeError(f"`key` must take an answer and give what it is compared by, not {key!r}")
    if not isinstance(key, type) and colour_of(key) is not Colour.SYNC:
        raise TypeError(f"`key` must be a plain function, not {key!r}")
    return key


class _FirstTally:
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
class _First:
    def tally(self, copies: int, /) -> Tally:
        return _FirstTally(copies)

    def __repr__(self) -> str:
        return "vote.first()"


@attrs.define
class _Groups:
    """The copies in groups of equal answers; the largest first, then the one that grew first."""

    left: int
    key: Key | None
    groups: list[tuple[object, list[int]]] = attrs.field(factory=list)
    winner: int = 0

    def add(self, copy: int, answer: Any) -> None:
        """Put a copy to those with an equal answer."""
        value = answer if self.key is None else self.key(answer)
        self.left -= 1
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
        """Give the number of copies in the group at *place*, 0 if there is none."""
        return len(self.groups[place][1]) if place < len(self.groups) else 0

    def decide(self) -> State:
        """Let the first group win; of its copies, the one that began first."""
        self.winner = min(self.groups[0][1])
        return "decided"

    def dissenters(self) -> Collection[int]:
        return [copy for _, copies in self.groups[1:] for copy in copies]


@attrs.define
class _ThresholdTally(_Groups):
    threshold: int = attrs.field(kw_only=True)

    def answered(self, copy: int, answer: Any, /) -> State:
        self.add(copy, answer)
        return self._state()

    def failed(self, _copy: int, /) -> State:
        self.left -= 1
        return self._state()

    def needed(self) -> int:
        return self.threshold - self.size(0)

    def _state(self) -> State:
        if self.size(0) >= self.threshold:
            return self.decide()
        return "undecided" if self.needed() <= self.left else "impossible"


@attrs.define
class _PluralityTally(_Groups):
    def answered(self, copy: int, answer: Any, /) -> State:
        self.add(copy, answer)
        return self._state()

    def failed(self, _copy: int, /) -> State:
        self.left -= 1
        return self._state()

    def needed(self) -> int:
        return (self.left - self._lead()) // 2 + 1

    def _lead(self) -> int:
        return self.size(0) - self.size(1)

    def _state(self) -> State:
        if self._lead() > self.left:
            return self.decide()
        return "undecided" if self.left else "impossible"


@attrs.frozen(repr=False)
class _Quorum:
    k: int
    key: Key | None

    def tally(self, copies: int, /) -> Tally:
        if self.k > copies:
            raise ValueError(f"{self!r} can never be reached by {copies} copies")
        return _ThresholdTally(copies, self.key, threshold=self.k)

    def __repr__(self) -> str:
        return f"vote.quorum({self.k})"


@attrs.frozen(repr=False)
class _Majority:
    key: Key | None

    def tally(self, copies: int, /) -> Tally:
        return _ThresholdTally(copies, self.key, threshold=_more_than_half(copies))

    def __repr__(self) -> str:
        return "vote.majority()"


@attrs.frozen(repr=False)
class _Unanimous:
    key: Key | None

    def tally(self, copies: int, /) -> Tally:
        return _ThresholdTally(copies, self.key, threshold=copies)

    def __repr__(self) -> str:
        return "vote.unanimous()"


@attrs.frozen(repr=False)
class _Plurality:
    key: Key | None

    def tally(self, copies: int, /) -> Tally:
        return _PluralityTally(copies, self.key)

    def __repr__(self) -> str:
        return "vote.plurality()"


def _more_than_half(copies: int) -> int:
    return copies // 2 + 1


@attrs.define
class _MedianTally:
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
        if math.isnan(answer):
            raise ValueError(f"`median` needs numbers, and copy {copy} answered NaN")
        insort(self.ordered, (answer, copy))
        self.left -= 1
        return self._state()

    def failed(self, _copy: int, /) -> State:
        self.left -= 1
        return self._state()

    def needed(self) -> int:
        most = len(self.ordered) + self.left
        settling = 1 if self.within is not None else self.left - (most - 1) // 2
        return max(1, self.majority - len(self.ordered), settling)

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
        highest = (len(self.ordered) + self.left - 1) // 2
        lowest = highest - self.left
        if lowest < 0 or highest >= len(self.ordered):
            return "undecided"
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
        """Give the most answers of which none differ by more than *width*."""
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
class _MedianRule:
    within: float | None

    def tally(self, copies: int, /) -> Tally:
        return _MedianTally(copies, self.within, _more_than_half(copies))

    def __repr__(self) -> str:
        return "vote.median()" if self.within is None else f"vote.median(within={self.within})"


def _type(value: object) -> str:
    return type(value).__name__
