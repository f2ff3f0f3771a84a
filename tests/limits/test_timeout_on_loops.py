"""A limit of time on real event loops, where calls take the fast path and share a timer."""

import asyncio
import contextlib
import gc
import threading
import time
import weakref

import pytest

from mainstay import DeadlineExpiredError, TimedOutError, deadline, remaining, retry, timeout
from mainstay._core.alarms import alarms_of
from support.loops import loop_factories, runner_on
from support.processes import program

SOON = 0.01


@pytest.fixture(params=loop_factories())
def run(request):
    """Run a coroutine function on a loop of each kind."""
    return runner_on(request.param)


async def for_ever():
    await asyncio.get_running_loop().create_future()


async def ignoring(value):
    """Return *value* in spite of a cancellation."""
    with contextlib.suppress(asyncio.CancelledError):
        await for_ever()
    return value


def test_it_ends_at_its_time_and_says_so(run, metrics):
    async def main():
        started = time.monotonic()
        with pytest.raises(TimedOutError) as caught:
            await timeout(SOON, name="fetch")(for_ever)()
        assert time.monotonic() - started >= SOON
        return caught.value

    error = run(main)
    assert (error.component, error.seconds) == ("fetch", SOON)
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert metrics.outcomes() == {"timeout": 1}
    assert metrics.reasons() == {"timeout": 1}
    assert metrics.errors() == {"TimedOutError": 1}


def test_what_ends_in_time_leaves_nothing_behind(run, metrics):
    async def fetch():
        await asyncio.sleep(0)
        return remaining()

    async def main():
        limited = timeout(60.0, name="fetch")(fetch)
        left = [await limited() for _ in range(300)]
        assert remaining() is None
        return left, len(alarms_of(asyncio.get_running_loop()))

    left, waiting = run(main)
    assert all(59.0 < each <= 60.0 for each in left)
    assert waiting == 0
    assert metrics.outcomes() == {"success": 300}


def test_a_swallowed_cancellation_is_a_late_answer(run, metrics, caplog):
    async def main():
        value = await timeout(SOON, name="fetch")(ignoring)("late")
        await asyncio.sleep(0)
        return value

    assert run(main) == "late"
    assert metrics.outcomes() == {"success": 1}
    assert "fetch: came back after" in caplog.text


def test_what_is_raised_while_cleaning_up_passes_untouched(run, metrics):
    async def failing():
        try:
            await for_ever()
        except asyncio.CancelledError as error:
            raise OSError("the user's own") from error

    async def main():
        await timeout(SOON, name="fetch")(failing)()

    with pytest.raises(OSError, match="the user's own"):
        run(main)
    assert metrics.outcomes() == {"error": 1}


def test_a_cancellation_while_cleaning_up_wins(run, metrics):
    async def main():
        cleaning = asyncio.Event()

        async def slow_to_leave():
            try:
                await for_ever()
            finally:
                cleaning.set()
                await for_ever()

        task = asyncio.create_task(timeout(SOON, name="fetch")(slow_to_leave)())
        await cleaning.wait()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert run(main)
    assert metrics.outcomes() == {"cancelled": 1}


@pytest.mark.parametrize(("outer", "inner", "speaks"), [(1, 600, "outer"), (600, 1, "inner")])
def test_of_two_limits_the_shorter_speaks(run, metrics, outer, inner, speaks):
    async def main():
        inside = timeout(inner * SOON, name="inner")(for_ever)
        with pytest.raises(TimedOutError) as caught:
            await timeout(outer * SOON, name="outer")(inside)()
        return caught.value.component

    assert run(main) == speaks
    assert metrics("calls_total", component="outer", outcome="timeout") == (speaks == "outer")
    assert metrics("calls_total", component="inner", outcome="timeout") == 1


def test_the_outer_one_goes_on_after_the_inner_one_has_ended(run, metrics):
    async def inside():
        for _ in range(2):
            with pytest.raises(TimedOutError):
                await timeout(SOON, name="inner")(for_ever)()
        return "done"

    async def main():
        return await timeout(60.0, name="outer")(inside)()

    assert run(main) == "done"
    assert metrics("calls_total", component="outer", outcome="success") == 1


