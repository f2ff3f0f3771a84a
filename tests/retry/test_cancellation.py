"""Cancellation and `attempt_timeout`: whose cancellation it was, and that none is swallowed."""

import asyncio

import pytest
import uvloop

from mainstay import RetryBudget, TimedOutError, UnsupportedLoopError, deadline, on_event, retry
from mainstay.testing import FakeClock, Faults

pytestmark = pytest.mark.usefixtures("metrics")


class Lost(ConnectionError):
    """The failure that the policies of these tests retry."""


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request):
    return request.param


async def turns(number=20):
    """Let everything else that is ready run."""
    for _ in range(number):
        await asyncio.sleep(0)


async def forever(*_):
    await asyncio.get_running_loop().create_future()


async def ticking(clock, coroutine):
    """Run a coroutine while the clock goes on, a second at a time."""
    task = asyncio.ensure_future(coroutine)
    while not task.done():
        await turns()
        if not task.done():
            clock.advance(1.0)
    return await task


# Cancellation from outside


def test_cancelling_an_attempt_ends_the_call(run, metrics):
    async def main():
        task = asyncio.create_task(retry(on=Exception)(forever)())
        await turns()
        task.cancel("stop it")
        await task

    with pytest.raises(asyncio.CancelledError) as caught:
        run(main())
    assert caught.value.args == ("stop it",)
    assert metrics.outcomes() == {"cancelled": 1}
    assert metrics.errors() == {}


def test_cancelling_a_later_attempt_ends_the_call(run, metrics):
    script = Faults([Lost, Lost])

    async def attempt():
        script()
        await forever()

    async def main():
        task = asyncio.create_task(retry(on=Exception, wait=0)(attempt)())
        await turns()
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        run(main())
    assert metrics.outcomes() == {"cancelled": 1}
    assert metrics.errors() == {"Lost": 2}


def test_cancelling_a_wait_ends_the_call_and_counts_the_time_waited(run, metrics):
    async def main(clock):
        async def cancel_later():
            await clock.asleep(4.0)
            task.cancel()

        task = asyncio.create_task(retry(on=Lost, wait=10)(Faults(then=Lost).acall)())
        canceller = asyncio.create_task(cancel_later())
        try:
            await task
        finally:
            await canceller

    with FakeClock() as clock, pytest.raises(asyncio.CancelledError):
        run(main(clock))
    assert metrics.outcomes() == {"cancelled": 1}
    assert metrics("wait_seconds_total") == 4.0
    assert metrics.reasons() == {}


def test_an_interruption_of_a_sync_wait_ends_the_call(metrics, monkeypatch):
    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        retry(on=Lost, wait=10)(Faults([Lost]))()
    assert caught.value.__context__ is None
    assert metrics.outcomes() == {"cancelled": 1}
    assert metrics.errors() == {"Lost": 1}


def test_a_cancelled_block_ends_the_call(run, metrics):
    async def block():
        async for attempt in retry(on=Exception):
            with attempt:
                await forever()

    async def main():
        task = asyncio.create_task(block())
        await turns()
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        run(main())
    assert metrics.outcomes() == {"cancelled": 1}


def test_cancelling_while_an_async_on_result_is_awaited_ends_the_call(run, metrics):
    async def main():
        policy = retry(on=Exception, on_result=forever)
        task = asyncio.create_task(policy(Faults(["page"]).acall)())
        await turns()
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        run(main())
    assert metrics.outcomes() == {"cancelled": 1}


def test_closing_the_coroutine_ends_the_call(metrics):
    async def main():
        coroutine = retry(on=Exception)(forever)()
        coroutine.send(None)
        coroutine.close()

    asyncio.run(main())
    assert metrics.outcomes() == {"cancelled": 1}


def test_a_task_group_cancels_a_retry_among_its_tasks(run, metrics):
    async def fail():
        await turns()
        raise KeyError("the sibling")

    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(retry(on=Exception, name="cancelled")(forever)())
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert [type(error) for error in caught.value.exceptions] == [KeyError]
    assert metrics.outcomes() == {"cancelled": 1}


def test_asyncio_timeout_around_a_retry_works(metrics):
    async def main():
        async with asyncio.timeout(0):
            await retry(on=Exception)(forever)()

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert metrics.outcomes() == {"cancelled": 1}


