"""A progress line for people: on a terminal, and nowhere else.

With tqdm installed (the extra `progress`) it is tqdm's bar, without it a line that is redrawn at
most ten times a second.
"""

import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from typing import Any

from mainstay._checkpoint.iteration import Iteration
from mainstay._core.clock import monotonic

_REDRAW_SECONDS = 0.1


def shown(items: Iterator[Any], iteration: Iteration) -> Iterator[Any]:
    """Yield *items*, and show how many are done."""
    update, close = bar(iteration)
    try:
        for item in items:
            yield item
            update(1)
    finally:
        close()


async def ashown(items: AsyncIterator[Any], iteration: Iteration) -> AsyncIterator[Any]:
    """Yield *items*, and show how many are done."""
    update, close = bar(iteration)
    try:
        async for item in items:
            yield item
            update(1)
    finally:
        close()


def bar(
    iteration: Iteration, *, shows: bool = True
) -> tuple[Callable[[int], object], Callable[[], object]]:
    """Return the functions that advance and end a bar; they do nothing unless it *shows*."""
    if not (shows and _is_terminal()):
        return lambda _count: None, lambda: None
    total = iteration.length
    try:
        tqdm = import_module("tqdm").tqdm
    except ImportError:
        plain = _Line(iteration.name, iteration.done, total)
        return plain.update, plain.close
    line = tqdm(total=total, initial=iteration.done, desc=iteration.name, unit="item")
    if iteration.done:
        line.set_postfix(resumed_at=iteration.done)
    return line.update, line.close


def _is_terminal() -> bool:
    """True if there is a stderr, open, and people at its other end."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


class _Line:
    """One line: done, left where the total is known, and where the run was resumed."""

    def __init__(self, name: str, resumed_at: int, total: int | None) -> None:
        self._name = name
        self._resumed_at = resumed_at
        self._total = total
        self._done = resumed_at
        self._drawn = 0.0

    def update(self, count: int) -> None:
        self._done += count
        if monotonic() - self._drawn >= _REDRAW_SECONDS:
            self._draw()

    def close(self) -> None:
        self._draw("\n")

    def _draw(self, end: str = "") -> None:
        self._drawn = monotonic()
        left = "" if self._total is None else f", {self._total - self._done} left"
        resumed = f", resumed at {self._resumed_at}" if self._resumed_at else ""
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            sys.stderr.write(f"\r{self._name}: {self._done} done{left}{resumed}\x1b[K{end}")
            sys.stderr.flush()
