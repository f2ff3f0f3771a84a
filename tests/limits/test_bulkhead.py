"""What a bulkhead does, sync and async, in all forms, on a clock of the test's own."""

import asyncio
import contextvars
import gc
import math
import pickle
import re
import threading
from datetime import timedelta

import pytest

from mainstay import (
    Adaptive,
    Bulkhead,
    BulkheadFullError,
    DeadlineExpiredError,
    Metrics,
    RejectedError,
    TimedOutError,
    UnsupportedLoopError,
    deadline,
    retry,
)
from mainstay._core.context import current_context
from mainstay._limits.bulkhead_calls import BulkheadCall
from mainstay.testing import FakeClock, recorded
from support.bulkheads import BULKHEAD_FORMS, MAY_WAIT, Inside, until
from support.callers import ASYNC, SYNC
from support.examples import examples


@pytest.fixture(params=BULKHEAD_FORMS.values(), ids=[*BULKHEAD_FORMS])
def form(request, metrics):
    """Runs a plain function through a bulkhead: `form(bulkhead, fn, *args)`."""
    return request.param


@pytest.fixture(params=MAY_WAIT.values(), ids=[*MAY_WAIT])
def waiting_form(request, metrics):
    """As `form`, of those that wait for a place."""
    return request.param


def fail(error):
    raise error


# What goes through.


def test_calls_go_through_and_are_counted(form, metrics, context):
    bulkhead = Bulkhead("orders", limit=2)
    seen = [form(bulkhead, lambda: (bulkhead.in_flight, bulkhead.waiting)) for _ in range(3)]
    assert seen == [(1, 0)] * 3
    assert (bulkhead.name, bulkhead.limit, bulkhead.in_flight) == ("orders", 2, 0)
    assert metrics.outcomes() == {"success": 3}
    assert metrics("call_duration_seconds_count", policy="bulkhead") == 3


def test_an_exception_passes_untouched_and_frees_the_place(form, metrics, context):
    bulkhead, error = Bulkhead("orders", limit=1), KeyError("x")
    with pytest.raises(KeyError) as caught:
        form(bulkhead, fail, error)
    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert bulkhead.in_flight == 0
    assert metrics.outcomes() == {"error": 1}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_a_program_or_task_frees_the_place_and_says_nothing(sync, metrics, error):
    bulkhead = Bulkhead("orders", limit=1)
    with pytest.raises(error):
        sync.decorated(bulkhead, fail, error())
    assert bulkhead.in_flight == 0
    assert metrics.outcomes() == {"cancelled": 1}


def test_methods_of_all_kinds_go_through(metrics):
    bulkhead = Bulkhead("orders", limit=1)

    class Shop:
        @bulkhead
        def own(self, x):
            return x, bulkhead.in_flight

        @bulkhead
        @classmethod
        def of_class(cls, x):
            return cls, x

        @bulkhead
        @staticmethod
        def of_none(x):
            return x

    assert Shop().own(1) == (1, 1)
    assert Shop.of_class(2) == (Shop, 2)
    assert Shop.of_none(3) == 3


def test_a_plain_function_that_returns_a_coroutine_is_refused(metrics, context):
    late = asyncio.sleep
    bulkhead = Bulkhead("orders", limit=1)
    with pytest.raises(TypeError, match="decorate the async function"):
        bulkhead.call(lambda: late(0))
    assert bulkhead.in_flight == 0


# Full.


def test_a_full_one_refuses_at_once_and_calls_nothing(form, metrics, context):
    bulkhead, called = Bulkhead("orders", limit=1), []
    with Inside(bulkhead), pytest.raises(BulkheadFullError) as caught:
        form(bulkhead, called.append, 1)
    assert not called
    assert isinstance(caught.value, RejectedError)
    assert (caught.value.component, caught.value.reason) == ("orders", "full")
    assert caught.value.retry_after == 0.0  # no call has ended yet
    assert "try again" not in str(caught.value)  # nobody knows when
    assert metrics.outcomes() == {"success": 1, "rejected": 1}
    assert metrics.reasons() == {"full": 1}
    assert metrics("call_duration_seconds_count") == 1
    assert metrics("queue_wait_seconds_count") == 0


