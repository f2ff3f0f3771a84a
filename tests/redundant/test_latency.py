"""Async calls that are not slow yet share a timer: it keeps no loop alive, and has no context."""

import asyncio
import contextlib
import gc
import weakref
from contextvars import ContextVar

from mainstay import deadline, hedge, redundant, remaining


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
