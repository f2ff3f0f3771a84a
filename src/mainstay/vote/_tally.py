"""What a rule of voting is, and what its tallies have: what users of `mainstay.vote` may write."""

from collections.abc import Callable, Collection
from typing import Any, Literal, Protocol, TypeAlias

State: TypeAlias = Literal["undecided", "decided", "impossible"]
"""What a vote has come to so far."""

Key: TypeAlias = Callable[[Any], object]
"""Takes an answer and returns what it is compared by."""


class Tally(Protocol):
    """Counts the answers of one call. Copies are numbered from 0; each ends at most once.

    An exception from a method ends the call, and so does any state other than "undecided",
    "decided" and "impossible".

    Attributes:
        winner: Once decided, the copy whose answer is returned.

    Example:
        >>> from mainstay import vote
        >>> tally = vote.majority().tally(3)
        >>> tally.answered(0, "yes"), tally.answered(2, "yes")
        ('undecided', 'decided')
        >>> tally.winner
        0
    """

    winner: int

    def answered(self, copy: int, answer: Any, /) -> State:
        """Count the answer of a copy."""
        ...

    def failed(self, copy: int, /) -> State:
        """Count that a copy has failed."""
        ...

    def needed(self) -> int:
        """Return the fewest further answers that could decide; while undecided, at least 1."""
        ...

    def dissenters(self) -> Collection[int]:
        """Return the copies whose answers differ from the winner's."""
        ...


class Rule(Protocol):
    """A rule of voting: makes a tally for each call. All calls share one rule.

    Example:
        >>> from mainstay import redundant, vote
        >>> class OddMajority:
        ...     def tally(self, copies):
        ...         if copies % 2 == 0:
        ...             raise ValueError(f"{copies} copies may tie")
        ...         return vote.majority().tally(copies)
        >>> redundant(copies=3, decide=OddMajority()).call(str.upper, "ok")
        'OK'
    """

    def tally(self, copies: int, /) -> Tally:
        """Return the tally for a vote of *copies* copies.

        Called for each call, and once at decoration to check the rule.

        Raises:
            ValueError: If the rule does not fit that number of copies.
        """
        ...