def test_retry_after_is_what_those_before_will_take(metrics, clock):
    bulkhead = Bulkhead("orders", limit=4)
    for seconds in (1.0, 2.0, 6.0):
        bulkhead.call(clock.advance, seconds)
    with Inside(bulkhead, 4), pytest.raises(BulkheadFullError) as caught:
        bulkhead.call(str)
    assert caught.value.retry_after == 2.0 / 4


def test_a_retry_waits_for_its_hint(metrics, clock, waits):
    bulkhead = Bulkhead("orders", limit=1)
    bulkhead.call(clock.advance, 3.0)
    inside = Inside(bulkhead)

    @retry(on=BulkheadFullError, attempts=2)
    def call():
        return bulkhead.call(str, "in time")

    with inside:
        with pytest.raises(BulkheadFullError):
            call()
        assert 3.0 <= waits[0] <= 3.3


def test_waiting_ends_at_max_wait(waiting_form, metrics, clock):
    bulkhead = Bulkhead("orders", limit=1, max_wait=timedelta(seconds=2))
    with Inside(bulkhead), pytest.raises(BulkheadFullError) as caught:
        waiting_form(bulkhead, str)
    assert caught.value.reason == "wait"
    assert clock.now() == 2.0
    assert bulkhead.waiting == 0
    assert metrics.reasons() == {"wait": 1}
    assert metrics("queue_wait_seconds_sum", priority="normal") == 2.0


def test_waiting_ends_at_the_deadline(waiting_form, metrics, clock):
    bulkhead = Bulkhead("orders", limit=1, max_wait=5.0)
    with Inside(bulkhead), deadline(2.0), pytest.raises(DeadlineExpiredError):
        waiting_form(bulkhead, str)
    assert clock.now() == 2.0
    assert bulkhead.waiting == 0
    assert metrics.reasons() == {"timeout": 1}
    assert metrics("calls_total", outcome="timeout") == 1


def test_a_call_that_begins_with_no_time_left_is_not_made(form, metrics, clock):
    bulkhead, called = Bulkhead("orders"), []
    with deadline(0), pytest.raises(DeadlineExpiredError):
        form(bulkhead, called.append, 1)
    assert not called
    assert metrics.outcomes() == {"timeout": 1}


def test_the_place_of_one_that_ends_goes_to_the_first_that_waits(waiting_form, metrics):
    bulkhead = Bulkhead("orders", limit=1, max_wait=30.0)
    answers = []
    with Inside(bulkhead) as inside:
        waiter = threading.Thread(
            target=lambda: answers.append(waiting_form(bulkhead, lambda: bulkhead.in_flight))
        )
        waiter.start()
        until(lambda: bulkhead.waiting == 1)
        assert metrics("waiting") == 1
        assert metrics("in_flight") == 1
        inside.let_go()
        waiter.join(30)
    assert answers == [1]
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)
    assert metrics("queue_wait_seconds_count", priority="normal") == 1
    assert metrics.outcomes() == {"success": 2}


def test_who_has_less_time_left_than_a_call_takes_is_refused_at_the_hand_over(metrics, clock):
    bulkhead = Bulkhead("orders", limit=1, max_wait=10.0)
    bulkhead.call(clock.advance, 1.0)
    order = []

    async def holder():
        async with bulkhead:
            await current_context().clock.asleep(2.0)

    async def waiter(seconds, name):
        with deadline(seconds):
            try:
                async with bulkhead:
                    order.append(name)
            except BulkheadFullError as error:
                order.append((name, error.reason, clock.now()))

    async def main():
        await asyncio.gather(holder(), waiter(2.5, "short"), waiter(5.0, "long"))

    asyncio.run(main())
    assert order == [("short", "shed", 3.0), "long"]
    assert metrics.reasons() == {"shed": 1}
    assert bulkhead.in_flight == 0


def test_in_a_thread_whose_event_loop_runs_nothing_waits(metrics):
    bulkhead = Bulkhead("orders", limit=1, max_wait=30.0)

    @bulkhead
    def plain():
        raise AssertionError

    async def main():
        with pytest.raises(BulkheadFullError, match="event loop") as caught:
            plain()
        assert caught.value.reason == "full"
        with pytest.raises(BulkheadFullError, match="event loop"), bulkhead:
            raise AssertionError

    with Inside(bulkhead):
        asyncio.run(main())


