"""The cases that are compared: the same small job, retried by each library and by hand.

Every peer gets the same limit of attempts and the same exception class to retry on, and no wait.
stamina's hooks, which would log and count each retry, are switched off, and backoff's log too.
"""

import asyncio
import time
from collections.abc import Callable
from itertools import cycle
from time import perf_counter

import backoff
import stamina
import tenacity
from prometheus_client import CollectorRegistry, Counter, Histogram

import mainstay

ATTEMPTS = 5
BARE = "bare call"
LIMIT = "LIMIT, by hand"
TENACITY = "tenacity"
OURS = "mainstay"

stamina.instrumentation.set_on_retry_hooks([])

REGISTRY = CollectorRegistry()
METRICS = mainstay.Metrics(REGISTRY)
_seconds = Histogram("hand_call_seconds", "Seconds of a call.", ["name"], registry=REGISTRY)
_calls = Counter("hand_calls", "Calls.", ["name"], registry=REGISTRY)
OBSERVE = _seconds.labels("job").observe
INC = _calls.labels("job").inc


def job(x: int) -> int:
    """Do next to nothing, so that only the cost of the wrapper is left."""
    return x


async def ajob(x: int) -> int:
    """Do the same in async code."""
    return x


def failing_job() -> Callable[[int], int]:
    """Make a job that fails twice, then succeeds, and so on."""
    fails = cycle((True, True, False)).__next__

    def job(x: int) -> int:
        if fails():
            raise ConnectionError("refused")
        return x

    return job


def failing_ajob() -> Callable:
    """Make the same as a coroutine function."""
    job = failing_job()

    async def ajob(x: int) -> int:
        return job(x)

    return ajob


def three_times(job: Callable) -> Callable:
    """Call a failing job until it succeeds, and no more than that."""

    def call(x: int) -> int:
        for _ in range(2):
            try:  # noqa: SIM105 - suppress() costs more than the call
                job(x)
            except ConnectionError:
                pass
        return job(x)

    return call


def three_times_async(job: Callable) -> Callable:
    """Do the same in async code."""

    async def call(x: int) -> int:
        for _ in range(2):
            try:  # noqa: SIM105 - suppress() costs more than the call
                await job(x)
            except ConnectionError:
                pass
        return await job(x)

    return call


def by_hand(job: Callable) -> Callable:
    """Write the loop as one would by hand: LIMIT, what a library can at best compete with."""
    observe, inc = OBSERVE, INC

    def call(x: int) -> int:
        started = perf_counter()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                value = job(x)
            except ConnectionError:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(0)
            else:
                observe(perf_counter() - started)
                inc()
                return value
        raise AssertionError

    return call


def by_hand_async(job: Callable) -> Callable:
    """Write the same in async code."""
    observe, inc = OBSERVE, INC

    async def call(x: int) -> int:
        started = perf_counter()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                value = await job(x)
            except ConnectionError:
                if attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(0)
            else:
                observe(perf_counter() - started)
                inc()
                return value
        raise AssertionError

    return call


def tenacity_options() -> dict:
    """Give what tenacity's `retry` and `Retrying` take."""
    return {
        "stop": tenacity.stop_after_attempt(ATTEMPTS),
        "retry": tenacity.retry_if_exception_type(ConnectionError),
        "reraise": True,
    }


def stamina_options() -> dict:
    """Give what stamina's `retry` and `retry_context` take."""
    waits = {"wait_initial": 0.0, "wait_max": 0.0, "wait_jitter": 0.0}
    return {"on": ConnectionError, "attempts": ATTEMPTS, **waits}


def ours_options() -> dict:
    """Give what our `retry` takes."""
    return {"on": ConnectionError, "attempts": ATTEMPTS, "wait": 0.0, "metrics": METRICS}


def with_tenacity(job: Callable) -> Callable:
    """Decorate with tenacity, sync or async."""
    return tenacity.retry(**tenacity_options())(job)


def with_stamina(job: Callable) -> Callable:
    """Decorate with stamina, sync or async."""
    return stamina.retry(**stamina_options())(job)


def with_backoff(job: Callable) -> Callable:
    """Decorate with backoff, sync or async."""
    decorate = backoff.on_exception(
        backoff.constant, ConnectionError, max_tries=ATTEMPTS, interval=0, jitter=None, logger=None
    )
    return decorate(job)


def with_ours(job: Callable) -> Callable:
    """Decorate with mainstay, sync or async, metrics included."""
    return mainstay.retry(**ours_options())(job)
