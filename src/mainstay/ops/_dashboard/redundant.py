"""What is particular to redundant calls."""

from mainstay.ops import _queries as ask
from mainstay.ops._dashboard.questions import NOW, counts, gauge, rates
from mainstay.ops._grafana.graph import bars, graph
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.row import Row
from mainstay.ops._grafana.unit import NUMBER, RATE, SECONDS, SHARE
from mainstay.ops._promql import Series


def redundant_calls(series: Series) -> Row:
    """Return the row for redundant calls."""
    changed = ask.rate(
        series, "calls_total", NOW, ask.COMPONENT, 'policy="redundant"', 'outcome="recovered"'
    )
    calls = ask.rate(series, "calls_total", NOW, ask.COMPONENT, 'policy="redundant"')
    return Row(
        "Redundant calls ($redundant)",
        (
            graph(
                "Made better by a copy",
                "The share of calls in which the primary alone would have failed, have been "
                "slower than a copy that was started since it was slow, or have been wrong.",
                Query(f"{changed}\n/ ({calls} > 0)", "{{component}}"),
                unit=SHARE,
            ),
            graph(
                "Hedges",
                "Copies started because the primary was slow, or because a copy failed.",
                rates(series, "hedges_total", "reason"),
                unit=RATE,
            ),
            graph(
                "Hedges denied",
                "Copies that were not started, by what forbade it. Some are normal: the budget "
                "is there to say no.",
                rates(series, "hedges_denied_total", "reason"),
                unit=RATE,
            ),
            graph(
                "Delay before a hedge",
                "Time without an answer after which the next copy starts, in the process where "
                "that is longest.",
                gauge(series, "hedge_delay_seconds", "max"),
                unit=SECONDS,
            ),
        ),
        (
            graph(
                "Answers by copy",
                "Whose answer was returned.",
                rates(series, "copy_wins_total", "copy"),
                unit=RATE,
            ),
            graph(
                "Votes",
                "How votes ended.",
                rates(series, "votes_total", "verdict"),
                unit=RATE,
            ),
            bars(
                "Outvoted",
                "Whose answers the others did not agree with, and how many within each interval.",
                counts(series, "dissents_total", NOW, "copy"),
            ),
            graph(
                "Wasted work",
                "Seconds per second that copies ran whose answer nobody waited for: how many "
                "of them run at any moment.",
                rates(series, "wasted_seconds_total"),
                unit=NUMBER,
            ),
        ),
        is_collapsed=True,
    )
