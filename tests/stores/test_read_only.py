"""Looking at a store that may only be read."""

import os
import shutil
import sqlite3
import subprocess
import sys

import pytest

from mainstay import checkpoint_run
from mainstay.errors import StoreUnavailableError
from mainstay.stores import SQLiteStore
from mainstay.stores._opening import Opener
from mainstay.stores.base import RunId

HOLDER = """
import sys
from mainstay import checkpoint_run

with checkpoint_run("held", store=sys.argv[1]) as cp:
    print("acquired", flush=True)
    input()
"""


def without_privileges():
    """How to start a program that may write only what its user may."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everything")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def fail(store):
    with checkpoint_run("failed", store=store) as cp:
        for letter in cp.iterate("abc"):
            if letter == "b":
                raise KeyError


@pytest.fixture
def path(tmp_path):
    (tmp_path / "kept").mkdir()
    path = tmp_path / "kept" / "runs.db"
    store = SQLiteStore(path)
    with checkpoint_run("ended", store=store) as cp:
        assert [*cp.iterate("abc")] == ["a", "b", "c"]
    with pytest.raises(KeyError):
        fail(store)
    store.close()
    yield path
    path.parent.chmod(0o700)


@pytest.fixture
def killed(path):
    """The store after the end of a process that left its log behind."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, f"sqlite:///{path}"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout.readline()
    holder.kill()
    holder.communicate()
    assert {each.name for each in path.parent.iterdir()} == {
        "runs.db", "runs.db-wal", "runs.db-shm",
    }  # fmt: skip
    return path


def command(path, action, *arguments, prefix=None):
    ran = subprocess.run(
        [*(without_privileges() if prefix is None else prefix), sys.executable, "-m", "mainstay",
         "checkpoints", action, *arguments, "--store", f"sqlite:///{path}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return ran.stdout, ran.stderr


def make_read_only(path, *, directory=True, files=True):
    for each in path.parent.iterdir():
        each.chmod(0o444 if files else 0o644)
    if directory:
        path.parent.chmod(0o555)


@pytest.mark.process
@pytest.mark.parametrize(("directory", "files"), [(True, True), (True, False), (False, True)])
def test_runs_are_listed_shown_and_verified(path, directory, files):
    make_read_only(path, directory=directory, files=files)
    out, err = command(path, "list")
    assert err == ""
    assert [line.split()[0] for line in out.splitlines() if "run " in line] == [
        "done", "interrupted",
    ]  # fmt: skip
    assert '"items": 1' in command(path, "show", "run", "failed")[0]
    assert command(path, "verify") == ("2 runs, 0 damaged parts\n", "")
    assert [each.name for each in path.parent.iterdir()] == ["runs.db"]


@pytest.mark.process
@pytest.mark.parametrize("index", [True, False])
def test_what_is_only_in_the_log_is_seen(killed, index):
    if not index:
        killed.with_name("runs.db-shm").unlink()
    make_read_only(killed)
    out, err = command(killed, "list")
    assert err == ""
    assert "held" in out
    assert command(killed, "verify") == ("3 runs, 0 damaged parts\n", "")


@pytest.mark.process
def test_a_run_that_goes_on_is_seen(path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, f"sqlite:///{path}"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout.readline()
    make_read_only(path)
    out, err = command(path, "list")
    assert err == ""
    [running] = [line for line in out.splitlines() if line.startswith("running")]
    assert running.endswith("held")
    holder.communicate(b"\n")


@pytest.mark.process
def test_a_directory_that_is_mounted_to_be_read_only_is_looked_at(path):
    unshare = ["unshare", "--mount"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], check=False).returncode
    ):
        pytest.skip("may not mount")
    mount = 'mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; exec "$@"'
    out, err = command(path, "list", prefix=[*unshare, "sh", "-ec", mount, str(path.parent)])
    assert err == ""
    assert "failed" in out


@pytest.mark.process
def test_a_forgotten_run_is_refused_there(path):
    make_read_only(path)
    _, err = command(path, "forget", "run", "failed")
    assert "attempt to write a readonly database" in err
    assert "must be allowed to write the file and its directory" in err


PROGRAM = """
import os, sys
from mainstay.stores import SQLiteStore
from mainstay.stores.base import RunId

store = SQLiteStore(sys.argv[1])
print(len(store.list()), len(store.list("none")))
input()
print(len(store.list()))
"""


@pytest.mark.process
def test_who_looks_again_sees_what_was_written_meanwhile(path):
    make_read_only(path, directory=False)
    reader = subprocess.Popen(
        [*without_privileges(), sys.executable, "-c", PROGRAM, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert reader.stdout.readline() == "2 0\n"
    path.chmod(0o644)
    store = SQLiteStore(path)
    for number in range(50):
        with checkpoint_run(str(number), store=store):
            pass
    store.close()
    path.chmod(0o444)
    assert reader.communicate("\n")[0] == "52\n"


@pytest.mark.process
def test_a_file_that_may_not_even_be_read_is_refused(path):
    path.chmod(0o000)
    _, err = command(path, "list")
    assert "unable to open database file" in err
    path.chmod(0o600)
    assert StoreUnavailableError.__name__ not in err


# The same in this process, which is told that it may not write.


@pytest.fixture
def refused(monkeypatch):
    """Let this process believe that it may not write the file."""
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and allowed(path, mode))


def fill(store):
    with checkpoint_run("ended", store=store) as cp:
        assert [*cp.iterate("abc")] == ["a", "b", "c"]


def test_a_file_that_nobody_uses_is_read_without_anything_beside_it(tmp_path, refused):
    store = SQLiteStore(tmp_path / "runs.db")
    fill(store)
    store.close()
    assert [state for _, state in store.list()] == ["done"]
    assert {each.name for each in tmp_path.iterdir()} == {"runs.db"}
    with pytest.raises(StoreUnavailableError, match="attempt to write a readonly database"):
        store.forget(RunId("run", "ended"))


@pytest.mark.parametrize("endings", [["", "-wal"], ["", "-wal", "-shm"]])
def test_a_log_that_was_left_behind_is_read_as_well(tmp_path, monkeypatch, endings):
    store = SQLiteStore(tmp_path / "runs.db")
    fill(store)
    for ending in endings:
        shutil.copy(tmp_path / f"runs.db{ending}", tmp_path / f"copy.db{ending}")
    store.close()
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    copy = SQLiteStore(tmp_path / "copy.db")
    assert [state for _, state in copy.list()] == ["done"]
    copy.close()


def test_a_directory_that_may_not_be_written_is_found_out_by_trying(tmp_path, monkeypatch):
    store = SQLiteStore(tmp_path / "runs.db")
    fill(store)
    store.close()

    def refused(_opener):
        error = sqlite3.OperationalError("attempt to write a readonly database")
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY_DIRECTORY
        raise error

    monkeypatch.setattr(Opener, "_opened_to_write", refused)
    assert [state for _, state in store.list()] == ["done"]
    (tmp_path / "runs.db").write_bytes(b"no database at all, but long enough\n" * 100)
    with pytest.raises(StoreUnavailableError, match="attempt to write a readonly database"):
        store.list()
