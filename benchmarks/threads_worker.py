"""The processes that `threads.py` starts: in one of them threads are timed, the other is killed.

`threads_worker.py time ROUNDS SAMPLE_SECONDS` prints JSON: times, calls made, calls shown.
`threads_worker.py endless FILE` calls for ever, and counts in FILE the calls that have returned.
"""

import json
import mmap
import os
import sys
import threading
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from time import perf_counter

from prometheus_client import CollectorRegistry, multiprocess

import mainstay
import peers
from harness import Loop, times_of
from peers import LIMIT, OURS

THREADS = (1, 2, 4, 8)
COMPONENT = "threads"
RUNNING_WHEN_KILLED = 4
"""How many threads call for ever in the process that is killed."""


class Threads:
    """A loop whose calls are shared out to threads; it keeps count of them."""

    def __init__(self, function: Callable, threads: int) -> None:
        self._function = function
        self._threads = threads
        self.made = 0

    def __call__(self, calls: int) -> float:
        """Make the calls, or a few more where the threads do not divide them."""
        each = -(-calls // self._threads)
        together = threading.Barrier(self._threads)
        spans: list[tuple[float, float]] = []

        def work(function: Callable = self._function) -> None:
            together.wait()
            started = perf_counter()
            for _ in repeat(None, each):
                function(1)
            spans.append((started, perf_counter()))

        workers = [threading.Thread(target=work) for _ in range(self._threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.made += each * self._threads
        seconds = max(end for _, end in spans) - min(started for started, _ in spans)
        return seconds * calls / (each * self._threads)


def ours(job: Callable) -> Callable:
    """Decorate as in the other benchmarks, under a name that can be asked for."""
    return mainstay.retry(**peers.ours_options(), name=COMPONENT)(job)


def shown(registry: CollectorRegistry) -> float:
    """Read what the metrics show of our calls."""
    labels = {"component": COMPONENT, "policy": "retry", "outcome": "success"}
    return registry.get_sample_value("mainstay_calls_total", labels) or 0.0


def shown_by_files(directory: str) -> float:
    """Read it from the files of multiprocess mode."""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, directory)
    return shown(registry)


def time_threads(rounds: int, sample_seconds: float) -> None:
    """Time both cases with each number of threads."""
    by_hand, decorated = peers.by_hand(peers.job), ours(peers.job)
    loops: dict[str, Loop] = {}
    for threads in THREADS:
        loops[f"{LIMIT}, {threads}"] = Threads(by_hand, threads)
        loops[f"{OURS}, {threads}"] = Threads(decorated, threads)
    times = times_of(loops, rounds=rounds, sample_seconds=sample_seconds)
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    counted = shown_by_files(directory) if directory else shown(peers.REGISTRY)
    made = sum(loop.made for name, loop in loops.items() if name.startswith(OURS))
    print(json.dumps({"times": times, "made": made, "shown": counted}))


def call_for_ever(path: str) -> None:
    """Call in several threads until killed; each counts in FILE the calls that have returned."""
    decorated = ours(peers.job)
    with Path(path).open("r+b") as file:
        returned = memoryview(mmap.mmap(file.fileno(), 8 * RUNNING_WHEN_KILLED)).cast("d")

    def work(slot: int) -> None:
        while True:
            decorated(1)
            returned[slot] += 1

    for slot in range(RUNNING_WHEN_KILLED):
        threading.Thread(target=work, args=(slot,)).start()


if __name__ == "__main__":
    match sys.argv[1:]:
        case "time", rounds, sample_seconds:
            time_threads(int(rounds), float(sample_seconds))
        case "endless", path:
            call_for_ever(path)
