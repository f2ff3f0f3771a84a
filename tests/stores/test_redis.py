"""`RedisStore` against a real server: what every store must do, from threads and from tasks."""

import asyncio
import contextvars
import threading

import pytest
import redis

from mainstay._core.context import current_context
from mainstay.stores.redis import RedisStore
from support.redis_servers import DURABLE, RedisServer
from support.store_conformance import StoreConformance

pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning"),
]


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


def now():
    return current_context().clock.now()


def on_fake_clock(store):
    store._clock = now
    return store


class TestRedisStore(StoreConformance):
    @pytest.fixture
    def store(self, url):
        store = on_fake_clock(RedisStore(url))
        yield store
        store.close()


class InATask:
    """A store whose `AsyncStore` half is called, in an event loop of its own."""

    def __init__(self, store):
        self._store = store
        self._runner = asyncio.Runner()
        self._lock = threading.Lock()

    def __getattr__(self, name):
        return getattr(self._store, name)

    def _wait(self, task):
        with self._lock:
            return self._runner.run(task, context=contextvars.copy_context())

    def end(self):
        self._runner.close()

    def acquire(self, run, request):
        return self._wait(self._store.aacquire(run, request))

    def commit(self, lease, change):
        return self._wait(self._store.acommit(lease, change))

    def release(self, *args, **options):
        return self._wait(self._store.arelease(*args, **options))


class TestRedisStoreInTasks(StoreConformance):
    @pytest.fixture
    def store(self, url):
        store = InATask(on_fake_clock(RedisStore(url)))
        yield store
        store.close()
        store.end()


@pytest.fixture
def store(url):
    store = RedisStore(url)
    yield store
    store.close()