def test_asyncio_timeout_inside_an_attempt_is_a_failure_like_any(metrics):
    async def attempt():
        async with asyncio.timeout(0):
            await forever()

    with pytest.raises(TimeoutError):
        asyncio.run(retry(on=TimeoutError, attempts=3, wait=0)(attempt)())
    assert metrics.errors() == {"TimeoutError": 3}


# attempt_timeout


def test_an_attempt_that_takes_too_long_is_cancelled_and_retried(run, metrics):
    cancelled = []

    async def attempt():
        if len(cancelled) == 2:
            return "ok"
        try:
            await forever()
        except asyncio.CancelledError:
            cancelled.append(None)
            raise

    with FakeClock() as clock:
        policy = retry(on=Lost, attempt_timeout=2.0, wait=0)
        assert run(ticking(clock, policy(attempt)())) == "ok"
        assert clock.now() == 4.0
    assert metrics.errors() == {"TimedOutError": 2}
    assert metrics.outcomes() == {"recovered": 1}


@pytest.mark.parametrize("on", [Lost, lambda error: False, lambda error: 1 / 0])
def test_an_expired_attempt_counts_as_failed_whatever_on_says(metrics, on):
    policy = retry(on=on, attempt_timeout=1.0, attempts=2, wait=0, name="load")
    with FakeClock() as clock, pytest.raises(TimeoutError) as caught:
        asyncio.run(ticking(clock, policy(forever)()))
    assert str(caught.value) == "load: attempt 2 took longer than 1.000 s"
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    (note,) = caught.value.__notes__
    assert "no attempts left; the attempts before:\n  attempt 1: TimedOutError: load: " in note
    assert metrics.outcomes() == {"error": 1}


def test_the_verdict_after_an_expired_attempt_is_asked_again(metrics):
    async def attempt():
        if not asked:
            asked.append("expires")
            await forever()
        raise KeyError

    asked = []
    with FakeClock() as clock, pytest.raises(KeyError):
        asyncio.run(ticking(clock, retry(on=Lost, attempt_timeout=1.0, wait=0)(attempt)()))
    assert metrics.reasons() == {"not_retryable": 1}


def test_a_timeout_error_of_the_users_is_judged_by_on(metrics):
    fetch = Faults([TimeoutError("mine")])
    with pytest.raises(TimeoutError, match="mine"):
        asyncio.run(retry(on=Lost, attempt_timeout=5)(fetch.acall)())
    assert len(fetch.calls) == 1


@pytest.mark.parametrize("limit", ["timeout", "deadline"])
def test_the_time_of_an_attempt_is_shortened_to_the_time_left(metrics, limit):
    async def main():
        if limit == "timeout":
            policy = retry(on=Lost, attempt_timeout=10.0, timeout=3.0, wait=0, name="load")
            return await policy(forever)()
        with deadline(3.0):
            return await retry(on=Lost, attempt_timeout=10.0, wait=0, name="load")(forever)()

    with FakeClock() as clock:
        with pytest.raises(TimeoutError, match=r"attempt 1 took longer than 3\.000 s"):
            asyncio.run(ticking(clock, main()))
        assert clock.now() == 3.0
    assert metrics.outcomes() == {"timeout": 1}


def test_a_quick_attempt_is_not_touched(run, metrics):
    async def main():
        value = await retry(on=Lost, attempt_timeout=60)(Faults(["ok"]).acall)()
        await turns()
        return value, asyncio.current_task().cancelling()

    assert run(main()) == ("ok", 0)


def test_no_timer_is_left_behind(metrics):
    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(10):
            await retry(on=Lost, attempt_timeout=60)(Faults(["ok"]).acall)()
        return [timer for timer in loop._scheduled if not timer.cancelled()]

    assert asyncio.run(main()) == []


def test_the_task_is_not_left_cancelling(run, metrics):
    async def main():
        await retry(on=Lost, attempt_timeout=1.0, wait=0)(once_forever)()
        return asyncio.current_task().cancelling()

    calls = []

    async def once_forever():
        calls.append(None)
        if len(calls) == 1:
            await forever()

    with FakeClock() as clock:
        assert run(ticking(clock, main())) == 0


