"""What a policy goes through: the changes of state that a random walk of a real one has shown.

The pictures of state machines draw these. `check` refuses a picture that has an arrow which was
never seen, lacks one that was, or lacks a state.
"""

import random
from collections.abc import Callable, Collection, Iterable
from functools import cache
from itertools import pairwise

from mainstay.testing import FakeClock, recorded

Change = tuple[str, str]
Step = Callable[[FakeClock, random.Random], None]
STEPS = 1500


@cache
def changes(
    start: Callable[[Callable[[], None]], tuple[list[Step], Callable[[], Iterable[str]]]],
) -> frozenset[Change]:
    """Return the changes of state of a random walk.

    Args:
        start: Makes the policy. Takes what is to be called wherever its state may have changed,
            and returns the steps that a walk is made of, and what tells the states.
    """
    found: set[Change] = set()
    last: list[str] = []

    def look() -> None:
        nonlocal last
        now = list(states())
        found.update((was, state) for was, state in zip(last, now, strict=False) if was != state)
        last = now

    numbers = random.Random(7)
    random.seed(7)
    with recorded(), FakeClock() as clock:
        steps, states = start(look)
        for _ in range(STEPS):
            numbers.choice(steps)(clock, numbers)
            look()
    return frozenset(found)


def check(
    drawn: Collection[Change],
    seen: Collection[Change],
    states: Collection[str],
    at_once: Iterable[tuple[str, ...]] = (),
) -> None:
    """Refuse a picture that does not show what was seen.

    Args:
        drawn: The arrows.
        seen: The changes.
        states: Those that there are.
        at_once: Ways along several arrows that may be gone within one call.

    Raises:
        ValueError: If an arrow was never seen; if a change was seen that is neither an arrow nor
            one of these ways; or if a state has no arrow.
    """
    steps = {step for way in at_once for step in pairwise(way)}
    wrong = {
        "never seen": set(drawn) - set(seen),
        "not drawn": (set(seen) - {(way[0], way[-1]) for way in at_once} | steps) - set(drawn),
        "without an arrow": set(states) - {state for change in drawn for state in change},
    }
    if any(wrong.values()):
        raise ValueError(f"the picture does not show what is: {wrong}")
