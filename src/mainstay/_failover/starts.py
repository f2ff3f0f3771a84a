"""Starting and closing members: the user's `open`, `close` and `fence`, in threads or in tasks.

They never run in the thread or task of a call, so that a call can give up on them: `Threads` runs
each in a daemon thread, `Tasks` in a task of the pool's event loop. Both tell the pool how it
went; whoever waits, waits for the pool.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from mainstay._failover.hooks import Helpers, called, check, plain, running_loop, settled
from mainstay._failover.members import Opened, Slot, Start
from mainstay._failover.options import Member

if TYPE_CHECKING:
    from mainstay._failover.results import Results


class Threads:
    """Does it in daemon threads, one each.

    Attributes:
        loop: None; only tasks need one.
        helpers: The threads.
    """

    def __init__(self, pool: "Results") -> None:
        self._pool = pool
        self.loop: asyncio.AbstractEventLoop | None = None
        self.helpers: Helpers = Helpers()

    def start(self, slot: Slot, start: Start) -> None:
        limit = slot.member.start_timeout
        self.helpers.begin(f"mainstay-start-{slot.name}", limit, self._start, slot, start)

    def _start(self, slot: Slot, start: Start) -> None:
        pool, member, rules = self._pool, slot.member, self._pool.rules
        opened, what = start.reused, "fence"
        try:
            if rules.fence is not None:
                for old in start.replaces:
                    plain(rules.fence(old, member.name), "fence")
                    pool.cleared(slot, start, old)
            what = "open"
            if opened is None and member.open is not None:
                opened = Opened(plain(member.open(), "open"))
            what = "probe"
            if rules.probe is not None and member.standby == "cold" and opened is not None:
                check(plain(rules.probe.fn(opened.resource), "fn"))
        except Exception as error:  # noqa: BLE001 - told to those who wait for the member
            if opened is not None and opened is not start.reused:
                self._close(member, opened.resource)
            pool.started(slot, start, None, error, what)
        else:
            pool.started(slot, start, opened, None, what)

    def close(self, member: Member, resource: Any) -> None:
        if member.close is not None:
            name, limit = f"mainstay-close-{member.name}", member.start_timeout
            self.helpers.begin(name, limit, self._close, member, resource)

    def _close(self, member: Member, resource: Any) -> None:
        try:
            if member.close is not None:
                plain(member.close(resource), "close")
        except Exception as error:  # noqa: BLE001 - nobody is left who could handle it
            self._pool.close_failed(member, error)


class Tasks:
    """Does it in tasks of the pool's event loop.

    Attributes:
        loop: The loop, once the pool is used in one.
        running: The tasks that run just now.
    """

    def __init__(self, pool: "Results") -> None:
        self._pool = pool
        self.loop: asyncio.AbstractEventLoop | None = None
        self.running: set[asyncio.Task[None]] = set()

    def start(self, slot: Slot, start: Start) -> None:
        self.begin(lambda: self._start(slot, start), start)

    async def _start(self, slot: Slot, start: Start) -> None:
        pool, member, rules = self._pool, slot.member, self._pool.rules
        opened, what = start.reused, "fence"
        try:
            if rules.fence is not None:
                for old in start.replaces:
                    await settled(await called(rules.fence, old, member.name))
                    pool.cleared(slot, start, old)
            what = "open"
            if opened is None and member.open is not None:
                late = functools.partial(self._close_late, member)
                opened = Opened(await settled(await called(member.open, late=late)))
            what = "probe"
            if rules.probe is not None and member.standby == "cold" and opened is not None:
                check(await settled(await called(rules.probe.fn, opened.resource)))
        except BaseException as error:
            if opened is not None and opened is not start.reused:
                await self._close(member, opened.resource)
            pool.started(slot, start, None, error, what)
            if not isinstance(error, Exception):
                raise
        else:
            pool.started(slot, start, opened, None, what)

    def close(self, member: Member, resource: Any) -> None:
        if member.close is not None:
            self.begin(lambda: self._close(member, resource))

    async def _close(self, member: Member, resource: Any) -> None:
        try:
            if member.close is not None:
                await settled(await called(member.close, resource))
        except Exception as error:  # noqa: BLE001 - nobody is left who could handle it
            self._pool.close_failed(member, error)

    def _close_late(self, member: Member, resource: Any) -> None:
        """Close what came after it was given up, on the running loop: the pool may be closed."""
        task = asyncio.get_running_loop().create_task(self._close(member, resource))
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    def begin(
        self, make: Callable[[], Coroutine[Any, Any, None]], start: Start | None = None
    ) -> None:
        """Run a coroutine as a task of the loop, from whatever thread."""
        loop = self.loop
        if loop is None or loop.is_closed():
            return

        def begin_here() -> None:
            task = loop.create_task(make())
            self.running.add(task)
            task.add_done_callback(self.running.discard)
            if start is not None:
                start.cancel = task.cancel

        if running_loop() is loop:
            begin_here()
        else:
            loop.call_soon_threadsafe(begin_here)
