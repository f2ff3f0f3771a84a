"""What `transient` says of what sqlite3, PyMySQL and pymongo raise, and SQLAlchemy over them.

sqlite3 meets real files; the others servers on loopback that speak as the real ones do.
"""

import asyncio
import contextlib
import functools
import socket
import sqlite3
import ssl

import pytest
from integrations import fake_databases, faulty
from integrations.verdicts import AGAIN, BOTH, FAILING, NEITHER, said_of, self_signed

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore::ResourceWarning")]

PATIENCE = 0.5


# SQLite.


def ask_sqlite(path, *statements):
    with contextlib.closing(sqlite3.connect(path, timeout=0.05, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement).fetchall()


def ask_sqlalchemy(library, path, *statements):
    engine = library("sqlalchemy").create_engine(
        f"sqlite:///{path}", connect_args={"timeout": 0.05}
    )
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement).all()
    engine.dispose()


@pytest.fixture(params=["sqlite3", "SQLAlchemy"])
def ask(request, library):
    if request.param == "sqlite3":
        return ask_sqlite
    library("sqlalchemy")
    return functools.partial(ask_sqlalchemy, library)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "some.db"
    ask_sqlite(path, "create table items (name text primary key)", "insert into items values ('a')")
    return path


@contextlib.contextmanager
def held(path, *statements):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement).fetchall()
        yield db


def test_a_file_that_somebody_writes(ask, path):
    with held(path, "begin exclusive"):
        assert said_of(ask, path, "select * from items") == AGAIN


def test_a_table_that_somebody_uses_through_the_same_cache(path):
    url = f"file:{path}?cache=shared"
    with (
        contextlib.closing(sqlite3.connect(url, uri=True, isolation_level=None)) as first,
        contextlib.closing(sqlite3.connect(url, uri=True, isolation_level=None)) as second,
    ):
        first.execute("begin")
        first.execute("insert into items values ('b')")
        assert said_of(second.execute, "select * from items") == AGAIN


def test_what_was_read_before_somebody_wrote(path):
    ask_sqlite(path, "pragma journal_mode = wal")
    with held(path, "begin", "select * from items") as reader:
        ask_sqlite(path, "insert into items values ('b')")
        assert said_of(reader.execute, "insert into items values ('c')") == AGAIN


@pytest.mark.parametrize(
    "statement", ["insert into items values ('a')", "select nothing", "select * from nowhere"]
)
def test_a_statement_that_is_wrong(ask, path, statement):
    assert said_of(ask, path, statement) == NEITHER


def test_a_file_that_is_not_there(ask, path):
    assert said_of(ask, path / "no" / "such", "select 1") == NEITHER


# PyMySQL.


