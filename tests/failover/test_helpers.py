"""Helpers of a pool (probes, `open`, `close`, the fence) serve the pool, not the first caller."""

import contextvars
import gc
import threading
import weakref

import pytest

from mainstay import FailoverPool, Member, Probe, current_lease, deadline, remaining, retry
from mainstay.testing import FakeClock
from support.pools import LONGEST, Lost, state_of, wait_until

REQUEST = contextvars.ContextVar("request", default=None)


class Request:
    """What a user keeps in a context variable."""


def lease_or_none():
    try:
        return current_lease()
    except LookupError:
        return None


def test_helpers_see_nothing_of_the_call_that_came_first(pools, metrics):
    seen = {}

    def look(hook):
        seen[hook] = (REQUEST.get(), remaining(), lease_or_none())

    def open_(name):
        look(f"open {name}")
        return name

    members = [
        Member("a", open=pools.hook(lambda: open_("a")), close=pools.hook(lambda _: look("close"))),
        Member("b", open=pools.hook(lambda: open_("b")), standby="cold"),
    ]
    probe = Probe(pools.hook(lambda _: look("probe") or True), every=0.01)
    fence = pools.hook(lambda _old, _new: look("fence"))
    pool = FailoverPool("db", members, on=Lost, probe=probe, fence=fence)
    outer = FailoverPool("outer", [Member("o", "o")], on=Lost)
    token = REQUEST.set(Request())
    with deadline(LONGEST), outer.lease():
        pools.call(pool, str)
        pools.until(lambda: "probe" in seen)
        pool.drain("a")
        assert pools.call(pool, str) == "b"
        pools.close(pool)
    REQUEST.reset(token)
    hooks = ("open a", "open b", "close", "probe", "fence")
    assert seen == dict.fromkeys(hooks, (None, None, None))


def test_a_start_outlives_the_deadline_of_the_call_that_began_it(pools, metrics):
    """The wait of a caller ends with its deadline; the start goes on for the others."""
    go, opened = threading.Event(), []
    connect = retry(on=Lost, name="connect")(lambda: "a1")

    def open_():
        go.wait(LONGEST)
        opened.append(connect())
        return opened[-1]

    cold = Member("b", open=pools.hook(lambda: "b"), standby="cold")
    pool = FailoverPool("db", [Member("a", open=open_), cold], on=Lost)
    with deadline(0.2):
        with pytest.raises(Exception, match=r"no time left|still being opened|no member"):
            pools.call(pool, str)
        go.set()
        pools.until(lambda: opened)
    assert pools.call(pool, str) == "a1"
    assert opened == ["a1"]
    pools.close(pool)


def test_a_probe_asks_with_a_policy_of_its_own_while_the_first_request_runs_out(pools, metrics):
    """A healthy pool that was first used inside a `deadline` stays healthy."""
    asked = []

    @retry(on=Lost, name="ping")
    def ping(_resource):
        asked.append(1)
        return True

    probe = Probe(pools.hook(ping), every=0.005, fall=1)
    pool = FailoverPool("db", [Member("a", "a"), Member("b", "b")], on=Lost, probe=probe)
    with deadline(0.2):
        pools.call(pool, str)
        pools.until(lambda: remaining() == 0.0)
        asked.clear()
        pools.until(lambda: len(asked) > 5)
    assert [state_of(pool, name) for name in "ab"] == ["active", "active"]
    pools.close(pool)


def test_a_prober_keeps_nothing_of_the_first_request_alive(pools, metrics):
    probe = Probe(pools.hook(lambda _: True), every=0.01)
    pool = FailoverPool("db", [Member("a", "a")], on=Lost, probe=probe)
    request = Request()
    gone = weakref.ref(request)
    token = REQUEST.set(request)
    pools.call(pool, str)
    REQUEST.reset(token)
    del request, token
    gc.collect()
    assert gone() is None
    pools.close(pool)


def test_a_prober_keeps_the_clock_that_it_was_started_on(metrics):
    asked = threading.Event()
    probe = Probe(lambda _: asked.set() or True, every=10.0)
    pool = FailoverPool("db", [Member("a", "a")], on=Lost, probe=probe)
    with FakeClock() as clock:
        pool.call(str)
        clock.advance(11.0)
        assert asked.wait(LONGEST)
    pool.close()


@pytest.fixture
def no_threads(monkeypatch):
    """Let no thread be started until it is called again with False."""
    start = threading.Thread.start

    def full(_self):
        raise RuntimeError("can't start new thread")

    return lambda lack: monkeypatch.setattr(threading.Thread, "start", full if lack else start)


def test_a_prober_goes_on_after_a_shortage_of_threads(site, metrics, no_threads):
    asked = []
    probe = Probe(lambda _: asked.append(1) or True, every=0.005, fall=1)
    pool = FailoverPool("db", [Member("a", "a"), Member("b", "b")], on=Lost, probe=probe)
    pool.call(str)
    wait_until(lambda: asked)
    no_threads(True)
    threading.Event().wait(0.05)  # some rounds of it
    no_threads(False)
    asked.clear()
    wait_until(lambda: len(asked) > 3)
    assert [state_of(pool, name) for name in "ab"] == ["active", "active"]
    pool.close()


def test_a_prober_that_could_not_start_does_so_at_a_later_call(site, metrics, no_threads):
    """Field faults, A3: the call got a RuntimeError, and the members were never probed."""
    asked = []
    probe = Probe(lambda _: asked.append(1) or True, every=0.005)
    pool = FailoverPool("db", [site.member("a"), Member("b", "b")], on=Lost, probe=probe)
    no_threads(True)
    assert [pool.call(str) for _ in range(3)] == ["a1"] * 3
    no_threads(False)
    assert not asked
    assert pool.call(str) == "a1"
    wait_until(lambda: len(asked) > 3)
    assert pool._engine.rotation.wake > 0
    pool.close()


def test_without_threads_the_calling_one_starts_a_standby(servers, no_threads):
    servers.broken["a"] = Lost
    standby = Member("b", open=lambda: "b", standby="cold")
    with FailoverPool("db", [Member("a", "a"), standby], on=Lost) as pool:
        no_threads(True)
        for _ in range(3):
            with pytest.raises(Lost):
                pool.call(servers.use)
        assert pool.call(servers.use) == ("b",)
        no_threads(False)


def test_without_threads_the_calling_one_closes(site, metrics, no_threads):
    pool = FailoverPool("db", [site.member("a")], on=Lost)
    assert pool.call(str) == "a1"
    no_threads(True)
    pool.close()
    assert site.closed == ["a1"]
