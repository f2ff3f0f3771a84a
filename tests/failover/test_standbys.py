"""Hot and cold standbys, and the fence in front of them."""

import asyncio
import contextlib
import contextvars
import threading
import time

import pytest

from mainstay import AllMembersFailedError, Detect, FailoverPool, Member, Probe, failover
from mainstay.errors import MainstayError
from support.pools import AT_ONCE, LONGEST, Lost, Pools, ause, state_of, use, wait_until


def test_a_hot_standby_is_open_and_gets_no_traffic_until_needed(pools, site, metrics, clock):
    members = [pools.member(site, "a"), pools.member(site, "b", standby="hot")]
    pool = FailoverPool("db", members, on=Lost, failback=AT_ONCE, select="round_robin")
    pools.enter(pool)
    assert sorted(site.opened) == ["a1", "b1"]
    assert [pools.call(pool, site.use) for _ in range(4)] == ["a1"] * 4
    pools.eject(pool, site, "a")
    assert pools.call(pool, site.use) == "b1"
    assert metrics("failovers_total", from_member="a", to_member="b", reason="ejected") == 1
    site.broken.clear()
    clock.advance(5.0)
    pools.call(pool, site.use)
    pools.until(lambda: pool.status().members[0].open)
    assert pools.call(pool, site.use) == "a2"
    assert metrics("failovers_total", from_member="b", to_member="a", reason="failback") == 1
    assert metrics("member_state", member="b", state="standby_hot") == 1
    pools.close(pool)


def test_a_call_that_fails_everywhere_else_goes_on_to_a_hot_standby(pools, site, metrics):
    members = [pools.member(site, "a"), pools.member(site, "b", standby="hot")]
    pool = FailoverPool("db", members, on=Lost)
    pools.enter(pool)
    site.broken.add("a")
    assert pools.call(pool, site.use) == "b1"
    assert metrics("member_state", member="b", state="standby_hot") == 1
    pools.close(pool)


def test_a_cold_standby_is_opened_when_needed_and_closed_after_the_failback(
    pools, site, metrics, clock
):
    members = [pools.member(site, "a"), pools.member(site, "c", standby="cold")]
    pool = FailoverPool("db", members, on=Lost, failback=AT_ONCE)
    pools.enter(pool)
    assert site.opened == ["a1"]
    assert metrics("member_state", member="c", state="standby_cold") == 1
    site.broken.add("a")
    for _ in range(3):
        with pytest.raises(Lost):
            pools.call(pool, site.use)
    assert pools.call(pool, site.use) == "c1"
    assert metrics("standby_start_seconds_count") == 1
    site.broken.clear()
    clock.advance(5.0)
    assert pools.call(pool, site.use) in {"c1", "a2"}
    pools.until(lambda: pool.status().members[0].open)
    assert pools.call(pool, site.use) == "a2"
    pools.until(lambda: "c1" in site.closed)
    assert site.closed == ["a1", "c1"]
    pools.close(pool)


def test_one_standby_is_activated_for_each_lost_active_member(pools, site, metrics, clock):
    members = [pools.member(site, name) for name in "ab"]
    members += [pools.member(site, name, standby="cold") for name in "xyz"]
    pool = FailoverPool("db", members, on=Lost, select="round_robin")
    pools.enter(pool)
    site.broken.add("a")
    while pool.status().members[0].state != "ejected":
        pools.call(pool, site.use)
    pools.until(lambda: set(pool.status().serving) == {"b", "x"})
    site.broken.add("b")
    while pool.status().members[1].state != "ejected":
        pools.call(pool, site.use)
    pools.until(lambda: set(pool.status().serving) == {"x", "y"})
    assert [each for each in site.opened if each[0] in "xyz"] == ["x1", "y1"]
    pools.close(pool)


def test_a_cold_start_happens_once_however_many_wait(site, metrics):
    started, go = threading.Event(), threading.Event()

    def slow_open():
        started.set()
        go.wait(LONGEST)
        return site.open("c")

    cold = Member("c", open=slow_open, close=site.close, standby="cold")
    pool = FailoverPool("db", [Member("a", "a0"), cold], on=Lost, when_all_down="raise")
    site.broken.add("a")
    for _ in range(3):
        with pytest.raises(Lost):
            failover(pool)(site.use)()
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(failover(pool)(site.use)()), daemon=True)
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    started.wait(LONGEST)
    go.set()
    for thread in threads:
        thread.join(LONGEST)
    assert answers == ["c1"] * 8
    assert site.opened == ["c1"]
    pool.close()
    assert site.closed == ["c1"]


