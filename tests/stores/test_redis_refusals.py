"""What `RedisStore` refuses, and how: one error that says what to do, and never a password."""

import asyncio
import functools
import threading
from datetime import timedelta

import pytest
import redis

from mainstay.errors import CorruptCheckpointError, StoreSchemaError, StoreUnavailableError
from mainstay.stores._redis.failures import lost
from mainstay.stores._redis.failures import refused as refused_by
from mainstay.stores._redis.probing import survey
from mainstay.stores.base import Change, Contents, Promises
from mainstay.stores.redis import RedisStore
from mainstay.stores.selection import count_runs, surplus_runs
from support.pools import LONGEST
from support.processes import LOOPBACK
from support.redis_servers import DURABLE, RedisServer
from support.server_stores import SECRET, refusal, wait_for_release
from support.store_conformance import ONE, OTHER, RUN, TWO, acquired, request, save

refused = functools.partial(refusal, RedisStore)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"), *DURABLE)
    with redis.Redis(port=server.port) as client:
        client.acl_setuser("app", enabled=True, passwords=["+hun@ter2"], keys=["{mainstay}:*"],
                           commands=["+@all", "-config"])  # fmt: skip
        client.acl_setuser("guest", enabled=True, passwords=["+hun@ter2"], keys=["other:*"],
                           commands=["+@all"])  # fmt: skip
    yield server
    server.stop()


@pytest.fixture
def client(server):
    with redis.Redis(port=server.port) as client:
        client.flushall()
        yield client
        client.flushall()
        for setting, value in (
            ("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction"),
            ("maxmemory", "0"), ("maxclients", "10000"),
        ):  # fmt: skip
            client.config_set(setting, value)


def url_of(server, user="", query=""):
    return f"redis://{user}{'@' if user else ''}{LOOPBACK}:{server.port}/0{query}"


@pytest.mark.process
@pytest.mark.parametrize(
    ("user", "problem"),
    [
        ("app:wrong", "mend user and password in the URL"),
        (f"nobody:{SECRET}", "mend user and password in the URL"),
        (f":{SECRET}", "mend user and password in the URL"),
        (f"guest:{SECRET}", "grant the user the keys {mainstay}:*"),
    ],
)
@pytest.mark.parametrize("caller_of", ["sync", "async"])
def test_what_no_waiting_mends_is_refused_at_once(server, client, user, problem, caller_of):
    use = acquired if caller_of == "sync" else lambda s: asyncio.run(s.aacquire(RUN, request()))
    error = refused(url_of(server, user), use)
    assert problem in str(error)
    assert not error.retryable


@pytest.mark.parametrize("timeout", [1e10, 1e300, timedelta.max, timedelta(seconds=5)])
@pytest.mark.parametrize("caller_of", ["sync", "async"])
def test_a_timeout_may_be_longer_than_a_socket_can_wait(timeout, caller_of):
    use = acquired if caller_of == "sync" else lambda s: asyncio.run(s.aacquire(RUN, request()))
    error = refused(f"redis://{LOOPBACK}:1/0", use, timeout=timeout)
    assert "connecting to" in str(error)


@pytest.mark.process
def test_a_server_that_is_not_there_may_come_back(server, client):
    error = refused(f"redis://app:{SECRET}@{LOOPBACK}:1/0")
    assert error.retryable
    assert "Connection refused" in str(error)


@pytest.mark.process
def test_a_server_that_has_no_such_database_is_refused(server, client):
    error = refused(f"redis://{LOOPBACK}:{server.port}/4711")
    assert "DB index is out of range" in str(error)
    assert not error.retryable


@pytest.mark.process
@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "damaged"])
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_a_file_that_is_no_certificate_is_named_and_not_asked_for_again(
    server, client, tmp_path, option, content
):
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    error = refused(f"rediss://{LOOPBACK}:{server.port}/0?{option}={path}")
    assert "mend the files that ssl_ca_certs=, ssl_certfile= and ssl_keyfile= name" in str(error)
    assert not error.retryable


