"""What does a durable step cost over one by hand, an item over a bare loop, a resume, and the disk?

And does an iteration cost more after two thousand others in its run?

By hand is an INSERT of 200 bytes and a commit with Python's own sqlite3, in WAL mode with
`synchronous=FULL`: one fsync. Beside it are other libraries, each taking one step as its
documentation shows it; `checkpoint_peers.py` has them, and what each does not promise. Everything
is in a temporary directory on the disk of the system.

A million saves one by one, and ten million items under `tracemalloc`, take some minutes; `--quick`
makes do with a twentieth. The sizes are those of a store in memory (`/dev/shm`), where a million
fsyncs take no time: a page more or less does not depend on where it is.
"""

import itertools
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from time import perf_counter

import checkpoint_peers as peers
from harness import Loop, Measure, Report, Times, main, ratio, times_of
from mainstay import checkpoint_run
from mainstay.stores import SQLiteStore

DONE = 1_000_000
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)

BARE = "bare loop"
EVERY_SECOND = "cp.iterate, every=timedelta(seconds=1), key"
TEXT_KEY = "the same, keys are str"
NO_KEY = "the same, no key"


def every_second(store: SQLiteStore, source: list[object] | range, key: type | None) -> Loop:
    """Go through items that are saved once a second."""
    runs = itertools.count()

    def loop(times: int) -> float:
        rows = itertools.islice(itertools.cycle(source), times)
        with checkpoint_run(f"{id(source)}-{key}-{next(runs)}", store=store, every=SECOND) as cp:
            started = perf_counter()
            for _ in cp.iterate(rows, key=key):
                pass
            return perf_counter() - started

    return loop


def bare(times: int) -> float:
    """Go through the same items, and do nothing else."""
    rows = itertools.islice(itertools.cycle(NUMBERS), times)
    started = perf_counter()
    for _ in rows:
        pass
    return perf_counter() - started


NUMBERS = range(100_000, 200_000)
TEXTS = [f"row-{number}" for number in NUMBERS]


MANY, FEW, ITEMS = 2_000, 250, 5


