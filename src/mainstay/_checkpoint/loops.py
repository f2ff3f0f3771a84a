"""The loops of checkpointed functions, sync and async side by side.

They call the user's code, wait, and write what `Run` puts together. The async ones write off the
event loop, one change at a time.
"""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from types import CoroutineType
from typing import Any

from mainstay._checkpoint import progressbar, signals
from mainstay._checkpoint.codec import Codec
from mainstay._checkpoint.iteration import NOTHING, Loop
from mainstay._checkpoint.offload import off_loop
from mainstay._checkpoint.run import Run
from mainstay._checkpoint.steps import Step
from mainstay._checkpoint.types import allowed_by_result
from mainstay._checkpoint.watcher import Watcher
from mainstay._core.callables import refused_coroutine
from mainstay.errors import (
    CheckpointError,
    DeadlineExpiredError,
    PoisonedRunError,
    RunBusyError,
    RunCompleteError,
    UnsupportedLoopError,
)

_REJECTED = (RunBusyError, PoisonedRunError, RunCompleteError)


class Session:
    """An attempt from `enter` to `leave`, with what watches over it meanwhile."""

    __slots__ = ("_watcher", "run")

    def __init__(self, run: Run) -> None:
        self.run = run
        self._watcher: Watcher | None = None

    def enter(self) -> None:
        """Make the run ours, waiting for it if need be."""
        run = self.run
        try:
            while (wait := run.acquire()) is not None:
                run.ambient.clock.sleep(wait)
                run.recorder.waited(wait)
        except BaseException as error:
            self.failed(error)
            raise
        self._watch()

    async def aenter(self) -> None:
        """Make the run ours, waiting for it if need be."""
        run = self.run
        try:
            while (wait := await off_loop(run.acquire)) is not None:
                await run.ambient.clock.asleep(wait)
                run.recorder.waited(wait)
        except BaseException as error:
            await self.afailed(error)
            raise
        self._watch()

    def _watch(self) -> None:
        if not self.run.complete:
            self._watcher = Watcher(self.run)
            signals.watch(self.run)

    def finish(self, value: object, codec: Codec) -> None:
        """Save the result, and end."""
        run = self.run
        if not run.complete:
            run.write(run.finish(value, codec))
        self.ended()

    async def afinish(self, value: object, codec: Codec) -> None:
        """Save the result, and end."""
        run = self.run
        if not run.complete:
            change = run.finish(value, codec)
            await off_loop(lambda: run.write(change))
        self.ended()

    def ended(self) -> None:
        """Record that the run has its result."""
        run = self.run
        if self._watcher is not None:
            self._watcher.stop()
        run.over = True
        run.recorder.call("recovered" if run.resumed else "success", run.elapsed())
        signals.unwatch(run)

    def failed(self, error: BaseException) -> None:
        """Give the run back, and record how it ended."""
        self._release(error)
        self._failed(error)

    async def afailed(self, error: BaseException) -> None:
        """Give the run back, and record how it ended."""
        await off_loop(lambda: self._release(error))
        self._failed(error)

    def _release(self, error: BaseException) -> None:
        run = self.run
        if self._watcher is not None:
            self._watcher.stop()
        if run.opened and any(loop.item is not NOTHING for loop in run.progress.stack):
            run.recorder.items("failed", 1)
        try:
            run.release("error", error)
        except CheckpointError as unreleased:
            error.add_note(f"mainstay.checkpoint {run.id.name}: {unreleased}")

    def _failed(self, error: BaseException) -> None:
        run = self.run
        rejected = isinstance(error, _REJECTED) and run.lease is None
        if not isinstance(error, Exception):
            run.recorder.call("cancelled", run.elapsed())
        elif rejected:
            run.recorder.call("rejected", run.elapsed())
        else:
            run.recorder.error(error)
            run.recorder.call("error", run.elapsed())
        signals.unwatch(run)

    def leave(self, error: BaseException | None, codec: Codec) -> None:
        """End a block: with its end saved, or with what was raised in it."""
        try:
            if error is None:
                self.finish(None, codec)
        except BaseException as unfinished:
            self.failed(unfinished)
            raise
        if error is not None:
            self.failed(error)

    async def aleave(self, error: BaseException | None, codec: Codec) -> None:
        """End a block: with its end saved, or with what was raised in it."""
        try:
            if error is None:
                await self.afinish(None, codec)
        except BaseException as unfinished:
            await self.afailed(unfinished)
            raise
        if error is not None:
            await self.afailed(error)


