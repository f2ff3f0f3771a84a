"""The tables of reference/metrics.md, from the schema of the metrics."""

from mainstay._metrics import layouts, schema
from mainstay._metrics.layouts import Layout
from mainstay._metrics.schema import Family

_UNITS = {
    "_timestamp_seconds": "Unix time",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_ratio": "0 to 1",
    "_per_second": "per second",
}
"""The unit of a metric whose name has the key; the first one counts."""

_EVERY = "every policy"
_OF = {
    "calls_total": _EVERY,
    "call_duration": _EVERY,
    "errors_total": _EVERY,
    "hook_errors": _EVERY,
    "member_": "`failover`",
    "failovers": "`failover`",
    "ejections": "`failover`",
    "time_to_": "`failover`",
    "standby_": "`failover`",
    "breaker_": "`breaker`",
    "component_": "`failover`, `breaker`, `Availability`",
    "availability_": "`failover`, `breaker`, `Availability`",
    "failure_rate": "`failover`, `breaker`, `Availability`",
    "mtbf": "`failover`, `breaker`, `Availability`",
    "mttr": "`failover`, `breaker`, `Availability`",
    "hedge": "`redundant`",
    "copy_": "`redundant`",
    "dissents": "`redundant`",
    "votes": "`redundant`",
    "wasted_": "`redundant`",
    "abandoned_": "`redundant`, `timeout`",
    "checkpoint_runs": "`StoreCollector`",
    "checkpoint_": "`checkpoint`",
    "concurrency_limit": "`bulkhead`",
    "in_flight": "`bulkhead`",
    "waiting": "`bulkhead`",
    "queue_wait": "`bulkhead`",
    "limit_changes": "`bulkhead`",
    "fallback": "`fallback`",
    "nested_retries": "`retry`",
    "rate_store": "`rate_limit`",
    "wire_errors": "deadlines and delays in headers",
    "build_info": "`Metrics`",
    "series_dropped": "`Metrics`",
    "host_": "`HostCollector`",
}
"""Which policy or collector has a metric whose name begins with the key; the first one counts."""


def metrics() -> str:
    """List every metric of the schema."""
    return _table(
        ("Metric", "Type, unit", "Labels", "Meaning", "Of"),
        [
            (
                f"`{full_name(family)}`",
                ", ".join(part for part in (family.kind, _unit(family)) if part),
                ", ".join(f"`{label}`" for label in family.labels) or "none",
                family.help,
                _policies(family),
            )
            for family in schema.EVERY
        ],
    )


def buckets() -> str:
    """List the buckets of every histogram."""
    return _table(
        ("Histogram", "Upper bounds"),
        [
            (f"`{full_name(family)}`", ", ".join(f"{bound:.10g}" for bound in family.buckets))
            for family in schema.EVERY
            if family.buckets
        ],
    )


def label_values() -> str:
    """List the labels whose values are known beforehand, by metric."""
    known = [value for value in vars(layouts).values() if isinstance(value, Layout)]
    closed = {
        (family, tuple(slots))
        for layout in known
        for family, slots in layout.slots.items()
        if "" not in slots
    } | {(family, family.states) for family in schema.EVERY if family.states}
    rows = [(f"`{full_name(family)}`", family, values) for family, values in sorted(closed)]
    rows += [
        (f"`{full_name(family)}` of `{policy}`", family, tuple(slots))
        for policy, layout in layouts.FAILURE_LAYOUTS.items()
        for family, slots in layout.slots.items()
        if "" not in slots
    ]
    return _table(
        ("Metric", "Label", "Values"),
        [
            (name, f"`{family.labels[-1]}`", ", ".join(f"`{value}`" for value in values))
            for name, family, values in sorted(rows)
        ],
    )


def full_name(family: Family) -> str:
    """Return the name of a metric in the default namespace."""
    return f"mainstay_{family.name}"


def _unit(family: Family) -> str:
    return next((unit for part, unit in _UNITS.items() if part in family.name), "")


def _policies(family: Family) -> str:
    """Name what has a metric, from what is written together where that says so."""
    every = layouts.FAILURE_LAYOUTS
    some = [
        policy
        for policy, layout in every.items()
        if family == layout.histogram or family in layout.slots
    ]
    if some:
        return _EVERY if len(some) == len(every) else ", ".join(f"`{each}`" for each in some)
    return next(policies for start, policies in _OF.items() if family.name.startswith(start))


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