def test_the_fence_returns_before_a_standby_takes_over(pools, site, metrics, clock):
    fenced = []

    def fence(old, new):
        fenced.append((old, new))

    async def afence(old, new):
        fence(old, new)

    members = [pools.member(site, "a"), pools.member(site, "b", standby="hot")]
    hook = afence if pools.loop else fence
    pool = FailoverPool("db", members, on=Lost, fence=hook, when_all_down="raise")
    pools.enter(pool)
    site.broken.add("a")
    for _ in range(3):
        with pytest.raises(Lost):
            pools.call(pool, site.use)
    assert fenced == []
    assert pools.call(pool, site.use) == "b1"
    assert fenced == [("a", "b")]
    pools.close(pool)


def test_a_standby_whose_fence_fails_is_not_promoted(pools, site, metrics, clock):
    def fence(old, new):
        raise Lost(f"{old} still holds the disk, not {new}")

    members = [pools.member(site, "a"), pools.member(site, "b", standby="hot")]
    pool = FailoverPool("db", members, on=Lost, fence=fence, when_all_down="raise")
    pools.enter(pool)
    site.broken.add("a")
    for _ in range(4):
        with pytest.raises((Lost, AllMembersFailedError)):
            pools.call(pool, site.use)
    with pytest.raises(AllMembersFailedError):
        pools.call(pool, site.use)
    assert "b" not in pool.status().serving
    pools.close(pool)


def test_a_fenced_pool_without_a_probe_never_goes_back_by_itself(site, metrics, clock):
    members = [Member("a", "a0"), Member("b", "b0", standby="hot")]
    pool = FailoverPool("db", members, on=Lost, fence=lambda _old, _new: None)
    pools = Pools()
    pools.eject(pool, site, "a")
    site.broken.clear()
    clock.advance(100_000.0)
    assert [pools.call(pool, site.use) for _ in range(3)] == ["b0"] * 3
    pool.release()
    assert pools.call(pool, site.use) == "a0"


@pytest.mark.parametrize("hangs", ["fence", "open", "probe"])
def test_a_standby_that_takes_too_long_to_start_is_given_up(pools, site, metrics, clock, hangs):
    """The limit covers all three: the fence, the start, and the warm-up."""
    began, over = threading.Event(), threading.Event()

    def hook(name, fn):
        def plain(*args):
            if args != ("a0",):  # the member whose failures have the probe asked at once
                began.set()
                over.wait(LONGEST / 2)
            return fn(*args)

        async def hang(*args):
            if args != ("a0",):
                began.set()
                await asyncio.Event().wait()
            return fn(*args)

        if name == hangs:
            return hang if pools.loop else plain
        return pools.hook(fn)

    members = [
        Member("a", "a0"),
        Member("c", open=hook("open", lambda: site.open("c")), close=pools.hook(site.close),
               standby="cold", start_timeout=30.0),
    ]  # fmt: skip
    pool = FailoverPool("db", members, on=Lost, when_all_down="raise",
                        fence=hook("fence", lambda _old, _new: None),
                        probe=Probe(hook("probe", lambda _resource: True), every=1e6))  # fmt: skip
    heard = []
    pool.on_event(lambda event: heard.append(event.kind == "member_broken" and event.error))
    site.broken.add("a")
    for _ in range(3):
        with pytest.raises(Lost):
            pools.call(pool, site.use)

    def pass_time():
        began.wait(LONGEST)
        while not any(heard):
            clock.advance(1.0)
            time.sleep(0.001)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(pass_time,))
    thread.start()
    with pytest.raises((Lost, AllMembersFailedError)):
        pools.call(pool, site.use)
    thread.join(LONGEST)
    assert "starting member c took longer than 30.000 s" in map(str, heard)
    assert state_of(pool, "c") == "ejected"
    pool.remove("c")
    over.set()
    pools.close(pool)


def test_a_standby_serves_while_a_failing_active_member_is_opened_again(site, metrics):
    go, opened, standby_is_well = threading.Event(), [], threading.Event()

    def open_a():
        opened.append(True)
        if len(opened) > 1:
            go.wait(LONGEST)
        return site.open("a")

    members = [Member("a", open=open_a, close=site.close), Member("b", "b0", standby="hot")]
    probe = Probe(lambda resource: resource != "b0" or standby_is_well.is_set(),
                  every=0.005, timeout=30.0, rise=1, fall=1)  # fmt: skip
    pool = FailoverPool("db", members, on=Lost, probe=probe, detect=Detect(eject_for=0.005))
    site.broken |= {"a", "b"}
    with pool:
        wait_until(lambda: state_of(pool, "b") == "ejected")
        for _ in range(4):
            with pytest.raises((Lost, AllMembersFailedError)):
                pool.call(site.use)
        assert state_of(pool, "a") == "failing"
        wait_until(lambda: len(opened) == 2)
        site.broken.clear()
        standby_is_well.set()
        assert pool.call(site.use) == "b0"
        go.set()