@pytest.mark.process
@pytest.mark.parametrize(
    ("settings", "query", "problem"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, "", "set maxmemory-policy noeviction"),
        ({"appendfsync": "everysec"}, "", "accept the loss of a second by appendfsync everysec"),
        ({"appendfsync": "no"}, "?durability=everysec", "appendfsync is no"),
        ({"appendonly": "no"}, "?durability=everysec", "appendonly is off"),
    ],
    ids=str,
)
def test_a_server_that_loses_what_was_saved_is_refused_before_the_first_run(
    server, client, settings, query, problem
):
    """Known faults 18 and 19: Redis as it is set up by default loses saves."""
    for setting, value in settings.items():
        client.config_set(setting, value)
    error = refused(url_of(server, query=query))
    assert problem in str(error)
    assert not error.retryable
    assert client.keys("*:run:*") == []
    store = RedisStore(url_of(server, query=query))
    assert any(problem in each for each in store.probe().problems)
    assert not store.probe().durable or "memory" in problem
    store.close()


@pytest.mark.process
def test_what_a_server_promises_is_asked(server, client):
    store = RedisStore(url_of(server))
    assert store.probe() == Promises(fenced=True, durable=True)
    store.close()
    client.config_set("appendfsync", "everysec")
    store = RedisStore(url_of(server, query="?durability=everysec"))
    promises = store.probe()
    assert not promises.durable
    assert "loses the saves of its last second" in promises.problems[0]
    save(store, acquired(store), b"one")
    store.close()


@pytest.mark.process
def test_a_server_that_hides_its_settings_is_used_and_that_is_told(server, client):
    """Known fault: managed services refuse CONFIG."""
    store = RedisStore(url_of(server, f"app:{SECRET}"))
    promises = store.probe()
    assert not promises.durable
    assert "does not show its setting appendfsync" in promises.problems[0]
    save(store, acquired(store), b"one")
    store.close()


@pytest.mark.process
def test_a_user_needs_no_more_than_the_commands_that_are_named(server, client):
    commands = """evalsha script|load set get time info config|get hmget hgetall hget hset hdel zadd
        zrem zrangebylex zrangebyscore zrevrange unlink client|setname select publish
        subscribe unsubscribe"""
    client.acl_setuser("least", enabled=True, passwords=["+hun@ter2"], keys=["{mainstay}:*"],
                       reset_channels=True, channels=["{mainstay}:*"],
                       commands=[f"+{each}" for each in commands.split()])  # fmt: skip
    store = RedisStore(url_of(server, f"least:{SECRET}"))
    assert store.probe() == Promises(fenced=True, durable=True)
    lease = acquired(store)
    save(store, lease, b"one", put={0: ONE, 1: ONE}, drop=(0,))
    assert store.renew([lease]) == []
    assert len(store.list()) == 1
    threading.Timer(0.1, store.release, (lease, "error", "", (1,))).start()
    assert wait_for_release(store, "sync") < LONGEST / 2
    assert surplus_runs(store, RUN, 1, 60.0, 0.0) == []
    assert store.forget(RUN)
    store.close()


def test_a_server_that_is_too_old_is_refused():
    facts = {"redis_version": "5.0.14", "aof_enabled": "1", "maxmemory_policy": "noeviction"}
    found = survey(facts, "always", everysec=False)
    assert found.fatal == ("it is Redis 5.0.14, and 6 or newer is needed; upgrade the server",)


@pytest.mark.process
def test_a_server_without_memory_refuses_and_keeps_what_there_is(server, client):
    store = RedisStore(url_of(server))
    lease = acquired(store)
    save(store, lease, b"one", put={0: ONE})
    client.config_set("maxmemory", "1")
    with pytest.raises(StoreUnavailableError, match="give the server more memory") as full:
        save(store, lease, b"two", put={1: TWO}, drop=(0,))
    assert not full.value.retryable
    client.config_set("maxmemory", "0")
    assert store.load(RUN) == Contents(b"one", None, {0: ONE})
    save(store, lease, b"two")
    store.close()


@pytest.mark.process
def test_runs_of_a_newer_version_are_refused(server, client):
    client.set("{mainstay}:version", "7")
    error = refused(url_of(server), lambda store: store.load(RUN))
    assert "it has format 7, and this mainstay knows 1; upgrade mainstay" in str(error)


