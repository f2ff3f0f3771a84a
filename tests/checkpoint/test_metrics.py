"""What is counted and told about runs, and shown to people."""

import asyncio
import io
import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from mainstay import (
    Metrics,
    StoreCollector,
    checkpoint_run,
    checkpointed,
    deadline,
    on_event,
)
from mainstay._checkpoint import progressbar
from mainstay._core.owner import Owner, this_process
from mainstay.errors import (
    DeadlineExpiredError,
    RunBusyError,
    StoreUnavailableError,
)
from mainstay.stores import MemoryStore
from mainstay.stores.base import RunId
from mainstay.testing import FakeClock, recorded
from support.checkpoints import OopsError, add_up
from support.store_conformance import DEAD, acquired, save


def test_with_no_time_left_nothing_is_called_and_that_is_told(runner, store, metrics, caplog):
    job = runner.job(add_up, store=store)
    with FakeClock(), deadline(0), pytest.raises(DeadlineExpiredError):
        job([1])
    assert store.list() == []
    assert caplog.messages == ["job: gave up (timeout) with DeadlineExpiredError"]
    assert metrics("calls_total", outcome="timeout") == 1
    assert metrics("give_ups_total", policy="checkpoint", reason="timeout") == 1


def test_what_happened_is_counted(runner, store, metrics):
    async def body(cp, fail):
        async for item in cp.iterate(range(4)):
            clock.advance(1)
            if fail and item == 2:
                raise OopsError
        await cp.step("end", lambda: None)

    with FakeClock() as clock:
        job = runner.job(body, store=store)
        with pytest.raises(OopsError):
            job(True)
        job(False)
    value = metrics
    assert value("calls_total", policy="checkpoint", outcome="error") == 1
    assert value("calls_total", policy="checkpoint", outcome="recovered") == 1
    assert value("errors_total", error_type="OopsError") == 1
    assert value("checkpoint_items_total", outcome="done") == 4
    assert value("checkpoint_items_total", outcome="skipped") == 2
    assert value("checkpoint_items_total", outcome="failed") == 1
    assert value("checkpoint_steps_total", source="executed") == 1
    assert value("checkpoint_resumes_total", reason="error") == 1
    assert value("checkpoint_saved_seconds_total") == 2
    assert value("checkpoint_replayed_seconds_total") == 1
    assert value("checkpoint_save_duration_seconds_count") == value(
        "checkpoint_saves_total", outcome="ok"
    )
    assert value("checkpoint_size_bytes_count") == value("checkpoint_saves_total") - 1
    assert value("checkpoint_last_save_timestamp_seconds") > 1.6e9


def test_a_call_that_found_another_run_busy_failed_and_was_not_rejected(runner, store, metrics):
    async def body(cp):
        raise RunBusyError("another", "key", "process 1", 1.0)

    with pytest.raises(RunBusyError):
        runner.job(body, store=store)()
    outcomes = ("rejected", "error")
    assert [metrics("calls_total", outcome=each) for each in outcomes] == [0, 1]


def test_a_resume_is_told(runner, store, caplog):
    caplog.set_level(logging.INFO, "mainstay.checkpoint")
    events = []
    stop = on_event(events.append)
    job = runner.job(add_up, store=store)
    with pytest.raises(OopsError):
        job(["secret"], "secret")
    with pytest.raises(TypeError):
        job(["secret"])
    stop()
    [event] = events
    assert (event.kind, event.policy, event.attempt) == ("run_resumed", "checkpoint", 2)
    assert "job: attempt 2 goes on after error; 0 items done" in caplog.messages
    assert "secret" not in caplog.text


# The collector and the gauges.


def test_the_collector_counts_runs_by_name_and_state(caplog, monkeypatch):
    store = MemoryStore()
    acquired(store)
    acquired(store, RunId("import", "dead"), owner=DEAD)
    save(store, acquired(store, RunId("nightly", "1")), b"end", finished=True)
    registry = CollectorRegistry()
    registry.register(StoreCollector(store))

    def runs(name, state):
        labels = {"component": name, "state": state}
        return registry.get_sample_value("mainstay_checkpoint_runs", labels)

    assert [runs("import", state) for state in ("running", "interrupted", "done")] == [1, 1, 0]
    assert [runs("nightly", state) for state in ("running", "poisoned", "done")] == [0, 0, 1]
    monkeypatch.setattr("mainstay.stores.collector.MOST_COMPONENTS", 1)
    assert runs("_other", "done") == 1


