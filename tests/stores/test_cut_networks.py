"""What becomes of runs whose network to the store is cut: a cable is pulled, and put back or not.

The server is in a network namespace of its own. The owner of a run reaches it by one cable, and who
wants to take the run over by another one, which stays.
"""

import asyncio
import contextlib
import threading
import time

import pytest

from mainstay import checkpoint_run
from mainstay._checkpoint.document import opened
from mainstay.errors import LeaseLostError, StoreUnavailableError
from mainstay.stores.base import Acquired, Change, Held, RunId
from mainstay.stores.postgres import PostgresStore
from mainstay.stores.redis import RedisStore
from support.pools import LONGEST
from support.postgres import Postgres
from support.redis_servers import DURABLE, RedisServer
from support.sites import Site
from support.store_conformance import ELSEWHERE, lease_of, request

pytestmark = pytest.mark.process

SLACK = 5.0  # seconds, on a machine that is busy
CUTS = {"save": (6.0, 1.5), "acquisition": (6.0, 1.5), "renewal": (4.0, 1.6)}
"""Seconds of a lease, and of a cut that falls into its next save, acquisition or renewal."""


@pytest.fixture(scope="module")
def site():
    site = Site()
    yield site
    site.remove()


@pytest.fixture(scope="module", params=["postgres", "redis"])
def stores(request, site, tmp_path_factory):
    """Give a function that makes a store which uses the cable of that number."""
    if request.param == "postgres":
        server = Postgres(site=site, fsync="on")
        yield lambda cable: PostgresStore(
            f"postgresql://postgres@{site.hosts[cable]}:{server.port}/postgres"
        )
        server.remove()
        return
    server = RedisServer(tmp_path_factory.mktemp("redis"), *DURABLE, site=site)
    yield lambda cable: RedisStore(f"redis://{site.hosts[cable]}:{server.port}/0")
    server.stop()


@pytest.fixture
def store(site, stores):
    store = stores(0)
    yield store
    site.plug()
    store.close()


@pytest.fixture
def other(stores):
    other = stores(1)
    yield other
    other.close()


@pytest.fixture(params=["sync", "async"])
def colour(request):
    return request.param


@pytest.fixture
def key(request):
    return request.node.name


def run_block(colour, store, key, work, lease):
    """Go through ten items, one save each; *work* is done in each."""
    options = {"store": store, "lease": lease, "name": "cut", "every": 1}

    def block():
        with checkpoint_run(key, **options) as cp:
            for item in cp.iterate(range(10)):
                work(item)

    async def tasks():
        async with checkpoint_run(key, **options) as cp:
            async for item in cp.iterate(range(10)):
                await asyncio.to_thread(work, item)

    if colour == "sync":
        block()
    else:
        asyncio.run(tasks())


@contextlib.contextmanager
def pulled(site, seconds):
    """Pull the cable now, and put it back after so many seconds."""
    site.pull()
    timer = threading.Timer(seconds, site.plug)
    timer.start()
    yield
    timer.join()


def ask(store, key):
    """Ask for the run as a process of another machine."""
    return store.acquire(RunId("cut", key), request(owner=ELSEWHERE))


def take(store, key):
    """Ask for the run until it is there."""
    end = time.monotonic() + LONGEST
    while not isinstance(answer := ask(store, key), Acquired):
        assert time.monotonic() < end
        time.sleep(0.05)
    return answer


def our_threads():
    return sorted(each.name for each in threading.enumerate() if each.name.startswith("mainstay"))


@pytest.mark.parametrize("moment", CUTS)
def test_a_run_outlives_a_cut_that_is_shorter_than_half_its_lease(
    site, store, other, colour, key, moment
):
    """Known fault: a connection that passes nothing on hangs a run for good."""
    lease, cut = CUTS[moment]
    seen, threads, answers, cables = [], [], [], contextlib.ExitStack()
    run_block(colour, store, f"{key} before", lambda _item: None, lease)  # all is connected
    ask(other, f"{key} before")

    def work(item):
        seen.append(item)
        if item in (2, 6) and moment == "save":
            cables.enter_context(pulled(site, cut))
        if item == 2 and moment == "renewal":
            began = time.monotonic()
            with pulled(site, cut):
                answers.append(ask(other, key))
            time.sleep(began + lease + 0.2 - time.monotonic())
            answers.append(ask(other, key))
        threads.append(our_threads())

    began = time.monotonic()
    with cables:
        if moment == "acquisition":
            cables.enter_context(pulled(site, cut))
        run_block(colour, store, key, work, lease)
    assert time.monotonic() - began < lease + SLACK
    assert seen == [*range(10)]
    [(record, state)] = other.list("cut", after=RunId("cut", key[:-1]), limit=1)
    assert (record.run.key, record.attempt, state) == (key, 1, "done")
    assert {type(answer) for answer in answers} <= {Held}
    assert len(threads[-1]) <= len(threads[0]), "threads are left behind"


def test_a_cut_that_outlasts_the_lease_ends_the_run_in_its_time(site, store, other, colour, key):
    lease, times = 2.0, []

    def work(item):
        if item == 5:
            site.pull()
            times.append(time.monotonic())

    with pytest.raises(StoreUnavailableError) as unavailable:
        run_block(colour, store, key, work, lease)
    assert unavailable.value.retryable
    # No request begins after nine tenths of the lease; the last one, and the release with its last
    # one, take a third of the lease at most.
    assert time.monotonic() - times[0] < lease * (0.9 + 1 / 3 + 2 / 3) + SLACK
    answer = take(other, key)
    assert (answer.record.attempt, answer.record.token) == (2, 2)
    assert opened(answer.contents.latest).items >= 5, "what was acknowledged is lost"


def test_who_was_cut_off_and_taken_over_saves_nothing_when_the_network_is_back(
    site, store, other, colour, key
):
    """Known fault: a save of before the cut reaches the store after it, and is accepted."""
    lease, answers = 2.0, []

    def work(item):
        if item == 5:
            site.pull()
            began = time.monotonic()
            answers.append(take(other, key))
            assert time.monotonic() - began > lease * 0.6, "taken over before the lease ended"
            other.commit(lease_of(answers[0], RunId("cut", key)), Change(document=b"other"))
            site.plug()

    # The first request may find that its connection is dead, and the lease leaves no time for more.
    with pytest.raises((LeaseLostError, StoreUnavailableError)):
        run_block(colour, store, key, work, lease)
    assert opened(answers[0].contents.latest).items == 5, "what was acknowledged is lost"
    contents = other.load(RunId("cut", key))
    assert (contents.latest, contents.previous) == (b"other", answers[0].contents.latest)
