"""Forks from a task that has a limit of time; prints what parent and child have of theirs."""

import asyncio
import os

from mainstay import TimedOutError, timeout


@timeout(0.05, name="fetch")
async def hang() -> None:
    await asyncio.get_running_loop().create_future()


async def hung() -> str:
    try:
        await hang()
    except TimedOutError:
        return "timed out"
    return "not interrupted"


@timeout(60.0, name="outer")
async def forks() -> int:
    return os.fork()


async def main() -> None:
    print(await hung(), flush=True)
    waiting = asyncio.create_task(hung())
    await asyncio.sleep(0)
    child = await forks()
    if child == 0:
        asyncio._set_running_loop(None)  # the parent's goes on there
        print("child", asyncio.run(hung()), flush=True)
        os._exit(0)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    print("parent", await waiting, status)


asyncio.run(main())
