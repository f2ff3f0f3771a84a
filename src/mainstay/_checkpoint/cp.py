"""`Checkpoint` and `AsyncCheckpoint`: the `cp` that users get inside a run."""

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeAlias, TypeVar, overload

from mainstay._checkpoint import loops, results
from mainstay._checkpoint.keys import checked_text
from mainstay._checkpoint.map_arguments import MapArguments
from mainstay._checkpoint.run import Run
from mainstay._checkpoint.steps import Step
from mainstay._core.sharing import Shared
from mainstay.errors import RunCompleteError

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

AsyncSource: TypeAlias = (
    Iterable[T]
    | AsyncIterable[T]
    | Callable[[Any], Iterable[T] | AsyncIterable[T] | Awaitable[Iterable[T]]]
)
"""What async code can iterate over."""


class _CheckpointBase(Shared):
    """What sync and async checkpoints have in common: everything that does not wait."""

    __slots__ = ("_run",)
    _IN_PLACE_OF_COPIES = "pass on values, and save what comes back where the run is"

    def __init__(self, run: Run) -> None:
        self._run = run

    def __repr__(self) -> str:
        run = self._run
        return f"<{type(self).__name__} of run {run.id.key!r} of {run.component}>"

    @property
    def key(self) -> str:
        """The key of the run."""
        return self._run.id.key

    @property
    def name(self) -> str:
        """The name of the run in the store; "run" for a block without a name."""
        return self._run.id.name

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1; saved before the function starts."""
        return self._run.record.attempt

    @property
    def resumed(self) -> bool:
        """True if this attempt continues a run that was interrupted."""
        return self._run.resumed

    @property
    def complete(self) -> bool:
        """True if the run had already ended; then nothing more can be saved."""
        return self._run.complete

    @property
    def token(self) -> int | None:
        """The fencing token, which grows with every attempt; None if the run had ended before.

        Send the token with each write to another system. A system that remembers the highest token,
        and refuses lower ones, is safe from writes of an attempt whose run was taken over.
        """
        lease = self._run.hold.lease
        return lease.token if lease else None

    @property
    def lost(self) -> bool:
        """True if another owner has taken the run over; this attempt can save nothing more."""
        return self._run.hold.lost

    def state(self, default: S) -> S:
        """Return the state of the run as it was last saved; *default* before the first save.

        Change the object in place. State and cursor are saved together, at the boundaries between
        items, so they always belong to the same moment. Code outside of items runs again on a
        resume, with its changes of the state. Further calls return the same object.

        Args:
            default: The first state, which can be changed in place: an attrs or dataclass instance
                that is not frozen, a dict, a list, a set, a `Counter`, `defaultdict`,
                `OrderedDict` or `deque`. On a resume, only its type and the types that its fields
                name are built from the saved data, besides those of `register_type`.

        Raises:
            TypeError: If *default* cannot be changed in place.
            CheckpointError: Inside a step of the run.
            UnsaveableValueError: If the state cannot be saved.
            UnknownTypeError: If the saved data has a type that may not be built.
            CodeChangedError: If the type no longer accepts the saved data, or another type was
                saved.

        Example:
            >>> from mainstay import checkpoint_run
            >>> with checkpoint_run("state", store="memory://docs") as cp:
            ...     totals = cp.state({"rows": 0})
            ...     for row in cp.iterate("abc"):
            ...         totals["rows"] += 1
            >>> totals
            {'rows': 3}
        """
        self._run.check_usable("cp.state")
        state: S = self._run.progress.state.value(default)
        return state

    def idempotency_key(self, item: object = None) -> str:
        """Return a key for the side effects of an item, which is the same in every attempt.

        An item that is in progress when the process dies runs again. Send this key with each
        request to another system, so that the system can ignore a request that it has seen.

        Args:
            item: The item in progress, or an item in progress of an outer iteration; None for the
                innermost item. If the iteration has a `key`, any of its items. Outside of items,
                any value that can be saved; None for the run.

        Returns:
            32 hexadecimal digits. Different runs have different keys, and so has a run after it was
            forgotten or rerun.

        Raises:
            CheckpointError: If the iteration has no `key` and *item* is not the one in progress.
            UnsaveableValueError: If *item* has no exact form, and there is no `key`.
        """
        return self._run.idempotency_key(item)

    def _begin_step(self, name: object, fn: Callable[..., Any]) -> Step:
        if not (isinstance(name, str) and name):
            raise TypeError(f"`name` of a step must be a str that is not empty, not {name!r}")
        checked_text(name, "`name` of a step")
        if not callable(fn):
            raise TypeError(f"`fn` of step {name!r} must be callable, not {fn!r}")
        run = self._run
        run.check_usable("cp.step")
        step = run.begin_step(name)
        if run.complete and not step.has_result:
            raise RunCompleteError(run.component, run.id.key)
        return step

    def _replay(self, step: Step, fn: Callable[..., Any]) -> Any:
        self._run.recorder.step("replayed")
        return self._run.progress.steps.replay(step, fn)


class Checkpoint(_CheckpointBase):
    """The `cp` of a checkpointed function: its run, with state, iterations and steps.

    A function that `checkpointed` wraps gets it as the first argument; `with checkpoint_run(...)`
    enters it. Use it in the thread of the run only.

    Metrics:
        `checkpoint_items_total`, `checkpoint_items_expected`, `checkpoint_steps_total`, and for
        each save `checkpoint_saves_total`, `checkpoint_save_duration_seconds` and
        `checkpoint_size_bytes`.

    Example:
        >>> from mainstay import Checkpoint, checkpointed
        >>> def total(cp: Checkpoint, month: str, amounts: list[int]) -> int:
        ...     sums = cp.state({"amount": 0})
        ...     for amount in cp.iterate(amounts):
        ...         sums["amount"] += amount
        ...     return cp.step("publish", lambda: sums["amount"])
        >>> checkpointed(store="memory://", key="{month}").call(total, "May", [1, 2, 2])
        5
    """

    __slots__ = ()

    def iterate(
        self,
        source: Iterable[T] | Callable[[Any], Iterable[T]],
        key: Callable[[T], Any] | None = None,
        *,
        name: str | None = None,
        progress: bool = False,
    ) -> Iterator[T]:
        """Return the items of *source* that are not done yet, for a ``for`` loop.

        Items are read one by one, so memory does not grow with the source. When the loop asks for
        the next item, the item before is done; cursor and state are then saved if a save is due. So
        finish the work on an item before the loop asks for the next one; to work in batches,
        iterate over batches. After `break`, the item in progress is done, too. After an exception
        that leaves the function, the item in progress is not done.

        Args:
            source: An iterable, which on a resume must yield the same items from the start: the
                items that are done are read again, compared and skipped. Or a callable that takes
                the key of the last item that is done (None at first) and returns the items after
                that one; then nothing before the cursor is read.
            key: A function from an item to its key: a str, int, float, bool, bytes, None, UUID,
                date, time, datetime, timedelta, Decimal, or a tuple of these. Not NaN, and never
                the same for two neighbouring items. None to identify items by position and
                content, if they can be saved. Required if *source* is a callable.
            name: The name of the iteration. Needed only if the code may change so that the
                iterations of the function come in another order.
            progress: True to show a progress line if stderr is a terminal.

        Raises:
            TypeError: If an argument has the wrong type, or *key* is needed or async.
            SourceChangedError: If the items differ from those that were done before, or two
                neighbouring items have the same key.
            LeaseLostError: If another owner has taken the run over.
            CheckpointError: If an iteration of that *name* has not ended, or inside a step.
            UnsaveableValueError: If a key, an item without *key*, or the state cannot be saved.
            StoreUnavailableError: If the store cannot be written to.

        Example:
            >>> from mainstay import checkpoint_run
            >>> def import_rows() -> None:
            ...     with checkpoint_run("import", store="memory://iterate") as cp:
            ...         for row in cp.iterate("abc"):
            ...             print(row, "again" if cp.resumed else "first")
            ...             if row == "b" and not cp.resumed:
            ...                 raise OSError("the disk is full")
            >>> try:
            ...     import_rows()
            ... except OSError:
            ...     import_rows()
            a first
            b first
            b again
            c again
        """
        loops.check_iteration(source, key, name, progress)
        self._run.check_usable("cp.iterate")
        if isinstance(source, AsyncIterable):
            raise TypeError("`source` is async; iterate over it in an async function")
        if self.complete:
            return iter(())
        return loops.iterate(self._run, source, key, name, progress=progress)

    def map(
        self,
        fn: Callable[[T], R],
        source: Iterable[T] | Callable[[Any], Iterable[T]],
        key: Callable[[T], Any] | None = None,
        *,
        executor: Executor | None = None,
        ahead: int | None = None,
        ordered: bool = True,
        name: str | None = None,
        progress: bool = False,
    ) -> Iterator[R]:
        """Call *fn* for the items of *source* in an executor, and return the results for a loop.

        As `iterate`, but the loop gets the result of *fn* for each item. Results are not saved, so
        a result may be any object that the executor can return; the loop puts what matters into
        the state, which is saved between items. After a crash, the items since the last save run
        again, and so do up to *ahead* items beyond them that had been started. These may still be
        running elsewhere: pass an `idempotency_key` to *fn* if that matters.

        If *fn* raises, the loop raises that exception when the item's turn comes. If the exception
        leaves the run, the next attempt continues with that item. Then, and after `break`, calls
        that have not begun are cancelled, and the results of running calls are dropped. The
        executor stays open. While the loop waits for a result, due saves are made. Use `cp` in the
        loop, and not inside *fn*.

        Args:
            fn: A plain function from an item to its result. An executor with processes needs a
                function that can be pickled, such as a function of a module.
            source: As for `iterate`. The source is read in the thread of the run.
            key: As for `iterate`. With ``ordered=False``, all items must have different keys.
            executor: The `concurrent.futures.Executor` that runs *fn*: a `ThreadPoolExecutor`, a
                `ProcessPoolExecutor`, or an executor of loky or Dask, for example. Required.
            ahead: The largest number of items that are running, or have a result that the loop has
                not got yet; at least 1. None for 4 for each CPU, and at least 16. A cluster needs
                more.
            ordered: True for results in the order of the source. False for results in the order in
                which they arrive: then the finished items are saved one by one, and the source is
                read up to 64 x *ahead* items beyond the first unfinished item.
            name: As for `iterate`.
            progress: As for `iterate`.

        Raises:
            TypeError: If an argument has the wrong type, *executor* is None, or *fn* is async.
            ValueError: If *ahead* is below 1.
            SourceChangedError: As `iterate`.
            LeaseLostError: If another owner has taken the run over; also while the loop waits.
            CheckpointError: As `iterate`.
            UnsaveableValueError: As `iterate`.
            StoreUnavailableError: If the store cannot be written to.
            Exception: The exception that *fn* raises, or the executor, such as `BrokenProcessPool`
                if a process died.

        Example:
            >>> from concurrent.futures import ThreadPoolExecutor
            >>> from mainstay import checkpoint_run
            >>> def size_of(word: str) -> int:
            ...     return len(word)
            >>> with ThreadPoolExecutor(4) as pool:
            ...     with checkpoint_run("sizes", store="memory://map") as cp:
            ...         total = cp.state({"letters": 0})
            ...         for size in cp.map(size_of, ["a", "few", "words"], executor=pool):
            ...             total["letters"] += size
            >>> total
            {'letters': 9}
        """
        arguments = MapArguments(
            fn=fn, source=source, key=key, executor=executor, ahead=ahead, ordered=ordered,
            name=name, progress=progress,
        )  # fmt: skip
        arguments.check(self._run)
        chosen = arguments.sync_executor()
        if self.complete:
            return iter(())
        return results.results(self._run, arguments, chosen)

    def step(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* once in the life of the run; later return the result that was saved.

        The result is saved before it is returned. A step is atomic: it is saved as a whole, or runs
        again as a whole; so `step`, `iterate`, `map`, `save` and `state` are refused inside a step.
        A step is identified by its name and by the item in progress; if a name is used again in the
        same item, a number is added. So to retry a step, decorate *fn* with `retry`: a retry around
        `step` would be another step each time.

        If *fn* raises, nothing is saved, and the step runs again on a resume. But an exception of a
        class given to `register_type` counts as a result: it is saved, and raised again on a
        resume.

        Args:
            name: The name of the step.
            fn: A plain function. On a resume, the types in its return annotation are built from the
                saved data.
            *args: The arguments for *fn*. They are ignored if there is a saved result.
            **kwargs: The keyword arguments for *fn*.

        Raises:
            TypeError: If *name* is not a str, *fn* cannot be called, or *fn* is async.
            CheckpointError: Inside another step of the run.
            CodeChangedError: If another step was saved at this place.
            UnsaveableValueError: If the result cannot be saved.
            StoreUnavailableError: If the store cannot be written to.
            RunCompleteError: If the run has ended without this step.
            Exception: The exception that *fn* raises, now or when it was saved.

        Example:
            >>> from mainstay import checkpoint_run
            >>> def charge(amount: int) -> str:
            ...     print("charged", amount)
            ...     return "receipt 7"
            >>> for _ in range(2):
            ...     with checkpoint_run("order 3", store="memory://step") as cp:
            ...         print(cp.step("charge", charge, 20))
            charged 20
            receipt 7
            receipt 7
        """
        if self._run.hold.interrupting:
            self._run.check_usable("cp.step")
            loops.end_if_interrupted(self._run)
        step = self._begin_step(name, fn)
        if step.has_result:
            saved: R = self._replay(step, fn)
            return saved
        try:
            result: R = loops.step(self._run, step, fn, args, kwargs)
        finally:
            self._run.progress.steps.ended(step)
        return result

    def save(self) -> None:
        """Save now; inside an item, save when that item is done.

        Raises:
            CheckpointError: Inside a step of the run.
            RunCompleteError: If the run has ended.
            LeaseLostError: If another owner has taken the run over.
            StoreUnavailableError: If the store cannot be written to.

        Example:
            >>> from datetime import timedelta
            >>> from mainstay import checkpoint_run
            >>> hourly = timedelta(hours=1)
            >>> with checkpoint_run("import", store="memory://save", every=hourly) as cp:
            ...     for row in cp.iterate(["a", "costly", "b"]):
            ...         if row == "costly":
            ...             cp.save()
        """
        loops.write(self._run, self._run.save())


