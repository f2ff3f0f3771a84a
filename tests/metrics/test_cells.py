"""The counts are exact under threads, tasks, signals, finalisers and forks, and stay small."""

import _thread
import asyncio
import contextlib
import gc
import itertools
import multiprocessing
import sys
import threading
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from mainstay import Metrics, retry
from mainstay._metrics import layouts, multiprocess
from mainstay._metrics.cells import Cells, Group, cell_in_memory
from mainstay.testing import recorded
from support.interruptions import at_each_interruption
from support.processes import program


class Interrupt(BaseException):
    """What an interrupting handler raises."""


def calls(metrics: Any) -> float:
    return metrics.value("calls_total")


def noop_in(metrics: Metrics | None = None) -> Callable[[], None]:
    def noop() -> None:
        pass

    return retry(on=ConnectionError, name="work", metrics=metrics)(noop)


@contextlib.contextmanager
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def in_threads(count: int, target: Callable[[], object]) -> None:
    """Run *target* in so many threads at once, and wait for them."""
    threads = [threading.Thread(target=target) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_eight_threads_over_one_policy_count_exactly_while_being_scraped() -> None:
    with recorded() as metrics:
        work = noop_in()

        @retry(on=ValueError, attempts=1, name="fails")
        def fail() -> None:
            raise ValueError

    barrier = threading.Barrier(9)
    done = threading.Event()
    scrapes: list[tuple[float, float]] = []

    def call_often() -> None:
        barrier.wait()
        for _ in range(2_000):
            work()
        for _ in range(50):
            with contextlib.suppress(ValueError):
                fail()

    def scrape() -> None:
        barrier.wait()
        while not done.is_set():
            scrapes.append((calls(metrics), metrics.value("call_duration_seconds_count")))

    scraper = threading.Thread(target=scrape)
    with switching_often():
        scraper.start()
        in_threads(8, call_often)
        done.set()
        scraper.join()
    assert metrics.value("calls_total", component="work", outcome="success") == 16_000
    assert metrics.value("calls_total", component="fails", outcome="error") == 400
    assert metrics.value("call_duration_seconds_count") == 16_400
    assert metrics.value("give_ups_total", reason="attempts") == 400
    assert metrics.value("errors_total", error_type="ValueError") == 400
    for series in zip(*scrapes, strict=True):
        assert list(series) == sorted(series)


def test_threads_that_make_the_same_policy_at_once_share_its_counts() -> None:
    with recorded() as metrics:
        pass
    barrier = threading.Barrier(8)

    def make_and_call() -> None:
        barrier.wait()
        for number in range(20):
            retry(on=ConnectionError, name=f"component {number}", metrics=metrics).call(int)

    with switching_often():
        in_threads(8, make_and_call)
    counts = {metrics.value("calls_total", component=f"component {n}") for n in range(20)}
    assert counts == {8.0}


def test_tasks_count_exactly() -> None:
    with recorded() as metrics:

        @retry(on=ConnectionError, name="work", wait=0, attempts=3)
        async def work(number: int) -> None:
            failed = number % 10 == 0 and number not in seen
            seen.add(number)
            await asyncio.sleep(0)
            if failed:
                raise ConnectionError

    seen: set[int] = set()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(2_000):
                group.create_task(work(number))

    asyncio.run(main())
    assert metrics.value("calls_total", outcome="success") == 1_800
    assert metrics.value("calls_total", outcome="recovered") == 200
    assert metrics.value("call_attempts_sum") == 400


def test_a_handler_that_calls_at_any_point_of_a_recording_is_counted() -> None:
    def attempt() -> tuple[Callable[[], object], Callable[[], object], Callable[[], None]]:
        with recorded() as metrics:
            work = noop_in()

        def check() -> None:
            assert calls(metrics) == 2
            assert metrics.value("call_duration_seconds_count") == 2

        return work, work, check

    assert at_each_interruption(attempt) > 5


def test_a_handler_that_calls_while_a_failure_is_recorded_is_counted() -> None:
    def attempt() -> tuple[Callable[[], object], Callable[[], object], Callable[[], None]]:
        with recorded() as metrics:

            @retry(on=ConnectionError, wait=0, attempts=2, name="fails")
            def fail() -> None:
                raise ConnectionError

        def call() -> None:
            with pytest.raises(ConnectionError):
                fail()

        def check() -> None:
            assert metrics.value("calls_total", outcome="error") == 2
            assert metrics.value("errors_total", error_type="ConnectionError") == 4
            assert metrics.value("give_ups_total", reason="attempts") == 2

        return call, call, check

    assert at_each_interruption(attempt) > 20


def test_a_handler_that_raises_at_any_point_of_a_recording_loses_no_other_count() -> None:
    def interrupt() -> None:
        raise Interrupt

    def attempt() -> tuple[Callable[[], object], Callable[[], object], Callable[[], None]]:
        with recorded() as metrics:
            work = noop_in()

        def call() -> None:
            with contextlib.suppress(Interrupt):
                work()

        def check() -> None:
            first = calls(metrics)
            assert first in {0, 1}
            work()
            in_threads(3, work)
            assert calls(metrics) == first + 4

        return call, interrupt, check

    assert at_each_interruption(attempt) > 5


def test_threads_never_share_cells_even_if_the_making_of_them_was_interrupted() -> None:
    group = Group(layouts.CALL_LAYOUT, ("component", "retry"))

    def interrupt() -> None:
        raise Interrupt

    def attempt() -> tuple[Callable[[], object], Callable[[], object], Callable[[], None]]:
        cells = Cells(cell_in_memory)
        seen: list[object] = []

        def make() -> None:
            with contextlib.suppress(Interrupt):
                cells.cell(group)

        def check() -> None:
            seen.append(cells.cell(group))
            in_threads(1, lambda: seen.append(cells.cell(group)))
            own, of_thread = seen
            assert own is not of_thread

        return make, interrupt, check

    assert at_each_interruption(attempt) > 3


def test_a_handler_that_is_first_to_make_cells_shares_them_with_whom_it_interrupted() -> None:
    class Interrupted(deque[Any]):
        """A free list whose reader is interrupted by a handler, the first time."""

        def pop(self) -> Any:
            if not seen:
                seen.append(None)
                seen.append(cells.cell(group))
            return super().pop()

    seen: list[Any] = []
    group = Group(layouts.CALL_LAYOUT, ("component", "retry"))
    cells = Cells(cell_in_memory)
    cells._free = Interrupted()
    assert cells.cell(group) is seen[1]
    assert len(cells._free) == 1  # what the interrupted one had taken


@pytest.mark.parametrize("kind", ["histogram", "counter"])
def test_a_handler_that_makes_cells_while_cells_are_made_in_a_file_gets_room_of_its_own(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()

    def new_group() -> Group:
        return Group(layouts.CALL_LAYOUT, (f"component {next(numbers):06}", "retry"), (1.0,))

    def new_files() -> multiprocess.Files:
        directory = tmp_path / str(next(numbers))
        directory.mkdir()
        return multiprocess.Files(str(directory), "n")

    files = new_files()
    files.cell(new_group())
    room_for_one = files._open[kind].free_from
    monkeypatch.setattr(multiprocess, "_FILE_SIZE", 2 * room_for_one)  # for the second one, only

    def attempt() -> tuple[Callable[[], object], Callable[[], object], Callable[[], None]]:
        files = new_files()

        def record() -> None:
            for slots in files.cell(new_group()):
                for slot, _ in enumerate(slots):
                    slots[slot] += 1.0

        def check() -> None:
            read = samples(files._directory)
            assert [s.value for s in read if s.name == "n_calls_total"] == [1.0] * 6 * 3
            assert [s.value for s in read if s.name.endswith("_count")] == [2.0] * 3

        record()
        return record, record, check

    assert at_each_interruption(attempt) > 10


def samples(directory: str) -> list[Any]:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]  # it has no types
    return [sample for metric in registry.collect() for sample in metric.samples]


@pytest.mark.process
@pytest.mark.parametrize("policy", ["retry", "pipeline"])
def test_a_real_signal_handler_that_calls_is_counted(policy: str) -> None:
    printed = program("signals.py", "calls", "3000", policy)
    begun, in_metrics, returned, taken = map(int, printed.split())
    assert (in_metrics, returned, taken) == (begun, begun, 0)


@pytest.mark.process
def test_a_real_signal_handler_that_raises_costs_no_call_but_its_own() -> None:
    printed = program("signals.py", "raises", "2000", "retry")
    begun, in_metrics, returned, _ = map(int, printed.split())
    assert returned <= in_metrics <= begun


def test_finalisers_that_call_during_a_collection_are_counted() -> None:
    with recorded() as metrics:
        work = noop_in()

    class Leaves:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            work()

    before = gc.get_threshold()
    gc.set_threshold(3, 1, 1)
    try:
        for _ in range(300):
            Leaves()
            work()
            in_metrics = calls(metrics)
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert in_metrics > 300  # finalisers did run in between
    assert calls(metrics) == 600


@pytest.mark.process
def test_forks_under_load_leave_exact_counts_in_parent_and_children() -> None:
    exact, made, in_metrics = map(int, program("forks.py", "30").split())
    assert exact == 30
    assert in_metrics == made


@pytest.mark.process
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing_count_exactly(method: str) -> None:
    assert program("processes.py", method).split() == ["2", "7", "7"]


def test_short_threads_leave_neither_memory_nor_cells_behind() -> None:
    with recorded() as metrics:
        work = noop_in()
    room = threading.Semaphore(4)

    def call_once() -> None:
        work()
        room.release()

    def churn(threads: int) -> None:
        for _ in range(threads):
            room.acquire()
            _thread.start_new_thread(call_once, ())
        for _ in range(4):
            room.acquire()
        room.release(4)

    churn(1_000)
    before = sys.getallocatedblocks()
    churn(4_000)
    grown = sys.getallocatedblocks() - before
    assert calls(metrics) == 5_000
    assert grown < 2_000  # blocks; a cell for each thread would be 80,000
    cells = metrics._recorders.table.cells
    assert len(cells._all) <= 16  # about 4 were alive at once, and some ending


def test_memory_does_not_grow_with_the_time_between_scrapes() -> None:
    with recorded() as metrics:
        work = noop_in()
    for _ in range(100):
        work()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(10_000):
            work()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert calls(metrics) == 10_100
    assert grown < 2_000


def test_start_methods_under_test_are_there() -> None:
    assert {"fork", "spawn"} <= set(multiprocessing.get_all_start_methods())