def test_entered_again_while_full_is_refused_at_once_and_says_so(waiting_form, metrics):
    bulkhead = Bulkhead("orders", limit=1, max_wait=30.0)

    async def again():
        async with bulkhead:
            raise AssertionError

    with pytest.raises(BulkheadFullError, match="has a place there already"):
        waiting_form(bulkhead, lambda: bulkhead.call(str))
    with pytest.raises(BulkheadFullError, match="has a place there already"):
        ASYNC.called(bulkhead, lambda: again().send(None))
    assert bulkhead.in_flight == 0


def test_entered_again_with_a_place_left_takes_it(form, metrics):
    bulkhead = Bulkhead("orders", limit=2)
    assert form(bulkhead, lambda: bulkhead.call(lambda: bulkhead.in_flight)) == 2


def test_entered_again_deep_inside_is_refused_at_once(metrics):
    bulkhead = Bulkhead("orders", limit=1, max_wait=30.0)

    def items():
        yield bulkhead.call(str)

    async def between():
        return await asyncio.wait_for(below(), None)

    async def below():
        await asyncio.sleep(0)
        return await bulkhead.call(awaited)

    async def awaited():
        raise AssertionError

    with pytest.raises(BulkheadFullError, match="has a place there already"):
        bulkhead.call(lambda: list(items()))
    with pytest.raises(BulkheadFullError, match="has a place there already"):
        asyncio.run(bulkhead.call(between))
    with pytest.raises(BulkheadFullError, match="has a place there already"):
        bulkhead.call(lambda: asyncio.run(between()))  # it waits for the loop and all its tasks
    assert metrics.reasons() == {"full": 3}


def test_inside_another_one_that_is_full_it_may_wait(metrics):
    outer, full = Bulkhead("outer", limit=1), Bulkhead("full", limit=1, max_wait=0.01)
    with Inside(full), pytest.raises(BulkheadFullError) as caught:
        outer.call(full.call, str)
    assert caught.value.reason == "wait"


def test_who_has_one_of_before_a_reset_may_wait(metrics):
    bulkhead = Bulkhead("orders", limit=1, max_wait=0.01)

    def resets():
        bulkhead.reset()
        with Inside(bulkhead):
            bulkhead.call(str)

    with pytest.raises(BulkheadFullError) as caught:
        bulkhead.call(resets)
    assert caught.value.reason == "wait"


@pytest.mark.parametrize("eager", [False, True])
def test_tasks_of_a_function_that_has_a_place_may_wait_for_one(metrics, eager):
    if eager and not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("needs tasks that begin at once, which Python has since 3.12")
    bulkhead = Bulkhead("orders", limit=1, max_wait=30.0)

    async def has_a_place():
        task = asyncio.create_task(bulkhead.call(asyncio.sleep, 0, "in"))
        for _ in range(3):
            await asyncio.sleep(0)
        assert bulkhead.waiting == 1
        return task

    async def main():
        if eager:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return await (await bulkhead.call(has_a_place))

    assert asyncio.run(main()) == "in"


def test_tasks_of_a_call_that_has_a_place_may_wait_for_one(metrics):
    bulkhead = Bulkhead("orders", limit=1, max_wait=30.0)

    async def main():
        async with bulkhead:
            task = asyncio.create_task(bulkhead.call(asyncio.sleep, 0, "in"))
            for _ in range(3):
                await asyncio.sleep(0)
            assert bulkhead.waiting == 1
        return await task

    assert asyncio.run(main()) == "in"


def test_a_task_that_outlives_the_call_it_was_made_in_may_wait(metrics):
    bulkhead = Bulkhead("orders", limit=1, max_wait=30.0)

    async def main():
        started, tasks = asyncio.Event(), []

        @bulkhead
        async def starts_another():
            tasks.append(asyncio.create_task(later()))

        async def later():
            await started.wait()
            return await bulkhead.call(awaited)

        async def awaited():
            return "in"

        await starts_another()
        async with bulkhead:
            started.set()
            for _ in range(3):
                await asyncio.sleep(0)
            assert bulkhead.waiting == 1
        return await tasks[0]

    assert asyncio.run(main()) == "in"


# One count, and its faults in others.


