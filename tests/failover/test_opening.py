"""Members are opened and closed: at the first use, after a failure, and with the pool."""

import asyncio
import contextlib
import contextvars
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
    deadline,
    failover,
)
from support.callers import awaitable
from support.pools import LONGEST, Lost, ause, use, wait_until


def test_members_open_at_first_use_and_close_with_the_pool(pools, site, metrics):
    pool = FailoverPool("db", [pools.member(site, "a"), pools.member(site, "b")], on=Lost)
    assert site.opened == []
    assert pools.call(pool, site.use) == "a1"
    pools.until(lambda: sorted(site.opened) == ["a1", "b1"])
    pools.until(lambda: all(member.open for member in pool.status().members))
    pools.close(pool)
    assert sorted(site.closed) == ["a1", "b1"]


def test_a_block_opens_at_once_and_closes_at_the_end(pools, site, metrics):
    pool = FailoverPool("db", [pools.member(site, "a"), pools.member(site, "b")], on=Lost)
    pools.enter(pool)
    assert sorted(site.opened) == ["a1", "b1"]
    pools.close(pool)
    assert sorted(site.closed) == ["a1", "b1"]


def test_a_closed_pool_opens_again_at_the_next_call(pools, site, metrics):
    pool = FailoverPool("db", [pools.member(site, "a")], on=Lost)
    assert pools.call(pool, site.use) == "a1"
    pools.close(pool)
    assert pools.call(pool, site.use) == "a2"
    pools.close(pool)
    assert site.closed == ["a1", "a2"]


def test_an_open_that_raises_moves_on_and_is_told(pools, site, metrics, clock):
    site.broken.add("open a")
    pool = FailoverPool("db", [pools.member(site, "a"), pools.member(site, "b")], on=Lost)
    heard = []
    pool.on_event(lambda event: heard.append((event.kind, event.member)))
    pools.enter(pool)
    assert pools.call(pool, site.use) == "b1"
    pools.until(lambda: ("member_broken", "a") in heard)
    assert isinstance(pool.status().members[0].error, Lost)
    pools.close(pool)


def test_if_nothing_can_be_opened_the_group_says_why_for_each(pools, site, metrics, clock):
    site.broken |= {"open a", "open b"}
    pool = FailoverPool("db", [pools.member(site, "a"), pools.member(site, "b")], on=Lost)
    with pytest.raises(AllMembersFailedError) as caught:
        pools.call(pool, site.use)
    assert [str(error) for error in caught.value.exceptions] == ["open a", "open b"]
    assert caught.value.exceptions[0].__notes__ == ["mainstay.failover db: open of member a"]
    pools.close(pool)


def test_a_pool_that_could_open_nothing_tries_again_at_the_next_call(pools, site, metrics, clock):
    site.broken |= {"open a"}
    pool = FailoverPool("db", [pools.member(site, "a")], on=Lost)
    for _ in range(3):
        with pytest.raises(AllMembersFailedError):
            pools.call(pool, site.use)
    site.broken.clear()
    assert pools.call(pool, site.use) == "a1"
    pools.close(pool)


def test_the_last_member_is_opened_again_when_its_resource_is_dead(pools, site, metrics, clock):
    pool = FailoverPool("db", [pools.member(site, "a")], on=Lost)

    def use(resource):
        if resource == "a1":
            raise Lost(resource)
        return resource

    for _ in range(4):
        with pytest.raises(Lost):
            pools.call(pool, use)
    assert pools.call(pool, use) == "a2"
    pools.until(lambda: site.closed == ["a1"])
    pools.close(pool)


def test_an_open_that_hangs_is_given_up_and_closed_when_it_comes_after_all(site, metrics):
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


def test_an_async_open_that_hangs_is_cancelled(site, metrics):
    cancelled, started = [], asyncio.Event()

    async def hang():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    async def main():
        members = [Member("a", open=hang), Member("b", "b0")]
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


