"""What is lost, doubled or left hanging when connections and servers fail: nothing.

A failure is made at each message that a client sends, one after the other, by a proxy. The caller
sends again what was not answered, as a run does while its lease lasts.
"""

import asyncio
import signal
import threading

import psycopg
import pytest

from mainstay import checkpoint_run
from mainstay.errors import LeaseLostError, StoreUnavailableError
from mainstay.stores._postgres.operations import Operations
from mainstay.stores._postgres.statements import statements
from mainstay.stores.base import Acquired, Change, Contents, Held, Result
from mainstay.stores.postgres import PostgresStore
from support.fault_proxy import FaultProxy
from support.postgres import Postgres
from support.server_stores import Persistent, ServerFaultConformance, making, until
from support.store_conformance import ELSEWHERE, ONE, RUN, TWO, acquired, lease_of, request, save

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server():
    server = Postgres(fsync="on")
    yield server
    server.remove()


@pytest.fixture
def proxy(server):
    proxy = FaultProxy(server.port)
    yield proxy
    proxy.close()
    server.ask('DROP SCHEMA IF EXISTS "mainstay" CASCADE')


@pytest.fixture
def through(proxy):
    with making(PostgresStore, f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres") as make:
        yield make


@pytest.fixture
def store(through):
    return through()


class TestFaults(ServerFaultConformance):
    """With the store above."""

    def check(self, server):
        assert server.ask("SELECT generation FROM mainstay.run") == [(3,)]


def on_clock(store):
    """Have the store take its time from the list that is given."""
    now = [0.0]
    store._clock = lambda: now[0]
    store._operations = Operations(statements("mainstay", now=":now"))
    return now


def waiting(server):
    [(number,)] = server.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return number


@pytest.mark.parametrize("change", [{"put": {0: ONE}}, {"put": {0: ONE, 1: TWO}}])
def test_a_save_that_is_slow_is_seen_by_who_takes_the_run_over(server, store, change):
    """Known fault: a zombie whose save is delayed is told "saved", and its successor misses it."""
    now = on_clock(store)
    zombie = acquired(store)
    server.ask(
        "CREATE FUNCTION mainstay.slow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END'"
    )
    server.ask(
        "CREATE TRIGGER slow BEFORE INSERT ON mainstay.result FOR EACH ROW"
        " EXECUTE FUNCTION mainstay.slow()"
    )
    answers = []
    with psycopg.connect(server.url, autocommit=True) as gate:
        gate.execute("SELECT pg_advisory_lock(42)")
        saving = threading.Thread(target=store.commit, args=(zombie, Change(**change)))
        saving.start()
        until(lambda: waiting(server) == 1)
        now[0] = 31.0
        taking = threading.Thread(target=lambda: answers.append(store.acquire(RUN, request())))
        taking.start()
        until(lambda: waiting(server) == 2 or answers)
        assert not answers
    saving.join()
    taking.join()
    [answer] = answers
    assert isinstance(answer, Held) or answer.contents.results == change["put"]


def test_what_waited_for_a_takeover_is_refused(server, store):
    zombie = acquired(store)
    errors = []

    def late():
        try:
            store.commit(zombie, Change(put={0: ONE}, sequence=1))
        except LeaseLostError as error:
            errors.append(error)

    with psycopg.connect(server.url) as taking:
        taking.execute("UPDATE mainstay.run SET token = token + 1, granted = 'another'")
        saving = threading.Thread(target=late)
        saving.start()
        until(lambda: waiting(server) == 1)
        taking.commit()
        saving.join()
    assert len(errors) == 1
    assert store.load(RUN).results == {}


def test_a_crash_of_the_server_loses_nothing_that_was_acknowledged(server, store):
    lease = acquired(store)
    commit = Persistent(store.commit)
    for number in range(1, 301):
        if number % 100 == 0:
            server.crash()
            server.start()
        result = Result("slot", str(number).encode())
        commit(lease, Change(document=b"%d" % number, put={number: result}, sequence=number))
    assert commit.failures <= 6
    contents = store.load(RUN)
    assert (contents.latest, contents.previous) == (b"300", b"299")
    assert [*contents.results] == [*range(1, 301)]


def test_an_owner_keeps_its_run_while_the_server_restarts(server, store):
    """Known fault: all locks of sessions are free after it, though nobody has died."""
    lease = acquired(store, owner=ELSEWHERE)
    other = PostgresStore(server.url)
    server.crash()
    server.start()
    assert isinstance(Persistent(other.acquire)(RUN, request()), Held)
    Persistent(store.commit)(lease, Change(document=b"one", sequence=1))
    other.close()


def test_an_owner_whose_connections_are_cut_again_and_again_keeps_its_run(proxy, store, through):
    lease = acquired(store, owner=ELSEWHERE)
    other, answers, over = through(), [], threading.Event()

    def contend():
        acquire = Persistent(other.acquire)
        while not over.is_set():
            answers.append(acquire(RUN, request()))

    contending = threading.Thread(target=contend)
    contending.start()
    try:
        for number in range(1, 11):
            proxy.cut()
            seen = len(answers)
            until(lambda seen=seen: len(answers) > seen + 20)
            Persistent(store.commit)(lease, Change(document=b"%d" % number, sequence=number))
    finally:
        over.set()
        contending.join()
        other.close()
    assert {type(answer) for answer in answers} == {Held}
    assert store.load(RUN) == Contents(b"10", b"9")


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("outage", ["crash", "cut"])
def test_a_run_outlives_an_outage_that_is_shorter_than_its_lease(
    server, proxy, store, colour, outage
):
    """Known fault: the first save that fails ends the run, though the server is back at once."""
    seen = []

    def before(item):
        seen.append(item)
        if item % 10 == 5 and outage == "cut":
            proxy.cut()
        if item == 15 and outage == "crash":
            server.crash()
            restarting.append(threading.Thread(target=server.start))
            restarting[0].start()

    async def tasks():
        async with checkpoint_run("outage", store=store, lease=60) as cp:
            async for item in cp.iterate(range(30)):
                before(item)

    restarting = []
    if colour == "async":
        asyncio.run(tasks())
    else:
        with checkpoint_run("outage", store=store, lease=60) as cp:
            for item in cp.iterate(range(30)):
                before(item)
    for thread in restarting:
        thread.join()
    assert seen == [*range(30)]
    [(record, state)] = store.list()
    assert (record.attempt, state) == (1, "done")


def test_a_server_that_is_stopped_is_waited_for_no_longer_than_allowed(server, store):
    store._client._timeout = 0.5
    lease = acquired(store)
    server.signal_all(signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailableError) as stopped:
            save(store, lease, b"one", sequence=1)
    finally:
        server.signal_all(signal.SIGCONT)
    assert stopped.value.retryable
    Persistent(store.commit)(lease, Change(document=b"one", sequence=1))
    assert store.load(RUN) == Contents(b"one", None)


def test_a_failover_that_loses_an_acquisition_leaves_one_owner():
    """Known fault: the same token is given again, and two owners have it."""
    primary = Postgres(fsync="on")
    standby = Postgres(standby_of=primary, fsync="on")
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    store = PostgresStore(f"postgresql://postgres@{hosts}/postgres", timeout=5.0)
    other = PostgresStore(f"postgresql://postgres@{hosts}/postgres", timeout=5.0)
    try:
        before = acquired(store)
        save(store, before, b"one")
        store.release(before, "error")
        until(lambda: standby.ask("SELECT to_regclass('mainstay.run') IS NOT NULL") == [(True,)])
        until(lambda: standby.ask("SELECT status FROM mainstay.run") == [("interrupted",)])
        standby.ask("ALTER SYSTEM SET primary_conninfo = ''")
        standby.ask("SELECT pg_reload_conf()")
        until(lambda: not primary.ask("SELECT 1 FROM pg_stat_replication"))
        first = acquired(store)
        save(store, first, b"two", sequence=1)
        primary.crash()
        standby.ask("SELECT pg_promote()")
        answer = Persistent(other.acquire)(RUN, request())
        assert isinstance(answer, Acquired)
        assert answer.record.token == first.token
        assert answer.contents.latest == b"one"
        with pytest.raises(LeaseLostError):
            Persistent(store.commit)(first, Change(document=b"three", sequence=2))
        save(other, lease_of(answer), b"other")
    finally:
        store.close()
        other.close()
        standby.remove()
        primary.remove()
