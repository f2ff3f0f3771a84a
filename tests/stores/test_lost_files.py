"""The files of a store that are removed, replaced or cut short, under a run and between runs."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mainstay import checkpoint_run
from mainstay._core.owner import this_process
from mainstay.errors import StoreUnavailableError
from mainstay.stores import SQLiteStore
from mainstay.stores._files import StoreFiles
from mainstay.stores._opening import Opener
from mainstay.stores.base import Acquired, Change, Request, Result, RunId, RunLease
from support.examples import examples

# Forking beside other threads is what one test is about; Python 3.12 and newer warn of it.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning")

RUN = RunId("import", "acme")


def acquired(store, life="life"):
    answer = store.acquire(RUN, Request(owner=this_process(), life=life, lease=30.0))
    assert isinstance(answer, Acquired)
    return RunLease(RUN, answer.record.token, answer.record.grant, 30.0)


def removed(path):
    path.unlink()


def moved(path):
    path.rename(f"{path}.moved")


def replaced(path):
    shutil.copy(path, f"{path}.copy")
    Path(f"{path}.copy").rename(path)


def emptied(path):
    os.truncate(path, 0)


def halved(path):
    os.truncate(path, path.stat().st_size // 2)


def in_sync_code(store, key, at_item):
    with checkpoint_run(key, store=store) as cp:
        for item in cp.iterate(range(6)):
            at_item(item)


def in_async_code(store, key, at_item):
    async def run():
        async with checkpoint_run(key, store=store) as cp:
            async for item in cp.iterate(range(6)):
                at_item(item)

    asyncio.run(run())


@pytest.fixture(params=[in_sync_code, in_async_code], ids=["sync", "async"])
def run(request):
    return request.param


# Under a run.


@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("happens", [removed, moved, replaced, emptied, halved])
@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
def test_the_next_save_says_what_has_happened_to_a_file(path, store, run, ending, happens, at):
    seen = []

    def at_item(item):
        seen.append(item)
        if item == at:
            happens(Path(f"{path}{ending}"))

    with pytest.raises(StoreUnavailableError, match=f"its {ending or 'file'}.* was "):
        run(store, "key", at_item)
    assert seen == [*range(at + 1)]


@pytest.mark.parametrize("happens", [removed, moved, replaced, emptied, halved])
@pytest.mark.parametrize("opened", [False, True])
def test_the_same_is_seen_where_an_open_file_does_not_tell_its_path(
    path, store, monkeypatch, opened, happens
):
    def no_such_link(_path):
        raise FileNotFoundError

    lease = acquired(store) if opened else None
    monkeypatch.setattr(os, "readlink", no_such_link)
    lease = lease or acquired(store)
    happens(Path(f"{path}-wal"))
    with pytest.raises(StoreUnavailableError, match="its -wal file was "):
        store.commit(lease, Change(document=b"one"))


def test_a_save_does_not_look_at_the_log_by_its_path(path, store, monkeypatch):
    lease = acquired(store)
    looked, look = [], os.stat

    def noted(of, **options):
        looked.append(str(of).removeprefix(str(path)))
        return look(of, **options)

    monkeypatch.setattr(os, "stat", noted)
    store.commit(lease, Change(document=b"one"))
    assert "" in looked
    assert ("-wal" in looked) == (not Path("/proc/self/fd").exists())


@pytest.mark.parametrize("happens", [removed, moved, replaced])
@pytest.mark.parametrize("ending", ["-wal", "-shm"])
def test_what_was_saved_before_is_kept_where_the_process_can_still_write_it(
    path, store, run, ending, happens
):
    seen = []

    def at_item(item):
        seen.append(item)
        if len(seen) == 4:
            happens(Path(f"{path}{ending}"))

    with pytest.raises(StoreUnavailableError):
        run(store, "key", at_item)
    run(store, "key", at_item)
    assert seen == [0, 1, 2, 3, 3, 4, 5]


PROGRAM = """
import os, signal, sys
from mainstay import StoreUnavailableError, checkpoint_run

try:
    with checkpoint_run("key", store=sys.argv[1]) as cp:
        for item in cp.iterate(range(20)):
            print(item)
            if item == 5:
                os.remove(sys.argv[1].removeprefix("sqlite:///") + "-wal")
            if item == 15:
                sys.stdout.flush()
                os.kill(os.getpid(), signal.SIGKILL)
