"""Opening, closing, standbys, fences and probes: what a pool does with its members by itself."""

import asyncio
import contextlib
import gc
import threading
import time

import pytest

from mainstay import (
    AllMembersFailedError,
    Detect,
    Failback,
    FailoverPool,
    Member,
    Probe,
    default_metrics,
    failover,
    set_default_metrics,
)
from mainstay.testing import FakeClock, recorded

LONGEST = 10.0  # seconds that a test polls for what a thread does


class Lost(ConnectionError):
    """What makes the members of these tests fail."""


def wait_until(condition):
    end = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.001)


class Site:
    """Resources that know whether they are open, opened and closed by the hooks of a pool."""

    def __init__(self):
        self.opened = []
        self.closed = []
        self.broken = set()

    def member(self, name, **options):
        return Member(name, open=lambda: self.open(name), close=self.close, **options)

    def amember(self, name, **options):
        async def open_():
            await asyncio.sleep(0)
            return self.open(name)

        async def close(resource):
            await asyncio.sleep(0)
            self.close(resource)

        return Member(name, open=open_, close=close, **options)

    def open(self, name):
        if f"open {name}" in self.broken:
            raise Lost(f"open {name}")
        resource = f"{name}{sum(each.startswith(name) for each in self.opened) + 1}"
        self.opened.append(resource)
        return resource

    def close(self, resource):
        if f"close {resource[0]}" in self.broken:
            raise Lost(f"close {resource}")
        self.closed.append(resource)

    def use(self, resource):
        if resource[0] in self.broken:
            raise Lost(resource)
        return resource


class Colour:
    """Runs the same behaviour with sync members and functions, or with async ones."""

    def __init__(self, kind):
        self.kind = kind
        self.loop = asyncio.new_event_loop() if kind == "async" else None

    def member(self, site, name, **options):
        make = site.amember if self.loop else site.member
        return make(name, **options)

    def call(self, pool, fn):
        if not self.loop:
            return failover(pool)(fn)()

        async def awaited(resource):
            await asyncio.sleep(0)
            return fn(resource)

        return self.loop.run_until_complete(failover(pool)(awaited)())

    def enter(self, pool):
        if self.loop:
            self.loop.run_until_complete(pool.__aenter__())
        else:
            pool.__enter__()

    def close(self, pool):
        if self.loop:
            self.loop.run_until_complete(pool.close())
        else:
            pool.close()

    def until(self, condition):
        if not self.loop:
            wait_until(condition)
            return
        end = time.monotonic() + LONGEST
        while not condition():
            assert time.monotonic() < end, "it never happened"
            self.loop.run_until_complete(asyncio.sleep(0))


@pytest.fixture(params=["sync", "async"])
def colour(request):
    colour = Colour(request.param)
    yield colour
    if colour.loop:
        colour.loop.close()


@pytest.fixture
def site():
    return Site()


@pytest.fixture
def values():
    """Metrics that can be asked, and that leave the context empty, as in production."""
    before = default_metrics()
    with recorded() as mine:
        pass
    set_default_metrics(mine)
    yield mine
    set_default_metrics(before)


@pytest.fixture
def clock():
    with FakeClock() as clock:
        yield clock


GRACE = Failback("grace", grace=0.0)


def kill(colour, site, pool, name):
    """Break a member, and call until the pool has ejected it."""
    site.broken.add(name)
    for _ in range(4):
        with contextlib.suppress(Lost):
            colour.call(pool, site.use)


def test_members_open_at_first_use_and_close_with_the_pool(colour, site, values):
    pool = FailoverPool("db", [colour.member(site, "a"), colour.member(site, "b")], on=Lost)
    assert site.opened == []
    assert colour.call(pool, site.use) == "a1"
    colour.until(lambda: sorted(site.opened) == ["a1", "b1"])
    colour.until(lambda: all(member.open for member in pool.status().members))
    colour.close(pool)
    assert sorted(site.closed) == ["a1", "b1"]


