"""One owner at a time: leases, zombies, forks, signals, clocks."""

import asyncio
import os
import threading
from datetime import timedelta

import attrs
import pytest

from mainstay import (
    checkpoint_run,
    checkpointed,
    deadline,
    on_event,
    recover,
)
from mainstay._checkpoint import interruption
from mainstay._core.owner import this_process
from mainstay._core.threads import run_in_thread
from mainstay.errors import (
    CheckpointError,
    LeaseLostError,
    RunBusyError,
    StoreUnavailableError,
)
from mainstay.stores import MemoryStore, SQLiteStore
from mainstay.stores.base import Held, Request, RunId
from mainstay.testing import FakeClock
from support.checkpoints import RUN, OopsError, add_up
from support.sqlite_files import connection_of
from support.store_conformance import DEAD, acquired, request

# Forking beside other threads is what some tests are about; Python 3.12 and newer warn of it.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning")


def hold(store, owner=None):
    store.acquire(RUN, Request(owner=owner or this_process(), life="other", lease=30.0))


def test_a_run_that_somebody_works_on_is_busy(runner, store, metrics):
    """Known fault 4: two processes of python-durable both do everything."""
    hold(store)
    with pytest.raises(RunBusyError) as busy:
        runner.job(add_up, store=store)([1])
    assert (busy.value.component, busy.value.key) == ("job", "key")
    assert 0 < busy.value.seconds_left <= 30
    assert metrics("calls_total", outcome="rejected") == 1


def test_a_dead_owner_is_recognised_at_once(runner, store, metrics):
    hold(store, DEAD)
    assert runner.job(add_up, store=store)([1, 2]) == 3
    assert metrics("checkpoint_resumes_total", reason="crash") == 1
    assert metrics("calls_total", outcome="recovered") == 1


class MeanwhileStore(MemoryStore):
    """A store that has something happen after a save, before the answer comes."""

    def commit(self, lease, change):
        super().commit(lease, change)
        if change.progress:
            self.meanwhile(lease)

    def meanwhile(self, lease):
        """Renew the lease, as the thread does that watches over the run."""
        [known] = interruption._running.values()
        run = known()
        run.was_renewed(run.clock.now(), lost=bool(self.renew([lease])))


def test_a_renewal_beside_the_last_save_loses_no_run(runner, metrics):
    """Known fault: a run that had just ended was said to be lost."""
    events = []
    stop = on_event(events.append)
    assert runner.job(add_up, store=MeanwhileStore())([1, 2]) == 3
    stop()
    assert events == []
    assert metrics("checkpoint_lease_lost_total") == 0


