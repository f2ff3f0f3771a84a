"""How rate limits are used and looked at."""

import asyncio
from bisect import bisect_right

from support.callers import ASYNC, SYNC


def in_async_block(limit, fn, *args):
    """The block form of async code, `async with limit:`."""

    async def main():
        async with limit:
            return fn(*args)

    return asyncio.run(main())


def acquired(limit, fn, *args):
    limit.acquire()
    return fn(*args)


def acquired_async(limit, fn, *args):
    async def main():
        await limit.acquire_async()
        return fn(*args)

    return asyncio.run(main())


RATE_FORMS = {
    "sync-decorated": SYNC.decorated,
    "sync-called": SYNC.called,
    "sync-block": SYNC.guarded,
    "sync-acquired": acquired,
    "async-decorated": ASYNC.decorated,
    "async-called": ASYNC.called,
    "async-block": in_async_block,
    "async-acquired": acquired_async,
}
WHOLE_CALLS = {name: form for name, form in RATE_FORMS.items() if "acquired" not in name}


def most_in_a_window(times, per):
    """Count the most of *times* in any window of *per* seconds, both its ends included."""
    times = sorted(times)
    windows = (bisect_right(times, begin + per) - i for i, begin in enumerate(times))
    return max(windows, default=0)


def waiting(limit):
    """Count who stands in the line of a limit."""
    return limit._bound.engine.turns.waiting
