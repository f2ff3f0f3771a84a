"""Known faults of libraries that hedge or race, one test for each, named after what goes wrong.

Numbers are those of the survey's list of failure modes. A docstring names the library.
"""

import asyncio
import contextvars
import random
import threading

import pytest

from mainstay import (
    AllCopiesFailedError,
    NoDecisionError,
    RetryBudget,
    hedge,
    redundant,
    vote,
)
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


def test_8_losers_that_hang_do_not_starve_later_calls():
    """Hedges on a shared ThreadPoolExecutor wait until a loser gives its thread back."""
    release = threading.Event()
    policy = redundant(alternatives=[lambda: "fast"], **REAL)
    answers = [policy.call(lambda: release.wait(PATIENCE)) for _ in range(10)]
    release.set()
    assert answers == ["fast"] * 10


def test_10_the_answer_of_the_second_finisher_is_closed():
    """hedge-python leaks it; aiohappyeyeballs leaves runners-up open."""
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


def test_10_the_winner_is_not_cancelled_while_its_answer_is_used():
    """failsafe-go and go-resty cancel the winner's context before its body has been read."""

    async def main():
        async def fetch():
            return asyncio.current_task()

        winner = await redundant(start=hedge.together(), primary="task").call(fetch)
        await asyncio.sleep(0)
        return winner

    assert not asyncio.run(main()).cancelled()


def test_11_a_callers_cancellation_is_not_swallowed_while_losers_clean_up():
    """aiohappyeyeballs.staggered_race returns a result to a cancelled caller."""

    async def main():
        async def slow_cleanup():
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)
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


def test_11_cancelling_the_caller_leaves_no_copy_running():
    """hedge-python leaks both attempts."""

    async def main():
        async def hang():
            await asyncio.sleep(PATIENCE)

        task = asyncio.create_task(redundant(start=hedge.together()).call(hang))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.01)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main()) == set()


def test_11_a_loser_that_ignores_its_cancellation_does_not_delay_the_answer():
    """Polly and hedge-python wait for their losers."""

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


def test_12_context_variables_reach_every_copy():
    """`run_in_executor` loses them; one context cannot be entered by two copies at once."""
    seen = []
    VARIABLE.set("of the caller")
    policy = redundant(copies=4, decide=vote.unanimous())
    assert policy.call(lambda: seen.append(VARIABLE.get())) is None
    assert seen == ["of the caller"] * 4


def test_13_no_majority_is_an_outcome_of_its_own(colour, metrics):
    """A voter that returns some answer hides that there was none to believe."""
    fns = [colour.fn(Faults([number])) for number in range(3)]
    policy = redundant(alternatives=fns[1:], decide=vote.majority(), **colour.options)
    with pytest.raises(NoDecisionError) as caught:
        colour.run(policy, fns[0])
    assert len(caught.value.answers) >= 2
    assert metrics("votes_total", verdict="no_decision") == 1


def test_14_a_group_is_never_empty_and_one_copy_raises_its_own_error(colour):
    """asynchedging raises ValueError for an empty group when all answers were rejected."""
    with pytest.raises(AllCopiesFailedError) as caught:
        call(colour, [Lost("a"), Lost("b")])
    assert [str(each) for each in caught.value.exceptions] == ["a", "b"]
    assert all(len(each.__notes__) == 1 for each in caught.value.exceptions)
    with pytest.raises(Lost, match="alone"):
        call(colour, [Lost("alone")], budget=0.0)


def test_15_a_spent_budget_does_not_kill_the_primary(colour, metrics):
    """failsafe-go cancelled the primary when the hedge's budget was exceeded."""
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
