"""A vote of three on a time line: a run of `redundant` on a fake clock."""

import asyncio
from functools import partial

from card import NOTE, Card, Tone
from timeline import Span, Timeline

from mainstay import redundant, vote
from mainstay.testing import FakeClock, recorded

SCALES = ((0.12, 704), (0.25, 912), (0.34, 704), (0.6, 704))
"""How long each scale takes, and what it says; the second one is wrong."""
NAMES = ("first", "second", "third", "fourth")


async def run(clock: FakeClock) -> tuple[list[Span], int]:
    """Return what each copy did, and the result of the vote."""
    spans: dict[int, Span] = {}

    async def weigh(number: int) -> int:
        began, (takes, grams) = clock.now(), SCALES[number]
        try:
            await clock.asleep(takes)
        except asyncio.CancelledError:
            spans[number] = Span(began, clock.now(), "idle", "cancelled")
            raise
        spans[number] = Span(began, clock.now(), "ok", f"{grams} g")
        return grams

    copies = [partial(weigh, number) for number in range(len(SCALES))]
    policy = redundant(alternatives=copies[1:], decide=vote.quorum(2), name="weights")
    result = await policy.call(copies[0])
    await asyncio.sleep(0)
    return [spans[number] for number in sorted(spans)], result


def draw() -> str:
    """Return the picture."""
    with recorded() as metrics, FakeClock() as clock:
        copies, result = asyncio.run(run(clock))
    over = max(copy.end for copy in copies)
    card = Card(
        "A voted call on a time line",
        f"Four scales are asked at once. The second one is wrong; as soon as two agree, on "
        f"{result} g, the call ends, and the fourth is cancelled.",
        height=384,
        lead="What two of four say is believed, and the call ends as soon as two agree.",
    )
    line = Timeline(card, top=88, bottom=300, seconds=SCALES[-1][0])
    line.axis(0.1)
    line.mark(over, f"two say {result} g", "ok", "middle")
    for index, (name, copy) in enumerate(zip(NAMES, copies, strict=True)):
        y = 110.0 + 40 * index
        is_wrong = copy.words not in ("cancelled", f"{result} g")
        tone: Tone = "cover" if is_wrong else copy.tone
        line.lane(y, f"{name} scale")
        line.span(y, Span(copy.begin, copy.end, tone, copy.words))
        if is_wrong:
            card.text(line.x(over) + 10, y + 4, "▲ outvoted", "cover-text small over")
    words = f"would have taken {SCALES[-1][0]:g} s"
    card.text(line.x(over) + 10, 234, words, NOTE)
    line.lane(280, "the caller")
    line.span(280, Span(0, over, "ok", f"● {result} g"))
    decided = metrics.value("votes_total", verdict="decided")
    dissents = metrics.value("dissents_total", copy="1")
    card.counted(
        364,
        [
            f'votes_total{{verdict="decided"}} +{decided:g}',
            f'dissents_total{{copy="1"}} +{dissents:g}',
        ],
    )
    return card.svg()
