"""A bulkhead of three places on a time line: a run of `Bulkhead` on a fake clock."""

import asyncio
import contextlib

import attrs
from card import Card
from timeline import Span, Timeline

from mainstay import Bulkhead, BulkheadFullError
from mainstay.testing import FakeClock, recorded

LIMIT, MAX_WAIT = 3, 0.3
CALLS = ((0.0, 0.9), (0.15, 1.2), (0.3, 0.5), (0.7, 0.7), (0.8, 0.6), (0.9, 0.5), (1.7, 0.6),
         (1.9, 0.5))  # fmt: skip
"""When each call comes, and how long it takes once it has a place."""


@attrs.define
class Call:
    """What became of a call; without a place it was refused at its end."""

    number: int
    came: float
    place: int | None = None
    began: float = 0.0
    ended: float = 0.0


async def run(clock: FakeClock) -> list[Call]:
    """Return the calls."""
    orders = Bulkhead("orders", limit=LIMIT, max_wait=MAX_WAIT)
    free = list(range(LIMIT))

    async def order(call: Call, takes: float) -> None:
        call.began = clock.now()
        call.place = free.pop(0)
        await clock.asleep(takes)
        free.append(call.place)

    async def come(number: int, after: float, takes: float) -> Call:
        await clock.asleep(after)
        call = Call(number, clock.now())
        with contextlib.suppress(BulkheadFullError):
            await orders.call(order, call, takes)
        call.ended = clock.now()
        return call

    coming = [come(number, *call) for number, call in enumerate(CALLS, 1)]
    return await asyncio.gather(*coming)


def draw() -> str:
    """Return the picture."""
    with recorded() as metrics, FakeClock() as clock:
        calls = asyncio.run(run(clock))
    refused = [call for call in calls if call.place is None]
    card = Card(
        "A bulkhead on a time line",
        f"{len(calls)} calls come to a bulkhead of {LIMIT} places. Some wait for a place for up to "
        f"{MAX_WAIT:g} s; {len(refused)} would have to wait for longer, and are refused.",
        height=370,
        lead=f"limit={LIMIT}, max_wait={MAX_WAIT:g}: three calls run, others wait for a moment or "
        "are told to go.",
    )
    line = Timeline(card, top=76, bottom=290, seconds=2.5)
    line.axis(0.25)
    for place in range(LIMIT):
        line.lane(100 + 42 * place, f"place {place + 1}")
    line.lane(226, "waiting")
    for call in calls:
        queue = 226 + 34 * (call.number % 2)
        if call.place is not None:
            span = Span(call.began, call.ended, "ok", f"● {call.number}")
            line.span(100 + 42 * call.place, span)
        if call.place is None:
            line.span(queue, Span(call.came, call.ended, "fail", f"✗ {call.number}"))
            card.text(line.x(call.ended) + 8, queue + 4, "refused", "fail-text small over")
        elif call.began > call.came:
            line.span(queue, Span(call.came, call.began, "cover", f"{call.number}"))
    passed = metrics.value("calls_total", outcome="success")
    waited = metrics.value("give_ups_total", reason="wait")
    card.counted(
        350,
        [
            f'calls_total{{outcome="success"}} +{passed:g}',
            f'give_ups_total{{reason="wait"}} +{waited:g}',
        ],
    )
    return card.svg()
