"""Copies at members that hang: late cancellations, and `attempt_timeout` of the pool."""

import asyncio
import contextlib
import math

import pytest

from mainstay import (
    Detect,
    FailoverPool,
    Member,
    NoDecisionError,
    RetryBudget,
    deadline,
    hedge,
    redundant,
    vote,
)
from support.pools import Lost, state_of

LIMIT = 0.15
"""Seconds after which the callers of these tests leave."""

PRIMARIES = ["inline", "task"]


@pytest.fixture(params=PRIMARIES)
def primary(request):
    return request.param


def pool_of(*names, **options):
    members = [Member(name, name) for name in names]
    return FailoverPool("db", members, **{"on": Lost, **options})


class Hanging:
    """Members that hang as long as they are in `names`, and else answer with their name."""

    def __init__(self, *names):
        self.names = set(names)

    async def use(self, name):
        if name in self.names:
            await asyncio.get_running_loop().create_future()
        return name


async def turns():
    for _ in range(9):
        await asyncio.sleep(0)


async def left(clock, call, seconds=LIMIT):
    """Make a call whose caller leaves after that time; return True if it is lost."""
    task = asyncio.create_task(call())
    await turns()
    if not task.done():
        clock.advance(seconds)
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await turns()
    return task.cancelled()


async def lost(clock, call, times=60):
    return sum([await left(clock, call) for _ in range(times)])


# Late cancellations.


@pytest.mark.parametrize("start", [hedge.after(60.0), None])
def test_a_member_that_hangs_is_ejected_when_callers_leave(clock, metrics, primary, start):
    pool = pool_of("a", "b")
    call = redundant(pool=pool, start=start, primary=primary)(Hanging("a").use)
    assert asyncio.run(lost(clock, call)) == 4
    assert state_of(pool, "a") == "ejected"
    assert metrics("ejections_total", member="a", cause="slow") == 1
    assert metrics("calls_total", outcome="cancelled", policy="redundant") == 4
    assert metrics.attempts_at("a") == {"timeout": 4}


def test_every_member_that_hung_is_charged(clock, metrics, primary):
    pool = pool_of("a", "b", "c")
    policy = redundant(pool=pool, start=hedge.together(), primary=primary)
    assert asyncio.run(lost(clock, policy(Hanging("a", "b").use), 6)) == 4
    assert (state_of(pool, "a"), state_of(pool, "b")) == ("ejected", "ejected")
    assert metrics.attempts_at("a") == metrics.attempts_at("b") == {"timeout": 4}


def test_a_loser_that_is_cancelled_because_another_copy_won_says_nothing(clock, metrics, primary):
    pool = pool_of("a", "b")
    call = redundant(pool=pool, start=hedge.together(), primary=primary)(Hanging("a").use)
    assert asyncio.run(lost(clock, call)) == 0
    assert state_of(pool, "a") == "active"
    assert metrics.attempts_at("a") == {"cancelled": 60}


def test_callers_that_leave_before_a_member_usually_answers_say_nothing(clock, metrics, primary):
    pool = pool_of("a", "b", detect=Detect(slow=math.inf))
    call = redundant(pool=pool, start=hedge.after(60.0), primary=primary)(Hanging("a").use)
    assert asyncio.run(lost(clock, call)) == 60
    assert state_of(pool, "a") == "active"
    assert metrics.attempts_at("a") == {"cancelled": 60}


def test_what_good_answers_take_is_learned_from_copies_too(clock, metrics, primary):
    pool = pool_of("a", "b")
    hanging = Hanging()

    async def use(name):
        if not hanging.names:
            await clock.asleep(2 * LIMIT)
        return await hanging.use(name)

    call = redundant(pool=pool, start=hedge.after(60.0), primary=primary)(use)

    async def main():
        await call()
        hanging.names = {"a"}
        return await lost(clock, call)

    assert asyncio.run(main()) == 6
    assert metrics.attempts_at("a") == {"success": 1, "cancelled": 2, "timeout": 4}


