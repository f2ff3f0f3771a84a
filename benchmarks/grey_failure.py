"""How many errors do callers see when one of three members fails some of its calls?

A simulation on a fake clock: three members, 50 calls a second in turn for 300 seconds; member 0
fails 15 % of its calls, the others 0.1 %. One attempt per call, and then one more at another
member. Ours is the real `FailoverPool`. The rules of the peers are written anew after their
documentation, with their defaults, for a pool of this size:

* Envoy: 5 errors in a row eject for 30 s x times ejected; its success rate needs 5 hosts.
* Finagle: 5 errors in a row, or a success rate under 80 % over 30 s; 5 to 300 s, equal jitter.
* HAProxy: a probe every 2 s that fails as often as a call; 3 bad ones down, 2 good ones up.
* LiteLLM: more than half of a minute's calls failed, and 5 at least; 5 s.

The 0.1 % of the others are in all figures: 10 to 15 errors that no rule can spare the callers.
"""

# ruff: noqa: ARG002, D102, PLR2004 - the peers' rules share one face, and have these numbers

import math
import random
import statistics
from collections.abc import Callable
from typing import Protocol

import mainstay
from harness import Measure, Report, main
from mainstay.testing import FakeClock

SEEDS = 100
RATE = 50
SECONDS = 300
BAD, NORMAL = 0.15, 0.001
MEMBERS = 3


class LostError(Exception):
    """The failure of a member."""


class Rule(Protocol):
    """When one member is out of rotation, by the rules of a peer."""

    def out(self, now: float) -> bool:
        """Whether it gets no calls."""

    def result(self, now: float, *, ok: bool, chance: float) -> None:
        """Take in the result of a call, or of a probe."""


class Envoy:
    """Consecutive errors, and an ejection time that grows with the number of ejections."""

    def __init__(self) -> None:
        self.run = self.times = 0
        self.until = 0.0
        self.checked = 0.0

    def out(self, now: float) -> bool:
        return now < self.until

    def result(self, now: float, *, ok: bool, chance: float) -> None:
        if now - self.checked >= 10:
            self.checked = now
            self.times = max(0, self.times - 1)
        self.run = 0 if ok else self.run + 1
        if self.run >= 5:
            self.run = 0
            self.times += 1
            self.until = now + min(300.0, 30.0 * self.times)


class Finagle:
    """Consecutive errors or a moving success rate; one trial after an equal-jitter backoff."""

    def __init__(self) -> None:
        self.run = self.level = self.seen = 0
        self.rate, self.last = 1.0, 0.0
        self.until = 0.0
        self.trial = False

    def out(self, now: float) -> bool:
        return now < self.until

    def result(self, now: float, *, ok: bool, chance: float) -> None:
        if self.trial:
            self.trial = False
            if ok:
                self.run = self.level = self.seen = 0
                self.rate = 1.0
            else:
                self._remove(now, chance)
            return
        weight = 1 - math.exp(-(now - self.last) / 30.0)
        self.last = now
        self.rate += weight * (ok - self.rate)
        self.seen += 1
        self.run = 0 if ok else self.run + 1
        if self.run >= 5 or (self.seen >= 5 and self.rate < 0.8):
            self._remove(now, chance)

    def _remove(self, now: float, chance: float) -> None:
        span = min(300.0, 5.0 * 2**self.level)
        self.level += 1
        self.until = now + span / 2 + chance * span / 2
        self.trial = True


class HAProxy:
    """Probes only, which fail as often as calls do."""

    def __init__(self) -> None:
        self.down = False
        self.run = 0
        self.next = 0.0

    def out(self, now: float) -> bool:
        return self.down

    def probe(self, now: float, error_rate: float) -> None:
        """Ask, if it is time to."""
        if now < self.next:
            return
        self.next = now + 2.0
        good = random.random() >= error_rate
        self.run = self.run + 1 if good is self.down else 0
        if self.run >= (2 if self.down else 3):
            self.down, self.run = not self.down, 0

    def result(self, now: float, *, ok: bool, chance: float) -> None:
        """Calls count for nothing."""


