"""Leaves hung losers behind and ends; prints when it got to its end.

Arguments: "threads" or "tasks".
"""

import asyncio
import sys
import threading
import time

from mainstay import hedge, redundant
from mainstay.testing import recorded

LOSERS = 4


def answer() -> str:
    return "answer"


def hang() -> str:
    threading.Event().wait()
    return "never"


async def aanswer() -> str:
    return "answer"


async def ahang() -> str:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if time.monotonic() - began > 0.2:  # so that the loop itself can end
                raise


def threads() -> None:
    policy = redundant(alternatives=[answer], start=hedge.after(0.001), budget=None, name="it")
    with recorded() as metrics:
        for _ in range(LOSERS):
            assert policy.call(hang) == "answer"
        assert metrics.value("abandoned_threads") == LOSERS


async def tasks() -> None:
    policy = redundant(
        alternatives=[aanswer], start=hedge.after(0.001), budget=None, primary="task"
    )
    for _ in range(LOSERS):
        assert await policy.call(ahang) == "answer"
    await asyncio.sleep(0.25)


began = time.monotonic()
if sys.argv[1] == "threads":
    threads()
else:
    asyncio.run(tasks())
print(time.time())
