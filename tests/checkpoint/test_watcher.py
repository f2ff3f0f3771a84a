"""The thread that watches over the runs of one store while their own threads are busy."""

import contextvars
import gc
import logging
import threading
from datetime import timedelta
from time import monotonic

import attrs
import pytest

from mainstay import Metrics, checkpoint_run, deadline, remaining
from mainstay._checkpoint import watcher
from mainstay._checkpoint.schedule import Schedule
from mainstay._checkpoint.watcher import renews_now, unwatch, watch
from mainstay._core.clock import SYSTEM
from mainstay._metrics.collector import recorders_of
from mainstay.errors import StoreUnavailableError
from mainstay.stores import MemoryStore
from mainstay.stores.base import RunId, RunLease, new_grant


class Renewals:
    """A store as the watcher uses it: it answers renewals, and counts them."""

    url = "memory://renewals"

    def __init__(self, lost=(), error=None):
        self.rounds = []
        self.lost = lost
        self.error = error
        self.second = threading.Event()
        self.seen = []

    def renew(self, leases):
        self.rounds.append((monotonic(), [lease.run.key for lease in leases]))
        self.seen.append(remaining())
        if len(self.rounds) >= 2:
            self.second.set()
        if self.error is not None:
            raise self.error
        return [lease for lease in leases if lease.run.key in self.lost]


@attrs.define(eq=False)
class Job:
    """A run as the watcher sees it."""

    key: str
    seconds: float
    every: object = 1
    over: bool = False
    clock: object = SYSTEM
    grant: str = attrs.field(factory=new_grant)
    schedule: Schedule = attrs.field(init=False)
    answers: list = attrs.field(factory=list)

    def __attrs_post_init__(self):
        recorder = recorders_of(Metrics(None)).checkpoint("job")
        self.schedule = Schedule(self.every, SYSTEM, recorder)
        self.schedule.begin()

    @property
    def held(self):
        return RunLease(RunId("job", self.key), 1, self.grant, self.seconds)

    def was_renewed(self, now, *, lost):
        assert now <= monotonic()
        self.answers.append("lost" if lost else "renewed")

    def was_not_renewed(self):
        self.answers.append("failed")


def watched(store, job):
    """Have a job watched over; give what ends that."""
    watch(store, job)
    return lambda: unwatch(store, job)


def threads():
    return {each for each in threading.enumerate() if each.name.startswith("mainstay-lease")}


def wait_until(condition, seconds=60):
    waiting, ends = threading.Event(), monotonic() + seconds
    while not condition() and monotonic() < ends:
        waiting.wait(0.005)
    assert condition()


def test_a_lease_is_renewed_three_times_in_its_time():
    store, began = Renewals(), monotonic()
    unwatch = watched(store, Job("a", 0.06))
    assert store.second.wait(60)
    unwatch()
    times = [at - began for at, _ in store.rounds[:2]]
    assert times[0] >= 0.02
    assert times[1] >= 0.04


@pytest.mark.parametrize(
    ("left", "expected"), [(0.0, True), (-5.0, True), (2.5, True), (2.6, False), (10.0, False)]
)
def test_a_lease_is_renewed_with_others_if_its_time_comes_soon(left, expected):
    assert renews_now(100.0 + left, 10.0, 100.0) is expected


def test_a_thousand_runs_have_one_thread_and_one_request_for_a_round(monkeypatch):
    """Known fault: 1,000 async runs had 1,000 threads and as many requests."""
    store, before, now = Renewals(), threads(), monotonic() - 3600.0
    monkeypatch.setattr(watcher, "monotonic", lambda: now)
    jobs = [Job(str(number), 6.0) for number in range(1000)]
    ends = [watched(store, job) for job in jobs]
    assert len(threads() - before) == 1
    now += 2.0
    watcher._watchers[id(store)]._wake_up()
    wait_until(lambda: all(job.answers for job in jobs))
    for end in ends:
        end()
    assert len(store.rounds) == 1
    assert len(store.rounds[0][1]) == 1000
    wait_until(lambda: threads() <= before)


def kept():
    """Return how much is noted for later, of all stores."""
    return sum(len(each._heap) + len(each._news) for each in watcher._watchers.values())


@pytest.mark.parametrize("every", [1, timedelta(hours=1)])
def test_what_has_ended_is_not_kept_until_its_lease_would_be_renewed(every):
    """Known fault: a kilobyte for each run that had ended, for a third of its lease."""
    store, job = Renewals(), Job("long", 3600.0, every)
    end = watched(store, job)
    for _ in range(1000):
        watched(store, Job("short", 3600.0))()
        job.schedule.begin()
    wait_until(lambda: kept() < 150)
    end()
    wait_until(lambda: kept() == 0)


