"""The session of a process: it proves that the process lives, and hears which runs are left.

A thread keeps one connection, which has nothing to do but hold a lock of the server's with a random
number. Runs name the number; when the process dies, the server sees the connection end and frees
the lock, at once. A connection that ends while the process lives is made again at once, with the
same number: another process that finds the lock free looks again a moment later.

The lock proves a death and guards nothing: who has lost a run is kept from writing by token and
grant. Behind a pooler it would prove nothing, and none is held.
"""

import contextlib
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import ClassVar

from mainstay._core.clock import SYSTEM, monotonic
from mainstay._core.events import logger_of
from mainstay._core.exits import end_with_subinterpreter
from mainstay._core.threads import Signal
from mainstay.stores._postgres.failures import Failure
from mainstay.stores._postgres.operations import SessionLock
from mainstay.stores._postgres.pool import Origin, Pool
from mainstay.stores._postgres.session import Session
from mainstay.stores._postgres.statements import Statements
from mainstay.stores._postgres.waiting import READ, finish, ready
from mainstay.stores._postgres.wire import Bound

_MOST_BITS = 62


class Guard:
    """One per process and store.

    Args:
        origin: Where the server is.
        sql: The statements.
        url: What the store is called in messages.
        locks: False to hold no lock, and hear only.

    Attributes:
        held: The lock that is held now.
        useless: True if a pooler is in between, so that nothing is proved or heard.
        settled: Set when the first connection was made, or could not be.
    """

    _CONNECT_SECONDS: ClassVar[float] = 5.0
    _LONGEST_PAUSE: ClassVar[float] = 1.0

    def __init__(self, origin: Origin, sql: Statements, url: str, *, locks: bool) -> None:
        self.held = SessionLock()
        self.useless = False
        self.settled = Signal()
        self._number = secrets.randbits(_MOST_BITS) + 1
        self._pool = Pool(origin, 1)
        self._sql = sql
        self._url = url
        self._locks = locks
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()  # a signal handler may come back in on the same thread
        self._stopped = False
        self._listening: Signal | None = None
        self._waiters: dict[object, tuple[str, Signal]] = {}
        self._bell: tuple[socket.socket, socket.socket] | None = None
        end_with_subinterpreter(self, Guard.stop)

    def start(self) -> None:
        """Start the thread, once; if that cannot be now, the next call tries again."""
        if self._thread is None and not self.useless:
            with self._starting:
                if self._thread is None:
                    self._begin()

    def _begin(self) -> None:
        try:
            thread = threading.Thread(target=self._keep, name="mainstay-postgres", daemon=True)
            bell = socket.socketpair()
            for end in bell:
                end.setblocking(False)
            if self._thread is None:
                self._bell, self._thread = bell, thread
                thread.start()
            else:  # a signal handler has been here meanwhile
                for end in bell:
                    end.close()
        except RuntimeError:  # no more threads, or none that are daemons
            self._thread = None
            self._close_bell()
            self.settled.set()
        except BaseException:
            self._thread = None
            raise

    def stop(self) -> None:
        """End the thread and its connection."""
        self._stopped = True
        self._ring()

    def abandon(self) -> None:
        """Abandon what is the parent's, in a forked child."""
        self._pool.sessions.abandon()
        self._close_bell()

    @contextlib.contextmanager
    def hearing(self, payload: str) -> Iterator[tuple[Signal, Signal]]:
        """Hear of a run: the first signal says when that has begun, the second that it was left."""
        self.start()
        left, entry = Signal(), object()
        begun = self._listening = self._listening or Signal()
        self._waiters[entry] = payload, left
        self._ring()
        try:
            yield begun, left
        finally:
            del self._waiters[entry]

    def _ring(self) -> None:
        if self._bell is not None:
            with contextlib.suppress(OSError):  # full of rings already, or closed
                self._bell[1].send(b"!")

    def _close_bell(self) -> None:
        for end in self._bell or ():
            end.close()

    def _keep(self) -> None:
        """Keep a connection until the end."""
        lost = monotonic()
        try:
            while not self._stopped:
                began = monotonic()
                try:
                    session = self._pool.connected(began + self._CONNECT_SECONDS)
                except Failure:
                    self.settled.set()
                    # Soon at first: another process may look for the lock again in a moment.
                    waited = monotonic() - lost
                    SYSTEM.sleep(min(self._LONGEST_PAUSE, 0.01 + waited / 20))
                    continue
                if not session.direct:
                    self._pool.sessions.drop(session)
                    self._give_up()
                    return
                try:
                    with contextlib.suppress(Failure):
                        self._serve(session, began)
                finally:
                    self.held, lost = SessionLock(), monotonic()
                    self._listening = None
                    self._pool.sessions.drop(session)
        finally:
            self.settled.set()
            self._close_bell()

    def _give_up(self) -> None:
        self.useless = True
        self.settled.set()
        if self._locks:
            logger_of("checkpoint").warning(
                "%s is behind a pooler, so the death of an owner is known only when its lease "
                "ends; to know it at once, give the store a direct connection",
                self._url,
            )

    def _serve(self, session: Session, began: float) -> None:
        """Hold the lock, and hear, until the connection ends, which *began* to be made then."""
        if self._locks:
            self._exchange(session, self._sql.lock.bound({"lock": self._number}))
            self.held = SessionLock(self._number, session.since, monotonic() - began)
        self.settled.set()
        heard: Signal | None = None
        bell = self._bell[0] if self._bell is not None else None
        while bell is not None and not self._stopped:
            wanted = self._listening
            if self._waiters and (wanted is None or wanted is not heard):
                if heard is None:
                    self._exchange(session, self._sql.listen.bound({}))
                self._listening = heard = wanted or Signal()
                heard.set()
            found = ready([(session.descriptor, READ), (bell.fileno(), READ)], None)
            if bell.fileno() in found:
                bell.recv(4096)
            if session.descriptor in found:
                session.take()
            self._pass_on(session)

    def _exchange(self, session: Session, query: Bound) -> None:
        finish(session.exchange([query], prepare=False), monotonic() + self._CONNECT_SECONDS)

    def _pass_on(self, session: Session) -> None:
        """Wake those who wait for the runs that were left."""
        heard, session.notified = {*session.notified}, []
        if heard:
            for payload, left in [*self._waiters.values()]:
                if payload in heard:
                    left.set()
