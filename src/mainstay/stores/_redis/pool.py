"""The connections of a process: those of its threads, and those of each of its event loops.

A connection that was kept may have ended since, as after a restart of the server. What is sent over
it and fails is sent again over a new one, once, within the same time: every request may be sent
twice. After a failure of any other kind, an interruption or a cancellation, the connection is
closed, so that no answer is left for the next request.
"""

import asyncio
import contextlib
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from typing import Any

from mainstay._core.clock import monotonic
from mainstay.stores._redis.address import RedisAddress
from mainstay.stores._redis.driver import client
from mainstay.stores._redis.failures import RedisFailure, lost, refused
from mainstay.stores._redis.operations import Command
from mainstay.stores._redis.scripts import SCRIPTS

_MOST_IDLE = 64
_MOST_OF_A_LOOP = 32
_MOST_LISTENERS = 32
_LAST_SECONDS = 1.0
_LOAD: Sequence[Command] = [("SCRIPT", "LOAD", each.text) for each in SCRIPTS]


def _parameters(
    address: RedisAddress, retry: Callable[..., object], seconds: float | None
) -> Mapping[str, object]:
    return {
        **address.parameters,
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "socket_keepalive": True,
        "client_name": "mainstay",
        "protocol": 2,
        "retry": retry(client().backoff.NoBackoff(), 0),
    }


@contextlib.contextmanager
def _translating() -> Iterator[None]:
    """Raise what redis-py raises as a `RedisFailure`."""
    errors = client().exceptions
    try:
        yield
    except (errors.TimeoutError, TimeoutError):
        raise RedisFailure.late() from None
    except errors.ResponseError as error:
        raise refused(error) from None
    except (errors.RedisError, OSError) as error:
        raise lost(error) from None


def _checked(answers: Sequence[Any]) -> list[Any]:
    """Return the answers if none of them is an error."""
    for each in answers:
        if isinstance(each, Exception):
            raise refused(each)
    return [*answers]


