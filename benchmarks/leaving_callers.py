"""How often is a healthy member ejected because the callers of its calls leave?

A simulation of three members that are always well, through the real objects that judge them
(`Detector` with the defaults of `Detect`, and `longest_silence`), in virtual time, called as a pool
calls them. Ten calls a second come at random moments and go to the members in turn. An answer takes
50 ms in the middle, lognormal with a sigma of 1.5, so that one in a hundred takes 1.6 s and more.
The caller of every tenth call leaves at a moment between 0 and 2 s, if the answer is not there by
then. Once an hour, ten calls that are under way are cancelled at once, as when a worker is
stopped: calls found at a random moment are longer than others, and a part of each has passed.

A member that is ejected comes back by a trial, as in a pool; the rest and the ramp after it, which
spare a member, are left out. Answers that can change nothing are not fed to the objects, as a pool
does not either. The same is told of worse days: callers that leave after 0 to 0.5 s, every second
caller leaving, and a hundredth of the calls.
"""

import math
import random
import statistics
from collections import deque
from heapq import heappop, heappush
from itertools import count, repeat
from typing import NamedTuple

from harness import Measure, Report, main
from mainstay import Detect
from mainstay._core.detector import Detector, HealthChange, Phase
from mainstay._core.silence import ANSWERS, longest_silence

DAY, HOUR = 86_400.0, 3_600.0
MEMBERS = 3
MIDDLE, SIGMA = 0.05, 1.5  # of the seconds that an answer takes
AT_ONCE = 10  # calls that are cancelled together
DETECT = Detect()
SERVES = {Phase.WELL, Phase.FAILING}


class Callers(NamedTuple):
    """How often they call, how many of them leave, and after how many seconds at most."""

    rate: float = 10.0
    leaving: float = 0.1
    patience: float = 2.0


GOAL = "10 calls/s, every tenth leaves within 2 s"
DAYS: dict[str, tuple[Callers, int]] = {
    GOAL: (Callers(), 67),
    "the same, they leave within 0.5 s": (Callers(patience=0.5), 7),
    "the same, every second leaves": (Callers(leaving=0.5), 7),
    "a call every ten seconds": (Callers(rate=0.1), 200),
}
"""Who calls, and for how many days of three members."""


class Life:
    """The life of three members, from one call to the next."""

    def __init__(self, callers: Callers, numbers: random.Random) -> None:
        self.callers = callers
        self.numbers = numbers
        self.members = [Detector(DETECT) for _ in range(MEMBERS)]
        self.answers: deque[float] = deque(maxlen=ANSWERS)
        self.under_way: list[tuple[float, int, float, Detector, int, bool]] = []
        self.places = count()
        self.turn = self.ejections = self.late = 0
        self.now = 0.0
        self.stopped = HOUR * numbers.random()

    def day(self) -> int:
        """Live for a day; return how often a member was ejected."""
        before, end = self.ejections, self.now + DAY
        next_call = self.numbers.expovariate
        while self.now < end:
            self.now += next_call(self.callers.rate)
            while self.under_way and self.under_way[0][0] <= self.now:
                self._end_first()
            if self.now >= self.stopped:
                self.stopped += HOUR
                self._stop_some()
            self._begin()
        return self.ejections - before

    def _begin(self) -> None:
        now, numbers = self.now, self.numbers
        member = self._chosen()
        seconds = numbers.lognormvariate(math.log(MIDDLE), SIGMA)
        leaves = False
        if numbers.random() < self.callers.leaving:
            patience = numbers.random() * self.callers.patience
            leaves = patience < seconds
            seconds = min(patience, seconds)
        begun = now + seconds, next(self.places), now, member, member.generation, leaves
        heappush(self.under_way, begun)

    def _chosen(self) -> Detector:
        """Choose a member as a pool does: one that is due for a trial, or else the next in turn."""
        members = self.members
        for _ in repeat(None, MEMBERS):
            self.turn += 1
            member = members[self.turn % MEMBERS]
            if member.phase in SERVES:
                return member
            member.expire(self.now, self.numbers.random())
            if member.trial_due(self.now):
                member.begin_trial(self.now)
                return member
        raise AssertionError("the last member is never ejected")

    def _end_first(self) -> None:
        ended, _, began, member, generation, leaves = heappop(self.under_way)
        if leaves:
            self._cancel(member, generation, began, ended)
            return
        self.answers.append(ended - began)
        if not member.pristine:
            member.succeeded(generation, ended)

    def _cancel(self, member: Detector, generation: int, began: float, now: float) -> None:
        longest = longest_silence(DETECT.slow, self.answers)
        chance = self.numbers.random()
        change = member.cancelled(generation, began, now, chance, longest=longest)
        self.late += member.silence > longest
        if change is HealthChange.THRESHOLD_CROSSED:
            others = [each for each in self.members if each is not member]
            if any(each.phase is Phase.WELL for each in others):
                member.eject(member.cause, now, chance)
                self.ejections += 1
            else:
                member.keep_failing(member.cause)
        elif change is None:
            member.release(generation, now)

    def _stop_some(self) -> None:
        """Cancel ten calls that are under way: as long as those are that are met at a moment."""
        stopped = [(member := self._chosen(), member.generation) for _ in repeat(None, AT_ONCE)]
        for member, generation in stopped:
            seconds = self.numbers.lognormvariate(math.log(MIDDLE) + SIGMA**2, SIGMA)
            began = self.now - seconds * self.numbers.random()
            self._cancel(member, generation, began, self.now)


def report(*, quick: bool = False) -> Report:
    """Live through everything."""
    result = Report()
    rows = []
    for name, (callers, most) in DAYS.items():
        days = 1 if quick else most
        life = Life(callers, random.Random(1))
        counts = [life.day() for _ in range(days)]
        mean = statistics.mean(counts) / MEMBERS
        rows.append([name, days * MEMBERS, f"{life.late:,}", life.ejections, f"{mean:.4f}"])
        if name == GOAL:
            text = "healthy members ejected because callers leave, per member and day"
            result.measures.append(Measure(text, 0.1, 0.0, mean, ""))
    header = ["callers", "member-days", "cancelled after too long a silence", "ejections"]
    result.table("Members that are well", [*header, "per member and day"], rows)
    return result


if __name__ == "__main__":
    main(report, __doc__)
