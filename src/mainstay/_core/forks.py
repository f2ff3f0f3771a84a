"""Locks across `os.fork`: a child lacks its parent's other threads, but not what they locked."""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_all: "weakref.WeakKeyDictionary[Any, Callable[[Any], object]]" = weakref.WeakKeyDictionary()


def start_anew_after_fork(owner: T, start_anew: Callable[[T], object]) -> None:
    """Have every child call *start_anew* with *owner*, as long as that lives."""
    _all[owner] = start_anew


def freed(lock: "threading.RLock") -> "threading.RLock":
    """Give *lock*, or another one if a thread that is not here any more holds it."""
    if not lock.acquire(blocking=False):
        return threading.RLock()
    lock.release()
    return lock


def _start_all_anew() -> None:
    for owner, start_anew in tuple(_all.items()):
        start_anew(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_all_anew)