except StoreUnavailableError as error:
    print(error.problem)
"""


@pytest.mark.process
def test_a_process_whose_log_was_removed_does_not_go_on_until_it_is_killed(path):
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"sqlite:///{path}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.split("\n")[:6] == ["0", "1", "2", "3", "4", "5"]
    assert "its -wal file was removed or replaced" in ran.stdout.split("\n")[6]


def test_a_thread_that_had_no_connection_yet_saves_nothing_in_a_new_file(path, store):
    lease = acquired(store)
    for left in path.parent.iterdir():
        left.unlink()
    other = SQLiteStore(path)
    theirs = acquired(other, life="another")
    other.commit(theirs, Change(document=b"theirs"))
    assert theirs.token == lease.token

    def save():
        with pytest.raises(StoreUnavailableError, match="its file was removed or replaced"):
            store.commit(lease, Change(document=b"mine"))

    thread = threading.Thread(target=save)
    thread.start()
    thread.join()
    save()
    with pytest.raises(StoreUnavailableError, match="its file was removed or replaced"):
        store.release(theirs, "error")
    assert other.load(RUN).latest == b"theirs"
    other.close()


def test_a_file_that_was_replaced_while_all_was_closed_has_none_of_the_runs(path, store):
    lease = acquired(store)
    store.close()
    replacement = SQLiteStore(path.with_name("other.db"))
    theirs = acquired(replacement)
    replacement.close()
    path.with_name("other.db").rename(path)
    for change in (Change(), Change(document=b"mine"), Change(put={0: Result("slot", b"mine")})):
        with pytest.raises(StoreUnavailableError, match="its file was removed or replaced"):
            store.commit(lease, change)
    assert store.load(RUN).latest is None
    acquired_again = SQLiteStore(path)
    acquired_again.commit(theirs, Change(document=b"theirs"))
    acquired_again.close()


def test_a_renewal_in_another_thread_does_not_hide_it(path, store):
    lease = acquired(store)

    def renew():
        with pytest.raises(StoreUnavailableError):
            store.commit(lease, Change())

    renewed = threading.Thread(target=store.commit, args=(lease, Change()))
    renewed.start()
    renewed.join()
    removed(Path(f"{path}-wal"))
    thread = threading.Thread(target=renew)
    thread.start()
    thread.join()
    with pytest.raises(StoreUnavailableError, match="its -wal file was removed or replaced"):
        store.commit(lease, Change(document=b"one"))


# What only looks like it.


def checkpointed_by_another_program(path, _store):
    other = sqlite3.connect(path)
    assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    other.close()
    assert Path(f"{path}-wal").stat().st_size == 0


def vacuumed_by_another_program(path, _store):
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE filler AS SELECT zeroblob(1000000)")
    other.execute("DROP TABLE filler")
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.stat().st_size
    other.execute("VACUUM")
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    assert path.stat().st_size < before


def closed(_path, store):
    store.close()


def forked(_path, _store):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def made_longer(path, store):
    for number in range(50):
        acquired_other = RunId("other", str(number))
        store.acquire(acquired_other, Request(owner=this_process(), life="x", lease=30.0))
    assert Path(f"{path}-wal").exists()


def read_for_long(path, store):
    """A reader that keeps the log from being used again, until it is long."""
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM run").fetchall()
    for number in range(20):
        other = RunId(f"other {len(store.list())}", str(number))
        answer = store.acquire(other, Request(owner=this_process(), life="x", lease=30.0))
        lease = RunLease(other, answer.record.token, answer.record.grant, 30.0)
        store.commit(lease, Change(document=b"x" * 100_000, finished=True))
    reader.close()
    assert Path(f"{path}-wal").stat().st_size > 2_000_000


@pytest.mark.parametrize(
    "happens",
    [
        checkpointed_by_another_program,
        vacuumed_by_another_program,
        closed,
        pytest.param(forked, marks=pytest.mark.process),
        made_longer,
        read_for_long,
    ],
)
def test_a_run_goes_on_where_nothing_is_lost(path, store, run, happens):
    seen = []

    def at_item(item):
        seen.append(item)
        if item in (1, 3):
            happens(path, store)

    run(store, "key", at_item)
    assert seen == [*range(6)]


def test_a_log_that_a_long_reader_made_long_does_not_stay_so(path, store):
    lease = acquired(store)
    read_for_long(path, store)
    for number in range(20):
        store.commit(lease, Change(document=b"%d" % number))
    assert Path(f"{path}-wal").stat().st_size < 600_000


def test_files_that_may_not_be_looked_at_are_taken_for_the_same(store, monkeypatch):
    lease = acquired(store)

    def refused(_path, **_options):
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", refused)
        store.commit(lease, Change(document=b"one"))
    assert store.load(RUN).latest == b"one"


# Between runs.


def begin_a_new_file(path):
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()


def test_async_runs_each_find_the_file_that_is_there_now(path):
    async def job(key):
        async with checkpoint_run(key, store=f"sqlite:///{path}") as cp:
            return [item async for item in cp.iterate(range(5))]

    async def jobs():
        for number in range(20):
            begin_a_new_file(path)
            assert await job(f"key {number}") == [*range(5)]

    asyncio.run(jobs())


@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
def test_runs_in_many_threads_each_find_the_file_that_is_there_now(path, store, ending):
    def job(key):
        with checkpoint_run(key, store=store) as cp:
            return list(cp.iterate(range(5)))

    with ThreadPoolExecutor(4) as pool:
        for number in range(examples(40)):
            assert [*pool.map(job, [f"{number} {each}" for each in range(4)])] == [[*range(5)]] * 4
            begin_a_new_file(path) if not ending else removed(Path(f"{path}{ending}"))


def test_a_store_is_read_where_its_file_is_now(path, store):
    acquired(store)
    assert len(store.list()) == 1
    begin_a_new_file(path)
    assert store.list() == []
    assert path.exists()


# Connections that are opened meanwhile.


def in_a_thread(function):
    """Call a function in a thread that has no connection yet."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_a_file_that_is_replaced_just_before_it_is_opened_is_not_mixed_with_the_old_one(
    path, store, monkeypatch
):
    lease = acquired(store)
    looked = StoreFiles.have_changed

    def too_early(files):
        monkeypatch.setattr(StoreFiles, "have_changed", looked)
        begin_a_new_file(path)
        return False

    monkeypatch.setattr(StoreFiles, "have_changed", too_early)
    assert in_a_thread(store.list) == []
    with pytest.raises(StoreUnavailableError, match="its file was removed or replaced"):
        store.commit(lease, Change(document=b"one"))
    assert store.list() == []


