"""What the tests of stores on servers share: callers that send again, and calls from tasks."""

import asyncio
import itertools
import threading
import time
from contextlib import contextmanager

from mainstay.errors import StoreUnavailableError
from mainstay.stores.base import Change, Contents, Finished
from support.pools import LONGEST
from support.store_conformance import ONE, RUN, TWO, lease_of, request


class InTasks:
    """A store whose `AsyncStore` half is called, in an event loop of its own."""

    def __init__(self, store):
        self._store = store
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def __getattr__(self, name):
        return getattr(self._store, name)

    def _wait(self, task):
        return asyncio.run_coroutine_threadsafe(task, self._loop).result(LONGEST)

    def end(self):
        self._wait(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def acquire(self, run, request):
        return self._wait(self._store.aacquire(run, request))

    def commit(self, lease, change):
        return self._wait(self._store.acommit(lease, change))

    def release(self, *args, **options):
        return self._wait(self._store.arelease(*args, **options))


class Persistent:
    """A caller that sends again what was not answered."""

    def __init__(self, call):
        self.call = call
        self.failures = 0

    def __call__(self, *args, **options):
        end = time.monotonic() + LONGEST
        while True:
            try:
                return self.call(*args, **options)
            except StoreUnavailableError as error:
                if not error.retryable or time.monotonic() > end:
                    raise
                self.failures += 1


class FromThreads:
    """A caller in a thread."""

    def __init__(self, store):
        self.acquire, self.commit = Persistent(store.acquire), Persistent(store.commit)
        self.release = Persistent(store.release)


class FromTasks:
    """A caller in a task."""

    def __init__(self, store, runner):
        def wait(call):
            return Persistent(lambda *args, **options: runner.run(call(*args, **options)))

        self.acquire, self.commit = wait(store.aacquire), wait(store.acommit)
        self.release = wait(store.arelease)


@contextmanager
def calling(store, kind):
    """Give a caller of the store that is "sync" or "async"."""
    if kind == "sync":
        yield FromThreads(store)
        return
    with asyncio.Runner() as runner:
        yield FromTasks(store, runner)


def work(caller):
    """Go through a run with all that a run does, in two attempts."""
    numbers = itertools.count(1)

    def commit(lease, **change):
        caller.commit(lease, Change(**change, sequence=next(numbers)))

    lease = lease_of(caller.acquire(RUN, request()))
    commit(lease, put={0: ONE})
    commit(lease, document=b"1", drop=(0,))
    commit(lease, put={1: ONE, 2: TWO})
    caller.release(lease, "error", "no")
    numbers = itertools.count(1)
    answer = caller.acquire(RUN, request())
    assert answer.contents == Contents(b"1", None, {1: ONE, 2: TWO})
    lease = lease_of(answer)
    commit(lease, document=b"2", put={3: TWO})
    commit(lease, drop=(1,))
    commit(lease, document=b"3", finished=True)
    answer = caller.acquire(RUN, request())
    assert isinstance(answer, Finished)
    assert answer.record.attempt == 2
    assert answer.contents == Contents(b"3", b"3", {2: TWO, 3: TWO})
