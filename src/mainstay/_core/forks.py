"""What happens around `os.fork`: the one registry of everything that a fork would break.

A child process has none of its parent's other threads, but all the locks that they held, and the
files and sockets that they used. The owners of locks, threads and connections register here what to
do before and after a fork.
"""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
Hook = Callable[[], object]

_owners: "weakref.WeakKeyDictionary[Any, Callable[[Any], object]]" = weakref.WeakKeyDictionary()


_before: list[Hook] = []
_in_parent: list[Hook] = []
_in_child: list[Hook] = []


def reset_after_fork(owner: T, reset: Callable[[T], object]) -> None:
    """Have every child call *reset* with *owner*, as long as that lives."""
    _owners[owner] = reset


def around_forks(
    *, before: Hook | None = None, in_parent: Hook | None = None, in_child: Hook | None = None
) -> None:
    """Have these called around every fork of this process, for good."""
    for hooks, hook in ((_before, before), (_in_parent, in_parent), (_in_child, in_child)):
        if hook is not None:
            hooks.append(hook)


def unlocked_copy(lock: "threading.RLock") -> "threading.RLock":
    """Return *lock*, or a new lock if a thread that the child does not have holds it."""
    if not lock.acquire(blocking=False):
        return threading.RLock()
    lock.release()
    return lock


def _before_fork() -> None:
    for hook in reversed(_before):
        hook()


def _after_in_parent() -> None:
    for hook in _in_parent:
        hook()


def _after_in_child() -> None:
    for hook in _in_child:
        hook()
    for owner, reset in tuple(_owners.items()):
        reset(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
