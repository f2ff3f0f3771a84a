"""Three callers of a server that is down for a second: runs of `retry` on a fake clock."""

import random

from card import NOTE, Card
from timeline import Span, Timeline

from mainstay import retry
from mainstay._retry.decision import LONGEST_WAIT, default_wait
from mainstay.testing import FakeClock, RecordedMetrics, recorded

DOWN_UNTIL = 1.0
TAKES = 0.06
CALLERS = ("one caller", "another one", "a third one")


def run() -> list[Span]:
    """Return the attempts of one call, on a server that is down at first."""
    attempts: list[Span] = []
    with FakeClock() as clock:

        @retry(on=ConnectionError, attempts=8, name="fetch")
        def fetch() -> None:
            began = clock.now()
            clock.advance(TAKES)
            is_down = began < DOWN_UNTIL
            if is_down:
                attempts.append(Span(began, clock.now(), "cover", "✗"))
                raise ConnectionError("refused")
            attempts.append(Span(began, clock.now(), "ok", "●"))

        fetch()
    return attempts


def draw() -> str:
    """Return the picture."""
    random.seed(394)  # one of those with which no bars touch
    with recorded() as metrics:
        calls = [run() for _ in CALLERS]
    card = Card(
        "A retry on a time line",
        "A server is down for one second. Three callers try again after random waits, whose limit "
        "doubles each time, so that they do not come back together. All three succeed.",
        height=372,
        lead="Each wait is drawn at random below a limit that doubles, so callers do not come back "
        "together.",
    )
    line = Timeline(card, top=76, bottom=284, seconds=2.0)
    line.axis(0.25)
    line.lane(98, "the server")
    line.span(98, Span(0, DOWN_UNTIL, "cover", "✗ down"))
    line.span(98, Span(DOWN_UNTIL, line.seconds, "ok", "● well again"))
    for index, (name, attempts) in enumerate(zip(CALLERS, calls, strict=True)):
        draw_call(line, 150 + 48 * index, name, attempts)
    limits = ", ".join(f"{default_wait(number, 1.0):g}" for number in range(1, 6))
    card.text(
        line.left,
        320,
        f"The limits of the waits: {limits} s, and so on up to {LONGEST_WAIT:g} s.",
        NOTE,
    )
    card.counted(352, counted(metrics))
    return card.svg()


def draw_call(line: Timeline, y: float, name: str, attempts: list[Span]) -> None:
    """Draw a call: its attempts, and the waits between them."""
    line.lane(y, name)
    line.card.line(
        (line.x(attempts[0].begin), y), (line.x(attempts[-1].end), y), looks="dim-line dashed"
    )
    for attempt in attempts:
        line.span(y, attempt)
    words = f"recovered, {len(attempts)} attempts"
    line.card.text(line.x(attempts[-1].end) + 8, y + 4, words, "ok-text small over")


def counted(metrics: RecordedMetrics) -> list[str]:
    """Return the counters that the calls have moved."""
    recovered = metrics.value("calls_total", outcome="recovered")
    return [
        f'calls_total{{outcome="recovered"}} +{recovered:g}',
        f"errors_total +{metrics.value('errors_total'):g}",
        f"wait_seconds_total +{metrics.value('wait_seconds_total'):.1f}",
    ]
