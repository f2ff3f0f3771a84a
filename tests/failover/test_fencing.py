"""The fence in front of standbys: about whom it is asked, how often, and who may be used then."""

import contextlib
import itertools

import pytest

from mainstay import (
    AllMembersFailedError,
    Detect,
    FailoverPool,
    Member,
    Probe,
    current_lease,
    deadline,
)
from mainstay._failover.engine import PoolEngine
from support.pools import AT_ONCE, Elsewhere, Lost, state_of


class Fence:
    """Remembers what it was asked, and refuses on demand."""

    def __init__(self):
        self.asked = []
        self.broken = False

    def __call__(self, old, new):
        self.asked.append((old, new))
        if self.broken:
            raise Lost(f"{old} still holds the disk, not {new}")


@pytest.fixture
def fence():
    return Fence()


def fenced(pools, site, fence, *members, **options):
    return FailoverPool("db", members, on=Lost, fence=pools.hook(fence), failback=AT_ONCE,
                        **options)  # fmt: skip


def test_forcing_a_standby_fences_the_active_member(pools, site, fence, clock, metrics):
    pool = fenced(pools, site, fence, Member("a", "a0"), pools.member(site, "b", standby="hot"))
    assert pools.call(pool, site.use) == "a0"
    pool.force("b")
    assert pools.call(pool, site.use) == "b1"
    assert fence.asked == [("a", "b")]
    pool.release()
    assert pools.call(pool, site.use) == "a0"
    pools.close(pool)


def test_forcing_a_standby_fences_all_active_members(pools, site, fence, clock, metrics):
    members = [Member("a1", "a1"), Member("a2", "a2"), pools.member(site, "b", standby="cold")]
    pool = fenced(pools, site, fence, *members, select="round_robin")
    pool.force("b")
    assert pools.call(pool, site.use) == "b1"
    assert fence.asked == [("a1", "b"), ("a2", "b")]
    pools.close(pool)


def test_a_standby_that_was_forced_serves_only_after_its_fence(pools, site, fence, clock, metrics):
    pool = fenced(pools, site, fence, Member("a", "a0"), pools.member(site, "b", standby="hot"))
    fence.broken = True
    pool.force("b")
    with pytest.raises(AllMembersFailedError):
        pools.call(pool, site.use)
    fence.broken = False
    clock.advance(5.0)
    assert pools.call(pool, site.use) == "b1"
    pools.close(pool)


def test_draining_fences(pools, site, fence, clock, metrics):
    pool = fenced(pools, site, fence, Member("a", "a0"), pools.member(site, "b", standby="hot"))
    pool.drain("a")
    assert pools.call(pool, site.use) == "b1"
    assert fence.asked == [("a", "b")]
    pools.close(pool)


@pytest.mark.parametrize("standby", ["hot", "cold"])
def test_removing_the_only_active_member_hands_over_to_a_standby(
    pools, site, fence, clock, metrics, standby
):
    members = [Member("a", "a0"), pools.member(site, "b", standby=standby)]
    pool = fenced(pools, site, fence, *members)
    assert pools.call(pool, site.use) == "a0"
    pool.remove("a")
    assert pools.call(pool, site.use) == "b1"
    assert fence.asked == [("a", "b")]
    assert metrics("failovers_total", from_member="a", to_member="b", reason="removed") == 1
    assert metrics.states_of("b") == ["active"]
    pool.add(Member("n", "n0"))
    assert pools.call(pool, site.use) == "n0"
    pools.close(pool)


def test_the_second_standby_fences_the_first(pools, site, fence, clock, metrics):
    members = [pools.member(site, "b", standby="hot"), pools.member(site, "c", standby="hot")]
    pool = fenced(pools, site, fence, Member("a", "a0"), *members)
    pools.eject(pool, site, "a")
    assert pools.call(pool, site.use) == "b1"
    pools.eject(pool, site, "b")
    assert pools.call(pool, site.use) == "c1"
    assert fence.asked == [("a", "b"), ("b", "c")]
    pools.close(pool)


def test_a_standby_is_fenced_for_each_member_that_it_takes_over_from(
    pools, site, fence, clock, metrics
):
    members = [Member("a1", "x"), Member("a2", "y"), pools.member(site, "b", standby="hot")]
    pool = fenced(pools, site, fence, *members, select="round_robin")
    pool.drain("a1")
    assert {pools.call(pool, site.use) for _ in range(8)} == {"y", "b1"}
    pool.release()
    assert {pools.call(pool, site.use) for _ in range(8)} == {"x", "y"}
    pool.drain("a2")
    assert {pools.call(pool, site.use) for _ in range(8)} == {"x", "b1"}
    assert fence.asked == [("a1", "b"), ("a2", "b")]
    pools.close(pool)


