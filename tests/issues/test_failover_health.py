"""Known faults of libraries that fail over, in whom they eject and when; one test each or more.

The names begin with the numbers of the survey's list of failure modes; a docstring says who has
the fault. Those of redundant calls are in `test_redundant_pitfalls`.
"""

import time

import pytest

from mainstay import (
    AllMembersFailedError,
    Detect,
    Failback,
    FailoverPool,
)
from support.pools import AT_ONCE, Elsewhere, Lost, state_of, wait_until

MEMBERS = ("a", "b", "c")


# 1. Herd on failback: all processes go back at the same moment, and with all of their calls.


def returned_at(clock, servers):
    """When a pool of its own, one of many processes, sends a call to the first member again."""
    pool = servers.pool("a", "b", failback=Failback(grace=10.0, ramp=0.0, jitter=0.5))
    servers.eject(pool, "a")
    servers.broken.clear()
    began = clock.now()
    clock.advance(5.0)
    pool.call(servers.use)
    while pool.call(servers.use) == ("b",):
        clock.advance(0.01)
    return round(clock.now() - began, 2)


def test_1_processes_do_not_try_a_member_again_at_the_same_moment(servers, clock):
    """LiteLLM and redis-py wait for a fixed time."""
    seconds = set()
    for _ in range(20):
        pool = servers.pool("a", "b")
        servers.eject(pool, "a")
        seconds.add(pool.status().members[0].seconds)
    assert len(seconds) == 20
    assert all(2.5 <= each <= 5.0 for each in seconds)


def test_1_processes_do_not_go_back_to_a_member_at_the_same_moment(servers, clock):
    """redis-py fails back at a multiple of 120 seconds."""
    times = [returned_at(clock, servers) for _ in range(20)]
    assert all(15.0 <= each <= 20.1 for each in times)
    assert max(times) - min(times) > 2.0
    assert len(set(times)) > 15


def test_1_a_member_that_is_back_does_not_get_its_whole_share_at_once(servers, clock):
    """elastic-transport gives a node a quarter of all calls in the moment of its return."""
    pool = servers.pool("a", "b", failback=Failback(grace=0.0, ramp=100.0, jitter=0.0))
    servers.eject(pool, "a")
    servers.broken.clear()
    clock.advance(5.0)
    pool.call(servers.use)
    clock.advance(5.0)
    answers = [pool.call(servers.use) for _ in range(400)]
    assert 1 <= answers.count(("a",)) <= 50  # about 20


# 3. Flapping.


def test_3_one_good_answer_does_not_reset_the_backoff(servers, clock):
    """elastic-transport, and most breakers, begin with the shortest time again."""
    pool = servers.pool("a", "b", failback=AT_ONCE)
    spans = []
    for _ in range(4):
        servers.eject(pool, "a")
        spans.append(pool.status().members[0].seconds)
        servers.broken.clear()
        clock.advance(spans[-1])
        assert pool.call(servers.use) == ("a",)
    for n, span in enumerate(spans):
        assert 2.5 * 2**n <= span <= 5.0 * 2**n


def test_3_a_member_that_is_well_for_a_moment_gets_no_calls_before_its_grace_is_over(
    servers, clock
):
    """redis-py goes back with the first good check, whatever `grace_period` says."""
    pool = servers.pool("a", "b", failback=Failback("grace", grace=60.0))
    servers.eject(pool, "a")
    servers.broken.clear()
    clock.advance(5.0)
    assert pool.call(servers.use) == ("a",)  # the trial
    clock.advance(59.0)
    assert {pool.call(servers.use) for _ in range(20)} == {("b",)}


# 4. Stale results.


def test_4_a_late_failure_of_the_member_before_is_not_charged_to_the_one_after(servers, clock):
    """redis-py and go-redis charge whoever is active by then."""
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


def test_4_a_late_answer_from_before_the_ejection_readmits_nobody(servers, clock):
    """circuitbreaker closes on one."""
    pool = servers.pool("a", "b")
    late = Elsewhere(pool.lease())
    servers.eject(pool, "a")
    late.end()
    assert state_of(pool, "a") == "ejected"


# 5. One outage, many strikes.


def test_5_ten_failures_in_flight_of_one_outage_are_one_strike(servers, metrics, clock):
    """elastic-transport counts ten, and its backoff is at its longest at once."""
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


# 7. Detectors.


class LostForGood(Lost):
    """A failure of a class below the one that is listed."""


