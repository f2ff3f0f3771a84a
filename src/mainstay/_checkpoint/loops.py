"""The loops inside a run, sync and async side by side: iterations, and steps.

They call the user's code, wait, and write what `Run` puts together. The async ones write off the
event loop, one change at a time. What is around them is in `sessions`.
"""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from types import CoroutineType
from typing import Any

from mainstay._checkpoint import progressbar, signals
from mainstay._checkpoint.iteration import NOTHING, Loop
from mainstay._checkpoint.run import Run
from mainstay._checkpoint.sources import is_trusted
from mainstay._checkpoint.steps import Step, enter, leave
from mainstay._core.threads import run_in_thread
from mainstay.stores.base import Change


def iterate(  # noqa: C901 - what every item goes through, in one frame, for speed
    run: Run, source: Any, key: Callable[[Any], Any] | None, name: str | None, *, progress: bool
) -> Iterator[Any]:
    """Go through the items that are not done yet; save at the boundaries where one is due."""
    run.check_usable("cp.iterate")
    loop = run.progress.loop(key, name, trusted=is_trusted(source))
    if loop is None:
        return
    try:
        items = iter(source(_last_key(loop)) if loop.trusted else source)
        if not loop.trusted:
            loop.pass_over(items)
    except BaseException:
        run.progress.abandoned(loop)
        raise
    if progress:
        items = progressbar.shown(items, source, loop)
    run.iterating(loop)
    schedule, key_of, last = run.schedule, loop.key_of, loop.last
    done, left = loop.keys.append, loop.limit
    try:
        for item in items:
            key_of_item = key_of(item)
            if key_of_item == last:
                raise loop.refuse(last)
            loop.last = last = key_of_item
            loop.item = item
            yield item
            if loop.used:
                run.item_left(loop)
            loop.item = NOTHING  # what the source does next is inside no item
            done(last)
            left -= 1
            if schedule.due or not left:
                write(run, run.boundary(loop))
                left = loop.limit
        write(run, run.ended(loop))
    except GeneratorExit:
        loop.closed = True
        raise
    except BaseException:
        run.progress.interrupted(loop)
        raise


class AsyncIteration(AsyncIterator[Any]):
    """Goes through the items that are not done yet; saves at the boundaries where one is due.

    A class and no async generator, because leaving a loop by `break` has to be noticed at once,
    and asyncio closes async generators some time later.
    """

    __slots__ = ("_finished", "_items", "_key", "_lock", "_loop", "_name", "_progress", "_run",
                 "_source")  # fmt: skip

    def __init__(
        self,
        run: Run,
        lock: asyncio.Lock,
        source: Any,
        key: Callable[[Any], Any] | None,
        name: str | None,
        *,
        progress: bool,
    ) -> None:
        self._run = run
        self._lock = lock
        self._source = source
        self._key = key
        self._name = name
        self._progress = progress
        self._loop: Loop | None = None
        self._items: AsyncIterator[Any] | None = None
        self._finished = run.complete

    async def __anext__(self) -> Any:
        if self._finished:
            raise StopAsyncIteration
        run, loop, items = self._run, self._loop, self._items
        if loop is None or items is None:
            loop, items = await self._opened()
        try:
            if loop.item is not NOTHING:
                if loop.used:
                    run.item_left(loop)
                loop.item_done()
                if run.schedule.due or len(loop.keys) >= loop.limit:
                    await awrite(run, self._lock, lambda: run.boundary(loop))
            item = await anext(items, NOTHING)
            if item is not NOTHING:
                key = loop.key_of(item)
                if key == loop.last:
                    raise loop.refuse(key)
                loop.last = key
                loop.item = item
                return item
            self._finished = True
            await awrite(run, self._lock, lambda: run.ended(loop))
        except BaseException:
            self._finished = True
            run.progress.interrupted(loop)
            raise
        raise StopAsyncIteration

    def __del__(self) -> None:
        if self._loop is not None and not self._finished:
            self._loop.closed = True

    async def _opened(self) -> tuple[Loop, AsyncIterator[Any]]:
        run, source = self._run, self._source
        run.check_usable("cp.iterate")
        loop = run.progress.loop(self._key, self._name, trusted=is_trusted(source))
        if loop is None:
            self._finished = True
            raise StopAsyncIteration
        try:
            if loop.trusted:
                source = source(_last_key(loop))
                if inspect.isawaitable(source):
                    source = await source
            items = _aiter(source)
            if not loop.trusted:
                await loop.apass_over(items)
        except BaseException:
            self._finished = True
            run.progress.abandoned(loop)
            raise
        if self._progress:
            items = progressbar.ashown(items, self._source, loop)
        run.iterating(loop)
        self._loop, self._items = loop, items
        return loop, items


def _last_key(loop: Loop) -> Any:
    return None if loop.last is NOTHING else loop.last


def _aiter(source: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    return aiter(source) if isinstance(source, AsyncIterable) else _as_async(source)


async def _as_async(source: Iterable[Any]) -> AsyncIterator[Any]:
    for item in source:
        yield item


def write(run: Run, change: Change | None) -> None:
    """Write a change, if there is one; end the process afterwards if that was asked for."""
    if change is not None:
        run.write(change)
        signals.end_if_asked(run)


async def awrite(run: Run, lock: asyncio.Lock, change_of: Callable[[], Change | None]) -> None:
    """Put a change together and write it, if there is one; one at a time."""
    async with lock:
        change = change_of()
        if change is not None:
            await run_in_thread(lambda: run.write(change))
            signals.end_if_asked(run)


def step(run: Run, begun: Step, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Compute the result of a step, and save it."""
    try:
        value = _inside(begun, fn, args, kwargs)
        if type(value) is CoroutineType:
            value.close()
            raise TypeError(f"step {begun.label!r} is async; use it in an async function")
    except Exception as error:
        run.recorder.step("executed")
        if run.progress.step_failed(begun, error):
            write(run, run.step_saved(begun))
        raise
    run.recorder.step("executed")
    run.progress.step_done(begun, value, fn)
    write(run, run.step_saved(begun))
    return value


def _inside(step: Step, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    entered = enter(step)
    try:
        return fn(*args, **kwargs)
    finally:
        leave(entered)


async def astep(
    run: Run, lock: asyncio.Lock, begun: Step, fn: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    """Compute the result of a step, and save it."""
    try:
        value = await _ainside(begun, fn, args, kwargs)
    except Exception as error:
        run.recorder.step("executed")
        if run.progress.step_failed(begun, error):
            await awrite(run, lock, functools.partial(run.step_saved, begun))
        raise
    run.recorder.step("executed")
    run.progress.step_done(begun, value, fn)
    await awrite(run, lock, functools.partial(run.step_saved, begun))
    return value


async def _ainside(step: Step, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    entered = enter(step)
    try:
        value = fn(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value
    finally:
        leave(entered)
