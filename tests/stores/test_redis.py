"""`RedisStore` against a real server: what every store must do, from threads and from tasks."""

import asyncio
import itertools
import subprocess
import threading
import time
from collections import Counter

import pytest
import redis

from mainstay import checkpoint_run
from mainstay.errors import LeaseLostError, StoreUnavailableError
from mainstay.stores._redis.operations import channel_of
from mainstay.stores.base import Change, Held, RunId
from mainstay.stores.redis import RedisStore
from mainstay.stores.selection import count_runs, surplus_runs
from support.pools import LONGEST
from support.processes import LOOPBACK, free_port, require_tool
from support.redis_servers import DURABLE, RedisServer
from support.server_stores import (
    ClockedConformance,
    InTasksConformance,
    ListeningStoreConformance,
    until,
    wait_for_release,
)
from support.store_conformance import (
    DEAD,
    ELSEWHERE,
    ONE,
    OTHER,
    RUN,
    acquired,
    lease_of,
    now,
    request,
    save,
)

pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning"),
]
KEY = b"{mainstay}:run:"
ASKED = {"subscribe", "unsubscribe", "hget", "evalsha"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"), *DURABLE)
    yield server
    server.stop()


@pytest.fixture
def url(server):
    yield server.url
    with redis.Redis(port=server.port) as client:
        client.flushall()


@pytest.fixture
def clocked(url):
    store = RedisStore(url)
    store._clock = now
    yield store
    store.close()


class TestRedisStore(ClockedConformance):
    """With the store above."""


class TestRedisStoreInTasks(InTasksConformance):
    """With the store above."""


@pytest.fixture
def store(url):
    store = RedisStore(url)
    yield store
    store.close()


class TestOnTheServer(ListeningStoreConformance):
    """With the store above."""


def test_a_hundred_tasks_save_at_once_over_a_few_connections(store, server):
    async def work(number):
        run = RunId("many", str(number))
        lease = lease_of(await store.aacquire(run, request()), run)
        await asyncio.gather(*(store.acommit(lease, Change(put={each: ONE})) for each in range(5)))
        await store.acommit(lease, Change(document=b"end", finished=True))

    async def run():
        await asyncio.gather(*map(work, range(100)))
        with redis.Redis(port=server.port) as client:
            return [each for each in client.client_list() if each["name"] == "mainstay"]

    assert 0 < len(asyncio.run(run())) <= 32
    assert len(store.list("many", status="done")) == 100
    with redis.Redis(port=server.port) as client:
        names = [each["name"] for each in client.client_list()]
    assert names.count("mainstay") == 1  # of this thread: those of the loop ended with it
    assert store._loops == {}


def test_closing_ends_the_connections_of_threads_and_of_loops(store, server):
    def count():
        with redis.Redis(port=server.port) as client:
            return [each["name"] for each in client.client_list()].count("mainstay")

    async def use():
        lease = lease_of(await store.aacquire(RUN, request()))
        store.renew([lease])
        assert count() == 2
        store.close()
        await asyncio.to_thread(until, lambda: not count())
        await store.acommit(lease, Change(document=b"one"))

    asyncio.run(use())
    assert store.load(RUN).latest == b"one"


def test_more_runs_than_a_page_are_listed_and_counted(store, server):
    acquired(store, RunId("a", "0"))
    acquired(store, RunId("a", "1"), owner=DEAD)
    with redis.Redis(port=server.port) as client:
        record = client.hgetall(KEY + b"a\x000")
        for number in range(1100):
            member = b"b\x00%04d" % number
            client.hset(KEY + member, mapping={**record, b"status": b"done"})
            client.zadd("{mainstay}:runs", {member: 0})
        client.delete(KEY + b"b\x000000")  # as if it were forgotten while it is read
    assert count_runs(store) == {
        ("a", "running"): 1, ("a", "interrupted"): 1, ("b", "done"): 1099,
    }  # fmt: skip
    assert len(store.list()) == 1101
    assert len(store.list("b", limit=1050)) == 1050
    assert [record.run.key for record, _ in store.list("b", status="done", limit=2)] == [
        "0001", "0002",
    ]  # fmt: skip
    assert store.list("b", status="running") == []


def test_the_run_that_has_just_ended_is_kept_where_the_clock_was_stepped_back(store, server):
    runs = [RunId("a", str(number)) for number in range(5)]
    for run in runs:
        save(store, acquired(store, run), b"end", finished=True)
    with redis.Redis(port=server.port) as client:
        for place, run in enumerate(runs):
            client.zadd("{mainstay}:finished:a", {channel_of(run): 1e9 + place})
    for run, most in itertools.product(runs, range(1, 7)):
        kept = {run, *[*reversed(runs)][:most]}
        assert {*surplus_runs(store, run, most, None, 0.0)} == {*runs} - kept


def asked(server):
    """How often each command was asked for, but for those of the tests."""
    with redis.Redis(port=server.port) as client:
        found = client.info("commandstats")
    names = {name.removeprefix("cmdstat_"): each["calls"] for name, each in found.items()}
    return Counter({name: calls for name, calls in names.items() if name in ASKED})


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_wait_asks_three_times_however_long_it_is(store, server, colour):
    acquired(store)
    before = asked(server)
    assert wait_for_release(store, colour, seconds=0.5) >= 0.5
    assert asked(server) - before == {"subscribe": 1, "hget": 1, "unsubscribe": 1}
    lease = acquired(store, OTHER)
    save(store, lease, b"one")  # over a connection that listened
    assert store.load(OTHER).latest == b"one"


def test_where_many_tasks_listen_the_others_wait_for_their_time(store, server):
    lease = acquired(store)

    async def run():
        waits = [asyncio.create_task(store._await_release(RUN, 2.0)) for _ in range(40)]
        with redis.Redis(port=server.port) as client:
            until = time.monotonic() + LONGEST
            while client.pubsub_numsub(channel_of(RUN))[0][1] < 32:
                assert time.monotonic() < until
                await asyncio.sleep(0.005)
        done, pending = await asyncio.wait(waits, timeout=0.01)
        await store.arelease(lease, "error")
        await asyncio.gather(*waits)
        return len(done), len(pending)

    assert asyncio.run(run()) == (0, 40)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_who_waits_and_cannot_listen_asks(store, url, server, colour):
    with redis.Redis(port=server.port) as client:
        client.acl_setuser("deaf", enabled=True, nopass=True, keys=["*"], commands=["+@all"],
                           reset_channels=True)  # fmt: skip
    deaf = RedisStore(url.replace("//", "//deaf:any@"))
    lease = acquired(deaf)
    with pytest.raises(StoreUnavailableError, match="channels"):
        wait_for_release(deaf, colour)
    timer = threading.Timer(0.2, deaf.release, (lease, "error"))
    timer.start()

    async def awaits():
        async with checkpoint_run(RUN.key, store=deaf, name=RUN.name, on_busy="wait") as cp:
            return cp.attempt

    if colour == "sync":
        with checkpoint_run(RUN.key, store=deaf, name=RUN.name, on_busy="wait") as cp:
            assert cp.attempt == 2
    else:
        assert asyncio.run(awaits()) == 2
    timer.join()
    deaf.close()


def test_the_server_s_clock_counts_and_not_that_of_a_client(store, monkeypatch):
    acquired(store, owner=ELSEWHERE)
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert isinstance(store.acquire(RUN, request()), Held)
    [(record, state)] = store.list()
    assert state == "running"
    assert 29 < record.expires - record.seen <= 30


def test_a_lease_that_ends_elsewhere_is_taken_over(store):
    answer = store.acquire(RUN, request(owner=ELSEWHERE, lease=0.2))
    end = time.monotonic() + LONGEST
    while isinstance(store.acquire(RUN, request()), Held):
        assert time.monotonic() < end
    with pytest.raises(LeaseLostError):
        store.commit(lease_of(answer), Change(document=b"zombie"))


def test_an_encrypted_connection_checks_the_certificate(tmp_path):
    names = {name: str(tmp_path / name) for name in ("key.pem", "cert.pem")}
    subprocess.run(
        [require_tool("openssl", package="openssl"), "req", "-x509", "-newkey", "rsa:2048",
         "-nodes", "-keyout", names["key.pem"], "-out", names["cert.pem"], "-days", "2",
         "-subj", "/CN=localhost", "-addext", f"subjectAltName=IP:{LOOPBACK}"],
        check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    server = RedisServer(
        tmp_path, *DURABLE, "--tls-port", str(port), "--tls-cert-file", names["cert.pem"],
        "--tls-key-file", names["key.pem"], "--tls-auth-clients", "no",
    )  # fmt: skip
    try:
        url = f"rediss://{LOOPBACK}:{port}/0"
        store = RedisStore(f"{url}?ssl_ca_certs={names['cert.pem']}")
        save(store, acquired(store), b"one")
        assert asyncio.run(store.aacquire(RUN, request())).record.token == 1
        store.close()
        for use in (acquired, lambda each: asyncio.run(each.aacquire(RUN, request()))):
            with pytest.raises(StoreUnavailableError, match="certificate verify failed") as error:
                use(RedisStore(url))
            assert not error.value.retryable
    finally:
        server.stop()
