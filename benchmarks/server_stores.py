"""What the benchmarks of stores on servers share: what is saved, by a store alone and by runs."""

import asyncio
import itertools
from collections.abc import Callable
from time import perf_counter

from harness import Loop, Measure, Report
from mainstay import checkpoint_run
from mainstay._core.owner import this_process
from mainstay.stores.base import Acquired, Change, Request, Result, RunId, RunLease, Store
from support.fault_proxy import FaultProxy

PAYLOAD = "x" * 200
VALUE = PAYLOAD.encode()
LEASE = 60.0
DOCUMENT, STEP, BOTH = "store: document", "store: step", "store: both"
CP_STEP, CP_ASTEP = "mainstay, cp.step", "mainstay, async cp.step"


def payload() -> str:
    """Give what is saved."""
    return PAYLOAD


async def apayload() -> str:
    """Give what is saved."""
    return PAYLOAD


def lease_of(store: Store, run: RunId) -> RunLease:
    """Acquire a run."""
    answer = store.acquire(run, Request(owner=this_process(), life="a", lease=LEASE))
    if not isinstance(answer, Acquired):
        raise TypeError(answer)
    return RunLease(run, answer.record.token, answer.record.grant, LEASE)


def saves(store: Store, run: RunId, change: Callable[[int], Change]) -> Callable[[], None]:
    """Give a function that saves one change after the other, each made of its number."""
    lease, numbers = lease_of(store, run), itertools.count(1)
    return lambda: store.commit(lease, change(next(numbers)))


def document(store: Store, run: RunId, value: bytes = VALUE) -> Callable[[], None]:
    """Save a document."""
    return saves(store, run, lambda n: Change(document=value, sequence=n, after=n - 1))


def step(store: Store, run: RunId) -> Callable[[], None]:
    """Save a result."""

    def change(number: int) -> Change:
        put = {number: Result("slot", VALUE)}
        return Change(put=put, sequence=number, after_result=number - 1 or -1)

    return saves(store, run, change)


def both(store: Store, run: RunId) -> Callable[[], None]:
    """Save a document and a result."""

    def change(number: int) -> Change:
        put = {number: Result("slot", VALUE)}
        return Change(document=VALUE, put=put, sequence=number, after=number - 1)

    return saves(store, run, change)


def items(store: Store, every: int = 1) -> Loop:
    """Save cursor and a state of 200 bytes with each item, or with each of *every*."""
    runs = itertools.count()

    def loop(times: int) -> float:
        with checkpoint_run(f"items-{next(runs)}", store=store, lease=LEASE, every=every) as cp:
            cp.state({"text": PAYLOAD})
            started = perf_counter()
            for _ in cp.iterate(range(every * times), key=int):
                pass
            return perf_counter() - started

    return loop


def async_steps(store: Store, runner: asyncio.Runner) -> Loop:
    """Take steps of async runs."""
    runs = itertools.count()

    async def steps(times: int) -> float:
        async with checkpoint_run(f"async-{next(runs)}", store=store, lease=LEASE) as cp:
            started = perf_counter()
            for _ in range(times):
                await cp.step("step", apayload)
            return perf_counter() - started

    return lambda times: runner.run(steps(times))


def trips(report: Report, server: str, store: Store, proxy: FaultProxy) -> None:
    """Count what a client sends at once by way of *proxy*: each is a round trip."""
    counts = {}

    def count(what: str, call: Callable, *args: object) -> object:
        before = proxy.messages
        answer = call(*args)
        counts[what] = proxy.messages - before
        return answer

    save, one = store.commit, Result("slot", b"one")
    two = Change(document=b"2", put={1: one}, drop=(0,), sequence=3)
    try:
        for name in ("first", "second"):  # the first one connects, and looks at the server
            run = RunId("trips", name)
            lease = count("acquire, a new run", lease_of, store, run)
            count("save a document", save, lease, Change(document=b"1", sequence=1))
            count("save a result", save, lease, Change(put={0: one}, sequence=2))
            count("save both, and drop one", save, lease, two)
            count("renew eight", store.renew, [lease] * 8)
            count("release", store.release, lease, "error")
            lease = count("acquire and load", lease_of, store, run)
            count("finish", save, lease, Change(document=b"3", finished=True, sequence=1))
    finally:
        store.close()
        proxy.close()
    report.table("Round trips", ["operation", "trips"], [*counts.items()])
    trips_measured(report, f"{server}, round trips", counts)


def trips_measured(report: Report, what: str, counts: dict[str, int]) -> None:
    """Add how often a store asks its server to what has to be reached."""
    for operation, at_least in (
        ("save a document", 1), ("save a result", 1), ("finish", 1), ("acquire and load", 2),
    ):  # fmt: skip
        report.measures.append(
            Measure(f"{what}: {operation}", at_least, 1, counts[operation], unit="")
        )
