"""What the tests of redundant calls share: scripted copies, sync and async, on a fake clock."""

import asyncio

import uvloop

from mainstay.testing import Faults


class Threads:
    """Calls from a thread."""

    def __init__(self):
        self.options = {}

    def fn(self, faults):
        return faults

    def run(self, policy, fn, *args, **kwargs):
        return policy.call(fn, *args, **kwargs)

    def race(self, policy, *faults):
        with policy.race() as race:
            for each in faults:
                race.start(each)
            return race.result()


class Tasks:
    """Calls from a task."""

    def __init__(self, run_main=asyncio.run, **options):
        self.options = options
        self.run_main = run_main

    def fn(self, faults):
        async def fn(*args, **kwargs):
            return await faults.acall(*args, **kwargs)

        return fn

    def run(self, policy, fn, *args, **kwargs):
        async def main():
            return await policy.call(fn, *args, **kwargs)

        return self.run_main(main())

    def race(self, policy, *faults):
        async def main():
            async with policy.race() as race:
                for each in faults:
                    race.start(self.fn(each))
                return await race.result()

        return self.run_main(main())


RUNNERS = {
    "threads": Threads(),
    "inline": Tasks(),
    "task": Tasks(primary="task"),
    "uvloop": Tasks(uvloop.run),
}


def after(seconds, step=None):
    """A step that takes so long."""
    return Faults.delay(seconds, step)
