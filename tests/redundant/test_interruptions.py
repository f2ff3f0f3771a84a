"""Signal handlers that make redundant calls while one is being made: nothing breaks, all counts."""

import asyncio

import pytest

from mainstay import RetryBudget, hedge, redundant
from mainstay._redundant import latency
from mainstay._redundant.latency import LatencyTracker
from mainstay.hedge import delay_of
from support.examples import strides
from support.interruptions import at_each_interruption

START = delay_of(hedge.quantile(0.5))
BATCH = 8  # of 64: each duration in it adds the same interruptions once more


@pytest.mark.parametrize("held", [1, BATCH - 1, 2 * BATCH])
def test_a_handler_may_come_in_while_latencies_are_counted(held, monkeypatch):
    monkeypatch.setattr(latency, "BATCH", BATCH)

    def attempt():
        budget = RetryBudget(ratio=1.0, floor=0.0, window=3600.0)
        tracker = LatencyTracker(START, budget)
        for _ in range(held):
            tracker._durations.append(1.0)

        def act():
            tracker.answered(1.0, 1.0)

        def handler():
            tracker.answered(1.0, 1.0, at_once=True)
            tracker.took(1.0)

        def check():
            tracker.catch_up()
            assert not tracker._durations
            assert held + 2 <= tracker._sketch._total <= held + 3
            assert budget._window.balance(0.0) == held + 2
            assert tracker._sketch._gap == pytest.approx(0.5 * tracker._sketch._total)
            assert tracker._sketch.value() == pytest.approx(1.0, rel=0.05)

        return act, handler, check

    assert at_each_interruption(attempt, stride=2 * strides() - 1) > 10


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_handler_may_make_a_call_while_one_is_made(kind, metrics):
    policy = redundant(start=hedge.quantile(0.5, at_least=60.0), name="work")

    @policy
    def work():
        return 1

    @policy
    async def awork():
        return 1

    def attempt():
        before = metrics("calls_total", outcome="success")
        answers = []

        def act():
            answers.append(work() if kind == "def" else asyncio.run(awork()))

        def handler():
            answers.append(work())

        def check():
            assert answers == [1, 1]
            assert metrics("calls_total", outcome="success") == before + 2

        return act, handler, check

    assert at_each_interruption(attempt, stride=29) > 10
