"""What redundant calls cost, and what they gain: overhead, tail, brownout, queues, memory.

The experiments after the overhead run in virtual time: on an event loop whose clock jumps to the
next thing to happen, with the library itself in it. Latencies are lognormal with a median of 10 ms
and a sigma of 0.5; a slow call takes ten times as long.
"""

import asyncio
import contextlib
import gc
import os
import random
import selectors
import statistics
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio

from harness import (
    QUICK_ROUNDS,
    ROUNDS,
    Measure,
    Report,
    async_loop_over,
    loop_over,
    main,
    ratio,
    times_of,
)
from mainstay import Metrics, hedge, redundant
from mainstay._core import context

LONG = 30.0  # seconds that no call here takes
SLOW = 0.01  # the share of slow calls


async def turn(x: int) -> int:
    """Take one turn of the event loop."""
    await asyncio.sleep(0)
    return x


def warm_hedge(fn: Callable, **parameters: object) -> Callable:
    """Hedge *fn* at a quantile that is known already and never reached."""
    start = hedge.quantile(0.95, at_least=LONG)
    call = redundant(start=start, metrics=Metrics(None), **parameters)(fn)
    for _ in range(200):
        asyncio.run(call(1)) if asyncio.iscoroutinefunction(fn) else call(1)
    return call


async def wait_recipe(x: int) -> int:
    """Hedge by hand: wait for a task, at most so long."""
    task = asyncio.ensure_future(turn(x))
    await asyncio.wait([task], timeout=LONG)
    return task.result()


