"""An async redundant call is cancelled, and times out, as a plain await would."""

import asyncio
import contextlib
import contextvars
import gc
from functools import partial

import pytest
import uvloop

from mainstay import cancelled, deadline, hedge, redundant, vote

SOON = 0.01  # real seconds: these tests are about the event loop's own time
LATER = 0.1  # so that a busy machine begins a call before
NEVER = 30.0

pytestmark = pytest.mark.usefixtures("metrics")


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine, and check that it leaves neither tasks nor complaints behind."""

    def run(main):
        complaints = []

        async def watched():
            asyncio.get_running_loop().set_exception_handler(lambda _, c: complaints.append(c))
            try:
                return await main
            finally:
                for _ in range(5):
                    await asyncio.sleep(0)
                assert asyncio.all_tasks() == {asyncio.current_task()}
                gc.collect()

        try:
            return request.param(watched())
        finally:
            assert complaints == []

    return run


@pytest.fixture(params=["inline", "task"])
def primary(request):
    """Where the primary runs."""
    return request.param


class Copies:
    """Copies that each do the next thing, and say when they began and how they ended."""

    def __init__(self, *acts):
        self.acts = iter(acts)
        self.begun = 0
        self.cancelled = 0

    async def __call__(self):
        self.begun += 1
        try:
            return await next(self.acts)()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def hang():
    await asyncio.sleep(NEVER)


async def answer():
    return "answer"


async def fail():
    raise ConnectionError("gone")


def policy(primary="inline", **parameters):
    parameters = {"start": hedge.after(SOON), "budget": None, **parameters}
    return redundant(primary=primary, **parameters)


async def turns(condition):
    async with asyncio.timeout(NEVER / 10):
        while not condition():  # noqa: ASYNC110 - any condition, of any test
            await asyncio.sleep(0)


@pytest.mark.parametrize("begun", [1, 2], ids=["primary alone", "hedge running"])
def test_cancelling_the_caller_cancels_every_copy(run, primary, begun):
    """Known fault 11: hedge-python leaks both attempts."""

    async def main():
        copies = Copies(hang, hang)
        task = asyncio.create_task(policy(primary)(copies)())
        await turns(lambda: copies.begun == begun)
        task.cancel("stop")
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns(lambda: copies.cancelled == begun)
        assert task.cancelled()

    run(main())


def test_cancelling_the_caller_while_it_waits_for_a_copy(run, primary):
    async def main():
        copies = Copies(fail, hang)
        task = asyncio.create_task(policy(primary)(copies)())
        await turns(lambda: copies.begun == 2)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns(lambda: copies.cancelled == 1)

    run(main())


def test_a_timeout_around_the_call_is_a_timeout(run, primary):
    async def main():
        copies = Copies(hang, hang)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(LATER):
                await policy(primary)(copies)()
        assert asyncio.current_task().cancelling() == 0
        await turns(lambda: copies.cancelled == copies.begun > 0)

    run(main())


@pytest.mark.parametrize("start", [hedge.after(0.001), hedge.after(NEVER), hedge.together()])
def test_a_deadline_around_the_call_ends_its_copies(run, primary, start, metrics):
    async def main():
        copies = Copies(hang, hang)
        with deadline(LATER), pytest.raises(TimeoutError, match="copy 0 was still running"):
            await policy(primary, start=start)(copies)()
        assert asyncio.current_task().cancelling() == 0
        await turns(lambda: copies.cancelled == copies.begun)

    run(main())
    assert metrics.outcomes() == {"timeout": 1}


@pytest.mark.parametrize("start", [hedge.after(0.001), hedge.after(NEVER), hedge.together()])
def test_a_deadline_that_interrupts_ends_the_copies_of_the_call_too(run, primary, start, metrics):
    async def main():
        copies = Copies(hang, hang)
        with pytest.raises(TimeoutError):  # whichever of the two is first
            async with deadline(SOON):
                await policy(primary, start=start)(copies)()
        assert asyncio.current_task().cancelling() == 0
        await turns(lambda: copies.cancelled == copies.begun)

    run(main())
    assert metrics.outcomes() == {"timeout": 1}


def test_a_hedge_that_wins_leaves_no_cancellation_behind(run, primary):
    async def main():
        copies = Copies(hang, answer)
        async with asyncio.timeout(NEVER) as limit:
            assert await policy(primary)(copies)() == "answer"
        assert not limit.expired()
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)

    run(main())


def test_a_cancellation_in_the_turn_in_which_a_hedge_wins_is_not_swallowed(run, primary):
    async def main():
        disposed = []
        for turn in range(6):
            task = None

            async def win(turn=turn):
                for _ in range(turn):
                    await asyncio.sleep(0)
                task.cancel()  # noqa: B023 - the task of this round
                return "answer"

            copies = Copies(hang, win)
            task = asyncio.create_task(policy(primary, dispose=disposed.append)(copies)())
            with pytest.raises(asyncio.CancelledError):
                await task
            assert disposed == ["answer"] * (turn + 1)

    run(main())


def test_a_cancellation_right_after_a_hedge_has_won_is_not_swallowed(run, primary):
    async def main():
        disposed = []

        async def win():
            asyncio.get_running_loop().call_soon(task.cancel)
            return "answer"

        copies = Copies(hang, win)
        task = asyncio.create_task(policy(primary, dispose=disposed.append)(copies)())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert disposed == ["answer"]

    run(main())


@pytest.mark.parametrize("start", [hedge.after(NEVER), hedge.quantile(0.5, at_least=NEVER)])
def test_a_cancellation_that_the_primary_turns_into_a_failure_starts_no_copy(run, primary, start):
    async def convert():
        try:
            await hang()
        except asyncio.CancelledError:
            raise ConnectionError("closed") from None

    async def main():
        copies = Copies(convert, answer)
        call = redundant(copies=2, start=start, budget=None, primary=primary)(copies)
        task = asyncio.create_task(call())
        await asyncio.sleep(SOON)
        task.cancel()
        with pytest.raises(ConnectionError if primary == "inline" else asyncio.CancelledError):
            await task
        assert copies.begun == 1

    run(main())


def test_in_a_task_group_a_failing_sibling_cancels_every_copy(run, primary):
    async def main():
        copies = Copies(hang, hang)

        async def sibling():
            await turns(lambda: copies.begun == 2)
            raise KeyError("sibling")

        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group is what raises
            async with asyncio.TaskGroup() as group:
                group.create_task(policy(primary)(copies)())
                group.create_task(sibling())
        assert [type(each) for each in caught.value.exceptions] == [KeyError]
        await turns(lambda: copies.cancelled == 2)

    run(main())


def test_in_the_body_of_a_task_group_a_failing_child_cancels_every_copy(run, primary):
    async def main():
        copies = Copies(hang, hang)

        async def child():
            await turns(lambda: copies.begun == 2)
            raise KeyError("child")

        with pytest.raises(ExceptionGroup):  # noqa: PT012 - the group is what raises
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                await policy(primary)(copies)()
        await turns(lambda: copies.cancelled == 2)

    run(main())


async def in_task_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(hang())


async def in_timeout():
    async with asyncio.timeout(NEVER):
        await hang()


async def in_wait_for():
    await asyncio.wait_for(hang(), NEVER)


async def in_gather():
    await asyncio.gather(hang(), hang())


async def in_nested_call():
    await policy()(Copies(hang, hang))()


@pytest.mark.parametrize(
    "slow", [in_task_group, in_timeout, in_wait_for, in_gather, in_nested_call]
)
def test_a_primary_that_waits_in_any_way_makes_room_for_the_hedge(run, primary, slow):
    async def main():
        assert await policy(primary)(Copies(slow, answer))() == "answer"
        assert asyncio.current_task().cancelling() == 0

    run(main())


async def survive_timeouts():
    """Time out again and again, and go on: each time a cancellation is under way for a moment."""
    while True:
        try:
            async with asyncio.timeout(0):
                await hang()
        except TimeoutError:
            pass


def test_a_primary_with_timeouts_of_its_own_is_cancelled_nevertheless(run):
    async def main():
        assert await policy()(Copies(survive_timeouts, answer))() == "answer"
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_an_inline_primary_that_swallows_its_cancellation_returns_too_late(run):
    async def main():
        disposed = []

        async def stubborn():
            try:
                await hang()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
            return "late"

        call = policy(dispose=disposed.append)(Copies(stubborn, answer))
        assert await call() == "answer"
        assert disposed == ["late"]
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_a_primary_in_a_task_is_not_waited_for(run):
    async def main():
        release, disposed = asyncio.Event(), []

        async def stubborn():
            try:
                await hang()
            except asyncio.CancelledError:
                await release.wait()
            return "late"

        call = policy("task", dispose=disposed.append)(Copies(stubborn, answer))
        assert await call() == "answer"
        assert disposed == []
        release.set()
        await turns(lambda: disposed)
        assert disposed == ["late"]

    run(main())


def test_a_primary_that_turns_its_cancellation_into_an_error_loses_quietly(run, primary):
    async def main():
        async def convert():
            try:
                await hang()
            except asyncio.CancelledError:
                raise ConnectionError("aborted") from None

        assert await policy(primary)(Copies(convert, answer))() == "answer"

    run(main())


def test_a_loser_that_fails_is_not_reported_as_never_retrieved(run, primary):
    async def main():
        async def convert():
            try:
                await hang()
            except asyncio.CancelledError:
                raise ConnectionError("aborted") from None

        async def slow_answer():
            await asyncio.sleep(2 * SOON)
            return "answer"

        assert await policy(primary)(Copies(slow_answer, convert))() == "answer"

    run(main())


def test_a_copy_that_cancels_itself_cancels_the_call(run, primary):
    """Known fault 11: the count of the caller's cancellations stays as it was."""

    async def main():
        async def cancel_itself():
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await policy(primary)(Copies(hang, cancel_itself))()
        assert asyncio.current_task().cancelling() == 0

    run(main())