@pytest.mark.parametrize("error", [StoreUnavailableError("memory://", "down"), KeyError("down")])
def test_a_store_that_cannot_be_counted_leaves_the_other_metrics_of_a_scrape(
    caplog, monkeypatch, error
):
    """Known fault: what a store of the user's raised ended the scrape of everything."""

    def unreachable(*_, **__):
        raise error

    store, registry = MemoryStore(), CollectorRegistry()
    acquired(store)
    Gauge("other", "Another one.", registry=registry).set(1)
    registry.register(StoreCollector(store))
    monkeypatch.setattr(store, "list", unreachable)
    text = generate_latest(registry)
    assert b"other 1.0" in text
    assert b"checkpoint_runs" not in text
    [told] = [each.getMessage() for each in caplog.records]
    assert told.startswith(f"the runs of {store.url} could not be counted: {type(error).__name__}")


@pytest.mark.process
def test_gauges_of_worker_processes_are_those_of_the_last_save(tmp_path, monkeypatch, url):
    directory = tmp_path / "metrics"
    directory.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))
    program = (
        "import sys; from datetime import timedelta; from mainstay import checkpoint_run\n"
        "with checkpoint_run(sys.argv[2], store=sys.argv[1], every=timedelta(seconds=7)) as cp:\n"
        "    list(cp.iterate('ab'))\n"
    )
    for key in "xy":
        subprocess.run([sys.executable, "-c", program, url, key], check=True)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))

    def value(name):
        return registry.get_sample_value(f"mainstay_checkpoint_{name}", {"component": "__main__"})

    assert value("interval_seconds") == 7.0
    assert value("last_save_timestamp_seconds") > 1.6e9
    saves = {"component": "__main__", "outcome": "ok"}
    assert registry.get_sample_value("mainstay_checkpoint_saves_total", saves) == 4.0


def test_gauges_are_absent_until_they_are_known():
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    checkpointed(store=MemoryStore(), name="job", metrics=metrics)
    labels = {"component": "job"}
    assert registry.get_sample_value("mainstay_checkpoint_interval_seconds", labels) is None
    checkpointed(store=MemoryStore(), name="job", metrics=metrics).call(lambda cp: None)
    name = "mainstay_checkpoint_last_save_timestamp_seconds"
    assert registry.get_sample_value(name, labels) > 1.6e9


def test_a_run_that_has_not_saved_yet_tells_since_when_it_goes_on(runner, metrics, store):
    seen = []

    async def body(cp):
        seen.append(metrics("checkpoint_last_save_timestamp_seconds"))

    runner.job(body, store=store)()
    assert seen[0] > 1.6e9


# How many items there are to be.


class Seen:
    """Notes, item by item, what is expected and what is counted."""

    def __init__(self, metrics):
        self._metrics = metrics
        self.expected = []

    def look(self):
        expected = self.now()
        if not self.expected or self.expected[-1] != expected:
            self.expected.append(expected)

    def now(self):
        """Return it; None while it is not shown."""
        values = [
            sample.value
            for family in self._metrics.metrics.collect()
            for sample in family.samples
            if sample.name == "mainstay_checkpoint_items_expected"
        ]
        return values[0] if values else None

    def left(self):
        counted = (self._metrics("checkpoint_items_total", outcome=each) for each in COUNTED)
        return self.now() - sum(counted)


COUNTED = ("done", "skipped")


@pytest.fixture
def seen(metrics):
    return Seen(metrics)


def test_a_source_with_a_length_says_how_many_items_there_are_to_be(runner, store, metrics, seen):
    async def body(cp, fail_at):
        async for item in cp.iterate(range(10)):
            seen.look()
            if item == fail_at:
                raise OopsError

    job = runner.job(body, store=store)
    assert seen.now() is None
    with pytest.raises(OopsError):
        job(4)
    assert (seen.expected, seen.left()) == ([10], 0)
    job(None)
    assert (seen.expected, seen.left()) == ([10, 14], 0)  # 4 done before, 4 skipped, 6 to do


def test_what_is_left_is_what_is_not_saved_yet(runner, store, metrics, seen):
    async def body(cp):
        return [seen.left() async for _ in cp.iterate("abcde")]

    assert runner.job(body, store=store, every=2)() == [5, 5, 3, 3, 1]


def test_iterations_one_after_the_other_add_up(runner, store, seen):
    async def body(cp):
        for source in ("abc", "de"):
            async for _ in cp.iterate(source):
                seen.look()

    runner.job(body, store=store, every=10)()
    assert (seen.expected, seen.left()) == ([3, 5], 0)


def test_a_callable_says_how_many_items_are_left_by_what_it_returns(runner, store, seen):
    async def body(cp, fail_at):
        def rest(last):
            return list(range(0 if last is None else last + 1, 6))

        async for item in cp.iterate(rest, key=lambda item: item):
            seen.look()
            if item == fail_at:
                raise OopsError

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(2)
    job(None)
    assert (seen.expected, seen.left()) == ([6, 8], 0)


