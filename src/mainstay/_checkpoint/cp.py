"""What users have in hand inside a run: `Checkpoint`, and `AsyncCheckpoint` in async code."""

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
        """The function's name, which the run is stored under; "run" for a block without one."""
        return self._run.id.name

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1; saved before the function began."""
        return self._run.record.attempt

    @property
    def resumed(self) -> bool:
        """True if an earlier attempt was interrupted, and this one goes on."""
        return self._run.resumed

    @property
    def complete(self) -> bool:
        """True if the run had ended before; then nothing more can be saved in it."""
        return self._run.complete

    @property
    def token(self) -> int | None:
        """The fencing token, which grows with every attempt; None if the run had ended before.

        Pass it on to whatever the run writes to. A resource that remembers the highest token it
        has seen, and refuses lower ones, is safe from an attempt that was taken over.
        """
        lease = self._run.hold.lease
        return lease.token if lease else None

    @property
    def lost(self) -> bool:
        """True if another process has taken the run over, so that nothing more will be saved."""
        return self._run.hold.lost

    def state(self, default: S) -> S:
        """Return the state of the run: what was saved last, or *default* before that.

        Change it in place. It is captured at item boundaries, together with the cursor, so it is
        never ahead of it and never behind it. What is changed outside of items is run again on a
        resume. Further calls return the same object.

        Args:
            default: Something that is changed in place: an attrs or dataclass instance that is not
                frozen, a dict, a list, a set, a `Counter`, `defaultdict`, `OrderedDict` or `deque`.
                Its type, and the types that its fields name, may be built again from
                what was saved.

        Raises:
            TypeError: If *default* cannot be changed in place.
            CheckpointError: Inside a step of the run.
            UnsaveableValueError: If it cannot be saved.
            UnknownTypeError: If a type was saved that may not be built.
            CodeChangedError: If the type no longer takes what was saved, or another one was.

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
        """Return a key for the side effects of an item: the same in every attempt.

        An item in progress when the process dies runs again. Send this key along with what it
        does elsewhere, and let the other side ignore a key that it has seen.

        Args:
            item: The item in progress, or one of an iteration around it; None for the innermost.
                With a `key` of the iteration any of its items. Outside of items any value; None
                for the run.

        Returns:
            32 hexadecimal digits, which also differ between runs, and between a run and the same
            one after it was forgotten or rerun.

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

    It belongs to the thread of the run. The first parameter of a function that `checkpointed`
    wraps is one, and so is what `with checkpoint_run(...)` enters.

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
        """Return the items of *source* after the last one that was saved.

        Lazily, in flat memory. When the loop asks for the next item, the one before is done, and
        it is saved with the state if a save is due. So do an item's work before asking for the
        next: for batches, iterate over batches. After `break` the item in progress is done, too;
        after an exception that leaves the function it is not.

        Args:
            source: Any iterable, generators too, which must give the same items again from the
                start: those that are done are passed over, and checked. Or a callable that takes
                the key of the last item done, None at first, and returns the items after it; what
                is before the cursor is then not looked at.
            key: From an item to its key: a str, int, float, bool, bytes, None, UUID, date, time,
                datetime, timedelta, Decimal, or a tuple of these; not NaN, and never the same twice
                in a row.
                None for position and content, where items can be saved. Needed with a callable.
            name: What the iteration is called; needed only to tell it from another one when the
                code between them may change.
            progress: True to show a progress line, if stderr is a terminal.

        Raises:
            TypeError: If an argument has the wrong type, or *key* is needed or async.
            SourceChangedError: If the items are not those that were done before, or a key comes
                twice in a row.
            LeaseLostError: If another process has taken the run over.
            CheckpointError: If an iteration of that *name* is still going on, or inside a step.
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

        As `iterate`, but *fn* has done its part of an item before the loop gets the result. Results
        are not saved: what the loop makes of them is the state, which is saved between items. So a
        result may be anything that the executor hands back. What was handed to the loop and saved
        is not run again. After a crash the items that were finished or under way beyond that are,
        at most *ahead*, and so are the items since the last save. They may still be running
        elsewhere then: give *fn* an `idempotency_key` where that matters.

        What *fn* raises is raised in the loop at its item's turn; let it leave the run, and the
        next attempt goes on with that item. Then, and after `break`, what has not begun is
        cancelled, and the results of what is running are dropped. The executor is left as it is.
        While the loop waits for a result, a save that is due is made. `cp` may be used in the loop
        and is refused inside *fn*.

        Args:
            fn: A plain function from an item to its result. An executor with processes needs one
                that can be pickled, as functions of modules can.
            source: As for `iterate`. It is read in the thread of the run.
            key: As for `iterate`. With *ordered* false it must tell all items apart.
            executor: What runs *fn*: a `ThreadPoolExecutor`, a `ProcessPoolExecutor`, or any other
                `concurrent.futures.Executor`, such as those of loky and Dask. Needed.
            ahead: The most items that are under way, or have a result that waits for its turn, at
                least 1. None for 4 for each CPU, and at least 16; give more for a cluster.
            ordered: True for results in the order of the source. False for results as they come:
                the items done are saved one by one then, and the source is read up to 64 x *ahead*
                items beyond the first that is not done.
            name: As for `iterate`.
            progress: As for `iterate`.

        Raises:
            TypeError: If an argument has the wrong type, *executor* is None, or *fn* is async.
            ValueError: If *ahead* is below 1.
            SourceChangedError: As `iterate`.
            LeaseLostError: If another process has taken the run over; also while the loop waits.
            CheckpointError: As `iterate`.
            UnsaveableValueError: As `iterate`.
            StoreUnavailableError: If the store cannot be written to.
            Exception: What *fn* raises, or the executor: `BrokenProcessPool` if a process died.

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
        asked = MapArguments(
            fn=fn, source=source, key=key, executor=executor, ahead=ahead, ordered=ordered,
            name=name, progress=progress,
        )  # fmt: skip
        asked.check(self._run)
        chosen = asked.sync_executor()
        if self.complete:
            return iter(())
        return results.results(self._run, asked, chosen)

    def step(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* once in the life of the run; later return the result that was saved.

        The result is saved before it is returned. A step is atomic: it is saved as a whole or runs
        again as a whole, and `step`, `iterate`, `save` and `state` are refused inside it. It is
        known by its name and by the item it is in; a name used again there is numbered. What *fn*
        raises is not saved, so that the step runs again, unless its class was given to
        `register_type`, and its args build it as it is. The next use of the name is another step:
        for a retry decorate *fn*, and do not put it around `step`.

        Args:
            name: What the step is called.
            fn: A plain function. Types that its return annotation names may be built again.
            *args: Its arguments. They are not looked at when there is a result.
            **kwargs: Its keyword arguments.

        Raises:
            TypeError: If *name* is no str, or *fn* cannot be called, or is async.
            CheckpointError: Inside another step of the run.
            CodeChangedError: If another step was saved at this place.
            UnsaveableValueError: If the result cannot be saved.
            StoreUnavailableError: If the store cannot be written to.
            RunCompleteError: If the run had ended before, without this step.
            Exception: What *fn* raises, or raised when its exception was saved.

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
        """Save now; inside an item, when that item is done.

        Raises:
            CheckpointError: Inside a step of the run.
            RunCompleteError: If the run has ended.
            LeaseLostError: If another process has taken the run over.
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

    It belongs to the thread of its event loop. What it has the same as `Checkpoint` means the
    same; saves wait for the disk in another thread, so that the event loop goes on.

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
        """Return the items of *source* after the last one that was saved, for ``async for``.

        As `Checkpoint.iterate`; *source* may be async, and a callable may return something async
        or to be awaited.

        Args:
            source: Any iterable or async iterable, or a callable that returns one.
            key: From an item to its key.
            name: What the iteration is called.
            progress: True to show a progress line.

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

        As `Checkpoint.map`; *fn* may be async, and then runs in tasks of the event loop, which are
        awaited before the run ends. *source* may be async, too.

        Args:
            fn: An async function from an item to its result; with an *executor* a plain one.
            source: As for `iterate`.
            key: From an item to its key.
            executor: As for `Checkpoint.map`; None for tasks.
            ahead: The most items under way.
            ordered: True for results in the order of the source.
            name: What the iteration is called.
            progress: True to show a progress line.

        Raises:
            TypeError: As `Checkpoint.map`; if *fn* is async and there is an *executor*, or if there
                is none and *fn* returns nothing to await.
            ValueError: As `Checkpoint.map`.
            CheckpointError: As `Checkpoint.map`.
            Exception: What *fn* raises, or the executor.
        """
        asked = MapArguments(
            fn=fn, source=source, key=key, executor=executor, ahead=ahead, ordered=ordered,
            name=name, progress=progress,
        )  # fmt: skip
        asked.check(self._run)
        return results.AsyncResults(self._run, self._lock, asked)

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

        As `Checkpoint.step`.

        Args:
            name: What the step is called.
            fn: A function, async or not.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Raises:
            CheckpointError: As `Checkpoint.step`.
            Exception: What *fn* raises.
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
        """Save now; inside an item, when that item is done.

        Raises:
            CheckpointError: As `Checkpoint.save`.
        """
        await loops.awrite(self._run, self._lock, self._run.save)
