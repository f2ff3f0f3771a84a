"""What does a call through a failover pool cost, and a rejection; does a pick cost more among more?

LIMIT is a loop by hand that records (`peers.by_hand`) and knows one resource only. No general
failover pool exists to compare with; `grey_failure.py` compares what pools decide.
"""

import contextlib
import threading
import time
from collections.abc import Callable

import harness
import mainstay
import peers
from harness import Measure, Report, async_loop_over, loop_over, main, ratio, times_of
from peers import LIMIT, OURS

SELECTS = ("priority", "round_robin", "weighted", "least_latency")
THREADS = 8


def pool(count: int, select: str = "priority", **options: object) -> mainstay.FailoverPool:
    """Make a pool of healthy members whose resources are small integers."""
    members = [mainstay.Member(f"m{i}", i) for i in range(count)]
    options = {
        "on": ConnectionError,
        "select": select,
        "metrics": mainstay.Metrics(None),
        **options,
    }
    return mainstay.FailoverPool("benchmark", members, **options)


def decorated(count: int, select: str = "priority") -> Callable[[int], int]:
    """Make a decorated function that answers at once."""

    def job(_resource: int, x: int) -> int:
        return x

    call = mainstay.failover(pool(count, select))(job)
    for _ in range(2 * count):  # each member's counters are made at its first call
        call(1)
    return call


def picking(count: int, select: str) -> Callable[[int], object]:
    """Make a function that picks the session of the next call and does nothing with it."""
    members = pool(count, select)
    members.call(lambda _resource: None)
    pick = members._engine.rotation.pick  # noqa: SLF001 - the part of a call that is measured here
    return lambda _x: pick()


def adecorated(count: int, select: str = "priority") -> Callable:
    """Make a decorated coroutine function that answers at once."""

    async def job(_resource: int, x: int) -> int:
        return x

    return mainstay.failover(pool(count, select))(job)


def rejecting(count: int) -> Callable[[int], None]:
    """Make a function that calls a pool which is all down, and rejects its calls."""
    detect = mainstay.Detect(consecutive=1, eject_for=86_400.0, max_eject=86_400.0)
    members = pool(count, when_all_down="raise", detect=detect)

    def job(resource: int, _x: int) -> None:
        raise ConnectionError(resource)

    call = mainstay.failover(members)(job)
    with contextlib.suppress(ConnectionError):
        call(1)  # at all members, which are ejected

    def rejected(x: int) -> None:
        try:  # noqa: SIM105 - suppress() costs a part of what is measured
            call(x)
        except mainstay.MainstayError:
            pass

    return rejected


def block(count: int) -> Callable[[int], int]:
    """Make a function with a block that fails over in it."""
    members = pool(count)

    def call(x: int) -> int:
        for attempt in members:
            with attempt:
                return x

    return call


def lease(count: int) -> Callable[[int], int]:
    """Make a function with a lease in it."""
    members = pool(count)

    def call(x: int) -> int:
        with members.lease():
            return x

    return call


def blocking_rate(wrap: Callable[[Callable], Callable], *, calls: int) -> float:
    """Give calls per second of threads whose calls sleep for 10 ms."""
    call = wrap(lambda *_args: time.sleep(0.01))
    threads = [
        threading.Thread(target=lambda: [call() for _ in range(calls)]) for _ in range(THREADS)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return THREADS * calls / (time.perf_counter() - started)


def report(*, quick: bool = False) -> Report:
    """Time everything."""
    rounds = harness.QUICK_ROUNDS if quick else harness.ROUNDS
    result = Report()
    cases = {LIMIT: peers.by_hand(peers.job), OURS: decorated(3)}
    cases |= {f"{OURS}, {select}": decorated(3, select) for select in SELECTS[1:]}
    cases |= {f"{OURS}, lease": lease(3), f"{OURS}, block": block(3)}
    times = times_of({name: loop_over(call) for name, call in cases.items()}, rounds=rounds)
    result.times("Success, sync, 3 members", times, LIMIT)
    goal = Measure(
        "success path of @failover with metrics vs LIMIT", 0.9, 0.6, ratio(times, OURS, LIMIT)
    )
    result.measures.append(goal)
    acases = {LIMIT: peers.by_hand_async(peers.ajob), OURS: adecorated(3)}
    times = times_of({name: async_loop_over(call) for name, call in acases.items()}, rounds=rounds)
    result.times("Success, async, 3 members", times, LIMIT)
    result.measures.append(Measure("the same, async", 0.9, 0.6, ratio(times, OURS, LIMIT)))
    down = {LIMIT: peers.by_hand(peers.job), OURS: rejecting(3)}
    times = times_of({name: loop_over(call) for name, call in down.items()}, rounds=rounds)
    result.times("All 3 members down, a rejection (the line in the log included)", times, LIMIT)
    text = 'a rejection of 3 members that are down, `when_all_down="raise"`, in LIMITs'
    result.measures.append(Measure(text, 25, 12, ratio(times, OURS, LIMIT)))
    counts = {f"{select}, {n}": picking(n, select) for select in SELECTS for n in (3, 1000)}
    times = times_of({name: loop_over(call) for name, call in counts.items()}, rounds=rounds)
    result.times("A pick, in a function of its own, by the number of members", times)
    for select in SELECTS:
        grown = ratio(times, f"{select}, 1000", f"{select}, 3")
        result.measures.append(Measure(f"pick among 1000 / among 3, {select}", 1.3, 1.1, grown))
    calls = 3 if quick else 25
    runs = {"bare": lambda fn: fn, OURS: mainstay.failover(pool(3))}
    rates = {
        name: max(blocking_rate(wrap, calls=calls) for _ in range(3)) for name, wrap in runs.items()
    }
    result.table(
        f"{THREADS} threads that wait 10 ms in each call",
        ["case", "calls/s", "vs bare"],
        [[name, f"{rate:,.0f}", f"{rate / rates['bare']:.3f}x"] for name, rate in rates.items()],
    )
    result.measures.append(
        Measure(
            f"{THREADS} threads of blocking calls through a pool vs bare",
            0.97,
            0.99,
            rates[OURS] / rates["bare"],
            more_is_better=True,
        )
    )
    return result


if __name__ == "__main__":
    main(report, __doc__)