def test_each_store_has_a_thread_of_its_own_so_that_one_that_hangs_stops_no_other():
    before = threads()
    ends = [watched(Renewals(), Job("a", 30.0)) for _ in range(3)]
    assert len(threads() - before) == 3
    for end in ends:
        end()
    wait_until(lambda: threads() <= before)


def test_the_run_whose_lease_is_lost_is_told_and_no_other():
    store = Renewals(lost={"b"})
    jobs = [Job(key, 0.06) for key in "abc"]
    ends = [watched(store, job) for job in jobs]
    wait_until(lambda: all(job.answers for job in jobs))
    for end in ends:
        end()
    assert [job.answers[0] for job in jobs] == ["renewed", "lost", "renewed"]


@pytest.mark.parametrize("error", [StoreUnavailableError("x", "down"), RuntimeError("a bug")])
def test_a_store_that_fails_is_asked_again_soon_and_that_is_said_once(error, caplog):
    store, job = Renewals(error=error), Job("a", 0.06)
    with caplog.at_level(logging.WARNING):
        end = watched(store, job)
        assert store.second.wait(60)
        end()
    assert {*job.answers} == {"failed"}
    (first, _), (second, _) = store.rounds[:2]
    assert second - first >= 0.0025
    assert (
        len([each for each in caplog.records if "leases could not be renewed" in each.message]) <= 1
    )


def test_a_run_that_has_ended_is_not_renewed_any_more():
    store, ended, going_on = Renewals(), Job("a", 0.03), Job("b", 0.03)
    ends = [watched(store, ended), watched(store, going_on)]
    ended.over = True
    assert store.second.wait(60)
    for end in ends:
        end()
    assert [keys for _, keys in store.rounds[:2]] == [["b"], ["b"]]


def test_it_says_that_a_save_is_due_when_the_time_has_come_and_not_before():
    store, job = Renewals(), Job("a", 0.02, every=timedelta(seconds=0.06))
    end = watched(store, job)
    assert store.second.wait(60)  # it has looked at the time, and gone on
    due_at = job.schedule.due_at
    wait_until(lambda: job.schedule.due)
    assert monotonic() >= due_at
    job.schedule.is_due(0)
    job.schedule.begin()
    due_at = job.schedule.due_at
    wait_until(lambda: job.schedule.due)
    assert monotonic() >= due_at
    end()


def test_it_has_a_context_of_its_own():
    """The deadline of whoever began the run, and what they keep in variables, are not its own."""
    request = contextvars.ContextVar("request")
    store = Renewals()
    with deadline(3600.0):
        request.set(object())
        end = watched(store, Job("a", 0.03))
    assert store.second.wait(60)
    end()
    assert store.seen[0] is None


def test_the_runs_of_a_store_follow_each_other_without_a_thread_left_over():
    store, before = MemoryStore(), threads()
    for number in range(20):
        with checkpoint_run(str(number), store=store):
            assert threads() - before
    wait_until(lambda: threads() <= before)


def enter_and_drop(store):
    checkpoint_run("a", store=store).__enter__()


def test_a_run_that_nobody_has_any_more_is_released():
    """Known fault: its lease was renewed as long as the process lived."""
    store, before = MemoryStore(), threads()
    enter_and_drop(store)
    wait_until(lambda: threads() <= before)
    [(record, status)] = store.list()
    assert (status, record.exit) == ("interrupted", "error")
    assert record.error.endswith("was cut short by an exception of a signal handler")


def test_a_run_that_ended_while_its_store_was_away_is_released_without_a_wrong_reason():
    """Known fault: such a run was said to be left by an exception of a signal handler."""
    store, before = MemoryStore(), threads()
    release = store.release

    def fail_once(*_args):
        store.release = release
        raise StoreUnavailableError("memory://", "down")

    store.release = fail_once
    with pytest.raises(KeyError), checkpoint_run("a", store=store):
        raise KeyError
    gc.collect()
    wait_until(lambda: threads() <= before)
    [(record, status)] = store.list()
    assert (status, record.exit) == ("interrupted", "error")
    assert record.error.startswith("it ended while the store could not be told, or was cut short")


def test_a_run_that_nobody_has_and_that_cannot_be_released_is_said(caplog):
    class Unavailable(MemoryStore):
        def release(self, *_args):
            raise StoreUnavailableError("memory://", "down")

    before = threads()
    enter_and_drop(Unavailable())
    wait_until(lambda: threads() <= before)
    assert "run: a run that has ended here is not released, so that others" in caplog.text


def test_what_a_signal_handler_raises_just_after_the_beginning_leaves_no_thread(monkeypatch):
    def interrupted(store, run):
        watch(store, run)
        raise KeyboardInterrupt

    monkeypatch.setattr("mainstay._checkpoint.call.watch", interrupted)
    store, before = MemoryStore(), threads()
    with pytest.raises(KeyboardInterrupt), checkpoint_run("a", store=store):
        pass
    wait_until(lambda: threads() <= before)
    assert store.list()[0][1] == "interrupted"
