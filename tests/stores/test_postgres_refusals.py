"""What is refused, and how: one error that says what to do, and never a password."""

import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mainstay.errors import StoreSchemaError, StoreUnavailableError
from mainstay.stores._postgres.session import Session
from mainstay.stores.base import Acquired, Change, Promises, Result, RunId
from mainstay.stores.postgres import PostgresStore
from support.pgbouncer import PgBouncer
from support.postgres import Postgres
from support.server_stores import SECRET, refusal
from support.store_conformance import ONE, RUN, acquired, lease_of, request, save

refused = functools.partial(refusal, PostgresStore)


@pytest.fixture(scope="module")
def server():
    server = Postgres()
    access = server.data / "pg_hba.conf"
    access.write_text("host all known 127.0.0.1/32 scram-sha-256\n" + access.read_text())
    server.ask("CREATE ROLE known LOGIN PASSWORD 'hun@ter2'")
    server.ask("CREATE ROLE plain LOGIN")
    server.ask("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0"
               " LC_COLLATE 'C' LC_CTYPE 'C'")  # fmt: skip
    server.crash()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def place(server):
    yield f"127.0.0.1:{server.port}"
    server.ask("DROP SCHEMA IF EXISTS mainstay CASCADE")


@pytest.mark.process
@pytest.mark.parametrize(
    ("user", "database", "problem"),
    [
        ("known:wrong", "postgres", "password authentication failed"),
        ("known", "postgres", "no password supplied"),
        (f"postgres:{SECRET}", "missing", 'database "missing" does not exist'),
        (f"nobody:{SECRET}", "postgres", 'role "nobody" does not exist'),
        (f"known:{SECRET}", "postgres?sslmode=require", "does not support SSL"),
        (f"known:{SECRET}", "postgres?sslmode=on", 'invalid sslmode value: "on"'),
        (f"known:{SECRET}", "postgres?keepalives_idle=x", 'invalid integer value "x"'),
        (f"known:{SECRET}", "postgres?service=unknown", 'service "unknown" not found'),
        (f"known:{SECRET}", "postgres?options=-cunknown%3D1", "unrecognized configuration"),
        (f"known:{SECRET}", "postgres?options=-cwork_mem%3Dx", "invalid value for parameter"),
    ],
)
def test_what_no_waiting_mends_is_refused_at_once(place, user, database, problem):
    error = refused(f"postgresql://{user}@{place}/{database}")
    assert problem in str(error)
    assert not error.retryable


@pytest.mark.process
def test_a_server_that_is_not_there_may_come_back(place):
    error = refused(f"postgresql://known:{SECRET}@127.0.0.1:1/postgres")
    assert error.retryable
    assert "Connection refused" in str(error)
    store = PostgresStore(f"postgresql://known:{SECRET}@127.0.0.1:1,{place}/postgres")
    error = refused(f"postgresql://plain:{SECRET}@127.0.0.1:1,{place}/postgres")
    assert "tables are not there" in str(error)
    store.close()


@pytest.mark.process
def test_a_server_that_cannot_be_reached_is_told_where_tables_are_to_be_made(place):
    """Known fault: it raised an exception of our own that nobody could name."""
    with pytest.raises(StoreUnavailableError, match="Connection refused") as error:
        PostgresStore.migrate(f"postgresql://known:{SECRET}@127.0.0.1:1/postgres")
    assert error.value.retryable
    with pytest.raises(StoreUnavailableError, match='role "nobody" does not exist'):
        PostgresStore.migrate(f"postgresql://nobody@{place}/postgres")


