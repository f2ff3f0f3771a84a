"""The embedded store: one SQLite file, which survives what the file system survives.

How a save is durable at the price of one fsync: the file is in WAL mode with `synchronous=FULL`,
where a commit is one append to the log and one fsync of it. A save without a step's result is a
single UPDATE of the run's row, which checks the token, moves the last document to the place of
the one before it, and renews the lease. The log is written back every 160 pages of 2 kB, at two
fsyncs each time; that keeps it below 350 kB while no reader holds a transaction open.

Why not over a network: the log's index is shared memory, which other machines do not share.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import attrs

from mainstay._core.ambient import surroundings
from mainstay._core.arguments import to_flag
from mainstay._core.clock import SYSTEM, monotonic, wall_time
from mainstay.errors import (
    CorruptCheckpointError,
    LeaseLostError,
    RunBusyError,
    StoreSchemaError,
    StoreUnavailableError,
)
from mainstay.stores._connections import Connection, Connections
from mainstay.stores._mounts import network_file_system
from mainstay.stores._schema import migrate, transaction
from mainstay.stores.base import (
    RENEWALS_PER_LEASE,
    Acquired,
    Acquisition,
    Change,
    Contents,
    Exit,
    Lease,
    Poisoned,
    Record,
    Request,
    RunId,
    Status,
    acquisition,
    how_gone,
    state_of,
)
from mainstay.stores.owner import Owner

_BUSY_SECONDS = 10.0
_BUSY_PAUSE = 0.005
_PAGE_BYTES = 2048
_WAL_PAGES = 160

_HINTS = {
    sqlite3.SQLITE_BUSY: (
        f", by another process, for {_BUSY_SECONDS:g} s; keep no transaction of yours open in it"
    ),
    sqlite3.SQLITE_CANTOPEN: "; its directory must exist, and be one that this process may write",
    sqlite3.SQLITE_READONLY: "; this process must be allowed to write the file and its directory",
}
"""What SQLite's own words leave open, by its result codes."""

_COLUMNS = (
    "name", "key", "life", "token", "status", "boot", "namespace", "pid", "started", "expires",
    "seen", "saved", "attempt", "crashes", "exit", "error", "arguments", "created", "updated",
)  # fmt: skip
_FIND = f"SELECT {', '.join(_COLUMNS)} FROM run"
_KEEP = (
    f"INSERT INTO run ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    f"ON CONFLICT (name, key) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[2:])
)
_OWNED = " WHERE name = ? AND key = ? AND token = ? AND status = 'running'"
_RENEW = "UPDATE run SET expires = ?, seen = ?, updated = ?" + _OWNED
_PROGRESS = "UPDATE run SET expires = ?, seen = ?, updated = ?, saved = ?, crashes = 0" + _OWNED
_SAVE = (
    "UPDATE run SET expires = ?, seen = ?, updated = ?, saved = ?, crashes = 0, "
    "previous = latest, latest = ?" + _OWNED
)
_FINISH = (
    "UPDATE run SET expires = ?, seen = ?, updated = ?, saved = ?, crashes = 0, "
    "status = 'done', previous = ?, latest = ?" + _OWNED
)
_RELEASE = (
    "UPDATE run SET status = 'interrupted', exit = ?, error = ?, crashes = 0, seen = ?, "
    "updated = ?" + _OWNED
)
_STEP = (
    "INSERT OR REPLACE INTO result SELECT id, ?, ? FROM run"
    + _OWNED
    + " AND crashes = 0 AND expires > ?"
)
_FORGOTTEN = "SELECT token FROM forgotten"
_FORGET = "UPDATE forgotten SET token = max(token, ?)"
_ID = "(SELECT id FROM run WHERE name = ? AND key = ?)"


