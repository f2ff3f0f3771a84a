"""What becomes of runs while the standby that their primary waits for hangs."""

import asyncio
import contextlib
import os
import signal
import threading
import time

import pytest

from mainstay import checkpoint_run
from mainstay.errors import StoreUnavailableError
from mainstay.stores.base import Change, Contents
from mainstay.stores.postgres import PostgresStore
from support.pools import LONGEST
from support.postgres import Postgres
from support.server_stores import Persistent
from support.store_conformance import RUN, acquired, save

pytestmark = pytest.mark.process


class Standby:
    """A standby that the primary waits for with each commit."""

    def __init__(self):
        self.primary = Postgres(fsync="on")
        self.server = Postgres(standby_of=self.primary, fsync="on")
        self._until(lambda: self.primary.ask("SELECT 1 FROM pg_stat_replication"))
        self.primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.primary.ask("SELECT pg_reload_conf()")
        self._until(
            lambda: self.primary.ask("SELECT sync_state FROM pg_stat_replication") == [("sync",)]
        )
        [(self._receiver,)] = self.server.ask("SELECT pid FROM pg_stat_wal_receiver")

    def _until(self, condition):
        end = time.monotonic() + LONGEST
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)

    def waiting(self):
        """Say how many commits wait for the standby."""
        found = self.primary.ask(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        )
        return found[0][0]

    def hang(self):
        os.kill(self._receiver, signal.SIGSTOP)

    def go_on(self):
        with contextlib.suppress(ProcessLookupError):  # one that took over has none any more
            os.kill(self._receiver, signal.SIGCONT)

    @contextlib.contextmanager
    def hanging(self, seconds):
        """Hang from now on for so many seconds."""
        self.hang()
        timer = threading.Timer(seconds, self.go_on)
        timer.start()
        yield
        timer.join()

    def take_over(self):
        """Become the primary, after a crash of the one that is."""
        self.primary.crash()
        self.server.ask("SELECT pg_promote()")

    def remove(self):
        self.go_on()
        self.server.remove()
        self.primary.remove()


@contextlib.contextmanager
def standing_by():
    """Give a standby, and a store on its primary."""
    standby = Standby()
    ports = standby.primary.port, standby.server.port
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    store = PostgresStore(f"postgresql://postgres@{hosts}/postgres", timeout=0.5)
    yield standby, store
    store.close()
    standby.remove()


@pytest.fixture
def both():
    with standing_by() as both:
        yield both


@pytest.fixture(scope="module")
def shared():
    with standing_by() as both:
        yield both


def test_a_save_ends_in_its_time_and_is_made_once_and_kept_by_the_standby(both):
    """Known fault: a commit whose wait is cancelled is reported as a success, and is lost."""
    standby, store = both
    lease = acquired(store)
    promises = store.probe()
    assert (promises.durable, promises.failover) == (True, "")
    standby.hang()
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="did not answer in time") as unanswered:
            save(store, lease, b"one", sequence=1)
        assert unanswered.value.retryable
        assert 0.4 < time.monotonic() - began < LONGEST / 2
    assert standby.waiting() == 1
    standby.go_on()
    Persistent(store.commit)(lease, Change(document=b"one", sequence=1))
    assert store.load(RUN) == Contents(b"one", None)
    standby.take_over()
    assert Persistent(store.load)(RUN) == Contents(b"one", None)
    Persistent(store.commit)(lease, Change(document=b"two", sequence=2, after=1))
    assert Persistent(store.load)(RUN) == Contents(b"two", b"one")


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_run_waits_for_a_standby_that_comes_back_and_else_ends(shared, colour, metrics):
    standby, store = shared
    lease, seen, outages = 3.0, [], contextlib.ExitStack()
    options = {"store": store, "lease": lease, "every": 1, "name": colour, "on_busy": "wait"}

    def work(item, outage):
        seen.append(item)
        if item == 3 and outage is not None:
            outages.enter_context(standby.hanging(outage))

    def block(key, outage):
        with checkpoint_run(key, **options) as cp:
            for item in cp.iterate(range(6)):
                work(item, outage)

    async def tasks(key, outage):
        async with checkpoint_run(key, **options) as cp:
            async for item in cp.iterate(range(6)):
                work(item, outage)

    def run(key, outage=None):
        seen.clear()
        with outages:
            block(key, outage) if colour == "sync" else asyncio.run(tasks(key, outage))

    run("short", lease * 0.4)
    assert seen == [*range(6)]
    assert metrics("checkpoint_store_retries_total") > 0
    with pytest.raises(StoreUnavailableError, match="did not answer in time"):
        run("long", lease * 1.5)
    assert seen == [*range(4)]
    run("long")  # waits until the release is made that was sent in vain
    assert seen == [4, 5], "the save that was made without an answer is not there"
    states = [(record.run.key, record.attempt, state) for record, state in store.list(colour)]
    assert states == [("long", 2, "done"), ("short", 1, "done")]