@pytest.mark.process
def test_tables_are_made_by_who_may_and_used_by_who_has_been_granted(server, place):
    url = f"postgresql://known:{SECRET}@{place}/postgres"
    assert "have PostgresStore.migrate(url) run once by a user who may" in str(refused(url))
    threads = [
        threading.Thread(target=PostgresStore.migrate, args=(f"postgresql://postgres@{place}",))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.ask("SELECT version FROM mainstay.version") == [(1,)]
    assert "grant the user USAGE" in str(refused(url))
    server.ask("GRANT USAGE ON SCHEMA mainstay TO known")
    server.ask("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mainstay TO known")
    store = PostgresStore(url)
    save(store, acquired(store), b"one", put={0: ONE})
    assert store.load(RUN).latest == b"one"
    store.close()


@pytest.mark.process
def test_tables_of_a_newer_version_and_of_others_are_refused(server, place):
    url = f"postgresql://postgres:{SECRET}@{place}/postgres"
    PostgresStore.migrate(url)
    server.ask("UPDATE mainstay.version SET version = 7")
    assert "it has schema 7, and this mainstay knows 1; upgrade" in str(refused(url))
    server.ask("DELETE FROM mainstay.version")
    assert "another program's" in str(refused(url))
    server.ask("DROP TABLE mainstay.version")
    assert 'relation "run" already exists' in str(refused(url))


@pytest.mark.process
def test_tables_that_are_gone_are_named(server, place):
    url = f"postgresql://postgres:{SECRET}@{place}/postgres"
    store = PostgresStore(url)
    lease = acquired(store)
    server.ask("DROP SCHEMA mainstay CASCADE")
    with pytest.raises(StoreSchemaError, match=r"have PostgresStore\.migrate"):
        save(store, lease, b"one")
    store.close()


@pytest.mark.process
def test_a_server_that_is_read_only_is_named(server, place):
    url = f"postgresql://plain:{SECRET}@{place}/postgres"
    PostgresStore.migrate(f"postgresql://postgres@{place}/postgres")
    server.ask("GRANT ALL ON SCHEMA mainstay TO plain")
    server.ask("GRANT ALL ON ALL TABLES IN SCHEMA mainstay TO plain")
    server.ask("ALTER ROLE plain SET default_transaction_read_only = on")
    try:
        error = refused(url, lambda store: store.acquire(RUN, request()))
        assert error.retryable
        assert "target_session_attrs=read-write" in str(error)
        problems = PostgresStore(url).probe().problems
        assert any("read-only" in problem for problem in problems)
    finally:
        server.ask("ALTER ROLE plain RESET default_transaction_read_only")


@pytest.mark.process
def test_names_that_the_database_cannot_hold_are_refused(place):
    store = PostgresStore(f"postgresql://postgres@{place}/postgres")
    for run in (RunId("a\0b", "c"), RunId("a", "b\0c")):
        for use in (store.load, store.forget, lambda run: store.acquire(run, request())):
            with pytest.raises(ValueError, match="must have no NUL"):
                use(run)
    long = RunId("a", "".join(chr(0x4E00 + number) for number in range(3000)))
    with pytest.raises(ValueError, match="must be below 2,600 bytes together"):
        store.acquire(long, request())
    store.close()
    error = refused(
        f"postgresql://postgres@{place}/latin",
        lambda store: store.acquire(RunId("Ω", "a"), request()),
    )
    assert "UTF8" in str(error)


@pytest.mark.process
def test_texts_for_people_and_slots_may_have_what_the_database_cannot_hold(place):
    store = PostgresStore(f"postgresql://postgres@{place}/postgres")
    lease, odd = acquired(store), Result("a\0\ud800", b"\0")
    store.commit(lease, Change(put={0: odd, 1: odd}))
    store.release(lease, "error", "ValueError: a\0\ud800")
    answer = store.acquire(RUN, request())
    assert answer.record.error == "ValueError: a\\0\\ud800"
    assert answer.contents.results == {0: odd, 1: odd}
    store.close()


@pytest.mark.process
def test_a_hundred_thousand_results_are_read_page_by_page(place):
    store = PostgresStore(f"postgresql://postgres@{place}/postgres")
    lease = acquired(store)
    store.commit(lease, Change(put=dict.fromkeys(range(100_000), ONE), document=b"one"))
    store.release(lease, "error")
    answer = store.acquire(RUN, request())
    assert isinstance(answer, Acquired)
    assert answer.contents.results == store.load(RUN).results == dict.fromkeys(range(100_000), ONE)
    store.commit(lease_of(answer), Change(drop=tuple(range(99_999))))
    assert store.load(RUN).results == {99_999: ONE}
    store.close()


@pytest.mark.process
def test_what_weakens_a_promise_is_told():
    weak = Postgres(full_page_writes="off", synchronous_commit="off")
    try:
        store = PostgresStore(weak.url)
        promises = store.probe()
        assert promises.fenced
        assert not promises.durable
        assert promises.proves_death
        told = ("fsync", "full_page_writes", "synchronous_commit")
        assert len(promises.problems) == len(told)
        for problem, name in zip(promises.problems, told, strict=True):
            assert name in problem
        store.close()
    finally:
        weak.remove()


@pytest.mark.process
def test_an_asynchronous_standby_may_lose_the_last_saves():
    primary = Postgres(fsync="on")
    standby = Postgres(standby_of=primary)
    try:
        store = PostgresStore(primary.url)
        assert store.probe() == Promises(
            fenced=True,
            durable=True,
            failover="may lose the last saves: a standby is asynchronous",
            proves_death=True,
        )
        primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.ask("SELECT pg_reload_conf()")
        while store.probe().failover:
            pass
        store.close()
    finally:
        standby.remove()
        primary.remove()


@pytest.mark.process
def test_a_pooler_is_told_once_and_no_lock_is_held_behind_it(server, place, caplog):
    pooler = PgBouncer(server)
    try:
        store = PostgresStore(pooler.url)
        for number in range(3):
            acquired(store, RunId("a", str(number)))
        [told] = [each.message for each in caplog.records if "pooler" in each.message]
        assert told.startswith(f"{store.url} is behind a pooler, so the death of an owner is known")
        assert not store.probe().proves_death
        assert any("a pooler is in between" in problem for problem in store.probe().problems)
        store.close()
        error = refused(pooler.url, acquired, session_locks=True)
        assert "session_locks=True needs a direct connection" in str(error)
    finally:
        pooler.remove()


@pytest.mark.process
def test_a_pooler_that_hides_itself_breaks_prepared_statements_once(server, place, monkeypatch):
    """Known fault: DuplicatePreparedStatement, and no more is saved."""
    hidden = property(lambda self: True, lambda self, direct: None)
    monkeypatch.setattr(Session, "direct", hidden, raising=False)
    pooler = PgBouncer(server)
    try:
        store = PostgresStore(pooler.url, session_locks=False)
        leases = [acquired(store, RunId("a", str(number))) for number in range(4)]

        def save_all(lease):
            for number in range(20):
                store.commit(lease, Change(document=b"%d" % number, sequence=number + 1))

        with ThreadPoolExecutor() as threads:
            assert [*threads.map(save_all, leases)] == [None] * 4
        assert {store.load(lease.run).latest for lease in leases} == {b"19"}
        assert not store._origin.prepare
        store.close()
    finally:
        pooler.remove()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"pool": 0}, ValueError),
        ({"pool": 65}, ValueError),
        ({"pool": 2.0}, TypeError),
        ({"pool": True}, TypeError),
        ({"prepare": 1}, TypeError),
        ({"session_locks": "no"}, TypeError),
        ({"schema": ""}, ValueError),
        ({"schema": "s" * 49}, ValueError),
        ({"schema": "a\0"}, ValueError),
        ({"schema": 1}, TypeError),
    ],
    ids=str,
)
def test_an_option_out_of_its_range_is_refused(options, error):
    with pytest.raises(error, match=f"`{next(iter(options))}` must"):
        PostgresStore("postgresql://db/jobs", **options)


def test_a_url_says_whether_statements_are_prepared():
    assert not PostgresStore("postgresql://db/jobs?prepare=no")._origin.prepare
    assert PostgresStore("postgresql://db/jobs?prepare=yes")._origin.prepare


def test_a_yes_or_no_of_the_url_is_refused_otherwise():
    with pytest.raises(ValueError, match="`prepare` in the URL must be yes or no"):
        PostgresStore("postgresql://db/jobs?prepare=maybe")
