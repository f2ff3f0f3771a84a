import gc
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import attrs
import pytest

from mainstay import checkpoint_run
from mainstay._core.owner import Owner, is_dead, this_process
from mainstay.errors import (
    CorruptCheckpointError,
    StoreSchemaError,
    StoreUnavailableError,
)
from mainstay.stores import MemoryStore, SQLiteStore, store_of
from mainstay.stores._connections import ThreadConnection
from mainstay.stores._mounts import network_file_system
from mainstay.stores._opening import Opener
from mainstay.stores._schema import transaction
from mainstay.stores.base import Acquired, Change, Held, Result, RunId
from mainstay.testing import FakeClock, Faults
from support.checkpoints import set_wall_clock
from support.examples import strides
from support.interruptions import at_each_interruption
from support.sqlite_files import connection_of
from support.store_conformance import DEAD, ONE, RUN, TWO, StoreConformance, acquired, request, save

# Forking beside other threads is what some tests are about; Python 3.12 and newer warn of it.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning")


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def store(self):
        return MemoryStore()


class TestSQLiteStore(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path):
        store = SQLiteStore(tmp_path / "runs.db")
        yield store
        store.close()


def rows(path, statement):
    db = sqlite3.connect(path)
    try:
        return db.execute(statement).fetchall()
    finally:
        db.close()


def change_file(path, *statements):
    db = sqlite3.connect(path, isolation_level=None)
    try:
        for statement in statements:
            db.execute(statement)
    finally:
        db.close()


# The file.


def test_a_file_is_made_at_first_use_and_not_before(path):
    store = SQLiteStore(path)
    assert not path.exists()
    store.list()
    assert path.exists()
    store.close()


def test_the_file_is_durable_and_its_log_small(path, store):
    lease = acquired(store)
    for number in range(400):
        save(store, lease, b"%d" % number * 50)
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]
    assert Path(f"{path}-wal").stat().st_size < 1_000_000
    store.close()
    assert not Path(f"{path}-wal").exists()
    assert path.stat().st_size < 50_000


def test_a_connection_syncs_every_commit(store):
    """Known fault 3: WAL with synchronous=NORMAL loses commits with the power."""
    with connection_of(store) as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.parametrize("content", [b"no database at all, but long enough\n" * 100, b"short"])
def test_what_is_no_database_is_refused_and_left_alone(path, store, content):
    path.write_bytes(content)
    with pytest.raises(StoreSchemaError, match="not a SQLite database"):
        store.list()
    assert path.read_bytes() == content


def test_what_may_be_long_stands_at_the_end_of_a_row(path, store):
    """Or each step of a run with a large state would read all pages of the state."""
    store.list()
    columns = [name for _, name, *_ in rows(path, "PRAGMA table_info(run)")]
    assert columns[-3:] == ["arguments", "latest", "previous"]


def test_a_newer_schema_is_refused(path, store):
    store.list()
    store.close()
    change_file(path, "PRAGMA user_version = 99")
    with pytest.raises(StoreSchemaError, match="schema 99, and this mainstay knows 2"):
        store.list()


def test_a_database_of_another_program_is_refused(path, store):
    change_file(path, "CREATE TABLE customers (id)")
    with pytest.raises(StoreSchemaError, match="another program's"):
        store.list()
    assert rows(path, "SELECT name FROM sqlite_schema") == [("customers",)]


def test_a_directory_that_is_not_there_is_a_clear_error(tmp_path):
    store = SQLiteStore(tmp_path / "missing" / "runs.db")
    with pytest.raises(StoreUnavailableError, match=r"missing/runs\.db is not available"):
        store.list()


def test_a_damaged_file_is_told_as_such(path, store):
    lease = acquired(store)
    save(store, lease, b"x" * 20_000)
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match="malformed"):
        store.list()


def test_a_locked_file_is_told_as_such(path, store, monkeypatch):
    monkeypatch.setattr("mainstay.stores._opening.BUSY_SECONDS", 0.0)
    store.list()
    store.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked"):
        store.acquire(RUN, request(lease=0.03))
    other.execute("ROLLBACK")
    other.close()
    assert isinstance(store.acquire(RUN, request()), Acquired)


