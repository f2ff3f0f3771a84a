"""The questions that many panels ask, with the names of their answers."""

from collections.abc import Sequence

from mainstay.ops import _queries as ask
from mainstay.ops._grafana.query import Query
from mainstay.ops._promql import Series

NOW = "$__rate_interval"
"""The shortest time over which a rate can be told."""

ALL = "$__range"
"""The time that is shown."""

CALL = "{{component}} ({{policy}})"

_PARTS = frozenset({"member", "copy"})
"""Labels whose values are parts of a component; those of the others say how something was."""


def legend(*labels: str) -> str:
    """Return a name such as "orders / primary: error" for the values of labels."""
    parts = "".join(f" / {{{{{label}}}}}" for label in labels if label in _PARTS)
    others = ", ".join(f"{{{{{label}}}}}" for label in labels if label not in _PARTS)
    return f"{{{{component}}}}{parts}" + (f": {others}" if others else "")


def worst_first(query: str, by: str, worst: Sequence[str], others: str) -> str:
    """Return a query whose answers are in the order of how bad they are when the time shown ends.

    Prometheus sorts the answers by their labels, and labels by their names: the label "bad" comes
    before those that there are. What is so at the end is asked once, whatever number of points.

    Args:
        query: What is to be sorted.
        by: The labels of its answers.
        worst: Queries for what comes first, the worst first.
        others: A query for all, whatever its values.
    """
    ranks = [f"max_over_time((\n{each}\n)[15s:15s] @ end())" for each in worst]
    marked = [
        f'label_replace(0 * {rank}, "bad", "{number}", "", "")'
        for number, rank in enumerate((*ranks, f"({others})"))
    ]
    order = f"\nor on ({by}) ".join(marked)
    return f"(\n{query}\n)\n+ on ({by}) group_left (bad) (\n{order}\n)"


def rates(series: Series, name: str, *labels: str) -> Query:
    """Return the query for a counter's rate, by component and *labels*."""
    by = ", ".join((ask.COMPONENT, *labels))
    return Query(ask.rate(series, name, NOW, by), legend(*labels))


def counts(series: Series, name: str, window: str, *labels: str, only: str = "") -> Query:
    """Return the query for a counter's events that meet a condition, by component and *labels*."""
    by = ", ".join((ask.COMPONENT, *labels))
    conditions = (only,) if only else ()
    return Query(ask.events(series, name, window, by, *conditions), legend(*labels))


def seconds(series: Series, name: str, window: str) -> Query:
    """Return the query for the seconds that a counter counted within a window, by component."""
    return Query(ask.seconds(series, name, window), legend())


def quantile(series: Series, name: str, window: str, *labels: str) -> Query:
    """Return the query for what 95 % of the observations of a histogram stay below."""
    by = ", ".join((ask.COMPONENT, *labels, "le"))
    buckets = ask.events(series, f"{name}_bucket", window, by)
    return Query(f"histogram_quantile(0.95, {buckets})", legend(*labels))


def time_since(series: Series, name: str, *labels: str) -> Query:
    """Return the query for the seconds since a time; workers write 0 where it is over."""
    by = ", ".join((ask.COMPONENT, *labels))
    return Query(f"time() - (max by ({by}) ({series(name)}) > 0)", legend(*labels))


def gauge(series: Series, name: str, over: str) -> Query:
    """Return the query for a gauge by component: the "min", "max" or "sum" over processes."""
    return Query(f"{over} by ({ask.COMPONENT}) ({series(name)})", legend())
