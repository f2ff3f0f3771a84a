"""How many runs there are in which state, and which of the finished ones need not be kept."""

import itertools
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from datetime import timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from mainstay import StoreCollector, checkpoint_run, checkpointed
from mainstay._core.owner import this_process
from mainstay._metrics.schema import MOST_COMPONENTS
from mainstay.stores import MemoryStore, PostgresStore, RedisStore, S3Store, SQLiteStore
from mainstay.stores._optional import ChoosingStore, CountingStore, PricedStore, WakingStore
from mainstay.stores._rows import _OLD, _SURPLUS
from mainstay.stores.base import Acquired, Change, Request, RunId, RunLease
from mainstay.stores.selection import count_runs, surplus_runs, too_many
from mainstay.testing import FakeClock
from support.checkpoints import set_wall_clock

DAY = 86_400.0
OLD_BOOT = attrs.evolve(this_process(), boot="00000000-0000-0000-0000-000000000000")
DEAD = attrs.evolve(this_process(), started=this_process().started + 1)


@pytest.mark.parametrize(
    ("kind", "is_of"),
    [
        (MemoryStore, set()),
        (SQLiteStore, {CountingStore, ChoosingStore}),
        (PostgresStore, {CountingStore, ChoosingStore, WakingStore}),
        (RedisStore, {CountingStore, ChoosingStore, WakingStore}),
        (S3Store, {PricedStore}),
    ],
)
def test_a_store_does_itself_what_the_table_says(kind, is_of):
    kinds = {CountingStore, ChoosingStore, WakingStore, PricedStore}
    assert {each for each in kinds if issubclass(kind, each)} == is_of


def acquired(store, run, owner=None):
    answer = store.acquire(run, Request(owner=owner or this_process(), life="x", lease=30.0))
    assert isinstance(answer, Acquired)
    return RunLease(run, answer.record.token, answer.record.grant, 30.0)


def finished(store, run, owner=None):
    store.commit(acquired(store, run, owner), Change(document=b"end", finished=True))


# Counting.


@pytest.mark.parametrize("kind", [MemoryStore, SQLiteStore])
def test_runs_are_counted_by_name_and_state(kind, path):
    store = kind(path) if kind is SQLiteStore else kind()
    for number in range(5):
        finished(store, RunId("a", str(number)))
    acquired(store, RunId("a", "running"))
    acquired(store, RunId("a", "gone"), DEAD)
    store.release(acquired(store, RunId("b", "released")), "error")
    for _ in range(2):
        dying = Request(owner=DEAD, life="x", lease=30.0, max_crashes=1)
        store.acquire(RunId("b", "poisoned"), dying)
    found = count_runs(store)
    assert +found == {
        ("a", "done"): 5,
        ("a", "running"): 1,
        ("a", "interrupted"): 1,
        ("b", "interrupted"): 1,
        ("b", "poisoned"): 1,
    }
    assert +found == Counter((record.run.name, state) for record, state in store.list())
    store.close()


class Listing:
    """Another store, which can do no more than what the protocol asks for."""

    def __init__(self, store):
        self.list = store.list


def test_another_store_is_counted_by_its_list(store):
    finished(store, RunId("a", "1"))
    acquired(store, RunId("a", "2"))
    assert count_runs(Listing(store)) == {("a", "done"): 1, ("a", "running"): 1}


def calls_of(function):
    """How many Python calls it takes."""
    calls = 0

    def count(_frame, event, _arg):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


def test_a_scrape_and_the_end_of_a_run_do_not_read_every_finished_run(store):
    registry, numbers = CollectorRegistry(), itertools.count()
    registry.register(StoreCollector(store))
    keep = (10_000, timedelta(days=30))

    def run():
        with checkpoint_run(str(next(numbers)), store=store, name="job", keep=keep):
            pass

    def scrape():
        return [*registry.collect()]

    scrape()
    run()
    few = calls_of(scrape) + calls_of(run)
    for _ in range(100):
        run()
    assert calls_of(scrape) + calls_of(run) < few + 50
    labels = {"component": "job", "state": "done"}
    assert registry.get_sample_value("mainstay_checkpoint_runs", labels) == 103


@pytest.mark.parametrize("kind", [MemoryStore, SQLiteStore])
def test_names_beyond_the_limit_are_counted_together(kind, path, monkeypatch):
    monkeypatch.setattr("mainstay.stores.collector.MOST_COMPONENTS", 3)
    assert MOST_COMPONENTS > 3
    store = kind(path) if kind is SQLiteStore else kind()
    for name in "edcba":
        for number in range(2):
            finished(store, RunId(name, str(number)))
    registry = CollectorRegistry()
    registry.register(StoreCollector(store))
    [family] = registry.collect()
    shown = {each.labels["component"]: each.value for each in family.samples if each.value}
    assert shown == {"a": 2, "b": 2, "c": 2, "_other": 4}
    store.close()


# Choosing.


