"""Priorities: which of those that wait for a place gets it, and how far a block reaches."""

import asyncio
import contextvars
import threading

import pytest

from mainstay import Bulkhead, deadline, priority
from mainstay._core.context import block_context, current_context
from mainstay.testing import FakeClock


def here():
    return current_context().priority


def test_outside_every_block_a_call_is_normal():
    assert here() == "normal"


def test_the_innermost_block_counts_until_it_is_left(context):
    with priority("low"):
        assert here() == "low"
        with priority("high"), deadline(5):
            assert here() == "high"
        assert here() == "low"
    assert here() == "normal"


def test_it_follows_into_tasks_and_copied_contexts_and_ends_with_the_block():
    seen = []

    async def child(go):
        seen.append(here())
        await go.wait()
        seen.append(here())

    async def main():
        go = asyncio.Event()
        with priority("low"):
            task = asyncio.create_task(child(go))
            await asyncio.sleep(0)
            copied = contextvars.copy_context()
            thread = threading.Thread(target=lambda: seen.append(copied.run(here)))
            thread.start()
            thread.join()
        go.set()
        await task

    asyncio.run(main())
    assert seen == ["low", "low", "normal"]


def test_one_object_may_be_open_several_times():
    low = priority("low")
    with low, priority("high"), low:
        assert here() == "low"
    assert here() == "normal"


def test_it_keeps_the_short_path_and_the_deadline():
    with deadline(5.0), priority("low"):
        assert block_context().plain
        assert 0 < current_context().left() <= 5.0
        assert block_context().deadline == current_context().deadline
    with FakeClock(), priority("low"):
        assert not block_context().plain


@pytest.mark.parametrize("level", ["", "urgent", "LOW"])
def test_an_unknown_level_is_refused(level):
    with pytest.raises(ValueError, match="`level` must be 'high', 'normal' or 'low'"):
        priority(level)


@pytest.mark.parametrize("level", [None, 1, True])
def test_a_level_that_is_no_name_is_refused(level):
    with pytest.raises(TypeError, match="`level`"):
        priority(level)


def test_high_is_served_first_low_last_and_each_in_its_order(metrics):
    bulkhead, order = Bulkhead("orders", limit=1, max_wait=30.0), []

    async def call(level, number):
        with priority(level):
            async with bulkhead:
                order.append((level, number))

    async def main():
        async with bulkhead:
            levels = ("low", "normal", "high")
            calls = [asyncio.create_task(call(each, n)) for n in range(2) for each in levels]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert bulkhead.waiting == 6
        await asyncio.gather(*calls)

    asyncio.run(main())
    assert order == [(level, n) for level in ("high", "normal", "low") for n in range(2)]
    for level in ("high", "normal", "low"):
        assert metrics("queue_wait_seconds_count", priority=level) == 2
