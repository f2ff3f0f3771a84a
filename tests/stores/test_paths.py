"""Paths that are no file to SQLite, or another one than was meant."""

import pytest

from mainstay.errors import StoreUnavailableError
from mainstay.stores import SQLiteStore, store_of


def test_memory_is_another_store():
    with pytest.raises(ValueError, match=r"for memory use MemoryStore\(\), or memory://"):
        store_of("sqlite:///:memory:")


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("path", ["directory", "/dev/null"])
def test_what_is_no_file_is_said(tmp_path, path, network):
    """Known fault: a directory was said to have hard links, which one should remove."""
    (tmp_path / "directory").mkdir()
    with pytest.raises(StoreUnavailableError, match="it is a directory or a device; name a file"):
        SQLiteStore(tmp_path / path, network=network).list()


def test_a_url_is_no_path():
    with pytest.raises(ValueError, match=r"must be a path, and 'sqlite:///jobs\.db' is a URL"):
        SQLiteStore("sqlite:///jobs.db")


@pytest.mark.parametrize("name", ["one", "one/runs.db"])
def test_links_in_a_circle_are_a_store_that_is_not_available(tmp_path, name):
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with pytest.raises(StoreUnavailableError, match="unable to open database file"):
        SQLiteStore(tmp_path / name).list()


def test_a_file_behind_a_link_is_used_and_not_taken_for_a_moved_one(runner, tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "runs.db")

    async def body(cp):
        return [row async for row in cp.iterate("ab")]

    assert runner.job(body, store=SQLiteStore(tmp_path / "link.db"))() == ["a", "b"]