class LiteLLM:
    """More than half of the calls of a calendar minute."""

    def __init__(self) -> None:
        self.until, self.minute = 0.0, -1
        self.bad = self.all = 0

    def out(self, now: float) -> bool:
        return now < self.until

    def result(self, now: float, *, ok: bool, chance: float) -> None:
        if int(now // 60) != self.minute:
            self.minute, self.bad, self.all = int(now // 60), 0, 0
        self.all += 1
        self.bad += not ok
        if self.all >= 5 and self.bad > self.all / 2:
            self.until = now + 5.0


def error_rate(member: int) -> float:
    """Give the share of calls that a member fails."""
    return BAD if member == 0 else NORMAL


def peer_errors(make: Callable[[], Rule], attempts: int) -> int:
    """Count the errors that callers see under a peer's rule."""
    rules = [make() for _ in range(MEMBERS)]
    turn = errors = 0
    for number in range(SECONDS * RATE):
        now = number / RATE
        tried: set[int] = set()
        for _ in range(attempts):
            for member, rule in enumerate(rules):
                if isinstance(rule, HAProxy):
                    rule.probe(now, error_rate(member))
            usable = [m for m in range(MEMBERS) if not rules[m].out(now) and m not in tried]
            usable = usable or [m for m in range(MEMBERS) if m not in tried]
            turn += 1
            member = usable[turn % len(usable)]
            tried.add(member)
            ok = random.random() >= error_rate(member)
            rules[member].result(now, ok=ok, chance=random.random())
            if ok:
                break
        else:
            errors += 1
    return errors


def our_errors(attempts: int) -> int:
    """Count the errors that callers of a `FailoverPool` see."""
    errors = 0
    with FakeClock() as clock:

        def use(member: int) -> None:
            if random.random() < error_rate(member):
                raise LostError

        pool = mainstay.FailoverPool(
            "simulated",
            [mainstay.Member(f"m{i}", i) for i in range(MEMBERS)],
            on=LostError,
            select="round_robin",
            attempts=attempts,
            metrics=METRICS,
        )
        call = mainstay.failover(pool)(use)
        for _ in range(SECONDS * RATE):
            try:
                call()
            except (LostError, mainstay.AllMembersFailedError):
                errors += 1
            clock.advance(1 / RATE)
    return errors


METRICS = mainstay.Metrics(None)
PEERS = {"Envoy": Envoy, "Finagle": Finagle, "HAProxy": HAProxy, "LiteLLM": LiteLLM}


def report(*, quick: bool = False) -> Report:
    """Simulate everything."""
    seeds = 2 if quick else SEEDS
    result = Report()
    means: dict[int, dict[str, float]] = {}
    for attempts in (1, 2):
        counts: dict[str, list[int]] = {name: [] for name in [*PEERS, "mainstay"]}
        for seed in range(seeds):
            for name, make in PEERS.items():
                random.seed(seed)
                counts[name].append(peer_errors(make, attempts))
            random.seed(seed)
            counts["mainstay"].append(our_errors(attempts))
        means[attempts] = {name: statistics.mean(each) for name, each in counts.items()}
        result.table(
            f"Errors that callers see, {attempts} attempt(s) per call, {seeds} seeds",
            ["rule", "mean", "median", "90th percentile"],
            [
                [
                    name,
                    f"{statistics.mean(each):.1f}",
                    f"{statistics.median(each):.0f}",
                    f"{sorted(each)[int(0.9 * len(each))]}",
                ]
                for name, each in counts.items()
            ],
        )
    best = min(means[1][name] for name in PEERS)
    result.measures.append(
        Measure(
            "errors under a grey failure vs the best peer's", 0.1, 0.05, means[1]["mainstay"] / best
        )
    )
    return result


if __name__ == "__main__":
    main(report, __doc__)
