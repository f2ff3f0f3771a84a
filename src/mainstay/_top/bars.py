"""Bars and sparklines: how many cells of a line stand for what."""

from collections.abc import Sequence
from statistics import median


def bar(shares: Sequence[float], width: int) -> tuple[int, ...]:
    """Return how many of *width* cells each share gets.

    A share above 0 has one cell at least; where there are fewer cells than such shares, the last
    ones, which are the worst, have theirs.

    Args:
        shares: What adds up to 1, the best first.
        width: How many cells there are.
    """
    cells = [0] * len(shares)
    there = [place for place, share in enumerate(shares) if share > 0]
    for place in there[-width:]:
        cells[place] = 1
    for _ in range(width - sum(cells)):
        most = max(there, key=lambda place: shares[place] * width - cells[place])
        cells[most] += 1
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
    return tuple(max(1, round(min(rate / top, 1.0) * steps)) if rate > 0 else 0 for rate in rates)
