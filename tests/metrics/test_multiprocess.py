"""Multiprocess mode: the same numbers, through files that survive the process."""

import itertools
import json
import logging
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.values import MultiProcessValue

from mainstay import CircuitBreaker, FailoverPool, Member, Metrics, retry
from mainstay._metrics import layouts, multiprocess, schema
from mainstay._metrics.writer import finish_all
from mainstay.testing import Faults, recorded
from support.processes import LONGEST_RUN, PROGRAMS, environment, program, python

VARIABLE = multiprocess.VARIABLE


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for the files, which `Metrics` made in the test use."""
    files = tmp_path / "files"
    files.mkdir()
    monkeypatch.setenv(VARIABLE, str(files))
    return files


def scraped(directory: Path) -> CollectorRegistry:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]  # it has no types
    return registry


def successes(directory: Path, component: str = "work") -> float | None:
    labels = {"component": component, "policy": "retry", "outcome": "success"}
    return scraped(directory).get_sample_value("mainstay_calls_total", labels)


def durations(directory: Path, component: str = "work") -> float | None:
    labels = {"component": component, "policy": "retry"}
    return scraped(directory).get_sample_value("mainstay_call_duration_seconds_count", labels)


def now_closed(directory: Path, component: str = "mail") -> float | None:
    """How many processes say that the circuit is closed."""
    labels = {"component": component, "state": "closed"}
    return scraped(directory).get_sample_value("mainstay_breaker_state", labels)


def samples(registry: CollectorRegistry) -> dict[Any, float]:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }


def in_thread(target: Callable[[], object]) -> None:
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()


def test_the_collector_reads_what_was_recorded(directory: Path) -> None:
    own = CollectorRegistry()
    policy = retry(on=OSError, name="work", wait=0, attempts=2, metrics=Metrics(own))
    policy.call(int)
    policy.call(Faults([OSError(), 1]))
    in_thread(lambda: policy.call(int))
    with pytest.raises(ConnectionError):
        policy.call(Faults(then=ConnectionError))
    assert samples(scraped(directory)) == samples(own)
    assert successes(directory) == 2


Samples = dict[str, float]


@pytest.fixture(scope="module")
def by_mode(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Samples]]:
    """Run the same program with each kind of cells, and give what it tells."""
    answers = {}
    for mode in ("files", "fallback"):
        directory = str(tmp_path_factory.mktemp(mode))
        lines = program("multiprocess_mode.py", mode, **{VARIABLE: directory}).splitlines()
        answers[mode] = [json.loads(line) for line in lines]
    return answers


@pytest.mark.process
@pytest.mark.parametrize("mode", ["files", "fallback"])
def test_a_process_gives_the_same_numbers_through_both_collectors(
    mode: str, by_mode: dict[str, list[Samples]]
) -> None:
    own, everything, _ = by_mode[mode]
    assert {k: v for k, v in everything.items() if k.startswith("mainstay")} == own


@pytest.mark.process
def test_the_fallback_gives_the_same_numbers_as_the_files(
    by_mode: dict[str, list[Samples]],
) -> None:
    files, fallback = by_mode["files"][1], by_mode["fallback"][1]
    assert fallback == files
    assert files["mainstay_calls_total component=plain outcome=success policy=retry"] == 3


@pytest.mark.process
@pytest.mark.parametrize("mode", ["files", "fallback"])
def test_metrics_of_the_same_names_in_one_process_add_up(
    mode: str, by_mode: dict[str, list[Samples]]
) -> None:
    after = by_mode[mode][2]
    assert after["mainstay_calls_total component=shared outcome=success policy=retry"] == 10
    assert after["mainstay_call_duration_seconds_count component=shared policy=retry"] == 10
    assert after["mainstay_calls_total component=plain outcome=success policy=retry"] == 3


@pytest.mark.process
@pytest.mark.parametrize("mode", ["files", "fallback"])
def test_metrics_of_prometheus_client_in_the_same_directory_are_unharmed(
    mode: str, by_mode: dict[str, list[Samples]]
) -> None:
    everything = by_mode[mode][2]
    assert {k: v for k, v in everything.items() if k.startswith("app")} == {
        "app_things_total": 3,
        "app_seconds_bucket le=1.0": 0,
        "app_seconds_bucket le=2.0": 1,
        "app_seconds_bucket le=+Inf": 1,
        "app_seconds_count": 1,
        "app_seconds_sum": 1.5,
        "app_level": 7,
    }


@pytest.mark.process
def test_a_worker_killed_in_a_busy_loop_loses_no_call_that_returned(
    directory: Path, tmp_path: Path
) -> None:
    file = tmp_path / "returned"
    file.touch()
    worker = subprocess.Popen(
        [sys.executable, PROGRAMS / "killed.py", file],
        env=environment({VARIABLE: str(directory)}),
    )
    try:
        ends = time.monotonic() + LONGEST_RUN
        while sum(returned(file)) < 20_000:
            assert worker.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.01)
    finally:
        worker.kill()
        worker.wait()
    calls = sum(returned(file))
    threads = len(returned(file))
    counted, timed = successes(directory), durations(directory)
    assert counted is not None
    assert timed is not None
    assert calls <= counted <= calls + threads
    assert calls <= timed <= calls + threads


def returned(file: Path) -> tuple[int, ...]:
    data = file.read_bytes()
    return struct.unpack(f"{len(data) // 8}Q", data)


@pytest.mark.process
@pytest.mark.parametrize(("method", "children"), [("fork", 10), ("spawn", 2)])
def test_children_count_in_files_of_their_own_which_outlive_them(
    method: str, children: int, directory: Path
) -> None:
    made = float(program("workers.py", method, str(children), **{VARIABLE: str(directory)}))
    before = samples(scraped(directory))
    work = ("component", "work"), ("policy", "retry")
    assert before["mainstay_calls_total", work[0], ("outcome", "success"), work[1]] == made
    assert before["mainstay_call_duration_seconds_count", *work] == made
    for file in directory.glob("counter_*.db"):
        pid = file.stem.removeprefix("counter_").partition("m")[0]
        mark_process_dead(int(pid), str(directory))  # type: ignore[no-untyped-call]  # no types
    assert samples(scraped(directory)) == before
    infos = [name for name in before if name[0] == "mainstay_build_info"]
    assert [before[info] for info in infos] == [1.0]


def test_a_forked_child_leaves_the_files_of_its_parent_alone(directory: Path) -> None:
    metrics = Metrics(None)
    work = retry(on=OSError, name="work", metrics=metrics)(int)
    work()
    old = {file: file.read_bytes() for file in directory.iterdir()}
    metrics._recorders.table._leave_files_to_parent()  # as it does
    work()
    in_thread(work)
    assert {file: file.read_bytes() for file in old} == old
    assert successes(directory) == 3


def test_series_with_closed_labels_start_at_0_when_the_policy_wraps_something(
    directory: Path,
) -> None:
    retry(on=OSError, name="work", metrics=Metrics(None))(int)
    registry = scraped(directory)
    assert successes(directory) == 0
    assert durations(directory) == 0
    zeros = [s for m in registry.collect() for s in m.samples if s.value == 0]
    in_memory = CollectorRegistry()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE)
        retry(on=OSError, name="work", metrics=Metrics(in_memory))(int)
    assert len(zeros) == len(samples(in_memory)) - 1  # all but build_info


def test_a_process_with_the_id_of_an_earlier_one_overwrites_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for expected in (1, 2, 3):
        monkeypatch.setattr(multiprocess, "_numbers", itertools.count())
        retry(on=OSError, name="work", metrics=Metrics(None)).call(int)
        assert successes(directory) == expected


def test_very_long_names_fit(directory: Path) -> None:
    name = "n" * multiprocess._FILE_SIZE  # so that one group needs more than a file has
    retry(on=OSError, name=name, metrics=Metrics(None)).call(int)
    assert successes(directory, name) == 1
    assert durations(directory, name) == 1


def test_names_that_need_several_files_fit(directory: Path) -> None:
    metrics = Metrics(None)
    names = [f"{number} " + "n" * 5_000 for number in range(12)]
    for name in names:
        retry(on=OSError, name=name, metrics=metrics).call(int)
    registry = scraped(directory)
    labels = {"policy": "retry", "outcome": "success"}
    counts = {
        name: registry.get_sample_value("mainstay_calls_total", {"component": name, **labels})
        for name in names
    }
    assert counts == dict.fromkeys(names, 1.0)
    assert len(list(directory.glob("counter_*.db"))) > 1


def test_names_of_every_length_are_laid_out_as_the_reader_expects(directory: Path) -> None:
    metrics = Metrics(None)
    names = [letter * length for letter in ("n", "\u00e9") for length in range(1, 18)]
    for name in names:
        retry(on=OSError, name=name, metrics=metrics).call(int)
    counts = {
        sample.labels["component"]: sample.value
        for metric in scraped(directory).collect()
        for sample in metric.samples
        if sample.name == "mainstay_call_duration_seconds_count"
    }
    assert counts == dict.fromkeys(names, 1.0)


def test_a_reader_never_sees_half_of_what_is_being_made(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocess, "_FILE_SIZE", 16_384)
    done = threading.Event()
    metrics = Metrics(None)

    def make_policies() -> None:
        for number in range(60):
            retry(on=OSError, name=f"{number}", metrics=metrics).call(int)
        done.set()

    maker = threading.Thread(target=make_policies)
    maker.start()
    seen = []
    while not done.is_set():
        seen.append(sum(s.value for m in scraped(directory).collect()
                        if m.name == "mainstay_calls" for s in m.samples))  # fmt: skip
    maker.join()
    assert seen == sorted(seen)
    assert sum(s.value for m in scraped(directory).collect()
               if m.name == "mainstay_calls" for s in m.samples) == 60  # fmt: skip


def test_a_file_that_is_being_made_does_not_break_a_scrape(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = os.posix_fallocate
    seen = []

    def scrape_and_reserve(*args: int) -> None:
        seen.append(samples(scraped(directory)))
        reserve(*args)

    multiprocess.files_work()
    monkeypatch.setattr(os, "posix_fallocate", scrape_and_reserve)
    metrics = Metrics(None)
    retry(on=OSError, name="work", metrics=metrics).call(int)
    mail = CircuitBreaker("mail", on=OSError, metrics=metrics)
    finish_all()
    assert len(seen) > 4  # files of two kinds of gauges, of histograms, of counters
    assert mail.state == "closed"
    assert successes(directory) == 1
    assert now_closed(directory) == 1


# What a worker's files take.


def test_the_files_of_a_worker_take_what_they_need(directory: Path) -> None:
    metrics = Metrics(None)
    retry(on=OSError, name="stock", metrics=metrics).call(int)
    breaker = CircuitBreaker("db", on=OSError, metrics=metrics)
    breaker.call(int)
    members = [Member(name, name) for name in ("a", "b", "c")]
    pool = FailoverPool("pool", members, on=OSError, metrics=metrics)
    pool.call(len)
    for _ in range(20):  # on a busy machine one wait may not be long enough
        finish_all()
        found = [each.stat() for each in directory.iterdir()]
        if len(found) == 5:
            break
    assert len(found) == 5
    assert sum(each.st_size for each in found) <= 48 << 10
    assert sum(each.st_blocks * 512 for each in found) <= 48 << 10
    del breaker, pool  # whose gauges are written as long as they are there


def test_a_file_grows_while_it_is_read(directory: Path) -> None:
    metrics, sizes = Metrics(None), set()
    for number in range(40):
        retry(on=OSError, name=f"{number}", metrics=metrics).call(int)
        [file] = directory.glob("counter_*.db")
        if (size := file.stat().st_size) not in sizes:
            sizes.add(size)
            assert successes(directory, "0") == successes(directory, f"{number}") == 1
    assert len(sizes) > 5


def test_each_metric_has_its_help_whichever_file_is_read_first(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocess, "_FILE_SIZE", 4_096)
    metrics = Metrics(None)
    for number in range(9):
        retry(on=OSError, name=f"{number}", metrics=metrics).call(int)
    helps = {f"mainstay_{f.name}".removesuffix("_total"): f.help for f in schema.FAMILIES}
    for order in (sorted, reversed):
        files = [*order([str(each) for each in directory.glob("*.db")])]  # type: ignore[operator]  # either takes a list
        merged = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]  # it has no types
        read = {metric.name: metric.documentation for metric in merged}
        assert len(read) == 8
        assert read == {name: helps[name] for name in read}


# Processes that are gone.


@pytest.fixture
def worker(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has a closed circuit, until it is killed."""
    code = """
import sys
from mainstay import CircuitBreaker
from mainstay._metrics.writer import finish_all
mail = CircuitBreaker("mail", on=OSError)
mail.call(int)
finish_all()
print("ready", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment({VARIABLE: str(directory)}),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def killed(worker: "subprocess.Popen[bytes]") -> None:
    worker.kill()
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # it is not waited for


@pytest.mark.process
def test_a_killed_worker_is_gone_when_the_next_one_starts(
    directory: Path, worker: "subprocess.Popen[bytes]"
) -> None:
    before = samples(scraped(directory))
    killed(worker)
    Metrics(None)
    assert now_closed(directory) is None
    left = samples(scraped(directory))
    gone = {key[0] for key in before.keys() - left.keys()}
    since = "mainstay_breaker_since_timestamp_seconds"
    assert gone == {"mainstay_breaker_state", since, "mainstay_component_up"}
    assert left.items() <= before.items()


@pytest.mark.process
def test_a_killed_worker_is_gone_when_any_gauge_changes(
    directory: Path, worker: "subprocess.Popen[bytes]"
) -> None:
    here = CircuitBreaker("mail", on=OSError, metrics=Metrics(None))
    finish_all()
    assert now_closed(directory) == 2
    killed(worker)
    assert now_closed(directory) == 2
    here.open()
    finish_all()
    assert now_closed(directory) == 0


@pytest.mark.process
def test_the_hook_of_prometheus_client_for_ended_workers_does_no_harm(
    directory: Path, worker: "subprocess.Popen[bytes]"
) -> None:
    before = samples(scraped(directory))
    mark_process_dead(worker.pid, str(directory))  # type: ignore[no-untyped-call]  # no types
    assert samples(scraped(directory)) == before


@pytest.mark.process
def test_files_of_a_process_that_lives_or_may_live_elsewhere_stay(
    directory: Path, worker: "subprocess.Popen[bytes]"
) -> None:
    [file] = directory.glob("gauge_livesum_*.db")
    start, _, _ = file.stem.rpartition("-")
    elsewhere = file.with_name(f"{start}-{'0' * 8}.db")
    elsewhere.hardlink_to(file)
    Metrics(None)
    assert now_closed(directory) == 2
    killed(worker)
    Metrics(None)
    assert not file.exists()
    assert elsewhere.exists()


@pytest.mark.process
def test_what_a_kill_leaves_of_a_file_that_was_being_made_harms_no_scrape(
    directory: Path, worker: "subprocess.Popen[bytes]"
) -> None:
    [file] = directory.glob("gauge_livesum_*.db")
    unfinished = file.with_suffix(".new")
    unfinished.write_bytes(b"")
    assert now_closed(directory) == 1
    killed(worker)
    Metrics(None)
    assert not unfinished.exists()


@pytest.mark.process
def test_a_forked_worker_says_from_the_start_what_state_it_is_in(directory: Path) -> None:
    code = """
