"""`S3Store` on a server that writes under conditions: what every store must do, and what fails.

The server is moto's, which keeps objects in its memory: nothing here shows how durable a service
is.
"""

import asyncio
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import attrs
import pytest

from mainstay import checkpoint_run, checkpointed, recover
from mainstay.__main__ import main
from mainstay._checkpoint.document import opened
from mainstay.errors import LeaseLostError, StoreUnavailableError
from mainstay.stores import store_of
from mainstay.stores._s3.layout import Stored, to_object
from mainstay.stores._s3.requests import Put
from mainstay.stores.base import Acquired, Change, Contents, Held, RunId
from mainstay.stores.s3 import S3Store
from programs import checkpoint_jobs, contender
from support.examples import strides
from support.fault_proxy import FaultProxy
from support.job_server import JobServer
from support.pools import LONGEST
from support.s3_servers import SECRET, S3Server
from support.server_stores import (
    ClockedConformance,
    InTasksConformance,
    ServerFaultConformance,
    ServerStoreConformance,
    making,
)
from support.store_conformance import (
    DEAD,
    ELSEWHERE,
    ONE,
    RUN,
    TWO,
    acquired,
    lease_of,
    now,
    request,
    save,
    states,
)

pytestmark = pytest.mark.process
ITEMS = [*range(checkpoint_jobs.ITEMS)]
RESULT = [ITEMS, [row * 10 for row in ITEMS if row % 3 == 1], [1000]]


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


@pytest.fixture
def clocked(url):
    store = S3Store(url)
    store._operations.clock = now
    yield store
    store.close()


class TestS3Store(ClockedConformance):
    """With the store above."""


class TestS3StoreInTasks(InTasksConformance):
    """With the store above."""


@pytest.fixture
def store(url):
    store = S3Store(url)
    yield store
    store.close()


class TestOnTheServer(ServerStoreConformance):
    """With the store above."""


# Many.


