"""What is known of one endpoint: its last samples, and what happened between those before."""

from collections import deque
from collections.abc import Iterator

import attrs

from mainstay._metrics import schema
from mainstay._metrics.schema import Family
from mainstay._metrics.text_format import Samples, sample_names

WINDOW = 10.0
"""Seconds that figures are over."""

SHOWN = (
    schema.CALLS,
    schema.CALL_DURATION,
    schema.CALL_ATTEMPTS,
    schema.GIVE_UPS,
    schema.ERRORS,
    schema.MEMBER_ATTEMPTS,
    schema.MEMBER_STATE,
    schema.MEMBER_SINCE,
    schema.BREAKER_STATE,
    schema.BREAKER_SINCE,
    schema.COMPONENT_FAILURES,
    schema.HEDGES,
    schema.HEDGE_DELAY,
    schema.COPY_WINS,
    schema.DISSENTS,
    schema.VOTES,
    schema.CHECKPOINT_SAVES,
    schema.CHECKPOINT_ITEMS,
    schema.CHECKPOINT_EXPECTED,
    schema.CHECKPOINT_LAST_SAVE,
    schema.CHECKPOINT_INTERVAL,
    schema.CONCURRENCY_LIMIT,
    schema.IN_FLIGHT,
    schema.WAITING,
)
"""What is read of the answers."""

GAUGES: dict[str, Family] = {family.name: family for family in SHOWN if family.kind == "gauge"}
_GROWING = frozenset(
    name for family in SHOWN if family.kind != "gauge" for name in sample_names(family)
)


@attrs.frozen(kw_only=True)
class Interval:
    """What happened between two scrapes.

    Attributes:
        at: When the later one was.
        seconds: How long it was.
        grown: By how much counters grew, those that did.
    """

    at: float
    seconds: float
    grown: Samples


def growth(before: Samples, after: Samples) -> tuple[Samples, bool]:
    """Return by how much counters grew, and True if one of them fell.

    One that fell began again at 0, and so did all others of that process.
    """
    fell = any(
        value < before.get(name, {}).get(labels, 0.0)
        for name, values in after.items()
        if name in _GROWING
        for labels, value in values.items()
    )
    grown: Samples = {}
    for name, values in after.items():
        if name not in _GROWING:
            continue
        earlier = {} if fell else before.get(name, {})
        more = {
            labels: more
            for labels, value in values.items()
            if (more := value - earlier.get(labels, 0.0)) > 0
        }
        if more:
            grown[name] = more
    return grown, fell


class Target:
    """One endpoint, as far as it is known.

    Args:
        name: What it is called on the screen.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.samples: Samples = {}
        self.answered_at: float | None = None
        self.failure = ""
        self.failing_since: float | None = None
        self.restarted_at: float | None = None
        self.took = 0.0
        self.heard_at: float | None = None
        self._intervals: deque[Interval] = deque()

    @property
    def is_up(self) -> bool:
        """True if its last scrape was answered."""
        return self.answered_at is not None and self.failing_since is None

    def answered(self, samples: Samples, *, at: float, took: float) -> None:
        """Record what a scrape that began at *at* has brought, after *took* seconds."""
        if self.answered_at is not None and at > self.answered_at:
            grown, fell = growth(self.samples, samples)
            self._intervals.append(Interval(at=at, seconds=at - self.answered_at, grown=grown))
            if fell:
                self.restarted_at = at
        while len(self._intervals) > 1 and self._intervals[0].at <= at - WINDOW:
            self._intervals.popleft()
        self.samples, self.answered_at, self.took = samples, at, took
        self.heard_at = at + took
        self.failure, self.failing_since = "", None

    def failed(self, failure: str, *, at: float) -> None:
        """Record that the scrape that began at *at* has brought nothing; what was stays."""
        self.failure, self.heard_at = failure, at
        if self.failing_since is None:
            self.failing_since = at

    def last(self) -> Interval | None:
        """Return what happened last; None before the second scrape."""
        return self._intervals[-1] if self._intervals else None

    def window(self) -> Iterator[Interval]:
        """Yield what happened in the last seconds that there are figures of."""
        yield from self._intervals
