"""The program of the page about schedulers: its exit codes, and that it goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mainstay.stores import store_of
from mainstay.stores.base import Request, RunId
from support.store_conformance import DEAD

pytestmark = pytest.mark.process
PROGRAM = Path(__file__).parents[2] / "docs" / "examples" / "nightly_job.py"
RUN = RunId("report", "2026-11-30")
TOTAL = f"2026-11-30: {sum(range(200))}\n"


@pytest.fixture
def begin(tmp_path):
    started = []

    def begin(seconds=0.0):
        environment = os.environ | {
            "MAINSTAY_STORE": f"sqlite:///{tmp_path / 'jobs.db'}",
            "SECONDS_PER_ITEM": str(seconds),
        }
        job = subprocess.Popen(
            [sys.executable, PROGRAM, "2026-11-30"], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(job)
        return job

    yield begin
    for job in started:
        job.kill()
        job.communicate()


@pytest.fixture
def store(tmp_path):
    return store_of(f"sqlite:///{tmp_path / 'jobs.db'}")


def until_saved(store):
    while not any(store.load(record.run).latest for record, _ in store.list()):
        pass


def test_a_job_that_is_done_ends_with_0_now_and_later(begin):
    for _ in range(2):
        job = begin()
        out, err = job.communicate(timeout=60)
        assert (job.returncode, out) == (0, TOTAL), err


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_is_ended_goes_on_at_its_next_start(begin, store, sign):
    job = begin(seconds=0.01)
    until_saved(store)
    job.send_signal(sign)
    job.communicate(timeout=60)
    assert job.returncode == -sign
    job = begin()
    assert job.communicate(timeout=60)[0] == TOTAL
    assert store.list()[0][0].attempt == 2


def test_a_job_that_another_process_does_is_to_be_tried_later(begin, store):
    first = begin(seconds=0.05)
    until_saved(store)
    second = begin()
    _, err = second.communicate(timeout=60)
    assert second.returncode == os.EX_TEMPFAIL
    assert "works on run '2026-11-30'" in err
    first.kill()


def test_a_job_that_kills_its_process_each_time_is_not_tried_again(begin, store):
    for _ in range(3):
        store.acquire(RUN, Request(owner=DEAD, life="life", lease=30.0, max_crashes=3))
    job = begin()
    _, err = job.communicate(timeout=60)
    assert job.returncode == os.EX_DATAERR
    assert "died 3 times" in err
