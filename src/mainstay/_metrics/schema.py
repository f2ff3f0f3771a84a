"""Every metric of mainstay, once: names, types, labels, label values, buckets.

It is one table, a row for each metric. What is written together is in `layouts`; the collector,
the files of multiprocess mode and the tables in the docs are derived from here.
"""

import re
from typing import Literal, NamedTuple, TypeAlias

Mode: TypeAlias = Literal["livesum", "livemax", "max", "mostrecent"]


class Family(NamedTuple):
    """One metric.

    Attributes:
        name: The name without namespace, and with `_total` for a counter.
        kind: Its Prometheus type.
        help: What it counts, in one line.
        labels: The names of its labels, in order.
        buckets: The upper bounds of a histogram without +Inf, ascending.
        states: The values of a gauge's last label, where exactly one of them is 1 at a time.
        mode: How the values of a gauge in several worker processes become one, in the words of
            prometheus_client. None for what workers do not export.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()
    states: tuple[str, ...] = ()
    mode: Mode | None = None


OUTCOMES = ("success", "recovered", "error", "timeout", "rejected", "cancelled")
"""How a call can end."""

_ASKED = ("not_retryable", "predicate_error")
"""Reasons of the policies that have `on`: it did not match, or it could not say."""

GIVE_UP_REASONS = {
    "retry": (*_ASKED, "attempts", "timeout", "budget", "refused_result"),
    "failover": (*_ASKED, "attempts", "timeout", "budget", "no_member"),
    "breaker": (*_ASKED, "timeout", "open"),
    "redundant": (*_ASKED, "attempts", "timeout", "budget", "no_member", "no_decision"),
    "checkpoint": ("timeout",),
    "timeout": ("timeout", "full"),
    "bulkhead": ("full", "wait", "shed", "timeout"),
    "rate_limit": ("rate", "timeout"),
    "fallback": (*_ASKED, "timeout"),
}
"""Why a call of each policy can give up."""

GIVE_UP_REASONS["pipeline"] = tuple(
    dict.fromkeys(reason for reasons in GIVE_UP_REASONS.values() for reason in reasons)
)

MEMBER_OUTCOMES = ("success", "error", "rejected", "cancelled", "timeout")
"""How an attempt at a member can end, in the words of `OUTCOMES`: "rejected" is TRY_ANOTHER,
"timeout" a member that took too long, and "error" any exception, also one outside `on`, which is
the caller's and says nothing of health."""

MEMBER_STATES = ("active", "standby_hot", "standby_cold", "failing", "ejected", "trial", "draining")
BREAKER_STATES = ("closed", "open", "half_open")
EJECTION_CAUSES = ("consecutive", "rate", "slow", "probe", "dissent")

_OUTAGES = (0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 3600.0)

HEDGE_REASONS = ("slow", "failed")
"""Why a redundant call starts a copy that it had not planned."""

HEDGE_DENIALS = ("budget", "threads", "deadline", "warmup")
"""Why a redundant call does not."""

HOOKS = ("listener", "predicate", "dispose", "reentry")
"""Code of the program's own that mainstay calls, and that may raise. "reentry" is an event that was
not handed to a listener since that caused it, "predicate" whatever judges or decides: `on`,
`on_result`, `wait` and `stop`."""

