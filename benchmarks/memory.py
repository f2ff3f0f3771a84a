"""What does a call allocate, what does it leave to the garbage collector, what does a policy keep?

Allocations per call are counted exactly, by hooks around CPython's allocators
(`count_allocations.c`, for which a C compiler must be there). Floats, small tuples and others that
CPython takes from its free lists ask no allocator, so they are not counted, for anybody.

Objects left to the cyclic garbage collector are what it finds after many calls made without it.

Bytes per decorated function: a thousand functions of their own names, decorated, each called
once, less the same thousand undecorated; what Python's allocators hold then, by tracemalloc.

Files of one worker in multiprocess mode: a retry, a breaker and a pool of three, each called once
by one thread; what the files hold and what they take of the disk, whichever is more.
"""

import asyncio
import ctypes
import gc
import os
import shutil
import subprocess
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping
from itertools import repeat
from pathlib import Path

from prometheus_client import CollectorRegistry

import mainstay
import peers
from harness import Measure, Report, main
from mainstay._metrics.writer import finish_all
from peers import BARE, LIMIT, OURS, TENACITY

_DOMAINS = (1, 2)  # PYMEM_DOMAIN_MEM and PYMEM_DOMAIN_OBJ of CPython's C API
CALLS = 5_000
FUNCTIONS = 1_000


class Allocator(ctypes.Structure):
    """`PyMemAllocatorEx` of CPython's C API."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")]


def allocations(loops: Mapping[str, Callable[[int], object]], calls: int) -> dict[str, float]:
    """Count the allocations per call of each loop; those of a loop without calls are left out."""
    library = _compiled()
    count = ctypes.c_ulonglong.in_dll(library, "allocations")
    before = {domain: Allocator() for domain in _DOMAINS}
    hooks = {domain: Allocator() for domain in _DOMAINS}
    found = {}
    for domain in _DOMAINS:
        ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(before[domain]))
        library.count_through(ctypes.byref(hooks[domain]), ctypes.byref(before[domain]))
        ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(hooks[domain]))
    try:
        for name, loop in loops.items():
            loop(100)  # what is made once is made now
            start = count.value
            loop(0)
            empty = count.value - start
            loop(calls)
            found[name] = max(0.0, (count.value - start - 2 * empty) / calls)
    finally:
        for domain in _DOMAINS:
            ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(before[domain]))
    return found


def _compiled() -> ctypes.CDLL:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("memory.py counts allocations in C and finds no compiler; install one "
                         "(the Debian package gcc)")  # fmt: skip
    source = Path(__file__).with_name("count_allocations.c")
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "count_allocations.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
        return ctypes.CDLL(str(library))


def looped(call: Callable) -> Callable[[int], None]:
    """Make a loop that allocates nothing itself."""

    def loop(calls: int) -> None:
        for _ in repeat(None, calls):
            call(1)

    return loop


def async_looped(call: Callable) -> Callable[[int], None]:
    """Make such a loop over a coroutine function."""

    async def loop(calls: int) -> None:
        for _ in repeat(None, calls):
            await call(1)

    runner = asyncio.new_event_loop()
    return lambda calls: runner.run_until_complete(loop(calls))


def left_to_collector(loop: Callable[[int], object], calls: int) -> float:
    """Count the objects per call that only the cyclic garbage collector frees."""
    loop(100)
    gc.collect()
    gc.disable()
    try:
        loop(calls)
        return round(gc.collect() / calls, 1)
    finally:
        gc.enable()


def bytes_each(decorate: Callable[[Callable], Callable] | None, functions: int) -> float:
    """Measure what one decorated function holds after a call, its own name and code included."""
    source = "".join(f"def function_{i}(x): return x\n" for i in range(functions))
    names: dict = {"__name__": "benchmark"}
    exec(source, names)
    plain = [names[f"function_{i}"] for i in range(functions)]
    gc.collect()
    tracemalloc.start()
    try:
        kept = []
        for function in plain:
            decorated = function if decorate is None else decorate(function)
            decorated(1)
            kept.append(decorated)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / functions
    finally:
        tracemalloc.stop()


def our_policy(metrics: mainstay.Metrics) -> mainstay.Retry:
    """Make a policy as the peers' are."""
    return mainstay.retry(on=ConnectionError, attempts=peers.ATTEMPTS, metrics=metrics)


def with_a_policy_each() -> Callable[[Callable], Callable]:
    """Make a decorator that makes a policy for each function."""
    metrics = _fresh_metrics()

    def decorate(function: Callable) -> Callable:
        return our_policy(metrics)(function)

    return decorate


def _fresh_metrics() -> mainstay.Metrics:
    return mainstay.Metrics(CollectorRegistry())


