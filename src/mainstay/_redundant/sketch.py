"""How long calls take: one quantile of them, live, in constant memory and time.

Durations are counted in bins, `STEPS` of equal width to each power of two, so that a bin is at most
1 / `STEPS` as wide as what it holds. A pointer stands on the bin of the quantile and moves with the
counts, so that nothing is ever searched. When so many have been counted, all counts are halved:
what is old fades away.

Pure arithmetic: no clock and no lock.

Source:
    The bins are those of HdrHistogram (Gil Tene).
"""

import math

STEPS = 32
_SMALLEST = -20  # 2^-20 s is about a microsecond
_LARGEST = 18  # 2^18 s is about three days
_GRAIN = 1024.0  # what of a count is smaller than 1 / _GRAIN is forgotten
_BINS = (_LARGEST - _SMALLEST) * STEPS


class Sketch:
    """The quantile *q* of the last durations.

    Attributes:
        enough: How many it takes to know anything.
        most: How many are counted before old ones begin to fade.
    """

    __slots__ = ("_at", "_below", "_counts", "_q", "_total", "enough", "most")

    def __init__(self, q: float) -> None:
        self.enough = max(20, math.ceil(5 / (1 - q)))
        self.most = max(4096, math.ceil(40 / (1 - q)))
        self._q = q
        self._counts = [0.0] * _BINS
        self._total = 0.0
        self._at = 0  # the bin of the quantile
        self._below = 0.0  # the count of all bins below it

    def add(self, seconds: float) -> None:
        """Count a duration."""
        place = _bin_of(seconds)
        counts = self._counts
        counts[place] += 1.0
        self._total += 1.0
        if place < self._at:
            self._below += 1.0
        self._follow()
        if self._total >= self.most:
            self._fade()

    def _follow(self) -> None:
        """Move the pointer to where the counts put the quantile."""
        counts = self._counts
        rank = self._q * self._total
        while self._below + counts[self._at] < rank:
            self._below += counts[self._at]
            self._at += 1
        while self._below >= rank:
            self._at -= 1
            self._below -= counts[self._at]

    def warm(self) -> bool:
        """Whether enough is known."""
        return self._total >= self.enough

    def value(self) -> float:
        """Give the quantile in seconds; 0.0 if nothing was counted."""
        count = self._counts[self._at]
        share = (self._q * self._total - self._below) / count if count else 0.0
        power, step = divmod(self._at, STEPS)
        return math.ldexp(1 + (step + share) / STEPS, power + _SMALLEST) if count else 0.0

    def _fade(self) -> None:
        # Multiples of a power of two add up without rounding.
        self._counts[:] = [math.floor(count * _GRAIN / 2) / _GRAIN for count in self._counts]
        self._total = sum(self._counts)
        self._below = sum(self._counts[: self._at])
        self._follow()


def _bin_of(seconds: float) -> int:
    if not seconds > 0:
        return 0
    mantissa, exponent = math.frexp(seconds)  # from 0.5 to below 1, times 2^exponent
    place = (exponent - 1 - _SMALLEST) * STEPS + int((mantissa * 2 - 1) * STEPS)
    return min(max(place, 0), _BINS - 1)
