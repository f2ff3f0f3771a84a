"""Members that fail are ejected, tried, and come back; and what calls do while none is well."""

import random

import pytest

from mainstay import AllMembersFailedError, Detect, Failback, deadline, retry
from mainstay.errors import NoMemberError
from tests.pools import AT_ONCE, Elsewhere, Lost


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
    """P5: a trial whose call never ends frees its place when its lease is over."""
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
    """P2 and P3 of the field notes on breakers."""
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
    """Field section 4, item 5: ten calls in flight of one outage made ten strikes elsewhere."""
    pool = servers.pool("a", "b")
    leases = [Elsewhere(pool.lease()) for _ in range(10)]
    for lease in leases:
        lease.end(Lost())
    first = pool.status().members[0]
    assert first.seconds <= 5.0
    assert metrics("ejections_total") == 1


def test_an_answer_from_before_the_ejection_changes_nothing(servers, clock):
    """P6 and item 4: a late success must not close, a late failure not lengthen."""
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
    """Field section 4, item 1."""
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


def test_when_all_are_down_wait_waits_for_the_next_trial(pool_caller, servers, metrics, clock):
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
    """Field section 4, item 3: flapping members used to come back after the shortest time."""
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
