"""Who holds a run, as seen past hidden processes, namespaces, and runs of older versions."""

import os
import shutil
import sqlite3
import subprocess
import sys

import attrs
import pytest

from mainstay._core import owner
from mainstay._core.owner import Owner, is_dead, this_process
from mainstay.stores import SQLiteStore
from mainstay.stores.base import Acquired, Held, Record, Request, RunId, how_gone, new_grant
from support.checkpoints import set_wall_clock

RUN = RunId("import", "acme")


@pytest.fixture
def child():
    """A process of its own that lives until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def owner_of(process):
    stat = owner._PROC.joinpath(str(process.pid), "stat").read_text().rpartition(")")[2].split()
    return attrs.evolve(this_process(), pid=process.pid, started=int(stat[19]))


def of_an_older_version(found):
    """The same owner, as versions wrote it that did not name the namespace of time."""
    return attrs.evolve(found, namespace=found.namespace.split()[0])


def end(process):
    process.kill()
    process.wait()


@pytest.fixture
def hidden(tmp_path, monkeypatch):
    """A `/proc` in which a process sees only itself: mounted with `hidepid`."""
    (tmp_path / "sys").symlink_to("/proc/sys")
    (tmp_path / "self").symlink_to(str(os.getpid()))
    (tmp_path / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    monkeypatch.setattr(owner, "_PROC", tmp_path)
    owner._boot_and_namespaces.cache_clear()
    yield
    owner._boot_and_namespaces.cache_clear()


# Processes that are not shown.


@pytest.mark.process
@pytest.mark.parametrize("written", [lambda owner: owner, of_an_older_version])
def test_a_process_that_is_not_shown_is_dead_only_if_the_kernel_says_so(child, request, written):
    found = written(owner_of(child))
    request.getfixturevalue("hidden")
    assert not is_dead(found)
    end(child)
    assert is_dead(found)


@pytest.mark.process
def test_a_process_that_may_not_be_signalled_lives(child, hidden, monkeypatch):
    def refused(_pid, _signal):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)
    assert not is_dead(attrs.evolve(this_process(), pid=child.pid, started=1))


@pytest.mark.parametrize("pid", [0, -1, 2**31, 2**80])
def test_a_number_that_no_process_has_proves_nothing(pid):
    assert not is_dead(attrs.evolve(this_process(), pid=pid))


@pytest.mark.process
def test_numbers_of_another_namespace_in_proc_are_not_taken_for_ours(child, tmp_path, monkeypatch):
    """As after ``unshare --pid --fork`` without a `/proc` of its own."""
    found = owner_of(child)
    (tmp_path / "sys").symlink_to("/proc/sys")
    (tmp_path / "self").symlink_to("99999")
    (tmp_path / "99999").symlink_to(f"/proc/{os.getpid()}")
    (tmp_path / str(child.pid)).symlink_to("/proc/1")  # another process
    (tmp_path / str(os.getpid())).symlink_to("/proc/1")
    here = this_process()
    monkeypatch.setattr(owner, "_PROC", tmp_path)
    owner._boot_and_namespaces.cache_clear()
    assert this_process() == here
    assert not is_dead(here)
    assert not is_dead(found)
    end(child)
    assert is_dead(found)
    owner._boot_and_namespaces.cache_clear()


# Real namespaces, where the test may make them.

JUDGE = """
import os, subprocess, sys
from mainstay.stores.base import *
from mainstay._core.owner import *

hide, *owner = sys.argv[1:]
if hide == "hide":
    subprocess.run(["mount", "-t", "proc", "-o", "hidepid=2", "proc", "/proc"], check=True)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    assert not os.path.exists("/proc/1")
assert this_process().boot and this_process().namespace
print(is_dead(Owner(owner[0], owner[1], int(owner[2]), int(owner[3]))))
"""


def judged(command, found, *, hide=False):
    """What a process in namespaces of its own says of an owner."""
    if (
        shutil.which(command[0]) is None
        or subprocess.run([*command, "true"], check=False).returncode
    ):
        pytest.skip("may not make namespaces")
    arguments = ["hide" if hide else "", *map(str, attrs.astuple(found))]
    ran = subprocess.run(
        [*command, sys.executable, "-c", JUDGE, *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {"True\n": True, "False\n": False}[ran.stdout]


TIME = ["unshare", "--time", "--boottime", "100000", "--monotonic", "100000", "--fork"]


@pytest.mark.process
@pytest.mark.parametrize("written", [lambda owner: owner, of_an_older_version])
def test_hidepid_hides_a_process_and_does_not_kill_it(child, written):
    found = written(owner_of(child))
    assert not judged(["unshare", "--mount"], found, hide=True)
    end(child)
    assert judged(["unshare", "--mount"], found, hide=True)


@pytest.mark.process
@pytest.mark.parametrize("written", [lambda owner: owner, of_an_older_version])
def test_a_process_that_started_by_another_clock_is_dead_only_if_its_number_is_free(child, written):
    found = written(owner_of(child))
    assert not judged(TIME, found)
    end(child)
    assert judged(TIME, found)


HOLDER = """
import sys
from mainstay.stores import SQLiteStore
from mainstay.stores.base import Request, RunId
from mainstay._core.owner import this_process

