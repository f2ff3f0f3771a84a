"""Known faults of libraries that save and resume, one test for each, named after what goes wrong.

Items are those of the survey's list of failure modes, experiments what was seen when libraries
were tried. A docstring names the library, where there is one.
"""

import asyncio
import os
import shutil
import sqlite3
import threading

import attrs
import pytest

from mainstay import checkpoint_run, checkpointed, register_type
from mainstay._checkpoint.document import opened
from mainstay.errors import (
    CodeChangedError,
    CorruptCheckpointError,
    LeaseLostError,
    PoisonedRunError,
    RunBusyError,
    SourceChangedError,
    StoreUnavailableError,
    UnsaveableValueError,
)
from mainstay.stores import SQLiteStore, store_of
from mainstay.stores.base import Acquired, Change, Held, RunId
from mainstay.testing import FakeClock, recorded
from support.store_conformance import DEAD, acquired, request, save

RUN = RunId("run", "key")

# Forking is what one of them is about; Python 3.12 and newer warn of it beside other threads.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning")


@attrs.define
class Tally:
    done: list[int] = attrs.field(factory=list)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def file(path):
    store = SQLiteStore(path)
    yield store
    store.close()


def interrupted(store, rows, fail_at, **options):
    """Go through rows in a run that is left by an exception at one of them."""
    with pytest.raises(KeyError):
        resumed(store, rows, fail_at, **options)


def resumed(store, rows, fail_at=None, **options):
    """Go through rows to their end; give what this attempt did, and the state."""
    seen = []
    with checkpoint_run("key", store=store, **options) as cp:
        tally = cp.state(Tally())
        for row in cp.iterate(rows):
            if row == fail_at:
                raise KeyError(row)
            seen.append(row)
            tally.done.append(row)
    return seen, tally.done


# The list.


def test_torn_write_leaves_one_of_the_last_two_saves(path, file, tmp_path):
    """Field section 4, item 1: checkpointer and Prefect write files in place.

    What of the log reached the disk before the power went is cut off at every 100th byte.
    """
    lease = acquired(file, RUN)
    saved = [b"%d" % number * 100 for number in range(5)]
    for document in saved:
        save(file, lease, document)
    log = path.with_name("runs.db-wal").read_bytes()
    seen = set()
    for number, length in enumerate([*range(0, len(log), 100), len(log)]):
        torn = tmp_path / f"torn-{number}.db"
        shutil.copy(path, torn)
        torn.with_name(f"{torn.name}-wal").write_bytes(log[:length])
        store = SQLiteStore(torn)
        contents = store.load(RUN)
        store.close()
        if contents.latest is None:
            assert seen <= {None}
        elif contents.latest != saved[0]:
            assert contents.previous == saved[saved.index(contents.latest) - 1]
        seen.add(contents.latest)
    assert seen >= {*saved}


def test_what_could_not_be_synced_is_not_taken_for_saved(file, monkeypatch):
    """Field section 4, item 2: after a failed fsync the kernel may have dropped the pages.

    The failed save is an error, its connection is not used again, and the next attempt starts
    from what the disk has. safe-state swallows the error.
    """
    interrupted(file, range(5), 3)
    before = file.load(RUN)
    with file._connections.use() as db:
        first = db
    failure = sqlite3.OperationalError("disk I/O error")
    failure.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC

    def failing(*_args):
        raise failure

    with monkeypatch.context() as broken:
        broken.setattr("mainstay.stores._rows.change_run", failing)
        with pytest.raises(StoreUnavailableError):
            resumed(file, range(5))
    assert file.load(RUN) == before
    with file._connections.use() as db:
        assert db is not first
    assert resumed(file, range(5)) == ([3, 4], [0, 1, 2, 3, 4])