import os, warnings
from pathlib import Path
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from mainstay import CircuitBreaker
from mainstay._metrics.writer import finish_all
warnings.simplefilter("ignore")
mail = CircuitBreaker("mail", on=OSError)
finish_all()
if not os.fork():
    finish_all()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    labels = {"component": "mail", "state": "closed"}
    print(registry.get_sample_value("mainstay_breaker_state", labels), flush=True)
    os._exit(0)
os.wait()
"""
    assert python("-c", code, **{VARIABLE: str(directory)}).split() == ["2.0"]


# Names of files and of the variable.


def test_the_variable_in_lower_case_is_seen_as_prometheus_client_does(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE.lower(), str(directory))
    monkeypatch.delenv(VARIABLE)
    retry(on=OSError, name="work", metrics=Metrics(None)).call(int)
    assert successes(directory) == 1
    monkeypatch.setenv(VARIABLE, "")
    retry(on=OSError, name="work", metrics=Metrics(None)).call(int)
    assert successes(directory) == 1


def test_files_are_named_by_the_identifier_that_prometheus_client_was_given(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_in_uwsgi = MultiProcessValue(process_identifier=lambda: 3)  # type: ignore[no-untyped-call]  # no types
    monkeypatch.setattr(values, "ValueClass", as_in_uwsgi)
    retry(on=OSError, name="work", metrics=Metrics(None)).call(int)
    names = [each.name for each in directory.iterdir()]
    assert len(names) == 3
    assert all(re.match(r"(counter|histogram|gauge_max)_3m\d+-", name) for name in names)
    assert successes(directory) == 1


# What goes wrong on disks.


@pytest.mark.process
def test_a_disk_that_fills_up_costs_figures_and_never_the_process(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], check=False).returncode:
        pytest.skip("may not make namespaces")
    code = """
