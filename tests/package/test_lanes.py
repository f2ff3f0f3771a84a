"""A test without the marker `process` starts none: `-m "not process"` is what it says."""

import multiprocessing
import os
import subprocess

import pytest

STARTS = {
    "fork": os.fork,
    "forkpty": os.forkpty,
    "posix_spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "system": lambda: os.system("true"),  # noqa: S605, S607 - it is refused
    "subprocess": lambda: subprocess.run(["true"], check=True),  # noqa: S607 - it is refused
    "multiprocessing": multiprocessing.get_context("spawn").Process(target=int).start,
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_test_that_starts_a_process_fails_without_the_marker(start):
    with pytest.raises(pytest.fail.Exception, match=r"give it `@pytest\.mark\.process`"):
        start()


@pytest.mark.process
def test_with_the_marker_it_may():
    assert subprocess.run(["true"], check=False).returncode == 0  # noqa: S607 - of the system
