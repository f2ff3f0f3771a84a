"""How much of what a service can do reaches callers who ask for more? A simulation.

In virtual time, as `overload_model.py` says: 10 workers of 50 ms on average (lognormal, sigma 0.5),
which can answer 200 calls a second, and callers that wait for 1 s, unless said otherwise. Goodput
is the calls answered in time over those that could be: the smaller of what is offered and what the
workers can do. It counts from the first call, so what a cold start costs is in it. Ours is the real
`AdaptiveLimit`, driven as a bulkhead drives it; the rules of the others are in `overload_peers.py`.

* 2x overload: 400 calls/s, one process; 8; 32 (of which each knows only its own calls). 90 s.
* capacity halves: 160 calls/s, 10 workers become 5 for 60 s, which count; one process; 8.
* latency x3: 120 calls/s, 10 workers become 30, and 50 ms 150 ms. No overload; the 60 s after.
* slow, 2x: 2 workers of 0.5 s, 8 calls/s, callers wait for 5 s. 300 s.
* slow, halves: the same, 3.2 calls/s, 2 workers become 1 for 300 s, which count.
* after a hang: 140 calls/s, nothing is answered for 30 s; the 90 s after.
* 20 s calls, 2x: 20 workers of 20 s, 2 calls/s, callers wait for 120 s. 3000 s.
* refused, sigma 1.5: 100 calls/s with a long tail; callers wait for 1 s, or 5 s. 180 s.
* refused, 1 call/s: 1 worker of 0.5 s, half loaded, callers wait for 5 s. 600 s.
* refused, idle: 100 calls/s, then two a minute for 10 minutes, then 100 calls/s.

How much later than without a queue: the 99th percentile of the calls admitted at 2x overload over
that of the workers, in the first 20 s, a cold start, and in the last 30 s. How soon after capacity
halves: from when on every 5 s have 85 % of the answers that are possible then.
"""

import argparse
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from harness import Measure, Report, main
from mainstay._limits.adaptive import Adaptive
from overload_model import Outcome, Rule, Scenario, Step, simulate
from overload_peers import (
    AIMD,
    Envoy,
    FailsafeGo,
    Fixed,
    Gradient2,
    Ours,
    RoundTripAIMD,
    Throttle,
    Vegas,
)

PERIOD = 30.0  # of wall time; a run begins anywhere in it
NO_LOAD = 0.05 * math.exp(-(0.5**2) / 2 + 0.5 * 2.3263)
"""The 99th percentile of what a call takes a worker."""