store = SQLiteStore(sys.argv[1])
store.acquire(RunId("import", "acme"), Request(owner=this_process(), life="x", lease=30.0))
print("acquired", flush=True)
input()
"""


@pytest.mark.process
def test_a_lease_by_another_clock_ends_by_the_clock_on_the_wall(tmp_path, monkeypatch):
    if shutil.which(TIME[0]) is None or subprocess.run([*TIME, "true"], check=False).returncode:
        pytest.skip("may not make namespaces")
    store = SQLiteStore(tmp_path / "runs.db")
    holder = subprocess.Popen(
        [*TIME, sys.executable, "-c", HOLDER, str(tmp_path / "runs.db")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "acquired\n"
    request = Request(owner=this_process(), life="y", lease=30.0)
    [(record, state)] = store.list()
    assert record.expires > 100_000  # by a clock that is far ahead
    assert state == "running"
    assert isinstance(store.acquire(RUN, attrs.evolve(request, grant=new_grant())), Held)
    set_wall_clock(monkeypatch, record.updated + 31)
    answer = store.acquire(RUN, attrs.evolve(request, grant=new_grant()))
    assert isinstance(answer, Acquired)
    assert answer.record.exit == "takeover"
    holder.communicate()
    store.close()


# Runs of older versions, which do not name the namespace of time.


def record_of(found, **changes):
    record = Record(run=RUN, life="x", owner=found, expires=130.0, seen=100.0, saved=100.0,
                    created=1000.0, updated=1000.0)  # fmt: skip
    return attrs.evolve(record, **changes)


@pytest.mark.process
def test_an_older_run_is_dead_when_its_process_is(child):
    found = of_an_older_version(owner_of(child))
    assert not is_dead(found)
    assert is_dead(attrs.evolve(found, started=found.started + 1))  # the number was used again
    end(child)
    assert is_dead(found)


@pytest.mark.process
def test_an_older_run_whose_number_is_used_by_a_process_of_another_time_is_not_dead(
    child, monkeypatch
):
    found = attrs.evolve(of_an_older_version(owner_of(child)), started=1)
    monkeypatch.setattr(owner, "_namespace", lambda _pid, _kind: "time:[1]")
    assert not is_dead(found)
    monkeypatch.setattr(owner, "_namespace", lambda _pid, _kind: "")
    assert not is_dead(found)


@pytest.mark.parametrize(
    ("now", "wall", "gone"),
    [(120.0, 1020.0, ""), (131.0, 1020.0, ""), (120.0, 1031.0, ""), (131.0, 1031.0, "takeover")],
)
def test_the_lease_of_an_older_run_is_over_when_it_is_by_every_clock(now, wall, gone):
    found = of_an_older_version(this_process())
    assert how_gone(record_of(found), now=now, wall=wall) == gone


@pytest.mark.parametrize(("now", "gone"), [(120.0, ""), (131.0, "takeover")])
def test_the_lease_of_a_run_by_the_same_clock_needs_no_other(now, gone):
    assert how_gone(record_of(this_process()), now=now, wall=0.0) == gone


@pytest.mark.process
def test_an_older_run_is_taken_over_at_once_after_kill_9(tmp_path, child):
    store = SQLiteStore(tmp_path / "runs.db")
    request = Request(owner=owner_of(child), life="x", lease=30.0)
    store.acquire(RUN, attrs.evolve(request, grant=new_grant()))
    db = sqlite3.connect(tmp_path / "runs.db")
    with db:
        db.execute("UPDATE run SET namespace = ?", [of_an_older_version(request.owner).namespace])
    db.close()
    mine = attrs.evolve(request, owner=this_process(), grant=new_grant())
    assert isinstance(store.acquire(RUN, mine), Held)
    end(child)
    answer = store.acquire(RUN, mine)
    assert isinstance(answer, Acquired)
    assert answer.record.exit == "crash"
    store.close()


# What is not known.


@pytest.mark.process
@pytest.mark.parametrize("boot", ["", "00000000-0000-0000-0000-000000000000"])
def test_a_store_of_many_machines_takes_no_free_number_for_a_proof(child, monkeypatch, boot):
    found = attrs.evolve(owner_of(child), boot=boot)
    end(child)
    assert not is_dead(found, local=False)
    assert is_dead(found)


@pytest.mark.process
def test_a_number_of_an_unknown_namespace_proves_nothing_on_linux(child, tmp_path, monkeypatch):
    monkeypatch.setattr(owner, "_PROC", tmp_path / "none")
    owner._boot_and_namespaces.cache_clear()
    found = Owner("", "", child.pid, 0)
    end(child)
    assert not is_dead(found)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert is_dead(found)
    owner._boot_and_namespaces.cache_clear()
