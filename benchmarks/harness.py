"""What every benchmark here shares: how a time is taken, and how a report is printed.

The method, in the order of its importance on a machine that other work disturbs:

1. All cases of a table run in one process, in rounds; each round times each case once, in a random
   order. A ratio is the median, over the rounds, of two times from the same round.
2. Each case has a loop of its own, compiled for it alone, because CPython specialises the
   bytecode of a call to what was called there before.
3. The garbage collector stays on: what a library leaves to it is part of what it costs.
4. Every case is warmed up, and its loop made long enough, before the first round.
"""

import argparse
import asyncio
import json
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import repeat
from time import perf_counter

ROUNDS = 150
QUICK_ROUNDS = 5
timer = perf_counter
"""What all loops are timed by; set before they are made."""

_SYNC_LOOP = """
def loop(times):
    started = timer()
    for _ in repeat(None, times):
        call(1)
    return timer() - started
"""
_ASYNC_LOOP = """
async def loop(times):
    started = timer()
    for _ in repeat(None, times):
        await call(1)
    return timer() - started
"""

Loop = Callable[[int], float]
"""Makes so many calls and gives the seconds that they took."""

Times = dict[str, list[float]]
"""Of each case, seconds per call in each round."""


def loop_over(call: Callable) -> Loop:
    """Compile a loop for *call* alone."""
    names = {"call": call, "repeat": repeat, "timer": timer}
    exec(_SYNC_LOOP, names)
    return names["loop"]


def async_loop_over(call: Callable, runner: asyncio.AbstractEventLoop | None = None) -> Loop:
    """Compile a loop for the coroutine function *call*.

    It runs on the event loop *runner*, or on one of its own; what sets timers wants one for all.
    """
    names = {"call": call, "repeat": repeat, "timer": timer}
    exec(_ASYNC_LOOP, names)
    runner = runner or asyncio.new_event_loop()
    return lambda times: runner.run_until_complete(names["loop"](times))


def looped(step: Callable[[], object]) -> Loop:
    """Give a plain loop over *step*, for what takes so long that the loop does not matter."""

    def loop(times: int) -> float:
        started = perf_counter()
        for _ in range(times):
            step()
        return perf_counter() - started

    return loop


def times_of(
    loops: Mapping[str, Loop], *, rounds: int = ROUNDS, sample_seconds: float = 0.003
) -> Times:
    """Time the loops against each other, as the rules at the top say."""
    lengths = {name: _length(loop, sample_seconds) for name, loop in loops.items()}
    times: Times = {name: [] for name in loops}
    order = list(loops)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            times[name].append(loops[name](lengths[name]) / lengths[name])
    return times


def _length(loop: Loop, sample_seconds: float) -> int:
    """Find how many calls fill a sample; this warms the loop up as well."""
    length = 20
    while (seconds := loop(length)) < sample_seconds / 2:
        length *= 2
    return max(1, round(length * sample_seconds / seconds))


def ratio(times: Times, case: str, base: str) -> float:
    """Give how many times as long *case* takes as *base*: the median over the rounds."""
    pairs = zip(times[case], times[base], strict=True)
    return statistics.median(mine / other for mine, other in pairs)


@dataclass
class Measure:
    """One line of the table of what has to be reached.

    Attributes:
        text: What is measured.
        at_least: The bound that has to be met; None for what is only told.
        aim: The one to aim for.
        value: What came out.
        unit: Printed behind all three.
        more_is_better: Which side of the bound is the right one.
    """

    text: str
    at_least: float | None
    aim: float | None
    value: float
    unit: str = "x"
    more_is_better: bool = False

    def shown(self, number: float | None) -> str:
        """Give one of its numbers with the unit."""
        return "" if number is None else f"{number:.3g}{self.unit}"

    def verdict(self) -> str:
        """Say whether the bound, and whether the aim, is met."""
        if self.at_least is None or self.aim is None:
            return "no goal"
        sign = -1 if self.more_is_better else 1
        if sign * self.value <= sign * self.aim:
            return "aim met"
        return "met" if sign * self.value <= sign * self.at_least else "MISSED"


@dataclass
class Report:
    """What a script found out: its tables in Markdown, and its lines of the table of goals."""

    parts: list[str] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Add a paragraph."""
        self.parts.append(text)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table; the first column is text, all others are numbers."""
        lines = [f"### {title}", "", _row(header), _row(["---", *["--:"] * (len(header) - 1)])]
        self.parts.append("\n".join([*lines, *map(_row, rows)]))

    def times(self, title: str, times: Times, *bases: str) -> None:
        """Add a table of times, with a column of ratios for each of *bases*."""
        header = ["case", "min ns", "median ns", "middle half", *(f"vs {b}" for b in bases)]
        rows = []
        for name, seconds in times.items():
            low, middle, high = (f"{q * 1e9:,.0f}" for q in statistics.quantiles(seconds, n=4))
            least = f"{min(seconds) * 1e9:,.0f}"
            ratios = [f"{ratio(times, name, base):.3g}x" for base in bases]
            rows.append([name, least, middle, f"{low}-{high}", *ratios])
        self.table(title, header, rows)

    def markdown(self) -> str:
        """Give everything, the lines for the table of goals last."""
        return "\n\n".join([*self.parts, goals(self.measures)])


def goals(measures: Sequence[Measure]) -> str:
    """Give the table of what has to be reached and what was."""
    header = ["measure", "at least", "aim", "measured", ""]
    rows = [
        [m.text, *(m.shown(number) for number in (m.at_least, m.aim, m.value)), m.verdict()]
        for m in measures
    ]
    return "\n".join([_row(header), _row(["---", "--:", "--:", "--:", "---"]), *map(_row, rows)])


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def main(report: Callable[..., Report], description: str) -> None:
    """Run a script: print its report, in Markdown or for `run_all.py` as JSON."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a smoke run: figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print JSON, as run_all.py reads it")
    options = parser.parse_args()
    result = report(quick=options.quick)
    print(json.dumps(asdict(result)) if options.json else result.markdown())
