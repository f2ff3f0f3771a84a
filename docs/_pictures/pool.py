"""A pool with a hot and a cold standby on a time line: a run of a real one on a fake clock."""

import asyncio
import random

from card import Card, Tone
from timeline import Span, Timeline

from mainstay import FailoverPool, Member, Probe
from mainstay.testing import FakeClock, recorded

SECONDS = 120.0
EVERY = 0.25
WIDE = 13.0
"""Seconds of a bar in which there is room for words."""
OPENS_IN = 4.0
DOWN = {"first": (15.0, 45.0), "second": (35.0, 65.0)}
"""From when to when each of these members fails."""
STATES: dict[str, tuple[Tone, str]] = {
    "active": ("ok", "● active"),
    "standby_hot": ("standby", "○ hot"),
    "standby_cold": ("idle", "◌ cold"),
    "ejected": ("cover", "✗ ejected"),
}


async def run(clock: FakeClock) -> tuple[list[tuple[float, list[str]]], list[tuple[float, str]]]:
    """Return the states of the members over time, and which member answered each call."""

    async def open_third() -> str:
        await clock.asleep(OPENS_IN)
        return "third"

    async def ping(member: str) -> bool:
        begin, end = DOWN.get(member, (0.0, 0.0))
        return not begin <= clock.now() < end

    pool = FailoverPool(
        "db",
        [
            Member("first", "first"),
            Member("second", "second", standby="hot"),
            Member("third", open=open_third, standby="cold"),
        ],
        on=ConnectionError,
        probe=Probe(ping, every=2.0),
    )

    async def query(member: str) -> str:
        if not await ping(member):
            raise ConnectionError("refused")
        return member

    states: list[tuple[float, list[str]]] = []
    answers: list[tuple[float, str]] = []
    while clock.now() < SECONDS:
        began = clock.now()
        try:
            answers.append((began, await pool.call(query)))
        except ConnectionError:
            answers.append((began, ""))
        states.append((clock.now(), [member.state for member in pool.status().members]))
        await clock.asleep(EVERY)
    closing = pool.close()
    if closing is not None:
        await closing
    return states, answers


def spans(values: list[tuple[float, str]]) -> list[tuple[float, float, str]]:
    """Return from when to when each value held."""
    changes = [
        each
        for each, (_, before) in zip(values, [(0.0, ""), *values], strict=False)
        if each[1] != before
    ]
    ends = [at for at, _ in changes[1:]] + [SECONDS]
    return [(begin, end, value) for (begin, value), end in zip(changes, ends, strict=True)]


def draw() -> str:
    """Return the picture."""
    random.seed(27)  # with others, ejections last longer
    with recorded() as metrics, FakeClock() as clock:
        states, answers = asyncio.run(run(clock))
    recovered = metrics.value("calls_total", outcome="recovered")
    failed = metrics.value("calls_total", outcome="error")
    card = Card(
        "A pool with a hot and a cold standby",
        "The first member fails and is ejected; the hot standby takes over at once. When that "
        "fails too, the cold one is opened and takes over. Once well again, the first rests, gets "
        "its share back step by step, and the standbys stand by again.",
        height=396,
        lead=f"Two of three members fail for {DOWN['first'][1] - DOWN['first'][0]:g} s each. "
        f"Of {len(answers)} calls, {failed:g} fail.",
    )
    line = Timeline(card, top=76, bottom=318, seconds=SECONDS)
    line.axis(10)
    for index, (name, kind) in enumerate((("first", ""), ("second", "hot"), ("third", "cold"))):
        y = 100.0 + 58 * index
        line.lane(y, f"{name}, {kind}" if kind else name)
        for begin, end, state in spans([(at, each[index]) for at, each in states]):
            tone, words = STATES[state]
            line.span(y, Span(begin, end, tone, words if end - begin > WIDE else words[0]))
        if name in DOWN:
            fails = [(line.x(at), y + 20) for at in DOWN[name]]
            card.line(*fails, looks="fail-line")
            card.text(fails[0][0], y + 33, "does not answer", "fail-text small over")
    line.lane(290, "calls go to")
    for begin, end, name in spans(answers):
        line.span(290, Span(begin, end, "ok" if name else "fail", name))
    card.counted(
        376,
        [
            f"failovers_total +{metrics.value('failovers_total'):g}",
            f"ejections_total +{metrics.value('ejections_total'):g}",
            f'calls_total{{outcome="recovered"}} +{recovered:g}',
        ],
    )
    return card.svg()
