"""A job over `cp.map` that can be killed as a whole, or a worker of it.

    python map_jobs.py STORE PLAN

PLAN is JSON: `pool` names a function below, `log` a file. Each item appends "begin N PID" to the
log where it runs, and "end N PID" when it is done; the run appends its result. The state is the
list of the items that the loop has had.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta

from mainstay import checkpoint_run
from mainstay.stores import store_of

WORKERS = 3


def say(log, *words):
    """Append a line, which no other process cuts in two."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (" ".join(map(str, words)) + "\n").encode())
    os.close(file)


def work(item):
    """Take as long as the item says, and a little less or more."""
    number, log, seconds = item
    say(log, "begin", number, os.getpid())
    time.sleep(seconds * random.uniform(0.5, 1.5))
    say(log, "end", number, os.getpid())
    return number


async def awork(item):
    number, log, seconds = item
    say(log, "begin", number, os.getpid())
    await asyncio.sleep(seconds * random.uniform(0.5, 1.5))
    say(log, "end", number, os.getpid())
    return number


def threads():
    return ThreadPoolExecutor(WORKERS)


def processes():
    return ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn"))


@contextlib.contextmanager
def loky():
    from loky import get_reusable_executor  # noqa: PLC0415 - only one of the pools

    executor = get_reusable_executor(max_workers=WORKERS)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, kill_workers=True)


@contextlib.contextmanager
def dask():
    from distributed import Client, LocalCluster  # noqa: PLC0415 - only one of the pools

    cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        yield client.get_executor()


def source_of(plan):
    for number in range(plan["items"]):
        seconds = plan["long"] if number == plan.get("at") else plan["seconds"]
        yield number, plan["log"], seconds


def options_of(plan):
    every = plan.get("every", 1)
    every = timedelta(seconds=every) if isinstance(every, float) else every
    spread = {"ahead": plan.get("ahead", 8), "ordered": plan.get("ordered", True)}
    return {"every": every, "max_crashes": None, "lease": 30}, spread


def run(url, plan):
    options, spread = options_of(plan)
    pool = threads if plan["pool"] == "tasks" else globals()[plan["pool"]]
    with pool() as executor, checkpoint_run("key", store=store_of(url), **options) as cp:
        done = cp.state([])
        say(plan["log"], "resumed", len(done), os.getpid())
        for number in cp.map(work, source_of(plan), key, executor=executor, **spread):
            done.append(number)
    return done


async def arun(url, plan):
    options, spread = options_of(plan)
    async with checkpoint_run("key", store=store_of(url), **options) as cp:
        done = cp.state([])
        say(plan["log"], "resumed", len(done), os.getpid())
        async for number in cp.map(awork, source_of(plan), key, **spread):
            done.append(number)
    return done


def key(item):
    return item[0]


def main(url, plan):
    done = asyncio.run(arun(url, plan)) if plan["pool"] == "tasks" else run(url, plan)
    say(plan["log"], "result", json.dumps(done))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
