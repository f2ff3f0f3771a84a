"""`Sketch`: one quantile of the durations of calls, always current, in constant memory and time.

Durations are counted in bins, `STEPS` of equal width for each power of two, so that the width of a
bin is at most 1 / `STEPS` of its durations. A pointer marks the bin of the quantile and moves with
the counts, so nothing is ever searched. After a certain number of durations all counts are halved,
so that old durations fade.

Pure arithmetic: no clock and no lock.

Source:
    The bins are those of HdrHistogram (Gil Tene).
"""

import math
from array import array
from collections.abc import Sequence
from math import frexp

STEPS = 32
_SMALLEST = -20  # 2^-20 s is about a microsecond
_LARGEST = 18  # 2^18 s is about three days
_GRAIN = 1024.0  # what of a count is smaller than 1 / _GRAIN is forgotten
_BINS = (_LARGEST - _SMALLEST) * STEPS
_HALVES = 2 * STEPS
_SHORTEST = 1e-9
_FIRST = (_SMALLEST + 2) * STEPS  # of the smallest: an exponent one higher, a mantissa of a half


class Sketch:
    """The quantile *q* of the last durations.

    Attributes:
        enough: How many it takes to know anything.
        most: How many are counted before old ones begin to fade.
    """

    __slots__ = ("_at", "_counts", "_gap", "_q", "_total", "enough", "most")

    def __init__(self, q: float) -> None:
        self.enough = max(20, math.ceil(5 / (1 - q)))
        self.most = max(4096, math.ceil(40 / (1 - q)))
        self._q = q
        self._counts = array("d", bytes(8 * _BINS))
        self._total = 0.0
        self._at = 0  # the bin of the quantile
        self._gap = 0.0  # the rank of the quantile less the count of all bins below that one

    def add(self, durations: Sequence[float]) -> None:
        """Count durations in seconds."""
        counts, q, at, gap = self._counts, self._q, self._at, self._gap
        for seconds in durations:
            mantissa, exponent = frexp(seconds or _SHORTEST)  # a half to below 1, times 2^exponent
            place = exponent * STEPS + int(mantissa * _HALVES) - _FIRST
            if not 0 <= place < _BINS:
                place = 0 if place < 0 else _BINS - 1
            counts[place] += 1.0
            gap += q
            if place < at:
                gap -= 1.0
        self._total += len(durations)
        while gap > counts[at]:
            gap -= counts[at]
            at += 1
        while gap <= 0 and at:
            at -= 1
            gap += counts[at]
        self._at, self._gap = at, gap
        if self._total >= self.most:
            self._fade()

    def warm(self) -> bool:
        """True if enough is known."""
        return self._total >= self.enough

    def value(self) -> float:
        """Return the quantile in seconds; 0.0 if nothing was counted."""
        count = self._counts[self._at]
        share = min(1.0, self._gap / count) if count else 0.0
        power, step = divmod(self._at, STEPS)
        return math.ldexp(1 + (step + share) / STEPS, power + _SMALLEST) if count else 0.0

    def _fade(self) -> None:
        # Multiples of a power of two add up without rounding.
        halves = (math.floor(count * _GRAIN / 2) / _GRAIN for count in self._counts)
        self._counts[:] = array("d", halves)
        self._total = sum(self._counts)
        self._gap = self._q * self._total - sum(self._counts[: self._at])
        self.add(())  # moves the pointer
