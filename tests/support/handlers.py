"""A stand-in for a signal handler, which comes in at a place of a call that the test names.

Python lets a handler in where a function begins, where a call of something in C or of a class has
ended, and where a loop goes back. A trace function sees these places in the same order each time:
also in the standard library, whose locks and blocks are part of ours. `interruptions` has those in
the code of mainstay alone.
"""

import dis
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

_BACK = {dis.opmap[each] for each in dis.opmap if "JUMP_BACKWARD" in each}
_CALLS = {dis.opmap[each] for each in ("CALL", "CALL_FUNCTION_EX")}
_MAKES = ("__init__", "__new__")


class Handler:
    """Comes in at one place of a call, counted from 1; at none if that is 0.

    Attributes:
        places: How many places there were so far.
        where: The place where it came in.
    """

    def __init__(self, act: Callable[[], object], at: int) -> None:
        self.act = act
        self.at = at
        self.places = 0
        self.where = ""
        self._before: dict[FrameType, int] = {}
        self._python: set[FrameType] = set()

    def call(self, fn: Callable[[], object]) -> None:
        """Call a function, and come into it at the place, if it has so many."""
        sys.setprofile(self._profile)
        sys._getframe().f_trace_opcodes = True  # Python 3.12 asks for it before it starts to trace
        sys.settrace(self._enter)
        try:
            fn()
        finally:
            sys.settrace(None)
            sys.setprofile(None)
            self._before.clear()
            self._python.clear()

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if event in ("c_return", "c_exception"):
            self._python.discard(frame)

    def _enter(self, frame: FrameType, _event: str, _arg: object) -> Any:
        if frame.f_code is Handler.call.__code__:
            return None
        if frame.f_back is not None and frame.f_code.co_name not in _MAKES:
            self._python.add(frame.f_back)
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        self._comes_in(frame)
        return self._trace

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "opcode":
            before = self._before.get(frame)
            code = frame.f_code.co_code[frame.f_lasti]
            self._before[frame] = code
            if before in _BACK or (before in _CALLS and frame not in self._python):
                self._comes_in(frame)
            if code in _CALLS:
                self._python.discard(frame)
        elif event == "return":
            self._before.pop(frame, None)
            self._python.discard(frame)
        return self._trace

    def _comes_in(self, frame: FrameType) -> None:
        self.places += 1
        if self.places == self.at:
            self.where = _place(frame)
            self.act()


class TimedHandler:
    """A real handler, which comes in after a time, if the call takes so long.

    Attributes:
        where: The place where it came in.
    """

    def __init__(self, act: Callable[[], object], seconds: float) -> None:
        self.act = act
        self.seconds = seconds
        self.where = ""
        self._armed = False

    def call(self, fn: Callable[[], object]) -> None:
        """Call a function, and come into it when the time is over."""
        before = signal.signal(signal.SIGALRM, self._comes_in)
        try:
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, self.seconds)
            fn()
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _comes_in(self, _signal: int, frame: FrameType | None) -> None:
        if self._armed and frame is not None:
            self._armed = False
            self.where = _place(frame)
            self.act()


def _place(frame: FrameType) -> str:
    name = Path(frame.f_code.co_filename).name
    return f"{name}:{frame.f_lineno} {frame.f_code.co_name}"