def test_a_commit_is_on_the_disk_and_not_only_in_the_system(file):
    """Field section 4, item 3: WAL with synchronous=NORMAL loses commits with the power."""
    with file._connections.use() as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_two_workers_of_one_run_do_not_both_work(store):
    """Field section 4, item 4: two processes of python-durable both do everything."""
    with checkpoint_run("key", store=store) as cp:
        assert [*cp.iterate("ab")] == ["a", "b"]
        with pytest.raises(RunBusyError), checkpoint_run("key", store=store):
            pass
    with checkpoint_run("key", store=store, on_busy="return") as late:
        assert late.complete


def test_a_zombie_can_neither_write_nor_renew_the_lease_of_its_successor(store):
    """Field section 4, item 5: without a token for each acquisition it does both."""
    with FakeClock() as clock:
        zombie = acquired(store, RUN)
        clock.advance(31)
        owner = acquired(store, RUN)
        clock.advance(20)
        for change in (Change(), Change(document=b"zombie")):
            with pytest.raises(LeaseLostError):
                store.commit(zombie, change)
        clock.advance(11)
        assert isinstance(store.acquire(RUN, request()), Acquired)
    assert owner.token == zombie.token + 1
    assert store.load(RUN).latest is None


def test_a_renewal_that_fails_for_as_long_as_the_lease_counts_as_its_loss(store, monkeypatch):
    """Field section 4, item 5: an exception while renewing is a loss, before the lease ends."""

    def unreachable(*_args):
        raise StoreUnavailableError("memory://", "down")

    def job(cp):
        monkeypatch.setattr(store, "commit", unreachable)
        clock.advance(30)
        cp._run.renew()
        assert cp.lost

    with FakeClock() as clock, pytest.raises(StoreUnavailableError):
        checkpointed(store=store, lease=30).call(job)


@pytest.mark.parametrize("step", [-1e9, 1e9])
def test_a_wall_clock_that_is_stepped_neither_ends_a_lease_nor_keeps_it(file, monkeypatch, step):
    """Field section 4, item 6: leases judged by the wall clocks of workers."""
    wall = "mainstay.stores.sqlite.wall_time"
    with FakeClock() as clock:
        lease = acquired(file, RUN)
        monkeypatch.setattr(wall, lambda: 1.7e9 + step)
        clock.advance(29)
        assert isinstance(file.acquire(RUN, request()), Held)
        save(file, lease, b"one")
        clock.advance(29)
        assert isinstance(file.acquire(RUN, request()), Held)
        clock.advance(2)
        assert isinstance(file.acquire(RUN, request()), Acquired)


def test_another_order_of_steps_is_refused_with_both_names(store):
    """Field section 4, item 7: steps that are found by position get the results of others."""

    def job(*names):
        with checkpoint_run("key", store=store) as cp:
            for name in names:
                cp.step(name, str)
            raise KeyError

    with pytest.raises(KeyError):
        job("reserve", "charge")
    with pytest.raises(CodeChangedError, match="step 'reserve' is now 'charge'"):
        job("charge", "reserve")


def test_another_version_of_the_code_does_not_strand_the_run(store, caplog):
    """Field section 4, item 8: DBOS leaves the runs of other versions pending, without a word."""
    interrupted(store, range(4), 2, version="1")
    assert resumed(store, range(4), version="2") == ([2, 3], [0, 1, 2, 3])
    assert "it was version '1' and is version '2'" in caplog.text


def test_what_cannot_be_saved_is_named_by_its_path_and_hides_no_error(store):
    """Field section 4, item 9: in DBOS a TypeError takes the place of the real error."""

    def job(cp, error=None):
        state = cp.state({"rows": []})
        for _ in cp.iterate(range(2)):
            state["rows"].append(threading.Lock())
            if error:
                raise error

    policy = checkpointed(store=store, key=lambda *_: "key")
    with pytest.raises(UnsaveableValueError, match=r"state\['rows'\]\[0\]"):
        policy.call(job)
    with pytest.raises(KeyError, match="mine"):
        policy.call(job, KeyError("mine"))


