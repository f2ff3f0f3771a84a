"""An adaptive limit before a real server that is asked for twice as much as it can do."""

import asyncio
import importlib

import pytest

from mainstay import Adaptive
from support.source import ROOT

pytestmark = pytest.mark.process

SECONDS = 3.0


@pytest.fixture
def benchmark(monkeypatch):
    """`benchmarks/overloaded_server.py`, of which this is a share."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("overloaded_server")


def test_most_of_what_it_can_do_reaches_callers_in_time(benchmark):
    possible = asyncio.run(benchmark.capacity(1.0))
    load = asyncio.run(benchmark.measured(Adaptive(), benchmark.OFFERED, SECONDS))
    assert load.goodput() > 0.7 * possible
    assert load.refused > 0.7 * (benchmark.OFFERED - possible) * SECONDS
    assert load.late < 0.05 * len(load.answered)
