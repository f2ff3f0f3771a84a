"""A hedged call: a run of `redundant` on a fake clock."""

import asyncio

from card import NOTE, Card
from timeline import Span, Timeline

from mainstay import hedge, redundant
from mainstay.testing import FakeClock, recorded

USUAL, SLOW = 0.024, 0.350
"""Seconds that nearly all answers take, and that one takes now and then."""
BEFORE = tuple(0.010 + 0.0004 * number for number in range(95)) + (0.046,) * 5
"""How long the calls before it took, from which the policy knows what is slow."""


async def run(clock: FakeClock) -> list[tuple[float, float, bool]]:
    """Return when each copy of a slow call began and ended, and whether it answered."""
    takes = iter([*BEFORE, SLOW, USUAL])
    copies: list[tuple[float, float, bool]] = []

    @redundant(copies=2, start=hedge.quantile(0.95), name="reviews", budget=None)
    async def reviews() -> None:
        began, answered = clock.now(), False
        try:
            await clock.asleep(next(takes))
            answered = True
        finally:
            copies.append((began, clock.now(), answered))

    for _ in BEFORE:
        await reviews()
    copies.clear()
    began = clock.now()
    await reviews()
    await asyncio.sleep(0)
    return sorted((begin - began, end - began, answered) for begin, end, answered in copies)


def draw() -> str:
    """Return the picture."""
    with recorded() as metrics, FakeClock() as clock:
        first, second = asyncio.run(run(clock))
    late, over = second[0], second[1]
    card = Card(
        "A hedged call on a time line",
        f"The first copy is late after {ms(late)}. A second copy starts and answers at {ms(over)}; "
        f"the first one is cancelled. The caller waited {ms(over)} instead of {ms(SLOW)}.",
        height=332,
        lead="Slower than 95 % of the last calls? Ask once more, and take what comes first.",
    )
    line = Timeline(card, top=88, bottom=248, seconds=SLOW)
    line.axis(0.05, "ms", 1000)
    line.mark(late, f"{ms(late)}: late", "cover", "end")
    line.mark(over, f"{ms(over)}: an answer", "ok", "start")
    line.lane(116, "first copy")
    line.span(116, Span(over, SLOW, "idle", f"cancelled: would have taken {ms(SLOW)}"))
    line.span(116, Span(*first[:2], "cover", "▲ slow"))
    line.lane(168, "second copy")
    line.span(168, Span(*second[:2], "ok"))
    card.text(line.x(over) + 10, 172, "starts when the first is late, and ends the call", NOTE)
    line.lane(220, "the caller")
    line.span(220, Span(0, over, "ok", f"waits {ms(over)}"))
    card.text(line.x(over) + 10, 224, f"instead of {ms(SLOW)}", NOTE)
    card.counted(
        312,
        [
            f'hedges_total{{reason="slow"}} +{metrics.value("hedges_total", reason="slow"):g}',
            f'copy_wins_total{{copy="1"}} +{metrics.value("copy_wins_total", copy="1"):g}',
        ],
    )
    return card.svg()


def ms(seconds: float) -> str:
    """Return a time in words."""
    return f"{seconds * 1000:.0f} ms"
