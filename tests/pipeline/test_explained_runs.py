"""No run is worse than what `explain` says: a share of `benchmarks/explain.py`, on its nestings."""

import math
import random
import statistics
from pathlib import Path

import pytest

from mainstay.testing import FakeClock
from support.examples import strides

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nesting(monkeypatch):
    """Runs nestings drawn by a random generator."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import explain  # noqa: PLC0415 - found there only now

    return explain.run


@pytest.mark.parametrize("seed", range(0, 3, strides()))
def test_no_run_is_worse_than_what_was_said(nesting, seed):
    rng, tightness = random.Random(seed), []
    with FakeClock() as clock:
        for _ in range(100):
            seconds, calls, worst_seconds, worst_calls = nesting(rng, clock=clock)
            assert seconds <= worst_seconds + 1e-6
            assert calls <= worst_calls
            if worst_seconds < math.inf:
                tightness.append(seconds / worst_seconds)
    assert statistics.fmean(tightness) > 0.75
