"""What does a call through each library cost, over the call itself and over a loop by hand?

Success path: the first attempt succeeds. Failing path: it fails twice, then succeeds; a time is
that of the whole call. There, `time.sleep` and `asyncio.sleep` are replaced by functions that
return at once, for all cases alike, and all waits are 0 except where the case says otherwise: what
is left is the work of the library itself.
"""

import asyncio
import time
from collections.abc import Callable, Iterator

import stamina
import tenacity

import harness
import mainstay
import peers
from harness import Measure, Report, async_loop_over, loop_over, main, ratio, times_of
from peers import BARE, LIMIT, OURS, TENACITY

ADAPTIVE = "mainstay, adaptive"


def decorated(job: Callable[[], Callable], by_hand: Callable) -> dict[str, Callable]:
    """List the decorated functions; *job* makes a new one for each."""
    return {
        LIMIT: by_hand(job()),
        TENACITY: peers.with_tenacity(job()),
        "stamina": peers.with_stamina(job()),
        "backoff": peers.with_backoff(job()),
        OURS: peers.with_ours(job()),
    }


def jittered(job: Callable[[], Callable]) -> dict[str, Callable]:
    """List the cases that compute a wait with jitter, ours as it is without `wait=`."""
    wait = tenacity.wait_random_exponential(multiplier=0.1, max=5.0)
    ours = mainstay.retry(on=ConnectionError, metrics=peers.METRICS)
    theirs = mainstay.retry(on=ConnectionError, metrics=peers.METRICS, wait=wait)
    return {
        "tenacity, jittered wait": tenacity.retry(wait=wait, **peers.tenacity_options())(job()),
        "mainstay, default wait": ours(job()),
        "mainstay, tenacity's jittered wait": theirs(job()),
    }


def rate_limited(job: Callable[[], Callable], by_hand: Callable) -> dict[str, Callable]:
    """List functions with a rate limit that always has a turn."""
    limit = mainstay.RateLimit("job", 1e8, burst=1e6, metrics=peers.METRICS)
    return {LIMIT: by_hand(job()), OURS: limit(job())}


def limited(job: Callable[[], Callable], by_hand: Callable) -> dict[str, Callable]:
    """List functions with a bulkhead that always has a place."""
    fixed = mainstay.Bulkhead("job", 10, metrics=peers.METRICS)
    adaptive = mainstay.Bulkhead("adaptive", mainstay.Adaptive(), metrics=peers.METRICS)
    return {LIMIT: by_hand(job()), OURS: fixed(job()), ADAPTIVE: adaptive(job())}


def timed(job: Callable[[], Callable], by_hand: Callable, **options: bool) -> dict[str, Callable]:
    """List functions with a limit of time that is never reached."""
    limit = mainstay.timeout(60.0, metrics=peers.METRICS, **options)
    return {LIMIT: by_hand(job()), OURS: limit(job())}


def with_fallback(job: Callable[[], Callable], by_hand: Callable) -> dict[str, Callable]:
    """List functions whose last good answer is kept."""
    policy = mainstay.fallback(on=ConnectionError, last_good=60.0, metrics=peers.METRICS)
    return {LIMIT: by_hand(job()), OURS: policy(job())}


def piped(job: Callable[[], Callable], by_hand: Callable) -> dict[str, Callable]:
    """List functions in a pipeline of six, which has nothing to do."""
    options = {"metrics": peers.METRICS}
    policy = mainstay.pipeline(
        "six",
        mainstay.fallback(default=None, on=mainstay.RejectedError, **options),
        mainstay.retry(on=ConnectionError, **options),
        mainstay.CircuitBreaker("six", on=ConnectionError, **options),
        mainstay.RateLimit("six", 1e8, burst=1e6, **options),
        mainstay.Bulkhead("six", 10, **options),
        mainstay.timeout(60.0, **options),
        **options,
    )
    return {LIMIT: by_hand(job()), OURS: policy(job())}


def blocks(job: Callable[[], Callable]) -> dict[str, Callable]:
    """List functions with a `for attempt in ...: with attempt:` in them."""
    by_hand, in_tenacity, in_stamina, in_ours = (job() for _ in range(4))
    policy = mainstay.retry(**peers.ours_options())

    def tenacity_block(x: int) -> int:
        for attempt in tenacity.Retrying(**peers.tenacity_options()):
            with attempt:
                return in_tenacity(x)

    def stamina_block(x: int) -> int:
        for attempt in stamina.retry_context(**peers.stamina_options()):
            with attempt:
                return in_stamina(x)

    def our_block(x: int) -> int:
        for attempt in policy:
            with attempt:
                return in_ours(x)

    return {
        LIMIT: peers.by_hand(by_hand),
        TENACITY: tenacity_block,
        "stamina": stamina_block,
        OURS: our_block,
    }