def test_a_block_opens_at_once_and_closes_at_the_end(colour, site, values):
    pool = FailoverPool("db", [colour.member(site, "a"), colour.member(site, "b")], on=Lost)
    colour.enter(pool)
    assert sorted(site.opened) == ["a1", "b1"]
    colour.close(pool)
    assert sorted(site.closed) == ["a1", "b1"]


def test_a_closed_pool_opens_again_at_the_next_call(colour, site, values):
    pool = FailoverPool("db", [colour.member(site, "a")], on=Lost)
    assert colour.call(pool, site.use) == "a1"
    colour.close(pool)
    assert colour.call(pool, site.use) == "a2"
    colour.close(pool)
    assert site.closed == ["a1", "a2"]


def test_a_hot_standby_is_open_and_gets_no_traffic_until_needed(colour, site, values, clock):
    members = [colour.member(site, "a"), colour.member(site, "b", standby="hot")]
    pool = FailoverPool("db", members, on=Lost, failback=GRACE, select="round_robin")
    colour.enter(pool)
    assert sorted(site.opened) == ["a1", "b1"]
    assert [colour.call(pool, site.use) for _ in range(4)] == ["a1"] * 4
    kill(colour, site, pool, "a")
    assert colour.call(pool, site.use) == "b1"
    assert values.value("failovers_total", from_member="a", to_member="b", reason="ejected") == 1
    site.broken.clear()
    clock.advance(5.0)
    colour.call(pool, site.use)
    colour.until(lambda: pool.status().members[0].open)
    assert colour.call(pool, site.use) == "a2"
    assert values.value("failovers_total", from_member="b", to_member="a", reason="failback") == 1
    assert values.value("member_state", member="b", state="standby_hot") == 1
    colour.close(pool)


def test_a_call_that_fails_everywhere_else_goes_on_to_a_hot_standby(colour, site, values):
    members = [colour.member(site, "a"), colour.member(site, "b", standby="hot")]
    pool = FailoverPool("db", members, on=Lost)
    colour.enter(pool)
    site.broken.add("a")
    assert colour.call(pool, site.use) == "b1"
    assert values.value("member_state", member="b", state="standby_hot") == 1
    colour.close(pool)


def test_a_cold_standby_is_opened_when_needed_and_closed_after_the_failback(
    colour, site, values, clock
):
    members = [colour.member(site, "a"), colour.member(site, "c", standby="cold")]
    pool = FailoverPool("db", members, on=Lost, failback=GRACE)
    colour.enter(pool)
    assert site.opened == ["a1"]
    assert values.value("member_state", member="c", state="standby_cold") == 1
    site.broken.add("a")
    for _ in range(3):
        with pytest.raises(Lost):
            colour.call(pool, site.use)
    assert colour.call(pool, site.use) == "c1"
    assert values.value("standby_start_seconds_count") == 1
    site.broken.clear()
    clock.advance(5.0)
    assert colour.call(pool, site.use) in {"c1", "a2"}
    colour.until(lambda: pool.status().members[0].open)
    assert colour.call(pool, site.use) == "a2"
    colour.until(lambda: "c1" in site.closed)
    assert site.closed == ["a1", "c1"]
    colour.close(pool)


def test_one_standby_is_activated_for_each_lost_active_member(colour, site, values, clock):
    members = [colour.member(site, name) for name in "ab"]
    members += [colour.member(site, name, standby="cold") for name in "xyz"]
    pool = FailoverPool("db", members, on=Lost, select="round_robin")
    colour.enter(pool)
    site.broken.add("a")
    while pool.status().members[0].state != "ejected":
        colour.call(pool, site.use)
    colour.until(lambda: set(pool.status().serving) == {"b", "x"})
    site.broken.add("b")
    while pool.status().members[1].state != "ejected":
        colour.call(pool, site.use)
    colour.until(lambda: set(pool.status().serving) == {"x", "y"})
    assert [each for each in site.opened if each[0] in "xyz"] == ["x1", "y1"]
    colour.close(pool)


