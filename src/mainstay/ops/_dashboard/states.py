"""States of members and breakers as numbers, so that one line shows them over time.

Where processes see a member or a breaker in several states, the worst is shown.
"""

from collections.abc import Iterable

from mainstay._metrics import verdict
from mainstay.ops import _queries as ask
from mainstay.ops._dashboard.questions import worst_first
from mainstay.ops._grafana import color
from mainstay.ops._grafana.query import Query
from mainstay.ops._grafana.word import Word
from mainstay.ops._promql import Series

MEMBERS = {state: number for number, state in enumerate(reversed(verdict.WORST_STATES), start=1)}
"""The number of each state of a member."""

DESERTED = 10
"""Is added to the number of a member that does not serve while no other one does."""

BREAKERS = {
    state: number for number, state in enumerate(reversed(verdict.WORST_BREAKERS), start=21)
}
"""The number of each state of a breaker."""

OUT = ("ejected", "draining", "failing")

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
    *(_word(state, MEMBERS[state] + DESERTED, color.FAILING) for state in OUT),
)
"""What is written for each number, and what it stands on."""

DEGRADED_WORDS = tuple(
    Word(number, _WRITTEN.get(state, state), color.DEGRADED)
    for state, number in MEMBERS.items()
    if state not in verdict.WELL
)
"""What is written for a member that is out, or on its way there or back."""


def deserted_pools(series: Series) -> str:
    """Return 1 for each pool without a healthy member, as some process sees it."""
    serving, out = (
        f"sum by ({ask.INSTANCE}) ({series('member_state', ask.one_of('state', those))}) > 0"
        for those in (verdict.SERVING, OUT)
    )
    return f"max by ({ask.COMPONENT}) (\n  sgn({out})\n  unless {serving}\n)"


def breakers_in(series: Series, state: str) -> str:
    """Return 1 for each breaker that is in a state, as some process sees it."""
    return f"sgn({_in_state(series, 'breaker_state', state, ask.COMPONENT)})"


def breaker_states(series: Series) -> Query:
    """Return the query for the state of each breaker, as the number of it."""
    states = _first_of(
        f"{BREAKERS[state]} * sgn({_in_state(series, 'breaker_state', state, ask.COMPONENT)})"
        for state in verdict.WORST_BREAKERS
    )
    bad = f"({states}) > {BREAKERS['closed']}"
    known = f"max by ({ask.COMPONENT}) ({series('breaker_state')})"
    return Query(worst_first(states, ask.COMPONENT, (bad,), known), "{{component}} (breaker)")


def member_states(series: Series) -> Query:
    """Return the query for the state of each member, as the number of it."""
    worse = _first_of(_members(series, state, DESERTED) for state in OUT)
    deserted = f"(\n{worse}\n)\nand on ({ask.COMPONENT}) {deserted_pools(series)}"
    others = [_members(series, state) for state in verdict.WORST_STATES]
    states = _first_of((deserted, *others))
    bad = f"({states}) > {MEMBERS['active']}"
    known = f"max by ({_MEMBER}) ({series('member_state')})"
    return Query(worst_first(states, _MEMBER, (bad,), known), MEMBER_LEGEND)


def members_out(series: Series) -> Query:
    """Return the query for the members that are not well in pools where somebody serves."""
    states = [state for state in verdict.WORST_STATES if state not in verdict.WELL]
    out = _first_of(_members(series, state) for state in states)
    return Query(
        f"(\n{out}\n)\nunless on ({ask.COMPONENT}) {deserted_pools(series)}",
        MEMBER_LEGEND,
        words=DEGRADED_WORDS,
    )


def _members(series: Series, state: str, more: int = 0) -> str:
    """Return the number of a state for the members that some process sees in that state."""
    return f"{MEMBERS[state] + more} * sgn({_in_state(series, 'member_state', state, _MEMBER)})"


def _in_state(series: Series, name: str, state: str, by: str) -> str:
    selected = series(name, f'state="{state}"')
    return f"max by ({by}) ({selected}) > 0"


def _first_of(terms: Iterable[str]) -> str:
    """Return a query that takes the first term that has an answer: the worst stands first."""
    return "\nor ".join(terms)
