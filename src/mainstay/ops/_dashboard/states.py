"""States of members and breakers as numbers, so that one line shows them over time.

The numbers ascend with how bad a state is, so that the largest is that of the process that sees the
worst.
"""

from collections.abc import Iterable

from mainstay._metrics import verdict
from mainstay.ops import _queries as ask
from mainstay.ops._grafana import color
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.word import Word
from mainstay.ops._promql import Series

MEMBERS = {state: number for number, state in enumerate(reversed(verdict.WORST_STATES), start=1)}
"""The number of each state of a member."""

NOBODY_SERVES = 10
"""Is added to the number of a member that is out while nobody serves in its pool."""

BREAKERS = {
    state: number for number, state in enumerate(reversed(verdict.WORST_BREAKERS), start=21)
}
"""The number of each state of a breaker."""

OUT = ("ejected", "draining")

_BACKGROUNDS = {
    "active": color.dim(color.WELL),
    "standby_hot": color.dim(color.STANDBY),
    "standby_cold": color.dim(color.COLD),
    "closed": color.dim(color.WELL),
    "open": color.FAILING,
}
_WRITTEN = {"standby_hot": "hot standby", "standby_cold": "cold standby", "half_open": "half open"}

_MEMBER = f"{ask.COMPONENT}, member"
MEMBER_LEGEND = "{{component}} / {{member}}"


def _word(state: str, number: int, background: str | None = None) -> Word:
    otherwise = _BACKGROUNDS.get(state, color.dark(color.DEGRADED))
    return Word(number, _WRITTEN.get(state, state), background or otherwise)


WORDS = (
    *(_word(state, number) for state, number in (MEMBERS | BREAKERS).items()),
    *(_word(state, MEMBERS[state] + NOBODY_SERVES, color.FAILING) for state in OUT),
)
"""What is written for each number, and what it stands on."""

DEGRADED_WORDS = tuple(
    Word(number, _WRITTEN.get(state, state), color.DEGRADED)
    for state, number in MEMBERS.items()
    if state not in verdict.WELL
)
"""What is written for a member that is out, or on its way there or back."""


def deserted_pools(series: Series, by: str = ask.COMPONENT) -> str:
    """Return 1 for each pool that nobody serves in, as some process sees it."""
    serving, out = (
        f"sum by ({ask.INSTANCE}) ({series('member_state', ask.one_of('state', those))}) > 0"
        for those in (verdict.SERVING, OUT)
    )
    return f"max by ({by}) (\n  sgn({out})\n  unless {serving}\n)"


def open_breakers(series: Series, state: str = "open") -> str:
    """Return 1 for each breaker that is in a state, as some process sees it."""
    selected = _in_state(series, "breaker_state", state)
    return f"max by ({ask.COMPONENT}) (sgn({selected} > 0))"


def breaker_states(series: Series) -> Query:
    """Return the query for the state of each breaker, as the number of it."""
    terms = [
        f"{number} * ({_in_state(series, 'breaker_state', state)} > bool 0)"
        for state, number in BREAKERS.items()
    ]
    return Query(_worst(ask.COMPONENT, terms), "{{component}} (breaker)")


def member_states(series: Series) -> Query:
    """Return the query for the state of each member, as the number of it."""
    deserted = deserted_pools(series, ask.INSTANCE).replace("\n", "\n  ")
    worse = [
        f"({MEMBERS[state] + NOBODY_SERVES} * sgn({_in_state(series, 'member_state', state)} > 0)\n"
        f"  and on ({ask.INSTANCE}) {deserted})"
        for state in OUT
    ]
    terms = (*worse, *_terms(series, verdict.WORST_STATES))
    return Query(_worst(_MEMBER, terms), MEMBER_LEGEND)


def members_out(series: Series) -> Query:
    """Return the query for the members that are not well in pools where somebody serves."""
    states = [state for state in verdict.WORST_STATES if state not in verdict.WELL]
    covered = f"unless on ({ask.COMPONENT}) {deserted_pools(series)}"
    return Query(
        f"{_worst(_MEMBER, _terms(series, states))}\n{covered}",
        MEMBER_LEGEND,
        words=DEGRADED_WORDS,
    )


def _in_state(series: Series, name: str, state: str) -> str:
    return series(name, f'state="{state}"')


def _terms(series: Series, states: Iterable[str]) -> list[str]:
    return [
        f"{MEMBERS[state]} * ({_in_state(series, 'member_state', state)} > bool 0)"
        for state in states
    ]


def _worst(by: str, terms: Iterable[str]) -> str:
    either = "\n  or ".join(terms)
    return f"max by ({by}) (\n  {either}\n) > 0"
