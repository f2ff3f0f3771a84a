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
    "failover": ("attempts", "timeout", "not_retryable", "budget", "no_member"),
    "breaker": ("timeout", "not_retryable", "open"),
    "redundant": ("attempts", "timeout", "not_retryable", "budget", "no_member", "no_decision"),
    "checkpoint": ("timeout",),
}
"""Why a call of each policy can give up."""

MEMBER_OUTCOMES = ("success", "error", "rejected", "cancelled")
"""How an attempt at a member can end, in the words of `OUTCOMES`: "rejected" is TRY_ANOTHER, and
"error" any exception, also one outside `on`, which is the caller's and says nothing of health."""

MEMBER_STATES = ("active", "standby_hot", "standby_cold", "failing", "ejected", "trial", "draining")
BREAKER_STATES = ("closed", "open", "half_open")
EJECTION_CAUSES = ("consecutive", "rate", "slow", "probe", "dissent")

_OUTAGES = (0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 3600.0)

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
MEMBER_ATTEMPTS = Family(
    "member_attempts_total",
    "counter",
    "Attempts at a member of a pool by how they ended.",
    ("component", "member", "outcome"),
)
MEMBER_STATE = Family(
    "member_state",
    "gauge",
    "1 for the state that a member of a pool is in, 0 for the others.",
    ("component", "member", "state"),
)
FAILOVERS = Family(
    "failovers_total",
    "counter",
    "Changes of the member that new calls of a pool go to.",
    ("component", "from_member", "to_member", "reason"),
)
EJECTIONS = Family(
    "ejections_total",
    "counter",
    "Ejections of a member of a pool by their cause; failed trials are no ejections.",
    ("component", "member", "cause"),
)
TIME_TO_DETECT = Family(
    "time_to_detect_seconds",
    "histogram",
    "Seconds from the first failure of a member to its ejection.",
    ("component",),
    _OUTAGES,
)
TIME_TO_RECOVER = Family(
    "time_to_recover_seconds",
    "histogram",
    "Seconds from the ejection of a member to its readmission.",
    ("component",),
    _OUTAGES,
)
STANDBY_START = Family(
    "standby_start_seconds",
    "histogram",
    "Seconds that it took until a standby was ready to take over.",
    ("component",),
    _OUTAGES,
)
BREAKER_STATE = Family(
    "breaker_state",
    "gauge",
    "1 for the state that a circuit breaker is in, 0 for the others.",
    ("component", "state"),
)
BREAKER_TRANSITIONS = Family(
    "breaker_transitions_total",
    "counter",
    "Changes of a circuit breaker's state.",
    ("component", "from_state", "to_state"),
)
COMPONENT_UP = Family(
    "component_up",
    "gauge",
    "1 while the component is up, 0 while it is down; over worker processes, how many see it up.",
    ("component",),
)
COMPONENT_UPTIME = Family(
    "component_uptime_seconds_total",
    "counter",
    "Seconds that the component was up.",
    ("component",),
)
COMPONENT_DOWNTIME = Family(
    "component_downtime_seconds_total",
    "counter",
    "Seconds that the component was down.",
    ("component",),
)
COMPONENT_FAILURES = Family(
    "component_failures_total",
    "counter",
    "Outages of the component that began.",
    ("component",),
)
AVAILABILITY = Family(
    "availability_ratio",
    "gauge",
    "Uptime / total time since the start of the process.",
    ("component",),
)
FAILURE_RATE = Family(
    "failure_rate_per_second",
    "gauge",
    "Failures per second of uptime since the start of the process.",
    ("component",),
)
MTBF = Family(
    "mtbf_seconds",
    "gauge",
    "Mean seconds of uptime between failures since the start of the process.",
    ("component",),
)
MTTR = Family(
    "mttr_seconds",
    "gauge",
    "Mean seconds of the outages that ended since the start of the process.",
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
CHECKPOINT_SAVES = Family(
    "checkpoint_saves_total",
    "counter",
    "Saves of checkpointed runs by how they ended.",
    ("component", "outcome"),
)
CHECKPOINT_SAVE_DURATION = Family(
    "checkpoint_save_duration_seconds",
    "histogram",
    "Seconds that a save took, until it was durable.",
    ("component",),
    (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0),
)
CHECKPOINT_SIZE = Family(
    "checkpoint_size_bytes",
    "histogram",
    "Bytes of the cursor and state that a save wrote.",
    ("component",),
    tuple(4.0**power for power in range(5, 14)),
)
CHECKPOINT_ITEMS = Family(
    "checkpoint_items_total",
    "counter",
    "Items of iterations: done and saved, skipped because they had been, or failed.",
    ("component", "outcome"),
)
CHECKPOINT_STEPS = Family(
    "checkpoint_steps_total",
    "counter",
    "Steps by where their result came from.",
    ("component", "source"),
)
CHECKPOINT_RESUMES = Family(
    "checkpoint_resumes_total",
    "counter",
    "Runs that went on, by how the attempt before had ended.",
    ("component", "reason"),
)
CHECKPOINT_SAVED_SECONDS = Family(
    "checkpoint_saved_seconds_total",
    "counter",
    "Seconds of work that resumed runs did not repeat.",
    ("component",),
)
CHECKPOINT_REPLAYED_SECONDS = Family(
    "checkpoint_replayed_seconds_total",
    "counter",
    "Seconds of work after the last save that resumed runs repeat, as far as is known.",
    ("component",),
)
CHECKPOINT_LAST_SAVE = Family(
    "checkpoint_last_save_timestamp_seconds",
    "gauge",
    "When the last save was made, in seconds since 1970.",
    ("component",),
)
CHECKPOINT_INTERVAL = Family(
    "checkpoint_interval_seconds",
    "gauge",
    "Seconds between saves that are in force.",
    ("component",),
)
CHECKPOINT_LEASE_LOST = Family(
    "checkpoint_lease_lost_total",
    "counter",
    "Runs that were taken over while this process was silent.",
    ("component",),
)
CHECKPOINT_CORRUPT = Family(
    "checkpoint_corrupt_total",
    "counter",
    "Saves that could not be read.",
    ("component",),
)
CHECKPOINT_RUNS = Family(
    "checkpoint_runs",
    "gauge",
    "Runs in a store by their state.",
    ("component", "state"),
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
    MEMBER_ATTEMPTS,
    MEMBER_STATE,
    FAILOVERS,
    EJECTIONS,
    TIME_TO_DETECT,
    TIME_TO_RECOVER,
    STANDBY_START,
    BREAKER_STATE,
    BREAKER_TRANSITIONS,
    COMPONENT_UP,
    COMPONENT_UPTIME,
    COMPONENT_DOWNTIME,
    COMPONENT_FAILURES,
    AVAILABILITY,
    FAILURE_RATE,
    MTBF,
    MTTR,
    HEDGES,
    HEDGES_DENIED,
    HEDGE_DELAY,
    COPY_WINS,
    DISSENTS,
    VOTES,
    WASTED_SECONDS,
    ABANDONED_THREADS,
    CHECKPOINT_SAVES,
    CHECKPOINT_SAVE_DURATION,
    CHECKPOINT_SIZE,
    CHECKPOINT_ITEMS,
    CHECKPOINT_STEPS,
    CHECKPOINT_RESUMES,
    CHECKPOINT_SAVED_SECONDS,
    CHECKPOINT_REPLAYED_SECONDS,
    CHECKPOINT_LAST_SAVE,
    CHECKPOINT_INTERVAL,
    CHECKPOINT_LEASE_LOST,
    CHECKPOINT_CORRUPT,
    BUILD_INFO,
    SERIES_DROPPED,
)

HOST_CPU = Family(
    "host_cpu_usage_ratio",
    "gauge",
    "Share of processor time in use since the scrape before.",
    (),
)
HOST_MEMORY = Family("host_memory_usage_ratio", "gauge", "Share of memory in use.", ())
HOST_DISK = Family(
    "host_disk_usage_ratio", "gauge", "Share of a file system in use.", ("mountpoint",)
)

HOST_FAMILIES = (HOST_CPU, HOST_MEMORY, HOST_DISK)
"""What `HostCollector` exports."""

EVERY = (*FAMILIES, CHECKPOINT_RUNS, *HOST_FAMILIES)
"""All there is, also what other collectors than `Metrics` export."""

CALL_LAYOUT = Layout(CALL_DURATION, (Counters(CALLS, OUTCOMES),))
"""What every call of every policy writes."""

TROUBLE_LAYOUTS = {
    policy: Layout(CALL_ATTEMPTS, (Counters(GIVE_UPS, reasons), Counters(WAIT_SECONDS)))
    for policy, reasons in GIVE_UP_REASONS.items()
}
"""What only calls with a failed attempt write."""
TROUBLE_LAYOUTS["breaker"] = Layout(None, (Counters(GIVE_UPS, GIVE_UP_REASONS["breaker"]),))

MEMBER_LAYOUT = Layout(
    None, (Counters(MEMBER_ATTEMPTS, MEMBER_OUTCOMES), Counters(EJECTIONS, EJECTION_CAUSES))
)
"""What the attempts at one member write."""

FAILOVER_LAYOUT = Layout(None, (Counters(FAILOVERS),))
TRANSITION_LAYOUT = Layout(None, (Counters(BREAKER_TRANSITIONS),))
OUTAGE_LAYOUTS = {
    family.name: Layout(family) for family in (TIME_TO_DETECT, TIME_TO_RECOVER, STANDBY_START)
}

AVAILABILITY_LAYOUT = Layout(
    None,
    (Counters(COMPONENT_UPTIME), Counters(COMPONENT_DOWNTIME), Counters(COMPONENT_FAILURES)),
)
"""What is known of each component's dependability."""

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

SAVE_LAYOUT = Layout(
    CHECKPOINT_SAVE_DURATION,
    (
        Counters(CHECKPOINT_SAVES, ("ok", "error", "fenced")),
        Counters(CHECKPOINT_ITEMS, ("done", "skipped", "failed")),
        Counters(CHECKPOINT_STEPS, ("executed", "replayed")),
        Counters(CHECKPOINT_RESUMES, ("crash", "sigterm", "takeover", "error")),
        Counters(CHECKPOINT_SAVED_SECONDS),
        Counters(CHECKPOINT_REPLAYED_SECONDS),
        Counters(CHECKPOINT_LEASE_LOST),
        Counters(CHECKPOINT_CORRUPT),
    ),
)
"""What the runs of a checkpointed function write."""

SIZE_LAYOUT = Layout(CHECKPOINT_SIZE)
ERROR_LAYOUT = Layout(None, (Counters(ERRORS),))
DROPPED_LAYOUT = Layout(None, (Counters(SERIES_DROPPED),))

MOST_COMPONENTS = 1_000
MOST_ERROR_TYPES = 20
MOST_MEMBERS = 100
MOST_COPIES = 10
OTHER = "_other"
"""What label values beyond those limits are replaced by."""
