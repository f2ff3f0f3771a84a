"""Three real servers, killed, stopped and started again under load, through redis-py.

They are `redis-server` of the Debian package redis-server, on free ports of the loopback.
"""

import asyncio
import contextlib
import signal
import threading
import time
from pathlib import Path

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from mainstay import (
    Detect,
    Failback,
    FailoverPool,
    Member,
    Probe,
    failover,
)
from mainstay.errors import NoMemberError
from support.pools import LONGEST, wait_until
from support.redis_servers import RedisServer

pytestmark = pytest.mark.process

ERRORS = (redis.ConnectionError, redis.TimeoutError)
PATIENCE = 0.1  # seconds that a client waits for an answer
DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    servers = [RedisServer(tmp_path_factory.mktemp("redis")) for _ in range(3)]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def servers(farm):
    for server in farm:
        if server.process.poll() is not None:
            server.start()
        server.signal(signal.SIGCONT)
    yield farm
    for server in farm:
        if server.process.poll() is None:
            server.signal(signal.SIGCONT)


def connect(server, patience=PATIENCE):
    return redis.Redis(port=server.port, socket_timeout=patience, decode_responses=True,
                       retry=Retry(NoBackoff(), 0))  # fmt: skip


def aconnect(server, patience=PATIENCE):
    return redis.asyncio.Redis(port=server.port, socket_timeout=patience, decode_responses=True,
                               retry=AsyncRetry(NoBackoff(), 0))  # fmt: skip


def pool_of(servers, **options):
    members = [
        Member(f"r{i}", open=lambda server=server: connect(server), close=redis.Redis.close)
        for i, server in enumerate(servers)
    ]
    given = {"on": ERRORS, "detect": Detect(eject_for=0.2, max_eject=0.5),
             "failback": Failback(grace=0.1, ramp=0.2), **options}  # fmt: skip
    return FailoverPool("cache", members, **given)


def apool_of(servers, **options):
    async def ping(client):
        return await client.ping()

    def member(i, server):
        async def open_():
            return aconnect(server)

        return Member(f"r{i}", open=open_, close=redis.asyncio.Redis.aclose)

    given = {"on": ERRORS, "detect": Detect(eject_for=0.2, max_eject=0.5),
             "failback": Failback(grace=0.1, ramp=0.2), **options}  # fmt: skip
    return FailoverPool("cache", [member(i, each) for i, each in enumerate(servers)], **given)


class Load:
    """Threads that read from a pool until the block ends, and what came of it."""

    def __init__(self, pool, threads=4):
        self.answers, self.errors = [], []
        self._stop = threading.Event()
        self._read = failover(pool)(lambda client: client.get("name"))
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def _work(self):
        while not self._stop.is_set():
            try:
                self.answers.append((time.monotonic(), self._read()))
            except Exception as error:  # noqa: BLE001 - what the test counts
                self.errors.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info):
        self._stop.set()
        for thread in self._threads:
            thread.join(LONGEST)

    def answered_by(self, server, *, after):
        return any(name == str(server.port) for at, name in list(self.answers) if at > after)


def test_killed_under_load_costs_no_failed_call_and_it_comes_back(servers, metrics):
    first, second, _ = servers
    with pool_of(servers) as pool, Load(pool) as load:
        wait_until(lambda: load.answered_by(first, after=0))
        killed = time.monotonic()
        first.kill()
        wait_until(lambda: load.answered_by(second, after=killed))
        first.start()
        restarted = time.monotonic()
        wait_until(lambda: load.answered_by(first, after=restarted))
    assert load.errors == []


def test_stopped_alive_but_silent_costs_no_failed_call(servers, metrics):
    first, second, _ = servers
    with pool_of(servers) as pool, Load(pool) as load:
        wait_until(lambda: load.answered_by(first, after=0))
        stopped = time.monotonic()
        first.signal(signal.SIGSTOP)
        wait_until(lambda: load.answered_by(second, after=stopped))
        wait_until(lambda: pool.status().members[0].state == "ejected")
        first.signal(signal.SIGCONT)
        resumed = time.monotonic()
        wait_until(lambda: load.answered_by(first, after=resumed + 0.2))
    assert load.errors == []


def test_two_of_three_killed_cost_no_failed_call(servers, metrics):
    first, second, third = servers
    with pool_of(servers, select="round_robin") as pool, Load(pool) as load:
        for server in servers:
            wait_until(lambda server=server: load.answered_by(server, after=0))
        first.kill()
        second.kill()
        killed = time.monotonic()
        wait_until(lambda: pool.status().serving == ("r2",))
        wait_until(lambda: load.answered_by(third, after=killed))
    assert load.errors == []


def test_all_killed_and_one_started_again_is_found(servers, metrics):
    with pool_of(servers) as pool:
        read = failover(pool)(lambda client: client.get("name"))
        read()
        for server in servers:
            server.kill()
        with pytest.raises((*ERRORS, NoMemberError)):
            read()
        servers[2].start()

        def answers():
            try:
                return read() == str(servers[2].port)
            except (*ERRORS, NoMemberError):
                return False

        wait_until(answers)


def test_probes_find_a_killed_standby_before_it_is_needed(servers, metrics):
    probe = Probe(lambda client: client.ping(), every=0.02, timeout=0.2, fall=2)
    members = [
        Member("primary", open=lambda: connect(servers[0]), close=redis.Redis.close),
        Member("replica", open=lambda: connect(servers[1]), close=redis.Redis.close,
               standby="hot"),
    ]  # fmt: skip
    pool = FailoverPool("cache", members, on=ERRORS, probe=probe, detect=Detect(eject_for=0.1))
    with pool:
        servers[1].kill()
        wait_until(lambda: pool.status().members[1].state == "ejected")
        assert pool.call(lambda client: client.get("name")) == str(servers[0].port)
        servers[1].start()
        wait_until(lambda: pool.status().members[1].state == "standby_hot")


