"""Is the code of this checkout as fast as that of another one? Both in one run, turn about.

    python benchmarks/compare.py [--cpu] PATH-OF-THE-OTHER-CHECKOUT [CASE ...]

Two processes, one for each checkout, import their own mainstay and wait. In each round, each case
is timed once in either, in a random order; a ratio is the median, over the rounds, of two times of
the same round. Below the table stand the geometric mean and the worst of all ratios. The cases are
those of the other scripts here, as far as both checkouts have them, and use public names only.

Where the objects of a process lie in memory makes the same code faster or slower by 5 % and more,
as long as the process lives: so there is another pair of processes for every third of the rounds.
On a machine that is at work besides, `--cpu` compares the processor's time in place of the wall's:
not for cases that wait for a disk or a timer, since that counts no waiting.
"""

import argparse
import asyncio
import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from time import process_time

import harness
from harness import Loop, async_loop_over, loop_over

ROUNDS = 15
PAIRS = 3
SAMPLE_SECONDS = 0.02
HERE = Path(__file__).resolve()
FUNCTIONS = 200


class LostError(ConnectionError):
    """What fails here."""


def plain(x: int) -> int:
    """Do next to nothing."""
    return x


async def aplain(x: int) -> int:
    """Do the same in async code."""
    return x


async def turn(x: int) -> int:
    """Take one turn of the event loop."""
    await asyncio.sleep(0)
    return x


def failing_twice(*_args: object) -> Callable[..., int]:
    """Return a function that fails twice, then succeeds, and so on."""
    fails = itertools.cycle((True, True, False)).__next__

    def job(*_args: object) -> int:
        if fails():
            raise LostError
        return 1

    return job


def of_retry() -> Iterator[tuple[str, Loop]]:
    """Yield the cases of retry, and of its deadline and budget."""
    from mainstay import Metrics, RetryBudget, deadline, retry  # noqa: PLC0415 - of either checkout

    def policy(**parameters: object) -> Callable:
        return retry(on=LostError, wait=0, metrics=Metrics(None), **parameters)

    yield "retry, sync", loop_over(policy()(plain))
    yield "retry, async", async_loop_over(policy()(aplain))
    yield "retry, fails twice, sync", loop_over(policy()(failing_twice()))
    job = failing_twice()

    async def ajob(x: int) -> int:
        return job(x)

    yield "retry, fails twice, async", async_loop_over(policy()(ajob))
    yield "retry, with a budget", loop_over(policy(budget=RetryBudget())(plain))
    made = policy(name="made")
    yield "retry, .call", loop_over(lambda x: made.call(plain, x))

    def block(x: int) -> int:
        for attempt in made:
            with attempt:
                return x
        return 0

    yield "retry, block", loop_over(block)
    call = policy()(plain)

    def in_deadline(x: int) -> int:
        with deadline(60.0):
            return call(x)

    yield "retry, in a deadline", loop_over(in_deadline)


def of_failover() -> Iterator[tuple[str, Loop]]:  # noqa: C901 - a list of small functions
    """Yield the cases of pools."""
    from mainstay import FailoverPool, Member, Metrics, failover  # noqa: PLC0415 - as above

    def pool(members: int = 3, **parameters: object) -> FailoverPool:
        made = [Member(f"m{number}", number) for number in range(members)]
        return FailoverPool("pool", made, on=LostError, metrics=Metrics(None), **parameters)

    def job(_member: int, x: int) -> int:
        return x

    async def ajob(_member: int, x: int) -> int:
        return x

    for select in ("priority", "round_robin", "weighted", "least_latency"):
        yield f"failover, {select}", loop_over(failover(pool(select=select))(job))
    yield "failover, of 1,000", loop_over(failover(pool(1_000, select="round_robin"))(job))
    yield "failover, async", async_loop_over(failover(pool())(ajob))
    leased, blocks = pool(), pool()

    def lease(x: int) -> int:
        with leased.lease():
            return x

    def block(x: int) -> int:
        for attempt in blocks:
            with attempt:
                return x
        return 0

    yield "failover, lease", loop_over(lease)
    yield "failover, block", loop_over(block)
    down = pool(when_all_down="raise")

    def lost(_member: int) -> int:
        raise LostError

    for _ in range(30):
        with suppress(Exception):
            down.call(lost)

    def rejected(_x: int) -> None:
        with suppress(Exception):
            down.call(lost)

    yield "failover, all down", loop_over(rejected)


