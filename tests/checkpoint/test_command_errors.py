"""`python -m mainstay checkpoints`: what the system refuses is one line and exit code 2."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mainstay import checkpoint_run
from mainstay.__main__ import main


def ended(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["checkpoints", *arguments])
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    return end.value.code, printed.err


def test_a_name_that_no_file_can_have_is_one_line(capsys):
    code, said = ended(capsys, "list", "--store", f"sqlite:///{'x' * 300}")
    assert code == 2
    assert os.strerror(errno.ENAMETOOLONG) in said


def test_a_file_in_the_place_of_a_directory_is_one_line(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, said = ended(capsys, "list", "--store", f"sqlite:///{tmp_path}/file/runs.db")
    assert code == 2
    assert os.strerror(errno.ENOTDIR) in said


def test_a_directory_that_may_not_be_looked_into_is_one_line(capsys, monkeypatch):
    def refused(_path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/secret/runs.db")

    monkeypatch.setattr(Path, "stat", refused)  # as root, every directory may be looked into
    code, said = ended(capsys, "list", "--store", "sqlite:////secret/runs.db")
    assert code == 2
    assert os.strerror(errno.EACCES) in said


@pytest.mark.process
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_output_that_cannot_be_written_is_one_line(url):
    with checkpoint_run("key", store=url):
        pass
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mainstay", "checkpoints", "list", "--store", url],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert os.strerror(errno.ENOSPC) in done.stderr