def ask_pymysql(library, port, host="127.0.0.1", **options):
    pymysql = library("pymysql")
    limits = {"connect_timeout": PATIENCE, "read_timeout": PATIENCE, "write_timeout": PATIENCE}
    with (
        contextlib.closing(
            pymysql.connect(host=host, port=port, user="a", **limits, **options)
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("select 1")


def ask_mysql_by_sqlalchemy(library, port, host="127.0.0.1", **options):
    pymysql, sqlalchemy = library("pymysql"), library("sqlalchemy")
    limits = {"connect_timeout": PATIENCE, "read_timeout": PATIENCE}
    connect = functools.partial(
        pymysql.connect, host=host, port=port, user="a", **limits, **options
    )
    engine = sqlalchemy.create_engine("mysql+pymysql://", creator=connect, _initialize=False)
    with engine.connect() as connection:
        connection.exec_driver_sql("select 1")


@pytest.fixture(params=[ask_pymysql, ask_mysql_by_sqlalchemy], ids=["PyMySQL", "SQLAlchemy"])
def ask_mysql(request, library):
    library("pymysql")
    library("sqlalchemy")
    return functools.partial(request.param, library)


def hangs(_connection, over):
    over.wait(5)


def resets(connection, _over):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, faulty.RESET)


def closes(_connection, _over):
    pass


class TestMySQL:
    def test_a_refused_connection(self, ask_mysql):
        assert said_of(ask_mysql, faulty.free_port()) == BOTH

    def test_a_name_that_is_not_found(self, ask_mysql):
        assert said_of(ask_mysql, faulty.free_port(), host="no.such.invalid") == BOTH

    @pytest.mark.parametrize("fault", [hangs, resets, closes])
    def test_a_server_that_breaks_off(self, ask_mysql, fault):
        with faulty.FaultyServer(fault) as server:
            assert said_of(ask_mysql, server.port) == BOTH
        with faulty.FaultyServer(fake_databases.mysql(fault)) as server:
            assert said_of(ask_mysql, server.port) == BOTH

    @pytest.mark.parametrize(
        ("code", "message", "expected"),
        [
            (1040, "Too many connections", BOTH),
            (1203, "User a already has more than 'max_user_connections' connections", BOTH),
            (1045, "Access denied for user 'a'@'localhost'", NEITHER),
            (1049, "Unknown database 'a'", NEITHER),
            (1129, "Host is blocked because of many connection errors", NEITHER),
        ],
    )
    def test_a_server_that_refuses_a_client(self, ask_mysql, code, message, expected):
        with faulty.FaultyServer(fake_databases.mysql_refuses(code, message)) as server:
            assert said_of(ask_mysql, server.port) == expected

    @pytest.mark.parametrize(
        ("code", "message", "expected"),
        [
            (1020, "Record has changed since last read in table 'a'", AGAIN),
            (1053, "Server shutdown in progress", BOTH),
            (1062, "Duplicate entry", NEITHER),
            (1064, "You have an error in your SQL syntax", NEITHER),
            (1205, "Lock wait timeout exceeded", AGAIN),
            (1213, "Deadlock found when trying to get lock", AGAIN),
            (1290, "The MySQL server is running with the --read-only option", BOTH),
            (1290, "The MySQL server is running with the --super-read-only option", BOTH),
            (1290, "The MySQL server is running with the --secure-file-priv option", NEITHER),
            (1836, "Running in read-only mode", BOTH),
            (1969, "Query execution was interrupted (max_statement_time exceeded)", FAILING),
            (3024, "maximum statement execution time exceeded", FAILING),
            (3101, "Plugin instructed the server to rollback the current transaction", AGAIN),
            (3572, "Statement aborted because lock(s) could not be acquired immediately", AGAIN),
            (4031, "The client was disconnected by the server because of inactivity", AGAIN),
        ],
    )
    def test_a_server_that_answers_with_an_error(self, ask_mysql, code, message, expected):
        with faulty.FaultyServer(fake_databases.mysql_says(code, message)) as server:
            assert said_of(ask_mysql, server.port) == expected

    def test_a_connection_that_was_lost_before(self, library):
        pymysql = library("pymysql")
        with faulty.FaultyServer(fake_databases.mysql(closes)) as server:
            connection = pymysql.connect(host="127.0.0.1", port=server.port, user="a")
            connection.close()
            assert said_of(connection.query, "select 1") == BOTH

    def test_a_certificate_that_is_refused(self, ask_mysql, tmp_path):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self_signed(tmp_path))
        with faulty.FaultyServer(fake_databases.mysql_with_tls(context)) as server:
            theirs = ssl.create_default_context()
            assert said_of(ask_mysql, server.port, ssl=theirs) == NEITHER


# pymongo.


def insert(library, port, host="127.0.0.1", **options):
    pymongo = library("pymongo")
    limits = dict.fromkeys(
        ("serverSelectionTimeoutMS", "connectTimeoutMS", "socketTimeoutMS"), 1000 * PATIENCE
    )
    with pymongo.MongoClient(
        host, port, retryWrites=False, retryReads=False, **limits, **options
    ) as client:
        client.shop.items.insert_one({"name": "a"})


def find(library, port, host="127.0.0.1", **options):
    pymongo = library("pymongo")
    limits = dict.fromkeys(
        ("serverSelectionTimeoutMS", "connectTimeoutMS", "socketTimeoutMS"), 1000 * PATIENCE
    )
    with pymongo.MongoClient(host, port, retryReads=False, **limits, **options) as client:
        client.shop.items.find_one()


