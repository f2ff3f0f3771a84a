"""What type checkers must see of the limits. Never run; `api.py` says how it is read."""

import asyncio
import copy
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, assert_type

from mainstay import (
    Adaptive,
    Bulkhead,
    BulkheadFullError,
    Metrics,
    RateLimit,
    RateLimitedError,
    RejectedError,
    TimedOutError,
    fallback,
    priority,
    timeout,
)
from mainstay.types import Fallback, Timeout

limited = timeout(2.0)
orders = Bulkhead("orders", limit=20, max_wait=0.2)
mail = RateLimit("mail", 100, per=60.0, burst=10)
instead = fallback(on=OSError, default=None)
assert_type(limited, Timeout)
assert_type(instead, Fallback)
assert_type(timeout(timedelta(seconds=1), in_thread=True), Timeout)


# Functions keep their signature.


@timeout(1.0, in_thread=True, threads=4)
def convert(text: str, *, times: int = 1) -> bytes:
    return text.encode() * times


@orders
def order(text: str, *, times: int = 1) -> bytes:
    return text.encode() * times


@mail
def send(text: str, *, times: int = 1) -> bytes:
    return text.encode() * times


@fallback(on=(ConnectionError, RejectedError), default=b"")
def fetch(text: str, *, times: int = 1) -> bytes:
    return text.encode() * times


assert_type(convert("a", times=2), bytes)
assert_type(order("a", times=2), bytes)
assert_type(send("a", times=2), bytes)
assert_type(fetch("a", times=2), bytes)
convert(1)  # type: ignore[arg-type]
order(1)  # type: ignore[arg-type]
send(1)  # type: ignore[arg-type]
fetch(1)  # type: ignore[arg-type]
convert()  # type: ignore[call-arg]
order("a", 2)  # type: ignore[call-arg]
send("a", other=1)  # type: ignore[call-arg]
fetch("a", times="2")  # type: ignore[arg-type]


@limited
async def aconvert(text: str) -> bytes:
    return text.encode()


@orders
async def aorder(text: str) -> bytes:
    return text.encode()


@mail
async def asend(text: str) -> bytes:
    return text.encode()


@instead
async def afetch(text: str) -> bytes:
    return text.encode()


async def await_functions() -> None:
    coroutine: Coroutine[Any, Any, bytes] = aorder("a")
    assert_type(await coroutine, bytes)
    assert_type(await aconvert("a"), bytes)
    assert_type(await asyncio.create_task(asend("a")), bytes)
    assert_type(await afetch("a"), bytes)
    await aconvert(1)  # type: ignore[arg-type]
    await aorder(1)  # type: ignore[arg-type]
    await asend(1)  # type: ignore[arg-type]
    await afetch(1)  # type: ignore[arg-type]


# Methods keep their instance and their class.


class Shop:
    @limited
    def converted(self, x: int) -> str:
        return str(x)

    @orders
    def ordered(self, x: int) -> str:
        return str(x)

    @mail
    async def sent(self, x: int) -> str:
        return str(x)

    @classmethod
    @orders
    def of_class(cls, x: int) -> "Shop":
        return cls()

    @staticmethod
    @instead
    def static(x: int) -> str:
        return str(x)


shop = Shop()
assert_type(shop.converted(1), str)
assert_type(shop.ordered(1), str)
assert_type(Shop.ordered(shop, 1), str)
assert_type(Shop.of_class(1), Shop)
assert_type(Shop.static(1), str)
shop.converted("1")  # type: ignore[arg-type]
shop.ordered("1")  # type: ignore[arg-type]
Shop.of_class("1")  # type: ignore[arg-type]
Shop.static("1")  # type: ignore[arg-type]


async def await_methods() -> None:
    assert_type(await shop.sent(1), str)
    await shop.sent("1")  # type: ignore[arg-type]


# The same for .call.


def plain(a: int, b: str = "") -> float:
    return float(a)


async def aplain(a: int) -> float:
    return float(a)


