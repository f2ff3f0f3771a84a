"""What the tests of stores share."""

import gc
import threading

import pytest

from mainstay.stores import SQLiteStore
from support.directories import tmp_path

__all__ = ["path", "store", "tmp_path"]


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
