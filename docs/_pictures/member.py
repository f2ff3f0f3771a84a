"""The states of a pool's member; that they are these, a random walk of a real pool says."""

import contextlib
from collections.abc import Callable, Iterable

from card import NOTE, Card
from walk import Change, Step, changes, check

from mainstay import Detect, Failback, FailoverPool, MainstayError, Member
from mainstay._metrics.schema import MEMBER_STATES

NAMES = "ahc"
DETECT = Detect()
FROM_TO: dict[Change, tuple[str, ...]] = {
    ("active", "ejected"): (f"{DETECT.consecutive} failures in a row,", "or too many of them"),
    ("active", "failing"): ("as much;", "nobody", "else left"),
    ("failing", "active"): (f"{DETECT.consecutive} successes",),
    ("failing", "ejected"): ("fails on, and", "another can serve"),
    ("ejected", "failing"): ("nobody", "else left"),
    ("ejected", "trial"): (f"after {DETECT.eject_for / 2:g} to {DETECT.eject_for:g} s",),
    ("trial", "ejected"): ("fails: twice as long,", f"up to {DETECT.max_eject / 60:g} minutes"),
    ("trial", "active"): ("succeeds, and nobody else serves",),
    ("trial", "standby_hot"): (
        f"succeeds, and others serve: rests for {Failback().grace:g} s, then its share grows",
    ),
    ("standby_hot", "active"): ("an active one is", "lost, or the rest", "is over"),
    ("active", "standby_hot"): (),
    ("standby_cold", "active"): ("an active one is lost, and no hot one is left",),
    ("active", "standby_cold"): (),
    **{(state, "draining"): () for state in MEMBER_STATES if state not in ("draining", "trial")},
    **{("draining", state): () for state in MEMBER_STATES if state not in ("draining", "trial")},
}

AT_ONCE = (
    ("ejected", "trial", "active"),
    ("ejected", "trial", "standby_hot"),
    ("ejected", "trial", "active", "standby_cold"),
    ("failing", "active", "standby_hot"),
    ("standby_hot", "active", "failing"),
    ("standby_hot", "active", "ejected"),
)


def start(look: Callable[[], None]) -> tuple[list[Step], Callable[[], Iterable[str]]]:
    """Return the steps of a walk, and what tells the states of the members."""
    broken: set[str] = set()
    pool = FailoverPool(
        "db",
        [
            Member("a", open=lambda: "a"),
            Member("h", open=lambda: "h", standby="hot"),
            Member("c", open=lambda: "c", standby="cold"),
        ],
        on=ConnectionError,
    )

    def use(name: str) -> None:
        look()
        if name in broken:
            raise ConnectionError

    def call() -> None:
        with contextlib.suppress(ConnectionError, MainstayError):
            pool.call(use)

    steps: list[Step] = [
        *[lambda _clock, _numbers: call()] * 6,
        *[lambda clock, numbers: clock.advance(numbers.choice((1, 20)))] * 2,
        lambda _clock, numbers: broken.add(numbers.choice(NAMES)),
        lambda _clock, numbers: broken.discard(numbers.choice(NAMES)),
        lambda _clock, numbers: pool.drain(numbers.choice(NAMES)),
        lambda _clock, _numbers: pool.release(),
    ]
    return steps, lambda: [member.state for member in pool.status().members]


def draw() -> str:
    """Return the picture."""
    check(FROM_TO, set(changes(start)), MEMBER_STATES, AT_ONCE)
    card = Card(
        "The states of a pool's member",
        "An active member that fails too much is ejected. After some seconds one call is its "
        "trial; if that succeeds it rests as a hot standby while others serve, and is then active "
        "again. The last member that is left is not ejected, but failing. Standbys become active "
        "when an active member is lost. A member that is drained gets no calls.",
        height=464,
    )
    width, left, centre, right = 136.0, 40.0, 312.0, 584.0
    one, two, three = 104.0, 236.0, 354.0
    # Health, along the first row.
    card.arrow((left + width, one + 18), (centre, one + 18))
    card.lines(244, one - 6, FROM_TO["active", "ejected"], NOTE, "middle")
    card.arrow((centre + width, one + 18), (right, one + 18))
    card.lines(516, one + 10, FROM_TO["ejected", "trial"], NOTE, "middle")
    card.arrow((right, one + 40), (centre + width, one + 40))
    card.lines(516, one + 58, FROM_TO["trial", "ejected"], NOTE, "middle")
    card.arrow((650, one), (650, 66), (110, 66), (110, one))
    card.lines(380, 60, FROM_TO["trial", "active"], NOTE, "middle")
    # The last one that is left.
    card.arrow((left + width, one + 40), (228, one + 40), (228, two + 16), (centre, two + 16))
    card.lines(234, one + 72, FROM_TO["active", "failing"], NOTE)
    card.arrow((centre, two + 38), (206, two + 38), (206, one + 48), (left + width, one + 48))
    card.lines(214, two + 54, FROM_TO["failing", "active"], NOTE)
    card.arrow((400, two), (400, one + 52))
    card.lines(408, one + 98, FROM_TO["failing", "ejected"], NOTE)
    card.arrow((360, one + 52), (360, two))
    card.lines(352, one + 98, FROM_TO["ejected", "failing"], NOTE, "end")
    # Standbys, below the active ones.
    card.arrow((60, two), (60, one + 52))
    card.arrow((76, one + 52), (76, two))
    card.lines(84, one + 78, FROM_TO["standby_hot", "active"], NOTE)
    card.arrow((left, three + 18), (14, three + 18), (14, one + 18), (left, one + 18))
    card.arrow((left, one + 34), (26, one + 34), (26, three + 34), (left, three + 34))
    card.lines(190, three + 30, FROM_TO["standby_cold", "active"], NOTE)
    card.arrow((right + width, one + 26), (740, one + 26), (740, 328), (110, 328), (110, two + 52))
    card.lines(400, 322, FROM_TO["trial", "standby_hot"], NOTE, "middle")
    # By hand, from and to whatever else.
    card.arrow((500, two + 16), (right, two + 16))
    card.arrow((right, two + 38), (500, two + 38))
    card.text(540, two + 10, "drain()", "dim-text mono", "middle")
    card.text(540, two + 54, "release()", "dim-text mono", "middle")
    card.text(494, two + 30, "any", NOTE, "end")
    card.box(left, one, width, "ok", "● active", "gets calls")
    card.box(centre, one, width, "cover", "✗ ejected", "gets no call")
    card.box(right, one, width, "cover", "◐ trial", "one call only")
    card.box(left, two, width, "standby", "○ standby hot", "open, and waits")
    card.box(centre, two, width, "cover", "▲ failing", "serves on")
    card.box(right, two, width, "cover", "▽ draining", "no new calls")
    card.box(left, three, width, "idle", "◌ standby cold", "not open")
    card.counted(444, ["member_state", "ejections_total", "failovers_total"])
    return card.svg()
