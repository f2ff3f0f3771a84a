"""What `health` says of pools, breakers and bulkheads, and what `drain` does, on a test's clock."""

import asyncio
import gc
import math
import signal
from datetime import timedelta

import pytest

from mainstay import (
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    Detect,
    FailoverPool,
    Member,
    Probe,
    drain,
    health,
)
from mainstay._core.sharing import reset_all
from mainstay.testing import FakeClock, Faults
from mainstay.types import ComponentHealth
from support.pools import Lost


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch):
    """Know nothing of what other tests have made and left."""
    monkeypatch.setattr("mainstay._core.health._sources", {})
    yield
    reset_all()


def at(seconds):
    return pytest.approx(seconds, rel=0, abs=0.01)


def state_of(name):
    return health()[name].state


def fail(policy, times=1):
    for _ in range(times):
        with pytest.raises(Lost):
            policy.call(Faults(then=Lost))


# Breakers.


def test_a_breaker_is_ok_since_it_was_made(clock, metrics):
    made = clock.wall()
    breaker = CircuitBreaker("mail", on=Lost)
    clock.advance(5)
    assert breaker.call(lambda: 1) == 1
    assert health()["mail"] == ComponentHealth("mail", "breaker", "ok", at(made))
    assert health(ready=("mail",)) is True


def test_an_open_breaker_is_not_ready_until_a_trial_is_due(clock, metrics):
    breaker = CircuitBreaker("mail", on=Lost, detect=Detect(consecutive=2, eject_for=10))
    clock.advance(3)
    fail(breaker, 2)
    opened, until = clock.wall(), breaker.retry_after
    clock.advance(1)
    assert health()["mail"] == ComponentHealth("mail", "breaker", "open", at(opened))
    assert health(ready=("mail",)) is False
    clock.advance(until)
    due = opened + until
    assert health()["mail"] == ComponentHealth("mail", "breaker", "failing", at(due))
    assert health(ready=("mail",)) is True, "or no call would come that is the trial"
    breaker.call(lambda: 1)
    assert state_of("mail") == "ok"


def test_a_breaker_that_was_opened_by_hand_is_not_ready(clock, metrics):
    breaker = CircuitBreaker("mail", on=Lost)
    breaker.open()
    clock.advance(10_000)
    assert state_of("mail") == "open"
    assert health(ready=("mail",)) is False
    breaker.close()
    assert health(ready=("mail",)) is True


def test_a_trial_that_is_under_way_is_failing(clock, metrics):
    breaker = CircuitBreaker("mail", on=Lost, detect=Detect(consecutive=1))
    fail(breaker)
    clock.advance(breaker.retry_after + 2)
    began = clock.wall()
    seen = breaker.call(lambda: health()["mail"])
    assert seen == ComponentHealth("mail", "breaker", "failing", at(began))


# Pools.


def pool_of(*names, **options):
    return FailoverPool(
        "orders-db", [Member(name, name) for name in names], **{"on": Lost, **options}
    )


def call(pool, *bad):
    def use(name):
        if name in bad:
            raise Lost(name)
        return name

    return pool.call(use)


def test_a_pool_without_one_of_its_members_is_failing_and_ready(clock, metrics):
    pool = pool_of("a", "b")
    assert state_of("orders-db") == "ok"
    clock.advance(60)
    for _ in range(4):
        assert call(pool, "a") == "b"
    clock.advance(1)
    since = at(clock.wall() - 1)
    assert health()["orders-db"] == ComponentHealth("orders-db", "failover", "failing", since)
    assert health(ready=["orders-db"]) is True


def bring_down(pool, *names):
    for _ in range(20):
        if pool.status().down:
            return
        with pytest.raises((Lost, ExceptionGroup)):
            call(pool, *names)
    raise AssertionError("it should be down by now")


def test_a_pool_without_a_member_that_is_well_is_down_and_not_ready(clock, metrics):
    pool = pool_of("a", "b")
    bring_down(pool, "a", "b")
    clock.advance(1)
    since = at(clock.wall() - 1)
    assert health()["orders-db"] == ComponentHealth("orders-db", "failover", "down", since)
    assert health(ready=("orders-db",)) is False


@pytest.mark.parametrize("when_all_down", ["least_bad", "raise", "wait"])
def test_a_pool_that_is_down_gets_ready_for_the_call_that_may_bring_it_back(
    clock, metrics, when_all_down
):
    pool = pool_of("a", "b", when_all_down=when_all_down)
    bring_down(pool, "a", "b")
    assert health(ready=("orders-db",)) is False
    clock.advance(5)
    assert state_of("orders-db") == "down"
    assert health(ready=("orders-db",)) is True
    for _ in range(10):
        call(pool)
        clock.advance(5)
    assert state_of("orders-db") == "ok"


def test_one_that_fails_again_is_not_ready_for_a_while(clock, metrics):
    pool = pool_of("a")
    bring_down(pool, "a")
    clock.advance(5)
    with pytest.raises(Lost):
        call(pool, "a")
    assert health(ready=("orders-db",)) is False


def test_a_pool_that_is_down_and_has_a_probe_waits_for_that(clock, metrics):
    pool = pool_of("a", probe=Probe(lambda name: name, every=1000.0))
    bring_down(pool, "a")
    clock.advance(900)
    assert health(ready=("orders-db",)) is False
    pool.close()


