"""Async calls that are not slow yet: each is told in time, by as few timers as can be."""

import asyncio
import contextlib
import gc
import threading
import weakref
from contextvars import ContextVar

import pytest

from mainstay import deadline, hedge, redundant, remaining
from mainstay._redundant.latency import LoopTimers, SharedTimer
from support.jumping_time import jumping_time


class Call:
    """Keeps the times at which it is told."""

    def __init__(self, loop):
        self.loop = loop
        self.told = []

    def slow(self):
        self.told.append(round(self.loop.time(), 6))


@pytest.fixture
def loop():
    with jumping_time() as loop:
        yield loop


def timers(loop):
    """How many timers are set."""
    return sum(not each.cancelled() for each in loop._scheduled)


def test_each_call_is_told_once_when_it_is_due(loop):
    calls = [Call(loop) for _ in range(3)]

    async def main():
        timer = SharedTimer(loop)
        for call in calls:
            timer.add(call, loop.time() + 1.0)
            await asyncio.sleep(0.25)
        await asyncio.sleep(5)

    loop.run_until_complete(main())
    assert [call.told for call in calls] == [[1.0], [1.25], [1.5]]


def test_an_answered_call_is_not_told_and_does_not_delay_others(loop):
    first, second = Call(loop), Call(loop)

    async def main():
        timer = SharedTimer(loop)
        timer.add(first, 1.0)
        timer.add(second, 2.0)
        del timer.waiting[first]
        await asyncio.sleep(5)

    loop.run_until_complete(main())
    assert (first.told, second.told) == ([], [2.0])


@pytest.mark.parametrize("answered", [False, True])
def test_a_call_whose_delay_is_shorter_is_told_before_those_that_began_earlier(loop, answered):
    early, late, last = Call(loop), Call(loop), Call(loop)

    async def main():
        timer = SharedTimer(loop)
        timer.add(early, 3.0)
        if answered:
            del timer.waiting[early]
        timer.add(late, 1.0)
        timer.add(last, 4.0)
        await asyncio.sleep(5)

    loop.run_until_complete(main())
    assert (early.told, late.told, last.told) == ([] if answered else [3.0], [1.0], [4.0])


def test_thousands_of_calls_need_one_timer(loop):
    async def main():
        timer = SharedTimer(loop)
        calls = [Call(loop) for _ in range(1000)]
        for call in calls:
            timer.add(call, loop.time() + 1.0)
        most = timers(loop)
        for call in calls:
            del timer.waiting[call]
        await asyncio.sleep(2)
        return most, timers(loop)

    assert loop.run_until_complete(main()) == (1, 0)


def test_each_thread_and_each_event_loop_has_a_timer_of_its_own():
    timers_of_threads, found = LoopTimers(), []

    async def main():
        loop = asyncio.get_running_loop()
        found.append(timers_of_threads.here(loop))
        assert timers_of_threads.here(loop) is found[-1]

    asyncio.run(main())
    asyncio.run(main())
    thread = threading.Thread(target=asyncio.run, args=[main()])
    thread.start()
    thread.join()
    assert len({*map(id, found)}) == 3


def test_a_closed_event_loop_is_not_kept_alive():
    fetch = redundant(start=hedge.after(9.0))(answer)
    found = []

    async def main():
        found.append(weakref.ref(asyncio.get_running_loop()))
        return await fetch(1)

    assert asyncio.run(main()) == 1
    gc.collect()
    assert found[0]() is None


async def answer(value):
    return value


def test_a_copy_that_a_shared_timer_starts_has_the_context_of_its_own_call():
    request, seen, told = ContextVar("request"), [], asyncio.Event()
    policy = redundant(start=hedge.after(0.001), budget=None, name="it")

    @policy
    async def fetch(number):
        seen.append((number, request.get(), remaining() is not None))
        if len(seen) == 6:
            told.set()
        await told.wait()

    async def serve(number):
        request.set(number)
        with deadline(60) if number == 0 else contextlib.nullcontext():
            await fetch(number)

    async def main():
        await asyncio.gather(*map(serve, range(3)))

    asyncio.run(main())
    assert sorted(seen) == [(number, number, number == 0) for number in (0, 0, 1, 1, 2, 2)]


def test_the_shared_timer_keeps_nothing_of_the_call_that_set_it(loop):
    request = ContextVar("request")

    class Request:
        """What a server has in a context variable."""

    async def serve(timer):
        request.set(Request())
        timer.add(Call(loop), 1.0)
        timer.waiting.clear()
        return weakref.ref(request.get())

    async def main():
        timer = SharedTimer(loop)
        gone = await asyncio.create_task(serve(timer))
        await asyncio.sleep(0)  # until nothing of the task is left on the event loop
        gc.collect()
        return gone()

    assert loop.run_until_complete(main()) is None
