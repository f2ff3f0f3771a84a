"""The programs of the how-tos about HTTP clients, run as they are."""

import re
import subprocess
import sys

import pytest

from support.source import ROOT

pytestmark = pytest.mark.process


@pytest.mark.parametrize("name", ["httpx", "requests", "aiohttp"])
def test_the_program_says_what_the_page_shows(library, name):
    library(name)
    page = (ROOT / "docs" / "how-to" / f"{name}.md").read_text()
    (shown,) = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    command = [sys.executable, ROOT / "docs" / "examples" / f"{name}_client.py"]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    seconds = re.compile(r"after \d\.\d s")
    assert seconds.sub("after ... s", run.stdout) == seconds.sub("after ... s", shown)
