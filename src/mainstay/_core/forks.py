"""Locks across `os.fork`: a child lacks its parent's other threads, but not what they locked."""

import os
import threading
import weakref
from typing import Protocol


class Locked(Protocol):
    """What has a lock that calls take."""

    def _start_anew(self) -> None: ...


_all: "weakref.WeakSet[Locked]" = weakref.WeakSet()


def start_anew_after_fork(owner: Locked) -> None:
    """Have *owner* start anew in every child, as long as it lives."""
    _all.add(owner)


def freed(lock: "threading.RLock") -> "threading.RLock":
    """Give *lock*, or another one if a thread that is not here any more holds it."""
    if not lock.acquire(blocking=False):
        return threading.RLock()
    lock.release()
    return lock


def _start_all_anew() -> None:
    for owner in tuple(_all):
        owner._start_anew()  # noqa: SLF001 - hidden from users only


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_all_anew)
