"""A fallback to the last good answer: a run of `fallback` on a fake clock."""

from card import Card, Tone
from timeline import Span, Timeline

from mainstay import fallback
from mainstay.testing import FakeClock, recorded

LASTS = 600.0
DOWN = (300.0, 1200.0)
UNTIL = 1500.0
EVERY = 10.0
SAYS: dict[str, tuple[Tone, str]] = {
    "fresh": ("ok", "● its answer"),
    "old": ("cover", "▲ the last good one"),
    "error": ("fail", "✗ its own error"),
}


def run() -> list[tuple[float, str]]:
    """Return what a caller got, at which time."""
    with FakeClock() as clock:

        @fallback(on=ConnectionError, last_good=LASTS, key=lambda user: user, name="basket")
        def basket(_user: str) -> float:
            if DOWN[0] <= clock.now() < DOWN[1]:
                raise ConnectionError("refused")
            return clock.now()

        got: list[tuple[float, str]] = []
        while clock.now() < UNTIL:
            try:
                got.append((clock.now(), "fresh" if basket("ann") == clock.now() else "old"))
            except ConnectionError:
                got.append((clock.now(), "error"))
            clock.advance(EVERY)
    return got


def draw() -> str:
    """Return the picture."""
    with recorded() as metrics:
        got = run()
    changes = [each for each, before in zip(got, [(0.0, ""), *got], strict=False)
               if each[1] != before[1]]  # fmt: skip
    card = Card(
        "The last good answer in place of an error",
        "A service is down for 15 minutes. For the first 10 of them callers get the last good "
        "answer, then the error, until the service is well again.",
        height=288,
        lead=f"last_good={LASTS:g}: an answer is good enough for {LASTS / 60:g} minutes.",
    )
    line = Timeline(card, top=76, bottom=200, seconds=UNTIL)
    line.axis(300, "min", 1 / 60)
    line.lane(104, "the service")
    line.span(104, Span(0, DOWN[0], "ok", "● well"))
    line.span(104, Span(*DOWN, "cover", "✗ down"))
    line.span(104, Span(DOWN[1], UNTIL, "ok", "● well"))
    line.lane(164, "callers get")
    for (begin, what), (end, _) in zip(changes, [*changes[1:], (UNTIL, "")], strict=True):
        line.span(164, Span(begin, end, *SAYS[what]))
    served = metrics.value("fallbacks_total", source="last_good")
    failed = metrics.value("calls_total", outcome="error")
    card.counted(
        268,
        [
            f'fallbacks_total{{source="last_good"}} +{served:g}',
            f'calls_total{{outcome="error"}} +{failed:g}',
        ],
    )
    return card.svg()
