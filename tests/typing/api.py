"""What type checkers must see of the public API. Never run: `mypy --strict` and pyright read it.

A line that must be refused has a `type: ignore` with the code that refuses it; since unused ones
are errors, it fails as soon as it is accepted.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from datetime import timedelta
from typing import Any, assert_type

import tenacity

from mainstay import (
    Metrics,
    Retry,
    RetryBudget,
    deadline,
    default_metrics,
    on_event,
    remaining,
    retry,
    set_default_metrics,
)
from mainstay.errors import DeadlineExpiredError, MainstayError, ResultRefusedError

policy = retry(on=OSError)
assert_type(policy, Retry)


# Functions keep their signature.


@retry(on=OSError)
def fetch(url: str, *, size: int = 1) -> bytes:
    return url.encode() * size


assert_type(fetch("a"), bytes)
assert_type(fetch("a", size=2), bytes)
fetch(1)  # type: ignore[arg-type]
fetch("a", size="2")  # type: ignore[arg-type]
fetch()  # type: ignore[call-arg]
fetch("a", 2)  # type: ignore[call-arg]
fetch("a", other=1)  # type: ignore[call-arg]


@retry(on=(OSError, TimeoutError), attempts=4, timeout=30.0)
async def afetch(url: str) -> bytes:
    return url.encode()


async def await_functions() -> None:
    coroutine: Coroutine[Any, Any, bytes] = afetch("a")
    assert_type(await coroutine, bytes)
    assert_type(await afetch("a"), bytes)
    assert_type(await asyncio.create_task(afetch("a")), bytes)
    await afetch(1)  # type: ignore[arg-type]


@policy
def items(n: int) -> Iterator[int]:
    yield n


@policy
def echo(n: int) -> Generator[int, str, bool]:
    return bool((yield n))


@policy
async def aitems(n: int) -> AsyncIterator[int]:
    yield n


@policy
async def aecho(n: int) -> AsyncGenerator[int, str]:
    yield n


assert_type(items(1), Iterator[int])
assert_type(echo(1), Generator[int, str, bool])
assert_type(aitems(1), AsyncIterator[int])
assert_type(aecho(1), AsyncGenerator[int, str])
items("1")  # type: ignore[arg-type]
aitems("1")  # type: ignore[arg-type]


# Methods keep their instance and their class.


class Client:
    @policy
    def method(self, x: int) -> str:
        return str(x)

    @policy
    async def amethod(self, x: int) -> str:
        return str(x)

    @classmethod
    @policy
    def of_class(cls, x: int) -> "Client":
        return cls()

    @staticmethod
    @policy
    def static(x: int) -> str:
        return str(x)

    @policy
    def items(self, x: int) -> Iterator[int]:
        yield x


client = Client()
assert_type(client.method(1), str)
assert_type(Client.of_class(1), Client)
assert_type(client.of_class(1), Client)
assert_type(Client.static(1), str)
assert_type(client.items(1), Iterator[int])
assert_type(Client.method(client, 1), str)
client.method("1")  # type: ignore[arg-type]
Client.of_class("1")  # type: ignore[arg-type]
Client.static("1")  # type: ignore[arg-type]


async def await_methods() -> None:
    assert_type(await client.amethod(1), str)
    assert_type(await asyncio.create_task(client.amethod(1)), str)
    await client.amethod("1")  # type: ignore[arg-type]


# The same for .call, partials and objects.


def plain(a: int, b: str = "") -> float:
    return float(a)


async def aplain(a: int) -> float:
    return float(a)


class Callable_:  # noqa: N801 - one that is called
    def __call__(self, a: int) -> float:
        return float(a)


assert_type(policy.call(plain, 1), float)
assert_type(policy.call(plain, 1, b="x"), float)
assert_type(policy.call(Callable_(), 1), float)
assert_type(policy(Callable_())(1), float)
assert_type(policy(functools.partial(plain, 1))(), float)
policy.call(plain, "1")  # type: ignore[arg-type]
policy.call(plain, 1, b=2)  # type: ignore[arg-type]
policy.call(plain)  # type: ignore[call-arg]
policy(1)  # type: ignore[arg-type]


async def await_calls() -> None:
    assert_type(await policy.call(aplain, 1), float)
    assert_type(await asyncio.create_task(policy.call(aplain, 1)), float)
    await policy.call(aplain, "1")  # type: ignore[arg-type]


# Blocks.


def block() -> str:
    for attempt in policy:
        with attempt as same:
            assert_type(same.number, int)
            assert_type(attempt.number, int)
            assert_type(attempt.elapsed, float)
            assert_type(attempt.last_error, Exception | None)
            return "ok"
    return "a block may be left without a return, as far as checkers know"


async def ablock() -> int:
    async for attempt in policy:
        with attempt:
            return attempt.number
    return 0


# Parameters.

retry(on=OSError, attempts=None, timeout=None, wait=0, name="n", metrics=Metrics(None))
retry(on=lambda error: isinstance(error, OSError))
retry(on=lambda error: 1.5)
retry(on=lambda error: timedelta(seconds=1))
retry(on=tenacity.retry_if_exception_type(OSError))
retry(on=OSError, wait=tenacity.wait_fixed(1), stop=tenacity.stop_after_attempt(2))
retry(on=OSError, wait=timedelta(seconds=1), timeout=timedelta(seconds=1), attempt_timeout=1)
retry(on=OSError, on_result=lambda value: value is None)
retry(on=OSError, budget=0.1)
retry(on=OSError, budget=RetryBudget(ratio=0.1, floor=1, window=timedelta(seconds=10)))


async def adecide(error: Exception) -> bool:
    return isinstance(error, OSError)


retry(on=adecide, on_result=adecide)

retry()  # type: ignore[call-arg]
retry(OSError)  # type: ignore[call-arg]
retry(on=(OSError, KeyboardInterrupt))  # type: ignore[arg-type]
retry(on="OSError")  # type: ignore[arg-type]
retry(on=OSError, attempts="3")  # type: ignore[arg-type]
retry(on=OSError, attempts=2.5)  # type: ignore[arg-type]
retry(on=OSError, timeout="3")  # type: ignore[arg-type]
retry(on=OSError, wait="3")  # type: ignore[arg-type]
retry(on=OSError, stop=3)  # type: ignore[arg-type]
retry(on=OSError, budget="all")  # type: ignore[arg-type]
retry(on=OSError, name=3)  # type: ignore[arg-type]
retry(on=OSError, metrics="default")  # type: ignore[arg-type]
retry(on=OSError, retries=3)  # type: ignore[call-arg]


# Deadlines, metrics, events, errors.

assert_type(deadline(2), deadline)
assert_type(deadline(timedelta(seconds=2)), deadline)
assert_type(remaining(), float | None)
assert_type(remaining(5.0), float)
deadline("2")  # type: ignore[arg-type]
deadline(None)  # type: ignore[arg-type]

assert_type(default_metrics(), Metrics)
set_default_metrics(Metrics(None, namespace="app", buckets={"call_duration_seconds": [0.1, 1]}))
set_default_metrics(None)  # type: ignore[arg-type]

assert_type(on_event(lambda event: (event.component, event.kind)), Callable[[], None])


def errors(refused: ResultRefusedError, expired: DeadlineExpiredError) -> MainstayError:
    assert_type(refused.attempts, int)
    assert_type(refused.result, object)
    assert_type(refused.elapsed, float)
    assert_type(expired.component, str)
    errors: list[TimeoutError | MainstayError] = [expired, refused]
    return refused if errors else expired