def async_blocks(job: Callable[[], Callable]) -> dict[str, Callable]:
    """List coroutine functions with an `async for attempt in ...: with attempt:` in them."""
    by_hand, in_tenacity, in_stamina, in_ours = (job() for _ in range(4))
    policy = mainstay.retry(**peers.ours_options())

    async def tenacity_block(x: int) -> int:
        async for attempt in tenacity.AsyncRetrying(**peers.tenacity_options()):
            with attempt:
                return await in_tenacity(x)

    async def stamina_block(x: int) -> int:
        async for attempt in stamina.retry_context(**peers.stamina_options()):
            with attempt:
                return await in_stamina(x)

    async def our_block(x: int) -> int:
        async for attempt in policy:
            with attempt:
                return await in_ours(x)

    return {
        LIMIT: peers.by_hand_async(by_hand),
        TENACITY: tenacity_block,
        "stamina": stamina_block,
        OURS: our_block,
    }


def tables() -> Iterator[tuple[str, Callable, dict[str, Callable]]]:
    """Give the title, the loop and the cases of each table."""

    def job() -> Callable:
        return peers.job

    def ajob() -> Callable:
        return peers.ajob

    fails, afails = peers.failing_job, peers.failing_ajob
    success, asuccess = {BARE: peers.job}, {BARE: peers.ajob}
    failure = {BARE: peers.three_times(fails())}
    afailure = {BARE: peers.three_times_async(afails())}

    yield "Success, sync", loop_over, success | decorated(job, peers.by_hand)
    yield "Success, async", async_loop_over, asuccess | decorated(ajob, peers.by_hand_async)
    yield "Success, block", loop_over, success | blocks(job)
    yield "Success, async block", async_loop_over, asuccess | async_blocks(ajob)
    yield "Rate limit, sync", loop_over, success | rate_limited(job, peers.by_hand)
    yield "Rate limit, async", async_loop_over, asuccess | rate_limited(ajob, peers.by_hand_async)
    yield "Bulkhead, sync", loop_over, success | limited(job, peers.by_hand)
    yield "Bulkhead, async", async_loop_over, asuccess | limited(ajob, peers.by_hand_async)
    in_thread = timed(job, peers.by_hand, in_thread=True)
    yield "Timeout, sync", loop_over, success | timed(job, peers.by_hand)
    yield "Timeout, async", async_loop_over, asuccess | timed(ajob, peers.by_hand_async)
    yield "Timeout, in a thread", loop_over, success | in_thread
    yield "Fallback, last good", loop_over, success | with_fallback(job, peers.by_hand)
    yield "Pipeline, sync", loop_over, success | piped(job, peers.by_hand)
    yield "Pipeline, async", async_loop_over, asuccess | piped(ajob, peers.by_hand_async)
    yield "Failing, sync", loop_over, failure | decorated(fails, peers.by_hand) | jittered(fails)
    yield "Failing, async", async_loop_over, afailure | decorated(afails, peers.by_hand_async)
    yield "Failing, block", loop_over, failure | blocks(fails)
    yield "Failing, async block", async_loop_over, afailure | async_blocks(afails)


def report(*, quick: bool) -> Report:
    """Time everything: sync, async and blocks of both, on success and on failure."""
    time.sleep = lambda _seconds: None
    asyncio.sleep = _no_sleep
    result = Report()
    times = {}
    for title, compile_loop, functions in tables():
        loops = {name: compile_loop(function) for name, function in functions.items()}
        times[title] = times_of(loops, rounds=harness.QUICK_ROUNDS if quick else harness.ROUNDS)
        bases = (base for base in (LIMIT, TENACITY) if base in functions)
        result.times(title, times[title], *bases)
    result.measures = [
        Measure(
            "sync success path with exact metrics, vs LIMIT",
            0.45,
            0.30,
            ratio(times["Success, sync"], OURS, LIMIT),
        ),
        Measure(
            "tenacity without metrics / ours with metrics, sync",
            18,
            25,
            ratio(times["Success, sync"], TENACITY, OURS),
            more_is_better=True,
        ),
        Measure(
            "the same, async",
            30,
            42,
            ratio(times["Success, async"], TENACITY, OURS),
            more_is_better=True,
        ),
        Measure(
            "fails twice then succeeds, sleep stubbed: tenacity / ours",
            4,
            6,
            ratio(times["Failing, sync"], TENACITY, OURS),
            more_is_better=True,
        ),
        *(
            Measure(
                f"{what}, healthy, with metrics, vs LIMIT, {colour}",
                goal,
                aim,
                ratio(times[f"{table}, {colour}"], case, LIMIT),
            )
            for what, table, case, goal, aim in (
                ("rate limit", "Rate limit", OURS, 0.9, 0.65),
                ("bulkhead", "Bulkhead", OURS, 0.8, 0.6),
                ("pipeline of six", "Pipeline", OURS, 3, 1.9),
                ("adaptive bulkhead", "Bulkhead", ADAPTIVE, 0.9, 0.65),
            )
            for colour in ("sync", "async")
        ),
        *(
            Measure(
                f"{title[0].lower()}{title[1:]}, healthy, with metrics, vs LIMIT",
                least,
                aim,
                ratio(times[title], OURS, LIMIT),
            )
            for title, least, aim in (
                ("Timeout, async", 1.8, 1.3),
                ("Timeout, in a thread", 8, 6),
                ("Fallback, last good", 1.0, 0.8),
            )
        ),
    ]
    return result


async def _no_sleep(_seconds: float) -> None:
    pass


if __name__ == "__main__":
    main(report, __doc__)
