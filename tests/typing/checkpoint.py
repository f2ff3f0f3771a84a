"""What type checkers must see of checkpoints. Never run, as `api.py` beside it."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, assert_type

from mainstay import AsyncCheckpoint, Checkpoint, checkpoint_run, checkpointed, recover
from mainstay._checkpoint.recovery import Recovered
from mainstay.stores import MemoryStore, SQLiteStore, Store

pool: Executor = ThreadPoolExecutor(1)
stores: list[Store] = [MemoryStore(), SQLiteStore("jobs.db")]


@checkpointed(store="memory://")
def total(cp: Checkpoint, tenant: str) -> int:
    assert_type(cp.iterate([1, 2]), Iterator[int])
    assert_type(cp.iterate(lambda _last: [1, 2], key=str), Iterator[int])
    assert_type(cp.map(str, [1, 2], executor=pool), Iterator[str])
    assert_type(cp.map(len, lambda _last: ["a"], str, executor=pool), Iterator[int])
    assert_type(cp.state({"a": 1}), dict[str, int])
    assert_type(cp.step("length", len, tenant), int)
    return 1


async def doubled(number: int) -> float:
    return number * 2


@checkpointed(store="memory://")
async def async_total(cp: AsyncCheckpoint, tenant: str) -> int:
    assert_type(cp.iterate([1, 2]), AsyncIterator[int])
    assert_type(cp.map(doubled, [1, 2], ordered=False), AsyncIterator[float])
    assert_type(cp.map(str, cp.iterate([1, 2]), executor=pool), AsyncIterator[str])
    cp.map(str, [1, 2])  # type: ignore[arg-type]  # no task comes of a plain function
    assert_type(await cp.step("length", len, tenant), int)
    return 1


assert_type(total("acme"), int)
as_callable: Callable[[str], int] = total
as_async: Callable[[str], Coroutine[Any, Any, int]] = async_total
total(3)  # type: ignore[arg-type]


def block() -> None:
    with checkpoint_run("key", store="memory://") as cp:
        assert_type(cp, Checkpoint)


async def async_block() -> None:
    async with checkpoint_run("key", store="memory://") as cp:
        assert_type(cp, AsyncCheckpoint)


assert_type(recover("memory://"), list[Recovered])
