"""Is a call ever worse than `explain` says, and how close does the worst one come?

Simulated: 10,000 functions, `def` and `async def`, with one to four policies around each, drawn at
random: retries, timeouts, fallbacks, breakers, bulkheads, rate limits and, in async code, attempts
that are interrupted and redundant copies, in any order, around a pool or none, with any limits; a
third of them as a pipeline. Each is called on a clock that is moved by hand: once with the bad luck
that `explain` assumes, where every attempt takes its longest and fails, and every wait is the
longest; and twice with attempts that take any time up to that, and fail or do not.

*tightness* is the time, or the number of calls, of the worst run over what `explain` says, for
those that are bounded.
"""

import asyncio
import contextlib
import math
import random
import statistics
from collections.abc import Callable
from typing import Any
from unittest import mock

import mainstay
from harness import Measure, Report, main
from mainstay.testing import FakeClock

NUMBER = 10_000
SEED = 12
METRICS = mainstay.Metrics(None)
ROUNDING = 1e-6

Policy = Callable[[Callable[[], Any]], Callable[[], Any]]


def retry(rng: random.Random) -> Policy:
    """Return a retry."""
    return mainstay.retry(
        on=rng.choice([ConnectionError, OSError, Exception, lambda _error: True]),
        attempts=rng.randint(1, 5),
        timeout=rng.choice([None, rng.uniform(0.5, 60.0)]),
        wait=rng.choice([None, 0.0, rng.uniform(0.0, 3.0)]),
        metrics=METRICS,
    )


def timeout(rng: random.Random) -> Policy:
    """Return a timeout that is told, as a plain function is not interrupted."""
    return mainstay.timeout(rng.uniform(0.1, 20.0), metrics=METRICS)


def fallback(_rng: random.Random) -> Policy:
    """Return a fallback that works for exceptions that there are none of."""
    return mainstay.fallback(on=LookupError, default=None, metrics=METRICS)


def breaker(rng: random.Random) -> Policy:
    """Return a breaker that is never open in so few calls."""
    detect = mainstay.Detect(consecutive=10**9, threshold=10**9)
    name = f"breaker {rng.random()}"
    return mainstay.CircuitBreaker(name, on=OSError, detect=detect, metrics=METRICS)


def bulkhead(rng: random.Random) -> Policy:
    """Return a bulkhead."""
    name = f"bulkhead {rng.random()}"
    return mainstay.Bulkhead(name, 1_000, max_wait=0.0, metrics=METRICS)


def rate_limit(rng: random.Random) -> Policy:
    """Return a rate limit."""
    name = f"rate {rng.random()}"
    wait = rng.choice([0.0, rng.uniform(0.1, 1.0)])
    rate = 1.0 / wait if wait else 1e6
    limit = mainstay.RateLimit(name, rate, max_wait=wait, metrics=METRICS)
    if wait:
        limit.acquire()  # so that the first call has to wait
    return limit


def pool(rng: random.Random) -> Policy:
    """Return a pool."""
    members = [mainstay.Member(str(each), each) for each in range(rng.randint(1, 4))]
    return mainstay.FailoverPool(
        f"pool {rng.random()}",
        members,
        on=OSError,
        timeout=rng.choice([None, rng.uniform(0.5, 20.0)]),
        detect=mainstay.Detect(consecutive=10**9, threshold=10**9),
        metrics=METRICS,
    )


def interrupting_retry(rng: random.Random) -> Policy:
    """Return a retry whose attempts are interrupted."""
    return mainstay.retry(
        on=OSError,
        attempts=rng.randint(1, 4),
        attempt_timeout=rng.uniform(0.1, 6.0),
        wait=rng.choice([None, rng.uniform(0.0, 3.0)]),
        metrics=METRICS,
    )


