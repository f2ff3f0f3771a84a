"""Gauges: what sources say becomes one value, at a scrape and in the files of worker processes."""

import errno
import gc
import threading

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from mainstay import Metrics
from mainstay._metrics import gauges, writer
from mainstay._metrics.collector import recorders_of
from mainstay._metrics.recorders import Recorders
from mainstay._metrics.schema import (
    ABANDONED_THREADS,
    CHECKPOINT_EXPECTED,
    CHECKPOINT_INTERVAL,
    HEDGE_DELAY,
    MEMBER_STATE,
    MTBF,
)
from mainstay._metrics.series import SeriesTable
from mainstay._metrics.writer import finish_all
from support.processes import program


class Source:
    def __init__(self, number=None, **states):
        self.number = number
        self.members = states

    def read(self):
        return self.number

    def states(self):
        return self.members


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def metrics(registry):
    return Metrics(registry)


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Return the recorders of a worker process."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    return Recorders(SeriesTable("mainstay", {}, str(tmp_path)))


def written(gauge):
    """Return what has been written, by the labels after the component."""
    finish_all()
    reader = CollectorRegistry()
    MultiProcessCollector(reader, gauge._table._directory)
    return {
        tuple(sample.labels[name] for name in gauge._family.labels[1:]): sample.value
        for metric in reader.collect()
        for sample in metric.samples
        if metric.name == f"mainstay_{gauge._family.name}"
    }


@pytest.mark.parametrize(("family", "expected"), [(ABANDONED_THREADS, 5.0), (HEDGE_DELAY, 3.0)])
def test_what_several_sources_say_is_added_up_or_the_largest_counts(
    registry, metrics, family, expected
):
    sources = [Source(2.0), Source(None), Source(3.0)]
    for source in sources:
        recorders_of(metrics).number(family, "it").follow(source, Source.read)
    name = f"mainstay_{family.name}"
    assert registry.get_sample_value(name, {"component": "it"}) == expected


def test_what_is_followed_twice_is_asked_once(registry, metrics):
    source = Source(2.0)
    for _ in range(2):
        recorders_of(metrics).number(ABANDONED_THREADS, "it").follow(source, Source.read)
    assert registry.get_sample_value("mainstay_abandoned_threads", {"component": "it"}) == 2.0


def test_what_is_gone_is_not_shown_any_longer(registry, metrics):
    source = Source(a="active")
    recorders_of(metrics).follow(MEMBER_STATE, "it", source)
    labels = {"component": "it", "member": "a", "state": "active"}
    assert registry.get_sample_value("mainstay_member_state", labels) == 1.0
    del source
    gc.collect()
    assert registry.get_sample_value("mainstay_member_state", labels) is None


def test_a_state_has_the_time_at_which_it_began(registry, metrics, monkeypatch):
    monkeypatch.setattr(gauges, "wall_time", lambda: now)

    def since(member):
        labels = {"component": "it", "member": member}
        return registry.get_sample_value("mainstay_member_since_timestamp_seconds", labels)

    now, source = 100.0, Source(a="active", b="active")
    gauge = recorders_of(metrics).follow(MEMBER_STATE, "it", source)
    gauge.changed()
    now, source.members = 200.0, {"a": "ejected", "b": "active"}
    gauge.changed()
    now = 300.0  # a scrape comes later
    assert (since("a"), since("b")) == (200.0, 100.0)
    source.members = {"a": "ejected", "b": "trial"}  # runs out by itself, and nobody tells of it
    assert (since("a"), since("b")) == (200.0, 300.0)
    now, source.members = 400.0, {"b": "trial"}
    assert (since("a"), since("b")) == (None, 300.0)


