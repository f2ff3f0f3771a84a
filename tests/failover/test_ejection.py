"""Members that fail are ejected, tried, and come back; and what calls do while none is well."""

import asyncio
import random
import threading
import time

import pytest

from mainstay import (
    AllMembersFailedError,
    Detect,
    Failback,
    FailoverPool,
    Member,
    deadline,
    failover,
    retry,
)
from mainstay.errors import NoMemberError
from support.pools import AT_ONCE, Elsewhere, Lost, state_of, wait_until


def test_four_failures_in_a_row_eject_a_member(pool_caller, servers, metrics, clock):
    servers.broken["a"] = Lost
    pool = servers.pool("a", "b")
    for _ in range(6):
        assert pool_caller(pool, servers.use) == ("b",)
    assert servers.calls == ["a", "b"] * 4 + ["b", "b"]
    assert metrics.states_of("a") == ["ejected"]
    assert metrics("ejections_total", member="a", cause="consecutive") == 1
    assert metrics("failovers_total", from_member="a", to_member="b", reason="ejected") == 1
    assert metrics("time_to_detect_seconds_count") == 1


def test_a_single_trial_finds_that_a_member_is_well(pool_caller, servers, metrics, clock):
    servers.broken["a"] = Lost
    pool = servers.pool("a", "b", failback=AT_ONCE)
    for _ in range(4):
        pool_caller(pool, servers.use)
    clock.advance(5.0)
    assert pool_caller(pool, servers.use) == ("b",)
    assert metrics.attempts_at("a") == {"error": 5}
    servers.broken.clear()
    clock.advance(10.0)
    assert pool_caller(pool, servers.use) == ("a",)
    assert pool_caller(pool, servers.use) == ("a",)
    assert metrics("failovers_total", from_member="b", to_member="a", reason="failback") == 1
    assert metrics("time_to_recover_seconds_sum") == 15.0
    assert metrics("ejections_total") == 1


def test_as_many_trials_as_asked_for_put_a_member_back(pool_caller, servers, metrics, clock):
    pool = servers.pool("a", "b", detect=Detect(trials=2), failback=AT_ONCE)
    servers.broken["a"] = Lost
    for _ in range(4):
        pool_caller(pool, servers.use)
    servers.broken.clear()
    clock.advance(5.0)
    assert pool_caller(pool, servers.use) == ("a",)
    assert metrics.states_of("a") == ["ejected"]
    assert pool_caller(pool, servers.use) == ("a",)
    assert metrics.states_of("a") == ["active"]


def test_a_member_in_trial_gets_one_call_at_a_time(servers, metrics, clock):
    pool = servers.pool("a", "b")
    servers.broken["a"] = Lost
    for _ in range(4):
        pool.call(servers.use)
    clock.advance(5.0)
    with pool.lease() as trial:
        assert trial == "a"
        assert metrics.states_of("a") == ["trial"]
        assert [pool.call(servers.use) for _ in range(5)] == [("b",)] * 5


def test_a_hung_trial_does_not_wedge_the_pool(servers, clock):
    """Known fault P5: a trial whose call never ends frees its place when its lease is over."""
    pool = servers.pool("a", "b", failback=AT_ONCE)
    servers.broken["a"] = Lost
    for _ in range(4):
        pool.call(servers.use)
    servers.broken.clear()
    clock.advance(5.0)
    hung = Elsewhere(pool.lease())
    clock.advance(5.0)
    assert pool.call(servers.use) == ("b",)
    clock.advance(10.0)
    assert pool.call(servers.use) == ("a",)
    hung.end(Lost())
    assert pool.call(servers.use) == ("a",)


def test_a_cancelled_trial_is_neither_success_nor_failure_and_frees_its_place(servers, clock):
    """Known faults P2 and P3: other breakers count an interruption, or wedge."""
    pool = servers.pool("a", "b")
    servers.broken["a"] = Lost
    for _ in range(4):
        pool.call(servers.use)
    clock.advance(5.0)
    servers.broken["a"] = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        pool.call(servers.use)
    assert pool.status().members[0].state == "ejected"
    servers.broken.clear()
    assert pool.call(servers.use) == ("a",)


def test_failures_on_their_way_when_a_member_is_ejected_are_one_strike(servers, metrics, clock):
    """Known fault 5: elastic-transport counts ten, and its backoff is at its longest at once."""
    pool = servers.pool("a", "b")
    leases = [Elsewhere(pool.lease()) for _ in range(10)]
    for lease in leases:
        lease.end(Lost())
    assert pool.status().members[0].seconds <= 5.0
    assert metrics("ejections_total") == 1
    clock.advance(5.0)
    servers.broken["a"] = Lost
    pool.call(servers.use)
    assert 5.0 <= pool.status().members[0].seconds <= 10.0  # the second strike