def test_a_call_in_the_cleanup_of_a_cancelled_task_works(run, primary):
    async def main():
        results = []

        async def cleanup():
            try:
                await hang()
            finally:
                results.append(await policy(primary)(Copies(hang, answer))())

        task = asyncio.create_task(cleanup())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert results == ["answer"]
        assert task.cancelling() == 1

    run(main())


def test_an_async_dispose_is_awaited_off_the_callers_path(run, primary):
    async def main():
        closed, release = [], asyncio.Event()

        async def close(value):
            await release.wait()
            closed.append(value)

        async def page(number):
            return [number]

        voted = policy(primary, start=None, copies=3, decide=vote.majority(), dispose=close)
        assert await voted(Copies(*(partial(page, n) for n in (1, 2, 2))))() == [2]
        assert closed == []
        release.set()
        await turns(lambda: len(closed) == 2)
        assert closed == [[1], [2]]

    run(main())


VARIABLE = contextvars.ContextVar("variable", default="unset")


def test_copies_run_in_the_callers_context_and_keep_theirs_to_themselves(run, primary):
    async def main():
        seen = []

        async def slow():
            seen.append(VARIABLE.get())
            await hang()

        async def fast():
            seen.append(VARIABLE.get())
            VARIABLE.set("changed by a hedge")
            return "answer"

        VARIABLE.set("of the caller")
        assert await policy(primary)(Copies(slow, fast))() == "answer"
        assert seen == ["of the caller"] * 2
        assert VARIABLE.get() == "of the caller"

    run(main())


