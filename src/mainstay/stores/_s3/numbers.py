"""Sets of numbers of results, as ranges: most runs number theirs one after the other."""

from collections.abc import Iterable
from typing import TypeAlias

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""The first and the last number of each range, in order; none touches the next one."""


def ranges_of(numbers: Iterable[int]) -> Ranges:
    """Return *numbers* as ranges."""
    found: list[tuple[int, int]] = []
    for number in sorted({*numbers}):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def without(ranges: Ranges, removed: Ranges) -> Ranges:
    """Return *ranges* without the numbers that are *removed*."""
    left: list[tuple[int, int]] = []
    at = 0
    for first, last in ranges:
        while at < len(removed) and removed[at][1] < first:
            at += 1
        begin, beyond = first, at
        while beyond < len(removed) and removed[beyond][0] <= last:
            if removed[beyond][0] > begin:
                left.append((begin, removed[beyond][0] - 1))
            begin = removed[beyond][1] + 1
            beyond += 1
        if begin <= last:
            left.append((begin, last))
    return tuple(left)
