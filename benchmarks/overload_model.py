"""What `overload.py` simulates: callers, limits, and what they call, in virtual time.

What is called has some workers and one queue without bound, first come, first served; how long a
call takes is lognormal. Calls arrive as a Poisson process, at random at one of some processes, each
of which has a limit of its own, or are refused there at once. A call without an answer in time
fails and frees its place in the limit, and is worked on all the same.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Protocol

import attrs


class Rule(Protocol):
    """What decides in one process whether a call is admitted."""

    def admits(self, now: float, in_flight: int) -> bool:
        """Whether a call is admitted while *in_flight* others are under way."""

    def answered(self, began: float, now: float, in_flight: int) -> None:
        """Take in a success; *in_flight* is how many were under way at admission, itself too."""

    def dropped(self, began: float, now: float, in_flight: int) -> None:
        """Take in a call that ran out of time."""


@attrs.frozen
class Step:
    """How things are from a time on.

    Attributes:
        at: Since when, in seconds.
        rate: Calls a second.
        workers: How many calls are worked on at a time; none goes on while it is 0.
        mean: Seconds that a call takes a worker.
    """

    at: float
    rate: float
    workers: int
    mean: float

    @property
    def possible(self) -> float:
        """How many calls a second can be answered."""
        return min(self.rate, self.workers / self.mean)


@attrs.frozen
class Scenario:
    """What happens.

    Attributes:
        steps: How it is, and how that changes; the first is at 0.
        end: How long it lasts, in seconds.
        judged: From when to when the goodput counts.
        patience: After how many seconds a call fails.
        sigma: That of the logarithm of how long a call takes a worker.
        processes: How many have a limit each.
    """

    steps: Sequence[Step]
    end: float
    judged: tuple[float, float]
    patience: float = 1.0
    sigma: float = 0.5
    processes: int = 1

    @property
    def places(self) -> int:
        """What a limit would be set to by one who knows the first step: half as many again."""
        return max(1, round(1.5 * self.steps[0].workers / self.processes))

    def possible(self, since: float, until: float) -> float:
        """How many calls can be answered in a span."""
        ends = [each.at for each in self.steps[1:]] + [math.inf]
        return sum(
            step.possible * max(0.0, min(end, until) - max(step.at, since))
            for step, end in zip(self.steps, ends, strict=True)
        )


@dataclass
class Outcome:
    """What came of the calls."""

    scenario: Scenario
    offered: int = 0
    refused: int = 0
    late: int = 0
    admitted: list[tuple[float, float]] = field(default_factory=list)
    """Of each call that was admitted when it began, and after how long it ended."""

    def goodput(self, since: float, until: float) -> float:
        """Give the answers in time that came in a span, over those that were possible."""
        patience = self.scenario.patience
        good = sum(
            since <= began + seconds < until and seconds < patience
            for began, seconds in self.admitted
        )
        return good / (self.scenario.possible(since, until) or math.nan)

    def p99(self, since: float, until: float) -> float:
        """Give the 99th percentile of the seconds of the calls admitted in a span."""
        took = sorted(seconds for began, seconds in self.admitted if since <= began < until)
        return took[int(0.99 * len(took))] if took else math.inf

    def recovery(self, since: float, until: float, span: float = 5.0, share: float = 0.85) -> float:
        """Give the seconds from *since* from which on every *span* has *share* of its answers."""
        patience = self.scenario.patience
        good = [began + took for began, took in self.admitted if took < patience]
        recovered, start = since, since
        while start + span <= until:
            answers = sum(start <= ended < start + span for ended in good)
            start += span / 10
            if answers < share * self.scenario.possible(start, start + span):
                recovered = start
        return recovered - since


@attrs.define(eq=False)
class _Call:
    process: int
    began: float
    in_flight: int
    over: bool = False


@dataclass
class _Work:
    """The workers and their queue."""

    scenario: Scenario
    numbers: random.Random
    step: Step
    queue: deque[_Call] = field(default_factory=deque)
    ends: list[tuple[float, int, _Call]] = field(default_factory=list)
    count: int = 0

    def change(self, step: Step) -> None:
        if step.workers == 0:  # what is worked on stands still
            pause = next(e.at for e in self.scenario.steps if e.at > step.at) - step.at
            self.ends = [(end + pause, number, call) for end, number, call in self.ends]
            heapify(self.ends)
        self.step = step
        self.fill(step.at)

    def fill(self, now: float) -> None:
        sigma = self.scenario.sigma
        while self.queue and len(self.ends) < self.step.workers:
            self.count += 1
            scale = math.log(self.step.mean) - sigma * sigma / 2
            end = now + self.numbers.lognormvariate(scale, sigma)
            heappush(self.ends, (end, self.count, self.queue.popleft()))


def simulate(scenario: Scenario, make: Callable[[], Rule], seed: int) -> Outcome:
    """Let it happen once."""
    arrivals = random.Random(seed)
    outcome, work = Outcome(scenario), _Work(scenario, random.Random(-seed - 1), scenario.steps[0])
    rules = [make() for _ in range(scenario.processes)]
    in_flight = [0] * scenario.processes
    waiting: deque[_Call] = deque()  # in the order in which their patience ends
    changes = deque([*scenario.steps[1:], Step(scenario.end, 0, 0, 0)])
    arrival = arrivals.expovariate(scenario.steps[0].rate)
    while True:
        end = work.ends[0][0] if work.ends else math.inf
        drop = waiting[0].began + scenario.patience if waiting else math.inf
        change = changes[0].at
        now = min(arrival, end, drop, change)
        if now == change:
            if now >= scenario.end:
                return outcome
            work.change(changes.popleft())
            arrival = now + arrivals.expovariate(work.step.rate)
        elif now == drop:
            call = waiting.popleft()
            if call.over:
                continue
            call.over = True
            in_flight[call.process] -= 1
            outcome.late += 1
            outcome.admitted.append((call.began, scenario.patience))
            rules[call.process].dropped(call.began, now, call.in_flight)
        elif now == end:
            call = heappop(work.ends)[2]
            work.fill(now)
            if not call.over:
                call.over = True
                in_flight[call.process] -= 1
                outcome.admitted.append((call.began, now - call.began))
                rules[call.process].answered(call.began, now, call.in_flight)
        else:
            outcome.offered += 1
            arrival = now + arrivals.expovariate(work.step.rate)
            process = arrivals.randrange(scenario.processes)
            if not rules[process].admits(now, in_flight[process]):
                outcome.refused += 1
                continue
            in_flight[process] += 1
            call = _Call(process, now, in_flight[process])
            waiting.append(call)
            work.queue.append(call)
            work.fill(now)