PRIORITIES = ("high", "normal", "low")
FALLBACK_SOURCES = ("value", "call", "last_good")
STORE_ERROR_ACTIONS = ("allow", "deny", "local")
WIRE_HEADERS = ("timeout_ms", "grpc_timeout", "retry_after")

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
    "Seconds from the start of a call to its end, waits included, but for rejected calls.",
    ("component", "policy"),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
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
    states=MEMBER_STATES,
    mode="livesum",
)
MEMBER_SINCE = Family(
    "member_since_timestamp_seconds",
    "gauge",
    "When the present state of a member of a pool began, in seconds since 1970.",
    ("component", "member"),
    mode="livemax",
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
    states=BREAKER_STATES,
    mode="livesum",
)
BREAKER_SINCE = Family(
    "breaker_since_timestamp_seconds",
    "gauge",
    "When the present state of a circuit breaker began, in seconds since 1970.",
    ("component",),
    mode="livemax",
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
    mode="livesum",
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
    mode="livemax",
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
    "Threads that still run a call, or a copy of one, whose caller has left.",
    ("component",),
    mode="livesum",
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
CHECKPOINT_EXPECTED = Family(
    "checkpoint_items_expected",
    "gauge",
    "Items done and skipped when the iterations that go on are through, if all have a length.",
    ("component",),
    mode="livesum",
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
    "When the last save was made, or an attempt began since, in seconds since 1970.",
    ("component",),
    mode="max",
)
CHECKPOINT_INTERVAL = Family(
    "checkpoint_interval_seconds",
    "gauge",
    "Seconds between saves that are in force.",
    ("component",),
    mode="mostrecent",
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
CHECKPOINT_STORE_RETRIES = Family(
    "checkpoint_store_retries_total",
    "counter",
    "Requests to a store that were sent again after a failure that may pass.",
    ("component",),
)
CONCURRENCY_LIMIT = Family(
    "concurrency_limit",
    "gauge",
    "Calls that a bulkhead lets run at once.",
    ("component",),
    mode="livesum",
)
IN_FLIGHT = Family(
    "in_flight",
    "gauge",
    "Calls that run in a bulkhead.",
    ("component",),
    mode="livesum",
)
WAITING = Family(
    "waiting",
    "gauge",
    "Calls that wait for a place in a bulkhead.",
    ("component",),
    mode="livesum",
)
IN_FLIGHT_SECONDS = Family(
    "in_flight_seconds_total",
    "counter",
    "Seconds that calls spent in a bulkhead; its rate is the mean number of them.",
    ("component",),
)
QUEUE_WAIT = Family(
    "queue_wait_seconds",
    "histogram",
    "Seconds that calls waited for a place in a bulkhead, of those that waited.",
    ("component", "priority"),
    (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0),
)
LIMIT_CHANGES = Family(
    "limit_changes_total",
    "counter",
    "Changes of a bulkhead's limit.",
    ("component", "direction"),
)
FALLBACKS = Family(
    "fallbacks_total",
    "counter",
    "Calls that a fallback answered, by what it gave.",
    ("component", "source"),
)
FALLBACK_AGE = Family(
    "fallback_age_seconds",
    "histogram",
    "Age of the last good answers that a fallback gave.",
    ("component",),
    (1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0),
)
NESTED_RETRIES = Family(
    "nested_retries_total",
    "counter",
    "Failed attempts of a retry in which another retry had given up.",
    ("component",),
)
RATE_STORE_ERRORS = Family(
    "rate_store_errors_total",
    "counter",
    "Errors of a shared rate limit's store, by what was done instead.",
    ("component", "action"),
)
WIRE_ERRORS = Family(
    "wire_errors_total",
    "counter",
    "Headers with a deadline or a delay that could not be read, and were passed over.",
    ("header",),
)
HOOK_ERRORS = Family(
    "hook_errors_total",
    "counter",
    "Times that a listener, a predicate or `dispose` raised, or a listener caused its own event.",
    ("hook",),
)
BUILD_INFO = Family(
    "build_info", "gauge", "1, with the version of mainstay.", ("version",), mode="max"
)
SERIES_DROPPED = Family(
    "series_dropped_total",
    "counter",
    "Times that a label value was replaced by _other because there were too many of them.",
    ("metric",),
)

FAMILIES = tuple(each for each in tuple(globals().values()) if isinstance(each, Family))
"""What `Metrics` exports: all of the above, in that order."""

SINCE = {MEMBER_STATE: MEMBER_SINCE, BREAKER_STATE: BREAKER_SINCE}
"""By the gauge of a state, the one that tells since when it has been so."""

CHECKPOINT_RUNS = Family(
    "checkpoint_runs",
    "gauge",
    "Runs in a store by their state.",
    ("component", "state"),
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

MOST_COMPONENTS = 1_000
MOST_ERROR_TYPES = 20
MOST_MEMBERS = 100
MOST_COPIES = 10
OTHER = "_other"
"""What label values beyond those limits are replaced by."""


def check_namespace(namespace: object) -> None:
    """Raise unless *namespace* can be the prefix of names.

    Raises:
        TypeError: If it is not a str.
        ValueError: If Prometheus does not take it.
    """
    if not isinstance(namespace, str):
        raise TypeError(f"`namespace` must be a str, not {namespace!r}")
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", namespace):
        raise ValueError(
            f"`namespace` must consist of ASCII letters, digits and underscores, and not "
            f"start with a digit, not {namespace!r}"
        )
