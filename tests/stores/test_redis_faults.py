"""What is lost, doubled or left hanging when connections and Redis servers fail: nothing.

A failure is made at each message that a client sends, one after the other, by a proxy. The caller
sends again what was not answered, as a run does while its lease lasts.
"""

import itertools
import threading

import attrs
import pytest
import redis

from mainstay.errors import LeaseLostError, StoreUnavailableError
from mainstay.stores.base import Acquired, Change, RunId
from mainstay.stores.redis import RedisStore
from support.fault_proxy import FaultProxy
from support.pools import LONGEST
from support.processes import LOOPBACK
from support.redis_servers import DURABLE, RedisServer
from support.server_stores import ServerFaultConformance, making, until
from support.store_conformance import ELSEWHERE, ONE, RUN, acquired, lease_of, request, save

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


@pytest.fixture
def through(proxy):
    with making(RedisStore, f"redis://{LOOPBACK}:{proxy.port}/0") as make:
        yield make


class TestFaults(ServerFaultConformance):
    """With the store above."""

    def check(self, server):
        with redis.Redis(port=server.port) as client:
            assert client.hget("{mainstay}:run:import\0acme", "generation") == b"3"


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


def test_after_a_failover_that_lost_an_acquisition_its_owner_cannot_save(tmp_path_factory):
    """Known fault: a token alone is given a second time by the promoted replica."""
    primary = RedisServer(tmp_path_factory.mktemp("primary"), *DURABLE)
    link = FaultProxy(primary.port)
    place = ("--replicaof", LOOPBACK, str(link.port))
    replica = RedisServer(tmp_path_factory.mktemp("replica"), *DURABLE, *place)
    mine, other = RedisStore(primary.url), RedisStore(replica.url)
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
        lost = acquired(mine, rerun=True, owner=ELSEWHERE)
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
