"""How a loop was left: by `break`, or by an exception that is still on its way.

An iterator cannot see that: it is let go of in both cases. But whoever lets go of it does so at an
instruction, and a traceback says at which instruction each frame was left.
"""

import inspect
import sys
from types import FrameType
from typing import TypeAlias

Way: TypeAlias = frozenset[tuple[int, int]]
"""Frames by their identity, with the instruction that each was at."""

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def way_out(frame: FrameType | None) -> Way:
    """Say where *frame* is; if it is that of a generator, where whoever it works for is, too."""
    way = []
    while frame is not None:
        way.append((id(frame), frame.f_lasti))
        frame = frame.f_back if frame.f_code.co_flags & _GENERATOR else None
    return frozenset(way)


def is_on_its_way(way: Way) -> bool:
    """Whether the exception that is being handled, or one before it, was raised there."""
    error, seen = sys.exception(), set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        trace = error.__traceback__
        while trace is not None:
            if (id(trace.tb_frame), trace.tb_lasti) in way:
                return True
            trace = trace.tb_next
        error = error.__context__
    return False
