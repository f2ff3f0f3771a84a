"""Writes the tables of reference/metrics.md from the schema, each time the page is read.

The page holds a comment where a table belongs, `<!-- table of metrics -->` or
`<!-- table of label values -->`. Nothing in these tables is written by hand.
"""

from collections.abc import Callable, Iterable
from typing import Any

from mainstay._metrics import layouts, schema
from mainstay._metrics.layouts import Layout
from mainstay._metrics.schema import Family

_UNITS = ("seconds",)


def setup(app: Any) -> dict[str, bool]:
    """Let Sphinx fill in the tables."""
    app.connect("source-read", _on_source_read)
    return {"parallel_read_safe": True}


def _on_source_read(_app: object, _page: str, source: list[str]) -> None:
    source[0] = with_tables(source[0])


def with_tables(text: str) -> str:
    """Put the tables in the place of their comments."""
    tables: dict[str, Callable[[], str]] = {
        "<!-- table of metrics -->": metrics,
        "<!-- table of label values -->": label_values,
    }
    for comment, table in tables.items():
        if comment in text:
            text = text.replace(comment, table())
    return text


def metrics() -> str:
    """List every metric of the schema."""
    return _table(
        ("Name", "Type", "Labels", "Unit and buckets", "What it counts"),
        (
            (
                f"`{schema_name(family)}`",
                family.kind,
                ", ".join(f"`{label}`" for label in family.labels),
                _unit_and_buckets(family),
                family.help,
            )
            for family in schema.EVERY
        ),
    )


def label_values() -> str:
    """List the labels whose values are known beforehand, by metric."""
    known = [value for value in vars(layouts).values() if isinstance(value, Layout)]
    known += layouts.FAILURE_LAYOUTS.values()
    closed = {
        (family, tuple(slots))
        for layout in known
        for family, slots in layout.slots.items()
        if "" not in slots
    } | {(family, family.states) for family in schema.EVERY if family.states}
    return _table(
        ("Metric", "Label", "Values"),
        (
            (
                f"`{schema_name(family)}`",
                f"`{family.labels[-1]}`",
                ", ".join(f"`{value}`" for value in values),
            )
            for family, values in sorted(closed, key=lambda each: each[0].name)
        ),
    )


def schema_name(family: Family) -> str:
    """Give the full name of a metric in the default namespace."""
    return f"mainstay_{family.name}"


def _unit_and_buckets(family: Family) -> str:
    unit = next((unit for unit in _UNITS if f"_{unit}" in family.name), "")
    buckets = ", ".join(f"{bound:.10g}" for bound in family.buckets)
    return ": ".join(part for part in (unit, buckets) if part)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
