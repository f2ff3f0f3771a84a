"""What is counted together: the series that one place in the code writes at a time.

The recorders know the places of their series in a layout; `cells` and `multiprocess` make room for
them.
"""

import functools
import itertools
from collections.abc import Mapping

from mainstay._metrics import schema
from mainstay._metrics.schema import Family


class Layout:
    """Series that are written together: at most one histogram, and some counters.

    A cell of it has two rows of numbers. That of the histogram has one for each bucket, +Inf
    included, and the sum last. That of the counters has one for each of their series.

    Args:
        histogram: The histogram, or None.
        counters: The values of each counter's last label where they are known beforehand; () for a
            single series.
        late: True if the series appear when something is first counted in them, and not at 0.

    Attributes:
        slots: Where each series is in the row of the counters: by counter, then by its last label,
            which is "" for a single series.
        size: The length of that row.
    """

    def __init__(
        self,
        histogram: Family | None,
        counters: Mapping[Family, tuple[str, ...]],
        *,
        late: bool = False,
    ) -> None:
        self.histogram = histogram
        self.late = late
        places = itertools.count()
        self.slots: dict[Family, dict[str, int]] = {
            family: {value: next(places) for value in closed or ("",)}
            for family, closed in counters.items()
        }
        self.size: int = next(places)


CALL_LAYOUT = Layout(schema.CALL_DURATION, {schema.CALLS: schema.OUTCOMES})
"""What every call of every policy writes."""

SHARED_CALL_LAYOUT = Layout(schema.CALL_DURATION, {schema.CALLS: schema.OUTCOMES}, late=True)
"""The same of a shared object, which may be used in pipelines only, where durations are theirs."""

OUTCOME_LAYOUT = Layout(None, {schema.CALLS: schema.OUTCOMES})
"""What a shared object has from the start, and all that its calls in pipelines write."""

SHARED = ("breaker", "failover", "bulkhead", "rate_limit")
"""The policies with shared objects."""

_ONE_ATTEMPT = ("breaker", "timeout", "bulkhead", "rate_limit", "fallback")


def _failures(policy: str, reasons: tuple[str, ...]) -> Layout:
    late = policy in SHARED
    if policy in _ONE_ATTEMPT:
        return Layout(None, {schema.GIVE_UPS: reasons}, late=late)
    counters = {schema.WAIT_SECONDS: (), schema.GIVE_UPS: reasons}
    return Layout(schema.CALL_ATTEMPTS, counters, late=late)


FAILURE_LAYOUTS = {
    policy: _failures(policy, reasons) for policy, reasons in schema.GIVE_UP_REASONS.items()
}
"""What only calls with a failed attempt write, by policy."""


@functools.cache
def pipeline_failures(reasons: tuple[str, ...]) -> Layout:
    """Return what only calls of a pipeline with a failed attempt write.

    Args:
        reasons: Why its layers can give up, of those of every policy.
    """
    return Layout(schema.CALL_ATTEMPTS, {schema.GIVE_UPS: reasons})


WAIT_LAYOUT = Layout(None, {schema.WAIT_SECONDS: ()})
"""What a retry in a pipeline writes besides."""

MEMBER_LAYOUT = Layout(
    None,
    {schema.MEMBER_ATTEMPTS: schema.MEMBER_OUTCOMES, schema.EJECTIONS: schema.EJECTION_CAUSES},
)
"""What the attempts at one member write."""

FAILOVER_LAYOUT = Layout(None, {schema.FAILOVERS: ()})
TRANSITION_LAYOUT = Layout(None, {schema.BREAKER_TRANSITIONS: ()})
DETECT_LAYOUT = Layout(schema.TIME_TO_DETECT, {})
RECOVER_LAYOUT = Layout(schema.TIME_TO_RECOVER, {})
START_LAYOUT = Layout(schema.STANDBY_START, {})
OUTAGE_LAYOUTS = (DETECT_LAYOUT, RECOVER_LAYOUT, START_LAYOUT)

AVAILABILITY_LAYOUT = Layout(
    None,
    {
        schema.COMPONENT_UPTIME: (),
        schema.COMPONENT_DOWNTIME: (),
        schema.COMPONENT_FAILURES: (),
    },
)
"""What is known of each component's dependability."""

HEDGE_LAYOUT = Layout(
    None,
    {
        schema.HEDGES: schema.HEDGE_REASONS,
        schema.HEDGES_DENIED: schema.HEDGE_DENIALS,
        schema.VOTES: schema.VERDICTS,
        schema.WASTED_SECONDS: (),
    },
)
"""What a redundant call writes besides."""

COPY_LAYOUT = Layout(None, {schema.COPY_WINS: (), schema.DISSENTS: ()})
"""What one copy of it writes."""

SAVE_LAYOUT = Layout(
    schema.CHECKPOINT_SAVE_DURATION,
    {
        schema.CHECKPOINT_SAVES: ("ok", "error", "fenced"),
        schema.CHECKPOINT_ITEMS: ("done", "skipped", "failed"),
        schema.CHECKPOINT_STEPS: ("executed", "replayed"),
        schema.CHECKPOINT_RESUMES: ("crash", "sigterm", "takeover", "error"),
        schema.CHECKPOINT_SAVED_SECONDS: (),
        schema.CHECKPOINT_REPLAYED_SECONDS: (),
        schema.CHECKPOINT_LEASE_LOST: (),
        schema.CHECKPOINT_CORRUPT: (),
        schema.CHECKPOINT_STORE_RETRIES: (),
    },
)
"""What the runs of a checkpointed function write."""

BULKHEAD_LAYOUT = Layout(None, {schema.IN_FLIGHT_SECONDS: (), schema.LIMIT_CHANGES: ("up", "down")})
"""What a bulkhead writes besides."""

QUEUE_WAIT_LAYOUT = Layout(schema.QUEUE_WAIT, {})
FALLBACK_LAYOUT = Layout(None, {schema.FALLBACKS: schema.FALLBACK_SOURCES})
FALLBACK_AGE_LAYOUT = Layout(schema.FALLBACK_AGE, {})
NESTED_LAYOUT = Layout(None, {schema.NESTED_RETRIES: ()})
RATE_STORE_LAYOUT = Layout(None, {schema.RATE_STORE_ERRORS: schema.STORE_ERROR_ACTIONS})

SIZE_LAYOUT = Layout(schema.CHECKPOINT_SIZE, {})
ERROR_LAYOUT = Layout(None, {schema.ERRORS: ()})
WIRE_LAYOUT = Layout(None, {schema.WIRE_ERRORS: schema.WIRE_HEADERS})
HOOK_LAYOUT = Layout(None, {schema.HOOK_ERRORS: schema.HOOKS})
DROPPED_LAYOUT = Layout(None, {schema.SERIES_DROPPED: ()})