def test_an_outer_deadline_that_interrupts_earlier_speaks(run, metrics):
    async def main():
        with pytest.raises(DeadlineExpiredError, match=r"the 0.1 s of `deadline`"):
            async with deadline(0.1):  # time enough to make the call on a busy machine
                await timeout(60.0, name="fetch")(for_ever)()

    run(main)
    assert metrics.outcomes() == {"timeout": 1}
    assert metrics.reasons() == {"timeout": 1}


def test_an_outer_deadline_that_does_not_interrupt_shortens_what_is_told(run, metrics):
    async def left():
        return remaining()

    async def main():
        with deadline(10.0):
            shortened = await timeout(60.0)(left)()
            own = await timeout(5.0)(left)()
        return shortened, own

    shortened, own = run(main)
    assert 9.0 < shortened <= 10.0
    assert 4.0 < own <= 5.0


def test_the_last_exception_of_a_policy_inside_is_the_cause(run, metrics):
    async def failing():
        if not failed:
            failed.append(OSError("refused"))
            raise failed[0]
        await for_ever()

    failed = []

    async def main():
        with pytest.raises(TimedOutError) as caught:
            await timeout(5 * SOON)(retry(on=OSError, wait=0, name="inner")(failing))()
        return caught.value.__cause__

    assert run(main) is failed[0]


def test_many_of_one_length_end_each_at_its_own_time(run, metrics):
    limited = timeout(5 * SOON, name="fetch")(asyncio.sleep)

    async def one(number):
        await asyncio.sleep(number % 50 / 1000)
        started = time.monotonic()
        try:
            await limited(0 if number % 2 else 60.0)
        except TimedOutError:
            return time.monotonic() - started
        return None

    async def main():
        return await asyncio.gather(*map(one, range(400)))

    took = [each for each in run(main) if each is not None]
    assert len(took) >= 200  # the others, too, where the machine stands still for so long
    assert min(took) >= 5 * SOON
    assert sorted(took)[100] < 50 * SOON
    assert metrics.outcomes() == {"timeout": len(took), "success": 400 - len(took)}


def test_tasks_that_a_call_has_made_and_left_have_its_time_no_longer(run, metrics):
    async def later():
        await asyncio.sleep(0.001)
        return remaining()

    async def leaves():
        return asyncio.create_task(later())

    async def main():
        return await (await timeout(60.0)(leaves)())

    assert run(main) is None


def test_threads_with_an_event_loop_each_share_a_function(metrics):
    limited, outcomes = timeout(2 * SOON, name="fetch")(asyncio.sleep), []

    async def main():
        found = await asyncio.gather(
            *(limited(60.0 if number % 2 else 0) for number in range(40)), return_exceptions=True
        )
        outcomes.extend(type(each) for each in found)

    threads = [threading.Thread(target=asyncio.run, args=[main()]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (outcomes.count(TimedOutError), outcomes.count(type(None))) == (80, 80)
    assert metrics.outcomes() == {"timeout": 80, "success": 80}


@pytest.mark.parametrize("fires", [False, True])
def test_a_loop_that_ends_with_calls_in_it_is_kept_by_nobody(metrics, fires):
    limited = timeout(SOON if fires else 60.0, name="fetch")(for_ever)

    def left():
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda _loop, _what: None)  # a task was destroyed
        task = loop.create_task(limited())
        loop.run_until_complete(asyncio.sleep(0))
        if fires:
            time.sleep(2 * SOON)  # so that it is cancelled in the last turn of the loop
            loop.call_soon(loop.stop)
            loop.run_forever()
        loop.close()
        return weakref.ref(loop), weakref.ref(task)

    loop, task = left()
    gc.collect()
    assert (loop(), task()) == (None, None)
    with pytest.raises(TimedOutError):
        asyncio.run(timeout(SOON)(for_ever)())
    assert metrics("calls_total", component="fetch") == 1


def test_outside_a_task_it_is_refused(metrics):
    async def main():
        refused = []

        def call():
            try:
                timeout(1.0)(for_ever)().send(None)
            except RuntimeError as error:
                refused.append(str(error))

        asyncio.get_running_loop().call_soon(call)
        await asyncio.sleep(0)
        return refused

    assert asyncio.run(main()) == ["only a task can be interrupted, and no task runs here"]


@pytest.mark.process
def test_after_a_fork_each_process_has_its_own():
    assert program("timeout_forks.py").split("\n") == [
        "timed out",
        "child timed out",
        "parent timed out 0",
        "",
    ]
