"""The connection of a SQLite store, for what a test changes behind the store's back."""

import contextlib
import sqlite3
from collections.abc import Iterator

from mainstay.stores import SQLiteStore


@contextlib.contextmanager
def connection_of(store: SQLiteStore) -> Iterator[sqlite3.Connection]:
    """Use the calling thread's connection."""
    mine = store._connections.mine()
    with mine.lock:
        connection = mine._opened()
        assert connection is not None
        yield connection
