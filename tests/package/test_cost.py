"""What a call that succeeds at once costs, in figures that do not depend on the machine.

The figures are limits: fewer is better, and then the limit goes down with it.
"""

import asyncio
import gc
import logging
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from types import FrameType
from typing import Any

import pytest

from mainstay import (
    Detect,
    FailoverPool,
    Member,
    Metrics,
    NoMemberError,
    deadline,
    hedge,
    redundant,
    retry,
)
from mainstay.testing import recorded

PYTHON_CALLS = 3  # the wrapper, the function, the recorder
BUILTIN_CALLS = 5  # two for what surrounds the call and where it runs, the clock twice, bisect
CALLS = 1_000
POOL_BUILTIN_CALLS = 8  # those, a pick, the lease twice and the use of the member twice
REJECTION_CALLS = 48  # without the line in the log
HEDGED_CALLS = 9  # the wrapper, the function, the call, its alarm three, what it records three
HEDGED_THREAD_CALLS = 21
CURRENT_TASK = sys.version_info < (3, 12)  # a Python function there


@pytest.fixture
def work() -> Callable[[], None]:
    with recorded():

        @retry(on=OSError, name="work")
        def work() -> None:
            pass

    work()  # the first call in a thread makes its cells
    return work


@pytest.fixture
def awork() -> Callable[[], Any]:
    with recorded():

        @retry(on=OSError, name="work")
        async def work() -> None:
            pass

    return work


def calls_of(fn: Callable[..., object], *args: object) -> Counter[str]:
    """Count what calling *fn* calls: itself and other Python functions, and built-in ones."""
    counts: Counter[str] = Counter()

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        counts[event] += 1

    sys.setprofile(count)
    try:
        fn(*args)
    except StopIteration:  # a coroutine has returned
        pass
    finally:
        sys.setprofile(None)
    return Counter(python=counts["call"], builtin=counts["c_call"] - 1)  # the last setprofile


@contextmanager
def without_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def garbage_of(call: Callable[[], object], calls: int = CALLS) -> int:
    """Count the objects that only the cyclic gc can free after some calls.

    The least of three counts: other tests may leave something behind that shows up in one.
    """
    counts = []
    for _ in range(3):
        with without_collections():
            for _ in range(calls):
                call()
            counts.append(gc.collect())
    return min(counts)


def test_a_sync_call_makes_few_calls(work: Callable[[], None]) -> None:
    counts = calls_of(work)
    assert counts["python"] <= PYTHON_CALLS
    assert counts["builtin"] <= BUILTIN_CALLS


def test_an_async_call_makes_few_calls(awork: Callable[[], Any]) -> None:
    async def main() -> Counter[str]:
        await awork()
        return calls_of(awork().send, None)

    counts = asyncio.run(main())
    assert counts["python"] <= PYTHON_CALLS
    assert counts["builtin"] <= BUILTIN_CALLS + 1  # `send`


@pytest.mark.parametrize("around", [nullcontext, partial(deadline, 30.0)])
def test_an_async_hedge_that_does_not_fire_makes_few_calls(around: Callable[[], Any]) -> None:
    @redundant(start=hedge.after(30), name="work", metrics=Metrics(None))
    async def work() -> None:
        pass

    async def main() -> int:
        with around():
            await work()
            # Now and then a call counts what the ones before it have left.
            return min(calls_of(work().send, None)["python"] for _ in range(5))

    assert asyncio.run(main()) <= HEDGED_CALLS + CURRENT_TASK


def test_a_sync_hedge_that_does_not_fire_makes_few_calls() -> None:
    @redundant(start=hedge.after(30), name="work", metrics=Metrics(None))
    def work() -> None:
        pass

    work()
    assert min(calls_of(work)["python"] for _ in range(5)) <= HEDGED_THREAD_CALLS


def pool_of_three(**options: Any) -> FailoverPool[str]:
    members = [Member(name, name) for name in "abc"]
    return FailoverPool("work", members, on=OSError, metrics=Metrics(None), **options)


