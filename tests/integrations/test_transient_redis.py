"""What `transient` says of the errors that redis-py raises against a real server in trouble."""

import asyncio
import contextlib
import signal
import ssl
import threading
import time

import pytest
import redis
import redis.asyncio
from integrations import faulty
from integrations.verdicts import AGAIN, BOTH, NEITHER, said_of, self_signed
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from mainstay import transient
from support.redis_servers import RedisServer

pytestmark = pytest.mark.process

PATIENCE = 0.3
ENDLESS = "while true do end"


def sync_call(port, *command, **options):
    """Run one command in a connection of its own, which the client repeats nothing of."""
    options = {"socket_timeout": PATIENCE, "retry": Retry(NoBackoff(), 0), **options}
    with redis.Redis(port=port, **options) as client:
        return client.execute_command(*command)


def async_call(port, *command, **options):
    async def call():
        given = {"socket_timeout": PATIENCE, "retry": AsyncRetry(NoBackoff(), 0), **options}
        async with redis.asyncio.Redis(port=port, **given) as client:
            return await client.execute_command(*command)

    return asyncio.run(call())


@pytest.fixture(params=[sync_call, async_call], ids=["sync", "async"])
def call(request):
    return request.param


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("redis")


@pytest.fixture
def serve(directory):
    """Starts servers, which end with the test."""
    servers = []

    def start(*options):
        servers.append(RedisServer(directory, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def test_a_refused_connection(call):
    assert said_of(call, faulty.free_port(), "GET", "a") == BOTH


def test_a_name_that_is_not_found(call):
    assert said_of(call, faulty.free_port(), "GET", "a", host="no.such.invalid") == BOTH


def test_a_server_that_was_stopped(call, serve):
    server = serve()
    server.signal(signal.SIGSTOP)
    assert said_of(call, server.port, "GET", "a") == BOTH


def test_a_server_that_is_killed_while_it_works(call, serve):
    server = serve()
    timer = threading.Timer(0.2, server.kill)
    timer.start()
    assert said_of(call, server.port, "BLPOP", "a", 30, socket_timeout=30) == BOTH
    timer.join()


def test_a_server_that_reads_its_data(call, serve):
    server = serve("--enable-debug-command", "local")
    sync_call(server.port, "CONFIG", "SET", "key-load-delay", "20000")
    sync_call(server.port, "CONFIG", "SET", "loading-process-events-interval-bytes", "1024")
    sync_call(server.port, "DEBUG", "POPULATE", "1000", socket_timeout=10)
    with busy_with(server, "DEBUG", "RELOAD"):
        assert said_of(call, server.port, "GET", "a") == BOTH


def test_a_server_that_has_become_a_replica(call, serve):
    server = serve("--replicaof", "127.0.0.1", str(faulty.free_port()))
    assert said_of(call, server.port, "SET", "a", "1") == BOTH


def test_a_replica_that_has_lost_its_primary(call, serve):
    nobody = str(faulty.free_port())
    server = serve("--replicaof", "127.0.0.1", nobody, "--replica-serve-stale-data", "no")
    assert said_of(call, server.port, "GET", "a") == BOTH


def test_a_primary_that_has_too_few_replicas(call, serve):
    server = serve("--min-replicas-to-write", "1")
    assert said_of(call, server.port, "SET", "a", "1") == BOTH


def test_a_command_of_a_pipeline(serve):
    server = serve("--min-replicas-to-write", "1")
    with redis.Redis(port=server.port) as client, client.pipeline(transaction=False) as pipe:
        pipe.get("a").set("a", "1")
        assert said_of(pipe.execute) == BOTH


def test_a_server_that_is_busy_with_a_script(call, serve):
    server = serve("--busy-reply-threshold", "1")
    with busy_with(server, "EVAL", ENDLESS, 0):
        assert said_of(call, server.port, "GET", "a") == BOTH


def test_a_server_that_has_too_many_clients(call, serve):
    server = serve("--maxclients", "1")
    with redis.Redis(port=server.port, single_connection_client=True) as other:
        other.ping()
        assert said_of(call, server.port, "GET", "a") == BOTH


def test_a_pool_of_the_client_that_is_empty(serve):
    server = serve()
    pool = redis.ConnectionPool(port=server.port, max_connections=1)
    with redis.Redis(connection_pool=pool, single_connection_client=True) as first:
        first.ping()
        assert said_of(redis.Redis(connection_pool=pool).ping) == BOTH
    pool.disconnect()


def test_what_somebody_else_has_changed(serve):
    server = serve()

    def transaction():
        with redis.Redis(port=server.port) as client, client.pipeline() as pipe:
            pipe.watch("a")
            sync_call(server.port, "SET", "a", "other")
            pipe.multi()
            pipe.set("a", "mine")
            pipe.execute()

    assert said_of(transaction) == AGAIN


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_password_that_is_missing_or_wrong(call, serve, password):
    server = serve("--requirepass", "secret")
    assert said_of(call, server.port, "GET", "a", password=password) == NEITHER


def test_a_user_who_may_not(call, serve):
    server = serve()
    sync_call(server.port, "ACL", "SETUSER", "reader", "on", "nopass", "+hello", "+client")
    said = said_of(call, server.port, "GET", "a", username="reader", password="any")  # noqa: S106
    assert said == NEITHER


@pytest.mark.parametrize(
    "command",
    [
        ("LPUSH", "text", "1"),  # WRONGTYPE
        ("XGROUP", "CREATE", "stream", "group", "$"),  # BUSYGROUP
        ("NO", "SUCH"),
        ("EVALSHA", "0" * 40, 0),  # NOSCRIPT
    ],
    ids=lambda command: command[0],
)
def test_a_command_that_is_wrong(call, serve, command):
    server = serve()
    sync_call(server.port, "SET", "text", "1")
    sync_call(server.port, "XGROUP", "CREATE", "stream", "group", "$", "MKSTREAM")
    assert said_of(call, server.port, *command) == NEITHER


def test_a_server_that_has_no_memory_left(call, serve):
    server = serve("--maxmemory", "1")
    assert said_of(call, server.port, "SET", "a", "1") == NEITHER


def test_a_certificate_that_is_refused(call, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))

    def behave(connection, _over):
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1 << 16)

    with faulty.FaultyServer(behave) as server:
        assert said_of(call, server.port, "GET", "a", ssl=True) == NEITHER


def test_it_is_not_said_that_nothing_was_sent_where_something_was(serve):
    server = serve()
    timer = threading.Timer(0.2, server.kill)
    timer.start()
    with pytest.raises(redis.ConnectionError) as caught:
        sync_call(server.port, "BLPOP", "a", 30, socket_timeout=30)
    timer.join()
    assert "nothing was sent" not in transient.why(caught.value)


@contextlib.contextmanager
def busy_with(server, *command):
    """Keep a server busy with *command* until the block is left; then it is killed."""

    def work():
        with contextlib.suppress(redis.RedisError):
            sync_call(server.port, *command, socket_timeout=60)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        end = time.monotonic() + 30
        while True:
            try:
                sync_call(server.port, "GET", "a", socket_timeout=1)
            except redis.RedisError:
                break
            assert time.monotonic() < end, "it was never busy"
        yield
    finally:
        server.kill()
        thread.join()
