"""The files of a SQLite database in WAL mode, and what has happened to them under a connection.

SQLite does not notice it if another program removes, replaces or cuts short one of its files: it
goes on writing where nobody will look, and what it calls committed is lost with the process. So
each use of a connection begins with the question whether its files are still the ones it has open.
"""

import contextlib
import os
from collections.abc import Callable
from typing import TypeAlias

import attrs

Inode: TypeAlias = tuple[int, ...] | None
"""Device and inode; empty if nothing is there, None if this process may not look."""


def _look(path: str) -> tuple[Inode, int]:
    """Return which file is there, and its size."""
    try:
        status = os.stat(path)  # noqa: PTH116 - Path.stat() takes twice as long, at every save
    except (FileNotFoundError, NotADirectoryError):
        return (), 0
    except OSError:
        return None, 0
    return (status.st_dev, status.st_ino), status.st_size


@attrs.define(eq=False)
class _OpenedFile:
    """A file that is open, by its path and as it was at the last look."""

    name: str
    path: str
    inode: Inode = attrs.field(init=False)
    size: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.inode, self.size = _look(self.path)

    def change(self) -> str:
        """Return what has happened to the file: "removed or replaced", "cut short" or ""."""
        before = self.size  # read before the look, since other threads set it when it grows
        inode, size = _look(self.path)
        if inode == self.inode and size >= before:
            self.size = size
            return ""
        if inode is None or self.inode is None:
            return ""
        return "cut short" if inode == self.inode else "removed or replaced"

    def fill(self) -> None:
        """Restore the length of the file, with zeros."""
        with contextlib.suppress(OSError):
            os.truncate(self.path, 0)
            os.truncate(self.path, self.size)


class StoreFiles:
    """A database, its log and the index of its log, from the first connection to the last.

    Args:
        path: The database.
        bytes_logged: Called when the database or its log has become smaller, which happens after a
            checkpoint as well. Returns how many bytes the log has to hold, or None if part of what
            was committed is missing.
    """

    def __init__(self, path: str, bytes_logged: Callable[[], int | None]) -> None:
        target = os.path.realpath(path)  # SQLite goes by the file that a link leads to
        self._database = _OpenedFile("its file", path)
        self._log = _OpenedFile("its -wal file", f"{target}-wal")
        self._index = _OpenedFile("its -shm file", f"{target}-shm")
        self._bytes_logged = bytes_logged
        self.has_lost_database = False
        # Only the log may be opened and closed beside SQLite, which has no locks on it that closing
        # would release.
        self._opened_log: int | None = None
        self._log_link, self._log_place = "", ""
        with contextlib.suppress(OSError):
            self._opened_log = os.open(self._log.path, os.O_RDONLY)
            self._log_link = f"/proc/self/fd/{self._opened_log}"
            place = os.readlink(self._log_link)  # noqa: PTH115 - as `os.stat` above
            if _look(place)[0] == self._log.inode:
                self._log_place = place

    def __del__(self) -> None:
        if self._opened_log is not None:
            os.close(self._opened_log)

    @property
    def inodes(self) -> tuple[Inode, Inode, Inode]:
        """Which files they are: the database, its log and the index."""
        return self._database.inode, self._log.inode, self._index.inode

    @property
    def log_size(self) -> int:
        """Bytes of the log at the last look."""
        return self._log.size

    @property
    def missing(self) -> str:
        """The name of a file that is not there, though SQLite has it open, or ""."""
        files = self._database, self._log, self._index
        return next((each.name for each in files if each.inode == ()), "")

    def are(self, others: "StoreFiles") -> bool:
        """True if these are the same files, as far as this process may look."""
        pairs = zip(self.inodes, others.inodes, strict=True)
        return all(mine is None or other is None or mine == other for mine, other in pairs)

    def have_changed(self) -> bool:
        """True if there may be a problem."""
        return bool(
            self._database.change()
            or self._index.change()
            or (not self._log_is_in_place() and self._log.change())
        )

    def _log_is_in_place(self) -> bool:
        """True if the log is known, without a look at its path, to be the same and no shorter.

        Where somebody has looked at the times of a file, Linux (from 6.13 on) gives the file a new
        time with the next write, which the next fsync has to write as well: a save takes a quarter
        longer. What an open file is called now, and how long the file is, has no times in it.
        """
        if self._opened_log is None or not self._log_place:
            return False
        before = self._log.size  # read before the look, as above
        try:
            place = os.readlink(self._log_link)  # noqa: PTH115 - as `os.stat` above
        except OSError:
            return False
        size = os.lseek(self._opened_log, 0, os.SEEK_END)
        if place != self._log_place or size < before:
            return False
        self._log.size = size
        return True

    def problem(self) -> str:
        """Return what has happened to one of the files since it was opened, or "".

        To be called while no connection is used.
        """
        for file in (self._database, self._log, self._index):
            change = file.change()
            if change and not (change == "cut short" and self._is_whole(file)):
                self.has_lost_database = file is self._database
                return f"{file.name} was {change}"
        return ""

    def saved(self) -> None:
        """Take the log as it is now for whole: something was just committed to it."""
        if self._opened_log is not None:
            self._log.size = os.lseek(self._opened_log, 0, os.SEEK_END)

    def _is_whole(self, cut: _OpenedFile) -> bool:
        """True if nothing is lost, though a file has become smaller."""
        if cut is self._index:
            # SQLite has it mapped, and reading behind its end would kill the process. Where it
            # finds zeros, it makes a new index from the log.
            cut.fill()
            return False
        logged = self._bytes_logged()
        cut.size = _look(cut.path)[1]
        return logged is not None and logged <= self._log.size
