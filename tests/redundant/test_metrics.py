"""What redundant calls show in Prometheus besides what every policy does."""

import asyncio
import gc
import json
import os
import weakref

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mainstay import Metrics, hedge, redundant, vote
from mainstay.testing import Faults, recorded
from support.processes import program
from support.redundancy import after


def test_what_can_be_counted_starts_at_zero_when_the_policy_binds():
    registry = CollectorRegistry()
    call = redundant(copies=3, name="it", metrics=Metrics(registry))(len)
    shown = {
        (s.name, *s.labels.values()): s.value
        for metric in registry.collect()
        for s in metric.samples
        if s.labels.get("component") == "it" and s.name.startswith("mainstay_")
    }
    for reason in ("slow", "failed"):
        assert shown["mainstay_hedges_total", "it", reason] == 0
    for reason in ("budget", "threads", "deadline", "warmup"):
        assert shown["mainstay_hedges_denied_total", "it", reason] == 0
    for verdict in ("unanimous", "decided", "no_decision"):
        assert shown["mainstay_votes_total", "it", verdict] == 0
    for copy in "012":
        assert shown["mainstay_copy_wins_total", "it", copy] == 0
        assert shown["mainstay_dissents_total", "it", copy] == 0
    assert ("mainstay_copy_wins_total", "it", "3") not in shown
    assert shown["mainstay_abandoned_threads", "it"] == 0
    assert ("mainstay_hedge_delay_seconds", "it") not in shown
    assert call("abc") == 3


def test_a_constant_delay_is_shown_at_once_and_none_where_all_start_together(metrics):
    policies = {
        "after": redundant(start=hedge.after(0.25), name="after"),
        "together": redundant(start=hedge.together(), name="together"),
    }
    for policy in policies.values():
        policy(len)
    text = generate_latest(_registry(metrics.metrics)).decode()
    assert 'mainstay_hedge_delay_seconds{component="after"} 0.25' in text
    assert 'hedge_delay_seconds{component="together"}' not in text


def _registry(collector):
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def test_of_several_policies_of_a_name_the_longest_delay_is_shown(metrics):
    short = redundant(start=hedge.after(0.25), name="it")
    long = redundant(start=hedge.after(0.5), name="it")
    short(len), long(len)
    assert metrics("hedge_delay_seconds") == 0.5
    del long
    gc.collect()
    assert metrics("hedge_delay_seconds") == 0.25


def test_metrics_of_a_block_show_the_gauges_too(clock):
    policy = redundant(start=hedge.after(0.25), name="it")
    with recorded() as metrics:
        policy.call(len, "abc")
    assert metrics.value("hedge_delay_seconds", component="it") == 0.25
    assert metrics.value("copy_wins_total", component="it", copy="0") == 1


def test_metrics_of_a_block_are_gone_when_nobody_uses_them_any_more(clock):
    policy = redundant(start=hedge.after(0.25), name="it")
    with recorded() as readings:
        policy.call(int)
    gone = weakref.ref(readings._recorders.table)
    del readings
    gc.collect()
    assert gone() is None


def test_copies_from_the_tenth_on_share_a_label(clock, metrics):
    scripts = [Faults([after(1 + number, number)]) for number in range(12)]
    policy = redundant(alternatives=scripts[1:], decide=vote.plurality(), name="it")
    with pytest.raises(ExceptionGroup):
        policy.call(scripts[0])
    copies = {
        sample.labels["copy"]
        for metric in metrics.metrics.collect()
        for sample in metric.samples
        if sample.name == "mainstay_dissents_total"
    }
    assert copies == {*map(str, range(10)), "_other"}


def test_what_losers_ran_in_vain_is_added_up(clock, metrics):
    script = Faults([after(9, "slow"), after(0.5, "fast")])

    async def fetch():
        return await script.acall()

    policy = redundant(start=hedge.after(0.5), budget=None, name="it")
    assert asyncio.run(policy.call(fetch)) == "fast"
    assert metrics("wasted_seconds_total") == pytest.approx(1.0)


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_multiprocess_mode_gauges_are_written_at_each_change(tmp_path):
    shown = json.loads(program("redundant_workers.py", PROMETHEUS_MULTIPROC_DIR=str(tmp_path)))
    assert shown["mainstay_calls_total"] == 40
    assert shown["mainstay_abandoned_threads"] == 0
    assert shown["mainstay_hedge_delay_seconds"] == pytest.approx(2.0, rel=0.05)
