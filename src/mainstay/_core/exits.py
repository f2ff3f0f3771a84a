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
    """Have *end* called with *owner*, if that lives then, and again until its threads have ended.

    It is to end those that wait for work.
    """
    _owners[owner] = end


def end_threads() -> None:
    """Have all threads end, those at work as soon as they wait for more, and wait for them."""
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
