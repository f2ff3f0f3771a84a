"""`SQLiteStore`: runs in one SQLite file, which survive what the file system survives.

How a save is durable at the price of one fsync: the file is in WAL mode with `synchronous=FULL`,
where a commit is one append to the log and one fsync of it. A save without a step's result is a
single UPDATE of the run's row, which checks the token, moves the last document to the place of
the one before it, and renews the lease. A step's result alone is a single INSERT, which checks the
token, and adds to one page of the log. The log is written back every 160 pages of 2 kB, at two
fsyncs each time.

Why not over a network: the log's index is shared memory, which other machines do not share.
"""

import functools
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import attrs

from mainstay._core.arguments import to_flag
from mainstay._core.context import current_context, times_now
from mainstay._core.sharing import Shared
from mainstay.errors import (
    CorruptCheckpointError,
    StoreSchemaError,
    StoreUnavailableError,
)
from mainstay.stores import _rows
from mainstay.stores._connections import Connection, Connections, ThreadConnection
from mainstay.stores._opening import Opener, code_of
from mainstay.stores._schema import transaction
from mainstay.stores._transitions import check_forgettable
from mainstay.stores.base import (
    Acquired,
    Acquisition,
    Change,
    Contents,
    Exit,
    Finished,
    Poisoned,
    Promises,
    Record,
    Request,
    RunId,
    RunLease,
    Status,
    acquisition,
    call_seconds,
    how_gone,
    state_of,
)

T = TypeVar("T")

UNUSABLE = re.compile("[\0\ud800-\udfff]")
"""What no name of a file can have: NUL, and what UTF-8 cannot encode."""

_URL = re.compile("[a-z]+://")

_HINTS = {
    sqlite3.SQLITE_BUSY: (
        ", by another process, for as long as an operation may take; keep no transaction of yours "
        "open in it"
    ),
    sqlite3.SQLITE_CANTOPEN: "; its directory must exist, and be one that this process may write",
    sqlite3.SQLITE_READONLY: "; this process must be allowed to write the file and its directory",
}
"""What to add to SQLite's own messages, by its result codes."""


