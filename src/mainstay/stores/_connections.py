"""One SQLite connection for each thread of each process that uses a store.

SQLite must not be carried over a fork: the locks stay with the parent, but the child's copy of
SQLite would rely on them, and both would write as if they were alone. So all connections are
closed just before a fork, at a moment when no thread is in the middle of a transaction, and opened
again on either side at their next use.

The same is done when a file of the store was removed, replaced or cut short: the connections of a
process share what they have open, and one that is opened beside them would get part of it.
"""

import contextlib
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TypeAlias, TypeVar

from mainstay._core.forks import around_forks
from mainstay.stores._files import Inode, StoreFiles

T = TypeVar("T")
Translation: TypeAlias = Callable[[sqlite3.Error], Exception]

_all: "weakref.WeakSet[Connections]" = weakref.WeakSet()

_closing = threading.RLock()
"""Held while all connections are closed; no thread that holds a lock of its own waits for it."""


class Connection(sqlite3.Connection):
    """A connection that knows which files it has open.

    Attributes:
        files: The files.
        serves_once: True if it does not see what others write from now on.
    """

    files: StoreFiles
    serves_once = False
    _waits: float = 0.0

    def wait_for_lock(self, seconds: float) -> None:
        """Wait so long, from now on, for a lock that another process holds."""
        if seconds != self._waits:
            self.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
            self._waits = seconds

    def __del__(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # one that was never opened
            self.close()  # the collector may come here before it comes to the thread's


class ThreadConnection:
    """The connection of one thread, open or not, and the lock that is held while it is used.

    It is used by a function, and no block: an exception of a signal handler may come in before the
    first line of what ends a block, and the lock would be held for good.
    """

    def __init__(self, owner: "Connections", translated: Translation) -> None:
        self.lock = threading.RLock()
        self.connection: Connection | None = None
        self._owner = owner
        self._translated = translated
        self.uses = 0  # above 0 for a signal handler that comes into the middle of a use

    def use(self, work: Callable[[Connection], T]) -> T:
        """Return what *work* makes of the connection; no fork happens until then.

        What SQLite raises meanwhile is translated.
        """
        try:
            while True:
                with self.lock:
                    connection = self._opened()
                    if connection is not None:
                        return self._used(connection, work)
                self._owner.refresh()
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _opened(self) -> Connection | None:
        """Return the connection; None if all have to be closed before this one is opened."""
        opened = self.connection
        if opened and not self.uses and opened.files is not self._owner.files:
            self.close()
        self.connection = self.connection or self._owner.open()
        return self.connection

    def _used(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        self.uses += 1
        try:
            value = work(connection)
            connection.files.saved()
            return value
        finally:
            self.uses -= 1
            if connection.serves_once and not self.uses:
                self.close()

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        with self.lock:  # the thread has ended: no fork happens in the middle of closing, either
            self.close()


class _Local(threading.local):
    connection: ThreadConnection


class Connections:
    """Opens a connection where a thread has none, and closes all of them on demand.

    Args:
        connect: Opens one.
        translated: Returns what to raise for what SQLite raises.

    Attributes:
        database: The database that was opened last; None if it was lost.
        generation: A number that grows when what was committed before may be lost, because a file
            was removed, replaced or cut short.
        problem: What has happened to the file then.
    """

    def __init__(self, connect: Callable[[], Connection], translated: Translation) -> None:
        self._connect = connect
        self._translated = translated
        self.database: Inode = None
        self.generation = 0
        self.problem = ""
        self._at_exit: weakref.finalize[..., Connections] | None = None
        _all.add(self)
        self.reset()

    def reset(self) -> None:
        """Start with no connections: after a fork, those of other threads are the parent's."""
        self._opening = threading.RLock()
        self._local = _Local()
        self._threads: weakref.WeakSet[ThreadConnection] = weakref.WeakSet()
        self._files: weakref.ref[StoreFiles] | None = None  # connections hold them
        if self._at_exit is not None:
            self._at_exit.detach()
        self._at_exit = weakref.finalize(self, _close_all, self._threads)

    @property
    def files(self) -> StoreFiles | None:
        """The files that connections have open; None if there is no connection."""
        return None if self._files is None else self._files()

    def use(self, work: Callable[[Connection], T]) -> T:
        """Return what *work* makes of the calling thread's connection to the files there are."""
        return self.mine().use(work)

    def mine(self) -> ThreadConnection:
        """Return the calling thread's connection to the files that are there."""
        try:
            mine = self._local.connection
        except AttributeError:
            with self._opening:
                mine = self._local.connection = ThreadConnection(self, self._translated)
                self._threads.add(mine)
        if not mine.uses:
            self.refresh()
        return mine

    def refresh(self) -> None:
        """Close all connections if something has happened to a file that they have open."""
        files = self.files
        if files is not None and files.have_changed():
            self.close()

    def open(self) -> Connection | None:
        """Open a connection; None if it would be to other files than those that others have."""
        with self._opening:
            connection, known = self._connect(), self.files
            found = connection.files
            database = found.inodes[0]
            if known is None:
                if self.database is not None and database not in (None, self.database):
                    self._lost("its file was removed or replaced", database=True)
                self._files, self.database = weakref.ref(found), database
            elif known.are(found):
                connection.files = known
            else:
                connection.close()
                return None
            return connection

    def _lost(self, problem: str, *, database: bool) -> None:
        self.generation += 1
        self.problem = problem
        if database:
            self.database = None

    def drop(self) -> None:
        """Close the calling thread's connection: after an error that says that it is of no use."""
        mine = self._local.connection
        with mine.lock:
            mine.close()

    def close(self) -> None:
        """Close all connections, each as soon as nobody uses it."""
        with self.closed():
            pass

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Close all connections, and let no thread open one during the block."""
        with _closing, contextlib.ExitStack() as held:
            while True:
                threads = tuple(self._threads)
                for lock in (*(each.lock for each in threads), self._opening):
                    held.enter_context(lock)
                if {*self._threads} <= {*threads}:
                    break
                held.close()  # a thread has come meanwhile, and may have opened one already
            files, self._files = self.files, None
            users = [each for each in threads if each.connection and each.connection.files is files]
            # Without a user they are closed already, which removes two of them, and loses nothing.
            problem = files.problem() if files is not None and users else ""
            if files is not None and problem:
                self._lost(problem, database=files.has_lost_database)
            for each in threads:
                each.close()
            yield


def _close_all(connections: "weakref.WeakSet[ThreadConnection]") -> None:
    for each in tuple(connections):
        with each.lock:
            each.close()


_forks: list[contextlib.ExitStack] = []
"""What is held from before a fork until after it; `_closing` lets one thread fork at a time."""


def _before_fork() -> None:
    held = contextlib.ExitStack()
    held.enter_context(_closing)
    for each in tuple(_all):
        held.enter_context(each.closed())
    _forks.append(held)


def _after_in_parent() -> None:
    _forks.pop().close()


def _after_in_child() -> None:
    for each in tuple(_all):
        each.reset()
    _forks.pop().close()


around_forks(before=_before_fork, in_parent=_after_in_parent, in_child=_after_in_child)
