"""Does a signal handler that comes into a checkpointed run leave anything behind, or cost an item?

A run of three items, of three steps, and one that fails, each as a function and as a block, with
its handler at each place where Python lets one in, one place after another, also in the standard
library; and at random moments, by a timer. The handler raises an exception, calls
`interrupt_all()`, or makes a run of its own in the same store.

Left behind is a run in the watcher, a run that is "running" in the store and that nobody has, a
lock that is held, a transaction, a thread, a file, a step, a run that waits for SIGTERM, or one
whose items are expected. Another attempt has to come to the right result.
"""

import argparse
import itertools
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[1] / "tests" / "programs" / "checkpoint_interrupts.py"
ACTS = ("raises", "interrupts", "runs")
STORES = ("memory", "sqlite")
JOBS = ("items", "steps", "fails")


def tried(*arguments: str) -> list[str]:
    """Return the lines of the program: how often a handler came in, and what was wrong."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


def main() -> None:
    """Try all cases, and print what came of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", default="1", help="try every so many places")
    parser.add_argument("--hits", default="1000", help="how often a timer hits, for each form")
    chosen = parser.parse_args()
    cases = [(*each, "every", chosen.stride) for each in itertools.product(ACTS, STORES, JOBS)]
    cases += [("raises", store, "items", "random", chosen.hits) for store in STORES]
    print("| handler | store | run | how | handlers | wrong |")
    print("| --- | --- | --- | --- | --: | --: |")
    for case in cases:
        [places, *wrong] = tried(*case)
        act, store, job, how, _ = case
        print(f"| {act} | {store} | {job} | {how} | {places} | {len(wrong)} |", flush=True)
        for each in wrong:
            print(each, file=sys.stderr)


if __name__ == "__main__":
    main()
