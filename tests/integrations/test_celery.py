"""The program of the page about schedulers under Celery, whose workers and processes die."""

import os
import signal

import pytest

from support.redis_servers import RedisServer
from support.workers import Workers

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

SLOW = "0.03"  # seconds per item, of which there are 200
RESULT = f"2026-11-30: {sum(range(200))}"  # each item once


@pytest.fixture
def workers(tmp_path, library):
    library("celery")
    server = RedisServer(tmp_path)
    workers = Workers(tmp_path, BROKER=server.url, SECONDS_PER_ITEM="0.0")
    yield workers
    workers.kill_all()
    server.stop()


def begin(workers, app="celery_jobs", *, name="worker", seconds=SLOW):
    worker = workers.start(
        "-m", "celery", "--app", app, "worker", "--concurrency", "1", "--loglevel", "INFO",
        "--hostname", name, SECONDS_PER_ITEM=seconds,
    )  # fmt: skip
    workers.wait_until(lambda: f"{name} ready." in workers.said())
    return worker


def deliver(workers):
    workers.run("-c", "from celery_jobs import make_report; make_report.delay('2026-11-30')")


def results(workers):
    workers.wait_until(lambda: "succeeded in" in workers.said())
    return workers.said().count(RESULT)


def test_the_task_of_a_killed_process_goes_on_in_the_next_one(workers):
    begin(workers)
    deliver(workers)
    os.kill(workers.until_in_the_middle().owner.pid, signal.SIGKILL)
    assert workers.until_done().attempt == 2
    assert results(workers) == 1
    assert "attempt 2 goes on after crash" in workers.said()


def test_the_task_of_a_killed_worker_goes_on_in_the_next_one(workers):
    worker = begin(workers, "programs.hasty_celery")
    deliver(workers)
    workers.until_in_the_middle()
    workers.kill(worker)
    begin(workers, "programs.hasty_celery", name="next", seconds="0.0")
    assert workers.until_done().attempt == 2
    assert results(workers) >= 1
    assert "attempt 2 goes on after crash" in workers.said()


def test_a_worker_that_ends_gives_its_task_back(workers):
    worker = begin(workers)
    deliver(workers)
    workers.until_in_the_middle()
    worker.terminate()
    assert worker.wait(60) == 0, workers.said()
    assert workers.record().status == "interrupted"
    begin(workers, name="next", seconds="0.0")
    assert workers.until_done().attempt == 2
    assert results(workers) == 1


@pytest.mark.parametrize("app", ["celery_jobs", "programs.hasty_celery"])
def test_a_task_that_is_delivered_while_it_runs_waits_for_its_turn(workers, app):
    for name in ("worker", "another"):
        begin(workers, app, name=name)
    deliver(workers)
    workers.until_in_the_middle()
    if app == "celery_jobs":
        deliver(workers)
    workers.wait_until(lambda: "RunBusyError" in workers.said() and "Retry in" in workers.said())
    assert workers.until_done().attempt == 1
    assert results(workers) >= 1
    assert "attempt 2" not in workers.said()
