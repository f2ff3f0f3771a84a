"""A job that is killed with SIGKILL three times and still gives the exact total.

    python docs/examples/killed_job.py

This process starts the job in a child process, kills it in the middle, and starts it again. Four
children work on it one after the other; each goes on where the one before was killed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import attrs

from mainstay import Checkpoint, checkpointed

AMOUNTS = [number * 7 % 101 for number in range(300)]
KILLS = 3


@attrs.define
class Totals:
    """What the job adds up."""

    rows: int = 0
    cents: int = 0


def total(cp: Checkpoint) -> list[int]:
    """Add up all amounts; each takes a moment."""
    totals = cp.state(Totals())
    for amount in cp.iterate(AMOUNTS):
        time.sleep(0.002)
        totals.rows += 1
        totals.cents += amount
        print("row", totals.rows, flush=True)
    return [totals.rows, totals.cents]


def start(store: str) -> "subprocess.Popen[str]":
    """Start the job in a process of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, "--job"],
        env=os.environ | {"MAINSTAY_STORE": store},
        stdout=subprocess.PIPE,
        text=True,
    )


def killed(store: str, rows: int) -> list[int]:
    """Kill the job after it has done so many rows; give the rows that it did."""
    done: list[int] = []
    with start(store) as job:
        for line in job.stdout or ():
            done.append(int(line.split()[1]))
            if len(done) == rows:
                job.send_signal(signal.SIGKILL)
                break
    print(f"killed in row {done[-1]}, after rows {done[0]} to {done[-1]}")
    return done


def main() -> int:
    """Kill the job three times, let it end, and compare."""
    with tempfile.TemporaryDirectory() as directory:
        store = f"sqlite:///{Path(directory, 'jobs.db')}"
        for _ in range(KILLS):
            killed(store, 60)
        with start(store) as job:
            output = job.stdout.read() if job.stdout else ""
    *_, last = output.splitlines()
    expected = [len(AMOUNTS), sum(AMOUNTS)]
    print(f"{last}; it should be {expected}")
    return 0 if last == f"total {expected}" else 1


if __name__ == "__main__":
    if "--job" in sys.argv:
        job = checkpointed(key="orders", every=1, name="total")  # the store is $MAINSTAY_STORE
        print("total", job.call(total))
    else:
        sys.exit(main())