def of_breaker() -> Iterator[tuple[str, Loop]]:
    """Yield the cases of circuit breakers."""
    from mainstay import CircuitBreaker, CircuitOpenError, Metrics  # noqa: PLC0415 - as above

    def breaker() -> CircuitBreaker:
        return CircuitBreaker("breaker", on=LostError, metrics=Metrics(None))

    yield "breaker, closed", loop_over(breaker()(plain))
    yield "breaker, closed, async", async_loop_over(breaker()(aplain))
    opened = breaker()
    opened.open()
    call = opened(plain)

    def rejected(x: int) -> None:
        with suppress(CircuitOpenError):
            call(x)

    yield "breaker, open", loop_over(rejected)


def of_redundant() -> Iterator[tuple[str, Loop]]:
    """Yield the cases of redundant calls, but for the async race."""
    from mainstay import Metrics, hedge, redundant, vote  # noqa: PLC0415 - as above

    def warm(fn: Callable, **parameters: object) -> Callable:
        start = hedge.quantile(0.95, at_least=30.0)
        call = redundant(start=start, metrics=Metrics(None), **parameters)(fn)
        for _ in range(200):
            asyncio.run(call(1)) if asyncio.iscoroutinefunction(fn) else call(1)
        return call

    yield "hedge, not fired, async", async_loop_over(warm(turn))
    yield "hedge, not fired, in tasks", async_loop_over(warm(turn, primary="task"))
    yield "hedge, not fired, sync", loop_over(warm(plain))
    votes = redundant(copies=3, decide=vote.majority(), metrics=Metrics(None))
    yield "vote of three, async", async_loop_over(votes(turn))
    yield "vote of three, sync", loop_over(votes(plain))


def of_checkpoint() -> Iterator[tuple[str, Loop]]:
    """Yield the cases of checkpointed functions."""
    from mainstay import checkpoint_run  # noqa: PLC0415 - as above
    from mainstay.stores import MemoryStore, SQLiteStore  # noqa: PLC0415 - as above

    directory = tempfile.mkdtemp(prefix="mainstay-compare-")
    runs = itertools.count()
    disk = SQLiteStore(Path(directory) / "runs.db")

    def items(store: object, every: object, *, key: type | None = int) -> Loop:
        def loop(times: int) -> float:
            with checkpoint_run(f"run-{next(runs)}", store=store, every=every) as cp:
                cp.state({"done": 0})
                started = harness.timer()
                for _ in cp.iterate(range(times), key=key):
                    pass
                return harness.timer() - started

        return loop

    def steps(times: int) -> float:
        with checkpoint_run(f"run-{next(runs)}", store=disk) as cp:
            started = harness.timer()
            for number in range(times):
                cp.step("step", plain, number)
            return harness.timer() - started

    memory = MemoryStore()
    yield "checkpoint, item", items(memory, timedelta(hours=1))
    yield "checkpoint, item without a key", items(memory, timedelta(hours=1), key=None)
    yield "checkpoint, item saved, in memory", items(memory, 1)
    yield "checkpoint, item saved, on disk", items(disk, 1)
    yield "checkpoint, step, on disk", steps


