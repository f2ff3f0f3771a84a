"""The loops of `cp.map`, sync and async side by side.

Between two results they read the source, pass items to the executor, and wait. Waiting is a
boundary: a due save is made, and a run that is lost, or has to end, ends. The threads that ask for
this do not know which loop waits, so each loop looks every tenth of a second.
"""

import asyncio
import contextlib
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from typing import Any

import attrs

from mainstay._checkpoint import progressbar
from mainstay._checkpoint.inside_fn import inside_fn_of
from mainstay._checkpoint.iteration import NOTHING
from mainstay._checkpoint.loops import (
    async_iter,
    awrite,
    last_key,
    write,
)
from mainstay._checkpoint.map_arguments import MapArguments
from mainstay._checkpoint.run import Run
from mainstay._checkpoint.spread import Spread
from mainstay._checkpoint.window import SPAN
from mainstay._checkpoint.work import AnyFuture, Work
from mainstay._core.functions import name_of

_LONGEST_WAIT = 0.1


def results(run: Run, arguments: MapArguments, executor: Executor) -> Iterator[Any]:
    """Yield the results of the items that are not done yet."""
    spread = arguments.begin(run)
    if spread is None:
        return
    try:
        source = arguments.source(last_key(spread)) if spread.trusted else arguments.source
        spread.measure(source)
        items = iter(source)
        spread.pass_over(items)
    except BaseException:
        run.progress.abandoned(spread)
        raise
    run.iterating(spread)

    def submit(value: Any) -> AnyFuture:
        with inside_fn_of(run):
            return executor.submit(arguments.fn, value)

    work = Work(spread, arguments.window(spread), run.recorder, submit)
    update, close = progressbar.bar(spread, shows=arguments.progress)
    run.work.append(work)
    work.limit = _items_to_boundary(run, work)
    try:
        while (position := _next_turn(run, work, items)) is not None:
            yield work.take(position)
            update(1)
            if _item_done(run, work):
                _boundary(run, work)
        write(run, run.boundary(spread, ended=True))
    except GeneratorExit:
        spread.leave(sys._getframe().f_back)  # noqa: SLF001 - where it is closed
        raise
    except BaseException:
        run.progress.interrupted(spread)
        raise
    finally:
        work.cancel()
        run.work.remove(work)
        close()


def _next_turn(run: Run, work: Work, items: Iterator[Any]) -> int | None:
    """Return the position whose result is next; None at the end."""
    if work.has_room:  # in place of the item that is done now
        _read(work, items)
    while (position := work.turn()) is None and not work.is_over:
        if work.has_room:
            _read(work, items)
        else:
            _wait(run, work)
    return position


def _read(work: Work, items: Iterator[Any]) -> None:
    if work.begin_waiting():
        return
    try:
        value = next(items, NOTHING)
    except Exception as error:  # noqa: BLE001 - raised at its turn
        work.end(error)
        return
    if value is NOTHING:
        work.end()
    else:
        work.begin(value)


def _wait(run: Run, work: Work) -> None:
    if not work.wait(_LONGEST_WAIT) or run.schedule.due:
        _boundary(run, work)


def _item_done(run: Run, work: Work) -> bool:
    """Record that the item in progress is done; True if there is to be a boundary after it."""
    spread = work.spread
    if spread.used:
        run.item_left(spread)
    spread.item_done()
    return run.schedule.due or len(spread.keys) >= work.limit


