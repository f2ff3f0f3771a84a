"""Which step of a run is going on around the code that asks.

That goes with the context: what a step calls is inside it, tasks begun there included, and what
runs beside it in other tasks is not. A run that is called inside a step of another run has only
steps of its own around it.
"""

from contextvars import ContextVar, Token
from typing import TypeAlias

from mainstay._checkpoint.steps import Step, Steps

_Chain: TypeAlias = tuple[Steps, Step, "_Chain"] | None
"""The steps that are going on, of all runs, the innermost first."""

_CHAIN: ContextVar[_Chain] = ContextVar("mainstay_steps", default=None)


def enter(steps: Steps, step: Step) -> Token[_Chain]:
    """Take in that everything called from now on is inside *step*, up to `leave`."""
    return _CHAIN.set((steps, step, _CHAIN.get()))


def leave(entered: Token[_Chain]) -> None:
    """Take in that a step is not around any more."""
    try:
        _CHAIN.reset(entered)
    except ValueError:  # whoever closes a coroutine does so in a context that was never inside
        return


def step_around(steps: Steps) -> Step | None:
    """Find the innermost step of a run that the caller is inside of."""
    chain = _CHAIN.get()
    while chain is not None:
        owner, step, chain = chain
        if owner is steps:
            return step
    return None