def test_a_file_that_others_are_making_is_waited_for(store, monkeypatch):
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
    made = Faults([busy, busy], then=None)
    opened = Opener._opened

    def in_the_way(opener):
        made()
        return opened(opener)

    monkeypatch.setattr(Opener, "_opened", in_the_way)
    assert store.list() == []
    assert len(made.calls) == 3


def test_a_reader_that_holds_the_database_does_not_keep_saves_waiting(path, store):
    lease = acquired(store)
    save(store, lease, b"one")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT latest FROM run").fetchall() == [(b"one",)]
    save(store, lease, b"two")
    assert reader.execute("SELECT latest FROM run").fetchall() == [(b"one",)]
    reader.execute("COMMIT")
    reader.close()
    assert store.load(RUN).latest == b"two"


def test_an_error_in_the_middle_of_a_transaction_leaves_what_was_there(store):
    lease = acquired(store)
    save(store, lease, b"one")
    with pytest.raises(StoreUnavailableError):
        store.commit(lease, Change(document=b"two", put={0: Result("slot", object())}))
    assert store.load(RUN).latest == b"one"


def test_a_result_that_is_kept_is_never_overwritten(store):
    lease = acquired(store)
    store.commit(lease, Change(put={0: ONE}))
    with pytest.raises(StoreUnavailableError, match="UNIQUE constraint failed"):
        store.commit(lease, Change(put={0: TWO}))
    assert store.load(RUN).results == {0: ONE}


def test_a_file_that_has_had_as_many_runs_as_it_can_says_so(path, store):
    lease = acquired(store)
    store.commit(lease, Change(put={0: ONE}))
    change_file(path, "UPDATE result SET id = id + 2147483646 * (1 << 32)",
                "UPDATE run SET id = 2147483647")  # fmt: skip
    assert store.load(RUN).results == {0: ONE}
    with pytest.raises(StoreUnavailableError, match="too many runs, begin a new file"):
        acquired(store, RunId("import", "one too many"))
    store.release(lease, "error")
    assert store.forget(RUN)
    assert rows(path, "SELECT * FROM result") == []


@pytest.mark.process
def test_a_forked_child_has_connections_of_its_own(store):
    lease = acquired(store)
    save(store, lease, b"parent")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            save(store, lease, b"child")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert store.load(RUN).latest == b"child"
    save(store, lease, b"parent again")
    assert store.load(RUN).previous == b"child"


def test_a_thread_that_ends_leaves_no_connection(store):
    thread = threading.Thread(target=store.list)
    thread.start()
    thread.join()
    assert len(store._connections._threads) == 0


class RungConnection:
    """A connection; a signal handler raises as soon as a transaction has begun."""

    def __init__(self, db):
        self.db = db

    def __getattr__(self, name):
        return getattr(self.db, name)

    def execute(self, statement):
        self.db.execute(statement)
        if statement.startswith("BEGIN"):
            raise KeyboardInterrupt


def test_no_transaction_is_left_open_by_a_signal_at_its_beginning():
    """Known fault: the file stayed locked for all, and the thread could use it no more."""
    db = RungConnection(sqlite3.connect(":memory:", isolation_level=None))
    with pytest.raises(KeyboardInterrupt):
        transaction(db, "IMMEDIATE", lambda: None)
    assert not db.in_transaction
    db.close()


def test_a_signal_handler_leaves_the_transaction_that_it_came_into():
    db = sqlite3.connect(":memory:", isolation_level=None)

    def came_into() -> None:
        with pytest.raises(sqlite3.OperationalError):
            transaction(db, "IMMEDIATE", lambda: None)
        assert db.in_transaction

    transaction(db, "IMMEDIATE", came_into)
    db.close()


def test_nothing_is_remembered_of_a_run_that_has_ended(store):
    """Known fault: 200 bytes for each run that the process ever had, for good."""
    for number in range(3):
        with checkpoint_run(str(number), store=store) as cp:
            cp.step("a", int)
    assert store._held == {}


