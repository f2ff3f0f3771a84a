"""Ends a read that blocks a thread, at the end of the time left.

A limit of time of a socket is one for each piece that arrives, so a body that drips outlasts it.
No sync client has one for a whole body. So one thread of the process, which lives while there is a
read to watch, ends the connections of those that take too long: the read then returns as if the
server had closed it, and `Watch.fired` says that the server had not.
"""

import contextlib
import heapq
import os
import socket
import threading
from collections.abc import Iterator
from itertools import count

from mainstay._core.clock import monotonic
from mainstay._core.exits import end_with_subinterpreter
from mainstay._core.forks import reset_after_fork
from mainstay.errors import DeadlineExpiredError

_MOST_ENDED = 64
_IDLE_SECONDS = 5.0


class Watch:
    """A connection whose reads are watched.

    Attributes:
        fired: True once a read took too long, and the connection is of no more use.
        until: When the present read is to end; None while nobody reads.
    """

    __slots__ = ("_socket", "fired", "until")

    def __init__(self, fileno: int) -> None:
        # One of our own for the same connection: the client's may be closed at any time, and its
        # number given to another one.
        self._socket = socket.socket(fileno=os.dup(fileno))
        self.fired = False
        self.until: float | None = None

    def fire(self) -> None:
        """End the present read."""
        self.fired = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def reading(self, seconds: float, component: str) -> Iterator[None]:
        """Limit a read to so many seconds.

        Raises:
            DeadlineExpiredError: If it took longer.
        """
        watchdog.begin(self, seconds)
        try:
            yield
        finally:
            watchdog.end(self)
            if self.fired:
                raise DeadlineExpiredError(component)

    def close(self) -> None:
        """Close what the watch has of the connection."""
        self._socket.close()


class Watchdog:
    """Watches reads, of all threads."""

    def __init__(self) -> None:
        self._reset_after_fork()
        reset_after_fork(self, Watchdog._reset_after_fork)
        end_with_subinterpreter(self, Watchdog.end_thread)

    def _reset_after_fork(self) -> None:
        """Forget the thread: in a forked process there is none."""
        self._changed = threading.Condition(threading.RLock())  # signal handlers may come back in
        self._heap: list[tuple[float, int, Watch]] = []
        self._numbers = count()
        self._ended = 0
        self._watching = False
        self._ends = False

    def begin(self, watch: Watch, seconds: float) -> None:
        """Watch the read that begins now, which may take so many seconds."""
        until = monotonic() + seconds
        with self._changed:
            watch.until = until
            heapq.heappush(self._heap, (until, next(self._numbers), watch))
            if not self._watching:
                self._start()
            elif self._heap[0][2] is watch:
                self._changed.notify()

    def end(self, watch: Watch) -> None:
        """Watch the read no longer."""
        with self._changed:
            watch.until = None
            self._ended += 1
            if self._ended > _MOST_ENDED and self._ended * 2 > len(self._heap):
                self._heap = [each for each in self._heap if each[0] == each[2].until]
                heapq.heapify(self._heap)
                self._ended = 0

    def _start(self) -> None:
        with contextlib.suppress(RuntimeError):  # no more threads: a body is looked at by pieces
            threading.Thread(target=self._watch, name="mainstay-watchdog", daemon=True).start()
            self._watching = True

    def end_thread(self) -> None:
        """End the thread; a read that begins afterwards has it started again."""
        with self._changed:
            self._ends = self._watching
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._ends:
                wait = self._fire_late() or _IDLE_SECONDS
                if not self._changed.wait(wait) and not self._heap:
                    break
            self._watching = self._ends = False

    def _fire_late(self) -> float | None:
        """Fire what is late; return the seconds until the next one, or None without one."""
        now = monotonic()
        while self._heap:
            until, _, watch = self._heap[0]
            if until > now:
                return until - now
            heapq.heappop(self._heap)
            if watch.until == until:
                watch.fire()
        return None


watchdog: Watchdog = Watchdog()
