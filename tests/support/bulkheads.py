"""Calls through bulkheads: forms in both colours, and calls that stay inside until they may end."""

import asyncio
import threading

from support.callers import ASYNC, FUNCTIONS, SYNC


def async_guarded(policy, fn, *args, **kwargs):
    """The block form in async code: `async with policy:`."""

    async def main():
        async with policy:
            return fn(*args, **kwargs)

    return asyncio.run(main())


BULKHEAD_FORMS = {
    **FUNCTIONS,
    "sync-block": SYNC.guarded,
    "block in async code": ASYNC.guarded,
    "async-block": async_guarded,
}

MAY_WAIT = {
    "sync-decorated": SYNC.decorated,
    "sync-called": SYNC.called,
    "sync-block": SYNC.guarded,
    "async-decorated": ASYNC.decorated,
    "async-block": async_guarded,
}
"""The forms that wait for a place."""


class Inside:
    """Calls in threads of their own that have a place until `let_go`."""

    def __init__(self, bulkhead, calls=1):
        self._go = threading.Event()
        self._entered = threading.Semaphore(0)
        self._threads = [
            threading.Thread(target=bulkhead.call, args=(self._stay,)) for _ in range(calls)
        ]

    def _stay(self):
        self._entered.release()
        assert self._go.wait(30)

    def __enter__(self):
        for each in self._threads:
            each.start()
        for _ in self._threads:
            assert self._entered.acquire(timeout=30)
        return self

    def __exit__(self, *exc_info):
        self.let_go()

    def let_go(self):
        self._go.set()
        for each in self._threads:
            each.join(30)


def until(condition):
    """Let other threads go on until something is the case."""
    patience = threading.Event()
    for _ in range(30_000):
        if condition():
            return
        patience.wait(0.001)
    raise AssertionError("waited in vain")
