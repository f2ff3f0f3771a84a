"""Every metric of mainstay, once: names, types, labels, buckets, and what is counted together.

A `Family` is one metric. A `Layout` is a set of series that one place in the code writes together:
at most one histogram and some counters whose labels come from closed sets. Everything else, the
recorders, the collector, the files of multiprocess mode and the table in the docs, is derived
from here.
"""

from typing import Literal

import attrs


@attrs.frozen
class Family:
    """One metric.

    Attributes:
        name: The name without namespace, and with `_total` for a counter.
        kind: Its Prometheus type.
        help: What it counts, in one line.
        labels: The names of its labels, in order.
        buckets: The upper bounds of a histogram without +Inf, ascending.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


@attrs.frozen
class Counters:
    """The series of one counter: one for each value of its last label, or a single one.

    Attributes:
        family: The counter.
        closed: The values of the last label, where they are known beforehand.
    """

    family: Family
    closed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.closed) or 1


@attrs.frozen
class Layout:
    """Series that are written together: the slots of a cell.

    A cell's histogram part has one slot for each bucket, +Inf included, and the sum last. Its
    counter part has the slots of `counters` in order.
    """

    histogram: Family | None = None
    counters: tuple[Counters, ...] = ()

    def slot(self, family: Family, value: str = "") -> int:
        """Find the place of a counter in the counter part."""
        start = 0
        for each in self.counters:
            if each.family is family:
                return start + (each.closed.index(value) if each.closed else 0)
            start += len(each)
        raise KeyError(family.name)

    def size(self) -> int:
        """Give the number of slots in the counter part."""
        return sum(map(len, self.counters))


OUTCOMES = ("success", "recovered", "error", "timeout", "rejected", "cancelled")
"""How a call can end. "success" is first, which the recorder's shortest path relies on."""

GIVE_UP_REASONS = {
    "retry": ("attempts", "timeout", "not_retryable", "budget", "refused_result"),
    "redundant": ("attempts", "timeout", "not_retryable", "budget", "no_decision"),
}
"""Why a call of each policy can give up."""

HEDGE_REASONS = ("slow", "failed")
"""Why a redundant call starts a copy that it had not planned."""

HEDGE_DENIALS = ("budget", "threads", "deadline", "warmup")
"""Why a redundant call does not."""

VERDICTS = ("unanimous", "decided", "no_decision")

CALLS = Family(
    "calls_total",
    "counter",
    "Calls of the policy by how they ended; nested policies each count their own.",
    ("component", "policy", "outcome"),
)
CALL_DURATION = Family(
    "call_duration_seconds",
    "histogram",
    "Seconds from the start of a call to its end, waits included.",
    ("component", "policy"),
    (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
CALL_ATTEMPTS = Family(
    "call_attempts",
    "histogram",
    "Attempts of the calls that took more than one.",
    ("component", "policy"),
    (2.0, 3.0, 4.0, 5.0, 10.0, 20.0),
)
GIVE_UPS = Family(
    "give_ups_total",
    "counter",
    "Calls that gave up, by the reason.",
    ("component", "policy", "reason"),
)
ERRORS = Family(
    "errors_total",
    "counter",
    "Failed attempts by the class of the exception.",
    ("component", "policy", "error_type"),
)
WAIT_SECONDS = Family(
    "wait_seconds_total",
    "counter",
    "Seconds waited between attempts.",
    ("component",),
)
HEDGES = Family(
    "hedges_total",
    "counter",
    "Copies started because the primary was slow, or because a copy failed.",
    ("component", "reason"),
)
HEDGES_DENIED = Family(
    "hedges_denied_total",
    "counter",
    "Times that no such copy was started, by what forbade it.",
    ("component", "reason"),
)
HEDGE_DELAY = Family(
    "hedge_delay_seconds",
    "gauge",
    "Seconds without an answer after which the next copy starts; the longest of this process.",
    ("component",),
)
COPY_WINS = Family(
    "copy_wins_total",
    "counter",
    "Answers that were returned, by the copy that gave them.",
    ("component", "copy"),
)
DISSENTS = Family(
    "dissents_total",
    "counter",
    "Answers that were outvoted, by the copy that gave them.",
    ("component", "copy"),
)
VOTES = Family(
    "votes_total",
    "counter",
    "Votes by how they ended.",
    ("component", "verdict"),
)
WASTED_SECONDS = Family(
    "wasted_seconds_total",
    "counter",
    "Seconds that copies ran whose results nobody waited for any more.",
    ("component",),
)
ABANDONED_THREADS = Family(
    "abandoned_threads",
    "gauge",
    "Threads that still run a copy whose call has ended.",
    ("component",),
)
BUILD_INFO = Family("build_info", "gauge", "1, with the version of mainstay.", ("version",))
SERIES_DROPPED = Family(
    "series_dropped_total",
    "counter",
    "Times that a label value was replaced by _other because there were too many of them.",
    ("metric",),
)

FAMILIES = (
    CALLS,
    CALL_DURATION,
    CALL_ATTEMPTS,
    GIVE_UPS,
    ERRORS,
    WAIT_SECONDS,
    HEDGES,
    HEDGES_DENIED,
    HEDGE_DELAY,
    COPY_WINS,
    DISSENTS,
    VOTES,
    WASTED_SECONDS,
    ABANDONED_THREADS,
    BUILD_INFO,
    SERIES_DROPPED,
)

CALL_LAYOUT = Layout(CALL_DURATION, (Counters(CALLS, OUTCOMES),))
"""What every call of every policy writes."""

TROUBLE_LAYOUTS = {
    policy: Layout(CALL_ATTEMPTS, (Counters(GIVE_UPS, reasons), Counters(WAIT_SECONDS)))
    for policy, reasons in GIVE_UP_REASONS.items()
}
"""What only calls with a failed attempt write."""

HEDGE_LAYOUT = Layout(
    None,
    (
        Counters(HEDGES, HEDGE_REASONS),
        Counters(HEDGES_DENIED, HEDGE_DENIALS),
        Counters(VOTES, VERDICTS),
        Counters(WASTED_SECONDS),
    ),
)
"""What a redundant call writes besides."""

COPY_LAYOUT = Layout(None, (Counters(COPY_WINS), Counters(DISSENTS)))
"""What one copy of it writes."""

ERROR_LAYOUT = Layout(None, (Counters(ERRORS),))
DROPPED_LAYOUT = Layout(None, (Counters(SERIES_DROPPED),))

MOST_COMPONENTS = 1_000
MOST_ERROR_TYPES = 20
MOST_COPIES = 10
OTHER = "_other"
"""What label values beyond those limits are replaced by."""
