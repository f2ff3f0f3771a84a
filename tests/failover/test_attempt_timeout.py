"""`attempt_timeout` of a pool: an attempt that takes longer is cancelled and charged."""

import asyncio
import contextlib

import pytest

from mainstay import FailoverPool, Member, deadline
from support.pools import Lost, state_of

SOON = 0.02


def pool_of(*names, **options):
    members = [Member(name, name) for name in names]
    return FailoverPool("db", members, **{"on": Lost, "attempt_timeout": SOON, **options})


async def hang_at_a(name):
    if name == "a":
        await asyncio.sleep(60)
    return name


def called(pool):
    return pool.call(hang_at_a)


async def in_block(pool):
    async for attempt in pool:
        with attempt as name:
            return await hang_at_a(name)
    raise AssertionError("a block ends with a result or an exception")


@pytest.fixture(params=[called, in_block])
def call(request):
    return request.param


def test_of_60_calls_beside_a_member_that_hangs_none_is_lost(call, metrics):
    pool = pool_of("a", "b")

    async def main():
        answers = []
        for _ in range(60):
            async with asyncio.timeout(0.15):
                answers.append(await call(pool))
        return answers

    assert asyncio.run(main()) == ["b"] * 60
    assert metrics.outcomes() == {"recovered": 4, "success": 56}
    assert metrics.attempts_at("a") == {"timeout": 4}
    assert metrics.errors() == {"TimedOutError": 4}
    assert metrics("ejections_total", member="a", cause="consecutive") == 1


def test_the_error_of_an_attempt_that_took_too_long_says_so(call, metrics):
    pool = pool_of("a")
    with pytest.raises(TimeoutError, match=r"^db: attempt 1 at member a took longer than 0\.020 s"):
        asyncio.run(call(pool))
    assert metrics.outcomes() == {"error": 1}
    assert metrics.attempts_at("a") == {"timeout": 1}


def test_the_answer_of_on_is_not_asked_for(call, metrics):
    pool = pool_of("a", "b", on=lambda error: pytest.fail(f"asked about {error!r}"))
    assert asyncio.run(call(pool)) == "b"


@pytest.mark.parametrize("limit", ["timeout", "deadline"])
def test_an_attempt_that_was_given_less_says_nothing(call, limit, metrics):
    pool = pool_of("a", "b", timeout=SOON if limit == "timeout" else None, attempt_timeout=60)

    async def main():
        for _ in range(8):
            around = deadline(SOON) if limit == "deadline" else contextlib.nullcontext()
            with around, pytest.raises(TimeoutError):
                await call(pool)

    asyncio.run(main())
    assert state_of(pool, "a") == "active"
    assert metrics.attempts_at("a") == {"cancelled": 8}
    assert metrics.attempts_at("b") == {}
    assert metrics.outcomes() == {"timeout": 8}


def test_a_cancellation_from_outside_wins(call, metrics):
    pool = pool_of("a", "b", attempt_timeout=60)

    async def main():
        task = asyncio.ensure_future(call(pool))
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert metrics.outcomes() == {"cancelled": 1}


def test_sync_code_is_refused_and_told_what_to_use():
    pool = pool_of("a")
    with pytest.raises(TypeError, match=r"timeout\(\.\.\., in_thread=True\)"):
        pool.call(str)
    with pytest.raises(TypeError, match=r"timeout\(\.\.\., in_thread=True\)"):
        pool(lambda name: name)
    with pytest.raises(TypeError, match=r"`attempt_timeout`"):
        iter(pool)


@pytest.mark.parametrize("bad", ["1", True])
def test_what_is_no_time_is_refused_by_name(bad):
    with pytest.raises(TypeError, match="`attempt_timeout`"):
        pool_of("a", attempt_timeout=bad)


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), float("inf")])
def test_a_time_out_of_range_is_refused_by_name(bad):
    with pytest.raises(ValueError, match="`attempt_timeout`"):
        pool_of("a", attempt_timeout=bad)
