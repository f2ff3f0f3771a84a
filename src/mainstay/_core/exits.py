"""The end of a subinterpreter: threads that are left at that moment would end the whole process.

In the main interpreter nothing is done, since daemon threads end with the process, even if they
hang. A subinterpreter (mod_wsgi runs applications in them) first asks the owners of idle threads to
end them, and then waits for the threads of its policies.
"""

import atexit
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from mainstay._core.clock import monotonic

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds for which the end of a subinterpreter waits for threads at work."""

PREFIX = "mainstay-"
"""How the names of all threads begin."""

_AGAIN = 0.01

_owners: "weakref.WeakKeyDictionary[Any, Callable[[Any], object]]" = weakref.WeakKeyDictionary()


def end_with_subinterpreter(owner: T, end: Callable[[T], object]) -> None:
    """Call *end* with *owner*, if it still lives, when the subinterpreter ends.

    *end* has to end the idle threads of *owner*; it is called until all of them have ended.
    """
    _owners[owner] = end


def end_threads() -> None:
    """End all threads, busy ones as soon as they are idle, and wait for them."""
    until = monotonic() + PATIENCE
    while threads := [each for each in threading.enumerate() if each.name.startswith(PREFIX)]:
        if monotonic() > until:
            return
        for owner, end in tuple(_owners.items()):
            end(owner)
        threads[0].join(_AGAIN)


_is_main: Callable[[], bool] = getattr(threading, "_is_main_interpreter", lambda: True)
if not _is_main():
    atexit.register(end_threads)