def test_an_empty_path_is_refused():
    with pytest.raises(ValueError, match="`path` must name a file"):
        SQLiteStore("")


# Network file systems.

MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /mnt/share\\040a rw - nfs4 server:/share rw
31 22 0:41 / /mnt rw - tmpfs tmpfs rw
32 30 8:2 / /mnt/share\\040a/local rw - xfs /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/srv/jobs.db", None),
        ("/mnt/jobs.db", None),
        ("/mnt/share a/jobs.db", "nfs4"),
        ("/mnt/share a/local/jobs.db", None),
    ],
)
def test_a_network_file_system_is_known_by_its_mount(tmp_path, path, expected):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert network_file_system(Path(path), mounts) == expected


def test_without_a_list_of_mounts_nothing_is_refused(tmp_path):
    assert network_file_system(Path("/srv/jobs.db"), tmp_path / "missing") is None


def test_a_network_file_system_is_refused_unless_allowed(path, monkeypatch):
    """Known fault 20: SQLite files on NFS that diskcache found malformed."""
    monkeypatch.setattr("mainstay.stores._opening.network_file_system", lambda _path: "nfs4")
    with pytest.raises(StoreUnavailableError, match=r"network file system \(nfs4\)"):
        SQLiteStore(path).list()
    assert not path.exists()
    allowed = SQLiteStore(path, network=True)
    assert allowed.list() == []
    allowed.close()


# Owners.


def test_this_process_is_alive():
    assert not is_dead(this_process())


@pytest.mark.process
def test_a_process_that_has_ended_is_dead_even_before_it_was_waited_for():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stat = Path(f"/proc/{child.pid}/stat").read_bytes().rpartition(b")")[2].split()
    owner = attrs.evolve(this_process(), pid=child.pid, started=int(stat[19]))
    assert not is_dead(owner)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(owner)
    child.communicate()
    assert is_dead(owner)


def test_a_process_id_that_was_used_again_is_another_process():
    assert is_dead(DEAD)


def test_an_owner_in_another_namespace_is_never_provably_dead():
    assert not is_dead(attrs.evolve(DEAD, namespace="pid:[1]"))


def test_an_owner_from_before_the_boot_is_dead_where_only_this_machine_has_the_store():
    old = attrs.evolve(DEAD, boot="00000000-0000-0000-0000-000000000000")
    assert is_dead(old)
    assert not is_dead(old, local=False)


@pytest.mark.process
def test_where_the_system_tells_nothing_only_a_free_process_id_is_a_proof():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    unknown = Owner("", this_process().namespace, child.pid, 0)
    assert is_dead(unknown)
    assert not is_dead(attrs.evolve(unknown, pid=os.getpid()))
    assert not is_dead(attrs.evolve(unknown, pid=1))


def test_the_lease_of_an_owner_on_another_machine_ends_by_the_wall_clock(path, monkeypatch):
    store = SQLiteStore(path, network=True)
    elsewhere = attrs.evolve(DEAD, boot="00000000-0000-0000-0000-000000000000")
    acquired(store, owner=elsewhere)
    assert isinstance(store.acquire(RUN, request()), Held)
    set_wall_clock(monkeypatch, 4e9)
    assert isinstance(store.acquire(RUN, request()), Acquired)
    store.close()


# Finding a store.


def test_a_url_names_the_same_store_everywhere(path):
    assert store_of(f"sqlite:///{path}") is store_of(f"sqlite:///{path}")
    assert store_of("memory://a") is not store_of("memory://b")


def test_a_relative_and_an_absolute_path_are_told_apart():
    assert repr(store_of("sqlite:///jobs.db")) == "SQLiteStore('jobs.db')"
    assert repr(store_of("sqlite:////var/a%20b.db")) == "SQLiteStore('/var/a b.db')"


@pytest.mark.parametrize(
    "url",
    ["jobs.db", "sqlite://jobs.db", "sqlite:///", "mysql://x", "mqtt://x", "gs://x", "x"],
)
def test_a_url_of_no_kind_of_store_is_refused(url):
    with pytest.raises(ValueError, match="`store` must be a URL such as"):
        store_of(url)