def sync_cases() -> dict[str, Callable]:
    """List the functions that are called: succeeding, and failing twice before they succeed."""
    failing = peers.failing_job
    return {
        BARE: peers.job,
        LIMIT: peers.by_hand(peers.job),
        TENACITY: peers.with_tenacity(peers.job),
        "stamina": peers.with_stamina(peers.job),
        "backoff": peers.with_backoff(peers.job),
        OURS: peers.with_ours(peers.job),
        f"failing, {BARE}": peers.three_times(failing()),
        f"failing, {LIMIT}": peers.by_hand(failing()),
        f"failing, {TENACITY}": peers.with_tenacity(failing()),
        f"failing, {OURS}": peers.with_ours(failing()),
    }


def async_cases() -> dict[str, Callable]:
    """List the same for coroutine functions."""
    failing = peers.failing_ajob
    return {
        BARE: peers.ajob,
        LIMIT: peers.by_hand_async(peers.ajob),
        TENACITY: peers.with_tenacity(peers.ajob),
        "stamina": peers.with_stamina(peers.ajob),
        "backoff": peers.with_backoff(peers.ajob),
        OURS: peers.with_ours(peers.ajob),
        f"failing, {BARE}": peers.three_times_async(failing()),
        f"failing, {LIMIT}": peers.by_hand_async(failing()),
        f"failing, {TENACITY}": peers.with_tenacity(failing()),
        f"failing, {OURS}": peers.with_ours(failing()),
    }


def files_of_a_worker() -> list[os.stat_result]:
    """Measure the files of this process in multiprocess mode."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        metrics = mainstay.Metrics(None)
        del os.environ["PROMETHEUS_MULTIPROC_DIR"]
        mainstay.retry(on=OSError, name="stock", metrics=metrics).call(int)
        breaker = mainstay.CircuitBreaker("db", on=OSError, metrics=metrics)
        breaker.call(int)
        members = [mainstay.Member(name, name) for name in ("a", "b", "c")]
        pool = mainstay.FailoverPool("pool", members, on=OSError, metrics=metrics)
        pool.call(len)
        finish_all()
        return [each.stat() for each in Path(directory).iterdir()]


def report(*, quick: bool) -> Report:
    """Count and measure everything."""
    calls, functions = (200, 100) if quick else (CALLS, FUNCTIONS)
    time.sleep = lambda _seconds: None
    result = Report()
    loops = {
        **{f"{name}, sync": looped(call) for name, call in sync_cases().items()},
        **{f"{name}, async": async_looped(call) for name, call in async_cases().items()},
    }
    counts = allocations(loops, calls)
    left = {name: left_to_collector(loop, calls) for name, loop in loops.items()}
    result.table(
        "Per call; failing ones fail twice, then succeed",
        ["case", "allocations", "objects left to the cyclic collector"],
        [[name, f"{counts[name]:.2f}", f"{left[name]:g}"] for name in loops],
    )

    base = bytes_each(None, functions)
    sizes = {
        TENACITY: bytes_each(peers.with_tenacity, functions),
        "stamina": bytes_each(peers.with_stamina, functions),
        "backoff": bytes_each(peers.with_backoff, functions),
        OURS: bytes_each(with_a_policy_each(), functions),
        f"{OURS}, one policy for all": bytes_each(our_policy(_fresh_metrics()), functions),
    }
    result.table(
        f"Per decorated function, of {functions:,}",
        ["case", "bytes", "vs tenacity"],
        [
            [name, f"{size - base:,.0f}", f"{(size - base) / (sizes[TENACITY] - base):.2f}x"]
            for name, size in sizes.items()
        ],
    )
    files = files_of_a_worker()
    held = sum(each.st_size for each in files)
    taken = sum(each.st_blocks * 512 for each in files)
    result.say(
        f"{len(files)} files of a worker hold {held:,} bytes and take {taken:,} of the disk."
    )
    result.measures = [
        Measure(
            "files of one worker in multiprocess mode, kB", 64, 48, max(held, taken) / 1024, ""
        ),
        Measure("allocations per successful call, sync", 5, 4, counts[f"{OURS}, sync"], ""),
        Measure("allocations per successful call, async", 5, 4, counts[f"{OURS}, async"], ""),
        Measure("objects left to the cyclic GC, sync", 0, 0, left[f"{OURS}, sync"], ""),
        Measure("objects left to the cyclic GC, async", 0, 0, left[f"{OURS}, async"], ""),
        Measure(
            "bytes per decorated function, vs tenacity",
            1.0,
            0.7,
            (sizes[OURS] - base) / (sizes[TENACITY] - base),
        ),
    ]
    return result


if __name__ == "__main__":
    main(report, __doc__)