@pytest.mark.parametrize("around", [nullcontext, partial(deadline, 30.0)])
def test_a_call_of_a_pool_makes_few_calls(around: Callable[[], Any]) -> None:
    @pool_of_three()
    def work(_resource: str) -> None:
        pass

    work()
    with around():
        counts = calls_of(work)
    assert counts["python"] <= PYTHON_CALLS
    assert counts["builtin"] <= POOL_BUILTIN_CALLS


@pytest.mark.parametrize("around", [nullcontext, partial(deadline, 30.0)])
def test_an_async_call_of_a_pool_makes_few_calls(around: Callable[[], Any]) -> None:
    @pool_of_three()
    async def work(_resource: str) -> None:
        pass

    async def main() -> Counter[str]:
        await work()
        with around():
            return calls_of(work().send, None)

    counts = asyncio.run(main())
    assert counts["python"] <= PYTHON_CALLS
    assert counts["builtin"] <= POOL_BUILTIN_CALLS + 2  # `send`, and the answer that is remembered


def test_a_rejection_of_a_pool_that_is_down_makes_few_calls(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It plans nothing: a service that is down sees many of these."""
    caplog.set_level(logging.CRITICAL, "mainstay")
    detect = Detect(consecutive=1, eject_for=3600.0, max_eject=3600.0)

    @pool_of_three(when_all_down="raise", detect=detect)
    def work(_resource: str) -> None:
        raise OSError

    with suppress(OSError):
        work()

    def call() -> None:
        with suppress(NoMemberError):
            work()

    call()
    assert min(calls_of(call)["python"] for _ in range(5)) <= REJECTION_CALLS


def test_a_sync_call_leaves_nothing_to_the_cyclic_gc(work: Callable[[], None]) -> None:
    assert garbage_of(work) == 0


def test_an_async_call_leaves_nothing_to_the_cyclic_gc(awork: Callable[[], Any]) -> None:
    async def main() -> int:
        await awork()
        return garbage_of(lambda: run_to_its_end(awork()))

    assert asyncio.run(main()) == 0


def run_to_its_end(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits."""
    with suppress(StopIteration):
        coroutine.send(None)


def test_a_sync_call_leaves_no_memory_behind(work: Callable[[], None]) -> None:
    def grown() -> int:
        before = sys.getallocatedblocks()
        for _ in range(CALLS):
            work()
        return sys.getallocatedblocks() - before

    grown()
    assert min(grown() for _ in range(3)) < 10  # blocks; one for each call would be 1,000


def test_an_async_call_leaves_no_memory_behind(awork: Callable[[], Any]) -> None:
    async def grown() -> int:
        before = sys.getallocatedblocks()
        for _ in range(CALLS):
            await awork()
        return sys.getallocatedblocks() - before

    async def main() -> int:
        await grown()
        return min([await grown() for _ in range(3)])

    assert asyncio.run(main()) < 10


def test_a_call_that_recovers_leaves_nothing_to_the_cyclic_gc() -> None:
    with recorded():

        @retry(on=OSError, name="work", wait=0)
        def fails_every_other_time() -> None:
            nonlocal fails
            fails = not fails
            if fails:
                raise OSError

    fails = False
    assert garbage_of(fails_every_other_time, 100) == 0


def test_a_call_that_gives_up_leaves_nothing_to_the_cyclic_gc() -> None:
    with recorded():

        @retry(on=OSError, name="work", wait=0, attempts=2)
        def fail() -> None:
            raise OSError

    def call() -> None:
        with suppress(OSError):
            fail()

    assert garbage_of(call, 100) == 0


def test_garbage_is_counted() -> None:
    def leave() -> None:
        cycle: list[object] = []
        cycle.append(cycle)

    assert garbage_of(leave, 100) == 100


def test_calls_are_counted_by_their_kind() -> None:
    def two_and_two() -> None:
        len([])
        repeat()

    def repeat() -> None:
        repr(1)

    assert calls_of(two_and_two) == {"python": 2, "builtin": 2}