def test_a_connection_that_was_opened_while_the_others_were_closed_is_not_used(store):
    lease = acquired(store)
    store._connections._files = None  # as a thread leaves it that has just closed the others
    store.commit(lease, Change(document=b"one"))
    assert store.load(RUN).latest == b"one"


class Growing(weakref.WeakSet):
    """The connections of threads, to which another one is added while they are looked at."""

    comes = None

    def __iter__(self):
        yield from [*super().__iter__()]
        comes, self.comes = self.comes, None
        if comes is not None:
            comes()


def test_a_thread_that_comes_while_connections_are_closed_has_none_either(store):
    connections, ended = store._connections, threading.Event()
    connections._threads = Growing()
    store.list()

    def comes():
        opened = threading.Event()

        def work():
            store.list()
            opened.set()
            ended.wait()

        threading.Thread(target=work).start()
        opened.wait()

    connections._threads.comes = comes
    with connections.closed():
        assert [each.connection for each in connections._threads] == [None, None]
    ended.set()
    assert store.list() == []


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
def test_what_another_store_of_the_process_has_open_is_not_opened_in_part(path, store, ending):
    lease = acquired(store)
    store.commit(lease, Change(document=b"one"))
    removed(Path(f"{path}{ending}"))
    other = SQLiteStore(path)
    with pytest.raises(StoreUnavailableError):
        other.list()
    with pytest.raises(StoreUnavailableError, match=f"its {ending} file was removed"):
        store.commit(lease, Change(document=b"two"))
    assert other.load(RUN).latest == b"one"
    other.close()


def test_an_interrupted_opening_leaves_nothing_locked(path, store, monkeypatch):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Opener, "_opened_to_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.list()
    assert in_a_thread(store.list) == []
