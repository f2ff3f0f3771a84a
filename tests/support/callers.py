"""Sync and async callers: a behaviour is written once, as a plain function that a policy runs.

A caller runs it as `def` or as `async def`, in one form: decorated, through `.call`, or in a block.
"""

import asyncio

import uvloop


class Sync:
    """Runs plain functions as they are."""

    kind = "sync"

    def decorated(self, policy, fn, *args, **kwargs):
        return policy(fn)(*args, **kwargs)

    def called(self, policy, fn, *args, **kwargs):
        return policy.call(fn, *args, **kwargs)

    def block(self, policy, fn, *args, **kwargs):
        return self.attempts(policy, lambda _given: fn(*args, **kwargs))

    def attempts(self, policy, fn):
        """The block form for functions that want what `with attempt as` gives."""
        for attempt in policy:
            with attempt as given:
                return fn(given)
        raise AssertionError("a block ends with a result or an exception")

    def guarded(self, policy, fn, *args, **kwargs):
        """The block form of what lets a block run once: `with policy:`."""
        with policy:
            return fn(*args, **kwargs)

    def items(self, policy, fn, *args):
        return list(policy(fn)(*args))


class Async:
    """Runs plain functions as `async def`, each on an event loop of its own, or by *run*."""

    kind = "async"

    def __init__(self, run=asyncio.run):
        self._run = run

    def decorated(self, policy, fn, *args, **kwargs):
        return self._run(policy(awaitable(fn))(*args, **kwargs))

    def called(self, policy, fn, *args, **kwargs):
        async def main():
            return await policy.call(awaitable(fn), *args, **kwargs)

        return self._run(main())

    def block(self, policy, fn, *args, **kwargs):
        return self.attempts(policy, lambda _given: fn(*args, **kwargs))

    def attempts(self, policy, fn):
        async def main():
            async for attempt in policy:
                with attempt as given:
                    return fn(given)
            raise AssertionError("a block ends with a result or an exception")

        return self._run(main())

    def guarded(self, policy, fn, *args, **kwargs):
        async def main():
            with policy:
                return fn(*args, **kwargs)

        return self._run(main())

    def items(self, policy, fn, *args):
        async def source(*args):
            for item in fn(*args):
                yield item

        async def main():
            return [item async for item in policy(source)(*args)]

        return self._run(main())


def awaitable(fn):
    """The same function as a coroutine function."""

    async def awaitable(*args, **kwargs):
        return fn(*args, **kwargs)

    return awaitable


SYNC, ASYNC, UVLOOP = Sync(), Async(), Async(uvloop.run)
FUNCTIONS = {
    "sync-decorated": SYNC.decorated,
    "sync-called": SYNC.called,
    "async-decorated": ASYNC.decorated,
    "uvloop-decorated": UVLOOP.decorated,
}
BLOCKS = {"sync-block": SYNC.block, "async-block": ASYNC.block}
