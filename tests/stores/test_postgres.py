"""`PostgresStore` against a real server: what every store must do, in both colours."""

import asyncio
import gc
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mainstay import checkpoint_run
from mainstay.stores._postgres.guard import Guard
from mainstay.stores._postgres.operations import Operations, SessionLock, second_look
from mainstay.stores._postgres.statements import statements
from mainstay.stores.base import Acquired, Change, Held, RunId
from mainstay.stores.postgres import PostgresStore
from support.pgbouncer import PgBouncer
from support.pools import LONGEST
from support.postgres import Postgres
from support.server_stores import (
    ClockedConformance,
    InTasksConformance,
    ListeningStoreConformance,
    Persistent,
    wait_for_release,
)
from support.store_conformance import (
    ELSEWHERE,
    OTHER,
    RUN,
    StoreConformance,
    acquired,
    now,
    request,
    save,
)

pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def server():
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture
def url(server):
    yield server.url
    server.ask('DROP SCHEMA IF EXISTS "mainstay" CASCADE')


def on_fake_clock(store):
    store._clock = now
    store._operations = Operations(statements("mainstay", now=":now"))
    return store


@pytest.fixture
def clocked(url):
    store = on_fake_clock(PostgresStore(url))
    yield store
    store.close()


class TestPostgresStore(ClockedConformance):
    """With the store above."""


class TestPostgresStoreInTasks(InTasksConformance):
    """With the store above."""


@pytest.fixture(scope="module")
def pooler(server):
    pooler = PgBouncer(server)
    yield pooler
    pooler.remove()


class TestBehindPgBouncer(StoreConformance):
    @pytest.fixture(params=["", "?prepare=no"])
    def store(self, request, url, pooler):
        store = on_fake_clock(PostgresStore(pooler.url + request.param))
        yield store
        store.close()


@pytest.fixture
def store(url):
    store = PostgresStore(url)
    yield store
    store.close()


class TestOnTheServer(ListeningStoreConformance):
    """With the store above, whose texts have no NUL and nothing that UTF-8 lacks."""

    NAMES = tuple(each for each in ListeningStoreConformance.NAMES if each.isprintable())
    KEYS = tuple(each for each in ListeningStoreConformance.KEYS if each.isprintable())


OWNER = """
import sys, attrs
sys.path.insert(0, "tests")
from mainstay.stores.postgres import PostgresStore
from support.store_conformance import acquired
from mainstay._core.owner import this_process

owner = attrs.evolve(this_process(), boot="another machine")
store = PostgresStore(sys.argv[1])
acquired(store, owner=owner)
print("acquired", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def owner(url):
    """A process that has the run, and whose id proves nothing here."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, url], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert process.stdout.readline() == b"acquired\n"
    yield process
    process.kill()
    process.communicate()


def test_the_death_of_an_owner_elsewhere_is_known_at_once(store, owner):
    """Known fault: elsewhere a run waits until its lease ends, whatever it was killed by."""
    assert isinstance(store.acquire(RUN, request()), Held)
    owner.kill()
    owner.wait()
    killed = time.monotonic()
    while isinstance(answer := store.acquire(RUN, request()), Held):
        assert time.monotonic() < killed + LONGEST
    assert time.monotonic() - killed < 10  # of 30 that the lease lasts
    assert isinstance(answer, Acquired)
    assert (answer.record.exit, answer.record.crashes) == ("crash", 1)


@pytest.mark.parametrize(
    ("ours", "seconds"),
    [
        (SessionLock(), 0.4),
        (SessionLock(7, 1.0, 0.001), 0.05),
        (SessionLock(7, 1.0, 0.02), 0.1),
        (SessionLock(7, 1.0, 3.0), 0.4),
    ],
    ids=["none", "near", "far", "very far"],
)
def test_a_cut_off_session_gets_the_time_that_our_own_took_several_times(ours, seconds):
    assert second_look(ours) == pytest.approx(seconds)


def test_a_stopped_owner_keeps_its_run_while_the_lease_lasts(store, owner):
    owner.send_signal(signal.SIGSTOP)
    assert isinstance(store.acquire(RUN, request()), Held)
    owner.send_signal(signal.SIGCONT)


def test_an_owner_whose_connections_were_cut_keeps_its_run(server, store, url):
    mine = PostgresStore(url)
    lease = acquired(mine, owner=ELSEWHERE)
    server.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND application_name = 'mainstay'"
    )
    # The server says that it has ended them before it has.
    assert isinstance(Persistent(store.acquire)(RUN, request()), Held)
    Persistent(mine.commit)(lease, Change(document=b"one", sequence=1))
    mine.close()


