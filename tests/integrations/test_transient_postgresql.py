"""What `transient` says of what clients of PostgreSQL raise against a real server in trouble.

psycopg, sync and async, psycopg2, asyncpg, and SQLAlchemy over psycopg and asyncpg.
"""

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import ssl
import threading
import time

import psycopg
import psycopg_pool
import pytest
from integrations import faulty
from integrations.verdicts import AGAIN, BOTH, FAILING, NEITHER, said_of, self_signed

from support.postgres import Postgres, whose

pytestmark = pytest.mark.process


# How each of them runs statements: in a connection of its own, one statement after the other.


def with_psycopg(_library, url, *statements):
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def with_async_psycopg(_library, url, *statements):
    async def run():
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            for statement in statements:
                await connection.execute(statement)

    asyncio.run(run())


def with_psycopg2(library, url, *statements):
    with contextlib.closing(library("psycopg2").connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def with_asyncpg(library, url, *statements):
    asyncpg = library("asyncpg")

    async def run():
        connection = await asyncpg.connect(url.partition("?")[0], timeout=2)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            with contextlib.suppress(Exception):
                await connection.close(timeout=1)

    asyncio.run(run())


def with_sqlalchemy(library, url, *statements):
    sqlalchemy = library("sqlalchemy")
    url = url.replace("postgresql:", "postgresql+psycopg:")
    engine = sqlalchemy.create_engine(
        url, poolclass=library("sqlalchemy.pool").NullPool, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def with_sqlalchemy_and_asyncpg(library, url, *statements):
    sqlalchemy, engines = library("sqlalchemy"), library("sqlalchemy.ext.asyncio")
    url = url.replace("postgresql:", "postgresql+asyncpg:").partition("?")[0]
    engine = engines.create_async_engine(
        url,
        poolclass=sqlalchemy.pool.NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": 2},
    )

    async def run():
        async with engine.connect() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)

    asyncio.run(run())


CLIENTS = {
    "psycopg": (with_psycopg,),
    "psycopg, async": (with_async_psycopg,),
    "psycopg2": (with_psycopg2, "psycopg2"),
    "asyncpg": (with_asyncpg, "asyncpg"),
    "SQLAlchemy": (with_sqlalchemy, "sqlalchemy"),
    "SQLAlchemy, async": (with_sqlalchemy_and_asyncpg, "sqlalchemy", "asyncpg", "greenlet"),
}


@pytest.fixture(params=CLIENTS.values(), ids=CLIENTS)
def client(request, library):
    """Runs statements: `client(url, *statements)`."""
    run, *needed = request.param
    for name in needed:
        library(name)
    return functools.partial(run, library)


@pytest.fixture(scope="module")
def server():
    server = Postgres(max_connections="12", deadlock_timeout="50ms")
    server.ask("create table items (name text primary key, number int)")
    server.ask("insert into items values ('a', 1), ('b', 1)")
    yield server
    server.remove()


@pytest.fixture
def short_lived():
    """Starts servers that end with the test."""
    servers = []

    def start(**settings):
        servers.append(Postgres(**settings))
        return servers[-1]

    yield start
    for each in servers:
        each.remove()


def test_a_refused_connection(client):
    url = f"postgresql://postgres@127.0.0.1:{faulty.free_port()}/postgres?connect_timeout=2"
    assert said_of(client, url, "select 1") == BOTH


def test_a_name_that_is_not_found(client):
    assert said_of(client, "postgresql://postgres@no.such.invalid/postgres", "select 1") == BOTH


def test_a_server_that_was_stopped(client, server):
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        assert said_of(client, server.url, "select 1") == BOTH
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


def test_a_server_that_starts(client, short_lived):
    assert said_of(client, short_lived(for_ever_starting=True).url, "select 1") == BOTH


def test_a_standby_that_takes_no_connections(client, server, short_lived):
    server = short_lived(standby_of=server, hot_standby="off", refuses=True)
    assert said_of(client, server.url, "select 1") == BOTH


def test_a_server_that_is_killed_while_it_works(client, short_lived):
    server = short_lived()
    with working(client, server) as outcome:
        processes = server.ask("select pid from pg_stat_activity where query like '%pg_sleep(60)'")
        server.stop()
        for (pid,) in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert outcome == [BOTH]


def test_a_server_that_is_shut_down_while_it_works(client, short_lived):
    server = short_lived()
    with working(client, server) as outcome:
        os.kill(server.process.pid, signal.SIGINT)
    assert outcome == [BOTH]


def test_another_process_of_the_server_that_crashes(client, short_lived):
    server = short_lived(restart_after_crash="on")
    with working(client, server) as outcome, psycopg.connect(server.url) as other:
        os.kill(other.info.backend_pid, signal.SIGKILL)
        end = time.monotonic() + 30
        while outcome == [] and time.monotonic() < end:
            time.sleep(0.02)
    assert outcome == [BOTH]


def test_a_connection_that_the_administrator_ends(client, server):
    with working(client, server) as outcome:
        server.ask("select pg_terminate_backend(pid) from pg_stat_activity"
                   " where query like '%pg_sleep(60)' and pid <> pg_backend_pid()")  # fmt: skip
    assert outcome == [BOTH]


def test_too_many_clients(client, server):
    with contextlib.ExitStack() as others:
        for _ in range(12):
            with contextlib.suppress(psycopg.OperationalError):
                others.enter_context(psycopg.connect(server.url))
        assert said_of(client, server.url, "select 1") == BOTH


def test_too_many_clients_of_one_user(client, server):
    server.ask("create role guest login connection limit 1")
    url = server.url.replace("postgres@", "guest@")
    try:
        with psycopg.connect(url):
            assert said_of(client, url, "select 1") == BOTH
    finally:
        ended(server, "guest")
        server.ask("drop role guest")


def test_a_password_that_is_wrong(client, server):
    server.ask("create role visitor login password 'right'")
    rules = server.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"host all visitor all scram-sha-256\n{before}")
    server.ask("select pg_reload_conf()")
    url = server.url.replace("postgres@", "visitor:wrong@")
    try:
        assert said_of(client, url, "select 1") == NEITHER
    finally:
        rules.write_text(before)
        server.ask("select pg_reload_conf()")
        server.ask("drop role visitor")


