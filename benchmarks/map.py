"""What does `cp.map` cost over `executor.map`, and how many items run twice after a kill?

Four threads work on items that sleep. The base is a loop over `executor.map` without checkpoints,
which submits all items at once; `cp.map` saves to a SQLite file on the disk, has 16 items under way
on this machine, and its loop does the same sum. Each round times all cases, in a random order.

Then a job is killed as a whole, by SIGKILL and with all its workers, when it has begun a random
number of items, until it ends; the state is compared with what it has to be, and items that were
begun before a kill and again after it are counted. The program is that of the tests.
"""

import itertools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from harness import Measure, Report, Times, main, ratio
from mainstay import checkpoint_run
from mainstay.stores import SQLiteStore, Store

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.map_runs import MapRun

THREADS = 4
ITEMS, QUICK_ITEMS = 200, 20
ROUNDS, QUICK_ROUNDS = 11, 1
SHORT, LONG = 0.020, 0.200
AHEAD = 8
CASES = {
    "cp.map, every=1": {"every": 1},
    "cp.map, every 0.5 s": {"every": timedelta(seconds=0.5)},
    "cp.map, every=1, ordered=False": {"every": 1, "ordered": False},
}
BASE = "executor.map, no checkpoints"


@dataclass
class Kills:
    """Kills of one kind of job."""

    pool: str
    ordered: bool
    every: int | float
    kills: int

    @property
    def since_the_last_save(self) -> int:
        """How many items there are at most between two saves, the one in progress included."""
        return self.every if isinstance(self.every, int) else PER_SAVE


PER_SAVE = 60  # items that eight workers of 5 ms can end in 40 ms, with some to spare
KILLS = [
    Kills("threads", ordered=True, every=1, kills=20),
    Kills("threads", ordered=False, every=1, kills=20),
    Kills("threads", ordered=True, every=10, kills=10),
    Kills("threads", ordered=False, every=0.04, kills=10),
    Kills("tasks", ordered=True, every=1, kills=8),
    Kills("tasks", ordered=False, every=10, kills=8),
    Kills("processes", ordered=True, every=1, kills=6),
    Kills("processes", ordered=False, every=1, kills=6),
    Kills("loky", ordered=True, every=1, kills=4),
    Kills("loky", ordered=False, every=1, kills=4),
    Kills("dask", ordered=True, every=1, kills=4),
    Kills("dask", ordered=False, every=1, kills=4),
]


def nap(seconds: float) -> int:
    """Sleep as long as the item says."""
    time.sleep(seconds)
    return 1


def total_of(results: Iterable[int]) -> int:
    """Add up the results, as both loops do."""
    total = 0
    for result in results:
        total += result
    return total


def mapped(pool: Executor, items: list[float], options: dict, store: Store) -> Callable[[], int]:
    """Return a job over `cp.map`, each time another run."""
    spread = {name: options[name] for name in ("ordered",) if name in options}
    keys = map(str, itertools.count())

    def job() -> int:
        key = f"{options} {next(keys)}"
        with checkpoint_run(key, store=store, every=options["every"]) as cp:
            total = cp.state({"results": 0})
            for result in cp.map(nap, items, executor=pool, **spread):
                total["results"] += result
        return total["results"]

    return job


def timed(items: list[float], *, rounds: int) -> Times:
    """Time all cases over *items*, in seconds for all of them."""
    times: Times = {name: [] for name in (BASE, *CASES)}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(THREADS) as pool:
        jobs: dict[str, Callable[[], int]] = {BASE: lambda: total_of(pool.map(nap, items))}
        store = SQLiteStore(f"{folder}/runs.db")
        jobs |= {name: mapped(pool, items, case, store) for name, case in CASES.items()}
        for _ in range(rounds):
            for name in random.sample(list(jobs), len(jobs)):
                started = time.perf_counter()
                if jobs[name]() != len(items):
                    raise RuntimeError(f"{name} has lost an item")
                times[name].append(time.perf_counter() - started)
        store.close()
    return times


