"""What does a durable step cost over one by hand, an item over a bare loop, a resume, and the disk?

By hand is an INSERT of 200 bytes and a commit with Python's own sqlite3, in WAL mode with
`synchronous=FULL`: one fsync. Everything is in a temporary directory on the disk of the system.
"""

import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import perf_counter

from harness import Loop, Measure, Report, main, ratio, times_of
from mainstay import Checkpoint, checkpoint_run
from mainstay.stores import SQLiteStore

PAYLOAD = "x" * 200
SAVES = 2_000
ROWS = 100_000
DONE = 1_000_000
HOUR = timedelta(hours=1)

BY_HAND = "by hand: INSERT and COMMIT"
STEP = "cp.step"
ITEM = "cp.iterate, every=1"
BARE = "bare loop"
EVERY_SECOND = "cp.iterate, every=timedelta(seconds=1), key"
NO_KEY = "cp.iterate, every=timedelta(seconds=1), no key"

_COUNTED = """
import sys
from mainstay import checkpoint_run
with checkpoint_run("key", store="sqlite:///" + sys.argv[1]) as cp:
    state = cp.state({"text": "x" * 200})
    for item in cp.iterate(range(int(sys.argv[2])), key=int):
        pass
"""


def by_hand(directory: Path) -> Loop:
    """Save as a careful engineer would by hand."""
    db = sqlite3.connect(directory / "by_hand.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE step (id INTEGER PRIMARY KEY, value TEXT)")

    def loop(times: int) -> float:
        started = perf_counter()
        for _ in range(times):
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO step (value) VALUES (?)", (PAYLOAD,))
            db.execute("COMMIT")
        return perf_counter() - started

    return loop


def payload() -> str:
    """Give what is saved."""
    return PAYLOAD


def steps(cp: Checkpoint) -> Loop:
    """Save a result of 200 bytes at each step, all in one run."""

    def loop(times: int) -> float:
        started = perf_counter()
        for _ in range(times):
            cp.step("step", payload)
        return perf_counter() - started

    return loop


def items(store: SQLiteStore) -> Loop:
    """Save cursor and a state of 200 bytes with each item."""

    def loop(times: int) -> float:
        with checkpoint_run(f"items-{perf_counter()}", store=store) as cp:
            cp.state({"text": PAYLOAD})
            started = perf_counter()
            for _ in cp.iterate(range(times), key=int):
                pass
            return perf_counter() - started

    return loop


def every_second(store: SQLiteStore, *, keyed: bool) -> Loop:
    """Go through items that are saved once a second."""
    key = int if keyed else None

    def loop(times: int) -> float:
        second = timedelta(seconds=1)
        with checkpoint_run(f"{perf_counter()}", store=store, every=second) as cp:
            started = perf_counter()
            for _ in cp.iterate(range(times), key=key):
                pass
            return perf_counter() - started

    return loop


def bare(times: int) -> float:
    """Go through the same items, and do nothing else."""
    started = perf_counter()
    for _ in range(times):
        pass
    return perf_counter() - started


def fsyncs(directory: Path, saves: int) -> float | None:
    """Count the fsyncs of so many saves, WAL checkpoints included; None without strace."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    log = directory / "strace"
    calls = []
    for number in (0, saves):
        program = [sys.executable, "-c", _COUNTED, str(directory / f"{number}.db"), str(number)]
        trace = [strace, "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(log)]
        if subprocess.run([*trace, *program], check=False).returncode:
            return None
        calls.append(len(log.read_text().splitlines()))
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


def sizes(directory: Path, rows: int) -> tuple[int, int]:
    """Give the bytes of a store after so many saves of one run: while open, and after its end."""
    path = directory / "size.db"
    store = SQLiteStore(path)
    with checkpoint_run("key", store=store) as cp:
        cp.state({"text": PAYLOAD})
        for _ in cp.iterate(range(rows), key=int):
            pass
        opened = sum(each.stat().st_size for each in directory.glob("size.db*"))
    store.close()
    return opened, sum(each.stat().st_size for each in directory.glob("size.db*"))


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
def scratch() -> Iterator[Path]:
    """Give a directory, on a disk where there is a choice."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        yield Path(name)


def report(*, quick: bool) -> Report:
    """Measure everything."""
    result = Report()
    few = 20 if quick else 1
    with scratch() as directory:
        store = SQLiteStore(directory / "runs.db")
        with checkpoint_run("steps", store=SQLiteStore(directory / "steps.db")) as cp:
            saves = times_of(
                {BY_HAND: by_hand(directory), STEP: steps(cp), ITEM: items(store)},
                rounds=5 if quick else 60,
                sample_seconds=0.05,
            )
        result.times("One durable save of 200 bytes", saves, BY_HAND)
        passing = times_of(
            {
                BARE: bare,
                EVERY_SECOND: every_second(store, keyed=True),
                NO_KEY: every_second(store, keyed=False),
            },
            rounds=5 if quick else 40,
            sample_seconds=0.05,
        )
        result.times("One item that is not saved by itself", passing, BARE)
        pairs = zip(passing[EVERY_SECOND], passing[BARE], strict=True)
        per_item = statistics.median(mine - base for mine, base in pairs) * 1e6
        synced = fsyncs(directory, SAVES // few)
        resumed = statistics.median(resumes(directory, 20 // few + 1)) * 1e3
        opened, closed = sizes(directory, ROWS // few)
        small, large = peak(store, 50_000 // few), peak(store, 500_000 // few)
        result.table(
            "Disk and memory",
            ["what", "figure"],
            [
                [f"fsyncs per save, over {SAVES // few:,} saves", synced or "no strace here"],
                [f"resume with {DONE:,} done items, callable source, ms", f"{resumed:.2f}"],
                [f"bytes after {ROWS // few:,} saves, while open", f"{opened:,}"],
                ["bytes after close", f"{closed:,}"],
                [f"peak bytes over {50_000 // few:,} items of a generator", f"{small:,}"],
                [f"peak bytes over {500_000 // few:,} items of a generator", f"{large:,}"],
            ],
        )
        store.close()
    result.measures = [
        Measure("a durable step, vs by hand", 1.5, 1.15, ratio(saves, STEP, BY_HAND)),
        Measure("a saved item, vs by hand", None, None, ratio(saves, ITEM, BY_HAND)),
        Measure("an item, over a bare loop", 0.6, 0.2, per_item, " us"),
        Measure(f"resume with {DONE:,} done items", 5, 1, resumed, " ms"),
        Measure("store size while open", 1000, 400, opened / 1000, " kB"),
        Measure("store size after close", 100, 50, closed / 1000, " kB"),
    ]
    if synced is not None:
        result.measures.append(Measure("fsyncs per save", 1.1, 1.02, synced, ""))
    return result


if __name__ == "__main__":
    main(report, __doc__)
