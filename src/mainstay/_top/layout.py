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

    def lines(self, well: int) -> int:
        """Return how many lines it takes with its title and the blank line above.

        Args:
            well: How many of the rows that are well are shown; the others are folded.
        """
        rest = self.folded if well < self.well else 0
        return _TITLE_AND_BLANK + self.bad + well + rest

    @property
    def least(self) -> int:
        """The smallest number of rows that are well to show: all where folding gains nothing."""
        return 0 if self.well > self.folded else self.well


def fitted(sizes: Sequence[Size], room: int) -> tuple[int, ...]:
    """Return for each section how many of its rows that are well are shown.

    Sections are folded one by one, where it gains most first, until all have room or all that is
    well is folded. The last one that was folded shows as many rows as there is room for.
    """
    shown = [size.well for size in sizes]

    def gain(place: int) -> int:
        return sizes[place].lines(sizes[place].well) - sizes[place].lines(sizes[place].least)

    used = sum(size.lines(size.well) for size in sizes)
    for place in sorted(range(len(sizes)), key=lambda place: (-gain(place), place)):
        if used <= room:
            break
        shown[place] = sizes[place].least
        used -= gain(place)
        if used <= room and gain(place) > 0:
            shown[place] += room - used
    return tuple(shown)