assert_type(limited.call(plain, 1), float)
assert_type(orders.call(plain, 1, b="x"), float)
assert_type(mail.call(plain, 1), float)
assert_type(instead.call(plain, 1), float)
limited.call(plain, "1")  # type: ignore[arg-type]
orders.call(plain, 1, b=2)  # type: ignore[arg-type]
mail.call(plain)  # type: ignore[call-arg]
instead.call(plain, "1")  # type: ignore[arg-type]
limited(1)  # type: ignore[arg-type]
orders(1)  # type: ignore[arg-type]
mail(1)  # type: ignore[arg-type]
instead(1)  # type: ignore[arg-type]


async def await_calls() -> None:
    assert_type(await limited.call(aplain, 1), float)
    assert_type(await orders.call(aplain, 1), float)
    assert_type(await asyncio.create_task(mail.call(aplain, 1)), float)
    assert_type(await instead.call(aplain, 1), float)
    await orders.call(aplain, "1")  # type: ignore[arg-type]


# Blocks.


def blocks() -> str:
    with orders as same, mail as limit, priority("low"):
        assert_type(same, Bulkhead)
        assert_type(limit, RateLimit)
        mail.acquire(cost=2)
        return "ok"
    return "a block may swallow an exception, as far as checkers know"


async def ablocks() -> None:
    async with orders as same, mail as limit:
        assert_type(same, Bulkhead)
        assert_type(limit, RateLimit)
        await mail.acquire_async(cost=0.5)


# Parameters, and what can be asked.

assert_type(
    (orders.name, orders.limit, orders.in_flight, orders.waiting), tuple[str, int, int, int]
)
orders.resize(3)
orders.reset()
Bulkhead("adaptive", Adaptive(initial=5, at_least=1, at_most=50, overload=ConnectionError))
Bulkhead("adaptive", limit=Adaptive(overload=lambda error: "busy" in str(error)))
RateLimit("m", 1.5, per=timedelta(minutes=1), burst=2.5, max_wait=1, metrics=Metrics(None))
RateLimit("m", 1, on_store_error="deny")
fallback(on=OSError, call=lambda error, key: key)
fallback(on=OSError, last_good=600, key=lambda user: user, keep=10, copy=copy.deepcopy)
fallback(on=lambda error: True, last_good=timedelta(minutes=1), name="n", metrics=Metrics(None))

timeout()  # type: ignore[call-arg]
timeout("2")  # type: ignore[arg-type]
timeout(None)  # type: ignore[arg-type]
timeout(1.0, threads=1.5)  # type: ignore[arg-type]
timeout(1.0, True)  # type: ignore[call-arg]
Bulkhead()  # type: ignore[call-arg]
Bulkhead("o", 2.5)  # type: ignore[arg-type]
Bulkhead("o", "all")  # type: ignore[arg-type]
Bulkhead("o", max_wait=None)  # type: ignore[arg-type]
Adaptive(5)  # type: ignore[call-arg]
Adaptive(initial=2.5)  # type: ignore[arg-type]
Adaptive(overload=(OSError, KeyboardInterrupt))  # type: ignore[arg-type]
orders.resize("3")  # type: ignore[arg-type]
RateLimit("m")  # type: ignore[call-arg]
RateLimit("m", "100")  # type: ignore[arg-type]
RateLimit("m", 1, on_store_error="raise")  # type: ignore[arg-type]
RateLimit("m", 1, shared="redis://")  # type: ignore[arg-type]
mail.acquire("2")  # type: ignore[arg-type]
fallback(default=None)  # type: ignore[call-arg]
fallback(on=(OSError, KeyboardInterrupt), default=None)  # type: ignore[arg-type]
fallback(on=OSError, call=3)  # type: ignore[arg-type]
fallback(on=OSError, last_good="600")  # type: ignore[arg-type]
priority("urgent")  # type: ignore[arg-type]
priority()  # type: ignore[call-arg]


def errors(
    full: BulkheadFullError, rate: RateLimitedError, late: TimedOutError
) -> RejectedError | TimeoutError:
    assert_type(full.reason, str)
    assert_type(full.retry_after, float | None)
    assert_type(rate.retry_after, float | None)
    assert_type((late.component, late.seconds), tuple[str, float])
    errors: list[RejectedError | TimeoutError] = [full, rate, late]
    return errors[0]


decorators: list[Callable[[Callable[[int], str]], Callable[[int], str]]] = [
    limited,
    orders,
    mail,
    instead,
]
