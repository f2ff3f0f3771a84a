"""What an operator does to a pool, and what he hears of it."""

import asyncio

import pytest

from mainstay import (
    CircuitBreaker,
    Detect,
    Failback,
    FailoverPool,
    Member,
    current_lease,
    failover,
    on_event,
)
from mainstay.errors import NoMemberError
from support.pools import AT_ONCE, Lost, state_of, use


def test_force_holds_until_release(servers, metrics, clock):
    """Known fault 16: redis-py goes back after `auto_fallback_interval`."""
    pool = servers.pool("a", "b")
    pool.call(servers.use)
    pool.force("b")
    clock.advance(10_000.0)
    assert [pool.call(servers.use)[0] for _ in range(3)] == ["b"] * 3
    servers.broken["b"] = Lost
    for _ in range(6):
        with pytest.raises(Lost):
            pool.call(servers.use)
    assert pool.status().forced == "b"
    pool.release()
    assert pool.call(servers.use) == ("a",)
    assert metrics("failovers_total", from_member="a", to_member="b", reason="forced") == 1


def test_a_late_reading_of_the_clock_takes_no_plan_back(servers, metrics, clock):
    """A thread reads the clock, and gets the lock after another one that has planned."""
    pool = servers.pool("a", "b", failback=Failback("grace", grace=100.0, jitter=0.0))
    servers.eject(pool, "a")
    servers.broken.clear()
    clock.advance(5.0)
    assert pool.call(servers.use) == ("a",)  # the trial
    assert pool.call(servers.use) == ("b",)
    late = clock.now()
    clock.advance(100.0)
    assert pool.call(servers.use) == ("a",)
    switches, epoch = metrics("failovers_total"), pool.status().epoch
    pool._engine.replan(late)
    assert pool.call(servers.use) == ("a",)
    assert (metrics("failovers_total"), pool.status().epoch) == (switches, epoch)


def test_release_of_one_member_leaves_the_others_as_they_are(servers):
    pool = servers.pool("a", "b")
    pool.force("b")
    pool.drain("a")
    pool.release("a")
    assert pool.status().forced == "b"
    assert pool.call(servers.use) == ("b",)
    pool.drain("a")
    pool.release("b")
    assert pool.status().forced is None
    assert pool.call(servers.use) == ("b",)
    pool.release("a")
    assert pool.call(servers.use) == ("a",)


@pytest.mark.parametrize(("name", "error"), [("c", ValueError), (1, TypeError)])
def test_only_a_member_can_be_released(servers, name, error):
    with pytest.raises(error, match=r"name|no member 'c'; it has a, b"):
        servers.pool("a", "b").release(name)


def test_a_drained_member_gets_no_new_calls_and_keeps_the_ones_it_has(servers, metrics):
    pool = servers.pool("a", "b")
    with pool.lease() as resource:
        pool.drain("a")
        assert resource == "a"
        assert pool.status().members[0].in_flight == 1
        assert pool.call(servers.use) == ("b",)
    assert metrics.states_of("a") == ["draining"]
    assert metrics("failovers_total", from_member="a", to_member="b", reason="drained") == 1
    pool.release()
    assert pool.call(servers.use) == ("a",)


def test_members_are_added_and_removed(servers, metrics):
    pool = servers.pool("a")
    pool.call(servers.use)
    pool.add(Member("b", "b"))
    pool.remove("a")
    assert pool.call(servers.use) == ("b",)
    assert metrics("failovers_total", from_member="a", to_member="b", reason="removed") == 1
    assert [member.name for member in pool.status().members] == ["b"]
    assert metrics.states_of("a") == []


@pytest.mark.parametrize("operation", ["force", "drain", "remove"])
def test_unknown_members_are_named(servers, operation):
    with pytest.raises(ValueError, match="no member 'x'; it has a, b"):
        getattr(servers.pool("a", "b"), operation)("x")


def test_a_name_cannot_be_added_twice_nor_the_last_member_be_removed(servers):
    pool = servers.pool("a")
    with pytest.raises(ValueError, match="already has a member 'a'"):
        pool.add(Member("a", "x"))
    with pytest.raises(ValueError, match="would have no members"):
        pool.remove("a")
    with pytest.raises(TypeError, match="`member`"):
        pool.add("a")


def test_events_are_heard_and_cannot_break_a_call(servers, metrics, clock):
    pool = servers.pool("a", "b")
    heard = []
    stop = pool.on_event(lambda event: heard.append(event.kind))
    pool.on_event(lambda _event: 1 / 0)
    servers.broken["a"] = Lost
    for _ in range(4):
        pool.call(servers.use)
    assert heard == ["member_ejected", "pool_switched"]
    stop()
    servers.broken.clear()
    clock.advance(5.0)
    pool.call(servers.use)
    assert len(heard) == 2
    assert metrics("errors_total", error_type="ZeroDivisionError") == 3


def test_the_epoch_grows_with_every_switch(servers, clock):
    pool = servers.pool("a", "b")
    epochs = []
    for broken in ({}, {"a": Lost}):
        servers.broken = broken
        for _ in range(5):
            pool.call(lambda name: (servers.use(name), epochs.append(current_lease().epoch)))
    assert epochs == [0] * 5 + [0] * 3 + [1] * 2 or sorted(set(epochs)) == [0, 1]
    assert epochs == sorted(epochs)


# Known faults of other libraries, by their numbers in the survey.


def test_force_comes_before_health(servers, clock):
    """Known fault 19: the order is: what the operator says, who is excluded, who is well, who is
    preferred.
    """
    pool = servers.pool("a", "b")
    servers.eject(pool, "a")
    servers.broken.clear()
    pool.force("a")
    assert pool.call(servers.use) == ("a",)


