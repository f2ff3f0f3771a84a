"""Cancels, timeouts, limits that change and loops that end, at random, at one bulkhead.

Half of the calls take their place by a block, and half in a pipeline, some of which fail.

Arguments: how many calls are to be cut short; the seed. Prints: whether so many were, whether never
more than the highest limit were inside, the places that are taken and the calls that wait in the
end, and how many of three children, forked meanwhile, found all their places free.
"""

import asyncio
import os
import random
import sys
import threading
import time
import warnings

from mainstay import (
    Bulkhead,
    CircuitBreaker,
    DeadlineExpiredError,
    RejectedError,
    TimedOutError,
    deadline,
    pipeline,
    priority,
    retry,
    timeout,
)

LIMIT = 3
LEVELS = ("high", "normal", "low")
bulkhead = Bulkhead("chaos", limit=LIMIT, max_wait=0.005)
breaker = CircuitBreaker("chaos", on=LookupError)
policy = pipeline("chaos", retry(on=OSError, attempts=2, wait=0), breaker, bulkhead, timeout(0.01))
cut = [0] * 5
most = 0
inside = 0
lock = threading.Lock()


def enter() -> None:
    global inside, most
    with lock:
        inside += 1
        most = max(most, inside)


def leave() -> None:
    global inside
    with lock:
        inside -= 1


async def work(dice: random.Random) -> None:
    enter()
    try:
        await asyncio.sleep(dice.choice((0, 0, 0.0002)))
        if dice.random() < 0.1:
            raise OSError
    finally:
        leave()


piped_work = policy(work)


async def call(dice: random.Random) -> None:
    with priority(dice.choice(LEVELS)), deadline(dice.choice((0.002, 1.0))):
        if dice.random() < 0.5:
            await piped_work(dice)
            return
        async with bulkhead:
            await work(dice)


async def one_loop(number: int, dice: random.Random, calls: int) -> None:
    """Make calls, cancel some, and end with others still waiting."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # nobody asks some tasks
    end = cut[number] + calls
    while cut[number] < end:
        tasks = [asyncio.create_task(call(dice)) for _ in range(30)]
        for _ in range(dice.randrange(6)):
            await asyncio.sleep(0)
        for each in tasks:
            if dice.random() < 0.7:
                each.cancel()
        if dice.random() < 0.1:
            cut[number] += 30
            return  # `asyncio.run` cancels them
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        cut[number] += sum(isinstance(each, BaseException) for each in ended)


def loops(number: int, seed: int, calls: int) -> None:
    dice = random.Random(seed)
    while cut[number] < calls:
        asyncio.run(one_loop(number, dice, min(500, calls)))


def block() -> None:
    enter()
    time.sleep(0.0005)
    leave()


piped_block = policy(block)


def threads(number: int, seed: int, calls: int) -> None:
    """Make calls in a thread, as long as there are two: one alone is never refused."""
    dice = random.Random(seed)
    while cut[3] + cut[4] < calls * 2:
        try:
            with priority(dice.choice(LEVELS)), deadline(0.001):
                if dice.random() < 0.5:
                    piped_block()
                    continue
                with bulkhead:
                    block()
        except (RejectedError, DeadlineExpiredError, TimedOutError):
            cut[number] += 1


def left_over() -> tuple[int, int]:
    bulkhead.call(str)  # who is gone is passed over
    breaker.reset()  # hangs that were cancelled late open it
    policy.call(str)
    return bulkhead.in_flight, bulkhead.waiting


def main(calls: int, seed: int) -> None:
    sys.setswitchinterval(1e-5)
    workers = [
        threading.Thread(target=loops, args=(number, seed + number, calls * 3 // 10))
        for number in range(3)
    ]
    workers += [
        threading.Thread(target=threads, args=(number, seed + number, calls // 20))
        for number in (3, 4)
    ]
    for each in workers:
        each.start()
    dice = random.Random(seed)
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks while there are threads
    children = 0
    while any(each.is_alive() for each in workers):
        bulkhead.resize(dice.randint(1, LIMIT))
        time.sleep(0.002)
        if children < 3:
            child = os.fork()
            if child == 0:
                os._exit(0 if left_over() == (0, 0) else 1)
            children += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for each in workers:
        each.join()
    print(sum(cut) >= calls, most <= LIMIT, *left_over(), children)


main(int(sys.argv[1]), int(sys.argv[2]))
