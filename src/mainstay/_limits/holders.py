"""Finds out if a call would wait for a place of a bulkhead that its own caller has.

    the caller has its place                     it is found by
    by a block, or after a wait                  `HeldPlace`, which its context has
    on the fast path, where nobody notes it     the frame of what took it, below the caller's

A task that the caller has started is not the caller, and may wait.
"""

import sys
from asyncio import Task, current_task
from contextvars import ContextVar
from inspect import CO_COROUTINE
from operator import length_hint
from threading import get_ident
from typing import TYPE_CHECKING, Any

from mainstay._core.functions import running_loop
from mainstay._limits.places import Permits, Places

if TYPE_CHECKING:
    from types import FrameType


class HeldPlace:
    """A place that a call has.

    Attributes:
        places: Where it is from; None once it is given back.
        permits: Where it is to be given back.
        outer: What the code around the call has.
        in_flight: How many had one when it was taken, itself included.
        holder: The task that has it, or the number of the thread outside tasks.
    """

    __slots__ = ("holder", "in_flight", "outer", "permits", "places")

    def __init__(
        self,
        places: Places,
        permits: Permits,
        outer: "HeldPlace | None",
        in_flight: int,
        holder: object,
    ) -> None:
        self.places: Places | None = places
        self.permits: Permits = permits
        # Those that are over are left out, or tasks that start each other would make a long chain.
        done = outer is not None and outer.places is None
        self.outer: HeldPlace | None = outer.in_force() if outer is not None and done else outer
        self.in_flight: int = in_flight
        self.holder: object = holder

    def in_force(self) -> "HeldPlace | None":
        """Return this one, or the next around it that is not given back."""
        held: HeldPlace | None = self
        while held is not None and held.places is None:
            held = held.outer
        return held

    def give_back(self) -> None:
        """Free the place, once."""
        places = self.places
        if places is not None:
            self.places = self.holder = None
            self.permits.append(None)  # at once: a signal handler may come in at each other call
            if places.busy:
                places.settle()
        if held_here() is self:
            set_held(self.outer)


_HELD: ContextVar[HeldPlace | None] = ContextVar("mainstay_bulkhead", default=None)

held_here = _HELD.get
set_held = _HELD.set


def holder_here() -> object:
    """Return the task that runs here, or the number of the thread."""
    return _task_or_none() or get_ident()


def would_wait_for_itself(places: Places) -> bool:
    """True if the code that runs here is called by what has one of *places*."""
    task = _task_or_none()
    return (
        (task is not None and _is_held_by(places, task))
        or _is_held_by(places, get_ident())
        or _is_called_by_holder(places.permits, task)
    )


def _task_or_none() -> "Task[Any] | None":
    event_loop = running_loop()
    return None if event_loop is None else current_task(event_loop)


def _is_held_by(places: Places, holder: object) -> bool:
    held = held_here()
    while held is not None and (held.places is not places or held.holder != holder):
        held = held.outer
    return held is not None


def _is_called_by_holder(permits: Permits, task: "Task[Any] | None") -> bool:
    """True if the code that runs here is called by a function that has a place on the fast path.

    Such a call leaves no trace of who has its place, since hardly anybody asks: its frame is below
    that of the code that does, and has a variable named `places_taken`. A coroutine's counts only
    in its own task, below whose frames there may be those of the code that made it.

    Args:
        permits: Where the place is to be given back.
        task: What runs here, or None.
    """
    first = None if task is None else getattr(task.get_coro(), "cr_frame", None)
    in_task = True
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - what a debugger would ask
    while frame is not None:
        if (
            _VARIABLE in frame.f_code.co_varnames
            and _has(frame.f_locals.get(_VARIABLE), permits)
            and (in_task or not frame.f_code.co_flags & CO_COROUTINE)
        ):
            return True
        if frame is first:
            in_task = False
        frame = frame.f_back
    return False


_VARIABLE = "places_taken"
"""The name of a variable of functions that have a place on a fast path: where that is to be given
back; or a list of what the layers of a pipeline have taken, with a tuple for each bulkhead: the
same, the place, which has a length until it is given back, and more."""


def _has(taken: object, permits: Permits) -> bool:
    if isinstance(taken, list):
        places = (each for each in taken if isinstance(each, tuple) and each)
        return any(each[0] is permits and length_hint(each[1]) for each in places)
    return taken is permits