class SQLiteStore:
    """Keeps runs in a SQLite file: the store of a single machine, with no server.

    What a commit wrote survives SIGKILL and, as far as the disk keeps what it acknowledged, the
    loss of power. Any number of processes and threads may use one file. The file, and the
    `-wal` and `-shm` files beside it, belong together. It is made at first use.

    A store URL is ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``.

    Args:
        path: The file. Its directory must exist. A relative path is one from the directory that is
            the current one now.
        network: Whether to use it on a network file system all the same. SQLite cannot keep its
            promises there once a second machine uses the file.

    Raises:
        TypeError: If *path* is no path, or *network* neither True nor False.
        ValueError: If *path* names no file.
        StoreUnavailableError: At first use, if the file cannot be opened or is on a network file
            system; from every operation, if the disk is full or fails, or another process has
            locked the file for 10 seconds.
        StoreSchemaError: At first use, if the file is no database, another program's, or made by
            a newer mainstay.
        CorruptCheckpointError: From an operation, if SQLite finds the file damaged.

    Example:
        >>> from mainstay.stores import SQLiteStore
        >>> SQLiteStore("jobs.db")
        SQLiteStore('jobs.db')
    """

    def __init__(self, path: str | os.PathLike[str], *, network: bool = False) -> None:
        given: object = path
        if not isinstance(given, str | os.PathLike):
            raise TypeError(f"`path` must be a str or a path, not {given!r}")
        self._path = Path(path)
        if not self._path.name:
            raise ValueError(f"`path` must name a file, not {os.fspath(path)!r}")
        if self._path.name == ":memory:":
            raise ValueError("`path` must name a file; for memory use MemoryStore(), or memory://")
        self.url: str = f"sqlite:///{self._path}"
        self._file = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links
        self._network = to_flag(network, "network")
        self._connections = Connections(self._connect)

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self._path)!r})"

    def acquire(self, run: RunId, request: Request) -> Acquisition:
        """Decide who may work on *run*."""
        with self._writing() as (db, now, wall):
            before = self._find(db, run)
            gone: Exit = self._how_gone(before, now, wall) if before else ""
            forgotten = db.execute(_FORGOTTEN).fetchone()[0] if before is None else 0
            answer = acquisition(
                before, run, request, now=now, wall=wall, gone=gone, forgotten=forgotten
            )
            if isinstance(answer, Acquired) and answer.began:
                _remove(db, run)
            if isinstance(answer, Acquired | Poisoned):
                db.execute(_KEEP, _row_of(answer.record))
            return answer

    def load(self, run: RunId) -> Contents:
        """Give what is kept for *run*."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT id, latest, previous FROM run WHERE name = ? AND key = ?",
                (run.name, run.key),
            ).fetchall()
            if not rows:
                return Contents(None, None, {})
            [(number, latest, previous)] = rows
            results = db.execute("SELECT slot, value FROM result WHERE run = ?", (number,))
            return Contents(latest, previous, dict(results.fetchall()))

    def commit(self, lease: Lease, change: Change) -> None:
        """Write *change* and renew the lease; a mere result does so once in a third of it.

        A result alone is one statement and one page of the log. Renewing with it means a second
        page and a transaction around both, which cost a step a quarter to a half more.
        """
        if self._committed_at_once(lease, change):
            return
        with self._writing(owned=True) as (db, now, wall):
            self._update(db, lease, change, now, wall)
            for slot, value in change.put.items():
                db.execute(
                    f"INSERT OR REPLACE INTO result VALUES ({_ID}, ?, ?)",
                    (lease.run.name, lease.run.key, slot, value),
                )
            _drop(db, lease.run, change.drop)

    def _committed_at_once(self, lease: Lease, change: Change) -> bool:
        """Write what a single statement can, which is a transaction by itself."""
        run = lease.run
        with self._reading(owned=True) as db:
            now = surroundings().clock.now()
            if not change.put and not change.drop:
                self._update(db, lease, change, now, wall_time())
                return True
            if change.document is None and not change.drop and len(change.put) == 1:
                ((slot, value),) = change.put.items()
                fresh = now + lease.seconds * (1 - 1 / RENEWALS_PER_LEASE)
                values = slot, value, run.name, run.key, lease.token, fresh
                return bool(db.execute(_STEP, values).rowcount)
        return False

    def release(self, lease: Lease, how: Exit, error: str = "", drop: tuple[str, ...] = ()) -> None:
        """Give the run back before its end."""
        with self._writing(owned=True) as (db, now, wall):
            run = lease.run
            values = how, error, now, wall, run.name, run.key, lease.token
            if db.execute(_RELEASE, values).rowcount:
                _drop(db, run, drop)

    def list(self, name: str | None = None) -> Sequence[tuple[Record, Status]]:
        """Give all runs, or those of one name."""
        now, wall = surroundings().clock.now(), wall_time()
        with self._reading() as db:
            rows = db.execute(
                f"{_FIND} WHERE ? IS NULL OR name = ? ORDER BY name, key", (name, name)
            ).fetchall()
        records = map(_record_of, rows)
        return [(each, state_of(each, self._how_gone(each, now, wall))) for each in records]

    def forget(self, run: RunId) -> bool:
        """Remove *run*."""
        with self._writing() as (db, now, wall):
            record = self._find(db, run)
            if record is None:
                return False
            if record.status == "running" and not self._how_gone(record, now, wall):
                raise RunBusyError(run.name, run.key, str(record.owner), record.expires - now)
            db.execute(_FORGET, (record.token,))
            _remove(db, run)
            return True

    def close(self) -> None:
        """Close all connections of this process; the log is written back and removed."""
        self._connections.close()

    def _update(
        self, db: sqlite3.Connection, lease: Lease, change: Change, now: float, wall: float
    ) -> None:
        """Change the run's row, if it is still the caller's."""
        run = lease.run
        renewed = now + lease.seconds, now, wall
        owned = run.name, run.key, lease.token
        values: tuple[object, ...]
        if change.finished:
            statement, values = _FINISH, (*renewed, now, change.document, change.document, *owned)
        elif change.document is not None:
            statement, values = _SAVE, (*renewed, now, change.document, *owned)
        elif change.progress:
            statement, values = _PROGRESS, (*renewed, now, *owned)
        else:
            statement, values = _RENEW, (*renewed, *owned)
        if not db.execute(statement, values).rowcount:
            raise LeaseLostError(run.name, run.key, lease.token)

    def _find(self, db: sqlite3.Connection, run: RunId) -> Record | None:
        rows = db.execute(f"{_FIND} WHERE name = ? AND key = ?", (run.name, run.key)).fetchall()
        return _record_of(rows[0]) if rows else None

    def _how_gone(self, record: Record, now: float, wall: float) -> Exit:
        return how_gone(record, now=now, wall=wall, local=not self._network)

    def _reading(self, *, owned: bool = False) -> "_Translated":
        """Lend a connection; say what goes wrong in our own words.

        Args:
            owned: Whether it is for a run that is held already, which must be where it was.
        """
        link = self._connections.use()
        if link.connection is not None and link.connection.is_left_behind:
            self._connections.drop()
            if owned:
                raise StoreUnavailableError(
                    self.url,
                    "its file was removed or replaced while a run went on, so that nothing could "
                    "be saved in it; put it back, or begin the run again",
                )
        return _Translated(link, self._translated)

    @contextlib.contextmanager
    def _writing(self, *, owned: bool = False) -> Iterator[tuple[sqlite3.Connection, float, float]]:
        """Make a transaction: all of it, or nothing. Gives the times inside it, too."""
        with self._reading(owned=owned) as db, transaction(db, "IMMEDIATE"):
            yield db, surroundings().clock.now(), wall_time()

    def _connect(self) -> Connection:
        kind = None if self._network else network_file_system(self._file)
        if kind:
            raise StoreUnavailableError(
                self.url,
                f"it is on a network file system ({kind}), where SQLite cannot keep its promises; "
                f"use a local disk, or SQLiteStore(path, network=True) at your own risk",
            )
        ends = monotonic() + _BUSY_SECONDS
        while True:
            try:
                return self._opened()
            except sqlite3.OperationalError as error:
                # Who makes the file, or turns its log on, is not always waited for by SQLite.
                if _code(error) != sqlite3.SQLITE_BUSY or monotonic() >= ends:
                    raise
            SYSTEM.sleep(_BUSY_PAUSE)

    def _opened(self) -> Connection:
        db = sqlite3.connect(
            self._file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False,
            factory=Connection,
        )  # fmt: skip
        try:
            db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
            migrate(db, self.url)
            db.execute("PRAGMA journal_mode = WAL")
            db.remember(self._file)
        except BaseException:
            db.close()
            raise
        return db

    def _translated(self, error: sqlite3.Error) -> Exception:
        code = _code(error)
        if code == sqlite3.SQLITE_NOTADB:
            return StoreSchemaError(self.url, "it is not a SQLite database; name a new file")
        if code == sqlite3.SQLITE_CORRUPT:
            return CorruptCheckpointError(self.url, str(error))
        if code == sqlite3.SQLITE_IOERR:
            # A failed fsync has dropped what was to be written: only a new connection is honest.
            self._connections.drop()
        return StoreUnavailableError(self.url, str(error) + _HINTS.get(code, ""))


class _Translated:
    """A connection that is lent, and the words for what goes wrong with it."""

    __slots__ = ("_link", "_words")

    def __init__(
        self,
        link: AbstractContextManager[sqlite3.Connection],
        words: Callable[[sqlite3.Error], Exception],
    ) -> None:
        self._link = link
        self._words = words

    def __enter__(self) -> sqlite3.Connection:
        try:
            return self._link.__enter__()
        except sqlite3.Error as error:
            raise self._words(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        self._link.__exit__(None, None, None)
        if isinstance(error, sqlite3.Error):
            raise self._words(error) from error


def _code(error: sqlite3.Error) -> int:
    """Give what SQLite calls an error, without its finer points."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def _remove(db: sqlite3.Connection, run: RunId) -> None:
    values = run.name, run.key
    db.execute(f"DELETE FROM result WHERE run = {_ID}", values)
    db.execute("DELETE FROM run WHERE name = ? AND key = ?", values)


def _drop(db: sqlite3.Connection, run: RunId, slots: tuple[str, ...]) -> None:
    db.executemany(
        f"DELETE FROM result WHERE run = {_ID} AND slot = ?",
        [(run.name, run.key, slot) for slot in slots],
    )


def _row_of(record: Record) -> tuple[object, ...]:
    values = attrs.asdict(record, recurse=False)
    values |= attrs.asdict(record.run) | attrs.asdict(record.owner)
    return tuple(values[column] for column in _COLUMNS)


def _record_of(row: tuple[Any, ...]) -> Record:
    values = dict(zip(_COLUMNS, row, strict=True))
    run = RunId(values.pop("name"), values.pop("key"))
    owner = Owner(*(values.pop(each) for each in ("boot", "namespace", "pid", "started")))
    return Record(run=run, owner=owner, **values)
