"""Whether a block cancels the task that runs here when the time left ends."""

import asyncio

import pytest

from mainstay import deadline
from mainstay._core.interrupts import is_interrupted_in_time
from mainstay.testing import FakeClock


async def asked():
    return is_interrupted_in_time()


async def in_block():
    async with deadline(5):
        return is_interrupted_in_time()


async def in_outer_block():
    async with deadline(5):
        with deadline(9):
            return is_interrupted_in_time()


async def in_plain_block():
    with deadline(5):
        return is_interrupted_in_time()


async def in_shorter_plain_block():
    async with deadline(5):
        with deadline(3):
            return is_interrupted_in_time()


async def in_another_task():
    async with deadline(5):
        return await asyncio.create_task(asked())


async def after_the_end():
    try:
        async with deadline(0.0):
            try:
                await asyncio.sleep(5)
            finally:
                ended = is_interrupted_in_time()
    except TimeoutError:
        return ended


async def on_another_clock():
    async with deadline(5):
        with FakeClock():
            return is_interrupted_in_time()


@pytest.mark.parametrize(
    ("main", "expected"),
    [
        (asked, False),
        (in_block, True),
        (in_outer_block, True),
        (in_plain_block, False),
        (in_shorter_plain_block, False),
        (in_another_task, False),
        (after_the_end, False),
        (on_another_clock, False),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_only_the_block_that_ends_this_task_first_does(main, expected):
    assert asyncio.run(main()) is expected