class AsyncCheckpoint(_CheckpointBase):
    """The `cp` of a checkpointed function in async code.

    Its attributes and methods mean the same as those of `Checkpoint`. Saves never block the event
    loop: stores that block are called in another thread. Use it in the thread of its event loop
    only.

    Example:
        >>> import asyncio
        >>> from mainstay import AsyncCheckpoint, checkpointed
        >>> async def total(cp: AsyncCheckpoint, month: str, amounts: list[int]) -> int:
        ...     sums = cp.state({"amount": 0})
        ...     async for amount in cp.iterate(amounts):
        ...         sums["amount"] += amount
        ...     return await cp.step("publish", lambda: sums["amount"])
        >>> policy = checkpointed(store="memory://", key="async-{month}")
        >>> asyncio.run(policy.call(total, "May", [1, 2, 2]))
        5
    """

    __slots__ = ("_lock",)

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._lock = asyncio.Lock()

    def iterate(
        self,
        source: AsyncSource[T],
        key: Callable[[T], Any] | None = None,
        *,
        name: str | None = None,
        progress: bool = False,
    ) -> AsyncIterator[T]:
        """Return the items of *source* that are not done yet, for ``async for``.

        As `Checkpoint.iterate`, but *source* may be an async iterable, and a callable may be async
        or return an async iterable.

        Args:
            source: An iterable or async iterable, or a callable that returns one.
            key: A function from an item to its key, as for `Checkpoint.iterate`.
            name: The name of the iteration.
            progress: True to show a progress line if stderr is a terminal.

        Raises:
            TypeError: As `Checkpoint.iterate`.
            CheckpointError: As `Checkpoint.iterate`.
        """
        loops.check_iteration(source, key, name, progress)
        self._run.check_usable("cp.iterate")
        return loops.AsyncItems(self._run, self._lock, source, key, name, progress)

    @overload
    def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        source: AsyncSource[T],
        key: Callable[[T], Any] | None = None,
        *,
        executor: None = None,
        ahead: int | None = None,
        ordered: bool = True,
        name: str | None = None,
        progress: bool = False,
    ) -> AsyncIterator[R]: ...
    @overload
    def map(
        self,
        fn: Callable[[T], R],
        source: AsyncSource[T],
        key: Callable[[T], Any] | None = None,
        *,
        executor: Executor,
        ahead: int | None = None,
        ordered: bool = True,
        name: str | None = None,
        progress: bool = False,
    ) -> AsyncIterator[R]: ...
    def map(
        self,
        fn: Callable[[Any], Any],
        source: AsyncSource[Any],
        key: Callable[[Any], Any] | None = None,
        *,
        executor: Executor | None = None,
        ahead: int | None = None,
        ordered: bool = True,
        name: str | None = None,
        progress: bool = False,
    ) -> AsyncIterator[Any]:
        """Call *fn* for the items of *source* side by side, and return the results for `async for`.

        As `Checkpoint.map`, but *fn* may be async: then it runs in tasks of the event loop, which
        are awaited before the run ends. *source* may be async, too.

        Args:
            fn: An async function from an item to its result; with an *executor*, a plain function.
            source: As for `iterate`.
            key: As for `Checkpoint.map`.
            executor: As for `Checkpoint.map`; None for tasks.
            ahead: As for `Checkpoint.map`.
            ordered: As for `Checkpoint.map`.
            name: The name of the iteration.
            progress: True to show a progress line if stderr is a terminal.

        Raises:
            TypeError: As `Checkpoint.map`; also if *fn* is async and there is an *executor*, or if
                there is no *executor* and *fn* returns no awaitable.
            ValueError: As `Checkpoint.map`.
            CheckpointError: As `Checkpoint.map`.
            Exception: The exception that *fn* or the executor raises.
        """
        arguments = MapArguments(
            fn=fn, source=source, key=key, executor=executor, ahead=ahead, ordered=ordered,
            name=name, progress=progress,
        )  # fmt: skip
        arguments.check(self._run)
        return results.AsyncResults(self._run, self._lock, arguments)

    @overload
    async def step(
        self, name: str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def step(
        self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    async def step(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call *fn*, sync or async, once in the life of the run; later return the saved result.

        As `Checkpoint.step`. A plain *fn* runs in the thread of the event loop.

        Args:
            name: The name of the step.
            fn: A function or an async function.
            *args: The arguments for *fn*.
            **kwargs: The keyword arguments for *fn*.

        Raises:
            CheckpointError: As `Checkpoint.step`.
            Exception: The exception that *fn* raises, now or when it was saved.
        """
        if self._run.hold.interrupting:
            self._run.check_usable("cp.step")
            await loops.aend_if_interrupted(self._run)
        step = self._begin_step(name, fn)
        if step.has_result:
            return self._replay(step, fn)
        try:
            return await loops.astep(self._run, self._lock, step, fn, args, kwargs)
        finally:
            self._run.progress.steps.ended(step)

    async def save(self) -> None:
        """Save now; inside an item, save when that item is done.

        Raises:
            CheckpointError: As `Checkpoint.save`.
        """
        await loops.awrite(self._run, self._lock, self._run.save)
