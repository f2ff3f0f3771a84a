"""Known faults of libraries that hedge or race, one test for each, named after what goes wrong.

Where it is in the survey's list of failure modes, the docstring has its number there.
"""

import asyncio
import contextvars
import random
import threading
import time

import pytest

from mainstay import (
    AllCopiesFailedError,
    AllMembersFailedError,
    FailoverPool,
    Member,
    NoDecisionError,
    RetryBudget,
    hedge,
    redundant,
    vote,
)
from mainstay._core.members import lender_of
from mainstay._redundant.sketch import Sketch
from mainstay.testing import Faults
from tests.redundancy import COLOURS, after

HEDGED = {"start": hedge.after(0.1), "budget": None, "name": "it"}
REAL = {**HEDGED, "start": hedge.after(0.001)}
PATIENCE = 10.0  # real seconds


class Lost(ConnectionError):
    """A failure that counts."""


@pytest.fixture(params=COLOURS.values(), ids=COLOURS)
def colour(request, clock, metrics):
    """One way of calling, on a clock."""
    return request.param


def call(colour, script, **parameters):
    policy = redundant(**{**HEDGED, **colour.options, **parameters})
    return colour.run(policy, colour.fn(Faults(script)))


def test_a_hedge_that_fails_fast_does_not_win(colour):
    """hedge-python takes the first copy that ends, even if it failed."""
    assert call(colour, [after(0.5, "page"), after(0.01, Lost)]) == "page"


def test_losers_that_hang_do_not_starve_later_calls():
    """Field section 4, item 8: on a shared ThreadPoolExecutor hedges wait for the losers."""
    release = threading.Event()
    policy = redundant(alternatives=[lambda: "fast"], **REAL)
    answers = [policy.call(lambda: release.wait(PATIENCE)) for _ in range(10)]
    release.set()
    assert answers == ["fast"] * 10


def test_the_answer_of_the_second_finisher_is_closed():
    """Field section 4, item 10: hedge-python leaks it; aiohappyeyeballs leaves runners-up open."""
    opened, closed = [], []

    async def connect():
        opened.append(object())
        connection = opened[-1]
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return connection

    async def main():
        policy = redundant(copies=3, start=hedge.together(), primary="task", dispose=closed.append)
        kept = await policy.call(connect)
        while len(closed) < 2:  # noqa: ASYNC110 - losers end on their own
            await asyncio.sleep(0)
        return kept

    kept = asyncio.run(main())
    assert [*closed, kept] != []
    assert {id(each) for each in closed} == {id(each) for each in opened} - {id(kept)}


def test_the_winner_is_not_cancelled_while_its_answer_is_used():
    """Field section 4, item 10: failsafe-go and go-resty cancel it before its body is read."""

    async def main():
        async def fetch():
            return asyncio.current_task()

        winner = await redundant(start=hedge.together(), primary="task").call(fetch)
        await asyncio.sleep(0)
        return winner

    assert not asyncio.run(main()).cancelled()


def test_a_callers_cancellation_is_not_swallowed_while_losers_clean_up():
    """Field section 4, item 11: aiohappyeyeballs returns a result to a cancelled caller."""

    async def main():
        async def slow_cleanup():
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                raise

        async def win():
            asyncio.get_running_loop().call_soon(task.cancel)
            return "answer"

        policy = redundant(alternatives=[win], **REAL)
        task = asyncio.create_task(policy(slow_cleanup)())
        with pytest.raises(asyncio.CancelledError):
            await task
        return task.cancelled()

    assert asyncio.run(main())


def test_cancelling_the_caller_leaves_no_copy_running():
    """Field section 4, item 11: hedge-python leaks both attempts."""

    async def main():
        both = asyncio.Barrier(3)

        async def hang():
            await both.wait()
            await asyncio.sleep(PATIENCE)

        task = asyncio.create_task(redundant(start=hedge.together()).call(hang))
        await both.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(10):  # turns of the loop, in which losers end
            await asyncio.sleep(0)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main()) == set()


def test_a_loser_that_ignores_its_cancellation_does_not_delay_the_answer():
    """Field section 4, item 11: Polly and hedge-python wait for their losers."""

    async def main():
        release = asyncio.Event()

        async def stubborn():
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        async def win():
            return "answer"

        policy = redundant(alternatives=[stubborn], start=hedge.together(), budget=None)
        async with asyncio.timeout(PATIENCE):
            answer = await policy.call(win)
        release.set()
        await asyncio.sleep(0)
        return answer

    assert asyncio.run(main()) == "answer"


VARIABLE = contextvars.ContextVar("variable", default="unset")


def test_context_variables_reach_every_copy():
    """Field section 4, item 12: `run_in_executor` loses them; two copies need two contexts."""
    seen = []
    VARIABLE.set("of the caller")
    policy = redundant(copies=4, decide=vote.unanimous())
    assert policy.call(lambda: seen.append(VARIABLE.get())) is None
    assert seen == ["of the caller"] * 4


