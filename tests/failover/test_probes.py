"""Probes: what they find out, and what happens to those that hang."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable
from typing import Any

import pytest

from mainstay import Detect, FailoverPool, Member, Probe
from mainstay._failover.hooks import UnhealthyError, UnknownHealthError, check_answer
from support.pools import AT_ONCE, LONGEST, Lost, Pools, state_of, wait_until


def probed(pools, healthy, **options):
    """A probe of the pools, and how often it asked for each resource."""
    asked = []

    def probe(resource):
        asked.append(resource)
        return healthy(resource)

    async def aprobe(resource):
        return probe(resource)

    return Probe(aprobe if pools.loop else probe, **options), asked


def test_bad_probes_eject_and_good_ones_readmit(pools, site, metrics):
    bad = set()
    probe, _ = probed(pools, lambda resource: resource[0] not in bad,
                      every=0.01, rise=2, fall=3)  # fmt: skip
    members = [pools.member(site, "a"), pools.member(site, "b")]
    pool = FailoverPool("db", members, on=Lost, probe=probe, failback=AT_ONCE,
                        detect=Detect(eject_for=0.02))  # fmt: skip
    pools.enter(pool)
    bad.add("a")
    pools.until(lambda: pool.status().members[0].state == "ejected")
    assert pools.call(pool, site.use) == "b1"
    assert metrics("ejections_total", member="a", cause="probe") == 1
    bad.clear()
    pools.until(lambda: pool.status().members[0].state == "active")
    assert pools.call(pool, site.use)[0] == "a"
    pools.close(pool)


def test_with_a_probe_no_call_is_used_as_a_trial(site, metrics, clock):
    pools = Pools()
    probe, _ = probed(pools, lambda _resource: False, every=1_000.0)
    pool = FailoverPool("db", [Member("a", "a0"), Member("b", "b0")], on=Lost, probe=probe)
    pools.eject(pool, site, "a")
    clock.advance(400.0)
    assert [pools.call(pool, site.use) for _ in range(5)] == ["b0"] * 5
    assert metrics("member_attempts_total", member="a") == 4
    pool.close()


@pytest.mark.parametrize("answer", [0, 1, "yes"])
def test_a_probe_that_answers_no_bool_has_failed_and_is_told(site, metrics, answer):
    pool = FailoverPool("db", [Member("a", "a0"), Member("b", "b0")], on=Lost,
                        probe=Probe(lambda _resource: answer, every=0.01, fall=1))  # fmt: skip
    heard = []
    pool.on_event(heard.append)
    with pool:
        wait_until(lambda: any(each.kind == "member_broken" for each in heard))
    broken = next(each for each in heard if each.kind == "member_broken")
    assert (broken.what, type(broken.error)) == ("probe", TypeError)


def test_a_probe_that_answers_the_resource_shows_no_password_of_it(site, caplog):
    """As `lambda db: db` does."""
    members = [Member("a", "postgres://user:secret@host"), Member("b", "good", standby="hot")]
    heard = []
    probe = Probe(lambda db: db == "good" or db, every=0.01)
    with FailoverPool("db", members, on=Lost, probe=probe) as pool:
        pool.on_event(heard.append)
        wait_until(lambda: any(each.kind == "member_broken" for each in heard))
    assert "secret" not in repr(heard) + caplog.text


def test_a_probe_that_cannot_tell_counts_neither_way_and_is_told_once(metrics, clock, caplog):
    probe = Probe(lambda _resource: None, every=1e6, rise=2, fall=2)
    pool = FailoverPool("db", [Member("a", "a0"), Member("b", "b0")], on=Lost, probe=probe,
                        failback=AT_ONCE, detect=Detect(eject_for=0.1))  # fmt: skip
    slot = pool._engine.slots["a"]

    def after(answer):
        pool._engine.probed(slot, slot.opened, clock.now(), error_of(answer))
        return state_of(pool, "a")

    assert [after(each) for each in (False, None, False)] == ["active", "active", "ejected"]
    clock.advance(0.2)
    assert [after(each) for each in (True, None, True)] == ["ejected", "ejected", "active"]
    said = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert said[0] == "db: probe of member a does not know: the probe answered None"
    assert [text.partition(" (")[0] for text in said[1:]] == ["db: member a ejected"]


def error_of(answer):
    """Give what the pool is told of an answer of its probe."""
    try:
        return check_answer(answer)
    except (UnhealthyError, UnknownHealthError) as error:
        return error


def test_a_probe_that_cannot_tell_ends_a_suspicion(site, metrics):
    """A call that has failed everywhere gets its error; it does not wait for a better answer."""
    asked = []

    def probe(resource):
        asked.append(resource)

    members = [site.member("a"), site.member("b", standby="hot")]
    pool = FailoverPool("db", members, on=Lost, probe=Probe(probe, every=1000.0, timeout=30.0),
                        fence=lambda old, new: None)  # fmt: skip
    with pool:
        site.broken.add("a")
        with pytest.raises(Lost):
            pool.call(site.use)
    assert asked.count("a1") == 1


def test_a_cold_standby_starts_though_the_probe_cannot_tell(pools, site, metrics):
    probe, asked = probed(pools, lambda _resource: None, every=1000.0)
    members = [pools.member(site, "a"), pools.member(site, "b", standby="cold")]
    pool = FailoverPool("db", members, on=Lost, probe=probe)
    pools.eject(pool, site, "a")
    assert pools.call(pool, site.use) == "b1"
    assert "b1" in asked
    pools.close(pool)


def test_a_hung_probe_counts_as_a_failure_and_is_asked_only_once(site, metrics):
    go, asked = threading.Event(), []

    def probe(resource):
        asked.append(resource)
        if resource == "a0":
            go.wait(LONGEST)
        return True

    pool = FailoverPool("db", [Member("a", "a0"), Member("b", "b0")], on=Lost,
                        probe=Probe(probe, every=0.01, timeout=0.02, fall=1))  # fmt: skip
    with pool:
        wait_until(lambda: pool.status().members[0].state == "ejected")
        wait_until(lambda: asked.count("b0") > 5)
        assert asked.count("a0") == 1
        go.set()


def test_an_async_probe_that_hangs_is_cancelled(site, metrics):
    cancelled = []

    async def probe(resource):
        if resource == "a0":
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(True)
        return True

    async def main():
        pool = FailoverPool("db", [Member("a", "a0"), Member("b", "b0")], on=Lost,
                            probe=Probe(probe, every=0.01, timeout=0.02, fall=1))  # fmt: skip
        async with pool:
            while pool.status().members[0].state != "ejected":  # noqa: ASYNC110 - polls
                await asyncio.sleep(0.001)
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    assert cancelled


def test_a_pool_that_is_dropped_ends_its_probing_thread():
    pool = FailoverPool("dropped", [Member("a", "a0")], on=Lost,
                        probe=Probe(lambda _resource: True, every=0.01))  # fmt: skip
    pool.__enter__()
    names = {thread.name for thread in threading.enumerate()}
    assert "mainstay-probe-dropped" in names
    del pool

    def gone():
        gc.collect()
        return "mainstay-probe-dropped" not in {each.name for each in threading.enumerate()}

    wait_until(gone)


@pytest.mark.parametrize(
    ("pool_is", "probe"), [("sync", "plain"), ("async", "plain"), ("async", "async")]
)
def test_a_probe_that_hangs_is_a_bad_answer_for_each_interval(metrics, clock, pool_is, probe):
    go = threading.Event()

    def plain(resource):
        return resource == "b0" or go.wait(LONGEST)

    async def hang(resource):
        return resource == "b0" or await asyncio.Event().wait()

    async def afence(_old, _new):
        """Makes the pool async."""

    fence = afence if pool_is == "async" else None
    asked = Probe(plain if probe == "plain" else hang, every=10.0, timeout=1.0, fall=3, jitter=0.0)
    pool = FailoverPool("db", [Member("a", "a0"), Member("b", "b0")], on=Lost, probe=asked,
                        fence=fence)  # fmt: skip

    def bad_answers():
        return pool._engine.slots["a"].bad_probes

    async def main():
        async with pool:
            for bad in (1, 2, 3):
                while bad_answers() < bad and clock.now() < 100.0:
                    clock.advance(0.5)
                    await asyncio.sleep(0.002)
            assert state_of(pool, "a") == "ejected"
            go.set()

    if pool_is == "async":
        asyncio.run(main())
    else:
        with pool:
            wait_until(lambda: clock.advance(0.5) or bad_answers() == 3)
            assert state_of(pool, "a") == "ejected"
            go.set()
    assert metrics("ejections_total", member="a", cause="probe") == 1
    assert clock.now() >= 21.0


# Known faults of other libraries, by their numbers in the survey.


def test_a_resource_that_hangs_does_not_leak_a_thread_for_each_probe(site, metrics):
    """Known fault 8: redis-py leaves a thread behind for each client."""
    go, asked = threading.Event(), []

    def probe(resource):
        asked.append(resource[0])
        return resource == "b0" or go.wait(LONGEST)

    pool = FailoverPool("db", [site.member("a"), Member("b", "b0")], on=Lost, failback=AT_ONCE,
                        probe=Probe(probe, every=0.01, timeout=0.05, fall=1),
                        detect=Detect(eject_for=0.01, max_eject=0.01))  # fmt: skip
    with pool:
        wait_until(lambda: asked.count("a") == 3)
        asked.clear()
        wait_until(lambda: asked.count("b") == 15)
        assert "a" not in asked
        go.set()
        wait_until(lambda: state_of(pool, "a") == "active")


def test_a_broken_standby_is_found_before_it_is_needed(pools, site, metrics):
    """Known fault 21: a fallback that is never exercised is broken when it is needed."""
    probe = Probe(pools.hook(lambda resource: resource[0] != "b"), every=0.005, fall=2)
    members = [pools.member(site, "a")]
    members += [pools.member(site, name, standby="hot") for name in "bc"]
    pool = FailoverPool("db", members, on=Lost, probe=probe)
    pools.enter(pool)
    pools.until(lambda: state_of(pool, "b") == "ejected")
    assert metrics("ejections_total", member="b", cause="probe") == 1
    site.broken.add("a")
    for _ in range(4):
        assert pools.call(pool, site.use) == "c1"
    assert pool.status().serving == ("c",)
    pools.close(pool)


def test_a_dropped_pool_keeps_nothing(servers):
    """Known fault 8: redis-py's clients are kept by their threads."""
    before = {*threading.enumerate()}
    pool = servers.pool("a", "b", probe=Probe(lambda _resource: True, every=1000.0))
    pool.call(servers.use)
    alive = weakref.ref(pool._engine)
    del pool
    wait_until(lambda: gc.collect() >= 0 and alive() is None)
    wait_until(lambda: {*threading.enumerate()} <= before)


def union(_resource) -> Awaitable[bool] | bool:
    return True


def in_words(_resource) -> "Optional[bool]":  # noqa: F821 - never looked up
    return True


def anything(_resource) -> Any:
    return True


@pytest.mark.parametrize("fn", [union, in_words, anything])
def test_a_function_that_may_return_a_bool_is_a_probe(fn):
    """Redis.ping of redis-py is annotated as a union, and was refused."""
    assert Probe(fn).fn is fn