def test_a_task_that_is_cancelled_can_ask(run, primary):
    async def main():
        asked = []

        async def ask():
            asked.append(cancelled())
            try:
                await hang()
            finally:
                asked.append(cancelled())

        assert await policy(primary)(Copies(ask, answer))() == "answer"
        await turns(lambda: len(asked) == 2)
        assert asked == [False, True]

    run(main())


@pytest.mark.parametrize("start", [hedge.after(NEVER), hedge.after(0.001), hedge.together()])
@pytest.mark.parametrize("around", [contextlib.nullcontext, partial(deadline, NEVER)])
def test_a_call_of_an_event_loop_that_was_closed_ends_quietly(primary, start, around, metrics):
    copies, complaints = Copies(hang, hang), []
    wanted = 1 if start == hedge.after(NEVER) else 2
    fetch = policy(primary, start=start)(copies)

    async def main():
        with around():
            call = asyncio.ensure_future(fetch())
            await turns(lambda: copies.begun == wanted)
        assert not call.done()

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context.get("exception")))
    loop.run_until_complete(main())
    loop.close()
    gc.collect()
    assert {*complaints} == {None}  # asyncio's own, that tasks were destroyed
    assert metrics.outcomes() == {"cancelled": 1.0}


@pytest.mark.parametrize("start", [hedge.after(0.001), hedge.together()])
@pytest.mark.parametrize("around", [contextlib.nullcontext, partial(deadline, NEVER)])
def test_what_is_returned_is_not_disposed_of_when_a_late_copy_answers_the_same(run, start, around):
    shared, disposed, begun = object(), [], asyncio.Event()

    async def primary():
        await begun.wait()
        return shared

    async def copy():
        begun.set()
        try:
            await hang()
        except asyncio.CancelledError:
            return shared

    async def main():
        fetch = policy(start=start, alternatives=[copy], dispose=disposed.append)(primary)
        with around():
            assert await fetch() is shared
        await asyncio.sleep(SOON)
        assert disposed == []

    run(main())