def test_a_cold_start_happens_once_however_many_wait(site, values):
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


def test_an_open_that_raises_moves_on_and_is_told(colour, site, values, clock):
    site.broken.add("open a")
    pool = FailoverPool("db", [colour.member(site, "a"), colour.member(site, "b")], on=Lost)
    heard = []
    pool.on_event(lambda event: heard.append((event.kind, event.member)))
    colour.enter(pool)
    assert colour.call(pool, site.use) == "b1"
    colour.until(lambda: ("member_broken", "a") in heard)
    assert isinstance(pool.status().members[0].error, Lost)
    colour.close(pool)


def test_if_nothing_can_be_opened_the_group_says_why_for_each(colour, site, values, clock):
    site.broken |= {"open a", "open b"}
    pool = FailoverPool("db", [colour.member(site, "a"), colour.member(site, "b")], on=Lost)
    with pytest.raises(AllMembersFailedError) as caught:
        colour.call(pool, site.use)
    assert [str(error) for error in caught.value.exceptions] == ["open a", "open b"]
    assert caught.value.exceptions[0].__notes__ == ["mainstay.failover db: open of member a"]
    colour.close(pool)


def test_a_pool_that_could_open_nothing_tries_again_at_the_next_call(colour, site, values, clock):
    site.broken |= {"open a"}
    pool = FailoverPool("db", [colour.member(site, "a")], on=Lost)
    for _ in range(3):
        with pytest.raises(AllMembersFailedError):
            colour.call(pool, site.use)
    site.broken.clear()
    assert colour.call(pool, site.use) == "a1"
    colour.close(pool)


def test_the_last_member_is_opened_again_when_its_resource_is_dead(colour, site, values, clock):
    pool = FailoverPool("db", [colour.member(site, "a")], on=Lost)

    def use(resource):
        if resource == "a1":
            raise Lost(resource)
        return resource

    for _ in range(4):
        with pytest.raises(Lost):
            colour.call(pool, use)
    assert colour.call(pool, use) == "a2"
    colour.until(lambda: site.closed == ["a1"])
    colour.close(pool)


def test_an_open_that_hangs_is_given_up_and_closed_when_it_comes_after_all(site, values):
    go = threading.Event()

    def hang():
        go.wait(LONGEST)
        return site.open("a")

    members = [Member("a", open=hang, close=site.close, start_timeout=0.02), Member("b", "b0")]
    pool = FailoverPool("db", members, on=Lost)
    assert failover(pool)(site.use)() == "b0"
    wait_until(lambda: failover(pool)(site.use)() and pool.status().members[0].error is not None)
    assert isinstance(pool.status().members[0].error, TimeoutError)
    go.set()
    wait_until(lambda: site.closed == ["a1"])
    pool.close()


def test_an_async_open_that_hangs_is_cancelled(site, values):
    cancelled, started = [], asyncio.Event()

    async def hang():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    async def main():
        members = [Member("a", open=hang), Member("b", "b0", standby="hot")]
        pool = FailoverPool("db", members, on=Lost)

        @failover(pool)
        async def use(resource):
            return resource

        answer = await use()
        await started.wait()
        await pool.close()
        return answer

    assert asyncio.run(main()) == "b0"
    assert cancelled == [True]


def test_a_close_that_raises_is_told_and_holds_up_nothing(colour, site, values):
    site.broken.add("close a")
    pool = FailoverPool("db", [colour.member(site, "a"), colour.member(site, "b")], on=Lost)
    heard = []
    pool.on_event(lambda event: heard.append((event.kind, event.member, event.what)))
    colour.enter(pool)
    colour.close(pool)
    assert heard == [("member_broken", "a", "close")]
    assert site.closed == ["b1"]


