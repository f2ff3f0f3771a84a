"""What is failing and what is degraded: the verdict of `mainstay top`, in PromQL.

Callers feel what is failing; mainstay covers what is degraded. Each function returns queries that
answer with what is so, and with nothing while nothing is.
"""

from collections.abc import Iterable, Iterator

from mainstay._metrics import verdict
from mainstay.ops import _queries as ask
from mainstay.ops._dashboard import states
from mainstay.ops._dashboard.questions import ALL, worst_first
from mainstay.ops._grafana import color
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.unit import SECONDS, SHARE, counted
from mainstay.ops._grafana.word import Word
from mainstay.ops._promql import Series, growth, number

WELL, DEGRADED, FAILING = range(3)

WORDS = (
    Word(WELL, "ok", color.dim(color.WELL)),
    Word(DEGRADED, "degraded", color.dark(color.DEGRADED)),
    Word(FAILING, "failing", color.FAILING),
)


def failing(series: Series, window: str) -> tuple[Query, ...]:
    """Return the queries for what callers feel, by component."""
    opened, saves = states.breakers_in(series, "open"), f"{_failed_saves(series, window)} > 0"
    said_better = f"{opened}\nor {states.deserted_pools(series)}\nor {saves}"
    return (
        Query(
            f"{ask.too_many_errors(series, window)}\n"
            f"unless on ({ask.COMPONENT}) (\n{said_better}\n)",
            "{{component}}",
            color=color.FAILING,
            unit=SHARE,
        ),
        Query(opened, "{{component}}", words=(Word(1, "breaker open", color.FAILING),)),
        Query(
            states.deserted_pools(series),
            "{{component}}",
            words=(Word(1, "no healthy member", color.FAILING),),
        ),
        Query(saves, "{{component}}", color=color.FAILING, unit=counted("saves failed")),
    )


def missing_targets(targets: Series) -> Query:
    """Return the query for processes that exported metrics in the time shown, and answer no more.

    Prometheus knows targets without mainstay too, so what they have exported is looked at.
    """
    exported = f"count_over_time({targets('build_info')}[{ALL}])"
    return Query(
        f"1 - ({targets.up()} == 0)\nand on (job, instance) {exported}",
        "{{instance}}",
        words=(Word(1, "no answer", color.FAILING),),
    )


def degraded(series: Series, window: str) -> tuple[Query, ...]:
    """Return the queries for what mainstay covers, by component or a part of one."""
    recovered = (
        f"{ask.too_many_recovered(series, window)}\n"
        f"unless on ({ask.COMPONENT}) {ask.too_many_errors(series, window)}"
    )
    return (
        states.members_out(series),
        Query(
            states.breakers_in(series, "half_open"),
            "{{component}}",
            words=(Word(1, "half open", color.DEGRADED),),
        ),
        Query(
            f"100 * (\n{recovered}\n)",
            "{{component}}",
            color=color.DEGRADED,
            unit=counted("% recovered"),
        ),
        Query(_full(series), "{{component}}", color=color.DEGRADED, unit=counted("wait")),
        Query(
            f"100 * ({_outvoted(series, window)})",
            "{{component}} / {{copy}}",
            color=color.DEGRADED,
            unit=counted("% outvoted"),
        ),
        Query(_late(series), "{{component}}: unsaved for", color=color.DEGRADED, unit=SECONDS),
    )


def level(series: Series, window: str) -> Query:
    """Return the query for how each component is, as the number of `WORDS`."""
    failing_ones = (
        ask.too_many_errors(series, window, growth),
        states.breakers_in(series, "open"),
        states.deserted_pools(series),
        f"{_failed_saves(series, window)} > 0",
    )
    degraded_ones = (
        states.members_out(series).expression,
        states.breakers_in(series, "half_open"),
        ask.too_many_recovered(series, window, growth),
        _full(series),
        _outvoted(series, window),
        _late(series),
    )
    known = f"sum by ({ask.COMPONENT}) ({series('calls_total')})"
    fail, degrade = (
        "\nor ".join(_at(value, queries))
        for value, queries in ((FAILING, failing_ones), (DEGRADED, degraded_ones))
    )
    every = f"{fail}\nor {degrade}\nor {WELL} * ({known} > 0)"
    return Query(worst_first(every, ask.COMPONENT, (fail, degrade), known), "{{component}}")


def _at(value: int, queries: Iterable[str]) -> Iterator[str]:
    """Yield queries that answer with *value* for each component that others answer with."""
    return (f"{value} * sgn(max by ({ask.COMPONENT}) (\n{query}\n))" for query in queries)


def _failed_saves(series: Series, window: str) -> str:
    return ask.events(series, "checkpoint_saves_total", window, ask.COMPONENT, 'outcome="error"')


def _full(series: Series) -> str:
    """Return how many calls wait for a place of bulkheads that are full."""
    waiting, inside, places = (
        f"sum by ({ask.COMPONENT}) ({series(name)})"
        for name in ("waiting", "in_flight", "concurrency_limit")
    )
    return f"{waiting} > 0\nand {inside} >= {places}"


def _outvoted(series: Series, window: str) -> str:
    """Return the share of votes in which a copy was outvoted, where it is not small."""
    dissents = ask.events(series, "dissents_total", window, f"{ask.COMPONENT}, copy")
    votes = ask.events(series, "votes_total", window)
    return (
        f"{dissents}\n/ on ({ask.COMPONENT}) group_left () ({votes} > 0)\n"
        f">= {number(verdict.TOO_MANY)}"
    )


def _late(series: Series) -> str:
    """Return the age of saves that are late, where `StoreCollector` says that a run is running."""
    last, interval = (
        f"max by ({ask.COMPONENT}) ({series(name)})"
        for name in ("checkpoint_last_save_timestamp_seconds", "checkpoint_interval_seconds")
    )
    running = series("checkpoint_runs", 'state="running"')
    return (
        f"time() - {last} > {number(verdict.LATE)} * clamp_min({interval}, 1)\n"
        f"and on (component) {running} > 0"
    )
