"""`Fullness`: for how long a bulkhead has been full.

Places are taken and freed without a lock, and the times at which one was free are not recorded.
Known are only the moments at which none was free: to calls that had to wait or were refused, and to
`health`. A bulkhead counts as full after `FULL_AFTER` seconds of only such moments.
"""

import math

FULL_AFTER = 10.0
"""Seconds after which a bulkhead counts as full; a burst is over by then."""

LONGEST_GAP = 15.0
"""Most seconds between two such looks; what asks for readiness does so every ten seconds."""


class Fullness:
    """The looks that found a bulkhead full, in seconds of any one clock.

    No lock: where two threads look at the same time, either look stands for both.
    """

    __slots__ = ("_looks", "_well_since")

    def __init__(self, now: float) -> None:
        self._well_since = now
        self._looks = -math.inf, -math.inf  # the first and the last of those in a row

    def found(self, now: float, since: float | None = None) -> None:
        """Count a look that found no place; *since* then, by what waited for one."""
        first, last = self._looks
        began = now if since is None else since
        if began - last > LONGEST_GAP:
            if last - first >= FULL_AFTER:
                self._well_since = last
            first = last = began
        self._looks = first, max(last, now)

    def full_since(self, now: float) -> float | None:
        """Return since when it has been full; None if it is not, or not for long enough."""
        first, last = self._looks
        return first if now - last <= LONGEST_GAP and now - first >= FULL_AFTER else None

    def well_since(self) -> float:
        """Return since when it has not been full for long."""
        first, last = self._looks
        return last if last - first >= FULL_AFTER else self._well_since