def test_a_certificate_that_is_refused(library, short_lived, tmp_path):
    server = short_lived()
    mine, theirs = self_signed(server.data), self_signed(tmp_path)
    shutil.chown(mine, **(whose() or {"user": os.geteuid()}))
    mine.chmod(0o600)
    server.ask(f"alter system set ssl_cert_file = '{mine}'")
    server.ask(f"alter system set ssl_key_file = '{mine}'")
    server.ask("alter system set ssl = on")
    server.ask("select pg_reload_conf()")
    asyncpg = library("asyncpg")
    context = ssl.create_default_context(cafile=theirs)

    async def with_asyncpg():
        await asyncpg.connect(server.url.partition("?")[0], ssl=context)

    url = f"{server.url}&sslmode=verify-full&sslrootcert={theirs}"
    for run in with_psycopg, with_async_psycopg, with_psycopg2, with_sqlalchemy:
        assert said_of(run, library, url, "select 1") == NEITHER
    assert said_of(lambda: asyncio.run(with_asyncpg())) == NEITHER


def test_a_database_that_is_not_there(client, server):
    url = server.url.replace("/postgres?", "/nowhere?")
    assert said_of(client, url, "select 1") == NEITHER


def test_a_database_that_takes_no_connections(client, server):
    server.ask("drop database if exists closed")
    server.ask("create database closed allow_connections false")
    url = server.url.replace("/postgres?", "/closed?")
    assert said_of(client, url, "select 1") == NEITHER


def test_a_deadlock(client, server):
    with psycopg.connect(server.url) as other:
        other.execute("set deadlock_timeout = '60s'")
        other.execute("update items set number = 2 where name = 'a'")
        with in_thread(other, "update items set number = 2 where name = 'b'", wait=0.2):
            said = said_of(client, server.url, "begin",
                           "update items set number = 3 where name = 'b'", "select pg_sleep(0.6)",
                           "update items set number = 3 where name = 'a'")  # fmt: skip
    assert said == AGAIN


def test_transactions_that_cannot_be_put_in_an_order(client, server):
    with in_thread(server, "update items set number = number + 1 where name = 'a'", wait=0.3):
        said = said_of(client, server.url, "begin isolation level repeatable read",
                       "select * from items", "select pg_sleep(0.8)",
                       "update items set number = 5 where name = 'a'")  # fmt: skip
    assert said == AGAIN


def test_a_lock_that_somebody_has(client, server):
    update = "update items set number = 2 where name = 'a'"
    with psycopg.connect(server.url) as other:
        other.execute(update)
        assert said_of(client, server.url, "set lock_timeout = '50ms'", update) == AGAIN
        nowait = "select * from items where name = 'a' for update nowait"
        assert said_of(client, server.url, nowait) == AGAIN


def test_a_statement_that_took_too_long(client, server):
    """As a deadline of gRPC: it is no second attempt, but a server that hangs opens a breaker."""
    slow = "select pg_sleep(5)"
    assert said_of(client, server.url, "set statement_timeout = '50ms'", slow) == FAILING


