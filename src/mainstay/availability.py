"""`Availability`: the dependability figures of one component.

The log of its outages is a value. A step replaces it by another one, under a lock that is held for
that step alone: no other lock is taken meanwhile, so no thread waits for more than a step. A signal
handler or finaliser may come back in on the same thread; then the step that it came into is made
again, with what it has changed. There is one lock for all, which every child of a fork has free
before anything else in it is reset.
"""

import math
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from mainstay._core.arguments import Duration, to_seconds
from mainstay._core.clock import Clock
from mainstay._core.context import current_context
from mainstay._core.dependability import DependabilityFigures, OutageLog
from mainstay._core.forks import around_forks, unlocked_copy
from mainstay._core.functions import checked_name
from mainstay._core.sharing import Shared
from mainstay._metrics.collector import Metrics, metrics_of, recorders_of

__all__ = ["Availability"]

_lock = threading.RLock()


def _reset_after_fork() -> None:
    global _lock
    _lock = unlocked_copy(_lock)


around_forks(in_child=_reset_after_fork)


class Availability(Shared):
    """Measures how dependable a component is: its uptime, its failures and its outages.

    Pools and breakers measure their availability themselves. For any other component, call `fail`
    when it fails and `restore` when it works again. A component starts as up. Outages may nest and
    overlap: the component is down from the first `fail` until each `fail` has its `restore`, and
    that counts as one failure.

    The attributes below have the figures since the start; `over` returns the figures of a sliding
    window. Both know only this process and its clock: the time for which the process is dead does
    not count. To count that time as well, the rules of `mainstay.ops` use Prometheus's own `up`.

    The clock is that of the code that makes the object. Safe to use from threads, tasks, signal
    handlers and finalisers, and after a fork.

    Args:
        name: The `component` label. Several objects with the same name are one component, which is
            up while all of them are up.
        metrics: Where to record. None for `default_metrics()`.

    Raises:
        TypeError: If *name* is not a str, or *metrics* not a `Metrics`.
        ValueError: If *name* is empty.

    Metrics:
        `component_up`, `component_uptime_seconds_total`, `component_downtime_seconds_total`,
        `component_failures_total`; and for people, rather than for rules, the figures since the
        start: `availability_ratio`, `failure_rate_per_second`, `mtbf_seconds`, `mttr_seconds`. The
        series end with the object. In multiprocess mode, worker processes update the counters each
        second, and do not export the figures since the start.

    Example:
        >>> from mainstay import Availability
        >>> from mainstay.testing import FakeClock
        >>> with FakeClock() as clock:
        ...     database = Availability("database")
        ...     clock.advance(90)
        ...     with database.outage():
        ...         clock.advance(10)
        ...     database.availability, database.mtbf, database.mttr
        (0.9, 90.0, 10.0)
    """

    __slots__ = ("_series", "_track", "name")

    def __init__(self, name: str, *, metrics: Metrics | None = None) -> None:
        self.name: str = checked_name(name)
        self._track = _Track(name, current_context().clock)
        self._series = recorders_of(metrics_of(metrics)).uptime(name)
        self._series.watch(self._track)

    def __repr__(self) -> str:
        return f"<Availability of {self.name!r}: {'up' if self._track.is_up() else 'down'}>"

    def fail(self) -> None:
        """Record that an outage begins.

        Raises:
            ValueError: If the clock went back since the last change.

        Example:
            >>> from mainstay import Availability
            >>> database = Availability("database")
            >>> database.fail()
            >>> database
            <Availability of 'database': down>
            >>> database.restore()
            >>> database
            <Availability of 'database': up>
        """
        self._track.change(OutageLog.failed)
        self._series.count(self._track)

    def restore(self) -> None:
        """Record that an outage ends.

        Raises:
            ValueError: If no outage has begun, or the clock went back since the last change.
        """
        self._track.change(OutageLog.restored)
        self._series.count(self._track)

    def outage(self) -> AbstractContextManager[None]:
        """Record an outage that lasts as long as the block, in sync and async code.

        Example:
            >>> from mainstay import Availability
            >>> with Availability("search").outage():
            ...     pass
        """
        return _Outage(self)

    @property
    def availability(self) -> float:
        """Uptime / total time since the start, 0 to 1; NaN if the total time is 0."""
        return self._track.over(math.inf).availability

    @property
    def failure_rate(self) -> float:
        """Failures per second of uptime since the start."""
        return self._track.over(math.inf).failure_rate

    @property
    def mtbf(self) -> float:
        """Mean seconds of uptime between failures since the start; infinite without failures."""
        return self._track.over(math.inf).mtbf

    @property
    def mttr(self) -> float:
        """Mean length in seconds of the outages that have ended; NaN if none has."""
        return self._track.over(math.inf).mttr

    def reliability(self, period: Duration) -> float:
        """Return the probability that the component, being up, runs for *period* without a failure.

        The formula is exp(-failure_rate x period), which is exact if failures come at a constant
        rate and independently of each other.

        Args:
            period: Seconds or a `timedelta`, at least 0.

        Raises:
            TypeError: If *period* is neither a number nor a `timedelta`.
            ValueError: If *period* is negative, NaN or infinite.

        Example:
            >>> from mainstay import Availability
            >>> from mainstay.testing import FakeClock
            >>> with FakeClock() as clock:
            ...     database = Availability("database")
            ...     clock.advance(1000)
            ...     with database.outage():
            ...         clock.advance(10)
            ...     round(database.reliability(100), 3), database.reliability_linear(100)
            (0.905, 0.9)
        """
        return self._track.over(math.inf).reliability(period)

    def reliability_linear(self, period: Duration) -> float:
        """Return 1 - failure_rate x period, never below 0: an approximation of `reliability`.

        The result is close while failure_rate x period is far below 1, never above `reliability`,
        and useless from 1 on. Arguments and errors are those of `reliability`.
        """
        return self._track.over(math.inf).reliability_linear(period)

    def over(self, window: Duration) -> DependabilityFigures:
        """Return the figures of the last *window*.

        Args:
            window: Seconds or a `timedelta`, above 0. If the component has not existed for so long,
                the window begins at the start. The last 2,048 outages are remembered; a window that
                reaches further back begins with the oldest of them.

        Returns:
            A frozen object with the same figures and methods as this one, and with the numbers that
            they are computed from: `.uptime`, `.downtime`, `.failures`, `.repairs`, `.repaired`.

        Raises:
            TypeError: If *window* is neither a number nor a `timedelta`.
            ValueError: If *window* is 0, negative, NaN or infinite, or the clock went back since
                the last change.

        Example:
            >>> from mainstay import Availability
            >>> from mainstay.testing import FakeClock
            >>> with FakeClock() as clock:
            ...     database = Availability("database")
            ...     with database.outage():
            ...         clock.advance(10)
            ...     clock.advance(90)
            ...     database.availability, database.over(50).availability
            (0.9, 1.0)
        """
        return self._track.over(to_seconds(window, "window", zero=False))