def test_an_answer_from_before_the_ejection_changes_nothing(servers, clock):
    """Known fault 4: circuitbreaker closes on a late success; a late failure must not lengthen."""
    pool = servers.pool("a", "b")
    early, late = Elsewhere(pool.lease()), Elsewhere(pool.lease())
    servers.broken["a"] = Lost
    for _ in range(4):
        pool.call(servers.use)
    before = pool.status().members[0]
    early.end()
    late.end(Lost())
    after = pool.status().members[0]
    assert (after.state, after.seconds, after.score) == (before.state, before.seconds, 1.0)


def test_a_readmitted_member_gets_a_growing_share(servers, clock, monkeypatch):
    """Known fault 1: elastic-transport gives it a quarter of all calls at once. 3: redis-py
    ignores its grace.
    """
    monkeypatch.setattr("mainstay._failover.engine.chance", random.Random(7).random)
    pool = servers.pool("a", "b", failback=Failback(grace=10.0, ramp=100.0, jitter=0.0))
    servers.broken["a"] = Lost
    for _ in range(4):
        pool.call(servers.use)
    servers.broken.clear()
    clock.advance(5.0)
    assert pool.call(servers.use) == ("a",)
    assert {pool.call(servers.use)[0] for _ in range(50)} == {"b"}
    shares = []
    clock.advance(10.0)
    for _ in range(4):
        clock.advance(20.0)
        picked = [pool.call(servers.use)[0] for _ in range(500)]
        shares.append(picked.count("a") / 500)
    assert all(abs(share - want) < 0.07
               for share, want in zip(shares, [0.2, 0.4, 0.6, 0.8], strict=True))  # fmt: skip
    clock.advance(20.0)
    assert {pool.call(servers.use)[0] for _ in range(50)} == {"a"}


def test_manual_failback_waits_for_release(servers, metrics, clock):
    pool = servers.pool("a", "b", failback=Failback("manual"))
    servers.broken["a"] = Lost
    for _ in range(4):
        pool.call(servers.use)
    servers.broken.clear()
    clock.advance(5.0)
    pool.call(servers.use)
    clock.advance(100_000.0)
    assert pool.call(servers.use) == ("b",)
    pool.release()
    assert pool.call(servers.use) == ("a",)


def test_the_jitter_keeps_pools_from_coming_back_at_the_same_time(servers, clock):
    """Known fault 1: LiteLLM and redis-py wait for a fixed time."""
    ends = set()
    for _ in range(20):
        pool = servers.pool("a", "b")
        servers.broken = {"a": Lost}
        for _ in range(4):
            pool.call(servers.use)
        ends.add(round(pool.status().members[0].seconds, 6))
    assert len(ends) == 20
    assert max(ends) <= 5.0
    assert min(ends) >= 2.5


def test_the_last_member_is_not_ejected_and_serves_on_as_failing(
    pool_caller, servers, metrics, clock
):
    servers.broken = {"a": Lost}
    pool = servers.pool("a")
    for _ in range(10):
        with pytest.raises(Lost):
            pool_caller(pool, servers.use)
    assert servers.calls == ["a"] * 10
    assert metrics.states_of("a") == ["failing"]
    assert pool.status().down
    servers.broken.clear()
    for _ in range(4):
        assert pool_caller(pool, servers.use) == ("a",)
    assert metrics.states_of("a") == ["active"]
    assert not pool.status().down


def test_a_failing_member_is_ejected_once_another_one_is_well(servers, metrics, clock):
    pool = servers.pool("a", "b", failback=AT_ONCE)
    servers.broken = {"a": Lost, "b": Lost}
    for _ in range(8):
        with pytest.raises((Lost, AllMembersFailedError)):
            pool.call(servers.use)
    assert sorted(metrics.states_of("a") + metrics.states_of("b")) == ["ejected", "failing"]
    del servers.broken["a"]
    clock.advance(300.0)
    assert pool.call(servers.use) == ("a",)
    pool.force("b")
    with pytest.raises(Lost):
        pool.call(servers.use)
    pool.release()
    assert [pool.call(servers.use) for _ in range(3)] == [("a",)] * 3


def test_when_all_are_down_raise_rejects_at_once_with_the_time_of_the_next_trial(
    pool_caller, servers, metrics, clock
):
    """Known fault 2: LiteLLM says "no deployments available", and of the fallback only."""
    servers.broken = {"a": Lost, "b": Lost}
    pool = servers.pool("a", "b", when_all_down="raise")
    for _ in range(4):
        with pytest.raises((Lost, AllMembersFailedError)):
            pool_caller(pool, servers.use)
    servers.calls.clear()
    with pytest.raises(NoMemberError) as caught:
        pool_caller(pool, servers.use)
    assert servers.calls == []
    assert 0 < caught.value.retry_after <= 5.0
    assert metrics.outcomes()["rejected"] == 1
    assert metrics("call_duration_seconds_count") == 4


