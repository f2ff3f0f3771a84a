"""How often is a member ejected although all is well, at 1 % of errors that are normal?

A simulation of many days of one member's life, through the real object that judges members
(`Detector`, with the defaults of `Detect`) on a simulated clock: calls at even intervals, each of
which fails with a probability of 1 %, and the ejections, trials and returns that follow. A member
that is back gets all of its calls at once, without the rest and the ramp that a pool gives it,
since the errors soon after a return are the likeliest to eject it again.

Successes that can change nothing are not fed to the object, as a pool does not either. The error
of the mean is that of independent days, so that ejections that come in clusters are accounted for.
"""

import math
import random
import statistics

from harness import Measure, Report, main
from mainstay import Detect
from mainstay._core.detector import Detector, HealthChange

DAY = 86_400.0
NORMAL = 0.01
CALLS = 50.0  # a second
LOADS = {"alone, 50 calls/s": (CALLS, 200), "one of three, 50 calls/s together": (CALLS / 3, 300)}
"""Calls a second of one member, and how many days of its life are simulated."""
DETECT = Detect()


class Life:
    """The life of one member, from one failed call to the next."""

    def __init__(self, rate: float, numbers: random.Random) -> None:
        self.health = Detector(DETECT)
        self.now = 0.0
        self.interval = 1 / rate
        self.numbers = numbers
        self.causes: list[str] = []

    def day(self) -> int:
        """Live for a day; give how often the member was ejected."""
        before, end = len(self.causes), self.now + DAY
        while self.now < end:
            self._until_a_failure()
        return len(self.causes) - before

    def _until_a_failure(self) -> None:
        health, numbers = self.health, self.numbers
        good = int(math.log(1 - numbers.random()) / math.log(1 - NORMAL))
        self.now += (good + 1) * self.interval
        # More successes than its score, and one to end a run of failures, change nothing.
        for _ in range(min(good, max(health.score, 1))):
            health.succeeded(health.generation, self.now)
        change = health.failed(health.generation, self.now, numbers.random())
        if change is HealthChange.THRESHOLD_CROSSED:
            health.eject(health.cause, self.now, numbers.random())
            self.causes.append(health.cause)
            self._until_it_is_back()

    def _until_it_is_back(self) -> None:
        health, numbers = self.health, self.numbers
        while health.ejected_at is not None:
            self.now = health.until
            health.begin_trial(self.now)
            if numbers.random() < NORMAL:
                health.failed(health.generation, self.now, numbers.random())
            else:
                health.succeeded(health.generation, self.now)


def report(*, quick: bool = False) -> Report:
    """Live through everything."""
    result = Report()
    rows = []
    for load, (rate, most) in LOADS.items():
        days = 2 if quick else most
        life = Life(rate, random.Random(1))
        counts = [life.day() for _ in range(days)]
        mean = statistics.mean(counts)
        error = 1.96 * statistics.stdev(counts) / math.sqrt(days)
        causes = [f"{life.causes.count(cause) / days:.3f}" for cause in ("consecutive", "rate")]
        rows.append([load, days, len(life.causes), f"{mean:.3f}", f"± {error:.3f}", *causes])
        result.measures.append(
            Measure(f"false ejections per member and day, {load}", 1.0, 0.1, mean, "")
        )
    header = ["member", "days", "ejections", "per day", "95 %", "in a row", "by rate"]
    result.table(f"Ejections at {NORMAL:.0%} of normal errors", header, rows)
    return result


if __name__ == "__main__":
    main(report, __doc__)
