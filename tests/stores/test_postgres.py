"""`PostgresStore` against a real server: what every store must do, in both colours."""

import pytest

from mainstay._core.context import current_context
from mainstay.stores.postgres import PostgresStore
from support.postgres import Postgres
from support.store_conformance import StoreConformance

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server():
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture
def url(server):
    yield server.url
    server.ask('DROP SCHEMA IF EXISTS "mainstay" CASCADE')


def now():
    return current_context().clock.now()


def on_fake_clock(store):
    store._clock = now
    return store


class TestPostgresStore(StoreConformance):
    @pytest.fixture
    def store(self, url):
        store = on_fake_clock(PostgresStore(url))
        yield store
        store.close()
