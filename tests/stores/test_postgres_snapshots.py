"""What an acquisition reads that had to wait for the transaction of another owner.

PostgreSQL looks again at a row for which it waited, and at no other: what the waiting statement
reads beside that row is as old as the statement, or, where transactions are repeatable reads, as
old as the transaction.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from mainstay.errors import StoreUnavailableError
from mainstay.stores.base import Acquired, Contents, Held
from mainstay.stores.postgres import PostgresStore
from support.fault_proxy import FaultProxy
from support.pgbouncer import PgBouncer
from support.pools import LONGEST
from support.postgres import Postgres
from support.store_conformance import ELSEWHERE, ONE, RUN, TWO, acquired, request, save

pytestmark = pytest.mark.process


LEVELS = ("read committed", "repeatable read", "serializable")


@pytest.fixture(scope="module")
def server():
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture(params=LEVELS)
def url(request, server):
    server.ask(f"ALTER DATABASE postgres SET default_transaction_isolation = '{request.param}'")
    yield server.url
    server.ask("ALTER DATABASE postgres RESET default_transaction_isolation")
    server.ask("DROP SCHEMA IF EXISTS mainstay CASCADE")


@pytest.fixture
def store(url):
    store = PostgresStore(url, session_locks=False, timeout=LONGEST)
    yield store
    store.close()


@pytest.fixture
def other(server, url):
    """The transaction of another owner, which is open."""
    with psycopg.connect(server.url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        yield connection


def waiting(server, store, **changes):
    """Have the run acquired by a thread; return once that waits for the row of the run."""
    threads = ThreadPoolExecutor(1)
    answer = threads.submit(store.acquire, RUN, request(**changes))
    end = time.monotonic() + LONGEST
    while not server.ask("SELECT 1 FROM pg_locks WHERE NOT granted"):
        assert time.monotonic() < end
        assert not answer.done()
        time.sleep(0.01)
    return answer


def released(store, document=b"old", put=None):
    """Leave the run interrupted."""
    lease = acquired(store)
    save(store, lease, document, put=put or {0: ONE}, sequence=1)
    store.release(lease, "error")


ANOTHER_ATTEMPT = """
    UPDATE mainstay.run SET token = token + 1, granted = 'theirs', attempt = attempt + 1,
        generation = generation + 1, odd = 'new', even = 'new', seen = saved + 7
"""


def test_a_result_is_read_whose_save_the_takeover_waited_for(server, store, other):
    save(store, acquired(store, owner=ELSEWHERE), b"old", put={0: ONE}, sequence=1)
    server.ask("UPDATE mainstay.run SET expires = 0")
    other.execute("SELECT id FROM mainstay.run FOR SHARE")
    other.execute("INSERT INTO mainstay.result SELECT id, 1, 'slot', 'two' FROM mainstay.run")
    answer = waiting(server, store)
    other.commit()
    found = answer.result(LONGEST)
    assert isinstance(found, Acquired)
    assert found.contents.results == {0: ONE, 1: TWO}


def test_a_run_that_another_attempt_left_meanwhile_is_read_as_that_left_it(server, store, other):
    released(store)
    other.execute(ANOTHER_ATTEMPT)
    other.execute("INSERT INTO mainstay.result SELECT id, 1, 'slot', 'two' FROM mainstay.run")
    answer = waiting(server, store)
    other.commit()
    found = answer.result(LONGEST)
    assert isinstance(found, Acquired)
    assert (found.record.token, found.record.attempt, found.idle) == (3, 3, 7.0)
    assert found.contents == Contents(b"new", b"new", {0: ONE, 1: TWO})


def test_a_run_that_another_attempt_took_meanwhile_is_held(server, store, other):
    released(store)
    other.execute(ANOTHER_ATTEMPT + ", status = 'running', expires = expires + 1000")
    answer = waiting(server, store)
    other.commit()
    found = answer.result(LONGEST)
    assert isinstance(found, Held)
    assert (found.record.token, found.record.grant) == (2, "theirs")


def test_a_run_that_was_forgotten_meanwhile_begins(server, store, other):
    released(store)
    other.execute("UPDATE mainstay.forgotten SET token = 9")
    other.execute("DELETE FROM mainstay.result")
    other.execute("DELETE FROM mainstay.run")
    answer = waiting(server, store)
    other.commit()
    found = answer.result(LONGEST)
    assert isinstance(found, Acquired)
    assert found.began
    assert (found.record.token, found.contents) == (10, Contents())


def test_a_run_that_was_left_is_acquired_with_its_contents_in_one_round_trip(server, url):
    proxy = FaultProxy(server.port)
    store = PostgresStore(url.replace(str(server.port), str(proxy.port)), session_locks=False)
    released(store)
    before = proxy.messages
    found = store.acquire(RUN, request(arguments=b"new"))
    assert proxy.messages - before == 1
    assert isinstance(found, Acquired)
    assert not found.began
    assert (found.record.token, found.record.attempt, found.record.exit) == (2, 2, "error")
    assert found.record.arguments == b"new"
    assert found.contents == Contents(b"old", None, {0: ONE})
    store.close()
    proxy.close()


def test_behind_a_pooler_only_read_committed_will_do(server, url, request):
    level = request.node.callspec.params["url"]
    pooler = PgBouncer(server)
    store = PostgresStore(pooler.url)
    try:
        if level == "read committed":
            released(store)
        else:
            with pytest.raises(
                StoreUnavailableError, match="default_transaction_isolation"
            ) as error:
                released(store)
            assert not error.value.retryable
    finally:
        store.close()
        pooler.remove()