class UnpicklableError(Exception):
    def __init__(self, code, *, reason):
        super().__init__(code)
        self.reason = reason


@pytest.mark.usefixtures("nothing_registered")
def test_an_exception_of_a_step_is_data_that_only_a_registered_class_is_built_from(store):
    """Field section 4, item 10: custom exceptions that cannot be unpickled end DBOS runs for ever.

    And failures that are results on resume make a run unfinishable after an outage (lionagi).
    """
    calls = []

    def charge():
        calls.append(1)
        raise UnpicklableError(402, reason="declined") if len(calls) < 3 else KeyError("declined")

    def job():
        with checkpoint_run("key", store=store) as cp:
            try:
                cp.step("charge", charge)
            except KeyError:
                raise OSError("interrupted here") from None

    for _ in range(2):  # not registered: the step runs again
        with pytest.raises(UnpicklableError):
            job()
    register_type(KeyError)
    for _ in range(2):  # registered: its result
        with pytest.raises(OSError, match="interrupted here"):
            job()
    assert len(calls) == 3


def test_an_attempt_is_counted_before_it_can_kill_the_process(path):
    """Field section 4, item 11: safe-state counts in memory, so a deadly item is tried for ever."""
    deaths = 0
    while True:
        child = os.fork()
        if child == 0:
            store = SQLiteStore(path)
            try:
                with checkpoint_run("key", store=store, max_crashes=3) as cp:
                    for _ in cp.iterate("a"):
                        os._exit(137)
            except PoisonedRunError as poisoned:
                os._exit(poisoned.crashes)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != 137:
            break
        deaths += 1
    assert (code, deaths) == (3, 3)


def test_a_store_that_is_down_is_an_error_of_its_own_and_the_run_goes_on_later(file, monkeypatch):
    """Field section 4, item 12: DBOS logs and swallows it, and the run is pending for ever."""
    connect = sqlite3.connect

    def refused(*_args, **_options):
        raise sqlite3.OperationalError("unable to open database file")

    interrupted(file, range(4), 2)
    file.close()
    monkeypatch.setattr("sqlite3.connect", refused)
    with recorded() as metrics, pytest.raises(StoreUnavailableError):
        resumed(file, range(4))
    assert metrics.value("calls_total", outcome="error") == 1
    monkeypatch.setattr("sqlite3.connect", connect)
    assert resumed(file, range(4)) == ([2, 3], [0, 1, 2, 3])


