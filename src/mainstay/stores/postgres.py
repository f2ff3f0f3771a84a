"""`PostgresStore`: runs in a PostgreSQL database, which many machines share.

A save is one statement, which is one transaction and one round trip; nothing is ever open in
between, so that a pooler may give each statement to another session of the server. Threads and
tasks send the same statements: an operation is a generator, and here it is driven.
"""

import asyncio
import math
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from mainstay._core.arguments import to_flag
from mainstay._core.clock import SYSTEM, monotonic
from mainstay._core.context import current_context
from mainstay._core.forks import reset_after_fork
from mainstay._core.sharing import Shared
from mainstay.errors import LeaseLostError, StoreUnavailableError
from mainstay.stores._postgres.address import DEFAULT_SCHEMA, to_address, to_schema
from mainstay.stores._postgres.failures import Failure, told
from mainstay.stores._postgres.guard import Guard
from mainstay.stores._postgres.operations import (
    Operation,
    Operations,
    Pause,
    payload,
)
from mainstay.stores._postgres.pool import AsyncPool, Origin, Pool
from mainstay.stores._postgres.schema import Exchanges, checking, migrating
from mainstay.stores._postgres.statements import statements
from mainstay.stores._postgres.waiting import adrive, drive
from mainstay.stores.base import (
    Acquired,
    Acquisition,
    Change,
    Contents,
    Exit,
    Promises,
    Record,
    Request,
    RunId,
    RunLease,
    Status,
    call_seconds,
)

T = TypeVar("T")

_MOST_CONNECTIONS = 64