async def wait_race(x: int) -> int:
    """Race by hand."""
    tasks = [asyncio.ensure_future(turn(x)) for _ in range(2)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return done.pop().result()


async def anyio_race(x: int) -> int:
    """Race in a task group of anyio."""
    results = []

    async def copy() -> None:
        results.append(await turn(x))
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(copy)
        group.start_soon(copy)
    return results[0]


@contextlib.contextmanager
def on_one_processor() -> Iterator[None]:
    """Keep this thread, and those that it starts, on one processor.

    To wake a thread on another one takes ten times as long on some machines, and the scheduler
    decides for each pair of threads where they are.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def overhead(report: Report, *, rounds: int) -> None:
    """Measure calls that are not hedged, and races, against recipes."""
    race = redundant(start=hedge.together(), metrics=Metrics(None))
    in_tasks = redundant(start=hedge.together(), primary="task", metrics=Metrics(None))
    cases = {
        "bare await": turn,
        "mainstay hedge, not fired": warm_hedge(turn),
        'mainstay hedge, primary="task"': warm_hedge(turn, primary="task"),
        "asyncio.wait recipe of a hedge": wait_recipe,
        "mainstay race of two": race(turn),
        'mainstay race of two, primary="task"': in_tasks(turn),
        "asyncio.wait recipe of a race": wait_race,
        "anyio task group": anyio_race,
    }
    loops = {name: async_loop_over(call) for name, call in cases.items()}
    times = times_of(loops, rounds=rounds, sample_seconds=0.01)
    report.times("Async, one turn of the event loop", times, "bare await")
    hedged = ratio(times, "mainstay hedge, not fired", "bare await")
    raced = ratio(times, "mainstay race of two", "bare await")
    report.measures += [
        Measure("async hedge that does not fire vs a bare await of one turn", 3, 2, hedged),
        Measure("async race of two vs a bare await of one turn", 9, 8, raced),
    ]
    executor = ThreadPoolExecutor(4)

    def plain(x: int) -> int:
        return x

    with on_one_processor():
        sync = {
            "submit + result": lambda x: executor.submit(plain, x).result(),
            "mainstay hedge, not fired": warm_hedge(plain),
        }
        sync["submit + result"](1)
        loops = {name: loop_over(call) for name, call in sync.items()}
        times = times_of(loops, rounds=rounds, sample_seconds=0.02)
        executor.shutdown()
    report.times("Sync, in threads on one processor", times, "submit + result")
    value = ratio(times, "mainstay hedge, not fired", "submit + result")
    text = "sync hedge that does not fire vs submit + result on a warm executor"
    report.measures.append(Measure(text, 1.2, 0.9, value))


class JumpingSelector(selectors.DefaultSelector):
    """Waits for no time at all, and says how long it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list:
        """Jump to the end of the wait."""
        self.now += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which is also a clock for mainstay."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Give the virtual time."""
        return self._jumping.now

    now = time

    async def asleep(self, seconds: float) -> None:
        """Sleep in virtual time."""
        await asyncio.sleep(seconds)


def in_virtual_time(experiment: Callable[[], Awaitable]) -> Any:
    """Run an experiment with nothing real in it."""
    loop = VirtualLoop()

    async def run() -> Any:
        context.enter([], context.ClockEntry(loop, lambda loop, _around: loop))
        return await experiment()

    try:
        return loop.run_until_complete(run())
    finally:
        loop.close()


async def open_loop(call: Callable, calls: int, rate: float, arrivals: random.Random) -> list:
    """Make calls at random times, *rate* a second; give the seconds that each took."""
    loop = asyncio.get_running_loop()
    took = []

    async def one() -> None:
        began = loop.time()
        await call()
        took.append(loop.time() - began)

    tasks = set()
    for _ in range(calls):
        task = asyncio.ensure_future(one())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.sleep(arrivals.expovariate(rate))
    await asyncio.gather(*tasks)
    return took


def quantile(seconds: list, q: float) -> float:
    """Give a quantile in milliseconds."""
    return sorted(seconds)[int(q * len(seconds))] * 1e3


def tail(start: hedge.Start | None, budget: float, calls: int) -> tuple[list, float]:
    """Hedge calls of which one in a hundred is slow; give their durations and the extra load."""
    numbers, made = random.Random(1), 0

    async def fetch() -> None:
        nonlocal made
        made += 1
        slow = 10 if numbers.random() < SLOW else 1
        await asyncio.sleep(numbers.lognormvariate(-4.605, 0.5) * slow)

    policy = redundant(start=start, budget=budget, metrics=Metrics(None))
    call = fetch if start is None else policy(fetch)
    took = in_virtual_time(lambda: open_loop(call, calls, 200.0, random.Random(2)))
    return took, made / calls - 1


def cost_table(report: Report, calls: int) -> None:
    """Measure what each delay costs and gains."""
    rows, found = [], {}
    starts = {("no hedging", 0.0): None}
    starts |= {
        (f"quantile({q})", budget): hedge.quantile(q)
        for q, budget in ((0.9, 0.2), (0.95, 0.1), (0.95, 0.05), (0.99, 0.05))
    }
    starts["together()", 0.0] = hedge.together()
    for (name, budget), start in starts.items():
        took, extra = tail(start, budget, calls)
        found[name, budget] = took, extra
        figures = [f"{quantile(took, q):.1f}" for q in (0.5, 0.95, 0.99, 0.999)]
        rows.append([name, f"{budget:g}" if budget else "-", f"{extra:.1%}", *figures])
    title = f"Tail: 1 % of calls 10x slower, {calls:,} calls; times in ms"
    report.table(title, ["start", "budget", "extra load", "p50", "p95", "p99", "p99.9"], rows)
    without = quantile(found["no hedging", 0.0][0], 0.999)
    for budget in (0.1, 0.05):
        took, extra = found["quantile(0.95)", budget]
        text = f"tail: p99.9 without / with a hedge at p95 and a budget of {budget:.0%}"
        gain = without / quantile(took, 0.999)
        report.measures += [
            Measure(text, 4, 5, gain, more_is_better=True),
            Measure("tail: extra load of that", 5.5, 5, extra * 100, unit=" %"),
        ]


def extra_in_brownout(rate: float, seconds: float) -> float:
    """Give the extra load while all calls are slow but succeed."""
    numbers, made, scale = random.Random(3), 0, 1

    async def fetch() -> None:
        nonlocal made
        made += 1
        await asyncio.sleep(numbers.lognormvariate(-4.605, 0.5) * scale)

    call = redundant(start=hedge.quantile(0.95), metrics=Metrics(None))(fetch)

    async def experiment() -> float:
        nonlocal made, scale
        await open_loop(call, max(200, int(rate * 20)), rate, random.Random(4))
        made, scale = 0, 10
        calls = int(rate * seconds)
        await open_loop(call, calls, rate, random.Random(5))
        return made / calls - 1

    return in_virtual_time(experiment)


def brownout(report: Report, seconds: float, rates: tuple[float, ...]) -> None:
    """Measure brownouts at several rates."""
    rows = []
    for rate in rates:
        extra = extra_in_brownout(rate, seconds)
        rows.append([f"{rate:g}", f"{extra:.2%}"])
        text = f"brownout at {rate:g} calls/s: extra load"
        report.measures.append(Measure(text, 6, 5, extra * 100, unit=" %"))
    report.table(f"Brownout: {seconds:g} s of calls 10x slower", ["calls/s", "extra load"], rows)


class Server:
    """One worker with a queue. Who gives up in the queue is dropped; work under way goes on."""

    def __init__(self) -> None:
        self.queue: deque = deque()
        self.busy = False

    async def serve(self, seconds: float) -> None:
        """Wait in the queue, and then for the work."""
        done = asyncio.get_running_loop().create_future()
        self.queue.append((seconds, done))
        if not self.busy:
            self.next()
        await done

    def next(self) -> None:
        """Begin the next piece of work that somebody waits for."""
        self.busy = False
        while self.queue and not self.busy:
            seconds, done = self.queue.popleft()
            if not done.cancelled():
                self.busy = True
                asyncio.get_running_loop().call_later(seconds, self.end, done)

    def end(self, done: asyncio.Future) -> None:
        """End a piece of work."""
        if not done.cancelled():
            done.set_result(None)
        self.next()


def queues(report: Report, calls: int, load: float) -> None:
    """Measure hedging of ten servers with queues, where each extra call makes others wait."""
    mean = 0.0124  # seconds, of the latencies here with 1 % ten times slower

    def run(*, hedged: bool) -> list:
        numbers = random.Random(6)
        servers = [Server() for _ in range(10)]

        async def fetch() -> None:
            slow = 10 if numbers.random() < SLOW else 1
            await numbers.choice(servers).serve(numbers.lognormvariate(-4.605, 0.5) * slow)

        policy = redundant(start=hedge.quantile(0.95), metrics=Metrics(None))
        call = policy(fetch) if hedged else fetch
        rate = 10 * load / mean
        return in_virtual_time(lambda: open_loop(call, calls, rate, random.Random(7)))

    without, with_ = run(hedged=False), run(hedged=True)
    rows = [
        [name, *(f"{quantile(took, q):.1f}" for q in (0.5, 0.95, 0.99, 0.999))]
        for name, took in {"no hedging": without, "quantile(0.95)": with_}.items()
    ]
    title = f"Ten servers with queues at {load:.0%} load, {calls:,} calls; times in ms"
    report.table(title, ["start", "p50", "p95", "p99", "p99.9"], rows)
    p50 = statistics.median(with_) / statistics.median(without)
    text = "open-loop queue at 85 % load: p50 with / without hedging"
    report.measures.append(Measure(text, 1.1, 1.0, p50))


def resident() -> int:
    """Give the memory that this process takes, in pages."""
    return int(Path("/proc/self/statm").read_text().split()[1])


def memory(report: Report, few: int, many: int) -> None:
    """Measure what calls leave behind."""
    call = redundant(start=hedge.quantile(0.95, at_least=LONG), metrics=Metrics(None))(turn)

    async def calls(count: int) -> None:
        for _ in range(count):
            await call(1)

    sizes = []
    for count in (few, many - few):
        asyncio.run(calls(count))
        gc.collect()
        sizes.append(resident())
    growth = (sizes[1] / sizes[0] - 1) * 100
    text = f"memory of the process after {many:,} calls vs after {few:,}"
    report.measures.append(Measure(text, 1, 0, growth, unit=" %"))


def run(*, quick: bool) -> Report:
    """Do all of it."""
    report = Report()
    overhead(report, rounds=QUICK_ROUNDS if quick else ROUNDS)
    cost_table(report, 1_000 if quick else 40_000)
    brownout(report, 2.0 if quick else 60.0, (5, 50) if quick else (5, 50, 1000))
    queues(report, 1_000 if quick else 60_000, 0.85)
    memory(report, 1_000 if quick else 10_000, 2_000 if quick else 1_000_000)
    return report


if __name__ == "__main__":
    main(run, __doc__.splitlines()[0])