def halves(rate: float, workers: int, mean: float, since: float, until: float) -> list[Step]:
    """Give steps between which half of the workers are gone."""
    whole = Step(0, rate, workers, mean)
    return [whole, Step(since, rate, workers // 2, mean), Step(until, rate, workers, mean)]


TWICE = [Step(0, 400, 10, 0.05)]
LESS = halves(160, 10, 0.05, 30, 90)
TAIL = [Step(0, 100, 10, 0.05)]
GOODPUT = {
    "2x overload": Scenario(TWICE, 90, (0, 90)),
    "8 processes": Scenario(TWICE, 90, (0, 90), processes=8),
    "32 processes": Scenario(TWICE, 90, (0, 90), processes=32),
    "capacity halves": Scenario(LESS, 120, (30, 90)),
    "8 processes, halves": Scenario(LESS, 120, (30, 90), processes=8),
    "latency x3": Scenario([Step(0, 120, 10, 0.05), Step(30, 120, 30, 0.15)], 90, (30, 90)),
    "slow, 2x": Scenario([Step(0, 8, 2, 0.5)], 300, (0, 300), patience=5),
    "slow, halves": Scenario(halves(3.2, 2, 0.5, 120, 420), 480, (120, 420), patience=5),
    "after a hang": Scenario(
        [Step(0, 140, 10, 0.05), Step(30, 140, 0, 0.05), Step(60, 140, 10, 0.05)], 150, (60, 150)
    ),
    "20 s calls, 2x": Scenario([Step(0, 2, 20, 20)], 3000, (0, 3000), patience=120),
}
REFUSED = {
    "sigma 1.5, 1 s": Scenario(TAIL, 180, (0, 180), sigma=1.5),
    "sigma 1.5, 5 s": Scenario(TAIL, 180, (0, 180), sigma=1.5, patience=5),
    "1 call/s": Scenario([Step(0, 1, 1, 0.5)], 600, (0, 600), patience=5),
    "idle": Scenario(
        [Step(0, 100, 10, 0.05), Step(60, 1 / 30, 10, 0.05), Step(660, 100, 10, 0.05)], 720, (0, 1)
    ),
}
LATER = {
    "p99 / no load, 0 to 20 s": lambda outcome: outcome.p99(0, 20) / NO_LOAD,
    "p99 / no load, 60 to 90 s": lambda outcome: outcome.p99(60, 90) / NO_LOAD,
}
RECOVERY = "s to 85 % after it halves"

Make = Callable[[Scenario, float], Rule]
"""From what happens, and the wall time at its beginning, to the rule of one process."""


def _peer(kind: Callable[[], Rule]) -> Make:
    return lambda _scenario, _wall: kind()


RULES: Mapping[str, Make] = {
    "none": lambda _scenario, _wall: Fixed(math.inf),
    "fixed, right (1.5 x workers)": lambda scenario, _wall: Fixed(scenario.places),
    "fixed, wrong (30 x workers)": lambda scenario, _wall: Fixed(30 * scenario.steps[0].workers),
    "AIMD, Netflix": _peer(AIMD),
    "AIMD, once per round trip": _peer(RoundTripAIMD),
    "Vegas, Netflix, windows of 1 s": _peer(Vegas),
    "Gradient2, Netflix, windows of 1 s": _peer(Gradient2),
    "failsafe-go": _peer(FailsafeGo),
    "Envoy gradient": _peer(Envoy),
    "Google throttle, K = 2": _peer(Throttle),
    "mainstay": lambda _scenario, wall: Ours(Adaptive(), wall),
    "mainstay, initial=5": lambda _scenario, wall: Ours(Adaptive(initial=5), wall),
}


def happened(scenario: Scenario, rule: str, seed: int) -> Outcome:
    """Simulate a scenario once."""
    random.seed(seed)
    wall = random.uniform(0, PERIOD)
    return simulate(scenario, partial(RULES[rule], scenario, wall), seed)


def figures(rule: str, seed: int) -> dict[str, float]:
    """Give what comes out for a rule with a seed, by the heads of the tables."""
    found = {}
    for name, scenario in GOODPUT.items():
        outcome = happened(scenario, rule, seed)
        found[name] = outcome.goodput(*scenario.judged)
        if name == "2x overload":
            found |= {head: measure(outcome) for head, measure in LATER.items()}
        elif name == "capacity halves":
            found[RECOVERY] = outcome.recovery(*scenario.judged)
    for name, scenario in REFUSED.items():
        outcome = happened(scenario, rule, seed)
        found[name] = outcome.refused / outcome.offered
    return found


def means(rule: str, seeds: Iterable[int]) -> dict[str, float]:
    """Give the means over the seeds."""
    each = [figures(rule, seed) for seed in seeds]
    return {name: statistics.fmean(one[name] for one in each) for name in each[0]}


def report(*, quick: bool = False, seeds: Iterable[int]) -> Report:
    """Simulate everything, on two processors."""
    seeds = [1] if quick else list(seeds)
    rules = ["fixed, right (1.5 x workers)", "mainstay"] if quick else list(RULES)
    with ProcessPoolExecutor(2) as pool:
        found = dict(zip(rules, pool.map(means, rules, [seeds] * len(rules)), strict=True))
    result = Report()
    result.table(
        f"Goodput, mean of {len(seeds)} seeds",
        ["rule", *GOODPUT],
        [[rule, *(f"{found[rule][name]:.3f}" for name in GOODPUT)] for rule in rules],
    )
    result.table(
        "How much later, and how much refused for nothing",
        ["rule", *LATER, RECOVERY, *REFUSED],
        [
            [
                rule,
                *(f"{found[rule][name]:.2f}" for name in (*LATER, RECOVERY)),
                *(f"{found[rule][name]:.2%}" for name in REFUSED),
            ]
            for rule in rules
        ],
    )
    result.measures += measures(found["mainstay"])
    return result


def measures(ours: Mapping[str, float]) -> list[Measure]:
    """Give the lines for the table of goals."""
    goodput = {
        "2x overload": (0.97, 0.99),
        "capacity halves": (0.96, 1.0),
        "latency x3": (0.96, 0.98),
        "slow, 2x": (0.94, 0.98),
        "8 processes": (0.96, 0.99),
        "32 processes": (0.92, 0.94),
    }
    later = {**dict.fromkeys(LATER, (1.6, 1.3)), RECOVERY: (6.0, 4.0)}
    refused = {"sigma 1.5, 1 s": (1.0, 0.2), "sigma 1.5, 5 s": (1.0, 0.2)}
    refused |= {"1 call/s": (0.0, 0.0), "idle": (0.0, 0.0)}
    return [
        *(
            Measure(f"adaptive limit, goodput: {name}", *goals, ours[name], "", more_is_better=True)
            for name, goals in goodput.items()
        ),
        *(
            Measure(f"adaptive limit, {name}", *goals, ours[name], "")
            for name, goals in later.items()
        ),
        *(
            Measure(f"adaptive limit, refused: {name}", *goals, 100 * ours[name], " %")
            for name, goals in refused.items()
        ),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--seeds", nargs=2, type=int, metavar=("FIRST", "LAST"), default=(1, 8))
    options, sys.argv[1:] = parser.parse_known_args()
    first, last = options.seeds
    main(partial(report, seeds=range(first, last + 1)), f"{__doc__}\n\n--seeds FIRST LAST: which")
