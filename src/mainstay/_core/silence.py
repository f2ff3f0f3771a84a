"""`Silence`: how long a member has been called without an answer, by its cancelled attempts.

One cancelled attempt does not show if the member hangs or the caller was impatient. So the silence
counts: the time since the last answer in which the member was being called, which is the time of
the attempts that were cancelled since then, overlaps counted once. A silence is too long if it
exceeds the limit that was set; without a limit, if it exceeds each of the last `ANSWERS` answers of
the pool or breaker, and `FLOOR` seconds. Pure; all times are of one clock.
"""

import math
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections import deque

ANSWERS = 100
FLOOR = 0.1
_MOST_SPANS = 64


def longest_silence(slow: float | None, answers: "deque[float]") -> float:
    """Return the seconds of silence that are still normal.

    Args:
        slow: The limit that was set, infinity for never; None for what the answers show.
        answers: How many seconds the last answers took.
    """
    if slow is not None:
        return slow
    return max(FLOOR, *answers.copy()) if answers else FLOOR  # another thread may append to it


@attrs.define
class Silence:
    """The silence of one member since its last answer."""

    _spans: list[tuple[float, float]] = attrs.field(factory=list)
    _counted: tuple[float, float] = (-math.inf, -math.inf)

    def __bool__(self) -> bool:
        return bool(self._spans)

    @property
    def seconds(self) -> float:
        """How long it has lasted so far."""
        return sum(ended - began for began, ended in self._spans)

    def end(self) -> None:
        """Record an answer, or an error: the member is there."""
        self._spans.clear()

    def add(self, began: float, ended: float) -> float:
        """Record an attempt that was cancelled; return the seconds of silence so far."""
        kept = []
        for other in self._spans:
            if other[1] < began or ended < other[0]:
                kept.append(other)
            else:
                began, ended = min(began, other[0]), max(ended, other[1])
        self._spans = [*kept, (began, ended)][-_MOST_SPANS:]
        return self.seconds

    def counts(self, began: float, ended: float, longest: float) -> bool:
        """Return True if an attempt counts against the member, given that its silence is too long.

        Ten attempts that hang at the same time count once: an attempt that overlaps the last one
        that counted, and ends less than *longest* seconds after it, does not count.
        """
        last_began, last_ended = self._counted
        # An attempt that begins when the last one ends is no overlap, unless it has no length.
        overlaps = (began < last_ended or ended <= last_ended) and last_began <= ended
        if overlaps and ended < last_ended + longest:
            return False
        if ended > last_ended:  # a late report from another thread is not the last attempt
            self._counted = (began, ended)
        return True
