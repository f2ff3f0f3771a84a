"""What a call does about its run: the answer of the store in, an action out. Nothing here acts.

answer of the store     `on_busy`     `on_complete`     then
acquired                any           any               run
held                    raise         any               busy
held                    wait, return  any               wait, and ask again
finished                return        any               return the result, if it was held before
finished                any           return            return the result
finished                any           raise             complete
poisoned                any           any               poisoned
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from mainstay.stores.base import Acquired, Acquisition, Finished, Held

OnBusy: TypeAlias = Literal["raise", "wait", "return"]
OnComplete: TypeAlias = Literal["return", "raise", "rerun"]
OnCodeChange: TypeAlias = Literal["warn", "raise", "ignore"] | Callable[[Any], Any]
Action: TypeAlias = Literal["run", "busy", "wait", "return", "complete", "poisoned"]

SHORTEST_POLL = 0.02
LONGEST_POLL = 1.0


def action_on(
    answer: Acquisition, on_busy: OnBusy, on_complete: OnComplete, *, waited: bool
) -> Action:
    """Return what an answer of the store means under the policy: the table above."""
    if isinstance(answer, Acquired):
        return "run"
    if isinstance(answer, Held):
        return "busy" if on_busy == "raise" else "wait"
    if isinstance(answer, Finished):
        attached = waited and on_busy == "return"
        return "complete" if on_complete == "raise" and not attached else "return"
    return "poisoned"


def reruns(on_busy: OnBusy, on_complete: OnComplete, *, waited: bool) -> bool:
    """True if a finished run is to begin again; not for a caller who waited for its result."""
    return on_complete == "rerun" and not (waited and on_busy == "return")


def poll_wait(polls: int, lease_left: float) -> float:
    """Return the seconds until a held run is asked for again: growing, not past its lease."""
    wait = min(LONGEST_POLL, SHORTEST_POLL * 2.0 ** min(polls, 10))
    return max(SHORTEST_POLL, min(wait, lease_left))
