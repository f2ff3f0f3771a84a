"""Marks in the context that code runs inside the `fn` of a `cp.map`, where `cp` is refused.

The calls of `fn` have no order, and their results go to the loop. Without the mark, an executor
that calls `fn` at once, or in a forked process, would let `fn` use `cp`.
"""

import contextlib
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, TypeAlias

_Runs: TypeAlias = tuple[weakref.ref[Any], ...]

_AROUND: ContextVar[_Runs] = ContextVar("mainstay_inside_fn", default=())


@contextlib.contextmanager
def inside_fn_of(run: object) -> Iterator[None]:
    """Have what is called from here, and tasks that are begun here, be inside the `fn` of *run*."""
    entered = _AROUND.set((*_AROUND.get(), weakref.ref(run)))
    try:
        yield
    finally:
        _AROUND.reset(entered)


def is_inside_fn_of(run: object) -> bool:
    """True if the calling code is called for an item of a `cp.map` of *run*."""
    around = _AROUND.get()
    return bool(around) and any(each() is run for each in around)