def _items_to_boundary(run: Run, work: Work) -> int:
    """Return after how many items there is a boundary: soon enough to know where the gap is."""
    return min(run.items_to_boundary(), SPAN * work.window.ahead // 2)


def _boundary(run: Run, work: Work) -> None:
    write(run, run.boundary(work.spread))
    work.limit = _items_to_boundary(run, work)


@attrs.define(eq=False)
class AsyncResults(AsyncIterator[Any]):
    """Yields the results of the items that are not done yet.

    A class and no async generator, for the reason that `AsyncItems` is one.
    """

    _run: Run
    _lock: asyncio.Lock
    _arguments: MapArguments
    _work: Work | None = attrs.field(default=None, init=False)
    _items: AsyncIterator[Any] = attrs.field(default=None, init=False)
    _woken: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _update: Callable[[int], object] = attrs.field(default=None, init=False)
    _close: Callable[[], object] = attrs.field(default=None, init=False)
    _finished: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._finished = self._run.complete

    async def __anext__(self) -> Any:
        if self._finished:
            raise StopAsyncIteration
        run, work = self._run, self._work or await self._opened()
        spread = work.spread
        try:
            if spread.item is not NOTHING:
                self._update(1)
                if _item_done(run, work):
                    await self._boundary(work)
            position = await self._next_turn(work)
            if position is not None:
                return work.take(position)
            self._finished = True
            await awrite(run, self._lock, lambda: run.boundary(spread, ended=True))
        except BaseException:
            self._finished = True
            run.progress.interrupted(spread)
            await self._end(work)
            raise
        await self._end(work)
        raise StopAsyncIteration

    def __del__(self) -> None:
        work = self._work
        if work is not None and not self._finished:
            work.spread.leave(sys._getframe().f_back)  # noqa: SLF001 - as in `results`
            work.cancel()
            self._close()

    async def _opened(self) -> Work:
        run, arguments = self._run, self._arguments
        spread = arguments.begin(run)
        if spread is None:
            self._finished = True
            raise StopAsyncIteration
        try:
            source = arguments.source
            if spread.trusted:
                source = source(last_key(spread))
                if inspect.isawaitable(source):
                    source = await source
            spread.measure(source)
            self._items = async_iter(source)
            await spread.apass_over(self._items)
        except BaseException:
            self._finished = True
            run.progress.abandoned(spread)
            raise
        run.iterating(spread)
        self._update, self._close = progressbar.bar(spread, shows=arguments.progress)
        self._work = work = _work_of(run, arguments, spread, self._woken)
        run.work[:] = [each for each in run.work if not each.is_settled]
        run.work.append(work)
        work.limit = _items_to_boundary(run, work)
        return work

    async def _next_turn(self, work: Work) -> int | None:
        """Return the position whose result is next; None at the end."""
        if work.has_room:  # in place of the item that is done now
            await self._read(work)
        while (position := work.turn()) is None and not work.is_over:
            if work.has_room:
                await self._read(work)
            else:
                await self._wait(work)
        return position

    async def _read(self, work: Work) -> None:
        if work.begin_waiting():
            return
        try:
            value = await anext(self._items, NOTHING)
        except Exception as error:  # noqa: BLE001 - raised at its turn
            work.end(error)
            return
        if value is NOTHING:
            work.end()
        else:
            work.begin(value)

    async def _wait(self, work: Work) -> None:
        run = self._run
        self._woken.clear()
        try:
            async with asyncio.timeout(_LONGEST_WAIT):
                await self._woken.wait()
            due = run.schedule.due
        except TimeoutError:
            due = True
        if due:
            await self._boundary(work)

    async def _boundary(self, work: Work) -> None:
        run = self._run
        await awrite(run, self._lock, lambda: run.boundary(work.spread))
        work.limit = _items_to_boundary(run, work)

    async def _end(self, work: Work) -> None:
        work.cancel()
        self._close()
        await work.settled()


def _work_of(run: Run, arguments: MapArguments, spread: Spread, woken: asyncio.Event) -> Work:
    """Return the work of an async iteration; nothing in it holds what the loop iterates over."""
    event_loop, executor = asyncio.get_running_loop(), arguments.executor

    def submit(value: Any) -> AnyFuture:
        with inside_fn_of(run):
            if executor is not None:
                return executor.submit(arguments.fn, value)
            return event_loop.create_task(_awaited(arguments.fn, value))

    def wake_from_another_thread() -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed, so no task waits
            event_loop.call_soon_threadsafe(woken.set)

    wake = woken.set if executor is None else wake_from_another_thread
    return Work(spread, arguments.window(spread), run.recorder, submit, wake)


async def _awaited(fn: Callable[[Any], Awaitable[Any]], value: Any) -> Any:
    """Call a function that is async, or returns something to await, and await that.

    Raises:
        TypeError: If it is neither.
    """
    awaitable = fn(value)
    if not inspect.isawaitable(awaitable):
        raise TypeError(
            f"{name_of(fn)} is not async: for items side by side give an async function, or an "
            f"`executor` such as a ThreadPoolExecutor"
        )
    return await awaitable
