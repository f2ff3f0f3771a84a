"""Bars and sparklines: how many cells of a line stand for what."""

from collections.abc import Sequence
from statistics import median


def bar(shares: Sequence[float], width: int) -> tuple[int, ...]:
    """Return how many of *width* cells each share gets, the first one what the others leave.

    A share above 0 has one cell at least, unless there are more of them than cells: then the last
    ones, which are the worst, have theirs.

    Args:
        shares: What adds up to 1 at most, the best first.
        width: How many cells there are.
    """
    cells = [0] * len(shares)
    left = width
    for place in range(len(shares) - 1, 0, -1):
        share = shares[place]
        wanted = max(1, round(share * width)) if share > 0 else 0
        cells[place] = min(wanted, left)
        left -= cells[place]
    if shares[0] > 0 and left == 0:
        largest = max(range(1, len(shares)), key=lambda place: cells[place])
        if cells[largest] > 1:
            cells[largest] -= 1
            left = 1
    cells[0] = left
    return tuple(cells)


def heights(rates: Sequence[float], steps: int) -> tuple[int, ...]:
    """Return for each rate a height from 1 to *steps*, and 0 for none at all.

    What is usual stands in the middle: so a steady rate looks calm, and a change looks like one.

    Args:
        rates: Calls per second of each interval.
        steps: How many heights there are.
    """
    there = [rate for rate in rates if rate > 0]
    if not there:
        return (0,) * len(rates)
    top = 2 * median(there)
    return tuple(min(steps, max(1, round(rate / top * steps))) if rate > 0 else 0 for rate in rates)
