"""The loops inside a run, sync and async side by side: iterations, and steps.

They call the user's code, wait, and write the changes that `Run` makes. The async loops write
without blocking the event loop, one change at a time. The call around them is in `call`.
"""

import asyncio
import functools
import inspect
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from types import CoroutineType
from typing import Any

import attrs

from mainstay._checkpoint import progressbar, signals
from mainstay._checkpoint.iteration import NOTHING, Iteration
from mainstay._checkpoint.run import Run
from mainstay._checkpoint.steps import Step, enter_step, leave_step
from mainstay._checkpoint.value_digest import is_same_key
from mainstay._core.arguments import to_flag
from mainstay._core.functions import Kind, kind_of, name_of
from mainstay.errors import RunInterruptedError
from mainstay.stores.base import Change


def check_iteration(source: object, key: object, name: object, progress: object) -> None:
    """Raise unless *source* can be iterated over, and resumed."""
    trusted = is_trusted(source)
    if not trusted and not isinstance(source, Iterable | AsyncIterable):
        raise TypeError(
            f"`source` must be an iterable or a callable that returns one, not {source!r}"
        )
    if key is not None and not callable(key):
        raise TypeError(f"`key` must be a function from an item to its key, not {key!r}")
    if callable(key) and not isinstance(key, type) and kind_of(key) is not Kind.SYNC:
        raise TypeError(
            f"`key` must be a plain function: it is called for each item, not {name_of(key)}"
        )
    if trusted and key is None:
        raise TypeError(
            "`key` is needed with a callable source, which gets the key of the last item"
        )
    if name is not None and not (isinstance(name, str) and name):
        raise TypeError(f"`name` must be a str that is not empty, or None, not {name!r}")
    to_flag(progress, "progress")


def is_trusted(source: object) -> bool:
    """True if a source is a callable, which begins after the last key by itself."""
    return callable(source) and not isinstance(source, Iterable | AsyncIterable)


def iterate(  # noqa: C901 - what every item goes through, in one frame, for speed
    run: Run, source: Any, key: Callable[[Any], Any] | None, name: str | None, *, progress: bool
) -> Iterator[Any]:
    """Yield the items that are not done yet; save at the boundaries where a save is due."""
    iteration = run.begin_iteration(key, name, trusted=is_trusted(source))
    if iteration is None:
        return
    try:
        if iteration.trusted:
            source = source(last_key(iteration))
        iteration.measure(source)
        items = iter(source)
        if not iteration.trusted:
            iteration.pass_over(items)
    except BaseException:
        run.progress.abandoned(iteration)
        raise
    if progress:
        items = progressbar.shown(items, iteration)
    run.iterating(iteration)
    schedule, key_of, last = run.schedule, iteration.key_of, iteration.last
    done, left = iteration.keys.append, run.items_to_boundary()
    try:
        for item in items:
            key_of_item = key_of(item)
            if key_of_item == last and is_same_key(key_of_item, last):
                raise iteration.same_key(last)
            iteration.last = last = key_of_item
            iteration.item = item
            yield item
            if iteration.used:
                run.item_left(iteration)
            iteration.item = NOTHING  # what the source does next is inside no item
            done(last)
            left -= 1
            if schedule.due or not left:
                write(run, run.boundary(iteration))
                left = run.items_to_boundary()
        write(run, run.boundary(iteration, ended=True))
    except GeneratorExit:
        iteration.leave(sys._getframe().f_back)  # noqa: SLF001 - where it is closed
        raise
    except BaseException:
        run.progress.interrupted(iteration)
        raise


