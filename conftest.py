"""Runs every example: the Python blocks of README.md and docs/, the doctests in docstrings.

The text of a docstring is read from `src`; what it runs with is the `mainstay` that is installed,
imported by its name, so there is never a second copy of a module. Waits between attempts are left
out everywhere, or an example could take minutes, and whatever port an example serves metrics on, it
gets a free one, until it ends.

Hypothesis tries a few examples of each property, and all with `--hypothesis-profile=full`.

A test that starts a process has the marker `process`; without it, the start is refused, so that
`-m "not process"` is what it says.

Only this process is measured by coverage.py. The children that tests start are killed, starved of
disk and forked while threads run, in all of which coverage.py loses what it counted or hangs.
"""

import functools
import gc
import multiprocessing.process
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from socketserver import BaseServer
from typing import Any

import httpx
import prometheus_client
import pytest
from hypothesis import settings
from sybil import Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.myst import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

from mainstay import testing

# A shell that starts pytest in the background has it, and all that it starts, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

for _name in [name for name in os.environ if name.startswith("COVERAGE_")]:
    del os.environ[_name]

if sys.dont_write_bytecode:
    # Each worker of pytest-xdist would compile all tests anew, and rewrite their asserts, which
    # takes as long as to collect them. Nothing is written beside the sources all the same.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parent / ".pytest_cache" / "bytecode")

settings.register_profile("edit", max_examples=10, deadline=None)
settings.register_profile("full", max_examples=100, deadline=None)
settings.load_profile("edit")

_unmarked = ""  # the test that is running, if it lacks the marker


def _refused_without_the_marker(start: Callable[..., Any]) -> Callable[..., Any]:
    """Let what starts a process fail the test that is running if it does not say so."""

    @functools.wraps(start)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if _unmarked:
            pytest.fail(f"{_unmarked} starts a process; give it `@pytest.mark.process`")
        return start(*args, **kwargs)

    return checked


# An audit hook would see all of them, but Python 3.11 cannot trace threads that start during one.
for _owner, _name in [
    (os, "fork"),
    (os, "forkpty"),
    (os, "posix_spawn"),
    (os, "system"),
    (subprocess.Popen, "__init__"),
    (multiprocessing.process.BaseProcess, "start"),
]:
    if hasattr(_owner, _name):  # not every system has all of them
        setattr(_owner, _name, _refused_without_the_marker(getattr(_owner, _name)))


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at its options
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole lane for each edit on all processors, unless a number of them is given."""
    if "PYTEST_XDIST_WORKER" in os.environ or not config.pluginmanager.hasplugin("xdist"):
        return
    options = config.option
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    free = options.numprocesses is None and not options.usepdb
    if options.markexpr == "not process" and whole and free:
        options.numprocesses = len(os.sched_getaffinity(0))
        options.dist = "loadfile"  # examples of a page build on each other
        if options.capture == "fd":
            options.capture = "sys"  # of the workers: takes less time, and no process writes here


def pytest_configure(config: pytest.Config) -> None:
    """Have pytest-randomly seed nothing of its own: a test is seeded once, and not in each phase.

    `random` is the only source of chance that is used here.
    """
    config.option.randomly_reset_seed = False


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """Look for no garbage meanwhile: of all that is made here, nearly everything stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[Any]:
    """Know which test is running, from its first fixture to its last.

    After the last example of a page its objects go, and with its pools their threads.
    """
    global _unmarked
    _unmarked = "" if item.get_closest_marker("process") else item.nodeid
    random.seed(f"{getattr(item.config.option, 'randomly_seed', 0)} {item.nodeid}")
    try:
        return (yield)
    finally:
        _unmarked = ""
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            for value in item.callspec.params.values():
                _forget_where_raised(value if isinstance(value, list | tuple) else [value])
        if isinstance(item, SybilItem) and (nextitem is None or nextitem.path != item.path):
            item.example.document.namespace.clear()
            gc.collect()


def _forget_where_raised(values: Iterable[object]) -> None:
    """Let go of the frames that the exceptions among the parameters of a test were raised in.

    Parameters stay until the end. Each frame would keep an event loop and its tasks, and each
    `asyncio.run` goes through all tasks that there are.
    """
    for each in values:
        if isinstance(each, BaseException):
            each.__traceback__ = each.__context__ = None
        if isinstance(each, BaseExceptionGroup):
            _forget_where_raised(each.exceptions)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Let a report be sent to another process, whatever was logged in its test."""
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]


def _without_examples() -> list[str]:
    """Name the modules without any example, whose docstrings Sybil would look for all the same."""
    source = Path(__file__).parent / "src"
    files = source.rglob("*.py")
    return [str(each.relative_to(source)) for each in files if ">>>" not in each.read_text("utf-8")]


def _cannot_run() -> list[str]:
    """Name the integrations whose library is not installed; in CI one environment has them all."""
    integrations = Path(__file__).parent / "src" / "mainstay" / "integrations"
    names = [path.stem for path in integrations.glob("[a-z]*.py")]
    missing = [name for name in names if name in _LIBRARIES and find_spec(name) is None]
    return [] if _HAS_CLIENTS else [f"mainstay/integrations/{name}.py" for name in missing]


_FIXTURES = ["waits_left_out", "served_on_a_free_port", "a_shop_answers"]
_LIBRARIES = {"aiohttp", "grpc", "httpx", "requests"}
_HAS_CLIENTS = bool(os.environ.get("MAINSTAY_REQUIRE_CLIENTS"))
_pages = Sybil([PythonCodeBlockParser()], patterns=["*.md"], fixtures=_FIXTURES)
_docstrings = Sybil(
    [DocTestParser()],
    path="src",
    patterns=["*.py"],
    excludes=[*_without_examples(), *_cannot_run()],
    fixtures=_FIXTURES,
)

pytest_collect_file = (_pages + _docstrings).pytest()


@pytest.fixture(scope="module", autouse=True)
def garbage_of_its_own() -> Iterator[None]:
    """Leave what was there before a module out of each garbage collection that its tests ask for.

    There are hundreds of them, and each would go through every test that was collected and every
    report that was written. What a module leaves is collected at its own end, so that an exception
    of a finaliser is reported for one of its tests, and not for the first one of the next module.
    """
    gc.freeze()
    yield
    gc.collect()


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
    soon = functools.partialmethod(BaseServer.serve_forever, 0.01)  # it ends, instead of in 0.5 s
    monkeypatch.setattr(BaseServer, "serve_forever", soon)
    yield
    for server, thread in served:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def a_shop_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let httpx find a page at each address of shop.example, and nothing elsewhere."""

    def answer(_transport: object, request: httpx.Request) -> httpx.Response:
        if request.url.host != "shop.example":
            raise httpx.ConnectError("no such name", request=request)
        return httpx.Response(200, text=f"page of {request.url}")

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)


@pytest.hookimpl(wrapper=True)  # around pytest-randomly, and before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark the examples that start processes; put those of a page back in its order.

    Each example builds on those before it.
    """
    for item in items:
        if isinstance(item, SybilItem) and "crash_at_every_save" in _source(item):
            item.add_marker(pytest.mark.process)
    yield
    examples = [item for item in items if isinstance(item, SybilItem)]
    pages = {page: place for place, page in enumerate(dict.fromkeys(e.path for e in examples))}
    examples.sort(key=lambda each: (pages[each.path], each.example.region.start))
    items[:] = [*(item for item in items if not isinstance(item, SybilItem)), *examples]


def _source(item: SybilItem) -> str:
    region = item.example.region
    return item.example.document.text[region.start : region.end]
