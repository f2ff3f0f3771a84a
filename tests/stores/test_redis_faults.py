"""What is lost, doubled or left hanging when connections and Redis servers fail: nothing.

A failure is made at each message that a client sends, one after the other, by a proxy. The caller
sends again what was not answered, as a run does while its lease lasts.
"""

import asyncio
import itertools
import signal
import threading
import time

import attrs
import pytest
import redis

from mainstay._core.owner import this_process
from mainstay.errors import LeaseLostError, StoreUnavailableError
from mainstay.stores.base import Acquired, Change, Contents, RunId
from mainstay.stores.redis import RedisStore
from support.examples import strides
from support.fault_proxy import FAULTS, FaultProxy
from support.pools import LONGEST
from support.processes import LOOPBACK
from support.redis_servers import DURABLE, RedisServer
from support.server_stores import Persistent, calling, work
from support.store_conformance import ONE, RUN, acquired, lease_of, request, save

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"), *DURABLE)
    yield server
    server.stop()


@pytest.fixture
def proxy(server):
    proxy = FaultProxy(server.port)
    yield proxy
    proxy.close()
    with redis.Redis(port=server.port) as client:
        client.flushall()


def through(proxy, **options):
    return RedisStore(f"redis://{LOOPBACK}:{proxy.port}/0", **{"timeout": 5.0, **options})


@pytest.fixture
def store(proxy):
    store = through(proxy)
    yield store
    store.close()


@pytest.fixture(params=["sync", "async"])
def caller(request, store):
    with calling(store, request.param) as caller:
        yield caller


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_at_any_message_loses_and_doubles_nothing(server, proxy, store, caller, fault):
    """Known fault: a save whose answer is lost ends the run, although it was made."""
    work(caller)
    rounds = 1
    for number in itertools.count(1, strides()):
        assert Persistent(store.forget)(RUN)
        proxy.fail_at(number, fault)
        work(caller)
        rounds += 1
        if not proxy.has_failed.is_set():
            break
    assert number > 10
    with redis.Redis(port=server.port) as client:
        generation, token = client.hmget("{mainstay}:run:import\0acme", "generation", "token")
    assert (int(generation), int(token)) == (3, 2 * rounds)


@pytest.mark.parametrize("caller_of", ["sync", "async"])
@pytest.mark.parametrize("options", [{"timeout": 0.5}, {"timeout": None}])
def test_a_call_that_nobody_answers_ends_in_its_time(proxy, caller_of, options):
    """Known fault: a connection that passes nothing on any more hangs a run for good."""
    store = through(proxy, **options)
    lease = attrs.evolve(acquired(store), seconds=1.5)
    change = Change(document=b"one", sequence=1)
    calls = {
        "sync": lambda: store.commit(lease, change),
        "async": lambda: asyncio.run(store.acommit(lease, change)),
    }
    proxy.fail_at(1, "hole")
    for _ in range(2):  # the second time, a connection is made
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="did not answer in time") as unanswered:
            calls[caller_of]()
        assert unanswered.value.retryable
        assert 0.4 < time.monotonic() - began < LONGEST / 2
    proxy.release()
    Persistent(store.commit)(lease, change)
    assert store.load(RUN) == Contents(b"one", None)
    store.close()


def test_an_interrupted_save_leaves_no_answer_for_the_next(proxy, store):
    lease = acquired(store)
    proxy.fail_at(1, "delay")

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            save(store, lease, b"one", sequence=1)
    finally:
        signal.signal(signal.SIGALRM, before)
    proxy.release()
    Persistent(store.commit)(lease, Change(document=b"one", sequence=1))
    save(store, lease, b"two", sequence=2)
    assert store.load(RUN) == Contents(b"two", b"one")