@attrs.define(eq=False)
class AsyncItems(AsyncIterator[Any]):
    """Yields the items that are not done yet; saves at the boundaries where a save is due.

    A class and no async generator, because leaving a loop by `break` has to be noticed at once,
    and asyncio closes async generators some time later.
    """

    _run: Run
    _lock: asyncio.Lock
    _source: Any
    _key: Callable[[Any], Any] | None
    _name: str | None
    _progress: bool
    _iteration: Iteration | None = attrs.field(default=None, init=False)
    _items: AsyncIterator[Any] | None = attrs.field(default=None, init=False)
    _limit: int = attrs.field(default=0, init=False)
    _finished: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._finished = self._run.complete

    async def __anext__(self) -> Any:
        if self._finished:
            raise StopAsyncIteration
        run, iteration, items = self._run, self._iteration, self._items
        if iteration is None or items is None:
            iteration, items = await self._opened()
        try:
            if iteration.item is not NOTHING:
                if iteration.used:
                    run.item_left(iteration)
                iteration.item_done()
                if run.schedule.due or len(iteration.keys) >= self._limit:
                    await awrite(run, self._lock, lambda: run.boundary(iteration))
                    self._limit = run.items_to_boundary()
            item = await anext(items, NOTHING)
            if item is not NOTHING:
                key = iteration.key_of(item)
                if key == iteration.last and is_same_key(key, iteration.last):
                    raise iteration.same_key(key)
                iteration.last = key
                iteration.item = item
                return item
            self._finished = True
            await awrite(run, self._lock, lambda: run.boundary(iteration, ended=True))
        except BaseException:
            self._finished = True
            run.progress.interrupted(iteration)
            raise
        raise StopAsyncIteration

    def __del__(self) -> None:
        if self._iteration is not None and not self._finished:
            self._iteration.leave(sys._getframe().f_back)  # noqa: SLF001 - as in `iterate`

    async def _opened(self) -> tuple[Iteration, AsyncIterator[Any]]:
        run, source = self._run, self._source
        iteration = run.begin_iteration(self._key, self._name, trusted=is_trusted(source))
        if iteration is None:
            self._finished = True
            raise StopAsyncIteration
        try:
            if iteration.trusted:
                source = source(last_key(iteration))
                if inspect.isawaitable(source):
                    source = await source
            iteration.measure(source)
            items = async_iter(source)
            if not iteration.trusted:
                await iteration.apass_over(items)
        except BaseException:
            self._finished = True
            run.progress.abandoned(iteration)
            raise
        if self._progress:
            items = progressbar.ashown(items, iteration)
        run.iterating(iteration)
        self._iteration, self._items = iteration, items
        self._limit = run.items_to_boundary()
        return iteration, items


def last_key(iteration: Iteration) -> Any:
    """Return the key of the last item done, which a callable source is given; None at first."""
    return None if iteration.last is NOTHING else iteration.last


def async_iter(source: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    """Return an async iterator over a source, async or not."""
    return aiter(source) if isinstance(source, AsyncIterable) else _as_async(source)


async def _as_async(source: Iterable[Any]) -> AsyncIterator[Any]:
    for item in source:
        yield item


def write(run: Run, change: Change | None) -> None:
    """Write a change, if there is one; end the process or the run afterwards if that was asked."""
    if change is not None:
        run.write(change)
        signals.end_if_requested(run)
    if run.hold.interrupting:
        end_if_interrupted(run)


def _ends_here(run: Run) -> bool:
    """True if the run is to be interrupted, and is at a boundary with all of it saved."""
    return run.hold.interrupting and not run.hold.over and run.at_boundary


def end_if_interrupted(run: Run) -> None:
    """Release and end a run that is saved as it is, if `interrupt_all` asked for that.

    Raises:
        RunInterruptedError: If so.
    """
    if _ends_here(run):
        run.release("sigterm")
        raise RunInterruptedError(run.component, run.id.key)


async def awrite(run: Run, lock: asyncio.Lock, change_of: Callable[[], Change | None]) -> None:
    """Put a change together and write it, if there is one; one at a time."""
    async with lock:
        change = change_of()
        if change is not None:
            await run.awrite(change)
            signals.end_if_requested(run)
        if run.hold.interrupting:
            await aend_if_interrupted(run)


async def aend_if_interrupted(run: Run) -> None:
    """Release and end a run that is saved as it is, if `interrupt_all` asked for that.

    Raises:
        RunInterruptedError: If so.
    """
    if _ends_here(run):
        await run.arelease("sigterm")
        raise RunInterruptedError(run.component, run.id.key)


def step(run: Run, begun: Step, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Compute the result of a step, and save it."""
    steps = run.progress.steps
    try:
        enter_step(begun)
        value = fn(*args, **kwargs)
        if type(value) is CoroutineType:
            value.close()
            raise TypeError(f"step {begun.label!r} is async; use it in an async function")
    except Exception as error:
        run.recorder.step("executed")
        if steps.keep_error(begun, error):
            write(run, run.step_saved(begun))
        raise
    finally:
        leave_step(begun)
    run.recorder.step("executed")
    steps.keep_value(begun, value, fn)
    write(run, run.step_saved(begun))
    return value


async def astep(
    run: Run, lock: asyncio.Lock, begun: Step, fn: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    """Compute the result of a step, and save it."""
    steps = run.progress.steps
    try:
        enter_step(begun)
        value = fn(*args, **kwargs)
        if inspect.isawaitable(value):
            value = await value
    except Exception as error:
        run.recorder.step("executed")
        if steps.keep_error(begun, error):
            await awrite(run, lock, functools.partial(run.step_saved, begun))
        raise
    finally:
        leave_step(begun)
    run.recorder.step("executed")
    steps.keep_value(begun, value, fn)
    await awrite(run, lock, functools.partial(run.step_saved, begun))
    return value