def test_no_majority_is_an_outcome_of_its_own(colour, metrics):
    """Field section 4, item 13: a voter that returns some answer hides that."""
    fns = [colour.fn(Faults([number])) for number in range(3)]
    policy = redundant(alternatives=fns[1:], decide=vote.majority(), **colour.options)
    with pytest.raises(NoDecisionError) as caught:
        colour.run(policy, fns[0])
    assert len(caught.value.answers) >= 2
    assert metrics("votes_total", verdict="no_decision") == 1


def test_a_group_is_never_empty_and_one_copy_raises_its_own_error(colour):
    """Field section 4, item 14: asynchedging raises ValueError for an empty group."""
    with pytest.raises(AllCopiesFailedError) as caught:
        call(colour, [Lost("a"), Lost("b")])
    assert [str(each) for each in caught.value.exceptions] == ["a", "b"]
    assert all(len(each.__notes__) == 1 for each in caught.value.exceptions)
    with pytest.raises(Lost, match="alone"):
        call(colour, [Lost("alone")], budget=0.0)


def test_a_spent_budget_does_not_kill_the_primary(colour, metrics):
    """Field section 4, item 15: failsafe-go cancelled it when the budget was exceeded."""
    budget = RetryBudget(ratio=0, floor=0)
    assert call(colour, [after(0.5, "page")], budget=budget) == "page"
    assert metrics.outcomes() == {"success": 1}
    assert metrics("hedges_denied_total", reason="budget") == 1


def test_a_brownout_is_hedged_no_more_than_the_budget_allows(colour, metrics):
    """Polly, gRPC and hedgedhttp double the load when everything is slow but succeeds."""
    policy = redundant(**{**HEDGED, **colour.options, "budget": 0.1})
    fn = colour.fn(Faults(then=after(0.2, "page")))
    for _ in range(60):
        colour.run(policy, fn)
    assert 0 < metrics("hedges_total") <= 6


def test_recording_from_the_primarys_start_keeps_hedges_at_their_share():
    """To record only what the winner took turned a target of 5 % into 8 %."""
    numbers, sketch = random.Random(5), Sketch(0.95)
    hedged = calls = 0
    for _ in range(20_000):
        primary, second = (
            numbers.lognormvariate(-4.6, 0.5) * (10 if numbers.random() < 0.03 else 1)
            for _ in range(2)
        )
        took = primary
        if sketch.warm():
            calls += 1
            delay = sketch.value()
            if primary > delay:
                hedged += 1
                took = min(primary, delay + second)
        sketch.add([took])
    assert hedged / calls == pytest.approx(0.05, abs=0.005)


# At the members of a pool.


def pool_of(*names, **options):
    return FailoverPool("db", [Member(name, name) for name in names], on=Lost, **options)


def at_members(colour, **scripts):
    """What each member does, as a function that is given its name."""
    fns = {name: colour.fn(Faults(then=step)) for name, step in scripts.items()}
    if asyncio.iscoroutinefunction(next(iter(fns.values()))):

        async def fn(member):
            return await fns[member]()

        return fn
    return lambda member: fns[member]()


def states(pool):
    return {member.name: member.state for member in pool.status().members}


def test_no_member_at_all_is_told_at_once_with_the_reason_of_each(colour, clock):
    """Field section 4, item 2: a silent wait of 30 s, or an error that says nothing of why."""
    pool = pool_of("a", "b", when_all_down="raise")
    policy = redundant(pool=pool, **{**HEDGED, **colour.options})
    fn = at_members(colour, a=Lost, b=Lost)
    for _ in range(4):
        with pytest.raises(AllCopiesFailedError):
            colour.run(policy, fn)
    assert states(pool) == {"a": "ejected", "b": "ejected"}
    began = clock.now()
    with pytest.raises(AllMembersFailedError) as caught:
        colour.run(policy, fn)
    assert clock.now() == began
    assert caught.value.members == ("a", "b")
    assert all(str(each).startswith("ejected; next") for each in caught.value.exceptions)
    assert caught.value.retry_after > 0


def test_a_failure_from_before_the_ejection_changes_nothing(metrics):
    """Field section 4, item 4: a stale failure is charged to whoever is active now."""
    pool = pool_of("a", "b")
    release = threading.Event()

    def fn(member):
        if member == "a":
            release.wait(PATIENCE)
            raise Lost
        return "fast"

    assert redundant(pool=pool, **REAL).call(fn) == "fast"
    for _ in range(4):
        loan = lender_of(pool).begin().lend()
        loan.enter()
        loan.leave()
        loan.failed(Lost())
    ejected, _ = pool.status().members
    release.set()
    end = time.monotonic() + PATIENCE
    while metrics("member_attempts_total", member="a", outcome="error") < 5:
        assert time.monotonic() < end
        time.sleep(0.001)
    now, _ = pool.status().members
    assert (ejected.state, now.state) == ("ejected", "ejected")
    assert now.seconds <= ejected.seconds