def test_an_answer_ends_the_silence(clock, metrics, primary):
    pool = pool_of("a", "b", detect=Detect(slow=2.5 * LIMIT))
    hanging = Hanging()
    call = redundant(pool=pool, start=hedge.after(60.0), primary=primary)(hanging.use)

    async def main():
        for _ in range(20):
            hanging.names = {"a"}
            await lost(clock, call, 2)
            hanging.names = {}
            await call()

    asyncio.run(main())
    assert state_of(pool, "a") == "active"
    assert metrics.attempts_at("a") == {"cancelled": 40, "success": 20}


def test_so_does_one_that_no_vote_judges(clock, metrics, primary):
    pool = pool_of("a", "b", detect=Detect(slow=2.5 * LIMIT))
    hanging = Hanging()

    async def use(name):
        await hanging.use(name)
        if name == "b":
            raise Lost
        return name

    call = redundant(pool=pool, decide=vote.unanimous(), primary=primary)(use)

    async def main():
        for _ in range(3):
            hanging.names = {"a", "b"}
            await lost(clock, call, 2)
            hanging.names = {}
            with pytest.raises(NoDecisionError):
                await call()

    asyncio.run(main())
    assert state_of(pool, "a") == "active"
    assert metrics.attempts_at("a") == {"cancelled": 6, "success": 3}


def test_the_block_of_a_race_that_is_left_says_nothing(clock, metrics):
    pool = pool_of("a", "b")

    async def race():
        async with redundant(pool=pool).race() as race:
            race.start(Hanging("a").use)
            await race.result()

    assert asyncio.run(lost(clock, race, 20)) == 20
    assert state_of(pool, "a") == "active"
    assert metrics.attempts_at("a") == {"cancelled": 20}


@pytest.mark.parametrize("limit", ["timeout", "deadline", "async deadline"])
def test_a_call_whose_own_time_is_up_tells_of_silent_members_too(metrics, primary, limit):
    """On the system's clock, since all three are told by timers of their own."""
    pool = pool_of("a", "b", detect=Detect(slow=0.015))
    timeout = 0.01 if limit == "timeout" else None
    policy = redundant(pool=pool, start=hedge.after(60.0), timeout=timeout, primary=primary)
    call = policy(Hanging("a").use)

    async def bounded():
        if limit == "timeout":
            return await call()
        if limit == "deadline":
            with deadline(0.01):
                return await call()
        async with deadline(0.01):
            return await call()

    async def main():
        failed = 0
        for _ in range(12):
            try:
                await bounded()
            except TimeoutError:
                failed += 1
            await turns()
        return failed

    assert asyncio.run(main()) <= 6
    assert state_of(pool, "a") == "ejected"
    assert metrics.attempts_at("a")["timeout"] == 4


def test_a_late_cancelled_trial_is_a_failed_trial(clock, metrics, primary):
    pool = pool_of("a", "b")
    call = redundant(pool=pool, start=hedge.after(60.0), primary=primary)(Hanging("a").use)

    async def main():
        await lost(clock, call, 4)
        clock.advance(5.0)
        await lost(clock, call, 1)

    asyncio.run(main())
    assert state_of(pool, "a") == "ejected"
    assert metrics.attempts_at("a") == {"timeout": 5}
    assert pool.status().members[0].seconds > 2.6  # longer than the shortest first ejection


# `attempt_timeout`, on the system's clock, by which tasks are cancelled.

SOON = 0.02


def test_an_attempt_that_takes_too_long_is_followed_by_a_copy_at_another_member(metrics, primary):
    pool = pool_of("a", "b", attempt_timeout=SOON)
    policy = redundant(pool=pool, start=hedge.after(60.0), on=Lost, primary=primary)

    async def main():
        return [await policy.call(Hanging("a").use) for _ in range(8)]

    assert asyncio.run(main()) == ["b"] * 8
    assert state_of(pool, "a") == "ejected"
    assert metrics.attempts_at("a") == {"timeout": 4}
    assert metrics.errors() == {"TimeoutError": 4}
    assert metrics("hedges_total", reason="failed") == 4
    assert metrics("ejections_total", member="a", cause="consecutive") == 1