class RedisPool:
    """The connections of the threads.

    Args:
        address: Where the server is.
    """

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._idle: list[Any] = []

    def exchange(self, commands: Sequence[Command], ends: float) -> list[Any]:
        """Send commands at once, and return their answers.

        Raises:
            RedisFailure: If one fails, or the time is over; they may have been done or not.
        """
        try:
            return self._exchange(commands, ends)
        except RedisFailure as failure:
            if failure.code == "READONLY":
                self.close()  # new ones may lead to another server by now
            if failure.code != "NOSCRIPT":
                raise
        self._exchange(_LOAD, ends)
        return self._exchange(commands, ends)

    def hear(self, channel: bytes, is_wanted: Callable[[], bool], ends: float) -> None:
        """Return when something is published, or at *ends*.

        Args:
            channel: Where.
            is_wanted: Asked once nothing is missed any more; returns False to wait for nothing.
            ends: When to give up.

        Raises:
            RedisFailure: If the server refuses, or the connection is lost.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connected(ends)
        try:
            connection._sock.settimeout(_left(ends))  # noqa: SLF001 - as below
            with _translating():
                connection.send_command("SUBSCRIBE", channel, check_health=False)
                connection.read_response()
                if is_wanted():
                    connection.can_read(max(0.0, ends - monotonic()))
                connection._sock.settimeout(_LAST_SECONDS)  # noqa: SLF001 - as below
                connection.send_command("UNSUBSCRIBE", channel, check_health=False)
                while connection.read_response()[0] != b"unsubscribe":
                    pass
        except BaseException:
            connection.disconnect()
            raise
        self._keep(connection)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop().disconnect()

    def _exchange(self, commands: Sequence[Command], ends: float) -> list[Any]:
        with contextlib.suppress(IndexError):
            kept = self._idle.pop()
            try:
                return self._over(kept, commands, ends)
            except RedisFailure as failure:
                if not failure.cut:
                    raise
                self.close()  # the others have ended, too
        return self._over(self._connected(ends), commands, ends)

    def _connected(self, ends: float) -> Any:
        library = client()
        kind = library.SSLConnection if self._address.encrypted else library.Connection
        connection = kind(**_parameters(self._address, library.retry.Retry, _left(ends)))
        with _translating():
            connection.connect()
        return connection

    def _over(self, connection: Any, commands: Sequence[Command], ends: float) -> list[Any]:
        errors = client().exceptions
        try:
            # redis-py has no limit for a request, only one for the connection.
            connection._sock.settimeout(_left(ends))  # noqa: SLF001 - as above
            with _translating():
                connection.send_packed_command(
                    connection.pack_commands(commands), check_health=False
                )
                answers: list[Any] = []
                for _ in commands:
                    try:
                        answers.append(connection.read_response())
                    except errors.ResponseError as error:
                        answers.append(error)
        except BaseException:
            connection.disconnect()
            raise
        self._keep(connection)
        return _checked(answers)

    def _keep(self, connection: Any) -> None:
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.disconnect()


class AsyncRedisPool:
    """The connections of an event loop.

    Args:
        address: Where the server is.
        pools: Those of all loops, from which this one is removed when its loop ends.
    """

    def __init__(
        self,
        address: RedisAddress,
        pools: MutableMapping[asyncio.AbstractEventLoop, "AsyncRedisPool"],
    ) -> None:
        self._address = address
        self._idle: list[Any] = []
        self._pools = pools
        self._loop = asyncio.get_running_loop()
        self._free = asyncio.Semaphore(_MOST_OF_A_LOOP)
        self._listeners = 0
        self._end: AsyncGenerator[None, None] | None = None

    async def exchange(self, commands: Sequence[Command], ends: float) -> list[Any]:
        """As `RedisPool.exchange`."""
        await self._begin()
        with _translating():
            async with asyncio.timeout(_left(ends)), self._free:
                try:
                    return await self._exchange(commands)
                except RedisFailure as failure:
                    if failure.code == "READONLY":
                        await self._close()
                    if failure.code != "NOSCRIPT":
                        raise
                await self._exchange(_LOAD)
                return await self._exchange(commands)

    async def hear(
        self, channel: bytes, is_wanted: Callable[[], Awaitable[bool]], ends: float
    ) -> None:
        """As `RedisPool.hear`; where many tasks listen already, return at *ends*."""
        await self._begin()
        if self._listeners >= _MOST_LISTENERS:
            await asyncio.sleep(max(0.0, ends - monotonic()))
            return
        self._listeners += 1
        try:
            await self._hear(channel, is_wanted, ends)
        finally:
            self._listeners -= 1

    def close(self) -> None:
        """Close the connections that nobody uses; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and they with it
            self._loop.call_soon_threadsafe(self._begin_to_close)

    async def _begin(self) -> None:
        if self._end is None:
            self._end = self._until_the_loop_ends()
            await anext(self._end)

    def _begin_to_close(self) -> None:
        closing = self._loop.create_task(self._close())
        closing.add_done_callback(asyncio.Task.exception)

    async def _close(self) -> None:
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        """Close the connections with the loop, which closes its generators when it ends."""
        try:
            yield
        finally:
            self._pools.pop(self._loop, None)
            while self._idle:  # to the end of TLS, for which the loop would not come back
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_SECONDS):
                        await self._idle.pop().disconnect()

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        with contextlib.suppress(IndexError):
            kept = self._idle.pop()
            try:
                return await self._over(kept, commands)
            except RedisFailure as failure:
                if not failure.cut:
                    raise
                await self._close()
        return await self._over(await self._connected(), commands)

    async def _hear(
        self, channel: bytes, is_wanted: Callable[[], Awaitable[bool]], ends: float
    ) -> None:
        with _translating():
            async with asyncio.timeout(_left(ends)):
                connection = self._idle.pop() if self._idle else await self._connected()
            try:
                async with asyncio.timeout(_left(ends)):
                    await connection.send_command("SUBSCRIBE", channel, check_health=False)
                    await connection.read_response()
                    wanted = await is_wanted()
                if wanted:
                    await connection.read_response(timeout=max(0.0, ends - monotonic()))
                async with asyncio.timeout(_LAST_SECONDS):
                    await connection.send_command("UNSUBSCRIBE", channel, check_health=False)
                    while (await connection.read_response())[0] != b"unsubscribe":
                        pass
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
        self._idle.append(connection)

    async def _connected(self) -> Any:
        library = client()
        kinds = library.asyncio.connection
        kind = kinds.SSLConnection if self._address.encrypted else kinds.Connection
        connection = kind(**_parameters(self._address, library.asyncio.retry.Retry, None))
        try:
            with _translating():
                await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _over(self, connection: Any, commands: Sequence[Command]) -> list[Any]:
        errors = client().exceptions
        try:
            with _translating():
                await connection.send_packed_command(
                    connection.pack_commands(commands), check_health=False
                )
                answers: list[Any] = []
                for _ in commands:
                    try:
                        answers.append(await connection.read_response())
                    except errors.ResponseError as error:
                        answers.append(error)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._idle.append(connection)
        return _checked(answers)


def _left(ends: float) -> float:
    """Return the seconds that are left.

    Raises:
        RedisFailure: If there are none.
    """
    left = ends - monotonic()
    if left <= 0:
        raise RedisFailure.late()
    return left
