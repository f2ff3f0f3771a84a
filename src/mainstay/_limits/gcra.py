"""`Gcra`, the generic cell rate algorithm: if there is a turn now, and when the next one comes.

Times are of any one clock that never goes back; nothing here reads one.
"""

import math

_ROUNDING = 1e-9
"""The part of a turn's time that its calculation may be wrong by."""

_PRECISION = 1e-15
"""The part of the clock's time that a float of it may be wrong by."""


class Gcra:
    """Turns that come at *rate* in *per* seconds, of which *burst* may be saved up.

    All that is known of the past is the time until which everything taken so far is paid for. Each
    turn costs ``per / rate`` seconds and moves that time on by as much, from where it was; it may
    be ahead of the present by *burst* turns. In any window of *per* seconds, wherever it begins, at
    most ``rate + burst`` are taken. That time is kept as the last one at which nothing was owed,
    and the number of turns since: as one sum it would take in a rounding error with every turn,
    which is 10^-10 seconds on a machine that has been up for a week.

    A *now* that is older than one before finds the paid time further ahead, so it is let through
    later, never earlier, and the paid time never goes back.

    No method calls anything between its reads of these numbers and its changes, so that a signal
    handler that comes in finds them as they were before or after.

    Args:
        rate: How many turns come in *per*. Above 0.
        per: Seconds. Above 0.
        burst: How many may be taken at once after a time without any. At least 1.

    Attributes:
        interval: Seconds from one turn to the next.

    Source:
        ITU-T Recommendation I.371 (2004), annex A.1, the virtual scheduling algorithm; the same as
        a token bucket of *burst* tokens that begins full.
    """

    __slots__ = ("_rounding", "_since", "_taken", "_tolerance", "interval")

    def __init__(self, rate: float, per: float, burst: float) -> None:
        self.interval = per / rate
        self._tolerance = self.interval * burst
        self._rounding = self.interval * _ROUNDING
        self._since = -math.inf
        self._taken = 0.0

    def take(self, now: float, cost: float = 1.0) -> float | None:
        """Take *cost* turns at once if they are there; else return the seconds until they are."""
        interval, since, taken = self.interval, self._since, self._taken
        paid_until = since + interval * taken
        if paid_until < now:
            paid_until = since = now
            taken = 0.0
        wait = paid_until - now - (self._tolerance - interval * cost)
        if wait > 0.0 and wait > self._rounding + now * _PRECISION:
            return wait
        self._since = since
        self._taken = taken + cost
        return None

    def wait(self, now: float, cost: float, ahead: float = 0.0) -> float:
        """Return the seconds until *cost* turns are there, after *ahead* others that come first.

        0.0 if they are there now. Exact as long as those ahead take theirs as soon as they can.
        """
        paid_until = self._since + self.interval * self._taken
        paid_until = max(paid_until, now)
        wait = paid_until - now - (self._tolerance - self.interval * (ahead + cost))
        return wait if wait > self._rounding + now * _PRECISION else 0.0

    def take_due(self, at: float, cost: float) -> None:
        """Take turns that were waited for until *at*, which `wait` had named, or later."""
        since, taken = self._since, self._taken
        if since + self.interval * taken < at:
            since = at
            taken = 0.0
        self._since = since
        self._taken = taken + cost

    def shift(self, seconds: float) -> None:
        """Go on by a clock that shows so many more seconds; what is owed stays the same."""
        self._since += seconds
