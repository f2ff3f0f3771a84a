"""How many calls are lost beside a member that hangs, and who is ejected although all is well?

Lost calls, in real time: 60 calls, one after the other, through a pool of two members, of which the
preferred one never answers. Each caller leaves after 0.15 s, by `asyncio.timeout` where the row
does not say another way. Hedged calls start their second copy after 0.05 s.

Ejections although all is well, simulated: 10 calls a second over three members in turn, whose
answers take a time that is lognormal, with a median of 50 ms and a sigma of 1.5. One caller in ten
leaves at a time that is uniform in 0 to 2 s, if there is no answer before; and once an hour ten
more calls that are under way at one member are cancelled in one moment, at such a time. What judges
is the real object (`Detector`), told what a pool would tell it.

What `async with deadline` costs: a block around a coroutine function that returns at once, beside
`asyncio.timeout` around the same.
"""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import mainstay
from harness import ROUNDS, Measure, Report, async_loop_over, main, ratio, times_of
from mainstay import hedge
from mainstay._core.detector import Detector, HealthChange
from mainstay._core.silence import ANSWERS, longest_silence

CALLS, LIMIT = 60, 0.15
GOOD, ATTEMPT, PATIENCE = 0.3, 0.05, 0.05
DAY = 86_400.0
MEMBERS, RATE, DAYS = 3, 10.0, 200
MEDIAN, SIGMA = 0.05, 1.5
IMPATIENT, LEAVES = 0.1, 2.0
BURST, HOUR = 10, 3_600.0
METRICS = mainstay.Metrics(None)
DETECT = mainstay.Detect()

Call = Callable[[], Awaitable[str]]
Around = Callable[[float], AbstractAsyncContextManager[object]]


# Calls that are lost.


def pool_of(**options: object) -> mainstay.FailoverPool[str]:
    """Give a pool of two members, named as what they are."""
    members = [mainstay.Member("a", "a"), mainstay.Member("b", "b")]
    return mainstay.FailoverPool("db", members, on=OSError, metrics=METRICS, **options)


async def use(member: str) -> str:
    """Answer as the second member, or hang as the first one."""
    if member == "a":
        await asyncio.Event().wait()
    return member


def plain(**options: object) -> Call:
    """Give a call through a pool."""
    pool = pool_of(**options)
    return lambda: pool.call(use)


def hedged(**options: object) -> Call:
    """Give a hedged call at the members of a pool."""
    start = hedge.after(PATIENCE)
    policy = mainstay.redundant(pool=pool_of(), start=start, metrics=METRICS, **options)
    return lambda: policy.call(use)


def after_a_good_answer() -> Call:
    """Give a call through a pool whose first member answers once, and then hangs."""
    pool, good = pool_of(), [GOOD]

    async def use_once(member: str) -> str:
        if good:
            await asyncio.sleep(good.pop())
            return member
        return await use(member)

    return lambda: pool.call(use_once)


async def lost(call: Call, around: Around, calls: int, *, warm: bool) -> int:
    """Count the calls whose callers have left without an answer."""
    if warm:
        await call()
    count = 0
    for _ in range(calls):
        try:
            async with around(LIMIT):
                await call()
        except TimeoutError:
            count += 1
    return count


ROWS: dict[str, tuple[Callable[[], Call], Around, int, int]] = {
    "no other setting": (plain, asyncio.timeout, 15, 4),
    f"after one good answer of {GOOD} s": (after_a_good_answer, asyncio.timeout, 15, 5),
    "`async with deadline(0.15)`": (plain, mainstay.deadline, 5, 4),
    "`attempt_timeout=0.05`": (lambda: plain(attempt_timeout=ATTEMPT), asyncio.timeout, 0, 0),
    "hedged, `budget=None`": (lambda: hedged(budget=None), asyncio.timeout, 0, 0),
    "hedged, the default budget": (hedged, asyncio.timeout, 15, 5),
}
"""How the calls are made, what bounds them, and how many may be lost: at least, and as the aim."""