def test_a_large_result_is_saved_once_and_once_only(path, file):
    """Field section 4, item 13: DBOS records outputs twice, LangGraph all state each time."""
    size = 1_000_000
    text = os.urandom(size // 2).hex()
    with checkpoint_run("key", store=file) as cp:
        cp.step("fetch", lambda: text)
        for _ in cp.iterate(range(20)):
            pass
        assert len(file.load(RUN).latest) < 1_000
    file.close()
    assert path.stat().st_size < 1.5 * size


def test_what_changes_while_a_save_is_under_way_is_not_in_it(store, monkeypatch):
    """Field section 4, item 14: PyTorch and LangGraph save the live object some time later."""
    commit, changed = store.commit, threading.Event()

    def late(lease, change):
        changed.wait(10)
        commit(lease, change)

    async def job(cp):
        state = cp.state({"x": 1})
        saving = asyncio.create_task(cp.save())
        await asyncio.sleep(0)  # it is in another thread by now
        state["x"] = 2
        changed.set()
        await saving
        assert opened(store.load(RUN).latest).state == {"x": 1}

    monkeypatch.setattr(store, "commit", late)
    asyncio.run(checkpointed(store=store, name="run", key=lambda: "key").call(job))


def test_a_generator_is_taken_from_item_by_item_and_never_saved(store):
    """Field section 4, item 15: safe-state makes a list of it; others try to pickle it."""
    taken = []

    def rows():
        for row in range(4):
            taken.append(row)
            yield row

    interrupted(store, rows(), 2)
    assert taken == [0, 1, 2]
    assert resumed(store, rows())[0] == [2, 3]


def test_a_key_that_is_used_again_does_not_find_old_results(store):
    """Field section 4, item 16: after an interrupted clean-up DBOS answers with the old ones."""
    for expected in (1, 2):
        with checkpoint_run("key", store=store) as cp:
            assert cp.step("count", lambda: expected) == expected  # noqa: B023 - called at once
        assert store.forget(RUN)


# Item 17, SIGTERM, is in tests/checkpoint/test_signals.py: it fires at every kind of boundary.


@pytest.mark.parametrize("url", ["redis://localhost/0", "s3://bucket/prefix", "postgres://host/db"])
def test_a_store_without_a_promise_is_refused_rather_than_used(url):
    """Field section 4, items 18 and 19: Redis and S3 lose saves unless they are set up for it."""
    with pytest.raises(ValueError, match="`store` must be a URL such as"):
        store_of(url)


def test_a_network_file_system_is_refused(path, monkeypatch):
    """Field section 4, item 20: SQLite files on NFS that diskcache found malformed."""
    monkeypatch.setattr("mainstay.stores.sqlite.network_file_system", lambda _path: "nfs4")
    with pytest.raises(StoreUnavailableError, match="network file system"):
        resumed(SQLiteStore(path), range(2))
    assert not path.exists()


def test_no_connection_is_shared_by_threads_or_carried_over_a_fork(file):
    """Field section 4, item 21."""
    connections = []

    def connect():
        with file._connections.use() as db:
            connections.append(db)

    connect()
    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    assert connections[0] is not connections[1]
    child = os.fork()
    if child == 0:
        connect()
        os._exit(0 if connections[-1] not in connections[:2] else 1)
    assert os.waitpid(child, 0)[1] == 0
    connect()
    assert connections[-1] is not connections[0]  # it was closed before the fork


# The experiments.


def test_a_new_head_of_the_source_is_not_passed_over_in_silence(store):
    """Field section 4, experiment: safe-state never processes it, and another item twice."""
    interrupted(store, ["a", "b", "c"], "c")
    with pytest.raises(SourceChangedError):
        resumed(store, ["new", "a", "b", "c"])


def test_a_save_is_durable_before_the_next_item_is_given_out(path, file):
    """Field section 4, experiment: LangGraph's default loses up to 60 of 60 fast nodes."""
    with checkpoint_run("key", store=file) as cp:
        for number, _ in enumerate(cp.iterate("abc")):
            other = SQLiteStore(path)
            latest = other.load(RUN).latest
            assert (opened(latest).items if latest else 0) == number
            other.close()


def test_a_living_run_is_not_taken_by_the_next_process_that_starts(store):
    """Field section 4, experiment: a second DBOS process re-enqueues the run of the first."""
    acquired(store, RUN)
    assert isinstance(store.acquire(RUN, request()), Held)


def test_a_dead_owner_keeps_nobody_waiting(store):
    """Field section 4, experiment: a diskcache lock whose holder was killed is never free again."""
    acquired(store, RUN, owner=DEAD)
    assert acquired(store, RUN).token == 2


def test_a_flipped_bit_is_not_handed_back(store):
    """Field section 4, experiment: joblib returns what it reads."""
    interrupted(store, range(4), 3)
    kept = store._runs[RUN]
    whole = kept.latest
    for place in range(len(whole)):
        kept.latest = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        interrupted(store, range(4), 2)  # after the save before, which is that of two items
    kept.previous = kept.latest
    with pytest.raises(CorruptCheckpointError):
        resumed(store, range(4))


def test_nothing_is_evicted(file):
    """Field section 4, experiment: a default diskcache forgets its first key at 1 GB."""
    for number in range(300):
        with checkpoint_run(str(number), store=file) as cp:
            cp.step("fetch", lambda: "x" * 10_000)
    assert len(file.list()) == 300
