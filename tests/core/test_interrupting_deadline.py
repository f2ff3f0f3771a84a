"""`async with deadline`: interrupts as `asyncio.timeout` does, and takes its cancellation back."""

import asyncio
import contextlib

import pytest

from mainstay import CircuitBreaker, DeadlineExpiredError, deadline, remaining, retry
from mainstay.testing import FakeClock, Faults
from support.loops import loop_factories, runner_on

SOON = 0.01


class Lost(ConnectionError):
    """The failure of these tests."""


@pytest.fixture(params=loop_factories())
def run(request):
    """Run a coroutine function to its end; its task is left without a pending cancellation."""
    return runner_on(request.param)


async def for_ever():
    await asyncio.get_running_loop().create_future()


def test_it_interrupts_at_its_end_with_an_error_that_says_so(run):
    async def main():
        with pytest.raises(DeadlineExpiredError) as caught:
            async with deadline(SOON):
                await for_ever()
        return caught.value

    error = run(main)
    assert str(error).endswith(f"main: the {SOON} s of `deadline` are over")
    assert error.component.endswith(
        "test_it_interrupts_at_its_end_with_an_error_that_says_so.<locals>.main"
    )
    assert isinstance(error, TimeoutError)


def test_what_ends_in_time_is_left_alone(run):
    async def main():
        async with deadline(5):
            left = remaining()
        await asyncio.sleep(0)
        return left

    assert 4 < run(main) <= 5


def test_no_time_at_all_interrupts_at_the_first_wait(run):
    async def main():
        with pytest.raises(DeadlineExpiredError):
            async with deadline(0):
                await for_ever()

    run(main)


def test_a_cancellation_from_outside_goes_through(run):
    async def work():
        async with deadline(5):
            await for_ever()

    async def main():
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert run(main)


def test_a_cancellation_from_outside_wins_during_the_clean_up_after_ours(run):
    async def work(cleaning):
        async with deadline(SOON):
            try:
                await for_ever()
            finally:
                cleaning.set()
                await for_ever()

    async def main():
        cleaning = asyncio.Event()
        task = asyncio.create_task(work(cleaning))
        await cleaning.wait()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert run(main)


def test_both_in_the_same_turn_of_the_loop_is_one_from_outside(run):
    async def main():
        clock = FakeClock()

        async def work():
            with clock:
                async with deadline(1):
                    await for_ever()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        clock.advance(2)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert run(main)


def test_any_other_exception_passes_untouched(run):
    async def main():
        async with deadline(SOON):
            try:
                await for_ever()
            except asyncio.CancelledError as error:
                raise Lost("the user's own") from error

    with pytest.raises(Lost, match="the user's own"):
        run(main)


def test_a_swallowed_cancellation_ends_the_block_normally(run):
    async def main():
        async with deadline(SOON):
            with contextlib.suppress(asyncio.CancelledError):
                await for_ever()
        await asyncio.sleep(0)
        return "went on"

    assert run(main) == "went on"


def test_a_block_that_is_busy_past_its_end_is_not_interrupted_afterwards(run):
    async def main():
        with FakeClock() as clock:
            async with deadline(1):
                clock.advance(0.5)
            clock.advance(5)
            await asyncio.sleep(0)
        return "went on"

    assert run(main) == "went on"


def test_nested_ones_end_each_by_itself(run):
    async def main():
        seen = []
        async with deadline(5):
            with pytest.raises(DeadlineExpiredError):
                async with deadline(SOON):
                    await for_ever()
            seen.append("outer goes on")
            await asyncio.sleep(0)
        return seen

    assert run(main) == ["outer goes on"]


def test_of_several_that_have_ended_the_outermost_speaks(run):
    async def main():
        with FakeClock() as clock, pytest.raises(DeadlineExpiredError, match=r"the 1.0 s of"):  # noqa: PT012 - the blocks inside are what is tested
            async with deadline(1), deadline(2):
                asyncio.get_running_loop().call_soon(clock.advance, 3)
                await for_ever()

    run(main)


def test_the_outer_one_passes_the_inner_one_untouched(run):
    async def main():
        with FakeClock() as clock, pytest.raises(DeadlineExpiredError, match=r"the 1.0 s of"):  # noqa: PT012 - the blocks inside are what is tested
            async with deadline(1), deadline(60):
                asyncio.get_running_loop().call_soon(clock.advance, 3)
                await for_ever()

    run(main)


def test_asyncio_timeout_around_and_inside(run):
    async def main():
        with pytest.raises(TimeoutError) as caught:  # noqa: PT012 - the blocks inside are what is tested
            async with asyncio.timeout(SOON):
                async with deadline(5):
                    await for_ever()
        assert not isinstance(caught.value, DeadlineExpiredError)
        with pytest.raises(DeadlineExpiredError):  # noqa: PT012 - the blocks inside are what is tested
            async with deadline(SOON):
                async with asyncio.timeout(5):
                    await for_ever()

    run(main)


