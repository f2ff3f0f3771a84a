"""What is counted together: the series that one place in the code writes at a time.

A `Layout` is at most one histogram and some counters whose last label comes from a closed set. The
recorders know the places of their series in it; `cells` and `multiprocess` make room for them.
"""

import attrs

from mainstay._metrics.schema import (
    BREAKER_TRANSITIONS,
    CALL_ATTEMPTS,
    CALL_DURATION,
    CALLS,
    CHECKPOINT_CORRUPT,
    CHECKPOINT_ITEMS,
    CHECKPOINT_LEASE_LOST,
    CHECKPOINT_REPLAYED_SECONDS,
    CHECKPOINT_RESUMES,
    CHECKPOINT_SAVE_DURATION,
    CHECKPOINT_SAVED_SECONDS,
    CHECKPOINT_SAVES,
    CHECKPOINT_SIZE,
    CHECKPOINT_STEPS,
    COMPONENT_DOWNTIME,
    COMPONENT_FAILURES,
    COMPONENT_UPTIME,
    COPY_WINS,
    DISSENTS,
    EJECTION_CAUSES,
    EJECTIONS,
    ERRORS,
    FAILOVERS,
    GIVE_UP_REASONS,
    GIVE_UPS,
    HEDGE_DENIALS,
    HEDGE_REASONS,
    HEDGES,
    HEDGES_DENIED,
    MEMBER_ATTEMPTS,
    MEMBER_OUTCOMES,
    OUTCOMES,
    SERIES_DROPPED,
    STANDBY_START,
    TIME_TO_DETECT,
    TIME_TO_RECOVER,
    VERDICTS,
    VOTES,
    WAIT_SECONDS,
    WASTED_SECONDS,
    Family,
)


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

    def slots(self, family: Family) -> dict[str, int]:
        """Find the places of a counter in the counter part, by its last label; by "" if one."""
        start = 0
        for each in self.counters:
            if each.family is family:
                return {value: start + i for i, value in enumerate(each.closed or ("",))}
            start += len(each)
        raise KeyError(family.name)

    def slot(self, family: Family, value: str = "") -> int:
        """Find the place of one series of a counter."""
        return self.slots(family)[value]

    def size(self) -> int:
        """Give the number of slots in the counter part."""
        return sum(map(len, self.counters))


CALL_LAYOUT = Layout(CALL_DURATION, (Counters(CALLS, OUTCOMES),))
"""What every call of every policy writes."""

TROUBLE_LAYOUTS = {
    policy: Layout(CALL_ATTEMPTS, (Counters(GIVE_UPS, reasons), Counters(WAIT_SECONDS)))
    for policy, reasons in GIVE_UP_REASONS.items()
}
"""What only calls with a failed attempt write."""
TROUBLE_LAYOUTS["breaker"] = Layout(None, (Counters(GIVE_UPS, GIVE_UP_REASONS["breaker"]),))

MEMBER_LAYOUT = Layout(
    None,
    (
        Counters(MEMBER_ATTEMPTS, MEMBER_OUTCOMES),
        Counters(EJECTIONS, EJECTION_CAUSES),
    ),
)
"""What the attempts at one member write."""

FAILOVER_LAYOUT = Layout(None, (Counters(FAILOVERS),))
TRANSITION_LAYOUT = Layout(None, (Counters(BREAKER_TRANSITIONS),))
OUTAGE_LAYOUTS = {
    family.name: Layout(family) for family in (TIME_TO_DETECT, TIME_TO_RECOVER, STANDBY_START)
}

AVAILABILITY_LAYOUT = Layout(
    None,
    (
        Counters(COMPONENT_UPTIME),
        Counters(COMPONENT_DOWNTIME),
        Counters(COMPONENT_FAILURES),
    ),
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
