"""The states of a circuit breaker; that they are these, a random walk of a real one says."""

import contextlib
import random
from collections.abc import Callable, Iterable

from card import NOTE, Card
from walk import Change, Step, changes, check

from mainstay import CircuitBreaker, CircuitOpenError, Detect
from mainstay._metrics.schema import BREAKER_STATES
from mainstay.testing import FakeClock

DETECT = Detect()
FROM_TO: dict[Change, tuple[str, ...]] = {
    ("closed", "open"): (f"{DETECT.consecutive} failures in a row,", "or too many of them"),
    ("open", "half_open"): (f"after {DETECT.eject_for / 2:g} to {DETECT.eject_for:g} s",),
    ("half_open", "open"): ("fails: twice as long,", f"up to {DETECT.max_eject / 60:g} minutes"),
    ("half_open", "closed"): ("succeeds: all calls again, and one failure opens it at once",),
    ("open", "closed"): (".close()",),
}


def start(look: Callable[[], None]) -> tuple[list[Step], Callable[[], Iterable[str]]]:
    """Return the steps of a walk, and what tells the state."""
    breaker = CircuitBreaker("mail", on=ConnectionError)

    def call(fails: bool) -> Step:  # noqa: FBT001 - made here only
        def body() -> None:
            look()
            if fails:
                raise ConnectionError

        def step(_clock: FakeClock, _numbers: random.Random) -> None:
            with contextlib.suppress(ConnectionError, CircuitOpenError):
                breaker.call(body)

        return step

    steps: list[Step] = [
        *[call(True)] * 6,
        *[call(False)] * 4,
        *[lambda clock, numbers: clock.advance(numbers.choice((1, 10)))] * 2,
        lambda _clock, numbers: numbers.choice((breaker.open, breaker.close))(),
    ]
    return steps, lambda: [breaker.state]


def draw() -> str:
    """Return the picture."""
    check(FROM_TO, set(changes(start)), BREAKER_STATES)
    card = Card(
        "The states of a circuit breaker",
        "It is closed, and calls pass, until too many fail. Then it is open and refuses calls at "
        "once. After some seconds it is half open: one call is the trial. If that succeeds it is "
        "closed again, else open for twice as long.",
        height=268,
    )
    width, top, middle = 130.0, 104.0, 132.0
    closed, opened, half = 40.0, 315.0, 590.0
    between, behind = (closed + width + opened) / 2, (opened + width + half) / 2
    card.arrow((closed + width, middle - 10), (opened, middle - 10))
    card.lines(between, middle - 34, FROM_TO["closed", "open"], NOTE, "middle")
    card.arrow((opened + width, middle - 10), (half, middle - 10))
    card.lines(behind, middle - 18, FROM_TO["open", "half_open"], NOTE, "middle")
    card.arrow((half, middle + 12), (opened + width, middle + 12))
    card.lines(behind, middle + 30, FROM_TO["half_open", "open"], NOTE, "middle")
    card.arrow((opened, middle + 12), (closed + width, middle + 12))
    card.lines(between, middle + 30, FROM_TO["open", "closed"], "dim-text mono", "middle")
    up, down = half + width / 2, closed + width / 2
    card.arrow((up, top), (up, 66), (down, 66), (down, top))
    card.lines(opened + width / 2, 60, FROM_TO["half_open", "closed"], NOTE, "middle")
    card.box(closed, top, width, "ok", "● closed", "calls pass")
    card.box(opened, top, width, "fail", "✗ open", "refused at once")
    card.box(half, top, width, "cover", "◐ half open", "one trial call")
    card.lines(
        28,
        212,
        ["An open breaker raises CircuitOpenError, whose retry_after says for how long."],
        NOTE,
    )
    card.counted(248, ["breaker_transitions_total", 'give_ups_total{reason="open"}'])
    return card.svg()
