"""What does a save in a bucket cost, over a plain PUT of the same client to the same server?

The server is moto's, in memory, in a process of its own, without a network in between: so the
milliseconds are those of moto, and the counts of requests, which are given beside, matter more
elsewhere, where a request takes 20 to 100 ms. The plain PUT is obstore's, with a new value of 200
bytes each time and no condition; and a conditional one, as a save has it. A save of a result sends
the results since the last roll again, 64 kB at most: so one is measured with few, and one with
many, over a plain PUT of as many bytes.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import obstore
import obstore.store

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from harness import Loop, Measure, Report, looped, main, ratio, times_of
from mainstay import checkpoint_run
from mainstay.stores.base import Change, Result, RunId
from mainstay.stores.s3 import S3Store
from server_stores import (
    BOTH,
    CP_ASTEP,
    CP_STEP,
    DOCUMENT,
    LEASE,
    PAYLOAD,
    STEP,
    VALUE,
    async_steps,
    document,
    items,
    lease_of,
    payload,
    trips_measured,
)
from support.s3_servers import KEY, SECRET, S3Server

RAW, LONG, CONDITIONAL = "plain PUT", "plain PUT, 33 kB", "conditional PUT"
TAIL = 32 * 1024
MANY = "store: step, beside 32 kB"
CP_ITERATE = "mainstay, cp.iterate, every=2"
RAW_ASYNC = "plain PUT, async"


def replaced(store: S3Store, name: str, *, document: bytes | None = None, beside: int = 0) -> Loop:
    """Save a result in place of the one before, with a document or without."""
    lease, numbers = lease_of(store, RunId("store", name)), itertools.count(1)
    if beside:
        store.commit(lease, Change(put={0: Result("slot", b"x" * beside)}, sequence=next(numbers)))

    def save() -> None:
        number = next(numbers)
        put = {number: Result("slot", VALUE)}
        drop = (number - 1,) if number > 2 else ()  # noqa: PLR2004 - 1 is beside
        store.commit(lease, Change(document=document, put=put, drop=drop, sequence=number))

    return looped(save)


def fresh(size: int = len(PAYLOAD)) -> bytes:
    """Give a new value."""
    return os.urandom(8) + b"x" * (size - 8)


def async_puts(bucket: Any, runner: asyncio.Runner) -> Loop:
    """Put an object in a task."""

    async def puts(times: int) -> float:
        started = perf_counter()
        for _ in range(times):
            await obstore.put_async(bucket, "raw-async", fresh(), use_multipart=False)
        return perf_counter() - started

    return lambda times: runner.run(puts(times))


def conditional(bucket: Any) -> Callable[[], None]:
    """Put an object that is as it was left."""
    known = obstore.put(bucket, "conditional", fresh(), use_multipart=False)["e_tag"]

    def put() -> None:
        nonlocal known
        mode = {"e_tag": known}
        answer = obstore.put(bucket, "conditional", fresh(), mode=mode, use_multipart=False)
        known = answer["e_tag"]

    return put


@contextlib.contextmanager
def cases(server: S3Server) -> Iterator[dict[str, Loop]]:
    """Give all cases on one server."""
    store = S3Store(server.url())
    bucket = obstore.store.S3Store(
        "bucket",
        endpoint=server.endpoint,
        region="us-east-1",
        access_key_id=KEY,
        secret_access_key=SECRET,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    with contextlib.ExitStack() as held:
        runner = held.enter_context(asyncio.Runner())
        options = {"store": store, "lease": LEASE, "every": timedelta(hours=1)}
        cp = held.enter_context(checkpoint_run("steps", **options))
        yield {
            RAW: looped(lambda: obstore.put(bucket, "raw", fresh(), use_multipart=False)),
            LONG: looped(
                lambda: obstore.put(bucket, "long", fresh(TAIL + 1000), use_multipart=False)
            ),
            CONDITIONAL: looped(conditional(bucket)),
            DOCUMENT: looped(document(store, RunId("store", "document"))),
            STEP: replaced(store, "result"),
            BOTH: replaced(store, "both", document=VALUE),
            MANY: replaced(store, "many", beside=TAIL),
            CP_STEP: looped(lambda: cp.step("step", payload)),
            CP_ITERATE: items(store, every=2),
            RAW_ASYNC: async_puts(bucket, runner),
            CP_ASTEP: async_steps(store, runner),
        }
    store.close()


def speed(report: Report, server: S3Server, *, quick: bool) -> None:
    """Compare one caller with a plain PUT."""
    with cases(server) as loops:
        rounds, seconds = (3, 0.02) if quick else (150, 0.04)
        times = times_of(loops, rounds=rounds, sample_seconds=seconds)
    report.times("One caller, 200 bytes", times, RAW)
    for what, case, raw in (
        ("document", DOCUMENT, RAW), ("result", STEP, RAW), ("both", BOTH, RAW),
        ("result, beside 32 kB", MANY, LONG),
    ):  # fmt: skip
        measured = ratio(times, case, raw)
        report.measures.append(Measure(f"S3: a save ({what}) / {raw}", 1.15, 1.0, measured))


def requests(report: Report, server: S3Server) -> None:
    """Count the requests of each operation."""
    store = S3Store(server.url("requests"))
    bucket = store._runner.bucket  # noqa: SLF001 - no server tells apart who asks for what
    sent: Counter[str] = Counter()
    send = bucket.send

    def counting(request: Any, seconds: float) -> Any:
        sent[type(request).__name__] += 1
        return send(request, seconds)

    bucket.send = counting
    rows, counts = [], {}

    def count(what: str, call: Callable[..., Any], *args: object) -> Any:
        sent.clear()
        answer = call(*args)
        counts[what] = sent.total()
        rows.append((what, sent.total(), ", ".join(f"{n} {kind}" for kind, n in sent.items())))
        return answer

    save, one, large = store.commit, Result("slot", b"one"), Result("slot", b"x" * 65536)
    run = RunId("requests", "one")
    count("probe, once in a process", store.probe)
    lease = count("acquire, a new run", lease_of, store, run)
    count("save a document", save, lease, Change(document=b"1", sequence=1))
    count("save a result", save, lease, Change(put={0: one}, sequence=2))
    both = Change(document=b"2", put={1: one}, drop=(0,), sequence=3)
    count("save both, and drop one", save, lease, both)
    count("save a result that makes 64 kB", save, lease, Change(put={2: large}, sequence=4))
    count("save a document of 1 MiB", save, lease, Change(document=b"x" * 2**20, sequence=5))
    count("renew", store.renew, [lease])
    count("list one run", store.list)
    count("list one run that has not changed", store.list)
    count("release", store.release, lease, "error")
    lease = count("acquire and load, two parts", lease_of, store, run)
    end = Change(document=b"3", finished=True, sequence=1)
    count("finish, and drop a part", save, lease, end)
    count("forget", store.forget, run)
    run = RunId("requests", "two")
    store.release(lease_of(store, run), "error")
    lease = count("acquire and load", lease_of, store, run)
    count("finish", save, lease, end)
    store.close()
    report.table("Requests", ["operation", "requests", "which"], rows)
    trips_measured(report, "S3, requests", counts)


def many(report: Report, server: S3Server, *, quick: bool) -> None:
    """Keep many results, and read them again."""
    number = 2_000 if quick else 100_000
    store = S3Store(server.url("many"), timeout=60.0)
    run = RunId("many", "steps")
    lease = lease_of(store, run)
    started = perf_counter()
    for first in range(0, number, 100):
        put = {each: Result("slot", b"x" * 100) for each in range(first, first + 100)}
        store.commit(lease, Change(put=put, sequence=first // 100 + 1))
    saved = perf_counter()
    store.release(lease, "error")
    other = S3Store(server.url("many"), timeout=60.0)
    other.probe()
    began = perf_counter()
    lease_of(other, run)
    loaded = perf_counter()
    rows = [
        (f"save {number:,} results of 100 bytes, 100 at a time", f"{saved - started:.1f}"),
        ("acquire the run and read all of them", f"{loaded - began:.2f}"),
    ]
    report.table("Many results", ["what", "seconds"], rows)
    store.close()
    other.close()


def report(*, quick: bool) -> Report:
    """Run everything on one server."""
    logging.disable(logging.CRITICAL)
    found = Report()
    server = S3Server()
    try:
        found.say(f"moto's server, in memory; obstore {obstore.__version__}, loopback.")
        requests(found, server)
        speed(found, server, quick=quick)
        many(found, server, quick=quick)
    finally:
        server.stop()
    return found


if __name__ == "__main__":
    main(report, __doc__)
