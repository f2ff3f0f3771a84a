"""Known faults of libraries that fail over, in how they keep members; one test each or more.

The names begin with the numbers of the survey's list of failure modes; a docstring says who has
the fault. Those of redundant calls are in `test_redundant_pitfalls`.
"""

import gc
import threading
import weakref

import pytest

from mainstay import (
    Detect,
    FailoverPool,
    Member,
    Probe,
    current_lease,
)
from tests.pools import AT_ONCE, LONGEST, Elsewhere, Lost, Servers, state_of, wait_until
from tests.servers import program

MEMBERS = ("a", "b", "c")


# 8. Threads that leak, or keep the process.


def test_8_hooks_and_probes_that_hang_do_not_keep_the_process(pools):
    """Threads of an executor are joined at exit: redis-py and hedge-python hang there."""
    program("hung_hooks.py", "async" if pools.loop else "sync")


def test_8_a_resource_that_hangs_does_not_leak_a_thread_for_each_probe(site, metrics):
    """redis-py leaves a thread behind for each client."""
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
        wait_until(lambda: asked.count("b") == 40)
        assert "a" not in asked
        go.set()
        wait_until(lambda: state_of(pool, "a") == "active")


# 20. Starting up.


def test_20_a_standby_that_is_opened_first_gets_no_calls(site, metrics):
    """HAProxy used its backup after a restart, while the primaries were up."""
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


def test_20_a_standby_serves_from_the_start_if_the_active_member_cannot_be_opened(pools, site):
    """A client whose first server is down at the start fails, with others that are up."""
    site.broken.add("open a")
    members = [pools.member(site, "a"), pools.member(site, "b", standby="hot")]
    pool = FailoverPool("db", members, on=Lost)
    assert pools.call(pool, site.use) == "b1"
    pools.close(pool)


def test_20_members_that_nobody_has_tried_are_well_until_they_fail(servers, clock):
    """redis-py's ALL_AVAILABLE refuses to start while one of three is down."""
    servers.broken["a"] = Lost
    pool = servers.pool(*MEMBERS)
    with pool:
        assert [member.state for member in pool.status().members] == ["active"] * 3
        assert pool.call(servers.use) == ("b",)


# 21. A standby that nobody has tried.


def test_21_a_broken_standby_is_found_before_it_is_needed(pools, site, metrics):
    """A fallback that is never exercised is broken when it is needed."""
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


# 22. Split brain.


class Register:
    """A resource that several members write to, and that remembers the highest epoch."""

    def __init__(self):
        self.epoch = 0
        self.written = []

    def write(self, value, epoch):
        if epoch < self.epoch:
            raise PermissionError(f"epoch {epoch} is over")
        self.epoch = epoch
        self.written.append(value)


def test_22_a_write_from_before_the_switch_can_be_refused_by_its_epoch(servers, clock):
    """Without a token both sides of a switch write."""
    register, pool = Register(), servers.pool("a", "b")
    old = Elsewhere(pool.lease())
    epoch = old._context.run(current_lease).epoch
    servers.eject(pool, "a")
    pool.call(lambda name: register.write(name, current_lease().epoch))
    with pytest.raises(PermissionError):
        register.write("a", epoch)
    old.end()
    assert register.written == ["b"]


def test_22_no_call_goes_to_a_standby_before_the_fence_has_returned(pools, site, clock):
    """pg_auto_failover's clients wrote to the wrong node in the window of the switch."""
    fenced = []
    members = [pools.member(site, "a"), pools.member(site, "b", standby="hot")]
    pool = FailoverPool("db", members, on=Lost, when_all_down="raise",
                        fence=pools.hook(lambda old, new: fenced.append((old, new))))  # fmt: skip
    pools.enter(pool)
    site.broken.add("a")
    used = []

    def use(resource):
        used.append((resource, list(fenced)))
        return site.use(resource)

    for _ in range(3):
        with pytest.raises(Lost):
            pools.call(pool, use)
    assert pools.call(pool, use) == "b1"
    assert used == [("a1", [])] * 4 + [("b1", [("a", "b")])]
    pools.close(pool)


# 23. Threads and processes.


def test_23_all_threads_share_one_round(servers):
    """A counter for each thread, as in elastic-transport, sends all fresh threads to one member."""
    pool, seen = servers.pool("a", "b", "c", "d", select="round_robin"), []
    for _ in range(200):
        thread = threading.Thread(target=lambda: seen.append(pool.call(servers.use)))
        thread.start()
        thread.join()
    assert {seen.count((name,)) for name in "abcd"} == {50}


def test_23_processes_do_not_all_begin_with_the_same_member():
    """A thousand fresh workers that begin at member 0 are a herd."""
    firsts = {Servers().pool(*"abcdefgh", select="round_robin").call(str) for _ in range(50)}
    assert len(firsts) > 3


def test_a_dropped_pool_keeps_nothing(servers):
    """redis-py's clients are kept by their threads."""
    pool = servers.pool("a", "b", probe=Probe(lambda _resource: True, every=1000.0))
    pool.call(servers.use)
    alive = weakref.ref(pool._engine)
    del pool
    wait_until(lambda: gc.collect() >= 0 and alive() is None)
