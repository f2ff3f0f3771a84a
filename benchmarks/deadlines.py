"""What does a `deadline` block cost, and what a healthy call inside one, over the same outside?

LIMIT is a loop by hand that records (`peers.by_hand`) and knows no deadline. A block holds a call
that does next to nothing. The calls inside a deadline are all in one block, of an hour: what is
compared is what each call pays for it, and not the block.
"""

from collections.abc import Callable, Iterator

import harness
import mainstay
import peers
from harness import Loop, Measure, Report, async_loop_over, loop_over, main, ratio, times_of
from peers import BARE, LIMIT

BLOCK = "a deadline block"
NESTED = "two nested"
HOUR = 3_600.0
SAMPLE_SECONDS = 0.05  # so long that what an event loop needs to start and end does not count
ROUNDS = 41


def blocks() -> dict[str, Callable]:
    """List functions with blocks in them."""

    def one(x: int) -> int:
        with mainstay.deadline(60.0):
            return peers.job(x)

    def two(x: int) -> int:
        with mainstay.deadline(60.0), mainstay.deadline(30.0):
            return peers.job(x)

    return {LIMIT: peers.by_hand(peers.job), BARE: peers.job, BLOCK: one, NESTED: two}


def policies() -> dict[str, Callable[[Callable], Callable]]:
    """List the policies, each with a new object of its own."""
    options = {"on": ConnectionError, "metrics": peers.METRICS}
    members = [mainstay.Member("a", 1), mainstay.Member("b", 2)]
    pool = mainstay.FailoverPool("benchmark", members, **options)
    return {
        "retry": mainstay.retry(**options),
        "pool": pool,
        "breaker": mainstay.CircuitBreaker("benchmark", **options),
        "hedge": mainstay.redundant(copies=2, start=mainstay.hedge.after(60.0), **options),
    }


def jobs(policy: str) -> tuple[Callable, Callable]:
    """Make a function and a coroutine function that answer at once, for a policy."""
    if policy == "pool":

        def use(_resource: int, x: int) -> int:
            return x

        async def ause(_resource: int, x: int) -> int:
            return x

        return use, ause

    def answer(x: int) -> int:
        return x

    async def aanswer(x: int) -> int:
        return x

    return answer, aanswer


def inside(loop: Loop) -> Loop:
    """Run a loop in a block that lasts longer than it does."""

    def run(times: int) -> float:
        with mainstay.deadline(HOUR):
            return loop(times)

    return run


def calls() -> Iterator[tuple[str, dict[str, Loop]]]:
    """Yield the loops of each policy and kind, outside a deadline and inside one."""
    for place, over in enumerate((loop_over, async_loop_over)):
        kind = ("sync", "async")[place]
        for name, policy in policies().items():
            outer, inner = (over(policy(jobs(name)[place])) for _ in range(2))
            yield f"{name}, {kind}", {"outside": outer, "inside": inside(inner)}


def report(*, quick: bool) -> Report:
    """Measure everything."""
    rounds = harness.QUICK_ROUNDS if quick else ROUNDS
    result = Report()
    loops = {name: loop_over(call) for name, call in blocks().items()}
    times = times_of(loops, rounds=rounds, sample_seconds=SAMPLE_SECONDS)
    result.times("A block", times, LIMIT)
    result.measures += [
        Measure("a deadline block, in LIMITs", 0.9, 0.6, ratio(times, BLOCK, LIMIT)),
        Measure("two nested deadline blocks, in LIMITs", 2, 1.4, ratio(times, NESTED, LIMIT)),
    ]
    for title, loops in calls():
        times = times_of(loops, rounds=rounds, sample_seconds=SAMPLE_SECONDS)
        result.times(f"A healthy call: {title}", times, "outside")
        value = ratio(times, "inside", "outside")
        text = f"a healthy call inside a deadline / outside: {title}"
        result.measures.append(Measure(text, 1.5, 1.1, value))
    return result


if __name__ == "__main__":
    main(report, __doc__)
