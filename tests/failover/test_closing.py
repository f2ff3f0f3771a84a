"""Closing a pool leaves no thread behind, but for what hangs."""

import asyncio
import threading

import pytest

from mainstay import (
    AllMembersFailedError,
    FailoverPool,
    Member,
    NoMemberError,
    Probe,
    deadline,
)
from support.pools import LONGEST, Elsewhere, Lost, state_of, wait_until
from support.processes import program


@pytest.fixture
def threads():
    """Give the names of the library's threads that the test has begun."""
    before = {*threading.enumerate()}

    def begun():
        names = [each.name for each in threading.enumerate() if each not in before]
        return [name for name in names if name.startswith("mainstay-") and "leases" not in name]

    return begun


@pytest.fixture
def gate(threads):
    """Something to hang at, which is opened in the end."""
    gate = threading.Event()
    yield gate
    gate.set()
    wait_until(lambda: not threads())


def soon(act):
    """Act in another thread, once the caller waits."""
    timer = threading.Timer(0.05, act)
    timer.start()
    return timer


def test_it_waits_for_a_member_that_is_being_opened_and_closes_it(site, metrics, gate, threads):
    def slow_open():
        gate.wait(LONGEST)
        return site.open("a")

    pool = FailoverPool("db", [Member("a", open=slow_open, close=site.close)], on=Lost)
    with deadline(0.01), pytest.raises(AllMembersFailedError):
        pool.call(site.use)
    timer = soon(gate.set)
    pool.close()
    assert threads() == []
    assert site.opened == site.closed == ["a1"]
    timer.join()


def test_it_waits_for_a_probe_that_is_on_its_way(site, metrics, gate, threads):
    asked = threading.Event()

    def ask(_resource):
        asked.set()
        return gate.wait(LONGEST)

    probe = Probe(ask, every=0.001, timeout=LONGEST)
    pool = FailoverPool("db", [Member("a", "a0")], on=Lost, probe=probe)
    with pool:
        asked.wait(LONGEST)
        timer = soon(gate.set)
    assert threads() == []
    timer.join()


def test_it_gives_up_on_what_hangs(site, metrics, gate, threads):
    hung = Member("a", open=lambda: gate.wait(LONGEST), start_timeout=0.01)
    pool = FailoverPool("db", [hung], on=Lost)
    with pytest.raises(AllMembersFailedError):
        pool.call(site.use)
    pool.close()
    assert threads() == ["mainstay-start-a"] * len(threads())
    assert not gate.is_set()


# Known faults of other libraries, by their numbers in the survey.


@pytest.mark.parametrize("switch", ["eject", "drain", "force", "close", "remove"])
def test_what_is_in_use_is_not_closed_by_a_switch(site, clock, switch):
    """Known fault 17: redis-py closes the sockets of the member that was active."""
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


@pytest.mark.process
def test_hooks_and_probes_that_hang_do_not_keep_the_process(pools):
    """Known fault 8: redis-py and hedge-python hang at exit, where an executor's threads are
    joined.
    """
    program("hung_hooks.py", "async" if pools.loop else "sync")


@pytest.mark.parametrize("hook", ["open", "fence"])
def test_a_start_cannot_close_its_own_pool(hook, metrics):
    """Known fault: calls began the start again and again, also after their time."""
    closes = []

    def close(*_names):
        closes.append(1)
        pool.close()

    members = [Member("a", open=close if hook == "open" else fail), Member("b", 1, standby="hot")]
    pool = FailoverPool("db", members[:1] if hook == "open" else members, on=Lost,
                        fence=close if hook == "fence" else None)  # fmt: skip
    with pytest.raises(NoMemberError) as caught:
        pool.call(use)
    assert {type(each) for each in caught.value.exceptions} <= {RuntimeError, Lost}
    assert "cannot be closed by what starts its member" in repr(caught.value.exceptions)
    assert len(closes) <= 2
    pool.close()


def test_an_async_start_cannot_close_its_own_pool(metrics):
    async def close():
        await pool.close()

    async def main():
        with pytest.raises(NoMemberError) as caught:
            await pool.call(ause)
        await pool.close()
        return caught.value.exceptions

    pool = FailoverPool("db", [Member("a", open=close)], on=Lost)
    [error] = asyncio.run(main())
    assert type(error) is RuntimeError


def fail():
    raise Lost("down")


def use(db):
    return db


async def ause(db):
    return db
