"""Behaviour of checkpoints once, in both colours.

Bodies are written as `async def`, against `AsyncCheckpoint`. In the sync colour they get a
`Checkpoint` in a wrapper whose coroutines never wait, and are run to their end in one go.
"""

import asyncio
import functools
import inspect

import attrs
import pytest

from mainstay import checkpoint_run, checkpointed
from mainstay._core.ambient import current, enter


class NeverWaits:
    """A `Checkpoint` that is used as an `AsyncCheckpoint` is."""

    def __init__(self, cp):
        self._cp = cp

    def __getattr__(self, name):
        return getattr(self._cp, name)

    def iterate(self, *args, **kwargs):
        return NeverWaitingItems(self._cp.iterate(*args, **kwargs))

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
class Colour:
    name: str

    def job(self, body, **options):
        """Make a checkpointed function of a body; calling it runs it."""
        options = {"name": "job", "key": lambda *_args: "key"} | options
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
    """Run to the end, in the surroundings of the caller."""
    here = current()

    async def main():
        if here is not None:
            enter(here)
        return await awaitable

    return asyncio.run(main())


@pytest.fixture(params=["sync", "async"])
def in_colour(request):
    return Colour(request.param)