@pytest.mark.process
def test_keys_of_another_program_are_refused(server, client):
    client.set("{mainstay}:run:import\0acme", "mine")
    assert isinstance(refused(url_of(server)), StoreSchemaError)
    client.delete("{mainstay}:run:import\0acme")
    client.hset("{mainstay}:run:import\0acme", mapping={"token": "1", "status": "running"})
    assert isinstance(refused(url_of(server)), CorruptCheckpointError)
    client.delete("{mainstay}:run:import\0acme")
    client.zadd("{mainstay}:runs", {"no end of a name": 0})
    assert isinstance(refused(url_of(server), lambda s: s.list()), CorruptCheckpointError)


@pytest.mark.process
@pytest.mark.parametrize(
    ("field", "value"), [("token", "x"), ("status", "lost"), ("expires", "never"), ("pid", "")]
)
def test_a_damaged_run_is_told_and_hides_no_other_one(server, client, field, value):
    """Known fault: nothing could be listed, and the run could not be forgotten."""
    store = RedisStore(url_of(server))
    for run in (RUN, OTHER):
        acquired(store, run)
    client.hset("{mainstay}:run:import\0acme", field, value)
    with pytest.raises(CorruptCheckpointError, match="none that mainstay wrote"):
        store.acquire(RUN, request())
    [(record, state), (_, running)] = store.list()
    assert (record.run, state, running) == (RUN, "interrupted", "running")
    assert record.error.startswith("damaged: the record of")
    assert sum(count_runs(store).values()) == 2
    assert store.forget(RUN)
    assert [record.run for record, _ in store.list()] == [OTHER]
    assert acquired(store).grant
    store.close()


@pytest.mark.process
def test_scripts_that_the_server_forgot_are_loaded_again(server, client):
    """Known fault: NOSCRIPT after a restart of the server."""
    store = RedisStore(url_of(server))
    lease = acquired(store)
    client.script_flush()
    save(store, lease, b"one")
    client.script_flush()
    asyncio.run(store.acommit(lease, Change(document=b"two")))
    assert store.load(RUN) == Contents(b"two", b"one")
    store.close()


@pytest.mark.process
def test_a_result_that_is_kept_is_never_overwritten(server, client):
    store = RedisStore(url_of(server))
    lease = acquired(store)
    store.commit(lease, Change(put={0: ONE}))
    with pytest.raises(StoreUnavailableError, match="kept already"):
        store.commit(lease, Change(document=b"x", put={1: ONE, 0: TWO}))
    assert store.load(RUN) == Contents(None, None, {0: ONE})
    store.close()


@pytest.mark.parametrize(
    ("error", "retryable", "hint"),
    [
        (redis.exceptions.ReadOnlyError("You can't write against a read only replica."), True, ""),
        (redis.exceptions.TryAgainError("Multiple keys request during rehashing"), True, ""),
        (redis.exceptions.ClusterDownError("The cluster is down"), True, ""),
        (redis.exceptions.MasterDownError("Link with MASTER is down"), True, ""),
        (redis.exceptions.ResponseError("BUSY Redis is busy running a script."), True, ""),
        (redis.exceptions.ResponseError("MISCONF Errors writing to the AOF file"), True, "disk"),
        (redis.exceptions.ResponseError(
            "Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM command not "
            "allowed when used memory > 'maxmemory'."), False, "more memory"),
        (redis.exceptions.MovedError("1 127.0.0.1:1"), False, "one server that has them all"),
        (redis.exceptions.ResponseError("unknown command 'EVALSHA'"), False, ""),
    ],
    ids=str,
)  # fmt: skip
def test_what_passes_is_told_from_what_does_not(error, retryable, hint):
    told = refused_by(error).told("redis://db:6379/0")
    assert isinstance(told, StoreUnavailableError)
    assert told.retryable == retryable
    assert hint in str(told)


def test_a_server_that_reads_its_files_after_a_start_is_asked_again():
    told = lost(redis.BusyLoadingError("Redis is loading the dataset in memory")).told("url")
    assert isinstance(told, StoreUnavailableError)
    assert told.retryable