def test_the_events_of_a_cold_standby_are_told_in_their_order(site, metrics, clock):
    pool = FailoverPool("db", [Member("a", "a0"), site.member("c", standby="cold")], on=Lost,
                        failback=AT_ONCE)  # fmt: skip
    heard = []
    pool.on_event(lambda event: heard.append(event.kind))
    Pools().eject(pool, site, "a")
    assert heard[:3] == ["pool_gave_up"] * 3
    del heard[:3]
    assert pool.call(site.use) == "c1"
    wait_until(lambda: len(heard) == 3)  # the thread that has started it tells of that
    site.broken.clear()
    clock.advance(5.0)
    assert [pool.call(site.use) for _ in range(2)] == ["a0"] * 2
    wait_until(lambda: site.closed == ["c1"])
    assert heard == ["member_ejected", "standby_started", "pool_switched", "member_readmitted",
                     "pool_switched"]  # fmt: skip


def test_a_cold_standby_that_is_forced_is_started_and_stopped_again(site, metrics):
    pool = FailoverPool("db", [Member("a", "a0"), site.member("c", standby="cold")], on=Lost)
    pool.force("c")
    assert pool.call(site.use) == "c1"
    pool.release()
    assert pool.call(site.use) == "a0"
    wait_until(lambda: site.closed == ["c1"])


# Known faults of other libraries, by their numbers in the survey.


MEMBERS = ("a", "b", "c")


def test_a_standby_that_is_opened_first_gets_no_calls(site, metrics):
    """Known fault 20: HAProxy used its backup after a restart, while the primaries were up."""
    go = threading.Event()

    def slow():
        go.wait(LONGEST)
        return site.open("a")

    members = [Member("a", open=slow, close=site.close), site.member("b", standby="hot")]
    pool = FailoverPool("db", members, on=Lost)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(pool.call(site.use)), daemon=True)
    thread.start()
    wait_until(lambda: pool.status().members[1].open)
    assert pool.status().serving == ()
    go.set()
    thread.join(LONGEST)
    assert answers == ["a1"]
    assert metrics("failovers_total") == 0
    pool.close()


def test_a_standby_serves_from_the_start_if_the_active_member_cannot_be_opened(pools, site):
    """Known fault 20: a client whose first server is down at the start fails, with others that are
    up.
    """
    site.broken.add("open a")
    members = [pools.member(site, "a"), pools.member(site, "b", standby="hot")]
    pool = FailoverPool("db", members, on=Lost)
    assert pools.call(pool, site.use) == "b1"
    pools.close(pool)


def test_members_that_nobody_has_tried_are_well_until_they_fail(servers, clock):
    """Known fault 20: redis-py's ALL_AVAILABLE refuses to start while one of three is down."""
    servers.broken["a"] = Lost
    pool = servers.pool(*MEMBERS)
    with pool:
        assert [member.state for member in pool.status().members] == ["active"] * 3
        assert pool.call(servers.use) == ("b",)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_cold_standby_whose_warm_up_fails_is_closed_and_not_used(clock, is_async):
    closed = []

    async def aprobe(_resource):
        return False

    probe = Probe(aprobe if is_async else lambda _resource: False, every=1_000.0)
    members = [
        Member("a", "bad"),
        Member("c", open=lambda: "cold", close=closed.append, standby="cold"),
    ]
    pool = FailoverPool("db", members, on=Lost, probe=probe, when_all_down="raise")

    async def main():
        for _ in range(6):
            with contextlib.suppress(Lost, ExceptionGroup):
                await failover(pool)(ause)()
        await pool.close()

    if is_async:
        asyncio.run(main())
    else:
        for _ in range(6):
            with contextlib.suppress(Lost, ExceptionGroup):
                pool.call(use)
        pool.close()
    assert closed == ["cold"]
    error = pool.status().members[1].error
    assert isinstance(error, MainstayError)  # of a class that users can name
    assert str(error) == "the probe answered False"
