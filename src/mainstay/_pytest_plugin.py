"""The fixtures of mainstay's pytest plugin: `mainstay.testing` without imports.

A fixture enters its block before the test and leaves it after it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mainstay import testing
from mainstay._core.events import forget_firsts
from mainstay._core.sharing import reset_all
from mainstay.testing import _crashes


@pytest.fixture
def fake_clock() -> Iterator[testing.FakeClock]:
    """Run the test on a `mainstay.testing.FakeClock`, which the test gets."""
    with testing.FakeClock() as clock:
        yield clock


@pytest.fixture
def no_waits() -> Iterator[None]:
    """Run the test without waits between attempts: `mainstay.testing.no_waits`."""
    with testing.no_waits():
        yield


@pytest.fixture
def recorded() -> Iterator[testing.RecordedMetrics]:
    """Record the test into metrics of its own, which it gets: `mainstay.testing.recorded`."""
    with testing.recorded() as metrics:
        yield metrics


@pytest.fixture
def faults() -> type[testing.Faults]:
    """Return `mainstay.testing.Faults`."""
    return testing.Faults


@pytest.fixture
def reset_mainstay() -> Iterator[None]:
    """Have the test, and those after it, find everything as if just made.

    Every pool, circuit breaker, bulkhead and rate limit of the process, every budget, the answers
    that fallbacks keep, what redundant calls know of latencies, and what the log has said once: all
    forget what happened, before the test and after it. Pools close what they have opened. Metrics,
    stores and listeners stay as they are.
    """
    _forget_everything()
    yield
    _forget_everything()


def _forget_everything() -> None:
    reset_all()
    forget_firsts()


@pytest.fixture
def crash_at_every_save() -> Callable[[Callable[[str], Any]], list[testing.Crash]]:
    """Return a function that kills another one at each of its saves in turn.

    It takes a function of a store's URL, runs it in a child process that dies by SIGKILL just
    before or just after its n-th save, and again in a second one, which is not killed. It returns a
    `mainstay.testing.Crash` for each of these rounds. The store is new in each round.
    """
    return _crashes.crash_at_every_save