def test_t11_one_limit_over_all_event_loops(metrics):
    """Known fault T11: 8 at a time of 2, or "bound to a different event loop"."""
    bulkhead = Bulkhead("orders", limit=2, max_wait=30.0)
    most, lock, now = [0], threading.Lock(), [0]

    @bulkhead
    async def work():
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        await asyncio.sleep(0)
        with lock:
            now[0] -= 1

    async def main():
        await asyncio.gather(*(work() for _ in range(20)))

    loops = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for each in loops:
        each.start()
    for each in loops:
        each.join(30)
    assert most[0] <= 2
    assert metrics.outcomes() == {"success": 80}
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)


def test_t12_sync_and_async_callers_are_counted_together(metrics):
    """Known fault T12: 2 inside, where the limit is 1."""
    bulkhead = Bulkhead("orders", limit=1)
    with Inside(bulkhead), pytest.raises(BulkheadFullError):
        ASYNC.decorated(bulkhead, str)


@pytest.mark.parametrize("turns", range(6))
def test_t13_no_place_is_lost_by_a_cancellation_at_any_moment(metrics, turns):
    """Known fault T13: after eight cancelled calls every other one was refused for ever."""
    bulkhead = Bulkhead("orders", limit=1, max_wait=30.0)

    @bulkhead
    async def work():
        await asyncio.sleep(0)

    async def main():
        async with bulkhead:
            tasks = [asyncio.create_task(work()) for _ in range(3)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    cancelled, *others = asyncio.run(main())
    assert others == [None, None]
    assert cancelled is None or isinstance(cancelled, asyncio.CancelledError)
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)


def test_t13_a_loop_that_ends_with_waiters_takes_no_place_along(metrics):
    bulkhead = Bulkhead("orders", limit=1, max_wait=30.0)
    loop = asyncio.new_event_loop()

    async def enter():
        async with bulkhead:
            pass

    with Inside(bulkhead):
        task = loop.create_task(enter())
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        assert bulkhead.waiting == 1
    assert bulkhead.call(lambda: bulkhead.in_flight) == 1  # the loop does not run: passed over
    assert bulkhead.waiting == 0
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    assert bulkhead.in_flight == 0


def test_t13_a_loop_that_ends_between_hand_over_and_waking_gives_the_place_on(metrics):
    bulkhead = Bulkhead("orders", limit=1, max_wait=30.0)
    loop = asyncio.new_event_loop()

    async def enter():
        async with bulkhead:
            raise AssertionError

    async def main():
        task = loop.create_task(enter())
        async with bulkhead:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert bulkhead.waiting == 1
        assert bulkhead.in_flight == 1  # the waiter has it, and does not know yet
        loop.stop()
        return task

    future = loop.create_task(main())
    loop.run_forever()
    task = future.result()
    task._log_destroy_pending = False  # or the collector says so in the middle of another test
    loop.close()
    assert bulkhead.call(lambda: bulkhead.in_flight) == 1
    task.get_coro().close()
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)


def test_t14_lowering_the_limit_while_all_places_are_taken_blocks_nobody(metrics):
    """Known fault T14: it waited for the places behind the lock that gives them back."""
    bulkhead = Bulkhead("orders", limit=3)
    with Inside(bulkhead, 3):
        bulkhead.resize(1)
        assert (bulkhead.limit, bulkhead.in_flight) == (1, 3)
        with pytest.raises(BulkheadFullError):
            bulkhead.call(str)
    assert bulkhead.in_flight == 0
    with Inside(bulkhead), pytest.raises(BulkheadFullError):
        bulkhead.call(str)
    assert metrics("limit_changes_total", direction="down") == 1
    assert metrics("concurrency_limit") == 1


def test_raising_the_limit_lets_those_in_who_wait(metrics):
    bulkhead = Bulkhead("orders", limit=1, max_wait=30.0)
    with Inside(bulkhead):
        waiter = threading.Thread(target=bulkhead.call, args=(str,))
        waiter.start()
        until(lambda: bulkhead.waiting == 1)
        bulkhead.resize(2)
        waiter.join(30)
        assert not waiter.is_alive()
    assert metrics("limit_changes_total", direction="up") == 1


def test_t15_places_go_round_in_the_order_of_arrival(metrics):
    """Known fault T15: who had just given a place back got it again."""
    bulkhead = Bulkhead("orders", limit=1, max_wait=30.0)
    order = []

    @bulkhead
    async def work(number):
        order.append(number)
        await asyncio.sleep(0)

    async def main():
        await asyncio.gather(*(work(each % 4) for each in range(40)))

    asyncio.run(main())
    assert order == [each % 4 for each in range(40)]


