"""Ends although a probe, an `open` and a `close` of its pools hang: `hung_hooks.py sync|async`."""

import asyncio
import sys
import threading
import time

from mainstay import FailoverPool, Member, Probe, failover

asked = threading.Event()


def hang(*_args):
    asked.set()
    threading.Event().wait()


async def ahang(*_args):
    asked.set()
    await asyncio.Event().wait()


async def never_called(_old, _new):
    """Makes a pool async."""


def pools(hook, **options):
    """Make a pool with each kind of hook that hangs."""
    opened, closed = Member("b", open=hook), Member("b", open=str, close=hook)
    probe = Probe(hook, every=0.001)
    return [
        FailoverPool("probed", [Member("a", "a0")], on=OSError, probe=probe, **options),
        FailoverPool("opened", [Member("a", "a0"), opened], on=OSError, **options),
        FailoverPool("closed", [Member("a", "a0"), closed], on=OSError, **options),
    ]


async def use(resource):
    return resource


async def main():
    # A plain hook of an async pool hangs in a thread, an async one in a task.
    everything = [pool for hook in (ahang, hang) for pool in pools(hook, fence=never_called)]
    for pool in everything:
        asked.clear()
        await failover(pool)(use)()
        if pool.name == "closed":
            await asyncio.to_thread(remove_when_open, pool)
        await asyncio.to_thread(asked.wait)


def remove_when_open(pool):
    while not pool.status().members[1].open:
        time.sleep(0.001)
    pool.remove("b")


if __name__ == "__main__":
    if sys.argv[1] == "async":
        asyncio.run(main())
    else:
        for each in pools(hang):
            asked.clear()
            each.call(str)
            if each.name == "closed":
                remove_when_open(each)
            asked.wait()
