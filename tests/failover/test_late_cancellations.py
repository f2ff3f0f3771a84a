"""Members that hang, found out by calls whose callers leave: late cancellations."""

import asyncio
import contextlib

import pytest

from mainstay import DeadlineExpiredError, Detect, FailoverPool, Member, deadline
from support.pools import AT_ONCE, Lost, Servers, state_of

LIMIT = 0.15
"""Seconds after which the callers of these tests leave."""


class Silent(Servers):
    """Members that hang as long as they are in `hanging`, and else answer after their time."""

    def __init__(self, clock, *hanging):
        super().__init__()
        self.clock = clock
        self.hanging = set(hanging)
        self.seconds = 0.005

    async def ause(self, name):
        self.calls.append(name)
        if name in self.hanging:
            await asyncio.get_running_loop().create_future()
        self.clock.advance(self.seconds)
        return name

    async def left(self, call):
        """Make a call whose caller leaves; return True if it is lost."""
        task = asyncio.create_task(call())
        for _ in range(5):
            await asyncio.sleep(0)
        if not task.done():
            self.clock.advance(LIMIT)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            return await task not in ("a", "b")
        return True

    async def lost(self, call, times=60):
        return sum([await self.left(call) for _ in range(times)])


FORMS = {
    "called": lambda pool, fn: lambda: pool.call(fn),
    "decorated": lambda pool, fn: pool(fn),
}


@pytest.fixture(params=FORMS.values(), ids=[*FORMS])
def form(request):
    return request.param


@pytest.fixture
def silent(clock):
    return Silent(clock, "a")


def test_a_member_that_hangs_is_ejected_when_callers_leave(form, silent, metrics):
    pool = silent.pool("a", "b")
    assert asyncio.run(silent.lost(form(pool, silent.ause))) == 4
    assert state_of(pool, "a") == "ejected"
    assert metrics("ejections_total", member="a", cause="slow") == 1
    assert metrics.outcomes() == {"cancelled": 4, "success": 56}
    assert metrics.attempts_at("a") == {"timeout": 4}


def test_it_is_ejected_after_one_good_answer_of_nearly_twice_the_time(form, silent, metrics):
    pool = silent.pool("a", "b")

    async def main():
        silent.hanging, silent.seconds = set(), 1.99 * LIMIT
        assert await form(pool, silent.ause)() == "a"
        silent.hanging, silent.seconds = {"a"}, 0.005
        return await silent.lost(form(pool, silent.ause))

    assert asyncio.run(main()) == 5
    assert metrics.attempts_at("a") == {"success": 1, "cancelled": 1, "timeout": 4}


@pytest.mark.parametrize(("answers", "lost"), [(99, 60), (100, 4)])
def test_each_of_the_last_100_answers_shows_what_is_normal(silent, metrics, answers, lost):
    pool = silent.pool("a", "b")

    async def main():
        silent.hanging, silent.seconds = set(), 1000.0
        await pool.call(silent.ause)
        silent.seconds = 0.005
        for _ in range(answers):
            await pool.call(silent.ause)
        silent.hanging = {"a"}
        return await silent.lost(pool(silent.ause))

    assert asyncio.run(main()) == lost


def test_callers_that_leave_before_a_member_usually_answers_say_nothing(silent, metrics):
    pool = silent.pool("a", "b", detect=Detect(slow=1000.0))
    assert asyncio.run(silent.lost(pool(silent.ause))) == 60
    assert state_of(pool, "a") == "active"
    assert metrics.attempts_at("a") == {"cancelled": 60}


def test_an_answer_ends_the_silence(silent, metrics):
    pool = silent.pool("a", "b")

    async def main():
        for _ in range(20):
            silent.hanging = {"a"}
            await silent.lost(pool(silent.ause), 3)
            silent.hanging = set()
            await silent.lost(pool(silent.ause), 1)

    asyncio.run(main())
    assert state_of(pool, "a") == "active"


def test_a_late_cancelled_trial_is_a_failed_trial(silent, metrics):
    pool = silent.pool("a", "b", failback=AT_ONCE)

    async def main():
        await silent.lost(pool(silent.ause), 4)
        silent.clock.advance(5.0)
        await silent.lost(pool(silent.ause), 1)

    asyncio.run(main())
    assert state_of(pool, "a") == "ejected"
    assert metrics.attempts_at("a") == {"timeout": 5}
    assert pool.status().members[0].seconds > 2.6  # longer than the shortest first ejection


def test_it_is_found_out_too_when_another_member_has_failed_before(silent, metrics):
    pool = silent.pool("b", "a", "c")
    silent.broken["b"] = Lost

    async def use(name):
        return "b" if name == "c" else await silent.ause(name) if name == "a" else silent.use(name)

    asyncio.run(silent.lost(pool(use), 8))
    assert state_of(pool, "a") == "ejected"


def test_blocks_and_leases_that_are_cancelled_say_nothing(silent, metrics):
    pool = silent.pool("a", "b")

    async def block():
        async for attempt in pool:
            with attempt as name:
                return await silent.ause(name)
        return None

    async def lease():
        async with pool.lease() as name:
            return await silent.ause(name)

    for call in (block, lease):
        assert asyncio.run(silent.lost(call, 20)) == 20
    assert state_of(pool, "a") == "active"
    assert metrics.attempts_at("a") == {"cancelled": 40}


async def hang_at_a(name):
    if name == "a":
        await asyncio.sleep(60)
    return name


@pytest.mark.parametrize(
    ("limit", "error", "outcome"),
    [(asyncio.timeout, TimeoutError, "cancelled"), (deadline, DeadlineExpiredError, "timeout")],
    ids=["asyncio.timeout", "deadline"],
)
def test_of_60_calls_in_real_time_four_are_lost(metrics, limit, error, outcome):
    pool = FailoverPool("db", [Member("a", "a"), Member("b", "b")], on=Lost)

    async def main():
        lost = 0
        for _ in range(60):
            try:
                async with limit(LIMIT):
                    await pool.call(hang_at_a)
            except error:
                lost += 1
        return lost

    assert asyncio.run(main()) == 4
    assert metrics.outcomes() == {outcome: 4, "success": 56}
    assert metrics.attempts_at("a") == {"timeout": 4}
