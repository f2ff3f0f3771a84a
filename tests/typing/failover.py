"""What type checkers see of pools and breakers: signatures without the resource, async ones too."""

from collections.abc import Awaitable, Callable, Coroutine
from sqlite3 import Connection, connect
from typing import Any, assert_type

from mainstay import (
    AllMembersFailedError,
    CircuitBreaker,
    CircuitOpenError,
    FailoverPool,
    Member,
    NoMemberError,
    Probe,
    RejectedError,
    Selector,
    current_lease,
    failover,
)

pool = FailoverPool("db", [Member("a", "x")], on=OSError)
assert_type(pool, FailoverPool[str])
assert_type(Member("b", open=lambda: 1, close=lambda number: None), Member[int])


async def aconnect() -> Connection:
    """Open a member of an async pool."""
    return connect(":memory:")


connections = FailoverPool(
    "files",
    [
        Member("a", open=aconnect, close=Connection.close),
        Member("b", open=aconnect, close=Connection.close, standby="cold"),
    ],
    on=OSError,
    raises="group",
)
assert_type(connections, FailoverPool[Connection])
Member("c", "x", standby="cold")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]  # needs `open`
breaker = CircuitBreaker("mail", on=OSError)


@failover(pool)
def total(db: str, customer: int, *, year: int = 2026) -> float:
    """Take a resource that callers leave out."""
    return float(len(db) + customer + year)


@failover(pool, rerun=False)
async def atotal(db: str, customer: int) -> float:
    """Do the same in async code."""
    return float(len(db) + customer)


@pool
def count(db: str) -> int:
    """Be decorated by the pool itself."""
    return len(db)


@connections
async def rows(db: Connection, table: str) -> list[str]:
    """Use what is opened."""
    return [str(row) for row in db.execute("select * from t where name = ?", (table,))]


@pool  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]  # not the resource's type
def wrong(db: int) -> int:
    """Take another resource than the pool has."""
    return db


@breaker
def send(to: str) -> bool:
    """Go through a breaker."""
    return bool(to)


@breaker
async def asend(to: str) -> bool:
    """Go through it in async code."""
    return bool(to)


class Last:
    """A selector."""

    def pick(self, members: Any, /) -> str:
        """Pick the last one."""
        return str(members[-1])


class Store:
    """A class with methods that are given a resource after self."""

    @failover(pool)
    def read(self, db: Any, key: str) -> bytes:
        """Read from a resource of no particular type."""
        return bytes(db[key])

    @pool
    def typed(self, db: str, key: str) -> bytes:
        """Read from one of the pool's type."""
        return (db + key).encode()

    @connections
    async def atyped(self, db: Connection, key: str) -> bytes:
        """Do the same in async code."""
        return f"{db} {key}".encode()

    def plain(self, db: str, key: str) -> bytes:
        """Be called by the pool."""
        return (db + key).encode()


async def use() -> None:
    """Call everything."""
    assert_type(total(1, year=2025), float)
    total("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # not the resource
    assert_type(await atotal(1), float)
    coroutine: Coroutine[Any, Any, float] = atotal(1)
    coroutine.close()
    assert_type(count(), int)
    assert_type(await rows("t"), list[str])
    assert_type(Store().read("key"), bytes)
    assert_type(Store().typed("key"), bytes)
    assert_type(await Store().atyped("key"), bytes)
    assert_type(pool.call(len), int)
    assert_type(pool.call(Store.plain, Store(), "key"), bytes)
    with pool.lease() as name:
        assert_type(name, str)
    async with connections.lease() as connection:
        assert_type(connection, Connection)
    for attempt in pool:
        with attempt as name:
            assert_type(name, str)
    async for another in connections:
        with another as connection:
            assert_type(connection, Connection)
    assert_type(current_lease().resource, Any)
    assert_type(send("ann"), bool)
    assert_type(await asend("ann"), bool)
    assert_type(breaker.call(send, "ann"), bool)
    assert_type(current_lease().epoch, int)
    selector: Selector = Last()
    FailoverPool("db", [Member("a", 1)], on=(OSError, KeyError), select=selector)
    closing: Awaitable[None] | None = pool.close()
    del closing


def errors(
    opened: CircuitOpenError,
    failed: AllMembersFailedError,
    rejected: RejectedError,
    nobody: NoMemberError,
) -> None:
    """Read what errors carry."""
    assert_type(opened.retry_after, float | None)
    assert_type(failed.retry_after, float | None)
    assert_type(failed.members, tuple[str, ...])
    assert_type(rejected.retry_after, float | None)
    assert_type(nobody.members, tuple[str, ...])
    assert_type(failed.exceptions[0], Exception | ExceptionGroup[Exception])


plain: Callable[[int], float] = total

assert_type(Probe.promql("http://prometheus:9090", "up", headers={"a": "b"}), Probe)
Probe.promql("http://prometheus:9090", "up", missing="down")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a word
Probe.promql("http://prometheus:9090", "up", {})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # by name
