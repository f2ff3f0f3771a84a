"""What does a circuit breaker cost, closed and open, beside pybreaker and circuitbreaker?

Ours records its metrics, exactly; the two others record none. LIMIT is a loop by hand that
records (`peers.by_hand`) and has no breaker at all. An open breaker's time is that of raising and
catching its error.
"""

import threading
import time
from collections.abc import Callable

import circuitbreaker
import pybreaker

import harness
import mainstay
import peers
from harness import Measure, Report, async_loop_over, loop_over, main, ratio, times_of
from peers import LIMIT, OURS

THREADS = 8


class LostError(Exception):
    """What opens the breakers."""


def job() -> Callable[[int], int]:
    """Make a function that answers at once."""

    def answer(x: int) -> int:
        return x

    return answer


def async_job() -> Callable:
    """Make a coroutine function that answers at once."""

    async def answer(x: int) -> int:
        return x

    return answer


def ours() -> mainstay.CircuitBreaker:
    """Make one of ours."""
    return mainstay.CircuitBreaker("benchmark", on=LostError, metrics=peers.METRICS)


def opened() -> dict[str, Callable]:
    """List functions behind open breakers, each with the `except` that its caller needs."""

    def fail(_x: int) -> None:
        raise LostError

    breaker = ours()
    wrapped = {
        "pybreaker": pybreaker.CircuitBreaker(fail_max=4, reset_timeout=3600)(fail),
        "circuitbreaker": circuitbreaker.circuit(
            failure_threshold=4, recovery_timeout=3600, expected_exception=LostError
        )(fail),
        OURS: breaker(fail),
    }
    breaker.open()
    callers = {}
    for name, call in wrapped.items():
        callers[name] = catching(call)
        for _ in range(4):
            callers[name](1)
    return callers


def catching(call: Callable) -> Callable[[int], None]:
    """Make a caller that catches what *call* raises."""

    def caught(x: int) -> None:
        try:
            call(x)
        except Exception:  # noqa: BLE001 - each library has an error of its own
            return

    return caught


def side_by_side(wrap: Callable[[Callable], Callable], *, calls: int) -> float:
    """Give calls per second of threads whose calls sleep for 10 ms."""
    call = wrap(lambda _x: time.sleep(0.01))
    threads = [
        threading.Thread(target=lambda: [call(i) for i in range(calls)]) for _ in range(THREADS)
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
    closed = {
        "bare call": job(),
        LIMIT: peers.by_hand(job()),
        "pybreaker": pybreaker.CircuitBreaker()(job()),
        "circuitbreaker": circuitbreaker.circuit(expected_exception=LostError)(job()),
        OURS: ours()(job()),
    }
    times = times_of({name: loop_over(call) for name, call in closed.items()}, rounds=rounds)
    result.times("Closed, sync", times, LIMIT, "circuitbreaker")
    result.measures.append(
        Measure("closed breaker with metrics vs LIMIT", 0.55, 0.4, ratio(times, OURS, LIMIT))
    )
    aclosed = {
        LIMIT: peers.by_hand_async(async_job()),
        "circuitbreaker": circuitbreaker.circuit(expected_exception=LostError)(async_job()),
        OURS: ours()(async_job()),
    }
    times = times_of({name: async_loop_over(c) for name, c in aclosed.items()}, rounds=rounds)
    result.times("Closed, async", times, LIMIT, "circuitbreaker")
    result.measures.append(Measure("the same, async", 0.55, 0.4, ratio(times, OURS, LIMIT)))
    times = times_of({name: loop_over(call) for name, call in opened().items()}, rounds=rounds)
    result.times("Open: the call is rejected", times, "circuitbreaker", "pybreaker")
    result.measures.append(
        Measure(
            "open breaker's rejection vs circuitbreaker's",
            0.8,
            0.5,
            ratio(times, OURS, "circuitbreaker"),
        )
    )
    calls = 3 if quick else 25
    runs = {"bare": lambda fn: fn, "pybreaker": pybreaker.CircuitBreaker(), OURS: ours()}
    rates = {
        name: max(side_by_side(wrap, calls=calls) for _ in range(3)) for name, wrap in runs.items()
    }
    result.table(
        f"{THREADS} threads that wait 10 ms in each call",
        ["case", "calls/s", "vs bare"],
        [[name, f"{rate:,.0f}", f"{rate / rates['bare']:.3f}x"] for name, rate in rates.items()],
    )
    result.measures.append(
        Measure(
            f"{THREADS} threads of blocking calls through a breaker vs bare",
            0.97,
            0.99,
            rates[OURS] / rates["bare"],
            more_is_better=True,
        )
    )
    return result


if __name__ == "__main__":
    main(report, __doc__)
