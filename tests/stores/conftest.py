"""What the tests of stores share."""

import tempfile
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


@pytest.fixture
def store(path):
    store = SQLiteStore(path)
    yield store
    store.close()
