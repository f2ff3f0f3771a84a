"""The fixtures of mainstay's pytest plugin: `mainstay.testing` without imports.

A fixture enters its block before the test and leaves it after it.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from mainstay import testing


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
def recorded() -> Iterator[Any]:
    """Record the test into metrics of its own, which it gets: `mainstay.testing.recorded`."""
    with testing.recorded() as metrics:
        yield metrics


@pytest.fixture
def faults() -> type[testing.Faults]:
    """Give the test `mainstay.testing.Faults`."""
    return testing.Faults