def test_a_close_that_raises_is_told_and_holds_up_nothing(pools, site, metrics):
    site.broken.add("close a")
    pool = FailoverPool("db", [pools.member(site, "a"), pools.member(site, "b")], on=Lost)
    heard = []
    pool.on_event(lambda event: heard.append((event.kind, event.member, event.what)))
    pools.enter(pool)
    pools.close(pool)
    assert heard == [("member_broken", "a", "close")]
    assert site.closed == ["b1"]


def test_a_member_removed_while_it_is_leased_is_closed_when_the_lease_ends(site, metrics):
    pool = FailoverPool("db", [site.member("a"), site.member("b")], on=Lost)
    with pool.lease() as resource:
        pool.remove("a")
        assert site.closed == []
        assert failover(pool)(site.use)() == "b1"
        assert resource == "a1"
    wait_until(lambda: site.closed == ["a1"])
    pool.close()


def test_an_async_pool_refuses_sync_use_and_another_loop(site):
    async def ping(_resource):
        return True

    pool = FailoverPool("db", [Member("a", "a0")], on=Lost, probe=Probe(ping))
    for sync in (lambda: failover(pool)(site.use), pool.__enter__, pool.__iter__,
                 lambda: pool.lease().__enter__()):  # fmt: skip
        with pytest.raises(TypeError, match="async"):
            sync()

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


def test_many_threads_share_a_pool_whose_members_come_and_go(site, metrics):
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
    wait_until(lambda: metrics("ejections_total") >= 0 and len(site.opened) > 6)
    stop.set()
    for thread in threads:
        thread.join(LONGEST)
    assert wrong == []
    assert all(member.in_flight == 0 for member in pool.status().members)
    pool.close()
    wait_until(lambda: sorted(site.opened) == sorted(site.closed))


@pytest.mark.parametrize("hook", ["open", "fence", "probe", "close"])
def test_plain_hooks_of_an_async_pool_do_not_hold_up_its_event_loop(site, metrics, hook):
    seen = {}

    def plain(name, fn):
        def noted(*args):
            seen[name] = threading.current_thread() is threading.main_thread()
            return fn(*args)

        return noted

    async def never_called(resource):
        """Makes the pool async."""

    open_ = plain("open", lambda: site.open("c"))
    members = [
        Member("a", "a0"),
        Member("c", open=open_, close=plain("close", site.close), standby="cold"),
        Member("x", open=never_called, standby="cold"),
    ]
    pool = FailoverPool("db", members, on=Lost, fence=plain("fence", lambda _old, _new: None),
                        probe=Probe(plain("probe", lambda _resource: True)))  # fmt: skip

    @failover(pool)
    async def use(resource):
        return site.use(resource)

    async def main():
        site.broken.add("a")
        for _ in range(4):
            with contextlib.suppress(Lost):
                answer = await use()
        await pool.close()
        return answer

    assert asyncio.run(main()) == "c1"
    assert site.closed == ["c1"]
    assert seen[hook] is False


def test_what_a_plain_open_gives_too_late_is_closed_in_an_async_pool_too(site, metrics):
    began, go = threading.Event(), threading.Event()

    def late():
        began.set()
        go.wait(LONGEST)
        return site.open("a")

    async def main():
        member = Member("a", open=late, close=awaitable(site.close), start_timeout=0.02)
        pool = FailoverPool("db", [member, Member("b", "b0")], on=Lost)
        with contextlib.suppress(Lost):
            await failover(pool)(awaitable(site.use))()
        await asyncio.to_thread(began.wait, LONGEST)
        await pool.close()
        go.set()
        while not site.closed:  # noqa: ASYNC110 - polls
            await asyncio.sleep(0.001)

    async def limited():
        await asyncio.wait_for(main(), LONGEST)

    asyncio.run(limited())
    assert site.closed == ["a1"]


def test_an_error_of_a_plain_hook_of_an_async_pool_is_told(site, metrics):
    def refuse():
        raise StopIteration

    pool = FailoverPool("db", [Member("a", open=refuse, close=awaitable(site.close))], on=Lost)
    with pytest.raises(AllMembersFailedError) as caught:
        asyncio.run(failover(pool)(awaitable(site.use))())
    assert "raised StopIteration" in str(caught.value.exceptions[0])