def test_a_task_group_inside_is_cancelled_with_the_block(run):
    async def main():
        ended = []

        async def child():
            try:
                await for_ever()
            except asyncio.CancelledError:
                ended.append("child")
                raise

        with pytest.raises(DeadlineExpiredError):  # noqa: PT012 - the blocks inside are what is tested
            async with deadline(SOON), asyncio.TaskGroup() as group:
                group.create_task(child())
                group.create_task(child())
        return ended

    assert run(main) == ["child", "child"]


def test_shielded_code_goes_on(run):
    async def main():
        done = asyncio.Event()

        async def work():
            await asyncio.sleep(3 * SOON)
            done.set()

        with pytest.raises(DeadlineExpiredError):
            async with deadline(SOON):
                await asyncio.shield(work())
        await done.wait()
        return "done"

    assert run(main) == "done"


def test_left_in_another_task_it_only_ends_its_entry(run):
    async def main():
        block = deadline(SOON)
        await block.__aenter__()
        await asyncio.create_task(leave(block))
        assert remaining() is None
        await asyncio.sleep(3 * SOON)
        return "not interrupted"

    async def leave(block):
        await block.__aexit__(None, None, None)

    assert run(main) == "not interrupted"


def test_one_object_may_be_entered_again_and_inside_itself(run):
    async def main():
        block = deadline(SOON)
        for _ in range(2):
            with pytest.raises(DeadlineExpiredError):
                async with block:
                    await for_ever()
        with pytest.raises(DeadlineExpiredError):
            async with block, block:
                await for_ever()

    run(main)


def test_an_exit_stack_may_hold_it(run):
    async def main():
        with pytest.raises(DeadlineExpiredError):  # noqa: PT012 - the blocks inside are what is tested
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(deadline(SOON))
                await for_ever()

    run(main)


def test_without_a_task_it_is_refused():
    with pytest.raises(RuntimeError):
        deadline(1).__aenter__()

    async def main():
        asyncio.get_running_loop().call_soon(enter)
        await asyncio.sleep(0)

    refused = []

    def enter():
        try:
            deadline(1).__aenter__()
        except RuntimeError as error:
            refused.append(str(error))

    asyncio.run(main())
    assert refused == ["only a task can be interrupted, and no task runs here"]


def test_many_at_once_end_each_at_its_own_time(run):
    async def work(number):
        try:
            async with deadline(SOON * (number % 4) if number % 2 else 60):
                await asyncio.sleep(5 if number % 2 else 0)
        except DeadlineExpiredError:
            return "interrupted"
        return "done"

    async def main():
        return await asyncio.gather(*map(work, range(400)))

    assert run(main).count("interrupted") == 200


# Policies inside.


def test_a_retry_inside_counts_a_timeout_and_its_last_exception_is_the_cause(run, metrics):
    fetch = Faults([Lost("first"), Lost("second")], then="never")

    async def attempt():
        if len(fetch.calls) == 2:
            await for_ever()
        fetch()

    async def main():
        with pytest.raises(DeadlineExpiredError) as caught:
            async with deadline(10 * SOON):
                await retry(on=Lost, wait=0, name="fetch").call(attempt)
        return caught.value

    error = run(main)
    assert str(error.__cause__) == "second"
    assert metrics("calls_total", component="fetch", outcome="timeout") == 1
    assert metrics("give_ups_total", component="fetch", reason="timeout") == 1


def test_a_retry_inside_gives_up_before_a_wait_that_does_not_fit(run, metrics):
    async def main():
        async with deadline(1.0):
            await retry(on=Lost, wait=5, name="fetch").call(lost)

    async def lost():
        raise Lost("the user's own")

    with pytest.raises(Lost, match="the user's own"):
        run(main)


def test_a_breaker_inside_counts_a_timeout_and_stays_closed(run, metrics):
    breaker = CircuitBreaker("mail", on=Exception)

    async def main():
        for _ in range(8):
            with pytest.raises(DeadlineExpiredError):
                async with deadline(0):
                    await breaker.call(hang)

    async def hang():
        await for_ever()

    run(main)
    assert breaker.state == "closed"
    assert metrics("calls_total", policy="breaker", outcome="timeout") == 8


def test_a_policy_in_a_task_below_takes_the_cancellation_for_ours(run, metrics):
    async def main():
        with pytest.raises(DeadlineExpiredError):
            async with deadline(SOON):
                await asyncio.gather(
                    *[retry(on=Lost, name="fetch").call(for_ever)] * 1,
                    retry(on=Lost, name="fetch").call(for_ever),
                )

    run(main)
    assert metrics("calls_total", component="fetch", outcome="timeout") == 2


def test_a_cancellation_from_outside_is_still_cancelled(run, metrics):
    async def work():
        async with deadline(5):
            await retry(on=Lost, name="fetch").call(for_ever)

    async def main():
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    run(main)
    assert metrics("calls_total", component="fetch", outcome="cancelled") == 1