class SQLiteStore(Shared):
    """Keeps runs in a SQLite file: a store for the processes of one machine, without a server.

    Saves survive SIGKILL, and also the loss of power if the disk keeps what it has acknowledged.
    Any number of processes and threads may use one file. The file is made at first use; SQLite
    keeps a `-wal` and a `-shm` file beside it, and the three belong together.

    A store URL is ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``. If other users
    use the file as well, add a mode: ``sqlite:////absolute/path.db?mode=0660``.

    Args:
        path: The file. Its directory must exist. A relative path begins at the present working
            directory.
        network: True to allow a file on a network file system, or with hard links, or a file that
            is itself a mount. SQLite then cannot keep its promises if a second machine uses the
            file, or a process that knows it by another name.
        mode: The permissions of a new file, whatever the umask: from 0o600 (the owner alone) to
            0o666. An existing file keeps its permissions. The files beside it get the same.

    Raises:
        TypeError: If *path* is not a path, *network* is not True or False, or *mode* is not an int.
        ValueError: If *path* names no file, or is a URL, or *mode* is out of its range.
        StoreUnavailableError: At first use, if the file cannot be opened, is a directory or a
            device, is on a network file system, has a hard link, or is a mount by itself; from
            every operation, if the disk is full or fails, another process has locked the file for
            10 seconds, or one of its files was removed, replaced or cut short.
        StoreSchemaError: At first use, if the file is not a database, or belongs to another program
            or to a newer mainstay.
        CorruptCheckpointError: From an operation, if SQLite finds the file damaged.

    Example:
        >>> from mainstay.stores import SQLiteStore
        >>> SQLiteStore("jobs.db")
        SQLiteStore('jobs.db')
    """

    def __init__(
        self, path: str | os.PathLike[str], *, network: bool = False, mode: int = 0o600
    ) -> None:
        given: object = path
        if not isinstance(given, str | os.PathLike):
            raise TypeError(f"`path` must be a str or a path, not {given!r}")
        self._path = Path(path)
        if UNUSABLE.search(os.fspath(self._path)):
            raise ValueError(
                f"`path` must be text without NUL that UTF-8 can encode, not {os.fspath(path)!r}"
            )
        if _URL.match(os.fspath(path)):
            raise ValueError(
                f"`path` must be a path, and {os.fspath(path)!r} is a URL; give that as `store=`, "
                f"or to store_of"
            )
        if not self._path.name:
            raise ValueError(f"`path` must name a file, not {os.fspath(path)!r}")
        if self._path.name == ":memory:":
            raise ValueError("`path` must name a file; for memory use MemoryStore(), or memory://")
        self.url: str = f"sqlite:///{self._path}"
        self._file = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links
        self._network = to_flag(network, "network")
        self._opener = Opener(self._file, self.url, self._network, _to_mode(mode))
        self._connections = Connections(self._opener.open, self._translated)
        self._held: dict[RunId, tuple[int, object]] = {}  # the files that each was acquired in

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self._path)!r})"

    def acquire(self, run: RunId, request: Request) -> Acquisition:
        """Decide who may work on *run*."""

        def decided(db: sqlite3.Connection, now: float, wall: float) -> Acquisition:
            before = _rows.find(db, run)
            gone: Exit = self._how_gone(before, now, wall) if before else ""
            forgotten = _rows.forgotten(db) if before is None else 0
            answer = acquisition(
                before, run, request, now=now, wall=wall, gone=gone, forgotten=forgotten
            )
            if isinstance(answer, Acquired) and answer.began:
                _rows.remove(db, run)
            if isinstance(answer, Acquired | Poisoned):
                _rows.write(db, answer.record)
            if isinstance(answer, Acquired):
                self._held[run] = self._connections.generation, self._connections.database
            if isinstance(answer, Acquired | Finished):
                return attrs.evolve(answer, contents=_rows.contents(db, run))
            return answer

        return self._written(decided, seconds=request.lease)

    def load(self, run: RunId) -> Contents:
        """Return the saved data of *run*."""
        return self._connections.use(lambda db: _rows.contents(db, run))

    def commit(self, lease: RunLease, change: Change) -> None:
        """Write *change* and renew the lease; a result alone renews it once a third of it is over.

        A result alone is one statement and one page of the log. A renewal with it would be a second
        page, and a transaction around both, and would make a step a quarter to a half slower.
        """
        mine, generation = self._owning(lease.run)

        def commit(db: Connection) -> None:
            self._check(generation)
            db.wait_for_lock(call_seconds(None, lease.seconds))
            # A single statement is a transaction by itself.
            if not change.put and not change.drop:
                _rows.change_run(db, lease, change, *times_now())
            elif not _rows.put_alone(db, lease, change, current_context().clock.now()):
                transaction(db, "IMMEDIATE", lambda: commit_together(db))

        def commit_together(db: Connection) -> None:
            now, wall = times_now()
            if _rows.change_run(db, lease, change, now, wall):
                _rows.change_results(db, lease.run, change)

        mine.use(commit)
        if change.finished:
            self._held.pop(lease.run, None)

    def renew(self, leases: Sequence[RunLease]) -> Sequence[RunLease]:
        """Renew many leases in one transaction; return those that are lost."""
        if not leases:
            return []
        files = self._connections

        def lost(db: sqlite3.Connection, now: float, wall: float) -> Sequence[RunLease]:
            return [
                each
                for each in leases
                if self._held.get(each.run, (files.generation,))[0] == files.generation
                and not _rows.renew(db, each, now, wall)
            ]

        return self._written(lost, seconds=min(each.seconds for each in leases))

    def release(
        self, lease: RunLease, how: Exit, error: str = "", drop: tuple[int, ...] = ()
    ) -> None:
        """Release the run before its end."""
        self._connections.mine()
        here = self._connections.generation, self._connections.database
        if self._held.get(lease.run, here)[1] == here[1]:
            self._held[lease.run] = here  # it makes no difference what was lost with the log

        def release(db: sqlite3.Connection, now: float, wall: float) -> None:
            if _rows.release(db, lease, how, error, now, wall):
                _rows.drop(db, lease.run, drop)

        self._written(release, lease.run, lease.seconds)
        self._held.pop(lease.run, None)

    def list(
        self,
        name: str | None = None,
        *,
        status: Status | None = None,
        after: RunId | None = None,
        limit: int | None = None,
    ) -> Sequence[tuple[Record, Status]]:
        """Return runs, sorted by name and key, each with its state."""
        now, wall = times_now()
        found: list[tuple[Record, Status]] = []
        while limit is None or len(found) < limit:
            page = functools.partial(_rows.page, name=name, status=status, after=after, limit=limit)
            records = self._connections.use(page)
            for each in records:
                state = state_of(each, self._how_gone(each, now, wall))
                if status is None or state == status:
                    found.append((each, state))
            if limit is None or len(records) < limit:
                break
            after = records[-1].run
        return found[:limit]

    def forget(self, run: RunId) -> bool:
        """Remove *run*."""

        def forget(db: sqlite3.Connection, now: float, wall: float) -> bool:
            record = _rows.find(db, run, mended=True)
            if record is None:
                return False
            check_forgettable(record, self._how_gone(record, now, wall), now)
            _rows.forget(db, record)
            return True

        return self._written(forget)

    def _count_runs(self) -> Counter[tuple[str, Status]]:
        """Count runs by name and state, as `count_runs` does."""
        now, wall = times_now()
        counts, running = self._read(_rows.count)
        for record in running:
            state = state_of(record, self._how_gone(record, now, wall))
            counts[record.run.name, "running"] -= 1
            counts[record.run.name, state] += 1
        return counts

    def _surplus_runs(
        self, ended: RunId, most: int | None, seconds: float | None, wall: float
    ) -> Sequence[RunId]:
        """Choose among finished runs, as `surplus_runs` does."""
        now = current_context().clock.now()

        def surplus(db: sqlite3.Connection) -> Sequence[RunId]:
            found = set() if most is None else _rows.surplus(db, ended, most)
            if seconds is not None:
                found |= _rows.too_old(db, ended, seconds, now, wall)
            return _rows.runs(db, found)

        return self._read(surplus)

    def probe(self) -> Promises:
        """Return what a file can promise: everything on a local disk."""
        if not self._network:
            return Promises(fenced=True, durable=True)
        problem = (
            "it is used with network=True, where SQLite cannot keep its promises once a second "
            "machine uses the file; use a server"
        )
        return Promises(fenced=True, durable=True, problems=(problem,))

    def close(self) -> None:
        """Close all connections of this process; the log is written back and removed."""
        self._connections.close()

    def _how_gone(self, record: Record, now: float, wall: float) -> Exit:
        return how_gone(record, now=now, wall=wall, local=not self._network)

    def _owning(self, run: RunId) -> tuple[ThreadConnection, int]:
        """Return the thread's connection, and the generation of the files that *run* is in.

        The use of the connection begins with `_check`. It is called here as well, so that no new
        file is made in the place of one that was lost.
        """
        held = self._held.get(run)
        if held is None:  # acquired by another object
            held = self._held[run] = self._connections.generation, self._connections.database
        mine = self._connections.mine()
        self._check(held[0])
        return mine, held[0]

    def _check(self, generation: int) -> None:
        """Raise an error if the files are no longer those of that generation."""
        if generation != self._connections.generation:
            raise StoreUnavailableError(
                self.url,
                f"{self._connections.problem} while a run went on, so that nothing more can be "
                f"saved in it; leave the files of a store alone, and run it again",
            )

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what *work* reads in one transaction."""
        return self._connections.use(lambda db: transaction(db, "DEFERRED", lambda: work(db)))

    def _written(
        self,
        work: Callable[[sqlite3.Connection, float, float], T],
        owned: RunId | None = None,
        seconds: float | None = None,
    ) -> T:
        """Return what *work* does as one transaction, with the times inside it.

        Args:
            work: What is done.
            owned: The run that is written to, if it is the caller's.
            seconds: How long the lease lasts that the work is about.
        """
        files = self._connections
        mine, held = (files.mine(), files.generation) if owned is None else self._owning(owned)

        def write(db: Connection) -> T:
            if owned is not None:
                self._check(held)
            db.wait_for_lock(call_seconds(None, seconds))
            return transaction(db, "IMMEDIATE", lambda: work(db, *times_now()))

        return mine.use(write)

    def _translated(self, error: sqlite3.Error) -> Exception:
        code = code_of(error)
        if code == sqlite3.SQLITE_NOTADB:
            return StoreSchemaError(self.url, "it is not a SQLite database; name a new file")
        if code == sqlite3.SQLITE_CORRUPT:
            return CorruptCheckpointError(self.url, str(error))
        if code == sqlite3.SQLITE_IOERR:
            # A failed fsync has dropped what was to be written: only a new connection is honest.
            self._connections.drop()
        problem = str(error) + _HINTS.get(code, "")
        return StoreUnavailableError(self.url, problem, retryable=code == sqlite3.SQLITE_BUSY)


def _to_mode(mode: object) -> int:
    if isinstance(mode, bool) or not isinstance(mode, int):
        raise TypeError(f"`mode` must be an int such as 0o660, not {mode!r}")
    if mode & ~0o066 != 0o600:  # noqa: PLR2004 - as the message says
        raise ValueError(
            f"`mode` must be from 0o600 to 0o666, with read and write for the owner and execute "
            f"for nobody, not {oct(mode)}"
        )
    return mode
