"""What the tests of checkpoints share: behaviour once, sync and async, and a body for it.

Bodies are written as `async def`, against `AsyncCheckpoint`. For the sync form they get a
`Checkpoint` in a wrapper whose coroutines never wait, and are run to their end in one go.
"""

import asyncio
import functools
import inspect

import attrs
import pytest

from mainstay import checkpoint_run, checkpointed
from mainstay._checkpoint import types
from mainstay._core.clock import SystemClock
from mainstay.stores import MemoryStore
from mainstay.stores.base import RunId
from mainstay.testing import FakeClock
from support.checkpoint_values import Totals
from support.store_conformance import DEAD

RUN = RunId("job", "key")
"""What the jobs below are known by, unless a test says otherwise."""


class OopsError(ValueError):
    """What a function raises that is to be interrupted."""


class CrashError(BaseException):
    """Ends an attempt as SIGKILL would, with the fixture `crashing`: nothing is released."""


async def add_up(cp, rows, fail_at=None, seen=None, key=lambda row: row):
    """Add up rows in the state."""
    totals = cp.state(Totals())
    async for row in cp.iterate(rows, key=key):
        if seen is not None:
            seen.append(row)
        if row == fail_at:
            raise OopsError(row)
        totals.rows += 1
        totals.amount += row
    return totals.amount


class NeverWaits:
    """A `Checkpoint` that is used as an `AsyncCheckpoint` is."""

    def __init__(self, cp):
        self._cp = cp

    def __getattr__(self, name):
        return getattr(self._cp, name)

    def iterate(self, *args, **kwargs):
        return NeverWaitingItems(self._cp.iterate(*args, **kwargs))

    def map(self, *args, **kwargs):
        return NeverWaitingItems(self._cp.map(*args, **kwargs))

    async def step(self, *args, **kwargs):
        return self._cp.step(*args, **kwargs)

    async def save(self):
        self._cp.save()


class NeverWaitingItems:
    def __init__(self, items):
        self._items = items

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None


def finished(coroutine):
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waited")


@attrs.frozen
class Runner:
    name: str

    def job(self, body, **options):
        """Make a checkpointed function of a body; calling it runs it."""
        options = {"name": "job", "key": lambda *_args, **_kwargs: "key"} | options
        if self.name == "sync":
            return checkpointed(**options)(in_sync(body))
        wrapped = checkpointed(**options)(body)
        return functools.wraps(wrapped)(lambda *args, **kwargs: run(wrapped(*args, **kwargs)))

    def block(self, body, key="key", **options):
        """Run a body inside a block."""
        block = checkpoint_run(key, **options)

        async def inside():
            async with block as cp:
                return await body(cp)

        if self.name == "async":
            return run(inside())
        with block as cp:
            return finished(body(NeverWaits(cp)))


def in_sync(body):
    @functools.wraps(body)
    def fn(cp, *args, **kwargs):
        return finished(body(NeverWaits(cp), *args, **kwargs))

    fn.__signature__ = inspect.signature(body)
    return fn


def run(awaitable):
    """Run to the end, in the context of the caller."""

    async def main():
        return await awaitable

    return asyncio.run(main())


@pytest.fixture(params=["sync", "async"])
def runner(request):
    return Runner(request.param)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'runs.db'}"


@pytest.fixture
def nothing_registered(monkeypatch):
    monkeypatch.setattr(types, "_registered", {})


@pytest.fixture
def crashing(monkeypatch):
    """Let `CrashError` leave the run as a dead process would."""
    release = MemoryStore.release

    def released(self, lease, how, error="", drop=()):
        if error.startswith("CrashError"):
            kept = self._runs[lease.run]
            kept.record = attrs.evolve(kept.record, owner=DEAD)
        else:
            release(self, lease, how, error, drop)

    monkeypatch.setattr(MemoryStore, "release", released)


def set_wall_clock(monkeypatch, seconds):
    """Have every clock say that it is so many seconds since 1970."""
    for clock in (SystemClock, FakeClock):
        monkeypatch.setattr(clock, "wall", lambda _clock: seconds)
