"""`MapArguments`: the checked arguments of a `cp.map`."""

import os
import sys
from collections.abc import AsyncIterable, Callable
from concurrent.futures import Executor
from typing import Any

import attrs

from mainstay._checkpoint.loops import check_iteration, is_trusted
from mainstay._checkpoint.run import Run
from mainstay._checkpoint.spread import Spread
from mainstay._checkpoint.window import Window
from mainstay._core.arguments import to_count, to_flag
from mainstay._core.functions import Kind, kind_of, name_of

_LEAST_AHEAD = 16
_AHEAD_PER_CPU = 4


@attrs.frozen(eq=False, kw_only=True)
class MapArguments:
    """The arguments of one `cp.map`."""

    fn: Callable[[Any], Any]
    source: Any
    key: Callable[[Any], Any] | None
    executor: Executor | None
    ahead: int | None
    ordered: bool
    name: str | None
    progress: bool

    def check(self, run: Run) -> None:
        """Raise unless all of it is as it has to be, sync or async, and *run* can be used."""
        if not callable(self.fn):
            raise TypeError(f"`fn` must be a function from an item to its result, not {self.fn!r}")
        kind = kind_of(self.fn)
        if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
            raise TypeError(f"`fn` must return its result, and {name_of(self.fn)} is a generator")
        check_iteration(self.source, self.key, self.name, self.progress)
        if not isinstance(self.executor, Executor | None):
            raise TypeError(
                f"`executor` must be a concurrent.futures.Executor, such as a ThreadPoolExecutor, "
                f"or what `Client.get_executor()` of Dask returns, not {self.executor!r}"
            )
        if self.executor is not None and kind is Kind.ASYNC:
            raise TypeError(
                f"{name_of(self.fn)} is async, and an executor would not await it; in async code "
                f"leave `executor` out"
            )
        self._check_fn_can_be_sent()
        if self.ahead is not None:
            to_count(self.ahead, "ahead")
        to_flag(self.ordered, "ordered")
        run.check_usable("cp.map")

    def _check_fn_can_be_sent(self) -> None:
        """Raise if the executor pickles the function with each item, and it cannot be pickled."""
        process = sys.modules.get("concurrent.futures.process")
        if process is None or not isinstance(self.executor, process.ProcessPoolExecutor):
            return
        from multiprocessing.reduction import (  # noqa: PLC0415 - it is there with the executor
            ForkingPickler,
        )

        try:
            ForkingPickler.dumps(self.fn)
        except Exception as error:
            raise TypeError(
                f"{name_of(self.fn)} cannot be pickled, and a ProcessPoolExecutor sends it to "
                f"other processes: {error}; give a function from the top level of a module, or an "
                f"executor of loky, which sends others, too"
            ) from error

    def sync_executor(self) -> Executor:
        """Return the executor.

        Raises:
            TypeError: If there is none, or something is async.
        """
        if kind_of(self.fn) is Kind.ASYNC:
            raise TypeError(f"{name_of(self.fn)} is async; use `cp.map` in an async function")
        if isinstance(self.source, AsyncIterable):
            raise TypeError("`source` is async; iterate over it in an async function")
        if self.executor is None:
            raise TypeError(
                "`executor` is needed: give a ThreadPoolExecutor, a ProcessPoolExecutor, or any "
                "other concurrent.futures.Executor; only async functions can do without one"
            )
        return self.executor

    def begin(self, run: Run) -> Spread | None:
        """Begin the iteration where it was when it was saved; None if it was left by `break`."""
        run.check_usable("cp.map")
        trusted = is_trusted(self.source)
        spread = run.progress.begin_iteration(self.key, self.name, trusted=trusted, kind=Spread)
        if spread is not None:
            spread.ordered = self.ordered
            run.progress.out_of_order |= not self.ordered
        return spread

    def window(self, spread: Spread) -> Window:
        """Return what decides which items are under way."""
        ahead = self.ahead or max(_LEAST_AHEAD, _AHEAD_PER_CPU * (os.cpu_count() or 1))
        return Window(ahead, self.ordered, spread.first)