@pytest.mark.parametrize("value", [3, object(), SQLiteStore, b"sqlite:///jobs.db"])
def test_what_is_no_store_is_refused(value):
    with pytest.raises(TypeError, match="`store` must be a Store"):
        store_of(value)


def test_the_environment_names_the_default_store(monkeypatch):
    monkeypatch.setenv("MAINSTAY_STORE", "memory://environment")
    assert store_of() is store_of("memory://environment")
    monkeypatch.delenv("MAINSTAY_STORE")
    with pytest.raises(ValueError, match=r"`store` must be given, or \$MAINSTAY_STORE set"):
        store_of()


def test_a_connection_that_the_collector_finds_before_its_link_is_closed(tmp_path):
    """Python 3.13 warns of one that is not, and in a garbage cycle there is no order."""
    store = SQLiteStore(tmp_path / "runs.db")
    connection = store._opener.open()
    mine = ThreadConnection(store._connections, store._translated)
    mine.connection = connection
    cycle = [connection, mine]
    cycle.append(cycle)
    del connection, mine, cycle
    gc.collect()


def test_a_file_that_cannot_be_opened_leaves_no_connection_to_close(tmp_path):
    store = SQLiteStore(tmp_path / "nowhere" / "runs.db")
    with pytest.raises(StoreUnavailableError, match="unable to open"):
        store.list()
    gc.collect()


# Known faults of other libraries, by their numbers in the survey.


def test_torn_write_leaves_one_of_the_last_two_saves(path, store, tmp_path):
    """Known fault 1: checkpointer and Prefect write files in place.

    What of the log reached the disk before the power went is cut off, in strides.
    """
    lease = acquired(store)
    saved = [b"%d" % number * 100 for number in range(5)]
    for document in saved:
        save(store, lease, document)
    log = path.with_name("runs.db-wal").read_bytes()
    seen = set()
    for number, length in enumerate([*range(0, len(log), 100 * strides()), len(log)]):
        torn = tmp_path / f"torn-{number}.db"
        shutil.copy(path, torn)
        torn.with_name(f"{torn.name}-wal").write_bytes(log[:length])
        other = SQLiteStore(torn)
        contents = other.load(RUN)
        other.close()
        if contents.latest is None:
            assert seen <= {None}
        elif contents.latest != saved[0]:
            assert contents.previous == saved[saved.index(contents.latest) - 1]
        seen.add(contents.latest)
    assert seen >= {*saved}


@pytest.mark.parametrize("step", [-1e9, 1e9])
def test_a_wall_clock_that_is_stepped_neither_ends_a_lease_nor_keeps_it(store, monkeypatch, step):
    """Known fault 6: leases judged by the wall clocks of workers."""
    with FakeClock() as clock:
        lease = acquired(store)
        set_wall_clock(monkeypatch, 1.7e9 + step)
        clock.advance(29)
        assert isinstance(store.acquire(RUN, request()), Held)
        save(store, lease, b"one")
        assert store.list()[0][1] == "running"
        clock.advance(29)
        assert isinstance(store.acquire(RUN, request()), Held)
        clock.advance(2)
        assert isinstance(store.acquire(RUN, request()), Acquired)


@pytest.mark.process
def test_no_connection_is_shared_by_threads_or_carried_over_a_fork(store):
    """Known fault 21: SQLite forbids both."""
    connections = []

    def connect():
        with connection_of(store) as db:
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


def test_nothing_is_evicted(store):
    """Known fault: a default diskcache forgets its first key at 1 GB."""
    for number in range(100):
        save(store, acquired(store, RunId("import", str(number))), b"x" * 10_000)
    assert len(store.list()) == 100


def test_a_signal_handler_may_name_the_store_that_its_thread_is_about_to_name():
    """Known fault: it waited for ever for a lock of its own thread."""

    def attempt():
        url, found = f"memory://{next(numbers)}", []

        def name():
            found.append(store_of(url))

        def check():
            assert found[0] is found[1]

        return name, name, check

    numbers = itertools.count()
    assert at_each_interruption(attempt) > 5
