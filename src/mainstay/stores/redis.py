"""`RedisStore`: runs in a Redis or Valkey server, which many machines share.

A save is one script, which checks token and grant and writes, in one round trip. Threads and tasks
send the same commands: an operation is a generator, and here it is driven.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from mainstay._core.arguments import Duration, to_limit
from mainstay._core.clock import monotonic
from mainstay._core.forks import reset_after_fork
from mainstay._core.sharing import Shared
from mainstay.stores._driving import adrive, drive
from mainstay.stores._redis import operations
from mainstay.stores._redis.address import to_redis_address
from mainstay.stores._redis.failures import RedisFailure
from mainstay.stores._redis.operations import RedisOperation
from mainstay.stores._redis.pool import AsyncRedisPool, RedisPool
from mainstay.stores._redis.probing import probing, surveying
from mainstay.stores.base import (
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


class RedisStore(Shared):
    """Keeps runs in Redis 6 or newer, or Valkey: a store for many machines.

    Saves are kept on the disk of the server. For that the server must have ``appendonly yes``,
    ``appendfsync always`` and ``maxmemory-policy noeviction``; otherwise the first run raises an
    error. A failover to a replica can lose the last saves, also with Sentinel and ``WAIT``, since
    replicas lag behind; the run then continues from an earlier save. A run never has two owners:
    the store refuses saves of an owner that has lost the run, also after a failover. The death of
    an owner on another machine is known when its lease ends.

    All keys begin with ``{mainstay}:``. In a Redis Cluster, one server must have all of them.

    Sync and async runs may share one object; async runs use no threads.

    Args:
        url: ``redis://user:password@host:6379/0``, or ``rediss://`` for TLS, which checks the
            certificate of the server. Options follow behind ``?``: ``ssl_ca_certs=`` for a file
            with your own certificate authorities, ``ssl_certfile=`` and ``ssl_keyfile=`` for a
            client certificate. ``durability=everysec`` accepts a server with
            ``appendfsync everysec``: saves are several times faster, and a crash of the server
            loses the saves of its last second or two.
        timeout: The longest time for an operation: seconds or a `timedelta`, above 0. None for a
            third of the lease in question, and 10 seconds for operations without a lease.

    Raises:
        TypeError: If *url* is not a string, or *timeout* is not a duration.
        ValueError: If *url* is not a URL of Redis, or *timeout* is out of its range.
        ImportError: If redis-py is not installed; the extra `redis` installs it.
        StoreUnavailableError: From every operation, if the server cannot be reached, refuses, or
            does not answer in time; from an acquisition, if the settings of the server can lose
            saves.
        StoreSchemaError: If the keys belong to a newer mainstay, or to another program.
        CorruptCheckpointError: From an operation, if another program wrote into a run.

    Example:
        >>> from mainstay.stores import RedisStore
        >>> RedisStore("redis://app:secret@db/0")
        RedisStore('redis://app@db:6379/0')
    """

    def __init__(self, url: str, *, timeout: Duration | None = None) -> None:
        self._address = to_redis_address(url)
        self.url: str = self._address.shown
        self._timeout = to_limit(timeout, "timeout")
        self._clock: Callable[[], float] | None = None
        self._is_open = self._is_sound = False
        self._reset()
        reset_after_fork(self, RedisStore._reset)

    def __repr__(self) -> str:
        return f"RedisStore({self.url!r})"

    def _reset(self) -> None:
        """Begin without connections; those of the parent of a forked child stay open there."""
        self._pool = RedisPool(self._address)
        self._renewals = RedisPool(self._address)
        self._loops: dict[asyncio.AbstractEventLoop, AsyncRedisPool] = {}

    def acquire(self, run: RunId, request: Request) -> Acquisition:
        """Decide who may work on *run*."""
        return self._run(self._acquiring(run, request), request.lease)

    def load(self, run: RunId) -> Contents:
        """Return the saved data of *run*."""
        return self._run(operations.loading(run))

    def commit(self, lease: RunLease, change: Change) -> None:
        """Write *change* and renew the lease; a result alone renews it once a third is over."""
        self._run(operations.committing(lease, change, self._now()), lease.seconds)

    def renew(self, leases: Sequence[RunLease]) -> Sequence[RunLease]:
        """Renew many leases by one script; return those that are lost."""
        if not leases:
            return []
        shortest = min(each.seconds for each in leases)
        return self._run(operations.renewing(leases, self._now()), shortest, self._renewals)

    def release(
        self, lease: RunLease, how: Exit, error: str = "", drop: tuple[int, ...] = ()
    ) -> None:
        """Release the run before its end."""
        self._run(operations.releasing(lease, how, error, drop, self._now()), lease.seconds)

    async def aacquire(self, run: RunId, request: Request) -> Acquisition:
        """As `acquire`."""
        return await self._arun(self._acquiring(run, request), request.lease)

    async def acommit(self, lease: RunLease, change: Change) -> None:
        """As `commit`."""
        await self._arun(operations.committing(lease, change, self._now()), lease.seconds)

    async def arelease(
        self, lease: RunLease, how: Exit, error: str = "", drop: tuple[int, ...] = ()
    ) -> None:
        """As `release`."""
        steps = operations.releasing(lease, how, error, drop, self._now())
        await self._arun(steps, lease.seconds)

    def list(
        self,
        name: str | None = None,
        *,
        status: Status | None = None,
        after: RunId | None = None,
        limit: int | None = None,
    ) -> Sequence[tuple[Record, Status]]:
        """Return runs, sorted by name and key, each with its state."""
        return self._run(operations.listing(name, status, after, limit, self._now()))

    def forget(self, run: RunId) -> bool:
        """Remove *run*."""
        return self._run(operations.forgetting(run, self._now()))

    def _count_runs(self) -> Counter[tuple[str, Status]]:
        """Count runs by name and state, as `count_runs` does."""
        return self._run(operations.counting(self._now()))

    def _surplus_runs(
        self, ended: RunId, most: int | None, seconds: float | None, wall: float
    ) -> Sequence[RunId]:
        """Choose among finished runs, as `surplus_runs` does; by the server's clock."""
        del wall
        return self._run(operations.choosing(ended, most, seconds, self._now()))

    def probe(self) -> Promises:
        """Find out what the server can promise."""
        return self._run(probing(everysec=self._address.everysec))

    def close(self) -> None:
        """Close the connections of this process."""
        pools: tuple[RedisPool | AsyncRedisPool, ...]
        pools = self._pool, self._renewals, *self._loops.values()
        for pool in pools:
            pool.close()

    def _wait_for_release(self, run: RunId, seconds: float) -> None:
        """Return when *run* is released or ends, or after *seconds*."""
        ends = monotonic() + seconds
        try:
            self._pool.hear(
                operations.channel_of(run), lambda: self._run(operations.awaiting(run)), ends
            )
        except RedisFailure as failure:
            raise failure.told(self.url) from None

    async def _await_release(self, run: RunId, seconds: float) -> None:
        """As `_wait_for_release`, in a task."""
        ends = monotonic() + seconds
        try:
            await self._pool_of_loop().hear(
                operations.channel_of(run), lambda: self._arun(operations.awaiting(run)), ends
            )
        except RedisFailure as failure:
            raise failure.told(self.url) from None

    def _acquiring(self, run: RunId, request: Request) -> RedisOperation[Acquisition]:
        if not self._is_sound:
            yield from surveying(everysec=self._address.everysec)
            self._is_sound = True
        return (yield from operations.acquiring(run, request, self._now()))

    def _opened(self, operation: RedisOperation[T]) -> RedisOperation[T]:
        if not self._is_open:
            yield from operations.opening()
            self._is_open = True
        return (yield from operation)

    def _now(self) -> float | None:
        """Return the time that scripts are to take for the present one: a test's, or None."""
        return None if self._clock is None else self._clock()

    def _run(
        self,
        operation: RedisOperation[T],
        lease: float | None = None,
        pool: RedisPool | None = None,
    ) -> T:
        """Run an operation to its end, within the time that a call may take."""
        ends = monotonic() + call_seconds(self._timeout, lease)
        pool = pool or self._pool
        try:
            return drive(self._opened(operation), lambda wanted: pool.exchange(wanted, ends))
        except RedisFailure as failure:
            raise failure.told(self.url) from None

    async def _arun(self, operation: RedisOperation[T], lease: float | None = None) -> T:
        """As `_run`, in a task."""
        ends = monotonic() + call_seconds(self._timeout, lease)
        pool = self._pool_of_loop()
        try:
            return await adrive(self._opened(operation), lambda wanted: pool.exchange(wanted, ends))
        except RedisFailure as failure:
            raise failure.told(self.url) from None

    def _pool_of_loop(self) -> AsyncRedisPool:
        loop = asyncio.get_running_loop()
        pool = self._loops.get(loop)
        if pool is None:
            pool = self._loops[loop] = AsyncRedisPool(self._address, self._loops)
        return pool
