"""A call that failed at everyone who serves has the probe asked before it gives up."""

import asyncio
import contextlib
import threading
from types import SimpleNamespace

import pytest

from mainstay import Detect, FailoverPool, Member, Probe, deadline
from mainstay._core.context import current_context
from mainstay._failover.suspicion import suspect
from support.callers import awaitable
from support.pools import LONGEST, Lost, state_of, wait_until


@pytest.fixture
def asked():
    return []


@pytest.fixture
def pool_of(pools, site, asked):
    """A pool of one active member and a cold standby, with a probe that answers *well*."""

    def make(well, *, active="a", **options):
        def probe(resource):
            asked.append(resource)
            return well(resource)

        async def aprobe(resource):
            return probe(resource)

        members = [pools.member(site, name) for name in active]
        members.append(pools.member(site, "z", standby="cold"))
        ask = Probe(aprobe if pools.loop else probe, every=1000.0, fall=3, **options)
        return FailoverPool("db", members, on=Lost, probe=ask)

    return make


def answers(site):
    """What a probe says that knows which members are broken."""
    return lambda resource: resource[0] not in site.broken


def test_no_call_is_lost_when_a_cold_standby_is_left(pools, pool_of, site, asked, metrics):
    pool = pool_of(answers(site))
    assert pools.call(pool, site.use) == "a1"
    site.broken.add("a")
    assert [pools.call(pool, site.use) for _ in range(5)] == ["z1"] * 5
    assert asked[:3] == ["a1"] * 3
    assert metrics.outcomes() == {"success": 5, "recovered": 1}
    assert metrics("ejections_total", member="a", cause="probe") == 1
    pools.close(pool)


def test_nor_with_two_active_members(pools, pool_of, site, metrics):
    pool = pool_of(answers(site), active="ab")
    pools.call(pool, site.use)
    site.broken |= {"a", "b"}
    assert [pools.call(pool, site.use) for _ in range(5)] == ["z1"] * 5
    pools.close(pool)


@pytest.mark.parametrize("times", [1, 5])
def test_nor_where_an_active_and_a_hot_member_fail_in_one_moment(
    pools, pool_of, site, metrics, times
):
    """What fails last is the hot one, and the active one is why the cold one is not started."""
    members = [pools.member(site, "a"), pools.member(site, "h", standby="hot"),
               pools.member(site, "z", standby="cold")]  # fmt: skip
    fn = pools.hook(answers(site))
    pool = FailoverPool("db", members, on=Lost, probe=Probe(fn, every=1000.0, fall=3))
    pools.call(pool, site.use)
    pools.until(lambda: all(member.open for member in pool.status().members[:2]))
    site.broken |= {"a", "h"}
    assert [pools.call(pool, site.use) for _ in range(times)] == ["z1"] * times
    pools.close(pool)


def test_nor_where_the_one_that_failed_last_was_ejected_meanwhile(site, metrics):
    members = [site.amember("a"), site.amember("h", standby="hot"),
               site.amember("z", standby="cold")]  # fmt: skip
    probe = Probe(awaitable(answers(site)), every=1000.0, fall=3)
    pool = FailoverPool("db", members, on=Lost, probe=probe, detect=Detect(consecutive=2))
    both = asyncio.Event()

    async def use(resource):
        if resource == "h1":
            await both.wait()  # the first one knows of a alone, which has one failure
        return site.use(resource)

    async def main():
        async with pool:
            site.broken |= {"a", "h"}
            first = asyncio.create_task(pool.call(use))
            await asyncio.sleep(0.01)
            pool._engine.slots["h"].detector.failed(0, 0.0, 1.0)
            both.set()
            return await first

    assert asyncio.run(main()) == "z1"


def test_nor_where_several_cold_standbys_fail_one_after_the_other(pools, site, metrics):
    members = [pools.member(site, "a"), pools.member(site, "y", standby="cold"),
               pools.member(site, "z", standby="cold")]  # fmt: skip
    probe = Probe(pools.hook(lambda resource: resource[0] != "a"), every=1000.0, fall=2)
    pool = FailoverPool("db", members, on=Lost, probe=probe)
    pools.call(pool, site.use)
    site.broken |= {"a"}
    assert pools.call(pool, site.use) == "y1"
    pools.close(pool)