def test_killed_under_load_of_tasks_costs_no_failed_call(servers, metrics):
    first, second, _ = servers
    answers, errors = [], []

    async def main():
        pool = apool_of(servers)

        @failover(pool)
        async def read(client):
            return await client.get("name")

        stop = asyncio.Event()

        async def work():
            while not stop.is_set():
                try:
                    answers.append((time.monotonic(), await read()))
                except Exception as error:  # noqa: BLE001 - what the test counts
                    errors.append(error)

        async def until(server, after):
            end = time.monotonic() + LONGEST
            while not any(name == str(server.port) for at, name in answers if at > after):
                assert time.monotonic() < end, "it never answered"
                await asyncio.sleep(0.002)

        async with pool:
            tasks = [asyncio.create_task(work()) for _ in range(10)]
            await until(first, 0)
            killed = time.monotonic()
            first.kill()
            await until(second, killed)
            await asyncio.to_thread(first.start)
            await until(first, time.monotonic())
            first.signal(signal.SIGSTOP)
            await until(second, time.monotonic())
            first.signal(signal.SIGCONT)
            stop.set()
            await asyncio.gather(*tasks)
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    assert errors == []


STANDBYS = {"r0": None, "r1": "hot", "r2": "cold"}
SLOW = 0.3  # seconds that a client waits where a standby has to be started meanwhile


def lose_two(servers, *, at_once):
    """Kill the first server and stop the second one: when that is serving, or in one moment.

    Yield between what happens, until a call has been answered by the server that is given.
    """
    first, second, third = servers
    yield first
    first.kill()
    if not at_once:
        yield second
    second.signal(signal.SIGSTOP)
    yield third


@pytest.mark.parametrize("at_once", [False, True])
def test_a_killed_active_and_a_stopped_hot_member_cost_no_failed_call(servers, metrics, at_once):
    """Field faults, D2: one active, one hot, one cold; the calls wait for the cold one."""
    members = [
        Member(name, open=lambda server=server: connect(server, SLOW), close=redis.Redis.close,
               standby=standby)
        for (name, standby), server in zip(STANDBYS.items(), servers, strict=True)
    ]  # fmt: skip
    probe = Probe(redis.Redis.ping, every=0.5, timeout=SLOW)
    pool = FailoverPool("cache", members, on=ERRORS, probe=probe)
    with pool, Load(pool) as load:
        for server in lose_two(servers, at_once=at_once):
            now = time.monotonic()
            wait_until(lambda server=server, now=now: load.answered_by(server, after=now))
    assert load.errors == []
    assert metrics("calls_total", outcome="error") == 0


def slow_member(name, standby, server):
    async def open_():
        return aconnect(server, SLOW)

    return Member(name, open=open_, close=redis.asyncio.Redis.aclose, standby=standby)


@pytest.mark.parametrize("at_once", [False, True])
def test_nor_do_they_cost_a_task_its_call(servers, metrics, at_once):
    answers, errors = [], []
    members = [
        slow_member(name, standby, server)
        for (name, standby), server in zip(STANDBYS.items(), servers, strict=True)
    ]

    async def ping(client):
        return await client.ping()

    probe = Probe(ping, every=0.5, timeout=SLOW)
    pool = FailoverPool("cache", members, on=ERRORS, probe=probe)
    stop = asyncio.Event()

    @pool
    async def read(client):
        return await client.get("name")

    async def work():
        while not stop.is_set():
            try:
                answers.append((time.monotonic(), await read()))
            except Exception as error:  # noqa: BLE001 - what the test counts
                errors.append(error)

    async def answered_by(server):
        now = time.monotonic()
        while not any(name == str(server.port) for at, name in answers if at > now):
            assert time.monotonic() < now + LONGEST, "it never answered"
            await asyncio.sleep(0.002)

    async def main():
        async with pool:
            tasks = [asyncio.create_task(work()) for _ in range(10)]
            for server in lose_two(servers, at_once=at_once):
                await answered_by(server)
            stop.set()
            await asyncio.gather(*tasks)

    asyncio.run(main())
    assert errors == []


def sockets_of_this_process():
    count = 0
    for link in DESCRIPTORS.iterdir():
        with contextlib.suppress(OSError):  # the one that the listing itself needed
            count += str(link.readlink()).startswith("socket:")
    return count


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="needs /proc")
def test_a_hundred_pools_leave_no_socket_and_no_thread(servers):
    sockets, threads = sockets_of_this_process(), threading.active_count()
    for _ in range(100):
        with pool_of(servers, probe=Probe(lambda client: client.ping(), every=60.0)) as pool:
            pool.call(lambda client: client.ping())
    wait_until(lambda: threading.active_count() <= threads)
    wait_until(lambda: sockets_of_this_process() <= sockets)


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="needs /proc")
def test_a_hundred_async_pools_leave_no_socket_and_no_task(servers):
    async def main():
        before = sockets_of_this_process()
        for _ in range(100):
            async with apool_of(servers) as pool:
                await failover(pool)(ping)()
        await asyncio.sleep(0)
        return sockets_of_this_process() - before, len(asyncio.all_tasks())

    async def ping(client):
        return await client.ping()

    assert asyncio.run(main()) == (0, 1)
