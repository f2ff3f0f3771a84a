"""The figures of dependability (availability, MTBF, MTTR), and the `OutageLog` that they come from.

Pure arithmetic: the time is an argument. An `OutageLog` is a value, and each step returns a new
one. A reading is a step as well, so that later steps never change figures that were read before: an
outage whose time lies before a reading begins or ends at that reading. Used by `Availability`, and
by the series of pools and breakers.
"""

import math
from typing import Self

import attrs

from mainstay._core.arguments import Duration, to_seconds

MOST_POINTS = 4_096
"""How many beginnings and ends of outages a log remembers at least; the totals forget nothing."""

_BLOCK = 64


@attrs.frozen
class DependabilityFigures:
    """How dependable a component was over a span of time.

    Attributes:
        uptime: Seconds for which the component was up.
        downtime: Seconds for which the component was down.
        failures: The number of outages that began.
        repairs: The number of outages that ended.
        repaired: The length of the outages that ended, added up, in seconds.

    Source:
        The steady-state definitions of Avizienis, Laprie, Randell and Landwehr, "Basic Concepts
        and Taxonomy of Dependable and Secure Computing" (2004), for a constant failure rate.

    Example:
        >>> from mainstay.availability import DependabilityFigures
        >>> month = DependabilityFigures(
        ...     uptime=2_591_000.0, downtime=1_000.0, failures=2, repairs=2, repaired=1_000.0
        ... )
        >>> round(month.availability, 5), month.mttr
        (0.99961, 500.0)
    """

    uptime: float = 0.0
    downtime: float = 0.0
    failures: int = 0
    repairs: int = 0
    repaired: float = 0.0

    @property
    def availability(self) -> float:
        """Uptime / total time, 0 to 1; NaN if the total time is 0."""
        return _ratio(self.uptime, self.uptime + self.downtime, empty=math.nan)

    @property
    def failure_rate(self) -> float:
        """Failures per second of uptime, which is failures / (total time x availability)."""
        return _ratio(self.failures, self.uptime, empty=0.0)

    @property
    def mtbf(self) -> float:
        """Mean seconds of uptime between failures; infinite without failures."""
        return _ratio(self.uptime, self.failures, empty=math.inf)

    @property
    def mttr(self) -> float:
        """Mean length in seconds of the outages that have ended; NaN if none has."""
        return _ratio(self.repaired, self.repairs, empty=math.nan)

    def reliability(self, period: Duration) -> float:
        """Return the probability of no failure in *period* seconds: exp(-failure_rate x period)."""
        seconds = to_seconds(period, "period")
        return math.exp(-self.failure_rate * seconds) if seconds else 1.0

    def reliability_linear(self, period: Duration) -> float:
        """Return the first-order approximation, 1 - failure_rate x period, never below 0."""
        seconds = to_seconds(period, "period")
        return max(0.0, 1.0 - self.failure_rate * seconds) if seconds else 1.0

    def __add__(self, other: "DependabilityFigures") -> "DependabilityFigures":
        return DependabilityFigures(
            *map(sum, zip(attrs.astuple(self), attrs.astuple(other), strict=True))
        )

    def __sub__(self, other: "DependabilityFigures") -> "DependabilityFigures":
        pairs = zip(attrs.astuple(self), attrs.astuple(other), strict=True)
        return DependabilityFigures(*(mine - theirs for mine, theirs in pairs))


def _ratio(part: float, whole: float, *, empty: float) -> float:
    """Divide; a part of nothing is infinite, and nothing of nothing is *empty*."""
    if whole:
        return part / whole
    return math.inf if part else empty


@attrs.frozen
class Point:
    """What is known of a moment.

    Attributes:
        when: The moment, in seconds of the clock.
        total: The figures from the start until then.
        down_since: When the outage began that lasts, or None.
    """

    when: float
    total: DependabilityFigures = DependabilityFigures()
    down_since: float | None = None

    def later(self, when: float) -> "Point":
        """Return a later moment before which nothing has changed."""
        passed = when - self.when
        if self.down_since is None:
            total = attrs.evolve(self.total, uptime=self.total.uptime + passed)
        else:
            total = attrs.evolve(self.total, downtime=self.total.downtime + passed)
        return attrs.evolve(self, when=when, total=total)


