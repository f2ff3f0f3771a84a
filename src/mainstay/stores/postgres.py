"""`PostgresStore`: runs in a PostgreSQL database, which many machines share.

A save is one statement, which is one transaction and one round trip; nothing is ever open in
between, so that a pooler may give each statement to another session of the server. Threads and
tasks send the same statements: an operation is a generator, and here it is driven.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from mainstay._core.arguments import Duration, to_flag, to_limit
from mainstay._core.clock import SYSTEM, monotonic
from mainstay._core.forks import reset_after_fork
from mainstay._core.sharing import Shared
from mainstay.errors import LeaseLostError, StoreUnavailableError
from mainstay.stores._postgres.address import DEFAULT_SCHEMA, to_address, to_schema
from mainstay.stores._postgres.client import Client
from mainstay.stores._postgres.guard import Guard
from mainstay.stores._postgres.operations import (
    Operation,
    Operations,
    payload,
)
from mainstay.stores._postgres.pool import Origin
from mainstay.stores._postgres.statements import statements
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
    """Keeps runs in a PostgreSQL database: a store for many machines.

    Any number of processes on any number of machines may use one database. A commit is as durable
    as the server makes its commits; `probe` says if the settings of the server weaken that. A save
    is one statement, one transaction and one round trip. The tables are made at first use if the
    user has the rights, or by `migrate`.

    The death of an owner on another machine is known at once: each process holds a lock in a
    session of the server, over a connection of its own. Behind a connection pooler such a lock
    proves nothing, so there the end of the lease counts, and prepared statements are not used.

    Async code uses connections of its own in each event loop, without threads.

    A store URL is ``postgresql://user:password@host:5432/database``. More hosts may follow behind
    commas; the store uses the host that accepts writes. Options of libpq, such as
    ``sslmode=verify-full``, follow behind ``?``, and so do ``prepare=no`` and ``schema=name``. The
    password may also come from `$PGPASSWORD` or a password file; it appears in no message.

    Needs the extra ``postgres``.

    Args:
        url: The address of the database.
        schema: The schema that has the tables, a name of up to 48 bytes. A schema in *url* wins.
        pool: The largest number of connections for saves, for the sync code of the process and for
            each event loop: 1 to 64. One more connection is for renewals, and one for the lock.
        prepare: False to use no prepared statements, for a connection pooler that the store cannot
            detect.
        session_locks: "auto" to hold a lock, except behind a connection pooler. True to raise an
            error behind a pooler. False to hold no lock, which saves its connection.
        timeout: The longest time for each round trip: seconds or a `timedelta`, above 0. None for a
            third of the lease in question, and 10 seconds for requests without a lease. After that
            time the connection is closed.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If *url* is not a URL of PostgreSQL, or an argument is out of its range. At use,
            if the name or key of a run contains NUL, which PostgreSQL cannot store, or if they are
            too long for an index: below 2,600 bytes together is never too long.
        ImportError: If psycopg is not installed.
        StoreUnavailableError: From every operation, if the server cannot be reached, refuses, or
            does not answer in time. `retryable` is True if the problem may pass.
        StoreSchemaError: At first use, if the tables cannot be made, or belong to a newer mainstay.
        CorruptCheckpointError: From an operation, if the server finds a table damaged.

    Example:
        >>> from mainstay.stores import PostgresStore
        >>> PostgresStore("postgresql://app:secret@db1,db2/jobs")
        PostgresStore('postgresql://app@db1,db2/jobs')
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = DEFAULT_SCHEMA,
        pool: int = 4,
        prepare: bool = True,
        session_locks: bool | Literal["auto"] = "auto",
        timeout: Duration | None = None,
    ) -> None:
        address = to_address(url)
        self.url: str = address.shown
        self._schema = address.schema or to_schema(schema)
        self._size = _to_size(pool)
        self._timeout = to_limit(timeout, "timeout")
        self._locks = _to_locks(session_locks)
        prepares = to_flag(prepare, "prepare") and address.prepare is not False
        self._origin = Origin(address, prepares)
        self._operations = Operations(statements(self._schema))
        self._client = Client(self._origin, self.url, self._schema, self._size, self._timeout)
        self._clock: Callable[[], float] | None = None
        self._held: set[RunId] = set()
        self._renew_guard()
        reset_after_fork(self, PostgresStore._after_fork)

    def __repr__(self) -> str:
        return f"PostgresStore({self.url!r})"

    def _renew_guard(self) -> None:
        self._guard = Guard(
            self._origin, self._operations.sql, self.url, locks=self._locks is not False
        )
        self._at_exit = weakref.finalize(self, self._guard.stop)

    def _after_fork(self) -> None:
        self._client.abandon()
        self._at_exit.detach()
        self._guard.abandon()
        self._held.clear()
        self._renew_guard()

    @classmethod
    def migrate(cls, url: str) -> None:
        """Make the tables, or bring them up to date; call this once for each version of mainstay.

        The user in *url* needs the right to make tables. Users of the store then need only USAGE on
        the schema, and SELECT, INSERT, UPDATE and DELETE on all its tables. Any number of processes
        may call this at the same time.

        Args:
            url: As for the store, with ``schema=name`` for another schema than ``mainstay``.

        Raises:
            TypeError: If *url* is not a string.
            ValueError: If *url* is not a URL of PostgreSQL.
            StoreSchemaError: If the user may not make tables, or the tables belong to a newer
                mainstay.
            StoreUnavailableError: If the server cannot be reached, or refuses.
        """
        store = cls(url)
        try:
            store._client.migrate()
        finally:
            store.close()

    def acquire(self, run: RunId, request: Request) -> Acquisition:
        """Decide who may work on *run*."""
        guard = self._guard_to_await()
        if guard is not None:
            guard.settled.wait(SYSTEM, call_seconds(self._timeout, request.lease) / 2)
        return self._acquired(run, self._client.run(self._acquiring(run, request), request.lease))

    def load(self, run: RunId) -> Contents:
        """Return the saved data of *run*."""
        return self._client.run(self._operations.loading(_checked(run)))

    def commit(self, lease: RunLease, change: Change) -> None:
        """Write *change* and renew the lease."""
        try:
            self._client.run(self._operations.committing(lease, change, self._now()), lease.seconds)
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
        return self._client.run(
            self._operations.renewing(leases, self._now()), shortest, renews=True
        )

    def release(
        self, lease: RunLease, how: Exit, error: str = "", drop: tuple[int, ...] = ()
    ) -> None:
        """Release the run before its end."""
        self._client.run(
            self._operations.releasing(lease, how, error, drop, self._now()), lease.seconds
        )
        self._held.discard(lease.run)

    async def aacquire(self, run: RunId, request: Request) -> Acquisition:
        """As `acquire`."""
        guard = self._guard_to_await()
        if guard is not None:
            await guard.settled.await_(SYSTEM, call_seconds(self._timeout, request.lease) / 2)
        return self._acquired(
            run, await self._client.arun(self._acquiring(run, request), request.lease)
        )

    async def acommit(self, lease: RunLease, change: Change) -> None:
        """As `commit`."""
        try:
            steps = self._operations.committing(lease, change, self._now())
            await self._client.arun(steps, lease.seconds)
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
        await self._client.arun(steps, lease.seconds)
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
        return self._client.run(self._operations.listing(name, status, after, limit, self._now()))

    def forget(self, run: RunId) -> bool:
        """Remove *run*."""
        return self._client.run(self._operations.forgetting(_checked(run), self._now()))

    def _count_runs(self) -> Counter[tuple[str, Status]]:
        """Count runs by name and state, as `count_runs` does."""
        return self._client.run(self._operations.counting(self._now()))

    def _surplus_runs(
        self, ended: RunId, most: int | None, seconds: float | None, wall: float
    ) -> Sequence[RunId]:
        """Choose among finished runs, as `surplus_runs` does; by the server's clock."""
        del wall
        return self._client.run(self._operations.choosing(ended, most, seconds))

    def probe(self) -> Promises:
        """Find out what the server can promise."""
        guard = self._guard
        guard.start()
        guard.settled.wait(SYSTEM, call_seconds(self._timeout))
        wanted = self._locks is not False
        return self._client.run(self._operations.probing(pooled=guard.useless, locks=wanted))

    def close(self) -> None:
        """Close the connections of this process.

        The connection that holds the lock stays open while the process has a run of this store.
        """
        self._client.close()
        if not self._held:
            self._at_exit()
            self._renew_guard()

    def _wait_for_release(self, run: RunId, seconds: float) -> None:
        """Return when *run* is released or ends, or after *seconds*."""
        ends = monotonic() + seconds
        with self._guard.hearing(payload(run)) as (begun, left):
            begun.wait(SYSTEM, ends - monotonic())
            if monotonic() < ends and self._client.run(self._operations.awaiting(run)):
                left.wait(SYSTEM, max(0.0, ends - monotonic()))

    async def _await_release(self, run: RunId, seconds: float) -> None:
        """As `_wait_for_release`, in a task."""
        ends = monotonic() + seconds
        with self._guard.hearing(payload(run)) as (begun, left):
            await begun.await_(SYSTEM, ends - monotonic())
            if monotonic() < ends and await self._client.arun(self._operations.awaiting(run)):
                await left.await_(SYSTEM, max(0.0, ends - monotonic()))

    def _guard_to_await(self) -> Guard | None:
        """Return the guard, started, if its lock is wanted and not held yet.

        `close` may put another one in its place at any moment, which nobody has started.
        """
        guard = self._guard
        if self._locks is False or guard.held.number:
            return None
        guard.start()
        return guard

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