def test_7_a_subclass_of_a_listed_error_counts(pool_caller, servers, metrics, surroundings):
    """redis-py asks `type(error) in ...`, so that it never switches."""
    pool = servers.pool("a", "b")
    servers.broken["a"] = LostForGood
    for _ in range(6):
        assert pool_caller(pool, servers.use) == ("b",)
    assert servers.calls.count("a") == 4
    assert metrics("ejections_total", member="a", cause="consecutive") == 1


def test_7_failures_long_ago_with_successes_since_never_add_up(servers, metrics, clock):
    """redis-py's window of two seconds ends with a success only: 5 failures in 5 days trip."""
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


def test_7_there_is_no_window_that_hides_failures_at_its_edge(servers, metrics, clock):
    """LiteLLM counts by the minute of the clock on the wall: two halves of an outage are none."""
    pool = servers.pool("a", "b")
    servers.broken["a"] = Lost
    for second in (57.0, 59.0, 61.0, 63.0):
        clock.advance(second - clock.now())
        pool.call(servers.use)
    assert metrics("ejections_total", member="a", cause="consecutive") == 1


def test_7_a_clock_on_the_wall_that_is_set_back_delays_nothing(servers, monkeypatch):
    """redis-py's timers run on it."""
    pool = servers.pool("a", "b", failback=AT_ONCE, detect=Detect(eject_for=0.01))
    servers.eject(pool, "a")
    servers.broken.clear()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    wait_until(lambda: pool.call(servers.use) == ("a",))


# 16. Switching by hand.


def test_16_a_forced_switch_holds_until_it_is_released(servers, metrics, clock):
    """redis-py goes back after `auto_fallback_interval`."""
    pool = servers.pool("a", "b")
    pool.call(servers.use)
    pool.force("b")
    for _ in range(5):
        clock.advance(10_000.0)
        assert pool.call(servers.use) == ("b",)
    servers.broken["b"] = Lost
    for _ in range(6):
        with pytest.raises(Lost):
            pool.call(servers.use)
    assert pool.status().forced == "b"
    pool.release()
    assert pool.call(servers.use) == ("a",)
    assert metrics("failovers_total", from_member="a", to_member="b", reason="forced") == 1


def test_16_good_answers_of_a_forced_member_count_for_it(servers, clock):
    """go-redis left the breaker open after a successful probe by hand, and switched away again."""
    pool = servers.pool("a", "b", failback=AT_ONCE)
    servers.eject(pool, "a")
    servers.broken.clear()
    pool.force("a")
    assert pool.call(servers.use) == ("a",)
    pool.release()
    assert [pool.call(servers.use) for _ in range(3)] == [("a",)] * 3
    assert state_of(pool, "a") == "active"


# 17. Work on its way when the pool switches.


@pytest.mark.parametrize("switch", ["eject", "drain", "force", "close", "remove"])
def test_17_what_is_in_use_is_not_closed_by_a_switch(site, clock, switch):
    """redis-py closes the sockets of the member that was active."""
    pool = FailoverPool("db", [site.member("a"), site.member("b")], on=Lost)
    pool.__enter__()
    with pool.lease() as resource:
        if switch == "eject":
            others = [Elsewhere(pool.lease()) for _ in range(4)]
            for each in others:
                each.end(Lost())
            assert state_of(pool, "a") == "ejected"
        elif switch == "close":
            pool.close()
        else:
            getattr(pool, switch)("b" if switch == "force" else "a")
        assert (resource, "a1" in site.closed) == ("a1", False)
    if switch in ("eject", "close", "remove"):
        wait_until(lambda: "a1" in site.closed)
    pool.release()
    pool.close()
    wait_until(lambda: sorted(site.closed) == sorted(site.opened))


# 18. The last member.


@pytest.mark.parametrize("count", [1, 2, 3])
def test_18_the_last_member_is_never_ejected(servers, clock, count):
    """Envoy with `max_ejection_percent` 67 ejects 3 of 3, and with 10 the first of 2."""
    names = MEMBERS[:count]
    pool = servers.pool(*names, select="round_robin")
    servers.broken = dict.fromkeys(names, Lost)
    for _ in range(50):
        with pytest.raises((Lost, AllMembersFailedError)):
            pool.call(servers.use)
        states = [member.state for member in pool.status().members]
        assert states != ["ejected"] * count
        clock.advance(1.0)


def test_18_all_but_the_last_member_can_be_ejected(servers, clock):
    """The default of Envoy and gRPC, a tenth, ejects one member of two to ten at most."""
    pool = servers.pool("a", "b", "c")
    for name in ("a", "b"):
        servers.eject(pool, name)
    assert [member.state for member in pool.status().members] == ["ejected", "ejected", "active"]
