"""Requests to a store that fails for a moment: sent again as long as the lease lasts."""

import asyncio
import contextlib
import gc
import logging
import threading
import weakref
from contextlib import nullcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mainstay import AsyncCheckpoint, checkpointed, deadline, on_event, retry
from mainstay._checkpoint import promises, signals
from mainstay._checkpoint.sending import resend_wait
from mainstay._core.context import current_context
from mainstay._core.watching import watch_attempts
from mainstay.errors import CheckpointError, LeaseLostError, StoreUnavailableError
from mainstay.stores import MemoryStore
from mainstay.stores.base import AsyncStore, Promises
from mainstay.testing import FakeClock
from support.checkpoints import OopsError, add_up

LEASE = 30.0


class Outage(MemoryStore):
    """A store that is away for a time after so many requests, before or after it did them."""

    def __init__(self, *, after=0, seconds=0.0, answers_lost=False, retryable=True):
        super().__init__()
        self.requests = 0
        self.after, self.seconds = after, seconds
        self.answers_lost, self.retryable = answers_lost, retryable
        self.begins = None

    def _asked(self, call, *args):
        now = current_context().clock.now()
        self.requests += 1
        if self.requests > self.after and self.begins is None:
            self.begins = now
        away = self.begins is not None and now < self.begins + self.seconds
        if away and not self.answers_lost:
            raise self._away()
        answer = call(*args)
        if away:
            raise self._away()
        return answer

    def _away(self):
        return StoreUnavailableError(self.url, "connection lost", retryable=self.retryable)

    def acquire(self, run, request):
        return self._asked(super().acquire, run, request)

    def commit(self, lease, change):
        self._asked(super().commit, lease, change)

    def release(self, lease, how, error="", drop=()):
        self._asked(super().release, lease, how, error, drop)


class AsyncOutage(Outage):
    """The same, awaited."""

    async def aacquire(self, run, request):
        await asyncio.sleep(0)
        return self.acquire(run, request)

    async def acommit(self, lease, change):
        await asyncio.sleep(0)
        self.commit(lease, change)

    async def arelease(self, lease, how, error="", drop=()):
        await asyncio.sleep(0)
        self.release(lease, how, error, drop)


@pytest.fixture(params=[Outage, AsyncOutage])
def outage(request):
    return request.param


@given(st.integers(1, 200), st.floats(0.001, 1e6), st.floats(0.0, 1.0))
@example(failures=10, lease=237.0, chance=1.0)  # a twentieth is not what 1 / 20 makes of it
def test_waits_are_short_against_the_lease(failures, lease, chance):
    wait = resend_wait(failures, lease, chance)
    assert 0.001 <= wait <= max(0.001, lease / 20)
    assert resend_wait(failures + 1, lease, chance) >= wait


def test_a_store_that_async_code_can_await_is_one(outage):
    assert isinstance(outage(), AsyncStore) is (outage is AsyncOutage)


@pytest.mark.parametrize("answers_lost", [False, True])
@pytest.mark.parametrize("after", range(5))
def test_an_outage_of_half_a_lease_ends_no_run(runner, outage, metrics, after, answers_lost):
    """Known fault: a save whose acknowledgement was lost ended the run."""
    store = outage(after=after, seconds=0.45 * LEASE, answers_lost=answers_lost)
    with FakeClock():
        assert runner.job(add_up, store=store, lease=LEASE)([1, 2, 3]) == 6
        [(record, state)] = store.list()
    assert state == "done"
    assert (record.attempt, record.token) == (1, 1)
    assert metrics("checkpoint_store_retries_total") >= 1
    assert metrics("checkpoint_saves_total", outcome="error") in (None, 0)


def test_an_outage_that_outlasts_the_lease_ends_the_run_with_the_stores_own_error(
    runner, outage, metrics
):
    store = outage(after=2, seconds=10 * LEASE)
    with FakeClock() as clock:
        began = clock.now()
        with pytest.raises(StoreUnavailableError, match="connection lost") as caught:
            runner.job(add_up, store=store, lease=LEASE)([1, 2, 3])
        assert 0.8 * LEASE <= clock.now() - began <= 1.4 * LEASE
    assert caught.value.retryable
    assert metrics("checkpoint_saves_total", outcome="error") == 1


