"""`Window`: which items of a `cp.map` begin, and whose result is next.

room for another item     if fewer than `ahead` are under way or wait for their turn
and out of order          if the next one is less than 64 x `ahead` above the first gap
in any case               if none is under way
whose turn is next        the item that has to come first, where there is one
in order                then the lowest position
out of order            then the one that ended first
"""

import attrs

from mainstay._checkpoint.shape import MOST_ABOVE

SPAN = 64
"""How many times `ahead` the source is read beyond the first gap."""


@attrs.define(eq=False)
class Window:
    """The items under way, from where they begin until their results are taken.

    Attributes:
        ahead: The most items that are under way or wait for their turn.
        ordered: True if results come in the order in which items begin.
        first: The position whose result comes before all others, if there is one.
        ended: True if no more items are to begin.
    """

    ahead: int
    ordered: bool
    first: int | None = None
    ended: bool = attrs.field(default=False, init=False)
    _begun: dict[int, None] = attrs.field(factory=dict, init=False)
    _arrived: dict[int, None] = attrs.field(factory=dict, init=False)

    @property
    def is_over(self) -> bool:
        """True if all results are taken, and no more items are to begin."""
        return self.ended and not self._begun

    def has_room(self, position: int, gap: int) -> bool:
        """True if the item at *position* may begin while *gap* is the first that is not done."""
        if self.ended or len(self._begun) >= self.ahead:
            return False
        most = min(SPAN * self.ahead, MOST_ABOVE)
        return self.ordered or not self._begun or position - gap < most

    def begin(self, position: int) -> None:
        """Record that an item is under way."""
        self._begun[position] = None

    def arrive(self, position: int) -> None:
        """Record that an item has a result, or an error."""
        self._arrived[position] = None

    def turn(self) -> int | None:
        """Return the position whose result is next; None as long as that is under way."""
        if self.first is not None:
            head: int | None = self.first
        elif self.ordered:
            head = next(iter(self._begun), None)
        else:
            head = next(iter(self._arrived), None)
        return head if head in self._arrived else None

    def take(self, position: int) -> None:
        """Record that a result is taken."""
        del self._begun[position], self._arrived[position]
        self.first = None
