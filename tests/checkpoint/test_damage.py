"""Damaged saves, full disks, and stores that fail."""

import os
import sqlite3
import subprocess
import sys

import attrs
import pytest

from mainstay import checkpoint_run
from mainstay._checkpoint.codec import Codec
from mainstay._checkpoint.commands import _problems
from mainstay._checkpoint.document import opened
from mainstay._checkpoint.steps import Steps
from mainstay.errors import CorruptCheckpointError, StoreUnavailableError
from mainstay.stores import SQLiteStore, store_of
from mainstay.stores.base import RunId
from support.checkpoints import RUN, OopsError, Runner, add_up
from support.sqlite_files import connection_of


def damaged(sealed):
    return sealed[:-1] + bytes([sealed[-1] ^ 1])


def test_a_damaged_save_is_counted_and_the_one_before_is_used(runner, store, metrics):
    seen = []
    job = runner.job(add_up, store=store)
    with pytest.raises(OopsError):
        job([1, 2, 3], 3)
    kept = store._runs[RUN]
    kept.latest = damaged(kept.latest)
    assert job([1, 2, 3], None, seen) == 6
    assert seen == [2, 3]
    assert metrics("checkpoint_corrupt_total") == 1


def test_a_damaged_result_is_read_from_its_copy(runner, store, metrics):
    job = runner.job(add_up, store=store)
    assert job([1, 2]) == 3
    kept = store._runs[RUN]
    kept.latest = damaged(kept.latest)
    assert job([1, 2]) == 3
    assert metrics("checkpoint_corrupt_total") == 1


def test_where_nothing_can_be_read_the_run_is_not_begun_again(runner, store):
    job = runner.job(add_up, store=store)
    with pytest.raises(OopsError):
        job([1, 2, 3], 3)
    kept = store._runs[RUN]
    kept.latest, kept.previous = damaged(kept.latest), damaged(kept.previous)
    for _ in range(2):
        with pytest.raises(CorruptCheckpointError, match="run 'key' of job is damaged"):
            job([1, 2, 3])


@pytest.mark.parametrize("part", ["value", "slot"])
def test_a_damaged_step_is_not_computed_again(runner, store, metrics, part):
    async def body(cp):
        await cp.step("charge", lambda: 1)
        raise OopsError

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job()
    [(number, kept)] = store._runs[RUN].results.items()
    spoilt = {"value": damaged(kept.value), "slot": damaged(kept.slot.encode()).decode()}
    store._runs[RUN].results[number] = attrs.evolve(kept, **{part: spoilt[part]})
    with pytest.raises(CorruptCheckpointError, match="of run 'key' of job is damaged"):
        job()
    assert metrics("checkpoint_corrupt_total") == 1
    assert list(_problems(store, store._runs[RUN].record))


def test_every_flipped_bit_of_what_a_result_is_of_is_noticed(store):
    with checkpoint_run("key", store=store, name="job") as cp:
        cp.step("charge", lambda: 1)
    [(number, kept)] = store._runs[RUN].results.items()
    for place in range(len(kept.slot)):
        for bit in range(7):
            flipped = kept.slot[:place] + chr(ord(kept.slot[place]) ^ 1 << bit)
            spoilt = attrs.evolve(kept, slot=flipped + kept.slot[place + 1 :])
            with pytest.raises(CorruptCheckpointError):
                Steps({number: spoilt}, RUN, Codec({}))


# A full disk.

FULL_DISK = """
import random, resource, signal, sys
from mainstay import checkpoint_run
from mainstay.errors import StoreUnavailableError
url, limit = sys.argv[1], int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with checkpoint_run("key", store=url) as cp:
    state = cp.state({"text": ""})
    try:
        for item in cp.iterate(range(10)):
            if item == 3:
                if limit:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                state["text"] = "".join(chr(random.randrange(32, 1000)) for _ in range(600_000))
    except StoreUnavailableError as error:
        print("refused", error.store)
        raise SystemExit(0)
"""


@pytest.fixture(params=["a file may not grow", "a disk of 400 kB"])
def full_disk(request, tmp_path):
    """A directory, and the most bytes that a file in it may have; 0 where the disk is so small."""
    if request.param == "a file may not grow":
        yield tmp_path, 200_000
        return
    umount = ["umount", str(tmp_path)]
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount, and not in every container")
    try:
        yield tmp_path, 0
    finally:
        subprocess.run(umount, check=True)


@pytest.mark.process
def test_a_full_disk_is_an_error_and_what_was_saved_stays(full_disk):
    """Known fault 12: DBOS logs and swallows it, and the run is pending for ever."""
    directory, limit = full_disk
    path = directory / "runs.db"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, f"sqlite:///{path}", str(limit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == (f"refused sqlite:///{path}\n", 0), done.stderr
    store = SQLiteStore(path)
    try:
        assert opened(store.load(RunId("run", "key")).latest).items == 3
        with checkpoint_run("key", store=store) as cp:  # and it can be written to again
            assert [*cp.iterate(range(10))] == [*range(3, 10)]
    finally:
        store.close()


# A store that fails.


def test_what_could_not_be_synced_is_not_taken_for_saved(url, monkeypatch):
    """Known fault 2: after a failed fsync the kernel may have dropped the pages.

    The failed save is an error, its connection is not used again, and the next attempt starts from
    what the disk has. safe-state swallows the error.
    """
    store = store_of(url)
    job = Runner("sync").job(add_up, store=store)
    with pytest.raises(OopsError):
        job([0, 1, 2, 3], 2)
    before = store.load(RUN)
    with connection_of(store) as db:
        first = db
    failure = sqlite3.OperationalError("disk I/O error")
    failure.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC

    def failing(*_args):
        raise failure

    with monkeypatch.context() as broken:
        broken.setattr("mainstay.stores._rows.change_run", failing)
        with pytest.raises(StoreUnavailableError):
            job([0, 1, 2, 3])
    assert store.load(RUN) == before
    with connection_of(store) as db:
        assert db is not first
    assert job([0, 1, 2, 3]) == 6
    store.close()


def test_a_store_that_is_down_is_an_error_of_its_own_and_the_run_goes_on_later(
    runner, url, monkeypatch, metrics
):
    """Known fault 12: DBOS logs and swallows it, and the run is pending for ever."""
    connect = sqlite3.connect

    def refused(*_args, **_options):
        raise sqlite3.OperationalError("unable to open database file")

    store = store_of(url)
    job = runner.job(add_up, store=store)
    with pytest.raises(OopsError):
        job([0, 1, 2, 3], 2)
    store.close()
    monkeypatch.setattr("sqlite3.connect", refused)
    with pytest.raises(StoreUnavailableError):
        job([0, 1, 2, 3])
    assert metrics("calls_total", outcome="error") == 2
    monkeypatch.setattr("sqlite3.connect", connect)
    seen = []
    assert job([0, 1, 2, 3], None, seen) == 6
    assert seen == [2, 3]
    store.close()
