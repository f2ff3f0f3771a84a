"""The program of the page about schedulers under Dask, whose workers die."""

import os

import pytest

from support.processes import LOOPBACK, free_port
from support.workers import Workers

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

SLOW = "0.03"  # seconds per item, of which there are 200
RESULT = f"2026-11-30: {sum(range(200))}"  # each item once
ANOTHER_CLIENT = (
    "import sys, dask_jobs, distributed;"
    "client = distributed.Client(sys.argv[1]);"
    "print(client.submit(dask_jobs.make_report, '2026-11-30', key='x', workers=['b']).result())"
)


@pytest.fixture
def workers(tmp_path, library):
    library("distributed")
    workers = Workers(tmp_path, SECONDS_PER_ITEM=SLOW, DASK_LOGGING__MAINSTAY="info")
    yield workers
    workers.kill_all()


@pytest.fixture
def scheduler(workers):
    port = str(free_port())
    workers.start(
        "-m", "dask", "scheduler", "--host", LOOPBACK, "--port", port,
        "--dashboard-address", f"{LOOPBACK}:0",
    )  # fmt: skip
    workers.wait_until(lambda: f"tcp://{LOOPBACK}:{port}" in workers.said())
    return f"tcp://{LOOPBACK}:{port}"


def begin(workers, scheduler, name):
    known = workers.said().count("Registered to")
    worker = workers.start(
        "-m", "dask", "worker", scheduler, "--no-dashboard",
        "--host", LOOPBACK, "--nthreads", "1", "--name", name,
    )  # fmt: skip
    workers.wait_until(lambda: workers.said().count("Registered to") > known)
    return worker


def submit(workers, scheduler):
    return workers.start("-c", f"import dask_jobs; dask_jobs.main({scheduler!r}, '2026-11-30')")


@pytest.mark.parametrize("how", ["crash", "sigterm"])
def test_the_task_of_a_worker_that_ends_goes_on_in_another_one(workers, scheduler, how):
    both = [begin(workers, scheduler, name) for name in "ab"]
    client = submit(workers, scheduler)
    owner = workers.until_in_the_middle().owner
    (worker,) = (each for each in both if each.pid == os.getsid(owner.pid))
    if how == "crash":
        workers.kill(worker)
    else:
        worker.terminate()
    assert client.wait(60) == 0, workers.said()
    assert workers.said().count(RESULT) == 1
    assert workers.record().attempt == 2
    assert f"attempt 2 goes on after {how}" in workers.said()


def test_a_task_that_runs_twice_does_its_work_once(workers, scheduler):
    begin(workers, scheduler, "a")
    first = submit(workers, scheduler)
    workers.until_in_the_middle()
    begin(workers, scheduler, "b")
    second = workers.start("-c", ANOTHER_CLIENT, scheduler)
    for client in (first, second):
        assert client.wait(60) == 0, workers.said()
    assert workers.said().count(RESULT) == 2
    assert workers.record().attempt == 1
