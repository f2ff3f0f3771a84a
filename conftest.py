"""Runs every example: the Python blocks of README.md and docs/, the doctests in docstrings.

The text of a docstring is read from `src`; what it runs with is the `mainstay` that is installed,
imported by its name, so there is never a second copy of a module. Waits between attempts are left
out everywhere, or an example could take minutes, and whatever port an example serves metrics on, it
gets a free one, until it ends.

Only this process is measured by coverage.py. The children that tests start are killed, starved of
disk and forked while threads run, in all of which coverage.py loses what it counted or hangs.
"""

import gc
import os
import signal
from collections.abc import Iterator

import prometheus_client
import pytest
from sybil import Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.myst import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

from mainstay import testing

# A shell that starts pytest in the background has it, and all that it starts, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

for _name in [name for name in os.environ if name.startswith("COVERAGE_")]:
    del os.environ[_name]

_FIXTURES = ["waits_left_out", "served_on_a_free_port"]
_pages = Sybil([PythonCodeBlockParser()], patterns=["*.md"], fixtures=_FIXTURES)
_docstrings = Sybil([DocTestParser()], path="src", patterns=["*.py"], fixtures=_FIXTURES)

pytest_collect_file = (_pages + _docstrings).pytest()


@pytest.fixture(scope="module", autouse=True)
def garbage_of_its_own() -> None:
    """Leave what was there before a module out of each garbage collection that its tests ask for.

    There are hundreds of them, and each would go through every test that was collected and every
    report that was written.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def waits_left_out() -> Iterator[None]:
    """Run an example without waits, as the fixture `no_waits` would, whose name examples use."""
    with testing.no_waits():
        yield


@pytest.fixture
def served_on_a_free_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `start_http_server` serve on a free port of this machine, and nobody else."""
    served = []
    start = prometheus_client.start_http_server

    def start_on_a_free_port(_port: int) -> None:
        served.append(start(0, "127.0.0.1"))

    monkeypatch.setattr(prometheus_client, "start_http_server", start_on_a_free_port)
    yield
    for server, thread in served:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.hookimpl(trylast=True)  # after pytest-randomly
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the examples of a page back in its order: each builds on those before it."""
    examples = [item for item in items if isinstance(item, SybilItem)]
    pages = {page: place for place, page in enumerate(dict.fromkeys(e.path for e in examples))}
    examples.sort(key=lambda each: (pages[each.path], each.example.region.start))
    items[:] = [*(item for item in items if not isinstance(item, SybilItem)), *examples]