def test_a_member_removed_while_it_is_leased_is_closed_when_the_lease_ends(site, values):
    pool = FailoverPool("db", [site.member("a"), site.member("b")], on=Lost)
    with pool.lease() as resource:
        pool.remove("a")
        assert site.closed == []
        assert failover(pool)(site.use)() == "b1"
        assert resource == "a1"
    wait_until(lambda: site.closed == ["a1"])
    pool.close()


def test_the_fence_returns_before_a_standby_takes_over(colour, site, values, clock):
    fenced = []

    def fence(old, new):
        fenced.append((old, new))

    async def afence(old, new):
        fence(old, new)

    members = [colour.member(site, "a"), colour.member(site, "b", standby="hot")]
    hook = afence if colour.loop else fence
    pool = FailoverPool("db", members, on=Lost, fence=hook, when_all_down="raise")
    colour.enter(pool)
    site.broken.add("a")
    for _ in range(3):
        with pytest.raises(Lost):
            colour.call(pool, site.use)
    assert fenced == []
    assert colour.call(pool, site.use) == "b1"
    assert fenced == [("a", "b")]
    colour.close(pool)


def test_a_standby_whose_fence_fails_is_not_promoted(colour, site, values, clock):
    def fence(old, new):
        raise Lost(f"{old} still holds the disk, not {new}")

    members = [colour.member(site, "a"), colour.member(site, "b", standby="hot")]
    pool = FailoverPool("db", members, on=Lost, fence=fence, when_all_down="raise")
    colour.enter(pool)
    site.broken.add("a")
    for _ in range(4):
        with pytest.raises((Lost, AllMembersFailedError)):
            colour.call(pool, site.use)
    with pytest.raises(AllMembersFailedError):
        colour.call(pool, site.use)
    assert "b" not in pool.status().serving
    colour.close(pool)


def test_a_fenced_pool_without_a_probe_never_goes_back_by_itself(site, values, clock):
    members = [Member("a", "a0"), Member("b", "b0", standby="hot")]
    pool = FailoverPool("db", members, on=Lost, fence=lambda _old, _new: None)
    colour = Colour("sync")
    kill(colour, site, pool, "a")
    site.broken.clear()
    clock.advance(100_000.0)
    assert [colour.call(pool, site.use) for _ in range(3)] == ["b0"] * 3
    pool.release()
    assert colour.call(pool, site.use) == "a0"


def probed(colour, healthy, **options):
    """A probe of the colour, and how often it asked for each resource."""
    asked = []

    def probe(resource):
        asked.append(resource)
        return healthy(resource)

    async def aprobe(resource):
        return probe(resource)

    return Probe(aprobe if colour.loop else probe, **options), asked


def test_bad_probes_eject_and_good_ones_readmit(colour, site, values):
    bad = set()
    probe, _ = probed(colour, lambda resource: resource[0] not in bad,
                      every=0.01, rise=2, fall=3)  # fmt: skip
    members = [colour.member(site, "a"), colour.member(site, "b")]
    pool = FailoverPool("db", members, on=Lost, probe=probe, failback=GRACE,
                        detect=Detect(eject_for=0.02))  # fmt: skip
    colour.enter(pool)
    bad.add("a")
    colour.until(lambda: pool.status().members[0].state == "ejected")
    assert colour.call(pool, site.use) == "b1"
    assert values.value("ejections_total", member="a", cause="probe") == 1
    bad.clear()
    colour.until(lambda: pool.status().members[0].state == "active")
    assert colour.call(pool, site.use)[0] == "a"
    colour.close(pool)


def test_with_a_probe_no_call_is_used_as_a_trial(site, values, clock):
    colour = Colour("sync")
    probe, _ = probed(colour, lambda _resource: False, every=1_000.0)
    pool = FailoverPool("db", [Member("a", "a0"), Member("b", "b0")], on=Lost, probe=probe)
    kill(colour, site, pool, "a")
    clock.advance(400.0)
    assert [colour.call(pool, site.use) for _ in range(5)] == ["b0"] * 5
    assert values.value("member_attempts_total", member="a") == 4
    pool.close()