def test_of_many_processes_one_gets_each_run(server, url):
    rounds, workers = 120 // strides() + 5, 4
    processes = [
        subprocess.Popen(
            [sys.executable, contender.__file__, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(workers)
    ]
    try:
        for number in range(rounds):
            for each in processes:
                each.stdin.write(f"{number}\n")
                each.stdin.flush()
            answers = [each.stdout.readline().strip() for each in processes]
            assert sorted(answers) == ["Acquired"] + ["Held"] * (workers - 1)
    finally:
        for each in processes:
            each.communicate()


def test_tasks_and_threads_that_save_one_run_at_once_lose_nothing(store):
    lease = acquired(store)

    async def saves():
        changes = [Change(put={number: ONE}) for number in range(5)]
        await asyncio.gather(*(store.acommit(lease, each) for each in changes))

    threads = [
        threading.Thread(target=lambda: [store.renew([lease]) for _ in range(5)]),
        threading.Thread(target=lambda: save(store, lease, b"one", put={9: TWO})),
    ]
    for each in threads:
        each.start()
    asyncio.run(saves())
    for each in threads:
        each.join()
    assert store.load(RUN) == Contents(b"one", None, {**dict.fromkeys(range(5), ONE), 9: TWO})


def test_async_runs_start_no_threads_of_python(store):
    async def work(number):
        run = RunId("many", str(number))
        lease = lease_of(await store.aacquire(run, request()), run)
        await store.acommit(lease, Change(document=b"end", finished=True))

    async def run():
        before = threading.active_count()
        await asyncio.gather(*map(work, range(30)))
        assert threading.active_count() == before

    asyncio.run(run())
    assert len(store.list("many", status="done")) == 30


def test_more_runs_than_the_server_lists_at_once_are_listed(store):
    record = store.acquire(RUN, request(owner=DEAD)).record
    names, bucket = store._names, store._runner.bucket

    async def put_many():
        free = asyncio.Semaphore(32)

        async def one(number):
            run = RunId("many", f"{number:04d}")
            status = "done" if number % 2 else "running"
            stored = Stored(attrs.evolve(record, run=run, status=status))
            async with free:
                await bucket.asend(Put(names.run(run), to_object(stored, "nonce")), LONGEST)

        await asyncio.gather(*map(one, range(1005)))

    asyncio.run(put_many())
    assert len(store.list("many")) == 1005
    assert len(store.list("many", status="interrupted")) == 503
    assert [each.run.key for each, _ in store.list("many", after=RunId("many", "0999"))] == [
        "1000", "1001", "1002", "1003", "1004",
    ]  # fmt: skip


# What fails.


@pytest.fixture
def proxy(server):
    proxy = FaultProxy(server.port)
    yield proxy
    proxy.close()
    server.empty()


@pytest.fixture
def through(server, proxy):
    with making(S3Store, server.url(port=proxy.port)) as make:
        yield make


class TestFaults(ServerFaultConformance):
    """With the store above."""


def test_a_run_outlives_an_outage_that_is_shorter_than_its_lease(proxy, through):
    store = through(timeout=None)
    with checkpoint_run("outage", store=store, every=2, lease=20) as cp:
        for number in cp.iterate(range(10)):
            if number == 4:
                proxy.fail_at(1, "hole")
                threading.Timer(1.0, proxy.release).start()
    proxy.fail_at(0, None)
    assert [state for _, state in store.list()] == ["done"]


def test_a_lease_that_ends_elsewhere_is_taken_over_by_the_clock_of_the_server(store, url):
    """Nobody waits for a whole lease who looks when it has ended already."""
    zombie = lease_of(store.acquire(RUN, request(owner=ELSEWHERE, lease=1.0)))
    time.sleep(3.1)  # the server tells whole seconds
    other = S3Store(url)
    answer = other.acquire(RUN, request())
    assert isinstance(answer, Acquired)
    assert answer.record.exit == "takeover"
    with pytest.raises(LeaseLostError):
        store.commit(zombie, Change(document=b"zombie"))
    other.close()


def test_a_lease_that_ends_elsewhere_is_taken_over_by_who_watches(url):
    owner, other = S3Store(url, timeout=5.0), S3Store(url)
    other.probe()
    owner.acquire(RUN, request(owner=ELSEWHERE, lease=0.5))
    began = time.monotonic()
    while isinstance(other.acquire(RUN, request()), Held):
        assert time.monotonic() - began < LONGEST
    assert 0.3 < time.monotonic() - began < 3.0
    owner.close()
    other.close()


# Kills.


@pytest.fixture(scope="module")
def jobs(needed):
    jobs = JobServer()
    yield jobs
    jobs.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("job", "operation"), [("sync_job", "commit"), ("async_job", "acommit")], ids=["sync", "async"]
)
def test_killed_around_any_save_a_run_goes_on_from_what_was_saved(server, jobs, job, operation):
    kills = 0
    plan = {"job": job, "every": "2"}
    for when in ("before", "after"):
        for number in itertools.count(1, strides()):
            url = server.url(f"{when}-{number}")
            status, first = jobs.run(url, **plan, die=[when, operation, number])
            if status == 0:
                assert ("result", json.dumps(RESULT)) in first
                break
            assert status == signal.SIGKILL
            kills += 1
            store = S3Store(url)
            latest = store.load(RunId("job", "key")).latest
            done = opened(latest).items if latest else 0
            store.close()
            status, second = jobs.run(url, **plan)
            assert status == 0
            rows = [int(rest) for word, rest in second if word == "item"]
            assert rows == ITEMS[done:]
            assert second[-1] == ("result", json.dumps(RESULT))
            assert not [line for line in first + second if line[0] in ("WRONG", "error")]
    assert kills >= 38 // strides()
    server.empty()


# Of users.


def test_a_run_goes_through_its_url_and_through_the_command_line(url, tmp_path, capsys):
    @checkpointed(store=url, key="{day}", every=timedelta(hours=1), recoverable=True)
    def bill(cp, day):
        total = cp.state([0])
        for number in cp.iterate(range(3)):
            total[0] += cp.step("one", lambda number=number: number)
            if day == "bad" and number == 1:
                raise ValueError(day)
        return total[0]

    assert bill("good") == 3
    with pytest.raises(ValueError, match="bad"):
        bill("bad")
    assert [report.outcome for report in recover(url)] == ["failed"]
    assert main(["checkpoints", "verify", "--store", url]) == 0
    assert "2 runs, 0 damaged parts" in capsys.readouterr().out
    copy = f"sqlite:///{tmp_path / 'copy.db'}"
    assert main(["checkpoints", "copy", url, copy]) == 0
    assert main(["checkpoints", "list", "--store", copy]) == 0
    assert main(["checkpoints", "copy", copy, url.replace("/jobs", "/back")]) == 0
    assert main(["checkpoints", "list", "--store", url.replace("/jobs", "/back")]) == 0
    said = capsys.readouterr()
    assert said.out.count("2 runs copied, 0 left") == 2
    assert "ValueError: bad" in said.out
    assert SECRET not in said.out + said.err
    name = store_of(url).list()[0][0].run.name
    assert main(["checkpoints", "forget", "--store", url, name, "good"]) == 0
    assert len(store_of(url).list()) == 1
    store_of(url).close()


def test_a_bucket_that_is_not_there_is_told(server):
    url = server.url().replace("@bucket", "@nowhere")
    for use in (acquired, states, lambda store: store.load(RUN)):
        with pytest.raises(StoreUnavailableError, match="create the bucket") as error:
            use(S3Store(url))
        assert not error.value.retryable
        assert SECRET not in f"{error.value} {error.value!r}"


def test_a_wrong_key_is_told_without_its_secret(monkeypatch):
    monkeypatch.setenv("INITIAL_NO_AUTH_ACTION_COUNT", "1")  # the bucket is made without a key
    server = S3Server()
    try:
        for use in (acquired, lambda store: asyncio.run(store.aacquire(RUN, request()))):
            with pytest.raises(StoreUnavailableError, match="mend the access key") as error:
                use(S3Store(server.url()))
            assert not error.value.retryable
            assert SECRET not in f"{error.value} {error.value!r}"
    finally:
        server.stop()


def test_a_server_that_keeps_files_and_ignores_if_match_is_refused(tmp_path):
    """Known fault: LocalBucket takes If-None-Match, and writes whatever If-Match says."""
    if os.environ.get("MAINSTAY_REQUIRE_CLIENTS"):
        importlib.import_module("localbucket")
    else:
        pytest.importorskip("localbucket")
    server = S3Server("-m", "localbucket", "--port", "{port}", str(tmp_path))
    try:
        with pytest.raises(StoreUnavailableError, match="If-Match was ignored") as error:
            acquired(S3Store(server.url()))
        assert "use a service that has conditional writes" in str(error.value)
        assert not [*tmp_path.rglob("runs")]
    finally:
        server.stop()