def test_a_fence_that_refuses_is_asked_again_after_a_while_that_grows(
    pools, site, fence, clock, metrics
):
    fence.broken = True
    pool = fenced(pools, site, fence, Member("a", "a0"), pools.member(site, "b", standby="hot"),
                  when_all_down="raise")  # fmt: skip
    pool.drain("a")
    times = []
    for _ in range(600):
        with contextlib.suppress(AllMembersFailedError):
            pools.call(pool, site.use)
        times += [clock.now()] * (len(fence.asked) - len(times))
        clock.advance(0.5)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 4 <= len(times) <= 8
    assert all(5.0 * 2**n / 2 <= gap <= 5.0 * 2**n + 1.0 for n, gap in enumerate(gaps))
    fence.broken = False
    clock.advance(300.0)
    assert pools.call(pool, site.use) == "b1"
    pools.close(pool)


def test_a_refused_standby_gets_no_call_whoever_else_is_down(pools, site, fence, clock, metrics):
    fence.broken = True
    site.broken.add("open a")
    members = [pools.member(site, "a"), pools.member(site, "b", standby="hot")]
    pool = fenced(pools, site, fence, *members)
    for _ in range(20):
        with pytest.raises(AllMembersFailedError):
            pools.call(pool, site.use)
    assert fence.asked == [("a", "b")]
    assert pool.status().serving == ()
    pools.close(pool)


def test_a_member_that_nobody_took_over_from_comes_back_by_a_trial(pools, site, fence, metrics,
                                                                   clock):  # fmt: skip
    pool = fenced(pools, site, fence, Member("a", "a0"), when_all_down="wait")
    pools.eject(pool, site, "a")
    site.broken.clear()
    with deadline(60.0):
        assert pools.call(pool, site.use) == "a0"
    assert fence.asked == []
    pools.close(pool)


@pytest.fixture
def choices(monkeypatch):
    """How often calls have asked the pool what to do."""
    asked, choose = [], PoolEngine.choose

    def counted(*args):
        asked.append(None)
        return choose(*args)

    monkeypatch.setattr(PoolEngine, "choose", counted)
    return asked


def test_calls_wait_for_a_probe_without_asking_again_and_again(pools, site, metrics, choices):
    answers = iter([False] * 8)
    probe = Probe(pools.hook(lambda _name: next(answers, True)), every=0.01, rise=1, fall=1,
                  timeout=30.0)  # fmt: skip
    pool = FailoverPool("db", [Member("a", "a0")], on=Lost, when_all_down="wait", probe=probe,
                        detect=Detect(consecutive=1, eject_for=0.001, max_eject=0.001))  # fmt: skip
    pools.enter(pool)
    pools.until(lambda: state_of(pool, "a") == "ejected")
    assert pools.call(pool, site.use) == "a0"
    assert next(answers, None) is None
    assert len(choices) <= 12
    pools.close(pool)


def test_calls_wait_for_a_release_where_nothing_else_brings_a_member_back(
    pools, site, fence, metrics, choices
):
    members = [Member("a", "a0"), Member("b", "b0", standby="hot")]
    detect = Detect(consecutive=1, eject_for=0.001, max_eject=0.001)
    pool = FailoverPool("db", members, on=Lost, when_all_down="wait", detect=detect,
                        fence=pools.hook(fence))  # fmt: skip
    with deadline(30.0):
        pools.eject(pool, site, "a")
        assert pools.call(pool, site.use) == "b0"
    pool.drain("b")
    choices.clear()
    with deadline(0.3), pytest.raises(AllMembersFailedError):
        pools.call(pool, site.use)
    assert len(choices) <= 12
    site.broken.clear()
    pool.release()
    assert pools.call(pool, site.use) == "a0"
    pools.close(pool)


# Known faults of other libraries, by their numbers in the survey.


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


def test_a_write_from_before_the_switch_can_be_refused_by_its_epoch(servers, clock):
    """Known fault 22: without a token both sides of a switch write."""
    register, pool = Register(), servers.pool("a", "b")
    old = Elsewhere(pool.lease())
    epoch = old._context.run(current_lease).epoch
    servers.eject(pool, "a")
    pool.call(lambda name: register.write(name, current_lease().epoch))
    with pytest.raises(PermissionError):
        register.write("a", epoch)
    old.end()
    assert register.written == ["b"]


def test_no_call_goes_to_a_standby_before_the_fence_has_returned(pools, site, clock):
    """Known fault 22: pg_auto_failover's clients wrote to the wrong node in the window of the
    switch.
    """
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


def test_a_member_about_which_the_fence_is_asked_gets_no_trial(pools, site, clock):
    """Its trial was due in the plan that began to ask."""
    fenced = []
    members = [Member("a", "a0"), pools.member(site, "b", standby="hot")]
    pool = FailoverPool("db", members, on=Lost, when_all_down="raise",
                        fence=pools.hook(lambda old, new: fenced.append((old, new))))  # fmt: skip
    pool.drain("b")
    pools.eject(pool, site, "a")
    site.broken.clear()
    clock.advance(3_600.0)
    pool.release("b")
    assert pools.call(pool, site.use) == "b1"
    assert fenced == [("a", "b")]
    pools.close(pool)