def of_metrics() -> Iterator[tuple[str, Loop]]:
    """Yield the cases of scrapes and of recorders that are made."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - as above

    from mainstay import Metrics, retry  # noqa: PLC0415 - as above

    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for number in range(FUNCTIONS):
        retry(on=LostError, name=f"function-{number}", metrics=metrics)(plain)(1)
    yield f"scrape of {FUNCTIONS} functions", loop_over(lambda _x: generate_latest(registry))
    yield (
        "a function decorated",
        loop_over(lambda _x: retry(on=LostError, name="decorated", metrics=metrics)(plain)),
    )


GROUPS = (of_retry, of_failover, of_breaker, of_redundant, of_checkpoint, of_metrics)


def work() -> None:
    """Answer, in one of the two processes, with the seconds that loops take."""
    loops = dict(itertools.chain.from_iterable(group() for group in GROUPS))
    print(json.dumps([*loops]), flush=True)
    for line in sys.stdin:
        case, times = json.loads(line)
        print(json.dumps(loops[case](times)), flush=True)


class Worker:
    """A process with one of the checkouts."""

    def __init__(self, checkout: Path, *options: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE), "--work", *options],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.cases: list[str] = self._answer()

    def _answer(self) -> object:
        return json.loads(self._process.stdout.readline())

    def seconds(self, case: str, times: int) -> float:
        """Return how long so many calls of a case take."""
        self._process.stdin.write(json.dumps([case, times]) + "\n")
        return self._answer()

    def end(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def compare(other: Path, wanted: list[str], rounds: int, *options: str) -> dict[str, list[float]]:
    """Return the ratios of each case, one for each round."""
    ratios: dict[str, list[float]] = {}
    pairs = min(PAIRS, rounds)
    for pair in range(pairs):
        turns = (pair + 1) * rounds // pairs - pair * rounds // pairs
        for case, each in compare_pair(other, wanted, turns, *options).items():
            ratios.setdefault(case, []).extend(each)
    return ratios


def compare_pair(
    other: Path, wanted: list[str], rounds: int, *options: str
) -> dict[str, list[float]]:
    """Return the ratios of each case in two processes of their own."""
    mine, theirs = workers = Worker(HERE.parents[1], *options), Worker(other, *options)
    cases = [case for case in theirs.cases if case in mine.cases]
    cases = [case for case in cases if not wanted or any(each in case for each in wanted)]
    lengths = {}
    for case in cases:
        length = 2
        while (seconds := theirs.seconds(case, length)) < SAMPLE_SECONDS / 2:
            length *= 2
        lengths[case] = max(2, round(length * SAMPLE_SECONDS / seconds))
        mine.seconds(case, lengths[case])  # warms it up as well
    ratios: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        random.shuffle(cases)
        for case in cases:
            turns = [*workers]
            random.shuffle(turns)
            seconds = {turn: turn.seconds(case, lengths[case]) for turn in turns}
            ratios[case].append(seconds[mine] / seconds[theirs])
    for worker in workers:
        worker.end()
    return {case: ratios[case] for case in theirs.cases if case in ratios}


def main() -> None:
    """Compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", nargs="?", type=Path, help="the other checkout")
    parser.add_argument("cases", nargs="*", help="parts of names of cases; all without any")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--cpu", action="store_true", help="compare the processor's time")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        if options.cpu:
            harness.timer = process_time
        work()
        return
    if options.other is None:
        parser.error("which checkout is it to be compared with?")
    clock = ("--cpu",) if options.cpu else ()
    ratios = compare(options.other, options.cases, options.rounds, *clock)
    medians = {case: statistics.median(each) for case, each in ratios.items()}
    print("| case | here / there | middle half |")
    print("| --- | --: | --: |")
    for case, each in ratios.items():
        low, _, high = statistics.quantiles(each, n=4)
        print(f"| {case} | {medians[case]:.3f}x | {low:.2f}-{high:.2f} |")
    mean = math.exp(statistics.fmean(map(math.log, medians.values())))
    worst = max(medians, key=medians.__getitem__)
    print(f"\nGeometric mean {mean:.3f}x; the worst {medians[worst]:.3f}x ({worst}).")


if __name__ == "__main__":
    main()
