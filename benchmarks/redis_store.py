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
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import redis
import redis.asyncio

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from harness import Loop, Measure, Report, main, ratio, times_of
from mainstay import checkpoint_run
from mainstay._core.owner import this_process
from mainstay.stores.base import Acquired, Change, Request, Result, RunId, RunLease
from mainstay.stores.redis import RedisStore
from support.fault_proxy import FaultProxy
from support.redis_servers import RedisServer

PAYLOAD = "x" * 200
LEASE = 60.0
RAW, DOCUMENT, STEP, BOTH = "raw SET", "store: document", "store: step", "store: both"
CP_STEP, CP_ITERATE = "mainstay, cp.step", "mainstay, cp.iterate, every=1"
RAW_ASYNC, CP_ASTEP = "raw SET, redis.asyncio", "mainstay, async cp.step"


def payload() -> str:
    """Give what is saved."""
    return PAYLOAD


async def apayload() -> str:
    """Give what is saved."""
    return PAYLOAD


def lease_of(store: RedisStore, run: RunId) -> RunLease:
    """Acquire a run."""
    answer = store.acquire(run, Request(owner=this_process(), life="a", lease=LEASE))
    if not isinstance(answer, Acquired):
        raise TypeError(answer)
    return RunLease(run, answer.record.token, answer.record.grant, LEASE)


def looped(step: Callable[[], object]) -> Loop:
    """Give a loop over *step*."""

    def loop(times: int) -> float:
        started = perf_counter()
        for _ in range(times):
            step()
        return perf_counter() - started

    return loop


def changes(store: RedisStore, name: str, *, document: bool, result: bool) -> Loop:
    """Save a document, a result, or both."""
    lease, numbers, value = lease_of(store, RunId("store", name)), itertools.count(1), b"x" * 200

    def save() -> None:
        number = next(numbers)
        put = {number: Result("slot", value)} if result else {}
        written = value if document else None
        store.commit(lease, Change(document=written, put=put, sequence=number))

    return looped(save)


def items(store: RedisStore) -> Loop:
    """Save cursor and a state of 200 bytes with each item."""
    runs = itertools.count()

    def loop(times: int) -> float:
        with checkpoint_run(f"items-{next(runs)}", store=store, lease=LEASE) as cp:
            cp.state({"text": PAYLOAD})
            started = perf_counter()
            for _ in cp.iterate(range(times), key=int):
                pass
            return perf_counter() - started

    return loop


def async_steps(store: RedisStore, runner: asyncio.Runner) -> Loop:
    """Take steps of async runs."""
    runs = itertools.count()

    async def steps(times: int) -> float:
        async with checkpoint_run(f"async-{next(runs)}", store=store, lease=LEASE) as cp:
            started = perf_counter()
            for _ in range(times):
                await cp.step("step", apayload)
            return perf_counter() - started

    return lambda times: runner.run(steps(times))


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
            DOCUMENT: changes(store, "document", document=True, result=False),
            STEP: changes(store, "step", document=False, result=True),
            BOTH: changes(store, "both", document=True, result=True),
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


def trips(report: Report, server: RedisServer) -> None:
    """Count what a client sends at once: each is a round trip."""
    proxy = FaultProxy(server.port)
    store = RedisStore(f"redis://127.0.0.1:{proxy.port}/0")
    counts = {}

    def count(what: str, call: Callable, *args: object) -> object:
        before = proxy.messages
        answer = call(*args)
        counts[what] = proxy.messages - before
        return answer

    save, one = store.commit, Result("slot", b"one")
    both = Change(document=b"2", put={1: one}, drop=(0,), sequence=3)
    try:
        for name in ("first", "second"):  # the first one connects, and looks at the server
            run = RunId("trips", name)
            lease = count("acquire, a new run", lease_of, store, run)
            count("save a document", save, lease, Change(document=b"1", sequence=1))
            count("save a result", save, lease, Change(put={0: one}, sequence=2))
            count("save both, and drop one", save, lease, both)
            count("renew eight", store.renew, [lease] * 8)
            count("release", store.release, lease, "error")
            lease = count("acquire and load", lease_of, store, run)
            count("finish", save, lease, Change(document=b"3", finished=True, sequence=1))
    finally:
        store.close()
        proxy.close()
    report.table("Round trips", ["operation", "trips"], [*counts.items()])
    for what, at_least in (
        ("save a document", 1), ("save a result", 1), ("finish", 1), ("acquire and load", 2),
    ):  # fmt: skip
        report.measures.append(
            Measure(f"Redis, round trips: {what}", at_least, 1, counts[what], unit="")
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
            trips(found, server)
            for fsync in ("always", "everysec"):
                single(found, server, fsync, quick=quick)
        finally:
            server.stop()
    return found


if __name__ == "__main__":
    main(report, __doc__)