def test_a_pool_whose_members_are_all_drained_is_down_until_they_are_back(clock, metrics):
    pool = pool_of("a")
    call(pool)
    pool.drain("a")
    clock.advance(1000)
    assert state_of("orders-db") == "down"
    assert health(ready=("orders-db",)) is False


def test_a_pool_that_was_reset_is_ok(clock, metrics):
    pool = pool_of("a")
    bring_down(pool, "a")
    pool.reset()
    assert state_of("orders-db") == "ok"


# Bulkheads.


def turn_away(bulkhead):
    with pytest.raises(BulkheadFullError):
        bulkhead.call(lambda: 1)


def test_a_bulkhead_is_full_once_it_has_turned_calls_away_for_ten_seconds(clock, metrics):
    bulkhead = Bulkhead("orders", limit=1)
    began = clock.wall()
    for seconds in range(10):
        with bulkhead:
            turn_away(bulkhead)
            assert state_of("orders") == "ok", seconds
        clock.advance(1)
    with bulkhead:
        turn_away(bulkhead)
        assert health()["orders"] == ComponentHealth("orders", "bulkhead", "full", at(began))
        assert health(ready=("orders",)) is False
    assert state_of("orders") == "ok", "a place is free now"
    assert health()["orders"].since == at(clock.wall())


def test_a_bulkhead_whose_calls_hang_stays_full_when_no_more_come(clock, metrics):
    bulkhead = Bulkhead("orders", limit=1)
    with bulkhead:
        turn_away(bulkhead)
        for _ in range(6):  # what asks for readiness every ten seconds
            clock.advance(10)
            assert health(ready=("orders",)) is False
    assert health(ready=("orders",)) is True


def test_bursts_apart_from_each_other_are_not_full(clock, metrics):
    bulkhead = Bulkhead("orders", limit=1)
    for _ in range(5):
        with bulkhead:
            turn_away(bulkhead)
            assert state_of("orders") == "ok"
        clock.advance(20)


def test_calls_that_wait_for_a_place_were_turned_away(clock, metrics):
    bulkhead = Bulkhead("orders", limit=1, max_wait=20.0)

    async def holds(seconds):
        await clock.asleep(seconds)

    async def main():
        states = []
        async with bulkhead:
            for _ in range(2):
                with pytest.raises(BulkheadFullError):
                    await asyncio.create_task(bulkhead.call(holds, 0))
                clock.advance(1)
            states.append(state_of("orders"))
        return states

    assert asyncio.run(main()) == ["full"]


def test_a_bulkhead_that_was_reset_is_ok(clock, metrics):
    bulkhead = Bulkhead("orders", limit=1)
    with bulkhead:
        turn_away(bulkhead)
        clock.advance(11)
        bulkhead.reset()
        assert state_of("orders") == "ok"


# All of them.


def test_of_several_with_one_name_the_worst_speaks_and_all_have_to_be_ready(clock, metrics):
    pool, breaker = pool_of("a", "b"), CircuitBreaker("orders-db", on=Lost)
    for _ in range(4):
        call(pool, "a")
    assert health()["orders-db"].policy == "failover"
    breaker.open()
    clock.advance(1)
    assert (health()["orders-db"].policy, state_of("orders-db")) == ("breaker", "open")
    assert health(ready=("orders-db",)) is False


def test_a_name_that_nobody_has_made_is_not_ready(clock, metrics):
    kept = Bulkhead("orders")
    assert health(ready=("orders", "orders-db")) is False
    assert health(ready=()) is True
    del kept
    gc.collect()
    assert health(ready=("orders",)) is False
    assert "orders" not in health()


def test_only_what_is_named_has_to_be_ready(clock, metrics):
    breaker, bulkhead = CircuitBreaker("mail", on=Lost), Bulkhead("orders")
    breaker.open()
    assert health(ready=("orders",)) is True
    assert [*health()] == sorted(health())
    assert bulkhead.name in health()


@pytest.mark.parametrize(
    ("ready", "error", "says"),
    [
        ("orders", TypeError, "`ready` must hold names of components, as .* not 'orders'"),
        (5, TypeError, "`ready` must hold names of components, as .* not 5"),
        ([5], TypeError, "`ready` must hold names of components, not 5"),
        ([""], ValueError, "`ready` must hold names that are not empty, not ''"),
    ],
)
def test_nonsense_is_refused(ready, error, says):
    with pytest.raises(error, match=says):
        health(ready=ready)


def test_since_is_wall_time(metrics):
    with FakeClock() as outer:
        breaker = CircuitBreaker("mail", on=Lost)
        before = outer.wall()
    assert health()["mail"].since == pytest.approx(before, rel=0, abs=60)
    assert breaker.name == "mail"


# Draining.


def test_a_process_that_drains_is_not_ready(clock, metrics):
    bulkhead = Bulkhead("orders")
    drain(15)
    assert health(ready=()) is False
    assert health(ready=("orders",)) is False
    assert state_of("orders") == "ok"
    assert bulkhead.call(lambda: 1) == 1, "only middlewares refuse"
    reset_all()
    assert health(ready=("orders",)) is True


def test_draining_works_in_a_signal_handler(metrics):
    before = signal.signal(signal.SIGUSR1, lambda number, frame: drain(timedelta(seconds=15)))
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert health(ready=()) is False
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(seconds):
    with pytest.raises(ValueError, match="`seconds` must be finite and at least 0"):
        drain(seconds)
    assert health(ready=()) is True


def test_what_is_no_time_is_refused():
    with pytest.raises(TypeError, match="`seconds` must be"):
        drain("soon")
