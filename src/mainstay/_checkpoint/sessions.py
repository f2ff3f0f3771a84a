"""An attempt from its beginning to its end, sync and async side by side.

It waits for the run, calls the function, saves what it returns, and gives the run back if it fails.
"""

import asyncio
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from mainstay._checkpoint import signals
from mainstay._checkpoint.codec import Codec
from mainstay._checkpoint.iteration import NOTHING
from mainstay._checkpoint.run import Run
from mainstay._checkpoint.watcher import Watcher
from mainstay._core.functions import refused_awaitable
from mainstay._core.threads import run_in_thread
from mainstay.errors import (
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
                run.context.clock.sleep(wait)
                run.recorder.waited(wait)
        except BaseException as error:
            self.failed(error)
            raise
        self._watch()

    async def aenter(self) -> None:
        """Make the run ours, waiting for it if need be."""
        run = self.run
        try:
            while (wait := await run_in_thread(run.acquire)) is not None:
                await run.context.clock.asleep(wait)
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
            await run_in_thread(lambda: run.write(change))
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
        await run_in_thread(lambda: self._release(error))
        self._failed(error)

    def _release(self, error: BaseException) -> None:
        run = self.run
        if self._watcher is not None:
            self._watcher.stop()
        if run.opened and any(loop.item is not NOTHING for loop in run.progress.stack):
            run.recorder.items("failed", 1)
        try:
            run.release("error", error)
        except Exception as unreleased:  # noqa: BLE001 - the one on its way is the user's
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
            raise refused_awaitable(run.id.name, value)
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