@pytest.fixture(params=[insert, find])
def ask_mongo(request, library):
    library("pymongo")
    return functools.partial(request.param, library)


def says(code, message="said", *, labels=(), name="Said"):
    """Return what answers with an error."""
    said = {"ok": 0, "code": code, "errmsg": message, "codeName": name}
    return lambda _asked, _over: {**said, "errorLabels": [*labels]}


def breaks(_asked, _over):
    raise ConnectionResetError


def keeps_waiting(_asked, over):
    over.wait(5)
    raise ConnectionResetError


class TestMongoDB:
    def test_a_refused_connection(self, ask_mongo):
        assert said_of(ask_mongo, faulty.free_port()) == BOTH

    def test_a_name_that_is_not_found(self, ask_mongo):
        assert said_of(ask_mongo, faulty.free_port(), host="no.such.invalid") == BOTH

    @pytest.mark.parametrize("fault", [hangs, resets, closes])
    def test_a_server_that_does_not_greet(self, ask_mongo, fault):
        with faulty.FaultyServer(fault) as server:
            assert said_of(ask_mongo, server.port) == BOTH

    @pytest.mark.parametrize("fault", [breaks, keeps_waiting])
    def test_a_server_that_breaks_off(self, library, ask_mongo, fault):
        behave = fake_databases.mongo(library("bson"), fault)
        with faulty.FaultyServer(behave) as server:
            assert said_of(ask_mongo, server.port) == BOTH

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            (says(13, "not authorized on shop"), NEITHER),
            (says(18, "Authentication failed"), NEITHER),
            (says(24, "LockTimeout"), AGAIN),
            (says(46, "LockBusy"), AGAIN),
            (says(50, "operation exceeded time limit"), FAILING),
            (says(91, "ShutdownInProgress"), BOTH),
            (says(112, "WriteConflict"), AGAIN),
            (says(112, "WriteConflict", labels=["TransientTransactionError"]), AGAIN),
            (says(189, "PrimarySteppedDown"), BOTH),
            (says(10107, "not primary"), BOTH),
            (says(11600, "interrupted at shutdown"), BOTH),
            (says(8000, "said", labels=["RetryableWriteError"]), BOTH),
            (says(9, "FailedToParse"), NEITHER),
        ],
        ids=lambda value: value({}, None)["errmsg"] if callable(value) else None,
    )
    def test_a_server_that_answers_with_an_error(self, library, ask_mongo, said, expected):
        with faulty.FaultyServer(fake_databases.mongo(library("bson"), said)) as server:
            assert said_of(ask_mongo, server.port) == expected

    @pytest.mark.parametrize(
        ("code", "expected"), [(11000, NEITHER), (112, AGAIN), (189, BOTH), (91, BOTH)]
    )
    def test_a_write_that_failed(self, library, code, expected):
        def behave(asked, _over):
            error = {"index": 0, "code": code, "errmsg": "said"}
            return {"ok": 1, "n": 0, "writeErrors": [error]}

        with faulty.FaultyServer(fake_databases.mongo(library("bson"), behave)) as server:
            assert said_of(insert, library, server.port) == expected

    def test_a_certificate_that_is_refused(self, ask_mongo, tmp_path):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self_signed(tmp_path))

        def behave(connection, _over):
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(1 << 16)

        with faulty.FaultyServer(behave) as server:
            assert said_of(ask_mongo, server.port, tls=True) == NEITHER


# What asyncio makes of several addresses.


def test_a_name_with_several_addresses_that_all_refuse(monkeypatch):
    """Its `OSError` has no number then, but names that of each address."""
    port = faulty.free_port()
    assert said_of(lambda: asyncio.run(connect(port, monkeypatch))) == BOTH


async def connect(port, monkeypatch):
    async def both(*_args, **_options):
        family, kind = socket.AF_INET, socket.SOCK_STREAM
        return [(family, kind, 0, "", (host, port)) for host in ("127.0.0.1", "127.0.0.2")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    await asyncio.open_connection("a.example", port)