def test_a_failure_that_does_not_pass_is_raised_at_once(runner, outage):
    store = outage(after=1, seconds=LEASE, retryable=False)
    with FakeClock() as clock:
        began = clock.now()
        with pytest.raises(StoreUnavailableError):
            runner.job(add_up, store=store, lease=LEASE)([1, 2, 3])
        assert clock.now() == began


def test_a_process_that_is_to_end_sends_nothing_again(runner, outage, monkeypatch):
    """Known fault: the first SIGTERM did nothing while a save hung."""
    monkeypatch.setattr(signals, "is_requested", lambda: True)
    store = outage(after=1, seconds=LEASE)
    with FakeClock() as clock:
        began = clock.now()
        with pytest.raises(StoreUnavailableError):
            runner.job(add_up, store=store, lease=LEASE)([1, 2, 3])
        assert clock.now() == began


def test_what_is_sent_again_is_said_in_the_log_of_checkpoints(runner, outage, caplog):
    store = outage(after=1, seconds=1.0)
    with FakeClock(), caplog.at_level(logging.INFO):
        runner.job(add_up, store=store, lease=LEASE)([1, 2, 3])
    first, *later = [each for each in caplog.records if "asked again" in each.getMessage()]
    assert {each.name for each in caplog.records} == {"mainstay.checkpoint"}
    assert first.levelname == "WARNING"
    assert first.getMessage().startswith("job: the store did not take a save (failure 1): memory:")
    assert "connection lost" in first.getMessage()
    assert first.getMessage().endswith(" s, and for 27.0 s at most")
    assert {each.levelname for each in later} == {"INFO"}
    assert "(failure 2)" in later[0].getMessage()


@pytest.mark.parametrize(
    ("after", "what"), [(0, "give the run"), (1, "take a save"), (2, "release the run")]
)
def test_the_log_says_which_request_is_sent_again(runner, outage, caplog, after, what):
    store = outage(after=after, seconds=1.0)
    with FakeClock(), contextlib.suppress(OopsError):
        runner.job(add_up, store=store, lease=LEASE)([1, 2], fail_at=2)
    assert f"job: the store did not {what} (failure 1)" in caplog.text


def test_what_is_sent_again_is_no_retry_of_the_users(runner, outage):
    """Known fault: listeners and spans were told of a retry named as the job, by no policy."""
    heard, seen = [], []
    store = outage(after=2, seconds=10 * LEASE)
    stops = on_event(heard.append), watch_attempts(lambda each: nullcontext(seen.append(each)))
    try:
        with FakeClock(), pytest.raises(StoreUnavailableError) as caught:
            runner.job(add_up, store=store, lease=LEASE)([1, 2, 3])
    finally:
        for stop in stops:
            stop()
    assert (heard, seen) == ([], [])
    assert "mainstay.retry" not in " ".join(getattr(caught.value, "__notes__", ()))


def test_a_retry_around_a_run_is_not_nested_in_what_is_sent_again(outage, caplog):
    """Known fault: it gave up after one attempt, since a retry inside it had done so already."""
    store = outage(after=1, seconds=1.5 * LEASE)
    on = StoreUnavailableError
    again = retry(on=on, attempts=2, timeout=None, wait=LEASE, nested="once")
    with FakeClock():
        job = again(checkpointed(store=store, lease=LEASE)(lambda cp: cp.step("a", int, 7)))
        assert job() == 7
    assert "another retry" not in caplog.text


def test_a_run_that_was_taken_over_during_an_outage_is_lost(outage):
    store = outage(after=1, seconds=5.0)
    commit = MemoryStore.commit

    def after_a_takeover(self, lease, change):
        kept = self._runs[lease.run]
        kept.record = kept.record.__class__(
            **{name: getattr(kept.record, name) for name in kept.record.__slots__
               if name not in ("__weakref__", "grant")}, grant="another",
        )  # fmt: skip
        commit(self, lease, change)

    with FakeClock(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryStore, "commit", after_a_takeover)
        with pytest.raises(LeaseLostError):
            checkpointed(store=store, lease=LEASE).call(lambda cp: cp.step("a", int))


def test_the_deadline_of_the_caller_bounds_how_long_a_run_is_asked_for(runner, outage):
    store = outage(seconds=LEASE)
    with FakeClock() as clock:
        began = clock.now()
        with deadline(2.0), pytest.raises(StoreUnavailableError):
            runner.job(add_up, store=store, lease=LEASE)([1])
        assert clock.now() - began <= 2.0


