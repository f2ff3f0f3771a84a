"""What the tests of stores share."""

import gc
import tempfile
import threading
from pathlib import Path

import pytest

from mainstay.stores import SQLiteStore

MEMORY = Path("/dev/shm")  # noqa: S108 - the directory that systems have for it


@pytest.fixture
def tmp_path(tmp_path):
    """A directory in memory, where there is one: nothing here is about the disk itself."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        yield Path(directory)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


def watchers():
    return {each for each in threading.enumerate() if each.name == "mainstay-leases"}


@pytest.fixture
def store(path):
    before = watchers()
    store = SQLiteStore(path)
    yield store
    left = watchers() - before
    if left:  # they release what a run could not, once no exception holds it, and open files anew
        gc.collect()
        for each in left:
            each.join(30)
    store.close()