def test_nobody_knows_how_many_items_there_are_to_be(runner, store, seen):
    async def body(cp):
        async for _ in cp.iterate(iter("abc")):
            seen.look()
        async for _ in cp.iterate(Unmeasured()):
            seen.look()
        async for _ in cp.iterate("abc"):
            async for _ in cp.iterate("de"):
                seen.look()
        assert seen.expected == [None]
        async for _ in cp.iterate("fg"):
            seen.look()

    runner.job(body, store=store, every=100)()
    assert (seen.expected, seen.left()) == ([None, 3 + 3 + 9 + 2], 0)


def test_what_a_loop_that_was_left_did_not_do_is_expected_no_longer(runner, store, seen):
    async def body(cp):
        async for item in cp.iterate("abcdef"):
            if item == "b":
                break
        await cp.step("end", lambda: None)
        seen.look()

    runner.job(body, store=store)()
    assert (seen.expected[-1], seen.left()) == (2, 0)


def test_a_length_that_was_wrong_is_mended_at_the_end(runner, store, seen):
    class Growing(list):
        def __len__(self):
            return 2

    async def body(cp):
        async for _ in cp.iterate(Growing("abcd")):
            seen.look()

    runner.job(body, store=store)()
    assert (seen.expected, seen.now(), seen.left()) == ([2, 3], 4, 0)


def test_runs_of_two_threads_add_up(store, metrics):
    both_began, expected = threading.Barrier(2), []

    @checkpointed(store=store, name="job", key="{length}")
    def job(cp, length):
        for item in cp.iterate(range(length)):
            if not item:
                both_began.wait(10)
                expected.append(metrics("checkpoint_items_expected"))
                both_began.wait(10)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(job, (3, 4)))
    assert expected == [7, 7]


# Progress for people.


class Terminal:
    def __init__(self):
        self.written = ""

    def isatty(self):
        return True

    def write(self, text):
        self.written += text

    def flush(self):
        pass


@pytest.mark.parametrize("with_tqdm", [True, False])
def test_a_terminal_shows_how_far_it_is_and_where_it_was_resumed(monkeypatch, with_tqdm):
    terminal, store = Terminal(), MemoryStore()
    monkeypatch.setattr("sys.stderr", terminal)
    if with_tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)

    def job(fail):
        with checkpoint_run("key", store=store) as cp:
            for item in cp.iterate(range(4), name="rows", progress=True):
                if fail and item == 2:
                    raise KeyError

    with pytest.raises(KeyError):
        job(fail=True)
    terminal.written = ""
    job(fail=False)
    expected = (
        ["rows", "4/4", "resumed_at=2"] if with_tqdm else ["rows: 4 done, 0 left, resumed at 2"]
    )
    assert [each for each in expected if each not in terminal.written] == []


def test_async_iterations_show_progress_too(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setitem(sys.modules, "tqdm", None)

    async def job(cp):
        return [item async for item in cp.iterate(iter("abc"), progress=True)]

    assert asyncio.run(checkpointed(store=MemoryStore()).call(job)) == [*"abc"]
    assert "items: 3 done\x1b" in terminal.written


class Unmeasured:
    """As a loader of data that finds out on the way how much there is."""

    def __len__(self):
        raise TypeError("not known")

    def __iter__(self):
        return iter("abc")


class Gone(Terminal):
    def write(self, text):
        raise BrokenPipeError(text)


def closed():
    terminal = io.StringIO()
    terminal.close()
    return terminal


@pytest.mark.parametrize(
    ("stderr", "source"),
    [(Terminal, Unmeasured()), (Gone, "abc"), (closed, "abc"), (lambda: None, "abc")],
    ids=["length", "gone", "closed", "none"],
)
def test_a_run_does_not_fail_because_nobody_can_see_it(runner, monkeypatch, stderr, source):
    async def body(cp):
        return [item async for item in cp.iterate(source, progress=True)]

    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr("sys.stderr", stderr())
    assert runner.job(body, store=MemoryStore())() == [*"abc"]


def test_what_is_no_terminal_shows_nothing(capsys):
    with checkpoint_run("key", store=MemoryStore()) as cp:
        list(cp.iterate("abc", progress=True))
    assert capsys.readouterr() == ("", "")
    assert progressbar._REDRAW_SECONDS == 0.1


def test_time_spent_waiting_for_the_run_is_no_work_that_was_saved(runner, store):
    async def body(cp, fail):
        async for row in cp.iterate([1, 2]):
            if fail and row == 2:
                raise OopsError

    here = this_process()
    with FakeClock(), recorded() as metrics:
        elsewhere = Owner(here.boot, "another namespace", 1, 1)
        acquired(store, RunId("job", "key"), owner=elsewhere, lease=60.0)
        with pytest.raises(OopsError):
            runner.job(body, store=store, on_busy="wait")(True)
        runner.job(body, store=store)(False)
        assert metrics.value("wait_seconds_total", component="job") >= 60
        assert metrics.value("checkpoint_saved_seconds_total", component="job") < 1