def test_a_race_that_is_left_without_a_result_cancels_what_it_started(run):
    async def main():
        copies, disposed = Copies(hang, answer), []
        async with policy(start=None, dispose=disposed.append).race() as race:
            race.start(copies)
            race.start(copies)
            await turns(lambda: copies.begun == 2)
        await turns(lambda: copies.cancelled == 1)
        assert disposed == ["answer"]

    run(main())


# Known faults of other libraries, by their numbers in the survey.


def test_the_answer_of_the_second_finisher_is_closed():
    """Known fault 10: hedge-python leaks it; aiohappyeyeballs leaves runners-up open."""
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
        race = policy("task", copies=3, start=hedge.together(), dispose=closed.append)
        kept = await race.call(connect)
        while len(closed) < 2:  # noqa: ASYNC110 - losers end on their own
            await asyncio.sleep(0)
        return kept

    kept = asyncio.run(main())
    assert {id(each) for each in closed} == {id(each) for each in opened} - {id(kept)}


def test_the_winner_is_not_cancelled_while_its_answer_is_used():
    """Known fault 10: failsafe-go and go-resty cancel it before its body is read."""

    async def main():
        async def fetch():
            return asyncio.current_task()

        winner = await policy("task", start=hedge.together()).call(fetch)
        await asyncio.sleep(0)
        return winner

    assert not asyncio.run(main()).cancelled()


def test_a_callers_cancellation_is_not_swallowed_while_losers_clean_up():
    """Known fault 11: aiohappyeyeballs returns a result to a cancelled caller."""

    async def main():
        async def slow_cleanup():
            try:
                await asyncio.sleep(NEVER)
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                raise

        async def win():
            asyncio.get_running_loop().call_soon(task.cancel)
            return "answer"

        call = policy(alternatives=[win])(slow_cleanup)
        task = asyncio.create_task(call())
        with pytest.raises(asyncio.CancelledError):
            await task
        return task.cancelled()

    assert asyncio.run(main())


def test_a_loser_that_ignores_its_cancellation_does_not_delay_the_answer():
    """Known fault 11: Polly and hedge-python wait for their losers."""

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

        race = policy(alternatives=[stubborn], start=hedge.together())
        async with asyncio.timeout(NEVER):
            answer = await race.call(win)
        release.set()
        await asyncio.sleep(0)
        return answer

    assert asyncio.run(main()) == "answer"