def test_t15_threads_are_served_in_the_order_of_arrival(metrics):
    """Known fault T15: of 16 threads at a semaphore of 2 one had 2,573 turns, and another 1."""
    bulkhead, order = Bulkhead("orders", limit=1, max_wait=30.0), []
    waiters = [
        threading.Thread(target=bulkhead.call, args=(order.append, number)) for number in range(8)
    ]
    with Inside(bulkhead):
        for number, each in enumerate(waiters):
            each.start()
            until(lambda ahead=number: bulkhead.waiting == ahead + 1)
    for each in waiters:
        each.join(30)
    assert order == [*range(8)]


def test_t16_no_overflow_hides_between_two_scrapes(form, metrics, clock):
    """Known fault T16: a scrape of gauges alone misses what was between it and the last."""
    bulkhead = Bulkhead("orders", limit=5)
    for seconds in (1.0, 2.5):
        form(bulkhead, clock.advance, seconds)
    assert metrics("in_flight_seconds_total") == 3.5
    assert metrics("in_flight") == 0
    assert metrics("concurrency_limit") == 5


def test_t17_two_of_one_name_show_the_sum(metrics):
    """Known fault T17: the second one was refused, for its metrics were there already."""
    one, other = Bulkhead("orders", limit=2), Bulkhead("orders", limit=3)
    assert metrics("concurrency_limit", component="orders") == 5
    del other
    gc.collect()
    assert metrics("concurrency_limit", component="orders") == one.limit


def test_t18_the_place_is_held_while_an_inner_retry_waits(form, metrics, clock):
    """Known fault T18: nobody says so. The metrics do, and `explain` warns of the order."""
    bulkhead, seen = Bulkhead("orders", limit=1), []

    def fails():
        seen.append(bulkhead.in_flight)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        form(bulkhead, retry(on=OSError, attempts=2, wait=3.0)(fails))
    assert seen == [1, 1]
    assert metrics("in_flight_seconds_total") == 3.0


def test_t23_a_limit_that_nobody_needs_does_not_grow(form, metrics, clock):
    """Known fault T23: with one call at a time, the limit of a peer rose from 10 to 60."""
    bulkhead = Bulkhead("orders", limit=Adaptive(initial=10))
    for _ in range(examples(500)):
        form(bulkhead, clock.advance, 0.01)
    assert bulkhead.limit == 10
    assert metrics("limit_changes_total") == 0


# Blocks.


def test_a_block_may_be_left_in_another_context(metrics):
    bulkhead = Bulkhead("orders", limit=1)

    def block():
        with bulkhead:
            yield

    inside = block()
    contextvars.copy_context().run(next, inside)
    assert bulkhead.in_flight == 1
    contextvars.copy_context().run(inside.close)
    assert bulkhead.in_flight == 0


def test_an_interrupt_while_a_block_is_left_frees_its_place_all_the_same(metrics, monkeypatch):
    bulkhead, give_back, handlers = Bulkhead("orders", limit=1), BulkheadCall.give_back, [None]

    def interrupted(call):
        if handlers:
            handlers.pop()
            raise KeyboardInterrupt
        give_back(call)

    monkeypatch.setattr(BulkheadCall, "give_back", interrupted)
    with pytest.raises(KeyboardInterrupt), bulkhead:
        pass
    assert bulkhead.in_flight == 0
    with bulkhead:
        assert bulkhead.in_flight == 1
    assert bulkhead.in_flight == 0
    assert metrics.outcomes() == {"cancelled": 1, "success": 1}


def test_blocks_inside_each_other_end_each_their_own(sync, metrics):
    one, other = Bulkhead("one", limit=2), Bulkhead("other", limit=2)
    with one:
        with other, one:
            assert (one.in_flight, other.in_flight) == (2, 1)
        assert (one.in_flight, other.in_flight) == (1, 0)
    assert one.in_flight == 0


def test_reset_makes_it_as_new_also_for_those_inside(metrics):
    bulkhead = Bulkhead("orders", limit=1)
    bulkhead.resize(2)
    with bulkhead:
        bulkhead.reset()
        assert (bulkhead.limit, bulkhead.in_flight) == (1, 0)
        bulkhead.call(str)
    assert bulkhead.in_flight == 0
    with Inside(bulkhead), pytest.raises(BulkheadFullError):
        bulkhead.call(str)


