"""How attempts share the time of a deadline: a run of `timeout` and `retry` on a fake clock."""

import asyncio
import random

from card import NOTE, Card
from timeline import Span, Timeline

from mainstay import TimedOutError, deadline, remaining, retry, timeout
from mainstay.testing import FakeClock, recorded

WHOLE, EACH = 2.0, 0.8
HANGS, ANSWERS = 60.0, 0.2


async def run(clock: FakeClock) -> tuple[list[Span], list[float]]:
    """Return the attempts of a call, and the seconds that each of them was given."""
    takes = iter([HANGS, HANGS, ANSWERS])
    attempts: list[Span] = []
    given: list[float] = []

    @retry(on=TimedOutError, attempts=4, name="fetch")
    @timeout(EACH, name="fetch")
    async def fetch() -> None:
        began, answered = clock.now(), False
        given.append(remaining(HANGS))
        try:
            await clock.asleep(next(takes))
            answered = True
        finally:
            attempts.append(Span(began, clock.now(), "ok" if answered else "cover"))

    async with deadline(WHOLE):
        await fetch()
    return attempts, given


def draw() -> str:
    """Return the picture."""
    random.seed(4)
    with recorded() as metrics, FakeClock() as clock:
        attempts, given = asyncio.run(run(clock))
    over = attempts[-1].end
    card = Card(
        "One deadline, shared by all that is inside",
        f"A deadline of {WHOLE:g} s is around a retry of attempts of {EACH:g} s. The first two "
        f"hang and are interrupted; the third is given the {given[-1]:.2f} s that are left.",
        height=352,
        lead="An attempt has its own time or what is left of the whole, whichever is less.",
    )
    line = Timeline(card, top=88, bottom=268, seconds=WHOLE)
    line.axis(0.25)
    line.lane(112, "deadline")
    line.span(112, Span(0, WHOLE, "standby", f"with deadline({WHOLE:g})"))
    line.lane(166, "attempts")
    for index, (attempt, seconds) in enumerate(zip(attempts, given, strict=True)):
        left = Span(attempt.begin, attempt.begin + seconds, "idle")
        line.span(166, left)
        words = "✗ hangs: TimedOutError" if attempt.tone == "cover" else "●"
        line.span(166, Span(attempt.begin, attempt.end, attempt.tone, words))
        middle = line.x(attempt.begin + seconds / 2)
        words = f"has {seconds:.2f} s" if index == len(given) - 1 else f"has {seconds:g} s"
        card.text(middle, 198, words, NOTE, "middle")
    line.lane(236, "the caller")
    line.span(236, Span(0, over, "ok", f"has the answer after {over:.2f} s"))
    recovered = metrics.value("calls_total", policy="retry", outcome="recovered")
    errors = metrics.value("errors_total", policy="retry", error_type="TimedOutError")
    card.counted(
        332,
        [
            f'calls_total{{outcome="recovered"}} +{recovered:g}',
            f'errors_total{{error_type="TimedOutError"}} +{errors:g}',
        ],
    )
    return card.svg()
