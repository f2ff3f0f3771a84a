"""A rate limit on a time line: a run of `RateLimit` on a fake clock."""

import asyncio

from card import Card
from timeline import Timeline

from mainstay import RateLimit, RateLimitedError
from mainstay.testing import FakeClock, recorded

RATE, BURST, MAX_WAIT = 5, 3, 0.5
COME = (0.1, 0.13, 0.16, 0.19, 0.22, 0.25, 0.28, 1.2)


async def run(clock: FakeClock) -> list[tuple[float, float, bool]]:
    """Return when each call came, when it was over, and whether it had a turn."""
    mail = RateLimit("mail", RATE, burst=BURST, max_wait=MAX_WAIT)

    async def send() -> None:
        pass

    async def come(after: float) -> tuple[float, float, bool]:
        await clock.asleep(after)
        came = clock.now()
        try:
            await mail.call(send)
        except RateLimitedError:
            return came, clock.now(), False
        return came, clock.now(), True

    return await asyncio.gather(*[come(after) for after in COME])


def draw() -> str:
    """Return the picture."""
    with recorded() as metrics, FakeClock() as clock:
        calls = asyncio.run(run(clock))
    card = Card(
        "A rate limit on a time line",
        f"Seven calls come at once to a limit of {RATE} a second with a burst of {BURST}. Three go "
        "through at once, others wait for their turn, and those whose turn is too late are "
        "refused.",
        height=372,
        lead=f"rate={RATE}, burst={BURST}, max_wait={MAX_WAIT:g}: a turn every {1 / RATE:g} s, and "
        f"{BURST} are saved up.",
    )
    line = Timeline(card, top=76, bottom=292, seconds=1.4)
    line.axis(0.2)
    line.lane(168, "calls")
    line.lane(274, "go through")
    for index, (came, over, has_turn) in enumerate(calls):
        y = 96.0 + 20 * index
        if over > came:
            card.line((line.x(came), y), (line.x(over), y), looks="cover-line")
            card.text(line.x(over) + 10, y + 4, "waits for its turn", "cover-text small over")
        card.text(line.x(came), y + 5, "▼", "dim-text over", "middle")
        if has_turn:
            card.text(line.x(over), 279, "●", "ok-text", "middle")
        else:
            card.text(line.x(came) + 14, y + 5, "✗", "fail-text over", "middle")
            words = "refused: retry_after says when its turn would be"
            card.text(line.x(came) + 24, y + 4, words, "fail-text small over")
    passed = metrics.value("calls_total", outcome="success")
    card.counted(
        352,
        [
            f'calls_total{{outcome="success"}} +{passed:g}',
            f'give_ups_total{{reason="rate"}} +{metrics.value("give_ups_total", reason="rate"):g}',
        ],
    )
    return card.svg()
