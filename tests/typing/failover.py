"""What type checkers see of pools and breakers: signatures without the resource, async ones too."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, assert_type

from mainstay import (
    AllMembersFailedError,
    CircuitBreaker,
    CircuitOpenError,
    FailoverPool,
    Member,
    Selector,
    current_lease,
    failover,
)

pool = FailoverPool("db", [Member("a", "x")], on=OSError)
breaker = CircuitBreaker("mail", on=OSError)


@failover(pool)
def total(db: str, customer: int, *, year: int = 2026) -> float:
    """Take a resource that callers leave out."""
    return float(len(db) + customer + year)


@failover(pool, rerun=False)
async def atotal(db: str, customer: int) -> float:
    """Do the same in async code."""
    return float(len(db) + customer)


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
        """Read; checkers bind the resource as if it were self, so it has to be Any."""
        return bytes(db[key])


async def use() -> None:
    """Call everything."""
    assert_type(total(1, year=2025), float)
    total("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # not the resource
    assert_type(await atotal(1), float)
    coroutine: Coroutine[Any, Any, float] = atotal(1)
    coroutine.close()
    assert_type(Store().read("key"), bytes)
    assert_type(pool.call(len), int)
    assert_type(send("ann"), bool)
    assert_type(await asend("ann"), bool)
    assert_type(breaker.call(send, "ann"), bool)
    assert_type(current_lease().epoch, int)
    selector: Selector = Last()
    FailoverPool("db", [Member("a", 1)], on=(OSError, KeyError), select=selector)
    closing: Awaitable[None] | None = pool.close()
    del closing


def errors(opened: CircuitOpenError, failed: AllMembersFailedError) -> None:
    """Read what errors carry."""
    assert_type(opened.retry_after, float | None)
    assert_type(failed.retry_after, float | None)
    assert_type(failed.exceptions[0], Exception | ExceptionGroup[Exception])


plain: Callable[[int], float] = total