def test_without_session_locks_the_lease_counts(url, owner):
    owner.kill()
    owner.wait()
    store = PostgresStore(url, session_locks=False)
    lease = acquired(store, OTHER, owner=ELSEWHERE)
    other = PostgresStore(url)
    assert isinstance(other.acquire(OTHER, request()), Held)
    store.release(lease, "error")
    store.close()
    other.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_store_that_is_closed_while_it_is_asked_for_a_run_keeps_nobody_waiting(
    url, monkeypatch, colour
):
    store = PostgresStore(url, timeout=LONGEST)
    start = Guard.start

    def start_and_close(guard):
        start(guard)
        store.close()  # as another thread may, at this moment

    monkeypatch.setattr(Guard, "start", start_and_close)
    began = time.monotonic()
    if colour == "sync":
        answer = store.acquire(RUN, request())
    else:
        answer = asyncio.run(store.aacquire(RUN, request()))
    assert isinstance(answer, Acquired)
    assert time.monotonic() - began < LONGEST / 4
    monkeypatch.undo()
    store.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_system_without_poll_will_do(url, monkeypatch, colour):
    """Known fault: on Windows the store could not be imported."""
    monkeypatch.delattr(select, "poll")
    store = PostgresStore(url)
    lease = acquired(store, owner=ELSEWHERE)
    save(store, lease, b"x" * 1_000_000)  # more than a socket takes at once
    timer = threading.Timer(0.1, store.release, (lease, "error"))
    timer.start()
    assert wait_for_release(store, colour) < LONGEST / 2
    timer.join()
    assert store._guard.held.number
    assert isinstance(store.acquire(RUN, request()), Acquired)
    store.close()


def test_without_a_thread_for_the_lock_the_lease_counts(server, store, monkeypatch):
    def refused(**_):
        raise RuntimeError("daemon threads are disabled in this (sub)interpreter")

    with monkeypatch.context() as limited:
        limited.setattr(threading, "Thread", refused)
        acquired(store)
        assert wait_for_release(store, "sync", seconds=0.1) >= 0.1
    assert server.ask("SELECT session FROM mainstay.run") == [(0,)]
    acquired(store, OTHER)
    until = time.monotonic() + LONGEST
    while not store._guard.held.number:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_callers_take_turns_where_there_are_more_than_connections(url, colour):
    store = PostgresStore(url, pool=2)
    leases = [acquired(store, RunId("turns", str(number))) for number in range(16)]
    changes = [Change(document=b"%d" % number, sequence=number + 1) for number in range(20)]

    def save_all(lease):
        for change in changes:
            store.commit(lease, change)

    async def asave_all():
        async def one(lease):
            for change in changes:
                await store.acommit(lease, change)

        await asyncio.gather(*map(one, leases))

    if colour == "sync":
        with ThreadPoolExecutor(16) as threads:
            assert [*threads.map(save_all, leases)] == [None] * 16
    else:
        asyncio.run(asave_all())
    assert {store.load(lease.run).latest for lease in leases} == {b"19"}
    store.close()


def test_an_event_loop_that_is_over_leaves_no_connection(server, store):
    def connections():
        return len(server.ask("SELECT 1 FROM pg_stat_activity WHERE application_name = 'mainstay'"))

    lease = acquired(store)
    before = connections()
    for number in range(5):
        asyncio.run(store.acommit(lease, Change(document=b"one", sequence=number + 1)))
    gc.collect()
    end = time.monotonic() + LONGEST
    while connections() > before:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_run_goes_on_where_an_error_left_it(url, colour):
    store, seen = PostgresStore(url), []

    def sync_run(fails):
        with checkpoint_run("nightly", store=store, lease=6) as cp:
            for item in cp.iterate("abcd"):
                if item == fails:
                    raise ValueError(item)
                seen.append(cp.step("upper", item.upper))

    async def async_run(fails):
        async def upper(item):
            return item.upper()

        async with checkpoint_run("nightly", store=store, lease=6) as cp:
            async for item in cp.iterate("abcd"):
                if item == fails:
                    raise ValueError(item)
                seen.append(await cp.step("upper", upper, item))

    def attempt(fails):
        if colour == "sync":
            sync_run(fails)
        else:
            asyncio.run(async_run(fails))

    with pytest.raises(ValueError, match="c"):
        attempt("c")
    attempt(None)
    assert seen == ["A", "B", "C", "D"]
    attempt(None)
    assert len(seen) == 4
    store.close()


def test_who_waits_for_a_busy_run_gets_it_when_it_is_left(url):
    store, began, seen = PostgresStore(url), threading.Event(), []

    def first():
        with checkpoint_run("busy", store=store, lease=60):
            began.set()
            time.sleep(0.3)
            seen.append("first")

    with ThreadPoolExecutor() as threads:
        running = threads.submit(first)
        assert began.wait(LONGEST)
        other = PostgresStore(url)
        with checkpoint_run("busy", store=other, on_busy="wait", on_complete="rerun", lease=60):
            seen.append("second")
        running.result()
    assert seen == ["first", "second"]
    other.close()
    store.close()