def killed(kind: Kills, *, kills: int) -> tuple[list[int], bool]:
    """Kill one job so many times; return how many items ran twice at each, and if all is exact."""
    items, twice = 25 * (kills + 1), []
    with tempfile.TemporaryDirectory() as folder:
        run = MapRun(
            folder, pool=kind.pool, ordered=kind.ordered, every=kind.every, ahead=AHEAD,
            items=items, seconds=0.005,
        )  # fmt: skip
        exact, reached = True, [0]
        for _ in range(kills):
            enough = reached[-1] + random.randrange(12, 25)
            run.start()
            run.wait_until(lambda enough=enough: len(run.begun()) >= enough)
            run.kill()
            reached.append(len(run.begun()))
            saved = run.saved()
            exact = exact and len({*saved}) == len(saved)
        code, errors = run.start().ended()
        if code:
            raise RuntimeError(errors)
        begun = run.begun()
        for before, kill, after in zip(
            reached[:-1], reached[1:], [*reached[2:], None], strict=True
        ):
            twice.append(len({*begun[before:kill]} & {*begun[kill:after]}))
        result = run.result()
        wanted = [*range(items)]
        exact = exact and (result if kind.ordered else sorted(result)) == wanted
    return twice, exact


def costs(report: Report, title: str, times: Times) -> None:
    """Add a table of what the cases cost."""
    rows = []
    for name, seconds in times.items():
        low, middle, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
        rows.append([
            name, f"{middle:.3f}", f"{low:.3f}-{high:.3f}", f"{ratio(times, name, BASE):.3f}x"
        ])  # fmt: skip
    report.table(title, ["case", "median s", "middle half", f"vs {BASE}"], rows)


def report(*, quick: bool = False) -> Report:
    """Measure both."""
    result = Report()
    count, rounds = (QUICK_ITEMS, QUICK_ROUNDS) if quick else (ITEMS, ROUNDS)
    even = timed([SHORT] * count, rounds=rounds)
    costs(result, f"{count} items of 20 ms on {THREADS} threads", even)
    uneven = timed([LONG if n % 10 == 0 else SHORT for n in range(count)], rounds=rounds)
    costs(result, f"{count} items, one in ten of 200 ms, on {THREADS} threads", uneven)
    rows, most_beyond, all_exact, all_kills = [], 0, True, 0
    for kind in KILLS[:2] if quick else KILLS:
        kills = 1 if quick else kind.kills
        twice, exact = killed(kind, kills=kills)
        bound = AHEAD + kind.since_the_last_save
        most_beyond = max(most_beyond, max(twice) - kind.since_the_last_save)
        all_exact, all_kills = all_exact and exact, all_kills + kills
        every = f"{kind.every:g} s" if isinstance(kind.every, float) else kind.every
        order = "in order" if kind.ordered else "as they end"
        rows.append([
            f"{kind.pool}, {order}, every {every}", kills, "yes" if exact else "NO",
            f"{statistics.mean(twice):.1f}", max(twice), bound,
        ])  # fmt: skip
    result.table(
        f"Kills, ahead={AHEAD}, items of 5 ms",
        ["job", "kills", "state exact", "run twice per kill", "at most", "bound"],
        rows,
    )
    result.measures = [
        Measure("`cp.map` / `executor.map`, items of 20 ms, every=1", 1.1, 1.03,
                ratio(even, "cp.map, every=1", BASE)),
        Measure("the same, every 0.5 s", 1.1, 1.03, ratio(even, "cp.map, every 0.5 s", BASE)),
        Measure("`cp.map` / `executor.map`, one in ten of 200 ms, every=1", 1.5, 1.3,
                ratio(uneven, "cp.map, every=1", BASE)),
        Measure(f"items beyond those since the last save that ran twice, of {all_kills} kills, "
                f"ahead={AHEAD}", AHEAD, AHEAD, most_beyond, ""),
        Measure("kills after which an item was in the state twice, or missing", 0, 0,
                0 if all_exact else 1, ""),
    ]  # fmt: skip
    return result


if __name__ == "__main__":
    main(report, __doc__)
