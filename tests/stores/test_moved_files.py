"""A SQLite file that is removed, replaced or moved, or a directory that is left, under a run."""

import os
import shutil
from pathlib import Path

import pytest

from mainstay.errors import LeaseLostError, StoreUnavailableError
from mainstay.stores import SQLiteStore
from mainstay.stores.base import RunId

NOBODY = RunId("nobody", "nothing")


def replaced(path):
    shutil.copy(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").replace(path)


def moved(path):
    path.rename(path.with_suffix(".moved"))


@pytest.mark.parametrize("happens", [Path.unlink, replaced, moved])
def test_a_save_to_a_file_that_is_no_longer_there_is_an_error(runner, tmp_path, happens):
    path = tmp_path / "runs.db"

    async def body(cp, happens):
        async for row in cp.iterate(range(5)):
            if row == 2 and happens:
                happens(path)
        return "done"

    job = runner.job(body, store=SQLiteStore(path))
    # A thread that had no connection yet has made a new file, where the run is not.
    message = "its file was removed or replaced|token 1 saves nothing any more"
    with pytest.raises((StoreUnavailableError, LeaseLostError), match=message):
        job(happens)
    for left in tmp_path.glob("runs.db*"):
        left.unlink()
    assert job(None) == "done"


def test_whoever_begins_finds_the_file_that_is_there_now(tmp_path):
    path = tmp_path / "runs.db"
    store = SQLiteStore(path)
    store.forget(NOBODY)
    for left in tmp_path.glob("runs.db*"):
        left.unlink()
    assert store.list() == []
    assert path.exists()


def test_a_file_that_may_not_be_looked_at_is_taken_for_the_same(runner, tmp_path, monkeypatch):
    def refused(_path, **_options):
        raise PermissionError

    async def body(cp):
        monkeypatch.setattr(os, "stat", refused)
        await cp.save()
        return 1

    assert runner.job(body, store=SQLiteStore(tmp_path / "runs.db"))() == 1


def test_a_relative_path_means_one_file_wherever_the_program_goes(runner, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("runs.db")

    async def body(cp):
        os.chdir("elsewhere")
        store.close()  # so that the next save opens it again, as a thread of its own would
        await cp.save()

    runner.job(body, store=store)()
    assert [file.name for file in (tmp_path / "elsewhere").iterdir()] == []
    assert repr(store) == "SQLiteStore('runs.db')"