def test_when_all_are_down_wait_waits_for_the_next_trial(pool_caller, servers, metrics, clock):
    """Known fault 2: LiteLLM knows when that will be, and fails."""
    servers.broken = {"a": Lost, "b": Lost}
    pool = servers.pool("a", "b", when_all_down="wait")
    for _ in range(4):
        with pytest.raises((Lost, AllMembersFailedError)):
            pool_caller(pool, servers.use)
    servers.broken.clear()
    before = clock.now()
    assert pool_caller(pool, servers.use)[0] in {"a", "b"}
    assert 2.5 <= clock.now() - before <= 5.0
    assert metrics("wait_seconds_total") == pytest.approx(clock.now() - before)


def test_waiting_for_a_trial_gives_up_at_once_if_the_deadline_is_earlier(
    pool_caller, servers, clock
):
    servers.broken = {"a": Lost}
    pool = servers.pool("a", when_all_down="wait")
    for _ in range(4):
        with pytest.raises(Lost):
            pool_caller(pool, servers.use)
    before = clock.now()
    with deadline(1.0), pytest.raises(NoMemberError):
        pool_caller(pool, servers.use)
    assert clock.now() == before


def test_a_retry_around_a_pool_waits_for_as_long_as_it_says(servers, clock):
    servers.broken = {"a": Lost}
    pool = servers.pool("a", when_all_down="raise")
    for _ in range(4):
        with pytest.raises(Lost):
            pool.call(servers.use)
    servers.broken.clear()
    policy = retry(on=(Lost, NoMemberError), attempts=2, wait=0)
    assert policy.call(pool.call, servers.use) == ("a",)
    assert 2.5 <= clock.now() <= 5.5


def test_an_answer_that_is_too_slow_counts_although_it_is_returned(servers, metrics, clock):
    pool = servers.pool("a", "b", detect=Detect(slow=1.0))

    def slow(name):
        if name == "a":
            clock.advance(1.5)
        return name

    assert [pool.call(slow) for _ in range(5)] == ["a"] * 4 + ["b"]
    assert metrics("ejections_total", member="a", cause="slow") == 1


def test_the_backoff_level_is_not_reset_by_a_good_trial(servers, clock):
    """Known fault 3: elastic-transport, and most breakers, begin with the shortest time again."""
    pool = servers.pool("a", "b", failback=AT_ONCE)
    spans = []
    for _ in range(4):
        servers.broken = {"a": Lost}
        while pool.status().members[0].state != "ejected":
            pool.call(servers.use)
        spans.append(pool.status().members[0].seconds)
        servers.broken.clear()
        clock.advance(spans[-1])
        assert pool.call(servers.use) == ("a",)
    for n, span in enumerate(spans):
        assert 2.5 * 2**n <= span <= 5.0 * 2**n


# Known faults of other libraries, by their numbers in the survey.


def down(servers, **options):
    pool = servers.pool("a", "b", **options)
    servers.broken = {"a": Lost, "b": Lost}
    for _ in range(4):
        with pytest.raises((Lost, AllMembersFailedError)):
            pool.call(servers.use)
    servers.calls.clear()
    return pool


def test_when_all_are_down_a_call_can_take_the_least_bad_at_once(servers, clock):
    """Known fault 2: MongoDB's drivers wait for 30 seconds without a word."""
    pool = down(servers)
    servers.broken.clear()
    before = clock.now()
    assert pool.call(servers.use) in {("a",), ("b",)}
    assert clock.now() == before


@pytest.mark.parametrize("when_all_down", ["least_bad", "raise", "wait"])
def test_when_all_are_down_no_call_waits_longer_than_its_deadline(servers, clock, when_all_down):
    """Known fault 2: the 30 seconds of MongoDB's drivers know no deadline."""
    pool = down(servers, when_all_down=when_all_down)
    before = clock.now()
    with deadline(1.0), pytest.raises((Lost, AllMembersFailedError)):
        pool.call(servers.use)
    assert clock.now() == before


def test_a_trial_whose_task_is_cancelled_frees_its_place(servers, clock):
    """Known fault 11: Finagle was stuck in its probing state."""
    pool = servers.pool("a", "b")
    servers.eject(pool, "a")
    clock.advance(5.0)

    async def hang(_resource):
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(failover(pool)(hang)())
        await asyncio.sleep(0)
        assert state_of(pool, "a") == "trial"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    servers.broken.clear()
    assert pool.call(servers.use) == ("a",)


