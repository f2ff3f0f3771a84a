"""One SQLite connection for each thread of each process that uses a store.

SQLite must not be carried over a fork: the locks stay with the parent, but the child's copy of
SQLite would rely on them, and both would write as if they were alone. So all connections are
closed just before a fork, at a moment when no thread is in the middle of a transaction, and opened
again on either side at their next use.
"""

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from typing import TypeAlias

from mainstay._core.forks import around_forks

Translation: TypeAlias = Callable[[sqlite3.Error], Exception]

_all: "weakref.WeakSet[Connections]" = weakref.WeakSet()


class Connection(sqlite3.Connection):
    """A connection that knows which file it has open.

    SQLite goes on writing to a file that was removed or replaced, which nobody will find again.
    """

    _path: str
    _file: tuple[int, ...] | None

    def remember(self, path: str) -> None:
        """Record that this is the file at *path*."""
        self._path = path
        self._file = _identity(path)

    @property
    def is_left_behind(self) -> bool:
        """True if the file is no longer the one at its path."""
        there = _identity(self._path)
        return there != self._file and None not in (there, self._file)

    def __del__(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # one that was never opened
            self.close()  # the collector may come here before it comes to the link


def _identity(path: str) -> tuple[int, ...] | None:
    """Tell a file from all others: empty if it is not there, None if nobody may look at it."""
    try:
        status = os.stat(path)  # noqa: PTH116 - Path.stat() takes twice as long, at every save
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class ThreadConnection:
    """The connection of one thread, open or not, and the lock that is held while it is used.

    Entered, it is the connection; no fork happens until it is left. What SQLite raises meanwhile
    is translated.
    """

    def __init__(self, connect: Callable[[], Connection], translated: Translation) -> None:
        self.lock = threading.RLock()
        self.connection: Connection | None = None
        self._connect = connect
        self._translated = translated

    def __enter__(self) -> Connection:
        self.lock.acquire()
        if self.connection is None:
            try:
                self.connection = self._connect()
            except BaseException as error:
                self.__exit__(type(error), error, None)
                raise
        return self.connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        self.lock.release()
        if isinstance(error, sqlite3.Error):
            raise self._translated(error) from error

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        self.close()


class _Local(threading.local):
    connection: ThreadConnection


class Connections:
    """Opens a connection where a thread has none, and closes all of them on demand.

    Args:
        connect: Opens one.
        translated: Returns what to raise for what SQLite raises.
    """

    def __init__(self, connect: Callable[[], Connection], translated: Translation) -> None:
        self._connect = connect
        self._translated = translated
        self._frozen: tuple[ThreadConnection, ...] = ()
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._opening = threading.RLock()
        self._local = _Local()
        self._threads: weakref.WeakSet[ThreadConnection] = weakref.WeakSet()
        self._at_exit = weakref.finalize(self, _close_all, self._threads)

    def use(self) -> ThreadConnection:
        """Return the calling thread's connection, for a ``with``."""
        try:
            return self._local.connection
        except AttributeError:
            with self._opening:
                mine = self._local.connection = ThreadConnection(self._open, self._translated)
                self._threads.add(mine)
                return mine

    def _open(self) -> Connection:
        with self._opening:
            return self._connect()

    def drop(self) -> None:
        """Close the calling thread's connection: after an error that says that it is of no use."""
        with contextlib.suppress(AttributeError, sqlite3.Error):
            self._local.connection.close()

    def close(self) -> None:
        """Close all connections, each as soon as nobody uses it."""
        _close_all(self._threads)

    def before_fork(self) -> None:
        """Close everything, and keep all threads from opening anything."""
        self._frozen = tuple(self._threads)
        for each in self._frozen:
            each.lock.acquire()
        self._opening.acquire()
        for each in self._frozen:
            each.close()

    def after_in_parent(self) -> None:
        """Let the threads go on."""
        self._opening.release()
        for each in self._frozen:
            each.lock.release()
        self._frozen = ()

    def after_in_child(self) -> None:
        """Start with no connections: other threads, and what they held, are the parent's."""
        self._frozen = ()
        self._at_exit.detach()
        self._reset()


def _close_all(connections: "weakref.WeakSet[ThreadConnection]") -> None:
    for each in tuple(connections):
        with each.lock:
            each.close()


_forking: "list[Connections]" = []


def _before_fork() -> None:
    _forking[:] = _all
    for each in _forking:
        each.before_fork()


def _after_in_parent() -> None:
    for each in _forking:
        each.after_in_parent()
    _forking.clear()


def _after_in_child() -> None:
    for each in _forking:
        each.after_in_child()
    _forking.clear()


around_forks(before=_before_fork, in_parent=_after_in_parent, in_child=_after_in_child)
