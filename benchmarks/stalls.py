"""How many calls does a rate limit let through in any window, on an event loop that stalls?

Real time, one event loop, 400 tasks that all wait for a limit of 50 a second with a burst of 5,
while another task blocks the loop for a second, three times. What counts is the most calls that
came through in any window of a second, wherever it begins, over the 55 that are allowed.

*turns in advance* is what most limiters do: a call that has to wait is told its turn, and sleeps
until then. It is written out here.
"""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable

import mainstay
import peers
from harness import Measure, Report, main

RATE, BURST, PER = 50, 5, 1.0
ALLOWED = RATE + BURST
TASKS, STALLS, STALL = 400, 3, 1.0
OURS = "mainstay"

Acquire = Callable[[], Awaitable[None]]


def ours() -> Acquire:
    """Give our limit."""
    limit = mainstay.RateLimit(
        "stalls", RATE, per=PER, burst=BURST, max_wait=60.0, metrics=peers.METRICS
    )
    return limit.acquire_async


def turns_in_advance() -> Acquire:
    """Give a limit that tells each call its turn when it comes."""
    interval = PER / RATE
    paid_until = 0.0

    async def acquire() -> None:
        nonlocal paid_until
        now = time.monotonic()
        paid_until = max(paid_until, now) + interval
        wait = paid_until - interval * BURST - now
        if wait > 0:
            await asyncio.sleep(wait)

    return acquire


CASES = {OURS: ours, "turns in advance": turns_in_advance}


async def times_of_calls(acquire: Acquire, tasks: int, stalls: int) -> list[float]:
    """Give when each call came through, while the loop stalls again and again."""
    times: list[float] = []

    async def call() -> None:
        await acquire()
        times.append(time.monotonic())

    async def stall() -> None:
        for _ in range(stalls):
            await asyncio.sleep(0.7)
            time.sleep(STALL)  # noqa: ASYNC251 - that is what is asked about

    await asyncio.gather(stall(), *(call() for _ in range(tasks)))
    return sorted(times)


def most_in_a_window(times: list[float]) -> int:
    """Count the most of *times* in any window."""
    return max(bisect_right(times, begin + PER) - i for i, begin in enumerate(times))


def report(*, quick: bool) -> Report:
    """Let calls through each limit."""
    result, rows = Report(), []
    tasks, stalls = (60, 1) if quick else (TASKS, STALLS)
    for name, make in CASES.items():
        times = asyncio.run(times_of_calls(make(), tasks, stalls))
        most = most_in_a_window(times)
        took = times[-1] - times[0]
        rows.append([name, len(times), f"{took:.1f} s", most, f"{most / ALLOWED:.2f}"])
        if name == OURS:
            value = most / ALLOWED
    header = ["limit", "calls", "in", "most in a window", f"over {ALLOWED}"]
    result.table(f"{RATE} a second and {BURST}, with stalls of {STALL:.0f} s", header, rows)
    result.measures.append(
        Measure("most calls in any window over rate + burst, with stalls", 1.0, 1.0, value, "")
    )
    return result


if __name__ == "__main__":
    main(report, __doc__)