@pytest.mark.parametrize("limit", ["idle_in_transaction_session_timeout", "idle_session_timeout"])
def test_a_connection_that_was_idle_for_too_long(server, limit):
    def call():
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"set {limit} = '50ms'")
            if limit.startswith("idle_in"):
                connection.execute("begin")
            time.sleep(0.3)
            connection.execute("select 1")

    assert said_of(call) == AGAIN


def test_a_transaction_that_may_only_read(client, server):
    update = "update items set number = 2 where name = 'a'"
    assert said_of(client, server.url, "begin read only", update) == BOTH


@pytest.mark.parametrize(
    "statement", ["insert into items values ('a', 1)", "select nothing", "select 1 / 0"]
)
def test_a_statement_that_is_wrong(client, server, statement):
    assert said_of(client, server.url, statement) == NEITHER


def test_a_connection_that_was_lost_before(server, library):
    """The next one may be another one: of a pool, or of who opens one on each attempt."""
    asyncpg, psycopg2 = library("asyncpg"), library("psycopg2")

    def with_psycopg2():
        connection = psycopg2.connect(server.url)
        connection.close()
        connection.cursor()

    def with_psycopg():
        with psycopg.connect(server.url) as connection:
            connection.close()
            connection.execute("select 1")

    async def with_asyncpg():
        connection = await asyncpg.connect(server.url.partition("?")[0])
        await connection.close()
        await connection.execute("select 1")

    assert said_of(with_psycopg) == BOTH
    assert said_of(with_psycopg2) == BOTH
    assert said_of(lambda: asyncio.run(with_asyncpg())) == BOTH


def test_two_statements_at_once_in_one_connection_of_asyncpg(server, library):
    asyncpg = library("asyncpg")

    async def call():
        connection = await asyncpg.connect(server.url.partition("?")[0])
        try:
            both = [connection.execute("select pg_sleep(0.1)") for _ in range(2)]
            results = await asyncio.gather(*both, return_exceptions=True)
        finally:
            await connection.close()
        raise next(each for each in results if isinstance(each, Exception))

    assert said_of(lambda: asyncio.run(call())) == NEITHER


def test_a_pool_of_psycopg(server):
    with psycopg_pool.ConnectionPool(server.url, min_size=1, max_size=1, max_waiting=1) as pool:
        pool.wait()
        with pool.connection():
            assert said_of(pool.getconn, timeout=0.05) == BOTH
            waiting = threading.Thread(target=said_of, args=(pool.getconn, 0.5))
            waiting.start()
            end = time.monotonic() + 10
            while pool.get_stats().get("requests_waiting", 0) < 1 and time.monotonic() < end:
                time.sleep(0.01)
            assert said_of(pool.getconn, timeout=0.05) == BOTH
            waiting.join()
    assert said_of(pool.getconn) == NEITHER


def test_a_pool_of_sqlalchemy(server, library):
    sqlalchemy = library("sqlalchemy")
    url = server.url.replace("postgresql:", "postgresql+psycopg:")
    engine = sqlalchemy.create_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    with engine.connect():
        assert said_of(engine.connect) == BOTH
    engine.dispose()


def test_a_server_that_is_not_the_primary_any_more(server, library, short_lived):
    asyncpg = library("asyncpg")
    standby = short_lived(standby_of=server)

    async def call():
        url = standby.url.partition("?")[0]
        await asyncpg.connect(url, target_session_attrs="primary")

    assert said_of(lambda: asyncio.run(call())) == BOTH
    url = f"{standby.url}&target_session_attrs=read-write"
    assert said_of(psycopg.connect, url) == BOTH
    assert said_of(with_psycopg, library, standby.url, "create table a ()") == BOTH


@contextlib.contextmanager
def working(client, server):
    """Have a client work until the block is left; gives a list that its verdict comes into."""
    outcome = []

    def work():
        outcome.append(said_of(client, server.url, "select pg_sleep(60)"))

    thread = threading.Thread(target=work)
    thread.start()
    end = time.monotonic() + 30
    while not server.ask("select 1 from pg_stat_activity where query like '%pg_sleep(60)'"
                         " and pid <> pg_backend_pid()"):  # fmt: skip
        assert time.monotonic() < end, "it never began to work"
        time.sleep(0.02)
    try:
        yield outcome
    finally:
        thread.join(30)


@contextlib.contextmanager
def in_thread(other, *statements, wait=0.0):
    """Run statements beside the block."""

    def work():
        time.sleep(wait)
        for statement in statements:
            with contextlib.suppress(psycopg.Error):
                (other.ask if isinstance(other, Postgres) else other.execute)(statement)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)


def ended(server, user):
    """Wait until a user has no connection left."""
    end = time.monotonic() + 10
    while server.ask(f"select 1 from pg_stat_activity where usename = '{user}'"):  # noqa: S608
        assert time.monotonic() < end
        time.sleep(0.02)