def test_a_cancelled_save_leaves_no_answer_for_the_next(proxy, store):
    lease = acquired(store)

    async def cancelled():
        await store.acommit(lease, Change())
        proxy.fail_at(1, "delay")
        saving = store.acommit(lease, Change(document=b"one", sequence=1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(saving, 0.2)
        proxy.release()
        await store.acommit(lease, Change(document=b"one", sequence=1))
        await store.acommit(lease, Change(document=b"two", sequence=2))

    asyncio.run(cancelled())
    assert store.load(RUN) == Contents(b"two", b"one")


@pytest.mark.parametrize("caller_of", ["sync", "async"])
def test_connections_that_ended_while_nobody_used_them_are_not_noticed(proxy, store, caller_of):
    lease = acquired(store)
    with asyncio.Runner() as runner:

        def commit(change):
            if caller_of == "sync":
                return store.commit(lease, change)
            return runner.run(store.acommit(lease, change))

        commit(Change(document=b"one"))
        proxy.cut()
        commit(Change(document=b"two"))
        proxy.refuse()
        proxy.cut()
        with pytest.raises(StoreUnavailableError) as refused:
            commit(Change(document=b"three"))
    assert refused.value.retryable


def test_what_was_acknowledged_is_there_after_the_server_was_killed(tmp_path):
    server = RedisServer(tmp_path, *DURABLE)
    store = RedisStore(server.url)
    try:
        lease, acknowledged = acquired(store), 0
        saved = threading.Event()

        def kill():
            saved.wait(LONGEST)
            server.kill()

        def save_for_ever():
            nonlocal acknowledged
            for number in itertools.count(1):
                put = {number: attrs.evolve(ONE, value=b"%d" % number)}
                store.commit(lease, Change(document=b"%d" % number, put=put, sequence=number))
                acknowledged = number
                if number == 50:
                    saved.set()

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(StoreUnavailableError) as killed:
            save_for_ever()
        assert killed.value.retryable
        killer.join()
        server.start()
        contents = store.load(RUN)
        assert int(contents.latest) in (acknowledged, acknowledged + 1)
        assert {*contents.results} >= {*range(1, acknowledged + 1)}
        # What nobody answered is sent again, and is there once.
        number = acknowledged + 1
        put = {number: attrs.evolve(ONE, value=b"%d" % number)}
        store.commit(lease, Change(document=b"%d" % number, put=put, sequence=number))
        assert store.load(RUN).latest == b"%d" % number
        assert [*store.load(RUN).results] == [*range(1, number + 1)]
    finally:
        store.close()
        server.stop()


def until(condition):
    end = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_after_a_failover_that_lost_an_acquisition_its_owner_cannot_save(tmp_path_factory):
    """Known fault: a token alone is given a second time by the promoted replica."""
    primary = RedisServer(tmp_path_factory.mktemp("primary"), *DURABLE)
    link = FaultProxy(primary.port)
    place = ("--replicaof", LOOPBACK, str(link.port))
    replica = RedisServer(tmp_path_factory.mktemp("replica"), *DURABLE, *place)
    mine, other = RedisStore(primary.url), RedisStore(replica.url)
    elsewhere = attrs.evolve(this_process(), boot="another machine")
    try:
        save(mine, acquired(mine), b"before", finished=True)
        until(lambda: other_has(replica, RUN))
        until(lambda: mine.probe().failover)
        assert mine.probe().failover.startswith("kept on this server's disk; a failover can lose")
        with pytest.raises(StoreUnavailableError, match="read only replica") as readonly:
            acquired(other)
        assert readonly.value.retryable
        link.refuse()  # replication stops here
        link.cut()
        lost = acquired(mine, rerun=True, owner=elsewhere)
        save(mine, lost, b"lost", sequence=1)
        primary.kill()
        with redis.Redis(port=replica.port) as client:
            client.replicaof("NO", "ONE")
        answer = other.acquire(RUN, request(rerun=True))
        assert isinstance(answer, Acquired)
        owner = lease_of(answer)
        for change in (
            Change(),
            Change(document=b"zombie", sequence=2),
            Change(put={0: ONE}, sequence=2),
            Change(document=b"zombie", finished=True, sequence=2),
        ):
            with pytest.raises(LeaseLostError):
                other.commit(lost, change)
        assert other.renew([lost]) == [lost]
        save(other, owner, b"mine", sequence=1)
        assert other.load(RUN).latest == b"mine"
    finally:
        mine.close()
        other.close()
        replica.stop()
        primary.stop()
        link.close()


def other_has(server, run: RunId):
    with redis.Redis(port=server.port) as client:
        return client.hget(f"{{mainstay}}:run:{run.name}\0{run.key}", "status") == b"done"