def test_the_error_says_which_copy_took_too_long_and_where(metrics, primary):
    pool = pool_of("a", "b", attempt_timeout=SOON, on=lambda e: pytest.fail(f"asked about {e!r}"))
    policy = redundant(pool=pool, start=hedge.together(), primary=primary, raises="group")
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(policy.call(Hanging("a", "b").use))
    assert [str(error) for error in caught.value.exceptions] == [
        "db: copy 0 at member a took longer than 0.020 s",
        "db: copy 1 at member b took longer than 0.020 s",
    ]
    assert metrics.attempts_at("a") == metrics.attempts_at("b") == {"timeout": 1}


def test_a_loser_that_is_cancelled_before_its_time_says_nothing(metrics, primary):
    pool = pool_of("a", "b", attempt_timeout=60.0)
    policy = redundant(pool=pool, start=hedge.together(), primary=primary)

    async def main():
        answer = await policy.call(Hanging("a").use)
        await turns()
        return answer, asyncio.current_task().cancelling()

    assert asyncio.run(main()) == ("b", 0)
    assert metrics.attempts_at("a") == {"cancelled": 1}


def test_a_cancellation_from_outside_wins(metrics, primary):
    pool = pool_of("a", "b", attempt_timeout=60.0)
    policy = redundant(pool=pool, start=hedge.after(60.0), primary=primary)

    async def main():
        task = asyncio.ensure_future(policy.call(Hanging("a").use))
        await turns()
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert metrics.attempts_at("a") == {"cancelled": 1}


def test_a_copy_of_a_race_has_the_limit_of_the_pool_too(metrics):
    pool = pool_of("a", "b", attempt_timeout=SOON)

    async def main():
        async with redundant(pool=pool).race() as race:
            race.start(Hanging("a").use)
            race.start(Hanging("a", "b").use)
            return await race.result()

    with pytest.raises(TimeoutError, match=r"took longer than 0\.020 s"):
        asyncio.run(main())
    assert metrics.attempts_at("a") == metrics.attempts_at("b") == {"timeout": 1}


def test_sync_code_cannot_keep_the_limit_and_is_told_what_to_use():
    policy = redundant(pool=pool_of("a", "b", attempt_timeout=SOON))
    with pytest.raises(TypeError, match=r"timeout\(\.\.\., in_thread=True\)"):
        policy(lambda name: name)
    with pytest.raises(TypeError, match=r"timeout\(\.\.\., in_thread=True\)"), policy.race():
        pass


# Calls that are lost beside a member that hangs, in real time.


@pytest.mark.parametrize(("budget", "most"), [(None, 0), (0.05, 5)])
def test_of_60_hedged_calls_beside_a_member_that_hangs_few_are_lost(metrics, budget, most):
    pool = pool_of("a", "b")
    policy = redundant(pool=pool, start=hedge.after(0.01), budget=budget)

    async def main():
        failed = 0
        for _ in range(60):
            try:
                async with asyncio.timeout(LIMIT):
                    await policy.call(Hanging("a").use)
            except TimeoutError:
                failed += 1
        return failed

    assert asyncio.run(main()) <= most


def test_a_budget_may_refuse_the_copy_after_an_attempt_that_took_too_long(metrics):
    pool = pool_of("a", "b", attempt_timeout=SOON)
    policy = redundant(pool=pool, budget=RetryBudget(ratio=0.0, floor=0.0))
    with pytest.raises(TimeoutError, match="copy 0 at member a"):
        asyncio.run(policy.call(Hanging("a").use))


# `on_result` of the pool.


async def aself(status):
    return status


def refuses(status):
    return status == 503


@pytest.mark.parametrize("own", [None, lambda status: status == 500])
def test_an_answer_that_the_pool_refuses_is_a_failed_copy(metrics, primary, own):
    disposed = []
    pool = FailoverPool("db", [Member("a", 503), Member("b", 200)], on=Lost, on_result=refuses)
    policy = redundant(
        pool=pool, on_result=own, start=hedge.after(60.0), primary=primary, dispose=disposed.append
    )

    async def main():
        return [await policy.call(aself) for _ in range(5)]

    assert asyncio.run(main()) == [200] * 5
    assert state_of(pool, "a") == "ejected"
    assert metrics.attempts_at("a") == {"error": 4}
    assert metrics.errors() == {"ResultRefusedError": 4}
    assert disposed == [503] * 4