def test_of_two_that_share_a_name_the_latest_change_counts(registry, metrics, monkeypatch):
    monkeypatch.setattr(gauges, "wall_time", lambda: now)
    labels = {"component": "it", "member": "a"}
    sources = []
    for now in (100.0, 200.0):
        sources.append(Source(a="active" if now < 150 else "ejected"))
        recorders_of(metrics).follow(MEMBER_STATE, "it", sources[-1]).changed()
    now = 300.0
    for _ in range(2):
        name = "mainstay_member_since_timestamp_seconds"
        assert registry.get_sample_value(name, labels) == 200.0


def test_a_worker_writes_at_each_change_and_what_is_gone_counts_as_zero(worker):
    source = Source(a="active", b="ejected")
    gauge = worker.follow(MEMBER_STATE, "it", source)
    gauge.changed()
    values = written(gauge)
    assert values["a", "active"] == values["b", "ejected"] == 1.0
    assert sum(values.values()) == 2.0
    source.members = {"b": "active"}
    gauge.changed()
    values = written(gauge)
    assert [key for key, value in values.items() if value] == [("b", "active")]


def test_a_change_that_comes_in_while_another_is_written_is_what_stands(worker):
    gauge = worker.number(CHECKPOINT_INTERVAL, "it")

    class Interrupted(Source):
        def read(self):
            number = self.number
            if number == 1.0:  # as another thread would, after the old number was read
                self.number = 2.0
                gauge.changed()
            return number

    source = Interrupted(1.0)
    gauge.follow(source, Interrupted.read)
    gauge.changed()
    finish_all()
    assert written(gauge) == {(): 2.0}


def test_a_worker_writes_how_many_items_its_runs_are_to_come_to(worker):
    recorder, run = worker.checkpoint("it"), Source(0.0)
    gauge = worker.number(CHECKPOINT_EXPECTED, "it")
    recorder.iterates(run, 10)
    assert written(gauge) == {(): 10.0}
    recorder.items("done", 4)
    recorder.over(run)
    assert written(gauge) == {(): 4.0}
    recorder.iterates(run, 10)
    del run  # as where a signal handler leaves it without an end
    finish_all()
    assert written(gauge) == {(): 4.0}


def test_many_changes_are_written_once_until_that_is_begun(worker, monkeypatch):
    gauge, writes = worker.number(CHECKPOINT_INTERVAL, "it"), []
    monkeypatch.setattr(gauge, "_write", lambda: writes.append(1))
    with writer._writing:
        for _ in range(3):
            gauge.changed()
    finish_all()
    assert len(writes) == 1


def test_a_gauge_that_cannot_be_written_is_logged_once_and_stops_no_other(worker, caplog):
    broken, intact = (worker.number(family, "it") for family in (CHECKPOINT_INTERVAL, HEDGE_DELAY))

    class Broken(Source):
        def read(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    sources = Broken(), Source(4.0)
    broken.follow(sources[0], Broken.read)
    intact.follow(sources[1], Source.read)
    for gauge in (broken, broken, intact):
        gauge.changed()
        finish_all()
    assert written(intact) == {(): 4.0}
    assert [each.message for each in caplog.records] == ["gauges of this process are not written"]


def test_without_threads_to_be_had_a_change_is_written_later(worker, monkeypatch):
    source, gauge = Source(1.0), worker.number(CHECKPOINT_INTERVAL, "it")
    gauge.follow(source, Source.read)

    def no_more_threads(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more_threads)
        gauge.changed()
    gauge.changed()
    assert written(gauge) == {(): 1.0}


@pytest.mark.process
def test_neither_a_signal_handler_nor_a_child_waits_for_a_lock_of_the_writer(tmp_path):
    printed = program("gauge_locks.py", PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert printed.splitlines() == ["handled", "forked 0", "open 1"]  # the child has ended


def test_a_worker_does_not_write_what_only_rules_can_join(worker):
    source, gauge = Source(1.0), worker.number(MTBF, "it")
    gauge.follow(source, Source.read)
    gauge.changed()
    assert written(gauge) == {}
    assert [value for _, _, value in gauge.samples()] == [1.0]