@pytest.mark.parametrize("answer", [None, 1, "yes"])
def test_a_probe_that_answers_no_bool_has_failed_and_is_told(site, values, answer):
    pool = FailoverPool("db", [Member("a", "a0"), Member("b", "b0")], on=Lost,
                        probe=Probe(lambda _resource: answer, every=0.01, fall=1))  # fmt: skip
    heard = []
    pool.on_event(heard.append)
    with pool:
        wait_until(lambda: any(each.kind == "member_broken" for each in heard))
    broken = next(each for each in heard if each.kind == "member_broken")
    assert (broken.what, type(broken.error)) == ("probe", TypeError)


def test_a_hung_probe_counts_as_a_failure_and_is_asked_only_once(site, values):
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


def test_an_async_probe_that_hangs_is_cancelled(site, values):
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


def test_an_async_pool_refuses_sync_use_and_another_loop(site):
    async def ping(_resource):
        return True

    pool = FailoverPool("db", [Member("a", "a0")], on=Lost, probe=Probe(ping))
    for use in (lambda: failover(pool)(site.use), pool.__enter__, pool.__iter__,
                lambda: pool.lease().__enter__()):  # fmt: skip
        with pytest.raises(TypeError, match="async"):
            use()

    async def main():
        async with pool:
            other = asyncio.new_event_loop()
            try:
                await asyncio.to_thread(lambda: other.run_until_complete(pool.__aenter__()))
            finally:
                other.close()

    with pytest.raises(RuntimeError, match="belongs to another event loop"):
        asyncio.run(main())


def test_an_async_pool_serves_the_next_loop_when_the_first_one_has_ended(site):
    pool = FailoverPool("db", [site.amember("a")], on=Lost)

    @failover(pool)
    async def use(resource):
        return resource

    assert asyncio.run(use()) == "a1"
    assert asyncio.run(use()) == "a2"


def test_a_sync_pool_serves_async_functions_without_blocking_the_loop(site):
    pool = FailoverPool("db", [site.member("a")], on=Lost)

    @failover(pool)
    async def use(resource):
        return resource

    assert asyncio.run(use()) == "a1"
    pool.close()
    assert site.closed == ["a1"]


def test_a_hundred_pools_leave_no_thread_and_no_task(site):
    before = threading.active_count()
    for _ in range(100):
        pool = FailoverPool("db", [site.member("a"), site.member("b", standby="hot")], on=Lost,
                            probe=Probe(lambda _resource: True, every=60.0))  # fmt: skip
        with pool:
            failover(pool)(site.use)()
    wait_until(lambda: threading.active_count() <= before)
    assert sorted(site.opened) == sorted(site.closed)

    async def ping(_resource):
        return True

    async def main():
        for _ in range(100):
            async with FailoverPool("db", [site.amember("a")], on=Lost,
                                    probe=Probe(ping, every=60.0)):  # fmt: skip
                pass
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    assert sorted(site.opened) == sorted(site.closed)


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


def test_many_threads_share_a_pool_whose_members_come_and_go(site, values):
    pool = FailoverPool("db", [site.member(name) for name in "abc"], on=Lost, select="round_robin",
                        failback=Failback(grace=0.0, ramp=0.01),
                        detect=Detect(eject_for=0.005, max_eject=0.01))  # fmt: skip
    stop, wrong = threading.Event(), []

    def use(resource):
        if resource in site.closed:
            wrong.append(resource)
        if resource[0] == "a" and len(wrong) == 0 and int(time.monotonic() * 100) % 2:
            raise Lost(resource)
        return resource

    def work():
        call = failover(pool)(use)
        while not stop.is_set():
            call()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: values.value("ejections_total") >= 0 and len(site.opened) > 10)
    stop.set()
    for thread in threads:
        thread.join(LONGEST)
    assert wrong == []
    assert all(member.in_flight == 0 for member in pool.status().members)
    pool.close()
    wait_until(lambda: sorted(site.opened) == sorted(site.closed))