def test_one_good_answer_ends_the_suspicion(pools, pool_of, site, asked, metrics):
    pool = pool_of(lambda _resource: True)
    pools.call(pool, site.use)
    site.broken.add("a")
    for _ in range(2):
        with pytest.raises(Lost):
            pools.call(pool, site.use)
    assert asked == ["a1"] * 2
    assert state_of(pool, "a") == "active"
    assert site.opened == ["a1"]
    pools.close(pool)


def test_without_a_probe_nobody_can_be_asked(pools, site, metrics):
    members = [pools.member(site, "a"), pools.member(site, "z", standby="cold")]
    pool = FailoverPool("db", members, on=Lost)
    pools.call(pool, site.use)
    site.broken.add("a")
    for _ in range(Detect().consecutive - 1):
        with pytest.raises(Lost):
            pools.call(pool, site.use)
    assert pools.call(pool, site.use) == "z1"
    pools.close(pool)


def test_a_probe_that_hangs_is_a_bad_answer_each_time_that_it_takes_too_long(
    pools, pool_of, site, metrics
):
    hanging = {"a1"}
    go, ask = threading.Event(), answers(site)

    def probe(resource):
        return go.wait(LONGEST) and False if resource in hanging else ask(resource)

    async def aprobe(resource):
        return await hang_for_ever(resource) if resource in hanging else ask(resource)

    fn = aprobe if pools.loop else probe
    members = [pools.member(site, "a"), pools.member(site, "z", standby="cold")]
    pool = FailoverPool("db", members, on=Lost, probe=Probe(fn, every=1000.0, timeout=0.05))
    pools.call(pool, site.use)
    site.broken.add("a")
    assert pools.call(pool, site.use) == "z1"
    go.set()
    pools.close(pool)


async def hang_for_ever(_resource):
    await asyncio.get_running_loop().create_future()


def test_the_wait_ends_with_the_deadline_and_the_suspicion_goes_on(site, metrics):
    go = threading.Event()

    def probe(resource):
        return resource != "a1" or not go.wait(LONGEST)

    members = [site.member("a"), site.member("z", standby="cold")]
    pool = FailoverPool("db", members, on=Lost, probe=Probe(probe, every=1000.0, timeout=30.0))
    pool.call(site.use)
    site.broken.add("a")
    with deadline(0.02), pytest.raises(Lost):
        pool.call(site.use)
    assert metrics.outcomes() == {"success": 1, "timeout": 1}
    go.set()
    wait_until(lambda: state_of(pool, "a") == "ejected")
    assert pool.call(site.use) == "z1"
    pool.close()


def test_of_ten_calls_at_once_none_is_lost(site, metrics):
    async def probe(resource):
        await asyncio.sleep(0)
        return resource[0] not in site.broken

    members = [site.amember("a"), site.amember("z", standby="cold")]
    pool = FailoverPool("db", members, on=Lost, probe=Probe(probe, every=1000.0))

    async def use(resource):
        await asyncio.sleep(0.001)
        return site.use(resource)

    async def main():
        async with pool:
            site.broken.add("a")
            return await asyncio.gather(*(pool.call(use) for _ in range(10)))

    assert asyncio.run(main()) == ["z1"] * 10


def test_a_call_that_leaves_at_what_it_waits_for_leaves_nothing_behind(site, metrics):
    members = [site.amember("a"), site.amember("z", standby="cold")]
    pool = FailoverPool("db", members, on=Lost, probe=Probe(hang_for_ever, every=1000.0))

    async def use(resource):
        return site.use(resource)

    async def main():
        async with pool:
            site.broken.add("a")
            task = asyncio.create_task(pool.call(use))
            await asyncio.sleep(0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert metrics.outcomes() == {"cancelled": 1}


def test_a_call_waits_for_as_many_answers_of_the_probe_as_eject_a_member(clock):
    members = [Member("a", "a"), Member("z", open=list, standby="cold")]
    probe = Probe(lambda _resource: True, every=1000.0, timeout=4.0, fall=3)
    pool = FailoverPool("db", members, on=Lost, probe=probe)
    engine = pool._engine
    woken = []
    with pool:
        prober, engine.prober = engine.prober, SimpleNamespace(wake=lambda: woken.append(1))
        slot = engine.slots["a"]
        engine.failed(engine.choose(current_context().clock, (), set()), clock.now())
        seconds = suspect(engine, clock.now(), [slot], set(), [])
        engine.prober = prober
    assert woken == [1]
    assert 12.0 <= seconds <= 13.0