from mainstay import CircuitBreaker, retry
from mainstay._metrics.writer import finish_all
retry(on=OSError, name="stock").call(lambda: 7)
breaker = CircuitBreaker("db", on=OSError)
breaker.call(lambda: 7)
finish_all()
print("alive")
"""
    script = 'mount -t tmpfs -o size="$1" tmpfs "$2" && exec "$3" -c "$4"'
    for size in ("4k", "12k", "16k", "20k", "768k"):
        arguments = size, str(tmp_path), sys.executable, code
        done = subprocess.run(
            [unshare, "-m", "sh", "-c", script, "sh", *arguments],
            env=environment({VARIABLE: str(tmp_path)}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "alive\n"), (size, done.stderr)


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_directory_that_is_none_is_refused_by_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    path = str(tmp_path / name)
    monkeypatch.setenv(VARIABLE, path)
    with pytest.raises(ValueError, match=f"{VARIABLE} must name a directory, not '{path}'"):
        Metrics(None)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    registry = CollectorRegistry()
    retry(on=OSError, name="work", metrics=Metrics(registry)).call(int)
    labels = {"component": "work", "policy": "retry", "outcome": "success"}
    assert registry.get_sample_value("mainstay_calls_total", labels) == 1


def test_the_testing_kit_leaves_no_files(directory: Path) -> None:
    with recorded() as metrics:
        retry(on=OSError, name="work").call(int)
    assert metrics.value("calls_total") == 1
    assert list(directory.iterdir()) == []


def test_a_directory_removed_meanwhile_breaks_no_call(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(multiprocess, "_FILE_SIZE", 4_096)  # no room for others
    metrics = Metrics(None)
    first = retry(on=OSError, name="first", metrics=metrics)(int)
    first()
    shutil.rmtree(directory)
    results = [first()]
    in_thread(lambda: results.append(first()))
    results.append(retry(on=OSError, name="second", metrics=metrics).call(int))
    assert results == [0, 0, 0]
    logged = [r for r in caplog.records if r.name == "mainstay.metrics"]
    assert [r.levelno for r in logged] == [logging.ERROR]
    assert VARIABLE in logged[0].getMessage()


@pytest.mark.process
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_full_disk_breaks_no_call_and_no_scrape(when: str, directory: Path) -> None:
    *log, count = program("full_disk.py", when, **{VARIABLE: str(directory)}).splitlines()
    assert count == "4"
    errors = [line for line in log if line.startswith("mainstay.metrics ERROR")]
    assert len(errors) == 1
    assert f"{VARIABLE}={directory}" in errors[0]
    # The last call was in another thread, whose cell may find no room in the file that is there.
    assert successes(directory, "first") in ((None,) if when == "before" else (2, 3))


def test_a_directory_that_cannot_be_written_breaks_no_call(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_args: object) -> int:
        raise PermissionError(13, "Permission denied")

    multiprocess.files_work()
    registry = CollectorRegistry()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        metrics = Metrics(registry)
        assert retry(on=OSError, name="work", metrics=metrics).call(int) == 0
    assert len([r for r in caplog.records if r.name == "mainstay.metrics"]) == 1
    labels = {"component": "work", "policy": "retry", "outcome": "success"}
    assert registry.get_sample_value("mainstay_calls_total", labels) == 1
    assert list(directory.iterdir()) == []


def test_a_disk_without_room_for_the_probe_breaks_no_call(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_kwargs: str) -> None:
        raise OSError(28, "No space left on device")

    multiprocess.files_work.cache_clear()
    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    retry(on=OSError, name="work", metrics=Metrics(None)).call(int)
    assert successes(directory) == 1


def test_without_a_way_to_reserve_room_files_work_all_the_same(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    retry(on=OSError, name="work", metrics=Metrics(None)).call(int)
    assert successes(directory) == 1


def test_a_file_without_room_is_taken_away_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: int) -> None:
        raise OSError(28, "No space left on device")

    multiprocess.files_work()
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    retry(on=OSError, name="work", metrics=Metrics(None)).call(int)
    assert list(directory.iterdir()) == []


# Whether the files work.


@pytest.fixture
def probe_again() -> Iterator[None]:
    multiprocess.files_work.cache_clear()
    yield
    multiprocess.files_work.cache_clear()


@pytest.mark.usefixtures("probe_again")
def test_the_files_work_with_this_prometheus_client() -> None:
    assert multiprocess.files_work() is True


@pytest.mark.usefixtures("probe_again")
def test_files_that_are_read_back_wrongly_do_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(MultiProcessCollector):
        def collect(self) -> Any:
            for metric in super().collect():
                metric.samples = [s._replace(value=s.value + 1) for s in metric.samples]
                yield metric

    monkeypatch.setattr(multiprocess, "MultiProcessCollector", Other)
    assert multiprocess.files_work() is False


@pytest.mark.usefixtures("probe_again")
def test_a_reader_that_cannot_read_the_files_means_that_they_do_not_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Other(MultiProcessCollector):
        def collect(self) -> Any:
            raise struct.error("another format")

    monkeypatch.setattr(multiprocess, "MultiProcessCollector", Other)
    assert multiprocess.files_work() is False


def test_cells_in_files_have_the_sizes_of_the_layout(directory: Path) -> None:
    files = multiprocess.Files(str(directory), "n")
    group = multiprocess.Group(layouts.CALL_LAYOUT, ("a", "retry"), (1.0, 2.0))
    histogram, counters = files.cell(group)
    assert (len([*histogram]), len([*counters])) == (4, len(schema.OUTCOMES))
    assert len(list(directory.iterdir())) == 2