def test_closing_waits_no_longer_for_a_close_that_hangs_than_a_start_may_take(pools):
    go = threading.Event()

    async def hang(_resource):
        await asyncio.Event().wait()

    close = hang if pools.loop else lambda _resource: go.wait(LONGEST)
    member = Member("a", open=pools.hook(lambda: "a0"), close=close, start_timeout=0.05)
    pool = FailoverPool("db", [member], on=Lost)
    pools.enter(pool)
    began = time.monotonic()
    pools.close(pool)
    assert time.monotonic() - began < LONGEST / 2
    go.set()


def test_status_says_all_that_is_known_of_each_member(servers, metrics, clock):
    site_error = Lost("open c")

    def refuse():
        raise site_error

    members = [Member("a", "a"), Member("b", "b", standby="hot"), Member("c", open=refuse)]
    pool = FailoverPool("db", members, on=Lost)
    with pool:
        servers.eject(pool, "a")
        with pool.lease():
            status = pool.status()
    assert (status.name, status.serving, status.forced, status.down) == ("db", ("b",), None, False)
    assert status.epoch == 1
    a, b, c = status.members
    assert (a.name, a.state, a.open, a.in_flight) == ("a", "ejected", True, 0)
    assert (a.score, a.cause, 2.5 <= a.seconds <= 5.0, a.error) == (1.0, "consecutive", True, None)
    assert (b.state, b.open, b.in_flight, b.score) == ("active", True, 1, 0.0)
    assert (b.cause, b.seconds, b.error) == (None, None, None)
    assert (c.state, c.open, c.error) == ("ejected", False, site_error)


# Known faults of other libraries, by their numbers in the survey.


async def _nothing(resource):
    return resource


def test_no_call_waits_longer_than_its_deadline_for_a_member_that_is_being_opened(clock):
    """Known fault 2: MongoDB's drivers wait for as long as the member's own limit."""
    go = threading.Event()
    pool = FailoverPool("db", [Member("a", open=lambda: go.wait(LONGEST))], on=Lost)
    waiting = threading.Event()

    def pass_time():
        waiting.wait(LONGEST)
        wait_until(lambda: pool.status().members[0].open or clock.advance(0.1) or clock.now() > 1.0)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(pass_time,))
    thread.start()
    with deadline(1.0):
        waiting.set()
        with pytest.raises(AllMembersFailedError):
            pool.call(str)
    go.set()
    thread.join(LONGEST)
    pool.close()


def test_a_callers_cancellation_is_not_swallowed_while_it_waits_for_a_member():
    """Known fault 11: asyncio's wait_for, and aiohappyeyeballs, return a result to a cancelled
    caller.
    """
    opening = []

    async def slow():
        opening.append(asyncio.current_task())
        await asyncio.Event().wait()

    async def main():
        pool = FailoverPool("db", [Member("a", open=slow)], on=Lost)
        task = asyncio.create_task(failover(pool)(_nothing)())
        while not opening:  # noqa: ASYNC110 - polls
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not opening[0].done()  # the start is not the call's: others may wait for it
        await pool.close()
        return task.cancelled(), opening[0].cancelled(), len(asyncio.all_tasks())

    assert asyncio.run(main()) == (True, True, 1)


def test_a_sync_pool_can_be_entered_and_closed_in_async_code():
    closed = []
    member = Member("a", open=lambda: "x", close=closed.append)

    async def main():
        async with FailoverPool("db", [member], on=Lost) as pool:
            return await failover(pool)(ause)()

    assert asyncio.run(main()) == "x"
    assert closed == ["x"]


def test_a_hook_of_a_sync_pool_that_returns_a_coroutine_is_refused(clock):
    async def connect():
        """Never awaited."""

    pool = FailoverPool("db", [Member("a", open=lambda: connect())], on=Lost)  # noqa: PLW0108 - it hides that it is async
    with pytest.raises(ExceptionGroup) as caught:
        pool.call(use)
    assert isinstance(caught.value.exceptions[0], TypeError)
