"""Opening and closing members: the user's `open`, `close` and `fence`, in threads or in tasks.

These functions never run in the thread or task of a call, so that a call can stop waiting:
`ThreadOpener` runs each in a daemon thread, `TaskOpener` in a task of the pool's event loop. Both
report the outcome to the pool; calls wait for the pool, and not for an opener.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

from mainstay._core.exceptions import is_a
from mainstay._core.functions import running_loop, task_or_thread
from mainstay._failover.hooks import (
    HookThreads,
    UnknownHealthError,
    awaited,
    called,
    check_answer,
    not_awaitable,
)
from mainstay._failover.members import MemberStart, OpenedResource, Slot
from mainstay._failover.options import Member
from mainstay._failover.settings import PoolSettings


class OpenedPool(Protocol):
    """The pool, as openers report to it."""

    @property
    def settings(self) -> PoolSettings:
        """The parameters of the pool."""
        ...

    def cleared(self, slot: Slot, start: MemberStart, old: str, /) -> None:
        """Record that the fence has returned: a standby may do what *old* did."""
        ...

    def started(
        self,
        slot: Slot,
        start: MemberStart,
        opened: OpenedResource | None,
        error: BaseException | None,
        what: str,
        /,
    ) -> None:
        """Record how a start has ended: with a resource, or with an error of *what*."""
        ...


CloseFailed: TypeAlias = Callable[[str, str, BaseException], object]
"""Called if a resource cannot be closed, with the member's name, "close", and what it raised."""


class ThreadOpener:
    """Does it in daemon threads, one each."""

    def __init__(self, pool: OpenedPool, close_failed: CloseFailed) -> None:
        self._pool = pool
        self._close_failed = close_failed
        self.threads: HookThreads = HookThreads()

    def start(self, slot: Slot, start: MemberStart) -> None:
        name, limit = f"mainstay-start-{slot.name}", slot.member.start_timeout
        try:
            self.threads.begin(name, limit, self._start, slot, start)
        except RuntimeError:  # no thread can be started just now, which is no fault of the member
            self._start(slot, start)

    def _start(self, slot: Slot, start: MemberStart) -> None:
        start.runs_in = task_or_thread()
        pool, member, settings = self._pool, slot.member, self._pool.settings
        opened, what = start.reused, "fence"
        try:
            if settings.fence is not None:
                for old in start.replaces:
                    not_awaitable(settings.fence(old, member.name), "fence")
                    pool.cleared(slot, start, old)
            what = "open"
            if opened is None and member.open is not None:
                opened = OpenedResource(not_awaitable(member.open(), "open"))
            what = "probe"
            warm_up = settings.warm_up(member)
            if warm_up is not None and opened is not None:
                with suppress(UnknownHealthError):
                    check_answer(not_awaitable(warm_up(opened.resource), "fn"))
        except Exception as error:  # noqa: BLE001 - raised for those who wait for the member
            if opened is not None and opened is not start.reused:
                self._close(member, opened.resource)
            pool.started(slot, start, None, error, what)
        else:
            pool.started(slot, start, opened, None, what)

    def close(self, member: Member[Any], resource: Any) -> None:
        if member.close is not None:
            name, limit = f"mainstay-close-{member.name}", member.start_timeout
            try:
                self.threads.begin(name, limit, self._close, member, resource)
            except RuntimeError:  # no thread can be started just now
                self._close(member, resource)

    def _close(self, member: Member[Any], resource: Any) -> None:
        try:
            if member.close is not None:
                not_awaitable(member.close(resource), "close")
        except Exception as error:  # noqa: BLE001 - nobody is left who could handle it
            self._close_failed(member.name, "close", error)

    def join(self) -> None:
        """Wait for all threads; one that hangs is given up."""
        self.threads.join()

    def reset(self) -> None:
        """Forget all threads, as in a forked child."""
        self.threads.reset()


class TaskOpener:
    """Does it in tasks of the pool's event loop.

    Attributes:
        event_loop: The loop, once the pool is used in one.
        running: The tasks that run just now.
    """

    def __init__(self, pool: OpenedPool, close_failed: CloseFailed) -> None:
        self._pool = pool
        self._close_failed = close_failed
        self.event_loop: asyncio.AbstractEventLoop | None = None
        self.running: set[asyncio.Task[None]] = set()

    def start(self, slot: Slot, start: MemberStart) -> None:
        self.begin(lambda: self._start(slot, start), start)

    async def _start(self, slot: Slot, start: MemberStart) -> None:
        start.runs_in = task_or_thread()
        pool, member, settings = self._pool, slot.member, self._pool.settings
        opened, what = start.reused, "fence"
        try:
            if settings.fence is not None:
                for old in start.replaces:
                    await awaited(await called(settings.fence, old, member.name))
                    pool.cleared(slot, start, old)
            what = "open"
            if opened is None and member.open is not None:
                late = functools.partial(self._close_late, member)
                opened = OpenedResource(await awaited(await called(member.open, late=late)))
            what = "probe"
            warm_up = settings.warm_up(member)
            if warm_up is not None and opened is not None:
                with suppress(UnknownHealthError):
                    check_answer(await awaited(await called(warm_up, opened.resource)))
        except BaseException as error:
            if opened is not None and opened is not start.reused:
                await self._close(member, opened.resource)
            pool.started(slot, start, None, error, what)
            if not is_a(error, Exception):
                raise
        else:
            pool.started(slot, start, opened, None, what)

    def close(self, member: Member[Any], resource: Any) -> None:
        if member.close is not None:
            self.begin(lambda: self._close(member, resource))

    async def _close(self, member: Member[Any], resource: Any) -> None:
        try:
            if member.close is not None:
                await awaited(await called(member.close, resource))
        except Exception as error:  # noqa: BLE001 - nobody is left who could handle it
            self._close_failed(member.name, "close", error)

    def _close_late(self, member: Member[Any], resource: Any) -> None:
        """Close what came after it was given up, on the running loop: the pool may be closed."""
        self._run(asyncio.get_running_loop(), self._close(member, resource))

    def begin(
        self, make: Callable[[], Coroutine[Any, Any, None]], start: MemberStart | None = None
    ) -> None:
        """Run a coroutine as a task of the loop, from whatever thread."""
        event_loop = self.event_loop
        if event_loop is None or event_loop.is_closed():
            return

        def begin_here() -> None:
            task = self._run(event_loop, make())
            if start is not None:
                start.cancel = task.cancel

        if running_loop() is event_loop:
            begin_here()
        else:
            event_loop.call_soon_threadsafe(begin_here)

    def _run(
        self, event_loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]
    ) -> asyncio.Task[None]:
        task = event_loop.create_task(work)
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return task

    async def join(self, seconds: float) -> None:
        """Await all tasks, for at most *seconds*; then belong to no event loop."""
        await asyncio.sleep(0)  # what was just begun is known only after a turn of the loop
        if self.running:
            await asyncio.wait(self.running, timeout=seconds)
        self.event_loop = None

    def reset(self) -> None:
        """Belong to no event loop, as in a forked child."""
        self.event_loop = None