def returned_at(clock, servers):
    """When a pool of its own, one of many processes, sends a call to the first member again."""
    pool = servers.pool("a", "b", failback=Failback(grace=10.0, ramp=0.0, jitter=0.5))
    servers.eject(pool, "a")
    servers.broken.clear()
    began = clock.now()
    clock.advance(5.0)
    pool.call(servers.use)
    while pool.call(servers.use) == ("b",):
        clock.advance(0.02 if clock.now() - began >= 14.5 else 0.5)
    return round(clock.now() - began, 2)


class LostForGood(Lost):
    """A failure of a class below the one that is listed."""


MEMBERS = ("a", "b", "c")


def test_processes_do_not_go_back_to_a_member_at_the_same_moment(servers, clock):
    """Known fault 1: redis-py fails back at a multiple of 120 seconds."""
    times = [returned_at(clock, servers) for _ in range(20)]
    assert all(15.0 <= each <= 20.1 for each in times)
    assert max(times) - min(times) > 2.0
    assert len(set(times)) > 15


def test_a_late_failure_of_the_member_before_is_not_charged_to_the_one_after(servers, clock):
    """Known fault 4: redis-py and go-redis charge whoever is active by then."""
    pool = servers.pool("a", "b")
    late = [Elsewhere(pool.lease()) for _ in range(8)]
    pool.force("b")
    assert pool.call(servers.use) == ("b",)
    pool.release()
    servers.eject(pool, "a")
    before = pool.status().members
    for lease in late:
        lease.end(Lost())
    after = pool.status().members
    assert (after[0].state, after[0].seconds) == ("ejected", before[0].seconds)
    assert (after[1].state, after[1].score) == ("active", 0.0)


def test_a_subclass_of_a_listed_error_counts(pool_caller, servers, metrics, context):
    """Known fault 7: redis-py asks `type(error) in ...`, so that it never switches."""
    pool = servers.pool("a", "b")
    servers.broken["a"] = LostForGood
    for _ in range(6):
        assert pool_caller(pool, servers.use) == ("b",)
    assert servers.calls.count("a") == 4
    assert metrics("ejections_total", member="a", cause="consecutive") == 1


def test_failures_long_ago_with_successes_since_never_add_up(servers, metrics, clock):
    """Known fault 7: redis-py's window of 2 s ends with a success: 5 failures in 5 days trip."""
    pool = servers.pool("a", "b")
    for _ in range(50):
        servers.broken["a"] = Lost
        pool.call(servers.use)
        servers.broken.clear()
        for _ in range(14):
            clock.advance(60.0)
            assert pool.call(servers.use) == ("a",)
        assert pool.status().members[0].score == 0.0
    assert metrics("ejections_total") == 0


def test_there_is_no_window_that_hides_failures_at_its_edge(servers, metrics, clock):
    """Known fault 7: LiteLLM counts by the minute of the wall clock: two halves of an outage are
    none.
    """
    pool = servers.pool("a", "b")
    servers.broken["a"] = Lost
    for second in (57.0, 59.0, 61.0, 63.0):
        clock.advance(second - clock.now())
        pool.call(servers.use)
    assert metrics("ejections_total", member="a", cause="consecutive") == 1


def test_a_clock_on_the_wall_that_is_set_back_delays_nothing(servers, monkeypatch):
    """Known fault 7: redis-py's timers run on it."""
    pool = servers.pool("a", "b", failback=AT_ONCE, detect=Detect(eject_for=0.01))
    servers.eject(pool, "a")
    servers.broken.clear()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    wait_until(lambda: pool.call(servers.use) == ("a",))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_last_member_is_never_ejected(servers, clock, count):
    """Known fault 18: Envoy with `max_ejection_percent` 67 ejects 3 of 3, and with 10 the first of
    2.
    """
    names = MEMBERS[:count]
    pool = servers.pool(*names, select="round_robin")
    servers.broken = dict.fromkeys(names, Lost)
    for _ in range(50):
        with pytest.raises((Lost, AllMembersFailedError)):
            pool.call(servers.use)
        states = [member.state for member in pool.status().members]
        assert states != ["ejected"] * count
        clock.advance(1.0)


def test_all_but_the_last_member_can_be_ejected(servers, clock):
    """Known fault 18: Envoy and gRPC eject one member of two to ten at most by default."""
    pool = servers.pool("a", "b", "c")
    for name in ("a", "b"):
        servers.eject(pool, name)
    assert [member.state for member in pool.status().members] == ["ejected", "ejected", "active"]


def test_waiting_calls_are_woken_when_a_trial_succeeds():
    pool = FailoverPool("db", [Member("a", "x")], on=Lost, when_all_down="wait",
                        detect=Detect(eject_for=0.01, max_eject=0.02))  # fmt: skip
    state = {"broken": True}

    def work(_resource):
        if state["broken"]:
            raise Lost
        return "ok"

    for _ in range(4):
        with pytest.raises(Lost):
            pool.call(work)
    state["broken"] = False
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(pool.call(work)), daemon=True)
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == ["ok"] * 8
