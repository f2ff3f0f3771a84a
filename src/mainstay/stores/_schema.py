"""The tables of the embedded store, and how a file comes to have them.

Any number of processes may open a new file at once: each reads the version, and each that has
something to migrate reads it again inside its own transaction.
"""

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from mainstay.errors import StoreSchemaError

T = TypeVar("T")

APPLICATION_ID = 0x6D736379  # "mscy"

_VERSION = 2

_TABLES = """
    CREATE TABLE run (
        id INTEGER PRIMARY KEY
            CONSTRAINT "it has had too many runs, begin a new file" CHECK (id < 2147483648),
        name TEXT NOT NULL, key TEXT NOT NULL, life TEXT NOT NULL, token INTEGER NOT NULL,
        "grant" TEXT NOT NULL, sequence INTEGER NOT NULL, status TEXT NOT NULL,
        boot TEXT NOT NULL, namespace TEXT NOT NULL, pid INTEGER NOT NULL, started INTEGER NOT NULL,
        host TEXT NOT NULL,
        expires REAL NOT NULL, seen REAL NOT NULL, saved REAL NOT NULL,
        attempt INTEGER NOT NULL, crashes INTEGER NOT NULL, exit TEXT NOT NULL, error TEXT NOT NULL,
        created REAL NOT NULL, updated REAL NOT NULL,
        arguments BLOB, latest BLOB, previous BLOB,
        UNIQUE (name, key)
    );
    CREATE TABLE result (id INTEGER PRIMARY KEY, slot TEXT NOT NULL, value BLOB NOT NULL);
    CREATE TABLE forgotten (token INTEGER NOT NULL);
    INSERT INTO forgotten VALUES (0);
"""
"""What a new file has. Of a row, SQLite reads all pages up to the last column that it needs, so
whatever may be long stands at the end."""

_FROM_1 = """
    ALTER TABLE run ADD COLUMN "grant" TEXT NOT NULL DEFAULT '';
    ALTER TABLE run ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE run ADD COLUMN host TEXT NOT NULL DEFAULT '';
"""
"""What a file of version 1 lacks. Its rows are not rewritten in the better order: programs that
have the file open would have to wait for as long as that takes."""

_FINISHED = "CREATE INDEX IF NOT EXISTS finished ON run (name, updated) WHERE status = 'done'"


def migrate(db: sqlite3.Connection, url: str) -> None:
    """Bring the schema up to date.

    Args:
        db: A connection to the file.
        url: What the store is called in messages.

    Raises:
        StoreSchemaError: If it is another program's database, or made by a newer mainstay.
    """
    if transaction(db, "DEFERRED", lambda: _version(db, url)) < _VERSION:
        transaction(db, "IMMEDIATE", lambda: _migrate(db, url))


def _migrate(db: sqlite3.Connection, url: str) -> None:
    version = _version(db, url)
    if version == _VERSION:
        return  # another process was faster
    for statement in filter(str.strip, (_FROM_1 if version else _TABLES).split(";")):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {_VERSION}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def add_index(db: sqlite3.Connection) -> None:
    """Index the finished runs, among which `keep` chooses; versions that do not know it heed it."""
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'finished'").fetchall():
        transaction(db, "IMMEDIATE", lambda: db.execute(_FINISHED))


def transaction(db: sqlite3.Connection, kind: str, work: Callable[[], T]) -> T:
    """Return what *work* returns, done as one transaction.

    No block: an exception of a signal handler may come in before the first line of its end.
    """
    own = not db.in_transaction  # a signal handler that came into one must leave it alone
    try:
        db.execute(f"BEGIN {kind}")  # in here: a signal handler may raise after it
        value = work()
        db.execute("COMMIT")
        return value  # noqa: TRY300 - of what is in the transaction
    except BaseException:
        if own and db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection, url: str) -> int:
    """Return the schema version. Call it in a transaction: other processes may migrate, too."""
    version: int = _pragma(db, "user_version")
    owner = _pragma(db, "application_id")
    tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if owner != APPLICATION_ID and (owner or version or tables):
        raise StoreSchemaError(url, "it is another program's database; name a new file")
    if version > _VERSION:
        raise StoreSchemaError(
            url, f"it has schema {version}, and this mainstay knows {_VERSION}; upgrade mainstay"
        )
    return version


def _pragma(db: sqlite3.Connection, name: str) -> Any:
    return db.execute(f"PRAGMA {name}").fetchone()[0]
