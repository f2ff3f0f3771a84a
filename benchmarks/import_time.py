"""How long does it take to import mainstay, against what a program of its kind imports anyway?

Each import runs in a fresh process that times it from within, so that starting Python is not
counted. The processes of a round run one after another in a random order; a difference is that of
two processes of the same round. Byte code is compiled before the first round, also where the
environment says that none is to be written: what pip installed has its own, and so it would be
only mainstay of a checkout that is compiled each time.

`import mainstay` alone loads hardly anything, because its names are loaded at first use. What a
program really pays is in the row `from mainstay import retry`, and in the one with a first policy,
which loads what calls need when they fail.
"""

import os
import random
import statistics
import subprocess
import sys

from harness import Measure, Report, main

ROUNDS = 25
QUICK_ROUNDS = 2
BASE = "import tenacity, prometheus_client, attrs"
ALONE = "import mainstay"
IN_USE = "from mainstay import retry"
FIRST = f"{IN_USE}; retry(on=OSError)"
PEER = "import stamina, prometheus_client"
STATEMENTS = (
    BASE,
    ALONE,
    IN_USE,
    FIRST,
    f"{IN_USE}; import tenacity",
    "import prometheus_client",
    "import tenacity",
    "import attrs",
    "import asyncio",
    PEER,
)
_TIMED = """
from time import perf_counter
started = perf_counter()
{statement}
print(perf_counter() - started)
"""


def seconds_of(statement: str) -> float:
    """Run *statement* in a fresh process and give the seconds it took there."""
    command = [sys.executable, "-c", _TIMED.format(statement=statement)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return float(done.stdout)


def report(*, quick: bool) -> Report:
    """Time all statements."""
    times: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for statement in STATEMENTS:
        seconds_of(statement)  # compiles the byte code
    order = list(STATEMENTS)
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        random.shuffle(order)
        for statement in order:
            times[statement].append(seconds_of(statement))

    def difference(statement: str) -> float:
        pairs = zip(times[statement], times[BASE], strict=True)
        return statistics.median(mine - base for mine, base in pairs) * 1e3

    def ratio(statement: str) -> float:
        pairs = zip(times[statement], times[PEER], strict=True)
        return statistics.median(mine / peer for mine, peer in pairs)

    result = Report()
    result.table(
        "Import time",
        ["statement", "min ms", "median ms", "median difference to the first, ms", "of the min"],
        [
            [
                f"`{statement}`",
                f"{min(seconds) * 1e3:.1f}",
                f"{statistics.median(seconds) * 1e3:.1f}",
                f"{difference(statement):+.1f}",
                f"{(min(seconds) - min(times[BASE])) * 1e3:+.1f}",
            ]
            for statement, seconds in times.items()
        ],
    )
    result.measures = [
        Measure(f"`{ALONE}` alone minus `{BASE}`", 5, 0, difference(ALONE), " ms"),
        Measure(f"`{IN_USE}` minus the same", None, None, difference(IN_USE), " ms"),
        Measure(f"`{IN_USE}` / `{PEER}`", 1.05, 0.9, ratio(IN_USE)),
        Measure(f"`{FIRST}` / the same", None, None, ratio(FIRST)),
    ]
    return result


if __name__ == "__main__":
    main(report, __doc__)
