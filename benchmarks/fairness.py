"""Does each of 16 threads get its turn where two may run at a time, and what does that cost?

Each thread takes a place, works, and comes back for the next one at once, for some seconds. With
`threading.Semaphore` who gives a place back is likely to get it again: those who wait are woken,
and find it taken. A bulkhead hands the place to the first of its line.

The work is a sleep of 1 ms, as of a thread that waits for an answer, or 0.2 ms of arithmetic, which
needs the interpreter. In each round every case has its time once, in a random order; the ratio of
the turns in a second is the median over the rounds.
"""

import random
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

from harness import Measure, Report, main
from mainstay import Bulkhead, Metrics

THREADS, LIMIT = 16, 2

Places = Callable[[], AbstractContextManager[object]]


def arithmetic(seconds: float) -> None:
    """Keep the interpreter busy."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


WORK: Mapping[str, Callable[[], None]] = {
    "sleep of 1 ms": partial(time.sleep, 0.001),
    "0.2 ms of arithmetic": partial(arithmetic, 0.0002),
}
PLACES: Mapping[str, Places] = {
    "threading.Semaphore": lambda: threading.Semaphore(LIMIT),
    "Bulkhead": lambda: Bulkhead("fair", LIMIT, max_wait=60, metrics=Metrics(None)),
}


def turns(
    places: AbstractContextManager[object], work: Callable[[], None], seconds: float
) -> list[int]:
    """Give how many turns each thread had."""
    counts = [0] * THREADS
    begin, over = threading.Barrier(THREADS + 1), threading.Event()

    def thread(number: int) -> None:
        begin.wait()
        while not over.is_set():
            with places:
                work()
            counts[number] += 1

    threads = [threading.Thread(target=thread, args=(each,)) for each in range(THREADS)]
    for each in threads:
        each.start()
    begin.wait()
    time.sleep(seconds)
    over.set()
    found = [*counts]  # before those that still wait get a last turn
    for each in threads:
        each.join()
    return found


@dataclass
class Found:
    """What came out for a case, a value for each round."""

    most: list[int] = field(default_factory=list)
    fewest: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def add(self, counts: list[int], seconds: float) -> None:
        """Take in a round."""
        self.most.append(max(counts))
        self.fewest.append(min(counts))
        self.rates.append(sum(counts) / seconds)

    def unfairness(self) -> float:
        """Give the most turns over the fewest, the median over the rounds."""
        pairs = zip(self.most, self.fewest, strict=True)
        return statistics.median(most / max(1, fewest) for most, fewest in pairs)


def measured(work: Callable[[], None], *, rounds: int, seconds: float) -> dict[str, Found]:
    """Run the rounds."""
    found = {name: Found() for name in PLACES}
    names = [*PLACES]
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            found[name].add(turns(PLACES[name](), work, seconds), seconds)
    return found


def report(*, quick: bool = False) -> Report:
    """Measure everything."""
    rounds, seconds = (1, 0.5) if quick else (9, 3.0)
    result = Report()
    for what, work in WORK.items():
        found = measured(work, rounds=rounds, seconds=seconds)
        base = found["threading.Semaphore"].rates
        ratios = {
            name: statistics.median(a / b for a, b in zip(each.rates, base, strict=True))
            for name, each in found.items()
        }
        result.table(
            f"{THREADS} threads, limit {LIMIT}, {what}; {rounds} x {seconds} s",
            ["places", "most turns", "fewest", "most / fewest", "turns/s", "vs Semaphore"],
            [
                [
                    name,
                    f"{statistics.median(each.most):.0f}",
                    f"{statistics.median(each.fewest):.0f}",
                    f"{each.unfairness():.2f}",
                    f"{statistics.median(each.rates):,.0f}",
                    f"{ratios[name]:.2f}x",
                ]
                for name, each in found.items()
            ],
        )
        text = f"bulkhead, {THREADS} threads, limit {LIMIT}, {what}:"
        unfair, ratio = found["Bulkhead"].unfairness(), ratios["Bulkhead"]
        result.measures += [
            Measure(f"{text} most turns / fewest", 1.2, 1.05, unfair),
            Measure(f"{text} throughput / Semaphore", 0.9, 1.0, ratio, more_is_better=True),
        ]
    return result


if __name__ == "__main__":
    main(report, __doc__)
