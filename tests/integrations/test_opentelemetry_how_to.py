"""The program of the how-to about OpenTelemetry, run as it is."""

import re

import pytest

from support.processes import python
from support.source import ROOT


@pytest.mark.process
def test_the_program_says_what_the_page_shows():
    page = (ROOT / "docs" / "how-to" / "opentelemetry.md").read_text()
    (shown,) = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert python(str(ROOT / "docs" / "examples" / "telemetry.py")) == shown
