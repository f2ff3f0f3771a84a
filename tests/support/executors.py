"""Where the items of `cp.map` run in tests, in the three forms, and in what order they end there.

`Kept` keeps calls, and makes them in reverse order when more come, in the thread that asks.
`spreading` is the fixture: sync and async code over an executor, and async code over tasks.
"""

import asyncio
from concurrent.futures import Executor, Future

import attrs
import pytest

from support.checkpoints import Runner


class Kept(Executor):
    """Keeps as many calls as were asked for, and makes them when another one comes.

    Attributes:
        calls: The items that were given to it, in order.
        made: Those whose calls were made, in order.
        futures: What was given back for them, by item.
    """

    def __init__(self, at_once=0):
        self.calls = []
        self.made = []
        self.futures = {}
        self._at_once = at_once
        self._kept = []

    def submit(self, fn, /, item):
        future = self.futures[item] = Future()
        self.calls.append(item)
        self._keep(lambda: self._make(future, fn, item))
        return future

    async def awaited(self, fn, item):
        """As `submit`, for a task to wait for."""
        made = asyncio.get_running_loop().create_future()
        self.calls.append(item)
        self.futures[item] = asyncio.current_task()
        self._keep(lambda: made.done() or made.set_result(None))
        await made
        self.made.append(item)
        return fn(item)

    def no_more(self):
        """Make the calls that are kept, and keep none from now on."""
        self._at_once = 0
        self._make_all()

    def _keep(self, make):
        if len(self._kept) >= self._at_once:
            self._make_all()
        self._kept.append(make)
        if not self._at_once:
            self._make_all()

    def _make_all(self):
        while self._kept:
            self._kept.pop()()

    def _make(self, future, fn, item):
        if future.set_running_or_notify_cancel():
            self.made.append(item)
            try:
                future.set_result(fn(item))
            except BaseException as error:  # noqa: BLE001 - as executors do
                future.set_exception(error)


@attrs.frozen
class Spreading:
    """Sync or async code whose items run in an executor, or in tasks."""

    runner: Runner
    in_tasks: bool

    def job(self, body, **options):
        return self.runner.job(body, **options)

    def map(self, cp, fn, source, key=None, *, executor=None, **options):
        """Call `cp.map` in this form; the executor is one of the above."""
        executor = Kept() if executor is None else executor
        if not self.in_tasks:
            return cp.map(fn, source, key, executor=executor, **options)

        async def awaited(item):
            return await executor.awaited(fn, item)

        return cp.map(awaited, source, key, **options)


@pytest.fixture(params=["sync", "async", "tasks"])
def spreading(request):
    in_tasks = request.param == "tasks"
    return Spreading(Runner("async" if in_tasks else request.param), in_tasks)
