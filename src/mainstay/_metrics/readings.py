"""`readings`: the present numbers of all series, for exporters.

`Metrics` passes them to Prometheus, and the OpenTelemetry integration to its exporter.
"""

from collections.abc import Iterator, Mapping
from operator import add
from typing import NamedTuple, TypeAlias

from prometheus_client.samples import Exemplar

from mainstay._core.version import VERSION
from mainstay._metrics import schema
from mainstay._metrics.recorders import Recorders
from mainstay._metrics.schema import Family

Labels: TypeAlias = tuple[str, ...]
"""The values of a family's labels, in their order."""

Totals: TypeAlias = dict[Labels, list[float]]


class Reading(NamedTuple):
    """One metric with its present numbers.

    Attributes:
        family: What it is.
        bounds: The upper bounds of a histogram without +Inf, ascending; else empty.
        totals: By label values one number, or those of a histogram: how many values each bucket
            has, from the lowest to that of +Inf, and their sum.
        exemplars: By label values the last exemplar of each bucket; 0 is that of a counter.
    """

    family: Family
    bounds: tuple[float, ...]
    totals: Totals
    exemplars: Mapping[Labels, Mapping[int, Exemplar]]


def readings(recorders: Recorders) -> Iterator[Reading]:
    """Yield every metric with what *recorders* have recorded until now."""
    table = recorders.table
    table.refresh()
    totals = _totals(recorders)
    examples: dict[str, dict[Labels, Mapping[int, Exemplar]]] = {}
    for (name, labels), slots in {**table.exemplars}.items():  # a copy: calls go on meanwhile
        examples.setdefault(name, {})[labels] = {**slots}
    for family in schema.FAMILIES:
        known = examples.get(family.name, {})
        yield Reading(family, table.bounds(family), totals[family.name], known)


def _totals(recorders: Recorders) -> dict[str, Totals]:
    """Add up all threads of all groups; series with the same labels become one."""
    totals: dict[str, Totals] = {family.name: {} for family in schema.FAMILIES}

    def count(family: Family, values: Labels, numbers: list[float]) -> None:
        known = totals[family.name]
        before = known.get(values)
        known[values] = numbers if before is None else [*map(add, before, numbers)]

    table = recorders.table
    for group in table.groups():
        histogram, counters = table.cells.totals(group)
        family = group.layout.histogram
        if family is not None:
            count(family, group.labels[: len(family.labels)], histogram)
        for (each, values), number in zip(group.counter_series(), counters, strict=True):
            count(each, values, [number])
    for family, values, value in recorders.gauge_samples():
        count(family, values, [value])
    count(schema.BUILD_INFO, (VERSION,), [1.0])
    return totals
