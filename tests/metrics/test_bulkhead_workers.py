"""What a scrape of several worker processes says of the bulkheads that they have."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from mainstay import Metrics
from mainstay._metrics.multiprocess import VARIABLE
from support.processes import LONGEST_RUN, PROGRAMS, environment

pytestmark = pytest.mark.process


class Worker:
    """A process of `programs/bulkhead_worker.py`."""

    def __init__(self, directory: Path, limit: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "bulkhead_worker.py"), limit],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment({VARIABLE: str(directory)}),
        )
        self._done()

    def __call__(self, command: str) -> None:
        """Have it do something, and wait until that is done."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        self._done()

    def _done(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "done\n"

    def kill(self) -> None:
        self.process.kill()
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the workers have their files, and `Metrics` of the test."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def start(directory: Path) -> Iterator[Callable[[str], Worker]]:
    """Starts a worker with that limit; all are ended after the test."""
    workers = []

    def start(limit: str) -> Worker:
        workers.append(Worker(directory, limit))
        return workers[-1]

    yield start
    for each in workers:
        each.end()


@pytest.fixture
def shown(directory: Path) -> Callable[[], tuple[float | None, ...]]:
    """Gives what a scrape says: the limit, the calls in flight, those that wait."""

    def shown() -> tuple[float | None, ...]:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]  # it has no types
        return tuple(
            registry.get_sample_value(f"mainstay_{name}", {"component": "orders"})
            for name in ("concurrency_limit", "in_flight", "waiting")
        )

    return shown


Shown = Callable[[], tuple[float | None, ...]]
Start = Callable[[str], Worker]


def soon(shown: Shown, expected: tuple[float | None, ...]) -> None:
    """Wait until that is shown: what calls do is written each second."""
    end = time.monotonic() + LONGEST_RUN
    while (found := shown()) != expected:
        assert time.monotonic() < end, f"{found}, and not {expected}"
        time.sleep(0.02)


def test_a_scrape_adds_up_what_the_workers_have(start: Start, shown: Shown) -> None:
    one, other = start("3"), start("2")
    assert shown() == (5, 0, 0)
    one("hold 1")
    other("hold 2")
    other("wait 4")
    soon(shown, (5, 3, 4))
    other("let go")
    soon(shown, (5, 1, 0))
    one("let go")
    soon(shown, (5, 0, 0))


def test_another_limit_is_shown_at_once(start: Start, shown: Shown) -> None:
    one, other = start("3"), start("2")
    one("resize 10")
    assert shown() == (12, 0, 0)
    other("hold 2")
    other("resize 1")
    assert shown()[0] == 11
    soon(shown, (11, 2, 0))


def test_an_adaptive_limit_is_shown_as_it_moves(start: Start, shown: Shown) -> None:
    adaptive, _other = start("adaptive"), start("2")
    assert shown() == (22, 0, 0)
    adaptive("overload")
    soon(shown, (7, 0, 0))


def test_what_a_killed_worker_had_is_gone_with_the_next_that_starts(
    start: Start, shown: Shown
) -> None:
    one, other = start("3"), start("2")
    one("hold 3")
    one("wait 1")
    other("hold 1")
    soon(shown, (5, 4, 1))
    one.kill()
    Metrics(None)
    assert shown() == (2, 1, 0)
    assert start("4").process.poll() is None
    assert shown() == (6, 1, 0)


def test_a_forked_child_has_all_places_and_shows_its_own(start: Start, shown: Shown) -> None:
    parent = start("3")
    parent("hold 2")
    soon(shown, (3, 2, 0))
    parent("fork")
    soon(shown, (6, 2, 0))
    parent("hold 1")  # in the child
    soon(shown, (6, 3, 0))


def test_a_bulkhead_that_is_gone_is_not_shown(start: Start, shown: Shown) -> None:
    one, _other = start("3"), start("2")
    one("forget")
    soon(shown, (2, 0, 0))
