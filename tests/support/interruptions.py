"""Signal handlers at every place where CPython may let one in.

That is after calls, at the start of a function and where a loop goes back.
`at_each_interruption` visits these points one after another, so that what a handler could do is
done at every one of them, and not only where a timer happens to hit.
"""

import dis
import itertools
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import mainstay
from support.examples import strides

SOURCES = str(Path(mainstay.__file__).parent)
CHECKED_AFTER = {"RESUME", "CALL", "CALL_FUNCTION_EX", "CALL_KW"}
CHECKED_BEFORE = {"JUMP_BACKWARD", "POP_JUMP_BACKWARD_IF_TRUE", "POP_JUMP_BACKWARD_IF_FALSE"}


@cache
def interruptions(code: CodeType) -> frozenset[int]:
    """Give the offsets of the instructions of *code* before which a handler may come in."""
    instructions = list(dis.get_instructions(code))
    after = {
        following.offset
        for each, following in itertools.pairwise(instructions)
        if each.opname in CHECKED_AFTER
    }
    return frozenset(after | {i.offset for i in instructions if i.opname in CHECKED_BEFORE})


def interrupted(point: int, handler: Callable[[], object], action: Callable[[], object]) -> bool:
    """Run *action*, with *handler* at its *point*-th interruption; say whether it has that many."""
    passed = -1

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal passed
        if not frame.f_code.co_filename.startswith(SOURCES):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in interruptions(frame.f_code):
            passed += 1
            if passed == point:
                handler()
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 asks for it before it starts to trace
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return passed >= point


def at_each_interruption(
    attempt: Callable[[], tuple[Callable[[], object], Callable[[], object], Callable[[], None]]],
    *,
    stride: int = 1,
) -> int:
    """Run an action with its handler at every interruption; check each time; count the points.

    In the edit profile of Hypothesis, later interruptions are visited in strides.

    Args:
        attempt: Makes, afresh for each point, the action, its handler, and the check.
        stride: How far apart later interruptions are at least, for an action that has thousands.
    """
    point = 0
    while True:
        action, handler, check = attempt()
        if not interrupted(point, handler, action):
            return point
        check()
        point += 1 if point < 20 else max(stride, strides())
