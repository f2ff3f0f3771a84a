"""How operations are driven: each exchange by a session of a pool, in a thread or in a task."""

import asyncio
import weakref
from collections.abc import Sequence
from typing import TypeVar

from mainstay._core.clock import monotonic
from mainstay._core.context import current_context
from mainstay.stores._driving import adrive, drive
from mainstay.stores._postgres.failures import Failure
from mainstay.stores._postgres.operations import Operation, Rest
from mainstay.stores._postgres.pool import AsyncPool, Origin, Pool
from mainstay.stores._postgres.schema import Exchanges, checking, migrating
from mainstay.stores._postgres.waiting import afinish, finish
from mainstay.stores._postgres.wire import Bound, Reply
from mainstay.stores.base import call_seconds

T = TypeVar("T")


class Client:
    """What a store sends its operations by.

    Args:
        origin: Where the server is.
        url: What the store is called in messages.
        schema: In which schema the tables are.
        size: Most connections of the process, and of each event loop.
        timeout: Most seconds for an exchange, or None.
    """

    def __init__(
        self, origin: Origin, url: str, schema: str, size: int, timeout: float | None
    ) -> None:
        self._origin = origin
        self._url = url
        self._schema = schema
        self._size = size
        self._timeout = timeout
        self._has_tables = False
        self._reset()

    def _reset(self) -> None:
        self._pool = Pool(self._origin, self._size)
        self._renewals = Pool(self._origin, 1)
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncPool] = (
            weakref.WeakKeyDictionary()
        )

    def _pools(self) -> tuple[Pool | AsyncPool, ...]:
        return self._pool, self._renewals, *self._loops.values()

    def abandon(self) -> None:
        """Abandon all connections, which are the parent's."""
        for pool in self._pools():
            pool.sessions.abandon()
        self._reset()

    def close(self) -> None:
        """Close the connections that nobody uses; the others when they are given back."""
        self._origin.generation += 1
        for pool in self._pools():
            pool.sessions.close()

    def run(
        self, operation: Operation[T], lease: float | None = None, *, renews: bool = False
    ) -> T:
        """Run an operation to its end, each exchange within the time that a call may take.

        Args:
            operation: What to do.
            lease: The seconds of the lease that the operation is about, or None.
            renews: True for what must not wait for saves.

        Raises:
            StoreUnavailableError: If an exchange fails.
            StoreSchemaError: If the tables are not there, and cannot be made.
        """
        seconds = call_seconds(self._timeout, lease)
        pool = self._renewals if renews else self._pool

        def send(wanted: Sequence[Bound] | Rest) -> list[Reply]:
            if isinstance(wanted, Rest):
                current_context().clock.sleep(wanted.seconds)
                return []
            return pool.exchange(wanted, monotonic() + seconds)

        try:
            if not self._has_tables:
                self._prepare_tables(checking(self._url, self._schema))
            return drive(operation, send)
        except Failure as failure:
            raise failure.told(self._url) from None

    async def arun(self, operation: Operation[T], lease: float | None = None) -> T:
        """As `run`, in a task."""
        seconds = call_seconds(self._timeout, lease)
        pool = self._pool_of_loop()

        async def send(wanted: Sequence[Bound] | Rest) -> list[Reply]:
            if isinstance(wanted, Rest):
                await current_context().clock.asleep(wanted.seconds)
                return []
            return await pool.exchange(wanted, monotonic() + seconds)

        try:
            if not self._has_tables:
                await self._aprepare_tables(pool, checking(self._url, self._schema))
            return await adrive(operation, send)
        except Failure as failure:
            raise failure.told(self._url) from None

    def migrate(self) -> None:
        """Make the tables, or bring them up to date.

        Raises:
            StoreUnavailableError: If the server cannot be reached, or refuses.
            StoreSchemaError: If they cannot be made, or are of a newer mainstay.
        """
        try:
            self._prepare_tables(migrating(self._url, self._schema))
        except Failure as failure:
            raise failure.told(self._url) from None

    def _pool_of_loop(self) -> AsyncPool:
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            found = self._loops[loop] = AsyncPool(self._origin, self._size)
        return found

    def _prepare_tables(self, exchanges: Exchanges) -> None:
        """Find or make the tables, by one session."""
        ends = monotonic() + call_seconds(self._timeout)
        session = self._pool.connected(ends)
        try:
            drive(exchanges, lambda wanted: finish(session.exchange(wanted, prepare=False), ends))
        except BaseException:
            self._pool.sessions.drop(session)
            raise
        self._has_tables = True
        self._pool.sessions.give_back(session)

    async def _aprepare_tables(self, pool: AsyncPool, exchanges: Exchanges) -> None:
        """As `_prepare_tables`, in a task."""
        ends = monotonic() + call_seconds(self._timeout)
        session = await pool.connected(ends)
        try:
            await adrive(
                exchanges, lambda wanted: afinish(session.exchange(wanted, prepare=False), ends)
            )
        except BaseException:
            pool.sessions.drop(session)
            raise
        self._has_tables = True
        pool.sessions.give_back(session)