def cancelled_in_the_same_tick(first):
    """Cancel a task from outside in the same turn of the loop in which its attempt expires."""

    async def main(clock):
        task = asyncio.create_task(
            retry(on=Exception, attempt_timeout=1.0, attempts=5, wait=0)(forever)()
        )
        await turns()
        if first == "outside":
            task.cancel()
            clock.advance(1.0)
        else:
            clock.advance(1.0)
            task.cancel()
        await task

    return main


@pytest.mark.parametrize("first", ["outside", "timeout"])
def test_a_cancellation_from_outside_in_the_same_tick_wins(run, metrics, first):
    with FakeClock() as clock, pytest.raises(asyncio.CancelledError):
        run(cancelled_in_the_same_tick(first)(clock))
    assert metrics.outcomes() == {"cancelled": 1}
    assert metrics.errors() == {}


def test_asyncio_timeout_that_fires_in_the_same_tick_wins(metrics):
    async def main(clock):
        async def guarded():
            async with asyncio.timeout(None) as guard:
                guards.append(guard)
                await retry(on=Exception, attempt_timeout=1.0, wait=0)(forever)()

        guards = []
        task = asyncio.create_task(guarded())
        await turns()
        guards[0].reschedule(0)
        clock.advance(1.0)
        await task

    with FakeClock() as clock, pytest.raises(TimeoutError) as caught:
        asyncio.run(main(clock))
    assert "took longer" not in str(caught.value)
    assert metrics.outcomes() == {"cancelled": 1}


def test_the_outer_of_two_attempt_timeouts_that_fire_together_wins(metrics):
    inner = retry(on=Exception, attempt_timeout=1.0, attempts=9, wait=0, name="inner")
    outer = retry(on=Exception, attempt_timeout=1.0, attempts=1, name="outer")
    with FakeClock() as clock, pytest.raises(TimeoutError, match="outer: attempt 1 took longer"):
        asyncio.run(ticking(clock, outer(inner(forever))()))
    assert metrics("calls_total", component="inner", outcome="cancelled") == 1
    assert metrics("calls_total", component="outer", outcome="error") == 1


def test_a_cancellation_while_the_attempt_cleans_up_after_its_timeout_wins(metrics):
    async def main(clock):
        cleaning = asyncio.Event()

        async def attempt():
            try:
                await forever()
            finally:
                cleaning.set()
                await forever()

        task = asyncio.create_task(retry(on=Exception, attempt_timeout=1.0, wait=0)(attempt)())
        await turns()
        clock.advance(1.0)
        await cleaning.wait()
        task.cancel()
        await task

    with FakeClock() as clock, pytest.raises(asyncio.CancelledError):
        asyncio.run(main(clock))
    assert metrics.outcomes() == {"cancelled": 1}


def test_an_attempt_that_swallows_the_cancel_keeps_its_result(metrics):
    async def attempt():
        try:
            await forever()
        except asyncio.CancelledError:
            return "swallowed"

    async def main(clock):
        async def caller():
            value = await retry(on=Exception, attempt_timeout=1.0)(attempt)()
            await turns()
            return value, asyncio.current_task().cancelling()

        return await ticking(clock, caller())

    with FakeClock() as clock:
        assert asyncio.run(main(clock)) == ("swallowed", 0)
    assert metrics.outcomes() == {"success": 1}


def test_an_attempt_that_turns_the_cancel_into_an_error_is_judged_by_on(metrics):
    async def attempt():
        try:
            await forever()
        except asyncio.CancelledError:
            raise KeyError("instead") from None

    with FakeClock() as clock, pytest.raises(KeyError):
        asyncio.run(ticking(clock, retry(on=Lost, attempt_timeout=1.0)(attempt)()))
    assert metrics.reasons() == {"not_retryable": 1}


def test_a_task_group_in_an_attempt_is_cancelled_as_a_whole(metrics):
    cleaned = []

    async def child(number):
        try:
            await forever()
        finally:
            cleaned.append(number)

    async def attempt():
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(child(number))

    with FakeClock() as clock, pytest.raises(TimeoutError, match="took longer"):
        asyncio.run(ticking(clock, retry(on=Lost, attempt_timeout=1.0, attempts=1)(attempt)()))
    assert sorted(cleaned) == [0, 1, 2]