@attrs.frozen
class History:
    """Moments in order, in blocks, so that adding one copies one block and the list at most.

    Attributes:
        blocks: Full blocks, the oldest first.
        recent: The moments after them.
    """

    blocks: tuple[tuple[Point, ...], ...]
    recent: tuple[Point, ...]

    def followed_by(self, point: Point) -> "History":
        """Return the history with one more moment, and without moments that are too old."""
        if len(self.recent) < _BLOCK:
            return History(self.blocks, (*self.recent, point))
        return History((*self.blocks, self.recent)[-(MOST_POINTS // _BLOCK) :], (point,))

    @property
    def oldest(self) -> Point:
        """The oldest moment that is remembered."""
        return (*self.blocks[:1], self.recent)[0][0]

    def last_until(self, when: float) -> Point | None:
        """Return the last moment at or before *when*, or None if that is forgotten."""
        for block in (self.recent, *reversed(self.blocks)):
            if block[0].when <= when:
                return next(each for each in reversed(block) if each.when <= when)
        return None


@attrs.frozen
class OutageLog:
    """The beginnings and ends of outages, and how many are open inside each other.

    Attributes:
        start: When it was opened, in seconds of the clock.
        read_until: Until when its figures were read, or outages changed them.
        history: Moments of change, the start or the oldest one that is remembered first.
        depth: Outages that have begun and not ended; one inside another is part of it.
    """

    start: float
    read_until: float
    history: History
    depth: int = 0

    @classmethod
    def opened(cls, now: float) -> Self:
        """Start a log of something that is up."""
        return cls(now, now, History((), (Point(now),)))

    def failed(self, now: float) -> "OutageLog":
        """Return the log after an outage has begun.

        Raises:
            ValueError: If *now* is before what was read.
        """
        here = self._at(now)
        if self.depth:
            return attrs.evolve(self, depth=self.depth + 1)
        total = attrs.evolve(here.total, failures=here.total.failures + 1)
        return self._changed(attrs.evolve(here, total=total, down_since=now), depth=1)

    def restored(self, now: float) -> "OutageLog":
        """Return the log after an outage has ended.

        Raises:
            ValueError: If none has begun, or *now* is before what was read.
        """
        here = self._at(now)
        if not self.depth:
            raise ValueError("`restore` was called without a `fail` before it")
        if here.down_since is None or self.depth > 1:
            return attrs.evolve(self, depth=self.depth - 1)
        total = attrs.evolve(
            here.total,
            repairs=here.total.repairs + 1,
            repaired=here.total.repaired + (now - here.down_since),
        )
        return self._changed(attrs.evolve(here, total=total, down_since=None), depth=0)

    def down(self, now: float) -> "OutageLog":
        """Return the log with an outage open: its own, or a new one."""
        return self if self.depth else self.failed(now)

    def up(self, now: float) -> "OutageLog":
        """Return the log without an open outage."""
        return self.restored(now) if self.depth else self

    def read(self, now: float) -> "OutageLog":
        """Return the log after its figures were read: no change is before *now* any more."""
        return attrs.evolve(self, read_until=now) if now > self.read_until else self

    def figures(self, now: float, seconds: float = math.inf) -> DependabilityFigures:
        """Return the figures of the last *seconds*, or since the start if that is less.

        Raises:
            ValueError: If *now* is before what was read.
        """
        end = self._at(now)
        start = now - seconds
        if start <= self.start:
            return end.total
        before = self.history.last_until(start)
        if before is not None:
            return end.total - before.later(start).total
        return end.total - self.history.oldest.total

    def _at(self, now: float) -> Point:
        if now < self.read_until:
            raise ValueError(f"the clock went back from {self.read_until} to {now} seconds")
        return self.history.recent[-1].later(now)

    def _changed(self, point: Point, *, depth: int) -> "OutageLog":
        return OutageLog(self.start, point.when, self.history.followed_by(point), depth)