class PostgresStore(Shared):
    """Keeps runs in PostgreSQL."""

    def __init__(
        self,
        url: str,
        *,
        schema: str = DEFAULT_SCHEMA,
        pool: int = 4,
        prepare: bool = True,
        session_locks: bool | Literal["auto"] = "auto",
        timeout: float | None = None,
    ) -> None:
        address = to_address(url)
        self.url: str = address.shown
        self._schema = address.schema or to_schema(schema)
        self._size = _to_size(pool)
        self._timeout = _to_timeout(timeout)
        self._locks = _to_locks(session_locks)
        prepares = to_flag(prepare, "prepare") and address.prepare is not False
        self._origin = Origin(address, prepares)
        self._operations = Operations(statements(self._schema))
        self._clock: Callable[[], float] | None = None
        self._has_tables = False
        self._reset()
        reset_after_fork(self, PostgresStore._after_fork)

    def __repr__(self) -> str:
        return f"PostgresStore({self.url!r})"

    def _reset(self) -> None:
        self._pool = Pool(self._origin, self._size)
        self._renewals = Pool(self._origin, 1)
        self._held: set[RunId] = set()
        self._renew_guard()
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncPool] = (
            weakref.WeakKeyDictionary()
        )

    def _renew_guard(self) -> None:
        self._guard = Guard(
            self._origin, self._operations.sql, self.url, locks=self._locks is not False
        )
        self._at_exit = weakref.finalize(self, self._guard.stop)

    def _after_fork(self) -> None:
        for pool in self._pools():
            pool.abandon()
        self._at_exit.detach()
        self._guard.abandon()
        self._reset()

    def _pools(self) -> tuple[Pool | AsyncPool, ...]:
        return self._pool, self._renewals, *self._loops.values()

    @classmethod
    def migrate(cls, url: str) -> None:
        """Make the tables, or bring them up to date."""
        store = cls(url)
        try:
            store._prepare_tables(migrating(store.url, store._schema))
        finally:
            store.close()

    def acquire(self, run: RunId, request: Request) -> Acquisition:
        """Decide who may work on *run*."""
        seconds = call_seconds(self._timeout, request.lease)
        if self._locks is not False and not self._guard.held.number:
            self._guard.start()
            self._guard.settled.wait(SYSTEM, seconds)
        return self._acquired(run, self._run(self._acquiring(run, request), request.lease))

    def load(self, run: RunId) -> Contents:
        """Return what is kept for *run*."""
        return self._run(self._operations.loading(_checked(run)))

    def commit(self, lease: RunLease, change: Change) -> None:
        """Write *change* and renew the lease."""
        try:
            self._run(self._operations.committing(lease, change, self._now()), lease.seconds)
        except LeaseLostError:
            self._held.discard(lease.run)
            raise
        if change.finished:
            self._held.discard(lease.run)

    def renew(self, leases: Sequence[RunLease]) -> Sequence[RunLease]:
        """Renew many leases by one statement; return those that are lost."""
        if not leases:
            return []
        shortest = min(each.seconds for each in leases)
        return self._run(self._operations.renewing(leases, self._now()), shortest, self._renewals)

    def release(
        self, lease: RunLease, how: Exit, error: str = "", drop: tuple[int, ...] = ()
    ) -> None:
        """Release the run before its end."""
        self._run(self._operations.releasing(lease, how, error, drop, self._now()), lease.seconds)
        self._held.discard(lease.run)

    async def aacquire(self, run: RunId, request: Request) -> Acquisition:
        """As `acquire`."""
        seconds = call_seconds(self._timeout, request.lease)
        if self._locks is not False and not self._guard.held.number:
            self._guard.start()
            await self._guard.settled.await_(SYSTEM, seconds)
        return self._acquired(run, await self._arun(self._acquiring(run, request), request.lease))

    async def acommit(self, lease: RunLease, change: Change) -> None:
        """As `commit`."""
        try:
            steps = self._operations.committing(lease, change, self._now())
            await self._arun(steps, lease.seconds)
        except LeaseLostError:
            self._held.discard(lease.run)
            raise
        if change.finished:
            self._held.discard(lease.run)

    async def arelease(
        self, lease: RunLease, how: Exit, error: str = "", drop: tuple[int, ...] = ()
    ) -> None:
        """As `release`."""
        steps = self._operations.releasing(lease, how, error, drop, self._now())
        await self._arun(steps, lease.seconds)
        self._held.discard(lease.run)

    def list(
        self,
        name: str | None = None,
        *,
        status: Status | None = None,
        after: RunId | None = None,
        limit: int | None = None,
    ) -> Sequence[tuple[Record, Status]]:
        """Return runs, sorted by name and key, each with its state."""
        return self._run(self._operations.listing(name, status, after, limit, self._now()))

    def forget(self, run: RunId) -> bool:
        """Remove *run*."""
        return self._run(self._operations.forgetting(_checked(run), self._now()))

    def _count_runs(self) -> Counter[tuple[str, Status]]:
        """Count runs by name and state, as `count_runs` does."""
        return self._run(self._operations.counting(self._now()))

    def _surplus_runs(
        self, ended: RunId, most: int | None, seconds: float | None, wall: float
    ) -> Sequence[RunId]:
        """Choose among finished runs, as `surplus_runs` does; by the server's clock."""
        del wall
        return self._run(self._operations.choosing(ended, most, seconds))

    def probe(self) -> Promises:
        """Find out what the server can promise."""
        self._guard.start()
        self._guard.settled.wait(SYSTEM, call_seconds(self._timeout))
        wanted = self._locks is not False
        return self._run(self._operations.probing(pooled=self._guard.useless, locks=wanted))

    def close(self) -> None:
        """Close the connections of this process, but for that which proves that it lives.

        That one is closed as well if the process has no run of the store.
        """
        self._origin.generation += 1
        for pool in self._pools():
            pool.close()
        if not self._held:
            self._at_exit()
            self._renew_guard()

    def _wait_for_release(self, run: RunId, seconds: float) -> None:
        """Return when *run* is released or ends, or after *seconds*."""
        ends = monotonic() + seconds
        with self._guard.hearing(payload(run)) as (begun, left):
            begun.wait(SYSTEM, ends - monotonic())
            if monotonic() < ends and self._run(self._operations.awaiting(run)):
                left.wait(SYSTEM, max(0.0, ends - monotonic()))

    async def _await_release(self, run: RunId, seconds: float) -> None:
        """As `_wait_for_release`, in a task."""
        ends = monotonic() + seconds
        with self._guard.hearing(payload(run)) as (begun, left):
            await begun.await_(SYSTEM, ends - monotonic())
            if monotonic() < ends and await self._arun(self._operations.awaiting(run)):
                await left.await_(SYSTEM, max(0.0, ends - monotonic()))

    def _acquiring(self, run: RunId, request: Request) -> Operation[Acquisition]:
        if self._locks and self._guard.useless:
            raise StoreUnavailableError(
                self.url,
                "session_locks=True needs a direct connection, and a pooler is in between; leave "
                'it at "auto", or give the store a direct connection',
            )
        return self._operations.acquiring(_checked(run), request, self._guard.held, self._now())

    def _acquired(self, run: RunId, answer: Acquisition) -> Acquisition:
        if isinstance(answer, Acquired):
            self._held.add(run)
        return answer

    def _now(self) -> float | None:
        """Return the time that statements are to take for the present one: a test's, or None."""
        return None if self._clock is None else self._clock()

    def _run(
        self, operation: Operation[T], lease: float | None = None, pool: Pool | None = None
    ) -> T:
        """Run an operation to its end, each exchange within the time that a call may take."""
        seconds = call_seconds(self._timeout, lease)
        pool = pool or self._pool
        try:
            if not self._has_tables:
                self._prepare_tables(checking(self.url, self._schema))
            wanted = next(operation)
            while True:
                if isinstance(wanted, Pause):
                    current_context().clock.sleep(wanted.seconds)
                    wanted = operation.send([])
                    continue
                try:
                    answers = pool.exchange(wanted, monotonic() + seconds)
                except Failure as failure:
                    wanted = operation.throw(failure)
                else:
                    wanted = operation.send(answers)
        except StopIteration as ended:
            found: T = ended.value
            return found
        except Failure as failure:
            raise told(failure, self.url) from None

    async def _arun(self, operation: Operation[T], lease: float | None = None) -> T:
        """As `_run`, in a task."""
        seconds = call_seconds(self._timeout, lease)
        try:
            pool = self._pool_of_loop()
            if not self._has_tables:
                await self._aprepare_tables(pool, checking(self.url, self._schema))
            wanted = next(operation)
            while True:
                if isinstance(wanted, Pause):
                    await current_context().clock.asleep(wanted.seconds)
                    wanted = operation.send([])
                    continue
                try:
                    answers = await pool.exchange(wanted, monotonic() + seconds)
                except Failure as failure:
                    wanted = operation.throw(failure)
                else:
                    wanted = operation.send(answers)
        except StopIteration as ended:
            found: T = ended.value
            return found
        except Failure as failure:
            raise told(failure, self.url) from None

    def _pool_of_loop(self) -> AsyncPool:
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            found = self._loops[loop] = AsyncPool(self._origin, self._size)
        return found

    def _prepare_tables(self, exchanges: Exchanges) -> None:
        """Find or make the tables, on one session."""
        ends = monotonic() + call_seconds(self._timeout)
        session = self._pool.connected(ends)
        try:
            wanted = next(exchanges)
            while True:
                try:
                    answers = drive(session.exchange(wanted, prepare=False), ends)
                except Failure as failure:
                    wanted = exchanges.throw(failure)
                else:
                    wanted = exchanges.send(answers)
        except StopIteration:
            self._has_tables = True
            self._pool.keep(session)
        except BaseException:
            self._pool.drop(session)
            raise

    async def _aprepare_tables(self, pool: AsyncPool, exchanges: Exchanges) -> None:
        """As `_prepare_tables`, in a task."""
        ends = monotonic() + call_seconds(self._timeout)
        session = await pool.connected(ends)
        try:
            wanted = next(exchanges)
            while True:
                try:
                    answers = await adrive(session.exchange(wanted, prepare=False), ends)
                except Failure as failure:
                    wanted = exchanges.throw(failure)
                else:
                    wanted = exchanges.send(answers)
        except StopIteration:
            self._has_tables = True
            pool.keep(session)
        except BaseException:
            pool.drop(session)
            raise


def _checked(run: RunId) -> RunId:
    for what, text in (("name", run.name), ("key", run.key)):
        if "\0" in text:
            raise ValueError(
                f"the {what} of a run must have no NUL, which PostgreSQL cannot hold: {text!a}"
            )
    return run


def _to_size(pool: object) -> int:
    if isinstance(pool, bool) or not isinstance(pool, int):
        raise TypeError(f"`pool` must be an int, not {pool!r}")
    if not 1 <= pool <= _MOST_CONNECTIONS:
        raise ValueError(f"`pool` must be from 1 to {_MOST_CONNECTIONS} connections, not {pool}")
    return pool


def _to_locks(session_locks: object) -> bool | None:
    """Return whether to hold session locks; None means where that proves something."""
    if session_locks == "auto":
        return None
    if not isinstance(session_locks, bool):
        raise TypeError(f'`session_locks` must be "auto", True or False, not {session_locks!r}')
    return session_locks


def _to_timeout(timeout: object) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"`timeout` must be a number of seconds or None, not {timeout!r}")
    if not 0 < timeout < math.inf:
        raise ValueError(f"`timeout` must be above 0 seconds and finite, not {timeout}")
    return float(timeout)