def test_many_calls_in_flight_of_one_outage_are_one_strike(clock, metrics):
    """Field section 4, item 5: ten failures at once made ten strikes, and the longest ejection."""
    pool = pool_of("a", "b")
    fn = at_members(COLOURS["inline"], a=after(0.05, Lost), b="page")

    async def main():
        policy = redundant(pool=pool, **HEDGED)
        return await asyncio.gather(*(policy.call(fn) for _ in range(10)))

    assert asyncio.run(main()) == ["page"] * 10
    assert metrics("ejections_total", member="a") == 1
    assert pool.status().members[0].seconds <= 5.0


@pytest.mark.parametrize("limit", ["timeout", "cancel"])
def test_a_caller_who_will_not_wait_is_not_blamed_on_a_member(clock, metrics, limit):
    """Field section 4, item 6: a deadline set too short, or a cancel by the user."""
    pool = pool_of("a", "b")
    fn = at_members(COLOURS["inline"], a=after(9, "slow"), b=after(9, "slow"))

    async def main():
        policy = redundant(pool=pool, timeout=0.5 if limit == "timeout" else None, **HEDGED)
        for _ in range(9):
            call = asyncio.ensure_future(policy.call(fn))
            await clock.asleep(0.6)
            call.cancel()
            await asyncio.wait([call])
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [member.score for member in pool.status().members] == [0.0, 0.0]
    assert metrics("member_attempts_total", outcome="cancelled") == 18


def test_what_is_not_declared_a_failure_is_never_done_twice(colour):
    """Field section 4, item 9: a second attempt after an ambiguous error has the effect twice."""
    faults = Faults([ValueError("ambiguous"), "twice"])
    policy = redundant(**{**HEDGED, **colour.options, "on": Lost})
    with pytest.raises(ValueError, match="ambiguous"):
        colour.run(policy, colour.fn(faults))
    assert len(faults.calls) == 1


def test_a_copy_that_cancels_itself_does_not_look_like_a_cancelled_caller():
    """Field section 4, item 11 (d): the count of the caller's cancellations stays as it was."""

    async def main():
        async def cancel_oneself():
            raise asyncio.CancelledError

        try:
            await redundant(**REAL).call(cancel_oneself)
        except asyncio.CancelledError:
            return asyncio.current_task().cancelling()

    assert asyncio.run(main()) == 0


def test_a_forced_member_gets_all_copies_until_it_is_released(colour, metrics):
    """Field section 4, item 16: a manual switch that is undone behind the operator's back."""
    pool = pool_of("a", "b")
    pool.force("b")
    policy = redundant(pool=pool, **{**HEDGED, **colour.options})
    fn = at_members(colour, a="from a", b=after(0.5, "from b"))
    assert colour.run(policy, fn) == "from b"
    assert metrics("hedges_total") == 0
    pool.release()
    assert colour.run(policy, fn) == "from a"


def test_closing_a_pool_leaves_a_copy_its_member_until_it_has_answered():
    """Field section 4, item 17: a switch that closes connections in the middle of their work."""
    events = []
    members = [Member("a", open=lambda: "a", close=events.append), Member("b", "b")]
    pool = FailoverPool("db", members, on=Lost)

    def fn(member):
        pool.close()
        events.append("answered")
        return member

    policy = redundant(pool=pool, **HEDGED)
    with pool:
        assert policy.call(fn) == "a"
    for thread in threading.enumerate():
        if thread.name == "mainstay-close-a":
            thread.join(PATIENCE)
    assert events == ["answered", "a"]


def test_dissent_never_ejects_the_last_member(colour, metrics):
    """Field section 4, item 18: a pool whose last member is ejected is down for no reason."""
    pool = pool_of("a", "b", "c")
    pool.drain("b")
    pool.drain("c")
    for _ in range(9):
        loan = lender_of(pool).begin().lend()
        loan.enter()
        loan.leave()
        loan.dissented()
    assert states(pool)["a"] == "failing"
    assert metrics("ejections_total") == 0


class Last:
    """A selector of one's own."""

    def pick(self, names):
        return names[-1]


@pytest.mark.parametrize("select", ["priority", "round_robin", "weighted", "least_latency", Last()])
def test_however_members_are_selected_none_is_asked_twice_by_a_call(colour, select):
    """Field section 4, item 19: exclusion applied after the choice, or lost on the way."""
    pool = pool_of("a", "b", "c", "d", select=select)
    seen = []

    def note(member):
        seen.append(member)

    async def anote(member):
        note(member)

    policy = redundant(pool=pool, copies=4, decide=vote.unanimous(), **colour.options)
    for _ in range(5):
        seen.clear()
        colour.run(policy, note if colour is COLOURS["threads"] else anote)
        assert sorted(seen) == ["a", "b", "c", "d"]
