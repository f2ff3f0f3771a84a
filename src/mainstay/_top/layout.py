"""What gives way when a terminal is too low: first what is well."""

from collections.abc import Sequence

import attrs

_TITLE_AND_BLANK = 2


@attrs.frozen(kw_only=True)
class Size:
    """How many rows a section has.

    Attributes:
        bad: Rows that are not well.
        well: Rows that are.
        folded: Lines that the latter take when they are folded.
    """

    bad: int
    well: int
    folded: int

    def lines(self, *, is_folded: bool) -> int:
        """Return how many lines it takes with its title and the blank line above."""
        well = min(self.folded, self.well) if is_folded else self.well
        return _TITLE_AND_BLANK + self.bad + well


def folded(sizes: Sequence[Size], room: int) -> tuple[bool, ...]:
    """Return for each section True if its rows that are well are folded into one line.

    Sections are folded one by one, where it gains most first, until all have room or all that is
    well is folded.
    """
    result = [False] * len(sizes)

    def gain(place: int) -> int:
        return sizes[place].lines(is_folded=False) - sizes[place].lines(is_folded=True)

    used = sum(size.lines(is_folded=False) for size in sizes)
    for place in sorted(range(len(sizes)), key=lambda place: (-gain(place), place)):
        if used <= room or gain(place) <= 0:
            break
        result[place] = True
        used -= gain(place)
    return tuple(result)