@pytest.mark.parametrize("what", ["acquire", "commit"])
def test_a_request_whose_caller_is_cancelled_is_not_sent_once_more(outage, what):
    """Known fault: a cancellation was held back until the lease was nearly over."""
    store = outage(after=["acquire", "commit"].index(what), seconds=LEASE)
    send, sent = store._asked, []

    def cancelling(call, *args):
        sent.append(call.__name__)
        if sent.count(what) == 2:
            task.get_loop().call_soon_threadsafe(task.cancel)
            threading.Event().wait(0.05)
        return send(call, *args)

    store._asked = cancelling

    @checkpointed(store=store, lease=LEASE)
    async def job(cp: AsyncCheckpoint) -> None:
        await cp.step("a", int)

    async def cancelled():
        nonlocal task
        task = asyncio.create_task(job())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    task = None
    with FakeClock():
        asyncio.run(cancelled())
    assert sent.count(what) <= 3


class Grants(MemoryStore):
    """A store whose answer to an acquisition comes after the caller has been cancelled."""

    task = None

    def acquire(self, run, request):
        answer = super().acquire(run, request)
        if self.task is not None:
            self.task.get_loop().call_soon_threadsafe(self.task.cancel)
            threading.Event().wait(0.05)
        return answer


class AsyncGrants(Grants, AsyncOutage):
    """The same, awaited."""

    async def aacquire(self, run, request):
        answer = MemoryStore.acquire(self, run, request)
        if self.task is not None:
            self.task.cancel()
            await asyncio.sleep(0)
        return answer


@pytest.mark.parametrize("grants", [Grants, AsyncGrants])
def test_a_run_that_comes_with_a_cancellation_is_released(grants):
    """Known fault: the answer was dropped, and the run was busy until its lease ended."""
    store = grants()

    @checkpointed(store=store, lease=LEASE, key="{key}")
    async def job(cp: AsyncCheckpoint, key: str) -> str:
        return key

    async def cancelled():
        assert await job("another") == "another"  # by now the promises are checked
        store.task = asyncio.create_task(job("mine"))
        with pytest.raises(asyncio.CancelledError):
            await store.task
        store.task = None
        assert await job("mine") == "mine"

    asyncio.run(cancelled())


class Unfenced(MemoryStore):
    def probe(self):
        return Promises(fenced=False, durable=True, problems=("it ignores conditions",))


def test_a_store_that_is_not_fenced_is_refused_with_the_reason(runner):
    store = Unfenced()
    with pytest.raises(CheckpointError, match="it ignores conditions"):
        runner.job(add_up, store=store)([1])
    assert store.list() == []


class Weak(MemoryStore):
    def probe(self):
        return Promises(fenced=True, durable=False, problems=("fsync is off",))


def test_what_weakens_a_promise_is_said_once(runner, caplog):
    store = Weak()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert runner.job(add_up, store=store)([1, 2]) == 3
    assert len([each for each in caplog.records if "fsync is off" in each.getMessage()]) == 1


class Delegate:
    """A store of somebody else's, which does everything by another one."""

    __slots__ = ("acquire", "commit", "forget", "list", "load", "probe", "release", "renew", "url")

    def __init__(self, store):
        for name in Delegate.__slots__:
            setattr(self, name, getattr(store, name))

    def close(self):
        """Do nothing."""


class Equal(Delegate):
    """One that can be compared, and so has no hash."""

    __slots__ = ("__weakref__",)
    __hash__ = None

    def __eq__(self, other):
        return type(other) is Equal and other.url == self.url


@pytest.mark.parametrize("kind", [Delegate, Equal])
def test_a_store_needs_neither_a_hash_nor_weak_references(runner, caplog, kind):
    store = kind(Weak())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert runner.job(add_up, store=store)([1, 2]) == 3
    assert len([each for each in caplog.records if "fsync is off" in each.getMessage()]) == 1


def test_a_store_is_not_kept_for_its_promises():
    store = Weak()
    promises.check_promises(store)
    number, dead = id(store), weakref.ref(store)
    assert number in promises._checked
    del store
    gc.collect()
    assert dead() is None
    assert number not in promises._checked
