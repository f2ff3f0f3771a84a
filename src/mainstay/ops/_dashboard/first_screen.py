"""The first screen: who, how bad, since when, what else changed then, what is covered already."""

from mainstay.ops import _queries as ask
from mainstay.ops._dashboard import levels, states
from mainstay.ops._dashboard.questions import ALL, CALL, NOW
from mainstay.ops._grafana import color
from mainstay.ops._grafana.graph import areas, graph
from mainstay.ops._grafana.panel import Panel
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.row import COLUMNS, Row
from mainstay.ops._grafana.stat import stat
from mainstay.ops._grafana.thresholds import Thresholds, below
from mainstay.ops._grafana.timeline import timeline
from mainstay.ops._grafana.unit import FINE_SHARE, RATE, SECONDS, SHARE
from mainstay.ops._grafana.word import Word
from mainstay.ops._promql import Series, number

WORST = 4
"""How many components the first screen has room for where it shows the lowest figures."""

LITTLE_BUDGET = 0.25

_NOTHING = Thresholds(color.dim(color.WELL))

_OUTCOMES = (
    ("error", color.FAILING),
    ("timeout", color.TIMED_OUT),
    ("rejected", color.REJECTED),
    ("cancelled", color.CANCELLED),
    ("recovered", color.DEGRADED),
    ("success", color.dark(color.WELL)),
)
"""The worst first, since the first one is at the bottom, where it can be compared."""


def first_screen(series: Series, targets: Series, slo: float) -> Row:
    """Return what is there before anything is opened.

    Args:
        series: What is shown.
        targets: The same without a choice of components.
        slo: The share of calls that are to succeed.
    """
    tiles = (
        _failing_now(series, targets).sized(8, 4),
        _degraded_now(series).sized(6, 4),
        _availability(series, slo).sized(5, 4),
        _budget(series, slo).sized(5, 4),
    )
    over_time = (
        _calls_by_outcome(series).sized(COLUMNS // 2, 7),
        _time_of_a_call(series).sized(COLUMNS // 2, 7),
    )
    return Row(
        "",
        tiles,
        over_time,
        (_components(series).sized(COLUMNS, 6),),
        (_members_and_breakers(series).sized(COLUMNS, 7),),
    )


def _failing_now(series: Series, targets: Series) -> Panel:
    return stat(
        "Failing now",
        "What callers feel, by name: 5 % of a component's calls fail, a breaker is open, a pool "
        "has no healthy member, saves fail, or a process answers no more. Click a name to see "
        "that component alone.",
        *levels.failing(series, NOW),
        levels.missing_targets(targets),
        unit=SHARE,
        thresholds=_NOTHING,
        no_value="nothing",
        is_filled=True,
    )


def _degraded_now(series: Series) -> Panel:
    return stat(
        "Degraded now",
        "What mainstay covers, by name: a member is out and others serve, a breaker is half open, "
        "5 % of the calls had to be recovered, calls wait for a place, a copy is outvoted, a save "
        "is late. Callers notice nothing yet.",
        *levels.degraded(series, NOW),
        no_value="nothing",
        thresholds=_NOTHING,
    )


def _availability(series: Series, slo: float) -> Panel:
    return stat(
        "Availability",
        "Uptime / total time over the time shown, the lowest. Red below the SLO. While a process "
        "cannot be scraped, its components are down.",
        Query(_lowest(ask.availability(series, ALL)), "{{component}}"),
        unit=FINE_SHARE,
        thresholds=Thresholds(color.FAILING, ((slo, color.WELL),)),
        words=(Word(1, "100 %"),),
    )


def _budget(series: Series, slo: float) -> Panel:
    left = f"1 - (\n{ask.error_ratio(series, ALL)}\n) / {number(1 - slo)}"
    return stat(
        "Error budget left",
        f"Of the failures that an SLO of {number(slo)} allows over the time shown, the share that "
        "is left, the lowest. When it is spent, the SLO is missed.",
        Query(_lowest(left), CALL),
        unit=SHARE,
        thresholds=below(degraded=LITTLE_BUDGET, failing=0),
        words=(Word(0, "spent", color.FAILING, is_below=True),),
    )


def _lowest(query: str) -> str:
    return f"sort(bottomk({WORST}, {query}))"


def _calls_by_outcome(series: Series) -> Panel:
    queries = [
        Query(
            f"sum ({_of_outcome(series, outcome)})",
            outcome,
            color=each,
        )
        for outcome, each in _OUTCOMES
    ]
    return areas(
        "Calls by outcome",
        "Calls per second, the bad ones at the bottom. Recovered calls succeeded because the "
        "policy acted. Where policies are nested, each counts the call again: choose a component "
        "to count each call once.",
        *queries,
        unit=RATE,
    )


def _of_outcome(series: Series, outcome: str) -> str:
    calls = ask.rate(series, "calls_total", NOW, ask.CALL, f'outcome="{outcome}"')
    return ask.judged(series, calls)


def _time_of_a_call(series: Series) -> Panel:
    rejected = ask.rate(series, "calls_total", NOW, ask.CALL, 'outcome="rejected"')
    mostly = f"{rejected}\n/ ({ask.calls(series, NOW)} > 0)\n> 0.5"
    p95 = f"{ask.duration(series, NOW, 0.95)}\nunless on ({ask.CALL}) (\n{mostly}\n)"
    return graph(
        "Time of a call, p95",
        "95 % of the calls end within this time, waits included. There is a gap while most calls "
        "are refused: how fast refusals are says the opposite of the truth.",
        Query(p95, CALL),
        unit=SECONDS,
        is_logarithmic=True,
    )


def _components(series: Series) -> Panel:
    return timeline(
        "Components",
        "Red while callers feel something, amber while mainstay covers something, by the same "
        "measure as Failing now and Degraded now.",
        levels.level(series, NOW),
        words=levels.WORDS,
    )


def _members_and_breakers(series: Series) -> Panel:
    return timeline(
        "Members and breakers",
        "The state of each, as the process sees it that sees the worst. A member that is out is "
        "amber while others serve and red while nobody does. Lines through all panels: failovers "
        "blue, ejections amber, openings of a breaker red.",
        states.breaker_states(series),
        states.member_states(series),
        words=states.WORDS,
    )
