"""No thread can be started for a moment: a limit of processes, a subinterpreter, the end of Python.

The run goes on, and renews its lease by itself; nothing is kept, and nothing is done twice.
"""

import asyncio
import logging
import threading
from datetime import timedelta

import pytest

from mainstay import checkpoint_run
from mainstay._core.threads import run_in_thread
from mainstay.stores.base import Change
from mainstay.testing import FakeClock
from support.checkpoints import OopsError, add_up


@pytest.fixture
def no_threads(monkeypatch):
    """Start no thread, as at the system's limit; but the one that ends the executor of asyncio."""
    start = threading.Thread.start

    def full(self):
        if not self.name.startswith(("mainstay", "asyncio")):
            return start(self)
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", full)
        yield limited.undo


def watchers():
    return [each for each in threading.enumerate() if each.name.startswith("mainstay-lease")]


def test_a_run_goes_on_without_its_watcher_and_says_so(runner, store, no_threads, caplog):
    assert runner.job(add_up, store=store)([1, 2, 3]) == 6
    [(_, state)] = store.list()
    assert state == "done"
    [record] = [each for each in caplog.records if "thread" in each.message]
    assert (record.levelno, record.name) == (logging.WARNING, "mainstay.checkpoint")


def test_a_run_that_fails_without_its_watcher_is_released(runner, store, no_threads):
    for _ in range(2):
        with pytest.raises(OopsError):
            runner.job(add_up, store=store)([1, 2, 3], 2)
    [(_, state)] = store.list()
    assert state == "interrupted"


def test_it_renews_its_lease_with_its_items(runner, store, no_threads, monkeypatch):
    commit, renewals = type(store).commit, []

    def counted(self, lease, change):
        if change == Change():
            renewals.append(clock.now() - began)
        commit(self, lease, change)

    async def body(cp):
        async for _ in cp.iterate(range(6)):
            clock.advance(2.0)

    monkeypatch.setattr(type(store), "commit", counted)
    with FakeClock() as clock:
        began = clock.now()
        runner.job(body, store=store, lease=9.0, every=1000)()
    assert renewals == [4.0, 8.0, 12.0]


def test_it_saves_when_the_time_has_come(runner, store, no_threads, metrics):
    async def body(cp):
        async for _ in cp.iterate(range(6)):
            clock.advance(1.0)

    with FakeClock() as clock:
        runner.job(body, store=store, every=timedelta(seconds=2))()
    assert metrics("checkpoint_saves_total", outcome="ok") == 4


def test_a_watcher_is_started_when_the_shortage_is_over(store, no_threads):
    with FakeClock() as clock, checkpoint_run("key", store=store, lease=10.0) as cp:
        for item in cp.iterate(range(6)):
            clock.advance(4.0)
            if item == 2:
                assert watchers() == []
                no_threads()
        assert len(watchers()) == 1


def test_a_failure_to_watch_releases_what_was_acquired(runner, store, monkeypatch):
    def broken(_run):
        raise MemoryError

    monkeypatch.setattr("mainstay._checkpoint.signals.watch", broken)
    with pytest.raises(MemoryError):
        runner.job(add_up, store=store)([1])
    [(_, state)] = store.list()
    assert state == "interrupted"
    for each in watchers():
        each.join(60)
    assert watchers() == []


# What async code does in a thread is done where it is, and once.


def test_what_no_thread_can_do_is_done_by_the_caller_once(no_threads):
    done = []

    async def main():
        await run_in_thread(lambda: done.append(threading.current_thread()))
        no_threads()
        await run_in_thread(lambda: done.append(threading.current_thread()))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert done[0] is threading.main_thread()
    assert len(done) == 2


def test_what_it_raises_is_raised(no_threads):
    with pytest.raises(RuntimeError, match="the store's own"):
        asyncio.run(run_in_thread(broken_store))


def broken_store():
    raise RuntimeError("the store's own")