def require_asyncio(name: str) -> None:
    """Refuse to run where no asyncio loop does."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise UnsupportedLoopError(name) from None


def expired(run: Run) -> DeadlineExpiredError:
    """Record that a call began with no time left."""
    run.recorder.gave_up("timeout")
    run.recorder.call("timeout", 0.0)
    return DeadlineExpiredError(run.recorder.component)


def call(run: Run, body: Callable[[], Any], codec: Codec) -> Any:
    """Run a function to its end, or give what it came to before."""
    session = Session(run)
    session.enter()
    try:
        value = run.result(codec) if run.complete else body()
        if type(value) is CoroutineType:
            raise refused_coroutine(run.id.name, value)
        session.finish(value, codec)
    except BaseException as error:
        session.failed(error)
        raise
    return value


async def acall(run: Run, body: Callable[[], Any], codec: Codec) -> Any:
    """Run an async function to its end, or give what it came to before."""
    session = Session(run)
    await session.aenter()
    try:
        value = run.result(codec) if run.complete else await body()
        await session.afinish(value, codec)
    except BaseException as error:
        await session.afailed(error)
        raise
    return value


def iterate(  # noqa: C901 - what every item goes through, in one frame, for speed
    run: Run, source: Any, key: Callable[[Any], Any] | None, name: str | None, *, progress: bool
) -> Iterator[Any]:
    """Go through the items that are not done yet; save at the boundaries where one is due."""
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
    key_of, last, done, left = loop.key_of, loop.last, loop.keys.append, loop.limit
    try:
        for item in items:
            key_of_item = key_of(item)
            if key_of_item == last:
                raise loop.refuse(last)
            loop.last = last = key_of_item
            loop.item = item
            yield item
            if loop.used:
                run.progress.item_left(loop)
            done(last)
            left -= 1
            if run.due or not left:
                change = run.boundary(loop)
                if change is not None:
                    write(run, change)
                left = loop.limit
        change = run.ended(loop)
        if change is not None:
            write(run, change)
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
                    run.progress.item_left(loop)
                loop.item_done()
                if run.due or len(loop.keys) >= loop.limit:
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


def is_trusted(source: object) -> bool:
    """Whether a source is a callable, which begins after the last key by itself."""
    return callable(source) and not isinstance(source, Iterable | AsyncIterable)


def _last_key(loop: Loop) -> Any:
    return None if loop.last is NOTHING else loop.last


def _aiter(source: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    return aiter(source) if isinstance(source, AsyncIterable) else _as_async(source)


async def _as_async(source: Iterable[Any]) -> AsyncIterator[Any]:
    for item in source:
        yield item


def write(run: Run, change: Any) -> None:
    """Write a change; end the process afterwards if that was asked for."""
    run.write(change)
    if run.at_boundary:
        signals.end_if_asked(run)


async def awrite(run: Run, lock: asyncio.Lock, change_of: Callable[[], Any]) -> None:
    """Put a change together and write it, if there is one; one at a time."""
    async with lock:
        change = change_of()
        if change is not None:
            await off_loop(lambda: run.write(change))
            if run.at_boundary:
                signals.end_if_asked(run)


def step(run: Run, begun: Step, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Compute the result of a step, and save it."""
    try:
        value = fn(*args, **kwargs)
        if type(value) is CoroutineType:
            value.close()
            raise TypeError(f"step {begun.label!r} is async; use it in an async function")
    except Exception as error:
        run.recorder.step("executed")
        put = run.progress.step_failed(begun, error)
        if put is not None:
            write(run, run.step_saved(put))
        raise
    run.recorder.step("executed")
    write(run, run.step_saved(run.progress.step_done(begun, value, allowed_by_result(fn))))
    return value


async def astep(
    run: Run, lock: asyncio.Lock, begun: Step, fn: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    """Compute the result of a step, and save it."""
    try:
        value = fn(*args, **kwargs)
        if inspect.isawaitable(value):
            value = await value
    except Exception as error:
        run.recorder.step("executed")
        failed = run.progress.step_failed(begun, error)
        if failed is not None:
            await awrite(run, lock, functools.partial(run.step_saved, failed))
        raise
    run.recorder.step("executed")
    put = run.progress.step_done(begun, value, allowed_by_result(fn))
    await awrite(run, lock, functools.partial(run.step_saved, put))
    return value
