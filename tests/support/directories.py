"""Directories of tests that are not about the disk itself."""

import tempfile
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")  # noqa: S108 - the directory that systems have for it


@pytest.fixture
def tmp_path(tmp_path):
    """A directory in memory, where there is one."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        yield Path(directory)