@given(
    ends=st.lists(st.floats(0, 100 * DAY), min_size=1, max_size=12, unique=True),
    most=st.none() | st.integers(1, 13),
    days=st.none() | st.floats(0.1, 100),
)
def test_the_same_runs_are_chosen_as_out_of_a_list(ends, most, days):
    """For runs of an earlier boot, which are judged by the wall clock alone."""
    wall = max(ends)
    directory = tempfile.mkdtemp()
    memory, store = MemoryStore(), SQLiteStore(f"{directory}/runs.db")
    for number, end in enumerate(ends):
        run = RunId("job", str(number))
        with pytest.MonkeyPatch.context() as patched:
            set_wall_clock(patched, end)
            for each in (memory, store):
                finished(each, run, OLD_BOOT)
                finished(each, RunId("another", str(number)), OLD_BOOT)
    ended = RunId("job", str(ends.index(wall)))
    seconds = None if days is None else days * DAY
    records = [record for record, _ in store.list("job")]
    chosen = surplus_runs(store, ended, most, seconds, wall)
    assert {*chosen} == {*too_many(records, ended, most, seconds, wall)}
    assert {*chosen} == {*surplus_runs(memory, ended, most, seconds, wall)}
    store.close()
    shutil.rmtree(directory)


def test_the_run_that_has_just_ended_is_kept_where_the_clock_was_stepped_back(store, monkeypatch):
    job = checkpointed(store=store, key=str, name="job", keep=2)
    for number, wall in enumerate((2e9, 2.1e9, 1e9, 1.1e9)):
        set_wall_clock(monkeypatch, wall)
        job.call(lambda _cp, number: number, number)
        assert str(number) in [record.run.key for record, _ in store.list()]
        assert len(store.list()) == min(number + 1, 3)  # one more, until the clock is there again


@pytest.mark.parametrize("kind", [MemoryStore, SQLiteStore])
def test_runs_that_end_at_the_same_moment_do_not_remove_each_other(kind, path, monkeypatch):
    """Known fault: of two machines, each took its own run for the newest, and kept no other."""
    store = kind(path) if kind is SQLiteStore else kind()
    runs = [RunId("job", str(number)) for number in range(3)]
    for number, run in enumerate(runs):
        set_wall_clock(monkeypatch, 1e9 + number)
        finished(store, run)
    surplus = [surplus_runs(store, ended, 2, None, 1e9) for ended in runs]
    assert surplus == [[], [runs[0]], [runs[0]]]
    store.close()


def test_a_leap_of_the_wall_clock_makes_no_run_old(store, monkeypatch):
    job = checkpointed(store=store, key=str, name="job", keep=timedelta(days=1))
    set_wall_clock(monkeypatch, 1e9)
    for number in range(3):
        job.call(lambda _cp, number: number, number)
    set_wall_clock(monkeypatch, 2e9)
    job.call(lambda _cp, number: number, 3)
    assert [record.run.key for record, _ in store.list()] == ["0", "1", "2", "3"]


def test_a_run_is_old_when_it_is_by_both_clocks(store, monkeypatch):
    job = checkpointed(store=store, key=str, name="job", keep=timedelta(days=1))
    with FakeClock() as clock:
        for number in range(4):
            set_wall_clock(monkeypatch, 1e9 + clock.now())
            job.call(lambda _cp, number: number, number)
            clock.advance(10 * 3600)
        assert [record.run.key for record, _ in store.list()] == ["1", "2", "3"]


def test_a_run_of_an_earlier_boot_is_old_by_the_wall_clock(store, monkeypatch):
    set_wall_clock(monkeypatch, 1e9)
    for number in range(3):
        finished(store, RunId("job", str(number)), OLD_BOOT)
    set_wall_clock(monkeypatch, 1e9 + 2 * DAY)
    checkpointed(store=store, key=str, name="job", keep=timedelta(days=1)).call(
        lambda _cp, number: number, 9
    )
    assert [record.run.key for record, _ in store.list()] == ["9"]


def test_a_run_of_an_older_version_is_old_when_it_is_by_both_clocks(path, store, monkeypatch):
    set_wall_clock(monkeypatch, 1e9)
    older = attrs.evolve(this_process(), namespace=this_process().namespace.split()[0])
    finished(store, RunId("job", "0"), older)
    set_wall_clock(monkeypatch, 1e9 + 2 * DAY)
    assert surplus_runs(store, RunId("job", "1"), None, DAY, 1e9 + 2 * DAY) == []


# The index that makes it cheap.


def test_the_index_is_used(path, store):
    store.list()
    db = sqlite3.connect(path)
    for statement, values in ((_SURPLUS, 3), (_OLD, 6)):
        plan = db.execute(f"EXPLAIN QUERY PLAN {statement}", [0] * values).fetchall()
        assert "INDEX finished" in str(plan)
        assert "TEMP B-TREE" not in str(plan)
    db.close()


def test_a_file_of_an_older_version_gets_the_index_and_stays_a_file_of_that_version(path, store):
    finished(store, RunId("job", "1"))
    finished(store, RunId("job", "2"))
    store.close()
    db = sqlite3.connect(path)
    db.execute("DROP INDEX finished")
    before = db.execute("PRAGMA user_version").fetchone()
    db.close()
    path.chmod(0o400)
    assert surplus_runs(store, RunId("job", "2"), 1, None, 0.0) == [RunId("job", "1")]
    path.chmod(0o600)
    store.close()
    assert surplus_runs(store, RunId("job", "2"), 1, None, 0.0) == [RunId("job", "1")]
    db = sqlite3.connect(path)
    assert db.execute("SELECT name FROM sqlite_schema WHERE name = 'finished'").fetchall()
    assert db.execute("PRAGMA user_version").fetchone() == before
    db.close()
