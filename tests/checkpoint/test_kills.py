"""Real processes, killed with SIGKILL: no saved item lost, none applied twice."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mainstay._checkpoint.document import opened
from mainstay.stores import SQLiteStore
from mainstay.stores.base import RunId
from programs import checkpoint_jobs
from support.job_server import JobServer
from support.processes import require_tool

pytestmark = pytest.mark.process

PROGRAM = checkpoint_jobs.__file__
KILLED = signal.SIGKILL
ITEMS = [*range(checkpoint_jobs.ITEMS)]
RESULT = [ITEMS, [row * 10 for row in ITEMS if row % 3 == 1], [1000]]
CHARGES = [str(row) for row in [*ITEMS, 100] if row % 3 == 1]
LEAST_KILLS = {"1": 60, "2": 40, "3": 34, "time": 60, "hour": 22, "young_daly": 60}
LEAST_KILLS_OF_STRACE = 8
KILLS_OVER_A_FILE = 25
KILLED_JOB = Path(__file__).parents[2] / "docs" / "examples" / "killed_job.py"
MEMORY = Path("/dev/shm")  # noqa: S108 - no file of a guessable name is made there
SEEDS = random.Random(20260101)


@pytest.fixture(scope="module")
def server():
    server = JobServer()
    yield server
    server.close()


@pytest.fixture
def tmp_path(tmp_path):
    """A directory in memory, where there is one.

    SIGKILL takes nothing away that was written, synced or not, so a disk would prove no more; and
    some ten thousand fsyncs take no time.
    """
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


def done(url):
    """How many items the store says are done."""
    store = SQLiteStore(url.removeprefix("sqlite:///"))
    try:
        latest = store.load(RunId("job", "key")).latest
        return opened(latest).items if latest else 0
    finally:
        store.close()


def check_resumed(lines, items_saved):
    """Check what an attempt printed against what had been saved before it began."""
    rows = [int(rest) for word, rest in lines if word == "item"]
    assert not [line for line in lines if line[0] in ("WRONG", "error")]
    assert rows == ITEMS[items_saved : items_saved + len(rows)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("job", ["sync_job", "async_job"])
@pytest.mark.parametrize("every", checkpoint_jobs.EVERY)
def test_killed_around_every_store_call_a_run_goes_on_from_what_was_saved(
    server, tmp_path, job, every
):
    kills = 0
    for operation in ("acquire", "commit"):
        for when in ("before", "after"):
            for number in itertools.count(1):
                path = tmp_path / f"{operation}-{when}-{number}.db"
                url = f"sqlite:///{path}"
                plan = {"job": job, "every": every}
                status, first = server.run(url, **plan, die=[when, operation, number])
                if status == 0:
                    assert ("result", json.dumps(RESULT)) in first
                    break
                assert status == KILLED
                kills += 1
                check_resumed(first, 0)
                saved = done(url)
                status, second = server.run(url, **plan)
                assert status == 0
                check_resumed(second, saved)
                assert second[-1] == ("result", json.dumps(RESULT))
                charges = [rest for word, rest in first + second if word == "charge"]
                in_flight = 1 if when == "before" and operation == "commit" else 0
                assert len(charges) <= len(CHARGES) + in_flight
                assert {*charges} == {*CHARGES}
    assert kills >= LEAST_KILLS[every]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_killed_at_every_nth_write_call_a_run_goes_on_from_what_was_saved(server, tmp_path, call):
    strace = require_tool("strace", package="strace")
    kills = 0
    for number in itertools.count(1, 2 if call == "fdatasync" else 6):
        url = f"sqlite:///{tmp_path / f'{number}.db'}"
        plan = {"job": "sync_job"}
        inject = f"inject={call}:signal=KILL:when={number}"
        killed = subprocess.run(
            [strace, "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", inject,
             sys.executable, PROGRAM, url, json.dumps(plan)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "ptrace" in killed.stderr.lower():
            pytest.skip("strace may not trace here")
        lines = [tuple(line.split(" ", 1)) for line in killed.stdout.splitlines()]
        check_resumed([line for line in lines if len(line) == 2], 0)
        if killed.returncode == 0:
            break
        kills += 1
        saved = done(url)
        printed = sum(line[0] == "item" for line in lines)
        assert printed - 1 <= saved + 1
        status, second = server.run(url, **plan)
        assert status == 0
        check_resumed(second, saved)
        assert second[-1] == ("result", json.dumps(RESULT))
    assert kills >= LEAST_KILLS_OF_STRACE


def test_these_are_at_least_500_kills():
    around_store_calls = 2 * sum(LEAST_KILLS.values())  # sync and async
    assert around_store_calls + 2 * LEAST_KILLS_OF_STRACE + KILLS_OVER_A_FILE >= 500


def test_a_disk_that_fails_is_an_error_and_the_run_goes_on_from_what_was_saved(server, url):
    """Known fault 2: a failed fsync is not tried again on the same connection."""
    strace = require_tool("strace", package="strace")
    failed = subprocess.run(
        [strace, "-f", "-qq", "-o", os.devnull, "-e", "trace=fdatasync",
         "-e", "inject=fdatasync:error=EIO:when=24", sys.executable, PROGRAM, url,
         json.dumps({"job": "sync_job"})],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "ptrace" in failed.stderr.lower():
        pytest.skip("strace may not trace here")
    assert failed.returncode == 1
    assert "StoreUnavailableError" in failed.stderr
    saved = done(url)
    assert 0 < saved < len(ITEMS)
    status, lines = server.run(url, job="sync_job")
    assert (status, lines[-1]) == (0, ("result", json.dumps(RESULT)))
    check_resumed(lines, saved)


def start(url, **plan):
    return subprocess.Popen(
        [sys.executable, PROGRAM, url, json.dumps(plan)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def read_until(process, line):
    for printed in process.stdout:
        if printed.rstrip("\n") == line:
            return
    raise AssertionError(f"it ended without {line!r}")


def end(process, text=""):
    out, _ = process.communicate(text, timeout=120)
    return process.returncode, [line for line in out.splitlines() if not line.startswith("pid")]


def test_after_kill_9_the_run_goes_on_without_waiting_for_the_lease(url):
    process = start(url, job="slow_job", options={"lease": 3600})
    read_until(process, "item 1")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # not even waited for
    other = start(url, job="slow_job", options={"lease": 3600})
    assert end(other, "\n") == (0, ["item 1", "done 1", "item 2", "done 2", "result 3"])
    end(process)


def test_an_attempt_is_counted_before_it_can_kill_the_process(server, url):
    """Known fault 11: safe-state counts in memory, so a deadly item is tried for ever."""
    plan = {"job": "deadly_job", "options": {"max_crashes": 3}}
    for _ in range(3):
        assert server.run(url, **plan) == (KILLED, [("item", "0")])
    _, [(word, text)] = server.run(url, **plan)
    assert (word, text.split()[0]) == ("error", "PoisonedRunError")


def test_a_living_owner_keeps_the_run(server, url):
    process = start(url, job="slow_job")
    read_until(process, "item 1")
    status, lines = server.run(url, job="slow_job")
    assert status != 0
    assert lines[-1][1].startswith("RunBusyError")
    assert end(process, "\n") == (0, ["done 1", "item 2", "done 2", "result 3"])


def test_a_stopped_owner_that_wakes_after_a_takeover_changes_nothing(url):
    zombie = start(url, job="slow_job", options={"lease": 0.2})
    read_until(zombie, "item 1")
    os.kill(zombie.pid, signal.SIGSTOP)
    other = start(url, job="slow_job", options={"lease": 30, "on_busy": "wait"})
    assert end(other, "\n")[1][-1] == "result 3"
    os.kill(zombie.pid, signal.SIGCONT)
    zombie.stdin.write("\n")
    _, lines = end(zombie)
    assert "result 3" not in lines
    assert done(url) == 3


@pytest.mark.timeout(300)
def test_two_processes_that_race_for_a_run_do_its_work_once(tmp_path):
    servers = [JobServer(), JobServer()]
    try:
        for number in range(200):
            url = f"sqlite:///{tmp_path / f'{number}.db'}"  # they also race to make the file
            plan = {"job": "short_job", "options": {"on_busy": "return"}}
            for each in servers:
                each.start(url, **plan)
            charges = []
            for each in servers:
                status, lines = each.ended()
                assert (status, lines[-1]) == (0, ("result", "[0, 10, 20]"))
                charges += [rest for word, rest in lines if word == "charge"]
            assert charges == ["0", "1", "2"]
    finally:
        for server in servers:
            server.close()


def test_sigterm_saves_at_the_next_boundary_and_ends_as_by_sigterm(url):
    process = start(url, job="slow_job", options={"lease": 3600})
    read_until(process, "item 1")
    process.send_signal(signal.SIGTERM)
    assert end(process, "\n") == (-signal.SIGTERM, ["done 1"])
    assert done(url) == 2
    store = SQLiteStore(url.removeprefix("sqlite:///"))
    [(record, state)] = store.list()
    store.close()
    assert (state, record.exit) == ("interrupted", "sigterm")
    assert end(start(url, job="slow_job")) == (0, ["item 2", "done 2", "result 3"])


def test_a_second_sigterm_acts_at_once(url):
    process = start(url, job="slow_job")
    read_until(process, "item 1")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
    assert end(process)[0] == -signal.SIGTERM


def test_sigint_releases_the_run(url):
    process = start(url, job="slow_job", options={"lease": 3600})
    read_until(process, "item 1")
    process.send_signal(signal.SIGINT)
    assert end(process)[0] != 0
    assert end(start(url, job="slow_job"), "\n")[1][-1] == "result 3"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A CSV file of 100,000 rows; its path, and the sums that come out."""
    path = tmp_path_factory.mktemp("csv") / "orders.csv"
    numbers = random.Random(7)
    cents = [numbers.randrange(1, 100_000) for _ in range(100_000)]
    path.write_text("".join(f"{n},{c},note {n}\n" for n, c in enumerate(cents)))
    return path, [len(cents), sum(cents)]


@pytest.mark.timeout(300)
def test_a_job_over_a_large_file_killed_25_times_ends_with_the_exact_sums(server, rows, url):
    path, sums = rows
    plan = {"job": "csv_job", "args": [str(path)]}
    reached = 0
    for _ in range(KILLS_OVER_A_FILE):
        before = reached
        pid = server.start(url, **plan, every="time")
        while reached < before + SEEDS.randrange(1, 500):
            reached = done(url)
        os.kill(pid, KILLED)
        assert server.ended()[0] == KILLED
        assert done(url) >= reached
        reached = done(url)
    assert KILLS_OVER_A_FILE < reached < 100_000
    status, lines = server.run(url, **plan, every="hour")
    assert (status, lines[-1]) == (0, ("result", json.dumps(sums)))


def test_the_job_of_the_tutorial_is_killed_three_times_and_gives_the_exact_total():
    done = subprocess.run([sys.executable, KILLED_JOB], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("killed in row") == 3
