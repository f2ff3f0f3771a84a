"""`S3Store` on a server that writes under conditions: what every store must do, and what it costs.

The server is moto's, which keeps objects in its memory: nothing here shows how durable a service
is.
"""

import importlib
import os

import pytest

from mainstay._core.context import current_context
from mainstay.stores.base import AsyncStore
from mainstay.stores.s3 import S3Store
from support.s3_servers import S3Server
from support.server_stores import InTasks
from support.store_conformance import StoreConformance

pytestmark = pytest.mark.process


@pytest.fixture(scope="module", autouse=True)
def needed():
    if os.environ.get("MAINSTAY_REQUIRE_CLIENTS"):
        importlib.import_module("moto.server")
    else:
        pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def server(needed):
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def url(server):
    yield server.url()
    server.empty()


def now():
    return current_context().clock.now()


def store_at(url, **options):
    return S3Store(url, **options)


def on_fake_clock(store):
    store._operations.clock = now
    return store


class TestS3Store(StoreConformance):
    @pytest.fixture
    def store(self, url):
        store = on_fake_clock(store_at(url))
        yield store
        store.close()


class TestS3StoreInTasks(StoreConformance):
    def test_it_is_a_store(self, store):
        assert isinstance(store._store, AsyncStore)

    @pytest.fixture
    def store(self, url):
        store = InTasks(on_fake_clock(store_at(url)))
        yield store
        store.close()
        store.end()