# Ejections although all is well.


class Life:
    """A pool whose members are well, told of answers and of callers that leave."""

    def __init__(self, numbers: random.Random) -> None:
        self.numbers = numbers
        self.members = [Detector(DETECT) for _ in range(MEMBERS)]
        self.answers: deque[float] = deque(maxlen=ANSWERS)
        self.ejections = self.counted = 0

    def live(self, days: float) -> None:
        """Let calls come and end for so many days."""
        numbers, under_way = self.numbers, []
        now, end, turn, burst = 0.0, days * DAY, 0, numbers.uniform(0, HOUR)
        while now < end:
            now += 1 / RATE
            turn += 1
            while under_way and under_way[0][0] <= now:
                ended, began, member, cancelled = heapq.heappop(under_way)
                (self._left if cancelled else self._answered)(ended, began, self.members[member])
            seconds = MEDIAN * numbers.lognormvariate(0.0, SIGMA)
            left = numbers.uniform(0, LEAVES) if numbers.random() < IMPATIENT else seconds
            heapq.heappush(
                under_way, (now + min(seconds, left), now, turn % MEMBERS, left < seconds)
            )
            if now >= burst:
                burst += HOUR
                left = now + numbers.uniform(0, LEAVES)
                for _ in range(BURST):
                    heapq.heappush(under_way, (left, now, turn % MEMBERS, True))

    def _answered(self, now: float, began: float, health: Detector) -> None:
        self.answers.append(now - began)
        if not health.pristine:
            health.succeeded(health.generation, now)

    def _left(self, now: float, began: float, health: Detector) -> None:
        longest = longest_silence(DETECT.slow, self.answers)
        change = health.cancelled(health.generation, began, now, 1.0, longest=longest)
        self.counted += health.silence > longest
        if change is HealthChange.THRESHOLD_CROSSED:
            self.ejections += 1
            health.readmit(now)


# What the block costs.


async def bare(x: int) -> int:
    """Stand for what is called."""
    return x


async def in_deadline(x: int) -> int:
    """Call in a block of ours."""
    async with mainstay.deadline(60.0):
        return await bare(x)


async def in_timeout(x: int) -> int:
    """Call in a block of asyncio's."""
    async with asyncio.timeout(60.0):
        return await bare(x)


def report(*, quick: bool = False) -> Report:
    """Lose calls, simulate, and take times."""
    result, rows = Report(), []
    calls = 6 if quick else CALLS
    for name, (make, around, least, aim) in ROWS.items():
        warm = make is after_a_good_answer
        count = asyncio.run(lost(make(), around, calls, warm=warm))
        rows.append([name, count])
        text = f"calls lost of {CALLS} beside a member that hangs: {name}"
        result.measures.append(Measure(text, least, aim, count, ""))
    result.table(f"Calls lost of {calls}", ["bounded by 0.15 s", "lost"], rows)

    life, days = Life(random.Random(1)), 0.5 if quick else DAYS / MEMBERS
    life.live(days)
    per_day = life.ejections / (days * MEMBERS)
    result.table(
        f"Members that are well, {days * MEMBERS:.0f} member-days",
        ["", "number"],
        [["callers that left when it was silent for too long", life.counted],
         ["ejections", life.ejections]],
    )  # fmt: skip
    text = "healthy members ejected because callers leave, per member and day"
    result.measures.append(Measure(text, 0.1, 0.0, per_day, ""))

    times = times_of(
        {"bare": async_loop_over(bare), "asyncio.timeout": async_loop_over(in_timeout),
         "async with deadline": async_loop_over(in_deadline)},
        rounds=5 if quick else ROUNDS,
    )  # fmt: skip
    result.times("A block around an await", times, "asyncio.timeout")
    value = ratio(times, "async with deadline", "asyncio.timeout")
    text = "`async with deadline` / `asyncio.timeout`, healthy"
    result.measures.append(Measure(text, 1.0, 0.75, value))
    return result


if __name__ == "__main__":
    main(report, __doc__)