def test_a_task_that_was_already_being_cancelled_can_still_time_attempts_out(metrics):
    async def main(clock):
        async def cleanup():
            try:
                await forever()
            finally:
                with pytest.raises(TimeoutError):
                    await retry(on=Lost, attempt_timeout=1.0, attempts=1)(forever)()

        task = asyncio.create_task(cleanup())
        await turns()
        task.cancel()
        await ticking(clock, task)

    with FakeClock() as clock, pytest.raises(asyncio.CancelledError):
        asyncio.run(main(clock))


def test_an_attempt_that_ends_just_as_its_time_is_up_leaves_no_cancellation(metrics):
    async def main(clock):
        async def attempt():
            clock.advance(1.0)
            return "just in time"

        value = await retry(on=Lost, attempt_timeout=1.0)(attempt)()
        await turns()
        return value, asyncio.current_task().cancelling()

    with FakeClock() as clock:
        assert asyncio.run(main(clock)) == ("just in time", 0)
    assert metrics.outcomes() == {"success": 1}


def test_an_attempt_that_ends_just_as_its_real_time_is_up_leaves_no_cancellation(metrics):
    async def main():
        loop = asyncio.get_running_loop()

        async def attempt():
            until = loop.time() + 0.002
            while loop.time() < until:  # the timer gets due while the loop cannot run it
                pass
            return "just in time"

        value = await retry(on=Lost, attempt_timeout=0.001)(attempt)()
        await turns()
        return value, asyncio.current_task().cancelling()

    assert asyncio.run(main()) == ("just in time", 0)


def test_the_event_of_an_expired_attempt_carries_the_timeout_error(metrics):
    events = []
    stop = on_event(events.append)
    policy = retry(on=Lost, attempt_timeout=1.0, attempts=2, wait=0)
    try:
        with FakeClock() as clock, pytest.raises(TimeoutError):
            asyncio.run(ticking(clock, policy(forever)()))
    finally:
        stop()
    assert [(event.kind, type(event.error)) for event in events] == [
        ("retry_scheduled", TimedOutError),
        ("retry_gave_up", TimedOutError),
    ]


# Loops that are not asyncio's


def test_a_coroutine_driven_by_hand_is_refused(metrics):
    fetch = Faults(["never"])
    coroutine = retry(on=Exception, name="fetch")(fetch.acall)()
    with pytest.raises(UnsupportedLoopError, match="asyncio") as caught:
        coroutine.send(None)
    assert caught.value.component == "fetch"
    assert fetch.calls == []


@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 1}, {"budget": 0.1}])
def test_a_coroutine_driven_by_hand_is_refused_with_any_options(metrics, options):
    coroutine = retry(on=Exception, **options)(Faults(["never"]).acall)()
    with pytest.raises(UnsupportedLoopError):
        coroutine.send(None)


def test_a_policy_serves_one_event_loop_after_another(metrics):
    """Known fault 30: hyx's token bucket needs a running loop; others keep the first one."""
    policy = retry(on=Lost, wait=0, attempt_timeout=5, budget=RetryBudget())
    fetch = policy(Faults([Lost, "a", Lost, "b"]).acall)
    assert [asyncio.run(fetch()), uvloop.run(fetch())] == ["a", "b"]


# Known faults of other libraries, by their numbers in the survey.


def test_a_cancelled_call_is_over_and_holds_nothing(metrics):
    """Known fault 2: resilience4j (#544, #935) and Polly (#1979) keep what it had taken."""
    budget = RetryBudget(ratio=0, floor=0.1, window=10)

    async def main():
        async def forever():
            await asyncio.get_running_loop().create_future()

        task = asyncio.create_task(retry(on=Lost, budget=budget)(forever)())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await retry(on=Lost, wait=0, budget=budget)(Faults([Lost, "ok"]).acall)()

    assert asyncio.run(main()) == "ok"
    assert metrics.outcomes() == {"cancelled": 1, "recovered": 1}


def test_timeouts_of_one_policy_do_not_disturb_each_other(metrics):
    """Known fault 17: hyx keeps the timer on a shared object: three calls end "ok", not one."""
    policy = retry(on=KeyError, attempt_timeout=2.0, attempts=1)

    @policy
    async def attempt(seconds):
        await clock.asleep(seconds)
        return "ok"

    async def main():
        return await asyncio.gather(*map(attempt, (1.0, 3.0, 4.0)), return_exceptions=True)

    with FakeClock() as clock:
        ended = asyncio.run(main())
    assert [type(each) for each in ended] == [str, TimedOutError, TimedOutError]
