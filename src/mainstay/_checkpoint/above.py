"""The finished items of a `cp.map` beyond the first unfinished item.

Items in parallel may end in any order. The items before the first unfinished one are recorded by
their number and the digest of their keys in order, as in every iteration. The finished items beyond
it have a bit each, and a sum of their keys, which does not depend on the order.
"""

from typing import Any

import attrs

from mainstay._checkpoint.value_digest import item_digest

_MODULUS = 2**128
_NO_KEY: Any = object()


@attrs.define(eq=False)
class Above:
    """The keys of items that are done above the first gap, by position.

    Attributes:
        gap: The first position that is not done.
    """

    gap: int = 0
    _keys: dict[int, Any] = attrs.field(factory=dict, init=False)
    _bits: int = attrs.field(default=0, init=False)
    _sum: int = attrs.field(default=0, init=False)

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, position: int, key: Any) -> list[Any]:
        """Add an item that is done.

        Returns:
            The keys of the items that are below the gap from now on, in order.
        """
        if position != self.gap:
            self._keys[position] = key
            self._bits |= 1 << (position - self.gap)
            self._sum = (self._sum + _summand(position, key)) % _MODULUS
            return []
        passed = [key]
        position += 1
        while (key := self._keys.pop(position, _NO_KEY)) is not _NO_KEY:
            self._sum = (self._sum - _summand(position, key)) % _MODULUS
            passed.append(key)
            position += 1
        self._bits >>= len(passed)
        self.gap = position
        return passed

    def saved(self) -> list[str]:
        """Return which items these are, and the sum of their keys, as two texts of digits."""
        return [f"{self._bits:x}", f"{self._sum:x}"]


def positions_in(saved: list[str], gap: int) -> frozenset[int]:
    """Return the positions above *gap* that are done by what was saved."""
    digits = f"{int(saved[0], 16):b}"
    return frozenset(gap + n for n, digit in enumerate(reversed(digits)) if digit == "1")


def _summand(position: int, key: Any) -> int:
    return int(item_digest((position, key)), 16)