class AwayStore(MeanwhileStore):
    """One whose answer takes most of a lease, in which the lease is renewed."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def meanwhile(self, lease):
        self.clock.advance(25.0)
        super().meanwhile(lease)


def test_a_slow_save_does_not_put_a_renewal_back():
    """Known fault: a lease that was renewed beside a slow save ended too early."""
    with FakeClock() as clock, checkpoint_run("key", store=AwayStore(clock), lease=30.0) as cp:
        [known] = interruption._running.values()
        cp.step("a", int)
        clock.advance(10.0)
        known().was_not_renewed()
        assert not cp.lost


@pytest.mark.parametrize("lease", [1e12, 1e300, timedelta.max])
def test_a_lease_may_be_longer_than_a_store_can_say(runner, tmp_path, lease):
    """The run was saved with a time that counted as damage."""
    store = SQLiteStore(tmp_path / "runs.db")
    with pytest.raises(OopsError):
        runner.job(add_up, store=store, lease=lease)([1, 2], fail_at=2)
    assert runner.job(add_up, store=store, lease=lease)([1, 2]) == 3
    [(record, _)] = store.list()
    assert record.status == "done"


def test_who_waits_gets_the_run_when_the_lease_ends(runner, store, metrics):
    with FakeClock() as clock:
        hold(store)
        assert runner.job(add_up, store=store, on_busy="wait")([1, 2]) == 3
        assert 30 <= clock.now() <= 31
    assert metrics("checkpoint_resumes_total", reason="takeover") == 1
    assert metrics("wait_seconds_total") == pytest.approx(clock.now())


def test_who_waits_for_longer_than_the_deadline_gives_up(runner, store):
    with FakeClock() as clock, deadline(5.0):
        hold(store)
        with pytest.raises(RunBusyError):
            runner.job(add_up, store=store, on_busy="wait")([1, 2])
        assert clock.now() == pytest.approx(5.0)


class Watched(MemoryStore):
    """Says when somebody was told that a run is held."""

    def __init__(self):
        super().__init__()
        self.held = threading.Event()

    def acquire(self, run, request):
        answer = super().acquire(run, request)
        if isinstance(answer, Held):
            self.held.set()
        return answer


def test_who_waits_for_the_result_gets_that_of_the_owner(runner):
    store, started, results = Watched(), threading.Event(), {}

    async def owner(cp):
        started.set()
        store.held.wait(10)
        return "owner's"

    async def other(cp):
        return "other's"

    def work(name, job):
        results[name] = job()

    jobs = {
        "owner": runner.job(owner, store=store),
        "attached": runner.job(other, store=store, on_busy="return", on_complete="rerun"),
    }
    threads = [threading.Thread(target=work, args=each, daemon=True) for each in jobs.items()]
    for thread in threads:
        thread.start()
        assert started.wait(10)
    for thread in threads:
        thread.join(10)
    assert results == {"owner": "owner's", "attached": "owner's"}


def test_a_zombie_saves_nothing_and_says_so(runner, store, metrics):
    seen = []

    async def body(cp):
        log = cp.state([])
        async for item in cp.iterate("abc"):
            if item == "b":
                clock.advance(31)
                hold(store)
            assert not cp.lost
            log.append(item)
            seen.append(item)

    with FakeClock() as clock:
        stop = on_event(lambda event: seen.append(event.kind))
        with pytest.raises(LeaseLostError):
            runner.job(body, store=store)()
        stop()
        assert seen == ["a", "b", "lease_lost"]
        clock.advance(31)
        assert runner.job(body_of_log, store=store)() == ["a", "c?"]
    assert metrics("checkpoint_saves_total", outcome="fenced") == 1
    assert metrics("checkpoint_lease_lost_total") == 1


async def body_of_log(cp):
    return [*cp.state([]), "c?"]


def test_a_lease_is_renewed_in_the_middle_of_a_long_item(runner, store):
    async def body(cp):
        async for _ in cp.iterate([1]):
            before = store.list()[0][0].seen
            waiting = threading.Event()
            while store.list()[0][0].seen == before:
                waiting.wait(0.01)

    runner.job(body, store=store, lease=0.06)()


def test_a_lost_lease_is_seen_in_the_middle_of_a_long_item(runner, store):
    async def body(cp):
        async for _ in cp.iterate([1]):
            kept = store._runs[RUN]
            kept.record = attrs.evolve(kept.record, token=99)
            waiting = threading.Event()
            while not cp.lost:
                waiting.wait(0.01)

    with pytest.raises(LeaseLostError):
        runner.job(body, store=store, lease=0.06)()


def test_a_lease_that_cannot_be_renewed_in_its_time_is_lost(store, monkeypatch, metrics):
    """Known fault 5: an exception while renewing is a loss, before the lease ends."""

    def unreachable(*_args):
        raise StoreUnavailableError("memory://", "down")

    @checkpointed(store=store, lease=30)
    def job(cp):
        monkeypatch.setattr(store, "commit", unreachable)
        for seconds, lost in ((20, False), (20, True)):
            clock.advance(seconds)
            cp._run.hold.was_not_renewed()
            assert cp.lost is lost

    with FakeClock() as clock, pytest.raises(StoreUnavailableError):
        job()


# Off the event loop.


def test_a_cancellation_waits_for_the_save_under_way():
    started, go_on, ended = threading.Event(), threading.Event(), []

    def save_slowly():
        started.set()
        go_on.wait(10)
        ended.append(True)

    async def scenario():
        task = asyncio.create_task(run_in_thread(save_slowly))
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        assert not ended
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [True]

    asyncio.run(scenario())


# Forks and clocks.


@pytest.mark.process
def test_a_child_forked_in_the_middle_can_neither_save_nor_release(url):
    with checkpoint_run("key", store=url) as cp:
        for item in cp.iterate(range(3)):
            if item == 1:
                child = os.fork()
                if child == 0:
                    try:
                        cp._run.write(cp._run._everything())
                    except CheckpointError as error:
                        cp._run.release("error")
                        os._exit(0 if "forked child" in str(error) else 1)
                    os._exit(2)
                assert os.waitpid(child, 0)[1] == 0
    store = SQLiteStore(url.removeprefix("sqlite:///"))
    assert [state for _, state in store.list()] == ["done"]
    store.close()


def test_a_damaged_argument_is_no_reason_to_run_with_another(url):
    store = SQLiteStore(url.removeprefix("sqlite:///"))

    @checkpointed(store=store, key="{x}", name="recovered", recoverable=True)
    def job(cp, x: int):
        raise KeyError(x)

    with pytest.raises(KeyError):
        job(1)
    with connection_of(store) as db:
        db.execute("UPDATE run SET arguments = x'00'")
    [outcome] = [each for each in recover(store) if each.name == "recovered"]
    assert (outcome.outcome, outcome.reason) == ("failed", "it raised CorruptCheckpointError")
    store.close()


def test_runs_of_another_store_and_poisoned_runs_are_left_alone():
    store, other = MemoryStore(), MemoryStore()

    @checkpointed(store=other, key=lambda: "key", name="elsewhere", recoverable=True)
    def job(cp):
        pass

    acquired(store, RunId("elsewhere", "key"), owner=DEAD)
    acquired(store, RunId("dying", "key"), owner=DEAD)
    store.acquire(RunId("dying", "key"), request(owner=DEAD, max_crashes=1))
    reasons = {each.name: each.reason for each in recover(store)}
    assert reasons["elsewhere"].startswith("the function keeps its runs in memory://")
    assert reasons["dying"] == "it died 1 time in a row without progress"
    acquired(other, RunId("elsewhere", "key"), owner=DEAD)
    assert [each.reason for each in recover(other)] == [
        "it was begun without recoverable=True, so its arguments are not known"
    ]


def test_an_error_keeps_its_own_face_where_the_run_cannot_be_released(monkeypatch):
    store = MemoryStore()

    def unreachable(*_args):
        raise StoreUnavailableError("memory://", "down")

    def job(cp):
        monkeypatch.setattr(store, "release", unreachable)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as raised:
        checkpointed(store=store, name="job").call(job)
    [note] = raised.value.__notes__
    assert note.startswith("mainstay.checkpoint job: the run was not released, so that others may")
    assert "memory:// is not available: down; " in note


@pytest.mark.parametrize("on_busy", ["wait", "return"])
def test_a_run_does_not_wait_for_itself(store, on_busy):
    """Known fault: a function that called itself with the key of its run hung for good."""

    @checkpointed(store=store, key=lambda: "key", name="job", on_busy=on_busy)
    def job(cp):
        return job()

    @checkpointed(store=store, key=lambda: "async", name="job", on_busy=on_busy)
    async def ajob(cp):
        return await ajob()

    with pytest.raises(CheckpointError, match="would wait for itself"):
        job()
    with pytest.raises(CheckpointError, match="would wait for itself"):
        asyncio.run(ajob())
    assert {record.exit for record, _ in store.list()} == {"error"}


def test_a_block_does_not_wait_for_one_around_it(store):
    with checkpoint_run("key", store=store) as cp:
        inner = checkpoint_run("key", store=store, on_busy="wait")
        with pytest.raises(CheckpointError, match="would wait for itself"):
            inner.__enter__()
        with checkpoint_run("other", store=store, on_busy="wait"):
            assert cp.step("work", lambda: "done") == "done"


def test_another_task_of_a_run_waits_for_it(store):
    async def main():
        begun = asyncio.Event()

        @checkpointed(store=store, key=lambda: "key", name="job", on_busy="wait")
        async def job(cp):
            begun.set()
            await asyncio.sleep(0)
            return "done"

        first = asyncio.create_task(job())
        await begun.wait()
        return await asyncio.gather(first, job())

    with FakeClock():
        assert asyncio.run(main()) == ["done", "done"]
