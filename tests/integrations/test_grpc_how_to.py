"""The program of the how-to about gRPC, run as it is."""

import re
import subprocess
import sys

import pytest

from support.source import ROOT


@pytest.mark.process
def test_the_program_says_what_the_page_shows(library):
    library("grpc")
    page = (ROOT / "docs" / "how-to" / "grpc.md").read_text()
    (shown,) = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    command = [sys.executable, ROOT / "docs" / "examples" / "grpc_shop.py"]
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    seconds = re.compile(r"after \d\.\d s")
    assert seconds.sub("after ... s", run.stdout) == seconds.sub("after ... s", shown)
