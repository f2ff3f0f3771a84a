"""`BulkheadEngine`: what the calls of a bulkhead share: its places, its limit and its recorder."""

import statistics
from collections import deque
from typing import TYPE_CHECKING

from mainstay._core.context import current_context
from mainstay._core.forks import reset_after_fork
from mainstay._core.health import HealthReport, report_health
from mainstay._core.silence import ANSWERS
from mainstay._limits.adaptive import Adaptive, overload_judge_of
from mainstay._limits.following import Follower
from mainstay._limits.fullness import Fullness
from mainstay._limits.places import Places
from mainstay._metrics.collector import Metrics, recorders_of
from mainstay._metrics.schema import CONCURRENCY_LIMIT, IN_FLIGHT, WAITING
from mainstay.errors import BulkheadFullError

if TYPE_CHECKING:
    from mainstay._core.failures import Judge
    from mainstay._metrics.bulkhead import BulkheadRecorder
    from mainstay._metrics.recorder import Recorder

POLICY = "bulkhead"


class BulkheadEngine:
    """The state of a bulkhead.

    Args:
        name: The name of the bulkhead.
        limit: The number of its places, or what follows the load.
        max_wait: Seconds that a call waits for a place at most.
        metrics: Where it records.

    Attributes:
        recorder: Records its calls.
        own: Records what only bulkheads have.
        places: The places and who waits for them.
        answers: How many seconds the last calls took that succeeded, without their wait.
        follower: Reports calls to an adaptive limit; None for a fixed one.
        overload: Which exceptions say that there were too many calls, or None.
        fullness: For how long it has been full.
    """

    def __init__(self, name: str, limit: int | Adaptive, max_wait: float, metrics: Metrics) -> None:
        self.name = name
        self.max_wait = max_wait
        self.metrics = metrics
        recorders = recorders_of(metrics)
        self.recorder: Recorder = recorders.calls(name, POLICY)
        self.own: BulkheadRecorder = recorders.bulkhead(name)
        self.answers: deque[float] = deque(maxlen=ANSWERS)
        self.follower: Follower | None = None
        self.overload: Judge | None = None
        self.places: Places
        if isinstance(limit, Adaptive):
            self.places = Places(limit.initial, self.usual)
            self.follower = Follower(limit, self.answers, self.resize)
            self.overload = overload_judge_of(limit.overload)
        else:
            self.places = Places(limit, self.usual)
        self._initial: int = self.places.limit
        self.fullness: Fullness = Fullness(current_context().clock.now())
        self.own.follow(
            self,
            {
                CONCURRENCY_LIMIT: lambda engine: float(engine.places.limit),
                IN_FLIGHT: lambda engine: float(engine.places.in_flight),
                WAITING: lambda engine: float(engine.places.waiting),
            },
        )
        reset_after_fork(self, BulkheadEngine._show)
        report_health(self, BulkheadEngine.health)

    def _show(self) -> None:
        """Have a forked child show what it begins with, which no change will report."""
        self.own.refresh()

    def usual(self) -> float:
        """Return the seconds that a call usually takes; 0.0 before the first has ended."""
        answers = self.answers.copy()  # another thread may append to it
        return statistics.median(answers) if answers else 0.0

    def full(self, reason: str, why: str = "") -> BulkheadFullError:
        """Return what a call raises for which there is no place."""
        places = self.places
        retry_after = (places.waiting + 1) * self.usual() / places.limit
        return BulkheadFullError(self.name, reason, retry_after, why)

    def health(self) -> HealthReport:
        """Return the health: full if calls have been turned away for a while and would be now."""
        now = current_context().clock.now()
        if self.places.in_flight >= self.places.limit:
            self.fullness.found(now)
            since = self.fullness.full_since(now)
            if since is not None:
                return HealthReport(self.name, POLICY, "full", now - since, is_ready=False)
        return HealthReport(
            self.name, POLICY, "ok", now - self.fullness.well_since(), is_ready=True
        )

    def resize(self, limit: int) -> None:
        """Have another number of places."""
        before = self.places.limit
        if limit != before:
            self.places.resize(limit)
            self.own.limit_changed(up=limit > before)

    def reset(self) -> None:
        """Reset to the initial state; calls that have a place go on, and no longer count."""
        self.answers.clear()
        if self.follower is not None:
            self.follower.reset()
        else:
            self.resize(self._initial)
        self.places.reset()
        self.fullness = Fullness(current_context().clock.now())
