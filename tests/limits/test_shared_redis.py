"""Shared rate limits with a real server, killed and stopped under them.

It is `redis-server` of the Debian package redis-server, on a free port of the loopback.
"""

import asyncio
import contextlib
import signal
import threading
import time

import limits.aio.storage
import limits.aio.strategies
import limits.storage
import limits.strategies
import pytest

from mainstay import RateLimit, RateLimitedError
from mainstay._limits.shared_turns import PATIENCE
from support.redis_servers import RedisServer

pytestmark = pytest.mark.process

LONGEST = 30.0


class Server(RedisServer):
    """One whose clients are closed when the test is over."""

    def __init__(self, directory):
        self.storages = []
        super().__init__(directory)

    def stop(self):
        super().stop()
        for storage in self.storages:
            storage.storage.connection_pool.disconnect()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    yield server
    server.stop()


def sync_limit(server, **options):
    storage = limits.storage.RedisStorage(server.url)
    server.storages.append(storage)
    strategy = limits.strategies.SlidingWindowCounterRateLimiter(storage)
    return RateLimit(**{"name": "mail", "rate": 20, "per": 3600, "shared": strategy, **options})


@contextlib.asynccontextmanager
async def async_limit(server, **options):
    storage = limits.aio.storage.RedisStorage(f"async+{server.url}", implementation="redispy")
    strategy = limits.aio.strategies.SlidingWindowCounterRateLimiter(storage)
    yield RateLimit(**{"name": "mail", "rate": 20, "per": 3600, "shared": strategy, **options})
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)  # what was left behind, to its end
    await storage.bridge.storage.aclose()  # the package itself has no way to
    await asyncio.sleep(0)  # in which the loop closes the connections


def admitted(limit):
    try:
        limit.acquire()
    except RateLimitedError:
        return False
    return True


async def aadmitted(limit):
    try:
        await limit.acquire_async()
    except RateLimitedError:
        return False
    return True


def test_threads_and_tasks_of_several_limits_share_one(server, metrics):
    through = []

    def in_thread():
        limit = sync_limit(server)
        through.extend(admitted(limit) for _ in range(10))

    def in_loop():
        async def main():
            async with async_limit(server) as limit:
                through.extend(await asyncio.gather(*(aadmitted(limit) for _ in range(10))))

        asyncio.run(main())

    threads = [threading.Thread(target=body) for body in (in_thread, in_loop) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST)
    assert (len(through), sum(through)) == (40, 20)
    assert metrics("rate_store_errors_total") == 0


def test_t34_a_killed_server_is_counted_and_one_that_is_back_decides_again(server, metrics):
    limit = sync_limit(server, on_store_error="allow")
    assert admitted(limit)
    server.kill()
    assert all(admitted(limit) for _ in range(30))
    assert metrics("rate_store_errors_total", action="allow") == 30
    server.start()
    assert sum(admitted(limit) for _ in range(30)) == 20  # it had nothing saved
    assert metrics("rate_store_errors_total", action="allow") == 30


def test_t34_a_killed_server_in_async_code(server, metrics):
    async def main():
        async with async_limit(server, on_store_error="deny") as limit:
            assert await aadmitted(limit)
            server.kill()
            assert not await aadmitted(limit)

    asyncio.run(main())
    assert metrics("rate_store_errors_total", action="deny") == 1


def test_a_stopped_server_holds_no_call_for_long(server, metrics):
    limit = sync_limit(server, on_store_error="local", burst=100)
    assert admitted(limit)
    server.signal(signal.SIGSTOP)
    began = time.monotonic()
    assert admitted(limit)
    assert PATIENCE <= time.monotonic() - began < PATIENCE + 5.0
    assert metrics("rate_store_errors_total", action="local") == 1
    server.signal(signal.SIGCONT)
    end = time.monotonic() + LONGEST
    while limit._bound.engine.shared._hung:
        assert time.monotonic() < end
        time.sleep(0.001)
    assert admitted(limit)
    assert metrics("rate_store_errors_total", action="local") == 1


def test_a_stopped_server_holds_no_task_for_long(server, metrics):
    async def main():
        async with async_limit(server, on_store_error="local", burst=100) as limit:
            assert await aadmitted(limit)
            server.signal(signal.SIGSTOP)
            began = time.monotonic()
            assert all(await asyncio.gather(*(aadmitted(limit) for _ in range(20))))
            assert PATIENCE <= time.monotonic() - began < PATIENCE + 5.0
            server.signal(signal.SIGCONT)

    asyncio.run(main())
    assert metrics("rate_store_errors_total", action="local") == 20
