"""The testing kit and the limits: their time is that of a `FakeClock`, sync and async."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mainstay import (
    Adaptive,
    Bulkhead,
    BulkheadFullError,
    RateLimit,
    RateLimitedError,
    TimedOutError,
    deadline,
    fallback,
    timeout,
)
from mainstay.testing import FakeClock, Faults, RecordedMetrics, no_waits, recorded

KINDS = ("sync", "async")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """What the function is that a policy wraps."""
    return str(request.param)


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """The clock that the test runs on."""
    with FakeClock() as clock:
        yield clock


@pytest.fixture
def metrics() -> Iterator[RecordedMetrics]:
    """What is recorded in the test."""
    with recorded() as metrics:
        yield metrics


def through(policy: Any, faults: Faults, kind: str) -> Callable[..., Any]:
    """Wrap *faults* as a function of that kind; what it gives is called in sync code."""
    if kind == "sync":
        return policy(faults)
    wrapped = policy(faults.acall)
    return lambda *args: asyncio.run(wrapped(*args))


def limited(kind: str, seconds: float) -> Any:
    """What ends a call of that kind at the end of its time."""
    return timeout(seconds, in_thread=kind == "sync", name="fetch")


@pytest.mark.parametrize("step", [Faults.HANG, Faults.delay(60.0, "page")])
def test_a_call_that_hangs_is_ended_by_its_timeout(
    kind: str, step: object, clock: FakeClock, metrics: RecordedMetrics
) -> None:
    faults = Faults([step, "page"])
    fetch = through(limited(kind, 2.0), faults, kind)
    with pytest.raises(TimedOutError):
        fetch("a")
    assert clock.now() == pytest.approx(2.0)
    assert fetch("b") == "page"
    assert faults.calls == [(("a",), {}), (("b",), {})]
    assert metrics.value("calls_total", component="fetch", outcome="timeout") == 1
    assert metrics.value("call_duration_seconds_sum", component="fetch") == pytest.approx(2.0)


def test_a_call_for_which_there_is_no_place_waits_on_the_clock(
    kind: str, clock: FakeClock, metrics: RecordedMetrics
) -> None:
    bulkhead, go = Bulkhead("orders", limit=1, max_wait=30.0), threading.Event()
    inside = threading.Thread(target=bulkhead.call, args=(go.wait,))
    inside.start()
    try:
        while bulkhead.in_flight == 0:
            threading.Event().wait(0.001)
        with pytest.raises(BulkheadFullError):
            through(bulkhead, Faults(then="in"), kind)()
    finally:
        go.set()
        inside.join()
    assert clock.now() == 30.0
    assert metrics.value("give_ups_total", component="orders", reason="wait") == 1
    assert metrics.value("queue_wait_seconds_sum", component="orders", priority="normal") == 30.0


def test_tasks_go_in_as_places_are_given_back(clock: FakeClock, metrics: RecordedMetrics) -> None:
    bulkhead = Bulkhead("orders", limit=2, max_wait=100.0)
    order = bulkhead(Faults(then=Faults.delay(3.0, "done")).acall)

    async def main() -> list[object]:
        return await asyncio.gather(*(order() for _ in range(7)))

    assert asyncio.run(main()) == ["done"] * 7
    assert clock.now() == pytest.approx(12.0)
    assert metrics.value("in_flight_seconds_total", component="orders") == pytest.approx(21.0)


def test_an_adaptive_limit_follows_what_faults_say(kind: str, clock: FakeClock) -> None:
    bulkhead = Bulkhead("orders", limit=Adaptive(overload=ConnectionError))
    order = through(bulkhead, Faults(then=ConnectionError("busy")), kind)
    for _ in range(10):
        with pytest.raises(ConnectionError):
            order()
        clock.advance(1.0)
    assert bulkhead.limit == 1


def test_turns_of_a_rate_limit_come_on_the_clock(kind: str, clock: FakeClock) -> None:
    limit = RateLimit("mail", 10, per=60.0, max_wait=60.0)
    send = through(limit, Faults(then="sent"), kind)
    assert [send() for _ in range(5)] == ["sent"] * 5
    assert clock.now() == pytest.approx(24.0)
    with deadline(1.0), pytest.raises(RateLimitedError):
        send()


def test_without_waits_a_turn_is_had_at_once(kind: str) -> None:
    limit = RateLimit("mail", 1, per=3600.0, max_wait=86_400.0)
    send = through(limit, Faults(then="sent"), kind)
    with no_waits():
        assert [send() for _ in range(5)] == ["sent"] * 5


def test_answers_grow_old_on_the_clock(
    kind: str, clock: FakeClock, metrics: RecordedMetrics
) -> None:
    faults = Faults(["page"], then=ConnectionError("refused"))
    fetch = through(fallback(on=OSError, last_good=60.0, name="fetch"), faults, kind)
    assert fetch() == "page"
    clock.advance(60.0)
    assert fetch() == "page"
    clock.advance(0.1)
    with pytest.raises(ConnectionError):
        fetch()
    assert metrics.value("fallbacks_total", component="fetch", source="last_good") == 1
    assert metrics.value("fallback_age_seconds_sum", component="fetch") == 60.0


def test_time_inside_of_all_limits_is_counted_on_the_clock(
    kind: str, clock: FakeClock, metrics: RecordedMetrics
) -> None:
    bulkhead, rate = Bulkhead("it"), RateLimit("it", 1)
    faults = Faults(then=Faults.delay(5.0, "page"))
    inner = limited(kind, 60.0)(faults if kind == "sync" else faults.acall)
    wrapped = fallback(on=OSError, default="", name="it")(rate(bulkhead(inner)))
    assert (wrapped() if kind == "sync" else asyncio.run(wrapped())) == "page"
    assert clock.now() == 5.0
    for policy in ("bulkhead", "rate_limit", "fallback"):
        labels = {"component": "it", "policy": policy}
        assert metrics.value("call_duration_seconds_sum", **labels) == 5.0