def follow(availability: Availability, is_down: Callable[[], bool]) -> None:
    """Record that an outage begins or ends, if *is_down* says other than what was recorded.

    Unlike `fail` and `restore`, which are counted against each other, it may be interrupted at any
    place by a signal handler that does the same: the last word is that of the newest state.
    """
    track = availability._track  # noqa: SLF001 - of this module
    while (down := is_down()) == track.is_up():
        track.change(OutageLog.down if down else OutageLog.up)
        availability._series.count(track)  # noqa: SLF001 - of this module


class _Track:
    """The log of one `Availability`, and its clock: what the metrics watch."""

    __slots__ = ("__weakref__", "_clock", "_log", "_name")

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._log = OutageLog.opened(clock.now())

    def change(self, step: Callable[[OutageLog, float], OutageLog]) -> tuple[OutageLog, float]:
        """Replace the log by what *step* makes of it now; return it, and the time."""
        with _lock:
            while True:
                before, now = self._log, self._clock.now()
                try:
                    after = step(before, now)
                except ValueError as error:
                    raise ValueError(f"{self._name}: {error}") from None
                if self._log is before:
                    self._log = after
                    return after, now

    def over(self, seconds: float) -> DependabilityFigures:
        """Return the figures of the last *seconds*."""
        log, now = self.change(OutageLog.read)
        try:
            return log.figures(now, seconds)
        except ValueError as error:
            raise ValueError(f"{self._name}: {error}") from None

    def is_up(self) -> bool:
        """True if no outage is open."""
        return not self._log.depth

    def so_far(self) -> DependabilityFigures:
        """Return the figures since the start, also where the clock went back."""
        log, _ = self.change(OutageLog.read)
        return log.figures(log.read_until)


class _Outage(AbstractContextManager[None]):
    """The block form of `fail` and `restore`."""

    __slots__ = ("_availability",)

    def __init__(self, availability: Availability) -> None:
        self._availability = availability

    def __enter__(self) -> None:
        self._availability.fail()

    def __exit__(self, *exc_info: object) -> None:
        self._availability.restore()