def test_good_answers_of_a_forced_member_count_for_it(servers, clock):
    """Known fault 16: go-redis switched away from it again, after a successful probe by hand."""
    pool = servers.pool("a", "b", failback=AT_ONCE)
    servers.eject(pool, "a")
    servers.broken.clear()
    pool.force("a")
    assert pool.call(servers.use) == ("a",)
    pool.release()
    assert [pool.call(servers.use) for _ in range(3)] == [("a",)] * 3
    assert state_of(pool, "a") == "active"


def test_after_a_reset_a_pool_is_as_if_just_made(pools, site, metrics):
    pool = FailoverPool("db", [pools.member(site, name) for name in "ab"], on=Lost)
    fresh = pool.status()
    pools.eject(pool, site, "a")
    pool.force("b")
    pool.add(pools.member(site, "c"))
    pool.remove("a")
    pool.reset()
    assert pool.status() == fresh
    site.broken.clear()
    assert pools.call(pool, site.use)[0] == "a"
    assert [state_of(pool, name) for name in "ab"] == ["active", "active"]
    pools.close(pool)
    pools.until(lambda: sorted(site.closed) == sorted(site.opened))


def test_a_call_that_was_under_way_at_a_reset_changes_nothing(servers, metrics):
    pool = servers.pool("a", "b", detect=Detect(consecutive=1))

    def use(_name):
        pool.reset()
        raise Lost

    with pytest.raises(Lost):
        failover(pool, rerun=False)(use)()
    assert state_of(pool, "a") == "active"


def test_an_async_pool_may_be_used_in_another_loop_after_a_reset(site, metrics):
    pool = FailoverPool("db", [site.amember("a")], on=Lost)
    with asyncio.Runner() as before, asyncio.Runner() as after:
        assert before.run(pool.call(anything)) == "a1"
        pool.reset()
        assert after.run(pool.call(anything)) == "a2"
        after.run(pool.close())


async def anything(resource):
    return resource


def leased(pool):
    with pool.lease():
        yield current_lease().member


def attempted(pool):
    for attempt in pool:
        with attempt:
            yield current_lease().member


def here():
    try:
        return current_lease().member
    except LookupError:
        return None


@pytest.mark.parametrize("first", [leased, attempted])
@pytest.mark.parametrize("second", [leased, attempted])
def test_blocks_that_are_left_in_another_order_end_their_own_lease(servers, first, second):
    """Field faults, A2: leases too."""
    one, two = servers.pool("a"), servers.pool("b")
    outer, inner = first(one), second(two)
    assert (next(outer), next(inner), here()) == ("a", "b", "b")
    outer.close()
    assert here() == "b"
    assert two.call(lambda _resource: here()) == "b"
    inner.close()
    assert here() is None
    kept = first(one)
    next(kept)
    with two.lease():
        kept.close()
        assert here() == "b"
    assert here() is None


def test_a_lease_shows_no_resource(servers):
    """Field faults, D16: a resource may be an address with a password in it."""
    pool = FailoverPool("db", [Member("a", "postgres://user:secret@host")], on=Lost)
    assert pool.call(lambda _dsn: repr(current_lease())) == "Lease(member='a', epoch=0)"


def test_representations_say_what_it_is(clock):
    pool = FailoverPool("db", [Member("a", "x"), Member("b", "y")], on=Lost)
    assert repr(pool) == "<FailoverPool 'db' of a, b>"
    assert repr(CircuitBreaker("mail", on=Lost)) == "<CircuitBreaker 'mail': closed>"


def test_every_event_is_a_line_with_names_and_without_messages(clock):
    lines = []
    stop = on_event(lambda event: lines.append((event.kind, event.level, str(event))))
    try:
        members = [Member("a", "bad secret"), Member("b", "good", standby="hot")]
        pool = FailoverPool("db", members, on=Lost, failback=Failback("grace", grace=0.0))
        for _ in range(4):
            pool.call(use)
        alone = FailoverPool("alone", [Member("a", "bad secret")], on=Lost)
        for _ in range(4):
            with pytest.raises(Lost):
                alone.call(use)
        breaker = CircuitBreaker("mail", on=Lost)
        for _ in range(4):
            with pytest.raises(Lost):
                breaker.call(use, "bad secret")
        clock.advance(5.0)
        breaker.call(use, "good")
    finally:
        stop()
    kinds = [kind for kind, _, _ in lines]
    assert kinds == ["member_ejected", "pool_switched", "pool_gave_up", "pool_gave_up",
                     "pool_gave_up", "member_failing", "pool_gave_up", "breaker_changed",
                     "breaker_changed", "breaker_changed"]  # fmt: skip
    assert not any("secret" in line for _, _, line in lines)
    assert "mail: closed -> open (consecutive)" in [line for _, _, line in lines]


def test_a_forced_member_that_cannot_be_opened_is_told(clock):
    def refuse():
        raise Lost("refused")

    pool = FailoverPool("db", [Member("a", "x"), Member("b", open=refuse)], on=Lost)
    pool.force("b")
    with pytest.raises(ExceptionGroup) as caught:
        pool.call(use)
    assert "refused" in str(caught.value.exceptions)


def test_all_drained_is_told(clock):
    pool = FailoverPool("db", [Member("a", "x")], on=Lost)
    pool.drain("a")
    with pytest.raises(NoMemberError) as caught:
        pool.call(use)
    assert [str(error) for error in caught.value.exceptions] == ["member a is drained"]
    assert caught.value.retry_after is None
