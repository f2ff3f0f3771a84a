"""How does the cost of a call grow with the threads that make it, and is anything lost?

1, 2, 4 and 8 threads call one decorated function as fast as they can. A time is that of all calls
of all threads, from the first one's start to the last one's end, divided by their number. Done
once with metrics in memory and once in prometheus_client's multiprocess mode, each in a process
of its own, because that mode is chosen before prometheus_client is imported.

Counted besides: whether the metrics show exactly the calls that were made, and, in multiprocess
mode, what they show of a process whose threads were killed with SIGKILL in the middle of calls.
"""

import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import QUICK_ROUNDS, Measure, Report, Times, main, ratio
from peers import LIMIT, OURS
from threads_worker import RUNNING_WHEN_KILLED, THREADS, shown_by_files

MODE = "PROMETHEUS_MULTIPROC_DIR"
ROUNDS = 20
SAMPLE_SECONDS = 0.06  # long enough for every thread to get its turn
HEADER = ("threads", "LIMIT min ns", "ours", "LIMIT median ns", "ours", "ours vs LIMIT")
WORKER = [sys.executable, str(Path(__file__).with_name("threads_worker.py"))]


def timed(directory: str | None, *, quick: bool) -> dict:
    """Time the threads in a process of its own, in multiprocess mode if there is a directory."""
    environment = {name: value for name, value in os.environ.items() if name != MODE}
    if directory is not None:
        environment[MODE] = directory
    rounds, seconds = (QUICK_ROUNDS, 0.005) if quick else (ROUNDS, SAMPLE_SECONDS)
    command = [*WORKER, "time", str(rounds), str(seconds)]
    answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return json.loads(answer.stdout)


def killed(calls: int) -> tuple[int, int]:
    """Kill a process that has made so many calls; give those that returned and those shown."""
    with tempfile.TemporaryDirectory() as directory, tempfile.NamedTemporaryFile() as file:
        file.truncate(8 * RUNNING_WHEN_KILLED)
        returned = memoryview(mmap.mmap(file.fileno(), 8 * RUNNING_WHEN_KILLED)).cast("d")
        environment = {**os.environ, MODE: directory}
        worker = subprocess.Popen([*WORKER, "endless", file.name], env=environment)
        try:
            while sum(returned) < calls and worker.poll() is None:
                time.sleep(0.01)
        finally:
            worker.kill()
            worker.wait()
        return int(sum(returned)), int(shown_by_files(directory))


def row(times: Times, threads: int) -> list[object]:
    """Give the line of a table for one number of threads."""
    cases = f"{LIMIT}, {threads}", f"{OURS}, {threads}"
    least = (min(times[case]) for case in cases)
    middle = (statistics.median(times[case]) for case in cases)
    numbers = (f"{seconds * 1e9:,.0f}" for seconds in (*least, *middle))
    return [threads, *numbers, f"{ratio(times, cases[1], cases[0]):.3g}x"]


def report(*, quick: bool) -> Report:
    """Time both modes and kill a process."""
    result = Report()
    plain = timed(None, quick=quick)
    with tempfile.TemporaryDirectory() as directory:
        multiprocess = timed(directory, quick=quick)
    for title, answer in (("In memory", plain), ("Multiprocess mode", multiprocess)):
        result.table(title, HEADER, [row(answer["times"], threads) for threads in THREADS])
        result.say(f"Calls made: {answer['made']:,}; shown by the metrics: {answer['shown']:,.0f}.")
    returned, shown = killed(2_000 if quick else 500_000)
    result.say(
        f"Killed with SIGKILL while {RUNNING_WHEN_KILLED} threads were calling: {returned:,} calls "
        f"had returned, {shown:,} are shown; up to {RUNNING_WHEN_KILLED} were under way."
    )
    times = multiprocess["times"]
    result.measures = [
        Measure(
            "multiprocess mode vs LIMIT there, 1 thread",
            0.40,
            0.20,
            ratio(times, f"{OURS}, 1", f"{LIMIT}, 1"),
        ),
        Measure(
            "multiprocess mode, 8 threads: LIMIT / ours",
            5,
            20,
            ratio(times, f"{LIMIT}, 8", f"{OURS}, 8"),
            more_is_better=True,
        ),
        Measure("calls lost by threads, multiprocess mode", 0, 0, _lost(multiprocess), ""),
        Measure("calls lost by threads, in memory", 0, 0, _lost(plain), ""),
        Measure("calls lost by SIGKILL", 0, 0, max(0, returned - shown), ""),
    ]
    return result


def _lost(answer: dict) -> float:
    return answer["made"] - answer["shown"]


if __name__ == "__main__":
    main(report, __doc__)
