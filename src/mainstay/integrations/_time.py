"""The time left, as clients ask for it: at each attempt, and at each piece of a body.

It is asked for each time, in the context of the code that asks: a body may be read in another block
than its request was made in.
"""

import math
from collections.abc import Awaitable
from typing import TypeVar

from mainstay._core.clock import SYSTEM
from mainstay._core.context import block_context, current_context, process_contexts
from mainstay._core.interrupts import is_interrupted_in_time, limited
from mainstay.errors import DeadlineExpiredError

R = TypeVar("R")


def has_deadline() -> bool:
    """True if there may be a deadline; what is asked where nothing else has to be."""
    return bool(process_contexts) or block_context() is not None


def time_left(component: str) -> float:
    """Return the seconds left, which are above 0; infinity without a deadline.

    Raises:
        DeadlineExpiredError: If there are none.
    """
    left = current_context().left()
    if left <= 0:
        raise DeadlineExpiredError(component)
    return left


def can_be_watched(left: float) -> bool:
    """True if there is a deadline, in seconds that pass by themselves: no `FakeClock`'s do."""
    return left < math.inf and current_context().clock is SYSTEM


def is_over() -> bool:
    """True if no time is left."""
    return current_context().left() <= 0


async def until_deadline(work: Awaitable[R], component: str) -> R:
    """Await *work* as long as there is time.

    Raises:
        DeadlineExpiredError: When the time is over; *work* is then cancelled. Within an
            ``async with deadline`` it is the block that does so, and raises.
    """
    if is_interrupted_in_time():
        return await work
    context = current_context()
    left = context.left()
    return await limited(
        context.clock,
        None if left == math.inf else max(0.0, left),
        work,
        lambda _seconds: DeadlineExpiredError(component),
    )