# Adaptive.


class Overload(Exception):
    pass


def adaptive(**settings):
    return Bulkhead("orders", limit=Adaptive(initial=20, **settings))


@pytest.mark.parametrize(
    ("error", "drops"),
    [
        (Overload("busy"), True),
        (TimedOutError("fetch", 1.0), True),
        (DeadlineExpiredError("fetch"), True),
        (TimeoutError("somebody else's"), False),
        (ValueError("no"), False),
    ],
)
def test_what_counts_as_a_drop(form, metrics, clock, error, drops):
    bulkhead = adaptive(overload=Overload)
    for _ in range(30):
        clock.advance(1.0)
        with pytest.raises(type(error)):
            form(bulkhead, fail, error)
    assert (bulkhead.limit < 20) is drops
    assert (metrics("limit_changes_total", direction="down") > 0) is drops
    assert metrics("concurrency_limit") == bulkhead.limit


def test_a_predicate_for_overload_that_raises_hides_nothing(metrics, clock):
    def broken(error):
        raise RuntimeError("what was that?")

    bulkhead = adaptive(overload=broken)
    with pytest.raises(Overload):
        bulkhead.call(fail, Overload())
    assert metrics("hook_errors_total", hook="predicate") == 1
    assert bulkhead.limit == 20


@pytest.mark.parametrize("answer", [None, "yes", re.match("a", "a"), []], ids=repr)
def test_an_answer_about_overload_that_is_none_is_said_and_is_no_drop(
    form, metrics, clock, caplog, answer
):
    bulkhead = adaptive(overload=lambda _error: answer)
    for _ in range(2):
        with pytest.raises(Overload) as caught:
            form(bulkhead, fail, Overload())
        assert f"`overload` must return True or False, not {answer!r}" in caught.value.__notes__[0]
    assert metrics("hook_errors_total", hook="predicate") == 2
    assert bulkhead.limit == 20
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("delay", [0, 0.0, 2.5, timedelta(0)])
def test_a_delay_as_answer_about_overload_is_a_drop(form, metrics, clock, delay):
    bulkhead = adaptive(overload=lambda _error: delay)
    for _ in range(30):
        clock.advance(1.0)
        with pytest.raises(Overload):
            form(bulkhead, fail, Overload())
    assert bulkhead.limit < 20