def iterations(store: SQLiteStore, *, every: int | timedelta, rounds: int) -> Times:
    """Time runs of many iterations after each other, and of few, in seconds per iteration.

    In each round there are as many of the one as of the other.
    """
    runs = itertools.count()

    def seconds(number: int) -> float:
        with checkpoint_run(f"{number}-{every}-{next(runs)}", store=store, every=every) as cp:
            started = perf_counter()
            for _ in range(number):
                for _ in cp.iterate(range(ITEMS), key=int, name="batch"):
                    pass
            return perf_counter() - started

    times: Times = {f"one of {MANY:,}": [], f"one of {FEW:,}": []}
    for _ in range(rounds):
        parts = [MANY] + [FEW] * (MANY // FEW)
        random.shuffle(parts)
        taken = {MANY: 0.0, FEW: 0.0}
        for number in parts:
            taken[number] += seconds(number)
        for number, whole in taken.items():
            times[f"one of {number:,}"].append(whole / MANY)
    return times


def over(times: Times, case: str) -> float:
    """Give the microseconds of an item over a bare loop: the least of each, over all rounds."""
    return (min(times[case]) - min(times[BARE])) * 1e6


def fsyncs(directory: Path, case: str, saves: int) -> float | None:
    """Count the fsyncs of a save, WAL checkpoints included; None without strace."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    calls = []
    for number in (0, saves):
        scratch = directory / f"{hash(case)}-{number}"
        scratch.mkdir()
        log = scratch / "strace"
        trace = [strace, "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(log)]
        steps = [sys.executable, peers.__file__, case, str(number), str(scratch)]
        if subprocess.run([*trace, *steps], check=False, stdout=sys.stderr).returncode:
            return None
        calls.append(log.read_text().count("sync("))
    return (calls[1] - calls[0]) / saves


def resumes(directory: Path, times: int) -> list[float]:
    """Time the way from an interrupted run with a million done items to its next item."""
    path = directory / "resume.db"

    def rest(last: int | None) -> range:
        return range(0 if last is None else last + 1, DONE + 1)

    seconds = []
    for _ in range(times + 1):
        started = perf_counter()
        try:
            with checkpoint_run("key", store=SQLiteStore(path), every=HOUR) as cp:
                for item in cp.iterate(rest, key=int):
                    if item == DONE - 1:
                        cp.save()
                    if item == DONE:
                        seconds.append(perf_counter() - started)
                        raise InterruptedError
        except InterruptedError:
            continue
    return seconds[1:]


def sizes(directory: Path, rows: int) -> tuple[int, int, float]:
    """Save so many items of one run one by one.

    Returns:
        The most bytes that the store had while open, those after its end, and the seconds.
    """
    store = SQLiteStore(directory / "size.db")

    def size() -> int:
        return sum(each.stat().st_size for each in directory.glob("size.db*"))

    opened, started = 0, perf_counter()
    with checkpoint_run("key", store=store) as cp:
        cp.state({"text": peers.PAYLOAD})
        for row in cp.iterate(range(rows), key=int):
            if row % 1000 == 0:
                opened = max(opened, size())
    seconds = perf_counter() - started
    store.close()
    return opened, size(), seconds


def peak(store: SQLiteStore, rows: int) -> int:
    """Give the most bytes that an iteration over a generator holds."""
    with checkpoint_run(f"peak-{rows}", store=store, every=HOUR) as cp:
        tracemalloc.start()
        for _ in cp.iterate((row for row in range(rows)), key=int):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return most


@contextmanager
def scratch(parent: str | None = None) -> Iterator[Path]:
    """Give a directory, on a disk where there is a choice."""
    with tempfile.TemporaryDirectory(dir=parent or os.environ.get("TMPDIR")) as name:
        yield Path(name)


def saves(result: Report, directory: Path, *, quick: bool) -> None:
    """Measure one durable step of each library, and count its fsyncs."""
    with ExitStack() as opened:
        loops = {case: opened.enter_context(made(directory)) for case, made in peers.CASES.items()}
        times = times_of(loops, rounds=3 if quick else 60, sample_seconds=0.05)
    result.times("One durable save of 200 bytes", times, peers.BY_HAND, peers.DBOS_SQLITE)
    number = 50 if quick else 1_000
    synced = {case: fsyncs(directory, case, number) for case in peers.CASES}
    result.table(
        f"What that is worth, over {number:,} saves",
        ["case", "fsyncs per save", "what it does not do"],
        [
            [case, "no strace here" if count is None else f"{count:.3f}", peers.LACKS[case]]
            for case, count in synced.items()
        ],
    )
    by_hand = ratio(times, peers.STEP, peers.BY_HAND)
    against = ratio(times, peers.STEP, peers.DBOS_SQLITE)
    result.measures += [
        Measure("a durable step, vs by hand", 1.5, 1.15, by_hand),
        Measure("a durable step, vs DBOS on SQLite", 1 / 6, 0.1, against),
        Measure("a saved item, vs by hand", None, None, ratio(times, peers.ITEM, peers.BY_HAND)),
    ]
    count = synced[peers.ITEM]
    if count is not None:
        result.measures.append(Measure("fsyncs per save", 1.1, 1.02, count, ""))


def passing(result: Report, store: SQLiteStore, *, quick: bool) -> None:
    """Measure items that are not saved by themselves."""
    times = times_of(
        {
            BARE: bare,
            EVERY_SECOND: every_second(store, NUMBERS, int),
            TEXT_KEY: every_second(store, TEXTS, str),
            NO_KEY: every_second(store, NUMBERS, None),
        },
        rounds=5 if quick else 60,
        sample_seconds=0.05,
    )
    result.times("One item that is not saved by itself", times, BARE)
    result.say(
        f"Over a bare loop, the least of all rounds: {over(times, EVERY_SECOND):.3f} us with "
        f"`key=int`, {over(times, TEXT_KEY):.3f} us with `key=str` over texts."
    )
    least = over(times, EVERY_SECOND)
    result.measures.append(Measure("an item, over a bare loop", 0.6, 0.2, least, " us"))


def after_each_other(result: Report, store: SQLiteStore, *, quick: bool) -> None:
    """Measure iterations that come after many others in their run."""
    many, few = f"one of {MANY:,}", f"one of {FEW:,}"
    for name, every in (("each item saved", 1), ("no item saved", HOUR)):
        times = iterations(store, every=every, rounds=2 if quick else 15)
        result.times(f"An iteration of {ITEMS} items, {name}", times, few)
        text = f"{MANY:,} iterations of {ITEMS} items / {FEW:,} of them, per iteration, {name}"
        result.measures.append(Measure(text, 1.3, 1.0, ratio(times, many, few)))


def disk_and_memory(result: Report, directory: Path, store: SQLiteStore, *, quick: bool) -> None:
    """Measure a resume, the size of a store, and the memory of an iteration."""
    rows, few, many = (20_000, 50_000, 500_000) if quick else (DONE, 100_000, 10_000_000)
    taken = resumes(directory, 2 if quick else 100)
    resumed, least = statistics.median(taken) * 1e3, min(taken) * 1e3
    with scratch("/dev/shm" if Path("/dev/shm").is_dir() else None) as memory:  # noqa: S108 - not a guess at a name
        opened, closed, seconds = sizes(memory, rows)
    small, large = peak(store, few), peak(store, many)
    result.table(
        "Disk and memory",
        ["what", "figure"],
        [
            [f"resume with {DONE:,} done items, callable source, ms", f"{resumed:.2f}"],
            ["the fastest of them", f"{least:.2f}"],
            [f"most bytes of a store during {rows:,} saves", f"{opened:,}"],
            ["bytes after close", f"{closed:,}"],
            [f"seconds that the {rows:,} saves took", f"{seconds:.0f}"],
            [f"peak bytes over {few:,} items of a generator", f"{small:,}"],
            [f"peak bytes over {many:,} items of a generator", f"{large:,}"],
        ],
    )
    grown = (large - small) / 1000
    result.measures += [
        Measure(f"resume with {DONE:,} done items", 5, 1, resumed, " ms"),
        Measure(f"store size during {rows:,} saves", 1000, 400, opened / 1000, " kB"),
        Measure("store size after close", 100, 50, closed / 1000, " kB"),
        Measure(f"memory of {many:,} items over that of {few:,}", 50, 10, grown, " kB"),
    ]


def report(*, quick: bool) -> Report:
    """Measure everything."""
    result = Report()
    with scratch() as directory:
        store = SQLiteStore(directory / "runs.db")
        saves(result, directory, quick=quick)
        passing(result, store, quick=quick)
        after_each_other(result, store, quick=quick)
        disk_and_memory(result, directory, store, quick=quick)
        store.close()
    return result


if __name__ == "__main__":
    main(report, __doc__)