def redundant(rng: random.Random) -> Policy:
    """Return copies, all at once or one after another."""
    start = rng.choice([None, mainstay.hedge.after(rng.uniform(0.1, 3.0))])
    limit = rng.choice([None, rng.uniform(0.5, 10.0)])
    options: dict[str, Any] = {} if start is None else {"start": start}
    return mainstay.redundant(copies=rng.randint(2, 3), timeout=limit, metrics=METRICS, **options)


POLICIES = (retry, retry, retry, timeout, fallback, breaker, bulkhead, rate_limit)
OF_ASYNC = (*POLICIES, timeout, interrupting_retry, redundant)
POOLS = 0.2  # innermost, where the function takes the resource
PIPELINES = 1 / 3


def run(rng: random.Random, *, clock: FakeClock) -> tuple[float, float, float, float]:
    """Make a nesting and call it; return the worst seconds and calls, and what `explain` says."""
    takes = rng.uniform(0.01, 5.0)
    calls, unlucky = 0, True

    def fails() -> float:
        nonlocal calls
        calls += 1
        return takes if unlucky else rng.uniform(0.0, takes)

    def end() -> None:
        if unlucky or rng.random() < 0.7:  # noqa: PLR2004 - most of them
            raise ConnectionError

    def call(*_resource: int) -> None:
        clock.advance(fails())
        end()

    async def acall(*_resource: int) -> None:
        await clock.asleep(fails())
        end()

    is_async = rng.random() < 0.5  # noqa: PLR2004 - half of them
    fn: Callable[..., Any] = acall if is_async else call
    policies = [pool(rng)] if rng.random() < POOLS else []
    kinds = OF_ASYNC if is_async else POLICIES
    policies += [rng.choice(kinds)(rng) for _ in range(rng.randint(1, 3))]
    if rng.random() < PIPELINES:
        fn = mainstay.pipeline("all", *reversed(policies), metrics=METRICS)(fn)
    else:
        for policy in policies:
            fn = policy(fn)
    explanation = mainstay.explain(fn, call_takes=takes)
    longest, most = 0.0, 0.0
    for unlucky in (True, False, False):
        began, calls = clock.now(), 0
        luck = (lambda: 1.0) if unlucky else rng.random
        chance = mock.patch("mainstay._retry.call._chance", luck)
        with chance, contextlib.suppress(OSError, mainstay.MainstayError):
            asyncio.run(fn()) if is_async else fn()
        longest, most = max(longest, clock.now() - began), max(most, calls)
    return longest, most, explanation.worst_seconds, explanation.worst_calls


def report(*, quick: bool) -> Report:
    """Draw, call, compare."""
    rng, beyond, seconds, calls = random.Random(SEED), 0, [], []
    number = 300 if quick else NUMBER
    with FakeClock() as clock:
        for _ in range(number):
            longest, most, worst_seconds, worst_calls = run(rng, clock=clock)
            beyond += longest > worst_seconds + ROUNDING or most > worst_calls
            if worst_seconds < math.inf:
                seconds.append(longest / worst_seconds)
            calls.append(most / worst_calls)
    result = Report()
    rows = [
        ["seconds", *(f"{each:.3f}" for each in _figures(seconds))],
        ["calls", *(f"{each:.3f}" for each in _figures(calls))],
    ]
    title = (
        f"{number:,} nestings, {len(seconds):,} bounded; runs beyond what `explain` says: {beyond}"
    )
    result.table(title, ["the worst run over it", "mean", "median", "lowest tenth"], rows)
    result.measures += [
        Measure("runs beyond the worst case of `explain`", 0.0, 0.0, float(beyond), ""),
        Measure(
            "worst seconds: the worst run over what `explain` says",
            0.75,
            0.9,
            statistics.fmean(seconds),
            "",
            more_is_better=True,
        ),
    ]
    return result


def _figures(shares: list[float]) -> tuple[float, float, float]:
    return (
        statistics.fmean(shares),
        statistics.median(shares),
        statistics.quantiles(shares, n=10)[0],
    )


if __name__ == "__main__":
    main(report, __doc__)