def cancel_inside(bulkhead, clock, seconds, times):
    async def main():
        @bulkhead
        async def hangs():
            await asyncio.Event().wait()

        for _ in range(times):
            task = asyncio.create_task(hangs())
            await asyncio.sleep(0)
            clock.advance(seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def test_late_cancellations_are_drops_and_early_ones_say_nothing(metrics, clock):
    late, early = adaptive(), adaptive()
    ASYNC.decorated(early, clock.advance, 5.0)
    cancel_inside(late, clock, 1.0, times=30)
    assert late.limit < 20
    for _ in range(30):
        cancel_inside(early, clock, 1.0, times=1)
        ASYNC.decorated(early, clock.advance, 0.1)
    assert early.limit == 20


def test_a_deadline_that_interrupts_is_a_drop(metrics, clock):
    bulkhead = adaptive()

    async def main():
        @bulkhead
        async def hangs():
            await current_context().clock.asleep(9.0)

        for _ in range(30):
            with pytest.raises(DeadlineExpiredError):
                async with deadline(1.0):
                    await hangs()

    asyncio.run(main())
    assert bulkhead.limit < 20
    assert metrics.outcomes() == {"timeout": 30}


def test_an_adaptive_limit_grows_where_it_is_reached(metrics, clock):
    bulkhead = Bulkhead("orders", limit=Adaptive(initial=20), max_wait=10.0)

    async def main():
        @bulkhead
        async def work():
            await current_context().clock.asleep(0.1)

        async def caller():
            for _ in range(30):
                await work()

        await asyncio.gather(*(caller() for _ in range(20)))

    asyncio.run(main())
    assert bulkhead.limit > 20
    assert bulkhead.in_flight == 0


def test_an_adaptive_limit_is_not_resized_by_hand_and_begins_anew_after_reset(metrics, clock):
    bulkhead = adaptive(overload=Overload)
    with pytest.raises(TypeError, match="Adaptive"):
        bulkhead.resize(3)
    for _ in range(30):
        with pytest.raises(Overload):
            bulkhead.call(fail, Overload())
        clock.advance(1.0)
    bulkhead.reset()
    assert bulkhead.limit == 20


# Bad input.


@pytest.mark.parametrize(
    ("limit", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (math.nan, TypeError),
        (math.inf, TypeError),
        (True, TypeError),
        ("3", TypeError),
        (None, TypeError),
    ],
)
def test_a_limit_that_is_none_is_refused(limit, error, metrics):
    with pytest.raises(error, match="`limit`"):
        Bulkhead("orders", limit=limit)
    with pytest.raises(error, match="`limit`"):
        Bulkhead("orders").resize(limit)


@pytest.mark.parametrize("max_wait", [-1, math.nan, math.inf, timedelta(seconds=-1)])
def test_a_wait_that_is_none_is_refused(max_wait, metrics):
    with pytest.raises(ValueError, match="`max_wait` must be finite and at least 0 seconds"):
        Bulkhead("orders", max_wait=max_wait)


@pytest.mark.parametrize("max_wait", ["1", None, True])
def test_a_wait_that_is_no_time_is_refused(max_wait, metrics):
    with pytest.raises(TypeError, match="`max_wait`"):
        Bulkhead("orders", max_wait=max_wait)


def test_what_else_is_refused_when_it_is_made(metrics):
    with pytest.raises(ValueError, match="`name`"):
        Bulkhead("")
    with pytest.raises(TypeError, match="`name`"):
        Bulkhead(1)
    with pytest.raises(TypeError, match="`metrics`"):
        Bulkhead("orders", metrics=1)
    with pytest.raises(TypeError, match="callables"):
        Bulkhead("orders")(1)
    with pytest.raises(TypeError, match="generators"):
        Bulkhead("orders")(lambda: (yield))
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        pickle.dumps(Bulkhead("orders"))


def test_async_functions_and_blocks_need_asyncio(metrics):
    async def work():
        pass

    bulkhead = Bulkhead("orders")
    with pytest.raises(UnsupportedLoopError):
        bulkhead(work)().send(None)
    with pytest.raises(UnsupportedLoopError):
        bulkhead.__aenter__().send(None)


# Metrics of others.


def test_calls_in_recorded_count_there(form):
    mine = Metrics(None)
    bulkhead = Bulkhead("orders", limit=1, metrics=mine)
    with recorded() as theirs:
        form(bulkhead, str)
        assert theirs.value("calls_total", outcome="success") == 1
        assert theirs.value("in_flight_seconds_total", component="orders") >= 0


def test_a_signal_handler_that_comes_in_behind_the_lock_never_waits(metrics):
    bulkhead = Bulkhead("orders", limit=1, max_wait=30.0)
    places = bulkhead._bound.engine.places
    with Inside(bulkhead), places._lock, pytest.raises(BulkheadFullError) as caught:
        bulkhead.call(str)
    assert caught.value.reason == "full"
    assert bulkhead.call(str, "and again") == "and again"


def test_on_a_clock_of_a_test_after_the_system_s(metrics):
    bulkhead = adaptive(overload=Overload)
    bulkhead.call(str)
    with FakeClock() as clock:
        for _ in range(30):
            clock.advance(1.0)
            with pytest.raises(Overload):
                bulkhead.call(fail, Overload())
        assert bulkhead.limit < 20
    assert SYNC.called(bulkhead, str, "on") == "on"


def test_a_variable_of_the_callers_that_has_the_name_of_ours_is_not_taken_for_it(metrics):
    places = Bulkhead("places", 1)

    def caller():
        places_taken = [(1, 2), (), ("window", iter("a"), 3)]  # seats of the user's, say
        with pytest.raises(BulkheadFullError) as caught:
            places.call(len, places_taken)
        return str(caught.value)

    started, release = threading.Event(), threading.Event()

    def other():
        started.set()
        release.wait()

    thread = threading.Thread(target=places.call, args=(other,))
    thread.start()
    started.wait()
    try:
        assert "would wait for itself" not in caller()
    finally:
        release.set()
        thread.join()
