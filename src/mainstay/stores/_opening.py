"""How a connection to the file of a store is opened: made, checked, and set up.

The file is in WAL mode with `synchronous=FULL`. Its log is written back every 160 pages of 2 kB,
which keeps it below 350 kB while no reader holds a transaction open. What a reader that did made of
it is cut to 512 kB at the next time; less would cost a change of size every time.
"""

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import attrs

from mainstay._core.clock import SYSTEM, monotonic
from mainstay.errors import StoreUnavailableError
from mainstay.stores._connections import Connection
from mainstay.stores._files import StoreFiles
from mainstay.stores._mounts import is_mounted_alone, network_file_system
from mainstay.stores._schema import APPLICATION_ID, add_index, migrate

BUSY_SECONDS = 10.0
_BUSY_PAUSE = 0.005
_PAGE_BYTES = 2048
_WAL_PAGES = 160
_LOG_BYTES = 512 * 1024
_FRAME_BYTES = 24  # before each page in the log


@attrs.frozen(eq=False)
class Opener:
    """Opens connections to one file.

    Attributes:
        path: The file.
        url: What the store is called in messages.
        network: True to open it also where SQLite cannot keep its promises.
        mode: Who may read and write the file if it is made.
    """

    path: Path
    url: str
    network: bool
    mode: int

    def open(self) -> Connection:
        """Open a connection, once nobody else is making the file.

        Raises:
            StoreUnavailableError: If SQLite cannot keep its promises where the file is, or it is a
                directory or a device.
            StoreSchemaError: If it is another program's, or made by a newer mainstay.
            sqlite3.Error: If SQLite cannot open it.
        """
        if self._is_no_file():
            raise StoreUnavailableError(self.url, "it is a directory or a device; name a file")
        if not self.network and (danger := self._danger()):
            raise StoreUnavailableError(
                self.url, f"{danger}, or SQLiteStore(path, network=True) at your own risk"
            )
        ends = monotonic() + BUSY_SECONDS
        while True:
            try:
                return self._opened()
            except sqlite3.OperationalError as error:
                # SQLite does not always wait for a process that makes the file, or its log.
                if code_of(error) != sqlite3.SQLITE_BUSY or monotonic() >= ends:
                    raise
            SYSTEM.sleep(_BUSY_PAUSE)

    def _opened(self) -> Connection:
        try:
            if os.access(self.path, os.F_OK) and not os.access(self.path, os.W_OK):
                return self._opened_to_read()
            return self._opened_to_write()
        except sqlite3.OperationalError as error:
            if code_of(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
            with contextlib.suppress(sqlite3.Error):
                return self._opened_to_read()
            raise

    def _opened_to_write(self) -> Connection:
        self._make()
        db = self._connected(os.fspath(self.path))
        with _closed_after_an_error(db):
            db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
            db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
            migrate(db, self.url)
            db.execute("PRAGMA journal_mode = WAL")
            add_index(db)
            db.files = StoreFiles(os.fspath(self.path), self.bytes_logged)
            if db.files.missing:
                raise StoreUnavailableError(
                    self.url,
                    f"{db.files.missing} was removed, and this process still has it open; close "
                    f"what else uses the store here, or start the process again",
                )
        return db

    def _make(self) -> None:
        """Make the file if there is none; SQLite would ask the umask who may read it."""
        with contextlib.suppress(OSError):  # it is there, or SQLite says why it cannot be
            made = os.open(os.path.realpath(self.path), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            try:
                if hasattr(os, "fchmod"):  # Windows has other ways to say who may read a file
                    os.fchmod(made, self.mode)
            finally:
                os.close(made)

    def _opened_to_read(self) -> Connection:
        """Open a file that this process may not write, or whose directory it may not write.

        Where the file is in use, an index of its log is there, and is read as usual. Otherwise
        SQLite is told that nobody else uses the file, so that it does not have to make one.
        """
        files = StoreFiles(os.fspath(self.path), self.bytes_logged)
        query, locking = "mode=ro", "NORMAL"
        if not files.inodes[2]:
            query += "&vfs=unix-none" if files.log_size else "&immutable=1"
            locking = "EXCLUSIVE"
        db = self._connected(f"file:{quote(os.fspath(self.path))}?{query}", uri=True)
        with _closed_after_an_error(db):
            db.execute(f"PRAGMA locking_mode = {locking}")
            migrate(db, self.url)
            db.files = files
            db.serves_once = not files.inodes[2]
        return db

    def _connected(self, database: str, *, uri: bool = False) -> Connection:
        return sqlite3.connect(
            database, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False,
            factory=Connection, uri=uri,
        )  # fmt: skip

    def _is_no_file(self) -> bool:
        try:
            return not stat.S_ISREG(self.path.stat().st_mode)
        except OSError:
            return False  # SQLite makes it, or says what is wrong

    def _danger(self) -> str:
        """Return why SQLite cannot keep its promises where the file is, and what to do, or ""."""
        if kind := network_file_system(self.path):
            return (
                f"it is on a network file system ({kind}), where SQLite cannot keep its promises; "
                f"use a local disk"
            )
        if is_mounted_alone(self.path):
            return (
                "it is a mount by itself, so that the log beside it is not found by others who use "
                "it; mount the directory that it is in"
            )
        try:
            links = self.path.stat().st_nlink
        except OSError:
            return ""  # SQLite makes it, or says what is wrong
        if links <= 1:
            return ""
        return (
            f"it has {links} hard links, and SQLite keeps a log beside each name, so that one does "
            f"not see what another has saved; remove the others"
        )

    def bytes_logged(self) -> int | None:
        """Return how many bytes the log has to hold, or None if part of what it held is missing.

        A new connection has nothing in its memory, and finds what the files hold. Only if that is
        all of it may it count with a checkpoint, which would copy what there is.
        """
        with contextlib.closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as db:
            try:
                checked = db.execute("PRAGMA quick_check(1)").fetchone()
                (application,) = db.execute("PRAGMA application_id").fetchone()
                if checked != ("ok",) or application != APPLICATION_ID:
                    return None
                (page,) = db.execute("PRAGMA page_size").fetchone()
                _, frames, _ = db.execute("PRAGMA wal_checkpoint").fetchone()
            except sqlite3.Error:
                return None
        size: int = frames * (page + _FRAME_BYTES)
        return size


@contextlib.contextmanager
def _closed_after_an_error(db: Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        db.close()
        raise


def code_of(error: sqlite3.Error) -> int:
    """Return the primary result code of an error."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF
