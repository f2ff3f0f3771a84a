"""The sessions of a process, or of an event loop: a few, opened when they are wanted.

A session that was given back is used again while the server has not said good-bye. One whose
exchange was not answered, for whatever reason, is closed. After a fork the child lets go of all of
them: they are the parent's.
"""

import asyncio
import ipaddress
import queue
import socket
from collections import deque
from collections.abc import Generator, Mapping, Sequence

import attrs

from mainstay._core.clock import monotonic
from mainstay.stores._driving import adrive, drive
from mainstay.stores._postgres.address import Address
from mainstay.stores._postgres.failures import UNPREPARED, Failure
from mainstay.stores._postgres.session import Session
from mainstay.stores._postgres.waiting import afinish, finish
from mainstay.stores._postgres.wire import Bound, Reply

_NO_HOST = Failure("no server is named", retryable=False)


@attrs.define(eq=False)
class Origin:
    """What all pools of a store share.

    Attributes:
        address: Where the servers are.
        prepare: True to prepare statements; set to False by a pooler that breaks them.
        generation: Grows when all sessions of before are to be closed.
    """

    address: Address
    prepare: bool
    generation: int = 0


@attrs.frozen(eq=False)
class SessionAttempt:
    """What is tried to open a session.

    Attributes:
        session: The session, which is to be connected.
        host: What libpq is told of the server.
        until: When to give up, so that each server gets its share of the time.
    """

    session: Session
    host: Mapping[str, str]
    until: float


class Sessions:
    """Sessions that nobody uses, and all that there are."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._idle: deque[tuple[int, Session]] = deque()
        self._all: set[Session] = set()

    def taken(self) -> Session | None:
        """Return one that can be used, or None."""
        while self._idle:
            try:
                generation, session = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if generation == self._origin.generation and session.is_open:
                return session
            self.drop(session)
        return None

    def connecting(self, ends: float) -> Generator[SessionAttempt, None, Session]:
        """Open a session to the first server that takes one: the attempts of that.

        Raises:
            Failure: If none does before *ends*.
        """
        hosts = self._origin.address.hosts
        failures: list[Failure] = []
        for rank, host in enumerate(hosts):
            session = Session()
            self._all.add(session)
            now = monotonic()
            try:
                yield SessionAttempt(session, host, now + (ends - now) / (len(hosts) - rank))
            except Failure as failure:
                self.drop(session)
                failures.append(failure)
            except BaseException:
                self.drop(session)
                raise
            else:
                return session
        raise _together(failures)

    def give_back(self, session: Session, generation: int | None = None) -> None:
        """Keep the session for the next one, if it can be used again.

        Args:
            session: What `taken` returned, or was opened.
            generation: That of the origin when the session was taken; None for the present one.
        """
        generation = self._origin.generation if generation is None else generation
        if session.usable and generation == self._origin.generation:
            self._idle.append((generation, session))
        else:
            self.drop(session)

    def drop(self, session: Session) -> None:
        """Close a session."""
        self._all.discard(session)
        session.close()

    def close(self) -> None:
        """Close those that nobody uses."""
        while self._idle:
            try:
                self.drop(self._idle.pop()[1])
            except IndexError:
                break

    def abandon(self) -> None:
        """Abandon all, which are the parent's after a fork."""
        for session in self._all:
            session.abandon()
        self._all.clear()
        self._idle.clear()


class Pool:
    """Sessions for threads, each for one exchange at a time.

    Args:
        origin: Where they lead.
        size: How many there are at most.

    Attributes:
        sessions: What there are.
    """

    def __init__(self, origin: Origin, size: int) -> None:
        self._origin = origin
        self.sessions = Sessions(origin)
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()  # signal handlers may come back
        for _ in range(size):
            self._free.put(None)

    def exchange(self, queries: Sequence[Bound], ends: float) -> list[Reply]:
        """Send statements as one transaction, and return their answers.

        Raises:
            Failure: If that is not done before *ends*.
        """
        try:
            self._free.get(timeout=max(0.0, ends - monotonic()))
        except queue.Empty:
            raise _all_busy() from None
        prepare = self._origin.prepare
        try:
            return self._exchange(queries, ends, prepare=prepare)
        except Failure as failure:
            if failure.code not in UNPREPARED or not prepare:
                raise
            self._origin.prepare = False  # nothing was done: the transaction has failed
            return self._exchange(queries, ends, prepare=False)
        finally:
            self._free.put(None)

    def _exchange(self, queries: Sequence[Bound], ends: float, *, prepare: bool) -> list[Reply]:
        generation = self._origin.generation
        session = self.sessions.taken() or self.connected(ends)
        try:
            return finish(session.exchange(queries, prepare=prepare), ends)
        except Failure as failure:
            _heed(failure, self._origin, session)
            raise
        finally:
            self.sessions.give_back(session, generation)

    def connected(self, ends: float) -> Session:
        """Open a session; each server gets its share of the time."""
        return drive(self.sessions.connecting(ends), _connect)


class AsyncPool:
    """Sessions for the tasks of one event loop, as `Pool` has them for threads."""

    def __init__(self, origin: Origin, size: int) -> None:
        self._origin = origin
        self.sessions = Sessions(origin)
        self._free = asyncio.Semaphore(size)

    async def exchange(self, queries: Sequence[Bound], ends: float) -> list[Reply]:
        """As `Pool.exchange`."""
        if self._free.locked():
            try:
                async with asyncio.timeout(max(0.0, ends - monotonic())):
                    await self._free.acquire()
            except TimeoutError:
                raise _all_busy() from None
        else:
            await self._free.acquire()  # at once
        prepare = self._origin.prepare
        try:
            return await self._exchange(queries, ends, prepare=prepare)
        except Failure as failure:
            if failure.code not in UNPREPARED or not prepare:
                raise
            self._origin.prepare = False
            return await self._exchange(queries, ends, prepare=False)
        finally:
            self._free.release()

    async def _exchange(
        self, queries: Sequence[Bound], ends: float, *, prepare: bool
    ) -> list[Reply]:
        generation = self._origin.generation
        session = self.sessions.taken() or await self.connected(ends)
        try:
            return await afinish(session.exchange(queries, prepare=prepare), ends)
        except Failure as failure:
            _heed(failure, self._origin, session)
            raise
        finally:
            self.sessions.give_back(session, generation)

    async def connected(self, ends: float) -> Session:
        """As `Pool.connected`; names of hosts are looked up beside the loop."""
        return await adrive(self.sessions.connecting(ends), _aconnect)


def _connect(attempt: SessionAttempt) -> None:
    finish(attempt.session.connecting(attempt.host), attempt.until)


async def _aconnect(attempt: SessionAttempt) -> None:
    try:
        async with asyncio.timeout(max(0.0, attempt.until - monotonic())):
            found = await _looked_up(attempt.host)
    except TimeoutError:
        raise Failure("the name of the host was not found in time", retryable=True) from None
    await afinish(attempt.session.connecting(found), attempt.until)


def _heed(failure: Failure, origin: Origin, session: Session) -> None:
    """Draw conclusions for other sessions from what one has met."""
    if failure.code == "25006":
        session.usable = False
        origin.generation += 1  # they all lead to a server that is a standby now
    elif failure.code == "0A000" or failure.code.startswith("57P"):
        session.usable = False


def _together(failures: Sequence[Failure]) -> Failure:
    if not failures:
        return _NO_HOST
    problem = "; ".join(dict.fromkeys(each.problem for each in failures))
    return Failure(problem, failures[0].code, retryable=any(each.retryable for each in failures))


def _all_busy() -> Failure:
    return Failure(
        "all connections of the store were busy; `pool` says how many there are", retryable=True
    )


async def _looked_up(host: Mapping[str, str]) -> Mapping[str, str]:
    """Return what libpq is to be told with the address of the host, so that it does not block."""
    name = host.get("host", "")
    if not name or "hostaddr" in host or name.startswith(("/", "@")):
        return host
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return host
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise Failure(
            f"the host {name} was not found: {error.strerror}",
            retryable=error.errno == socket.EAI_AGAIN,
        ) from None
    return {**host, "hostaddr": str(found[0][4][0])}
