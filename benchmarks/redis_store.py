"""What does a durable save in Redis cost, over a raw SET on the same server?

A server of Debian's package redis-server with `appendfsync always` and this process share the
machine, without a network in between: so the count of round trips, which is given beside, matters
more than the microseconds elsewhere. The raw SET is redis-py's own client on one connection, with a
new value of the same size each time. With `appendfsync everysec` nothing waits for the disk: what
is left is the script and the client.
"""

import asyncio
import contextlib
import itertools
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import redis
import redis.asyncio

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from harness import Loop, Measure, Report, looped, main, ratio, times_of
from mainstay import checkpoint_run
from mainstay.stores.base import RunId
from mainstay.stores.redis import RedisStore
from server_stores import (
    BOTH,
    CP_ASTEP,
    CP_STEP,
    DOCUMENT,
    LEASE,
    PAYLOAD,
    STEP,
    async_steps,
    both,
    document,
    items,
    payload,
    step,
    trips,
)
from support.fault_proxy import FaultProxy
from support.redis_servers import RedisServer

RAW, RAW_ASYNC = "raw SET", "raw SET, redis.asyncio"
CP_ITERATE = "mainstay, cp.iterate, every=1"


@contextlib.contextmanager
def async_sets(url: str, runner: asyncio.Runner) -> Iterator[Loop]:
    """Set keys in a task."""
    numbers = itertools.count()
    client = redis.asyncio.Redis.from_url(url)

    async def sets(times: int) -> float:
        started = perf_counter()
        for _ in range(times):
            await client.set(f"raw-async-{next(numbers)}", PAYLOAD)
        return perf_counter() - started

    yield lambda times: runner.run(sets(times))
    runner.run(client.aclose())


@contextlib.contextmanager
def cases(url: str) -> Iterator[dict[str, Loop]]:
    """Give all cases on one server."""
    store, numbers = RedisStore(f"{url}/0?durability=everysec"), itertools.count()
    with contextlib.ExitStack() as held:
        runner = held.enter_context(asyncio.Runner())
        client = held.enter_context(redis.Redis.from_url(url))
        cp = held.enter_context(checkpoint_run("steps", store=store, lease=LEASE))
        yield {
            RAW: looped(lambda: client.set(f"raw-{next(numbers)}", PAYLOAD)),
            DOCUMENT: looped(document(store, RunId("store", "document"))),
            STEP: looped(step(store, RunId("store", "step"))),
            BOTH: looped(both(store, RunId("store", "both"))),
            CP_STEP: looped(lambda: cp.step("step", payload)),
            CP_ITERATE: items(store),
            RAW_ASYNC: held.enter_context(async_sets(url, runner)),
            CP_ASTEP: async_steps(store, runner),
        }
    store.close()


def single(report: Report, server: RedisServer, fsync: str, *, quick: bool) -> None:
    """Compare one caller with a raw SET."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        client.config_set("appendfsync", fsync)
    with cases(server.url) as loops:
        rounds, seconds = (3, 0.02) if quick else (80, 0.04)
        times = times_of(loops, rounds=rounds, sample_seconds=seconds)
        report.times(f"One caller, 200 bytes, appendfsync {fsync}", times, RAW)
        if fsync == "always":
            goals(report, loops, quick=quick)


def goals(report: Report, loops: dict[str, Loop], *, quick: bool) -> None:
    """Compare the saves of the store alone, a few at a time: disks have slow moments."""
    saves = {case: loops[case] for case in (RAW, DOCUMENT, STEP, BOTH)}
    rounds, seconds = (3, 0.002) if quick else (1500, 0.002)
    times = times_of(saves, rounds=rounds, sample_seconds=seconds)
    report.times("The store alone, appendfsync always, few saves a round", times, RAW)
    for what, case in (("document", DOCUMENT), ("result", STEP), ("both", BOTH)):
        measured = ratio(times, case, RAW)
        report.measures.append(
            Measure(f"Redis, appendfsync always: a save ({what}) / SET", 1.2, 1.1, measured)
        )


def report(*, quick: bool) -> Report:
    """Run everything on one server."""
    logging.disable(logging.CRITICAL)
    found = Report()
    with tempfile.TemporaryDirectory(dir=Path.home()) as directory:
        server = RedisServer(directory, "--appendonly", "yes", "--appendfsync", "always")
        try:
            with redis.Redis.from_url(server.url) as client:
                version = client.info("server")["redis_version"]
            found.say(f"Redis {version}, redis-py {redis.__version__}, loopback.")
            proxy = FaultProxy(server.port)
            trips(found, "Redis", RedisStore(f"redis://127.0.0.1:{proxy.port}/0"), proxy)
            for fsync in ("always", "everysec"):
                single(found, server, fsync, quick=quick)
        finally:
            server.stop()
    return found


if __name__ == "__main__":
    main(report, __doc__)
