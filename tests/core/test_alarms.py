"""The one timer of an event loop, for all that waits on it."""

import asyncio
import contextvars
import gc
import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import deadline, hedge, redundant, timeout
from mainstay._core.alarms import Alarms, alarms_of
from mainstay._core.clock import monotonic
from support.loops import loop_factories, runner_on


class Waiting:
    """What waits for its time, and may end before."""

    def __init__(self, rung, name):
        self.rung = rung
        self.name = name
        self.over = False

    def is_over(self):
        return self.over

    def fire(self):
        if not self.over:
            self.rung.append(self.name)


class Last(Waiting):
    """What ends the test."""

    def __init__(self):
        self.done = asyncio.Event()

    def is_over(self):
        return False

    def fire(self):
        self.done.set()


@pytest.fixture(params=loop_factories())
def run(request):
    """Run a coroutine function on a loop of each kind."""
    return runner_on(request.param)


def alarms_here():
    return Alarms(asyncio.get_running_loop())


async def until(alarms, due):
    """Wait for an alarm at that time."""
    last = Last()
    alarms.add(due, last)
    await last.done.wait()


def end(alarms, waiting):
    waiting.over = True
    alarms.remove(waiting)


def test_they_ring_in_the_order_of_their_times_and_not_when_they_have_ended(run):
    async def main():
        rung, now, alarms = [], monotonic(), alarms_here()
        ended = Waiting(rung, "ended")
        for delay in (0.03, 0.01, 0.02):
            alarms.add(now + delay, Waiting(rung, delay))
        alarms.add(now + 0.015, ended)
        end(alarms, ended)
        await until(alarms, now + 0.04)
        return rung, len(alarms)

    assert run(main) == ([0.01, 0.02, 0.03], 0)


def test_none_rings_before_its_time(run):
    async def main():
        alarms = alarms_here()
        for number in range(20):
            due = monotonic() + number * 0.0007
            await until(alarms, due)
            assert monotonic() >= due

    run(main)


def test_those_that_ended_when_they_were_old_do_not_ring(run):
    async def main():
        alarms, rung = alarms_here(), ["too late"]
        while rung:  # where the machine stood still for 10 ms, both have rung before the end
            rung, now = [], monotonic()
            ended, stays = Waiting(rung, "ended"), Waiting(rung, "stays")
            alarms.add(now + 0.02, ended)
            alarms.add(now + 0.02, stays)
            await until(alarms, now + 0.01)
        end(alarms, ended)
        await until(alarms, now + 0.03)
        return rung, len(alarms)

    assert run(main) == (["stays"], 0)


def test_those_that_ended_while_young_are_gone_at_once():
    async def main():
        alarms = alarms_here()
        for number in range(1000):
            waiting = Waiting([], number)
            alarms.add(1e9 + number, waiting)
            end(alarms, waiting)
        return len(alarms)

    assert asyncio.run(main()) == 0


async def made_old(alarms, number):
    """Return so many that wait for long and have seen the timer go off."""
    waiting = [Waiting([], each) for each in range(number)]
    for each in waiting:
        alarms.add(1e9 + each.name, each)
    await until(alarms, monotonic())
    return waiting


def test_those_that_ended_when_they_were_old_do_not_pile_up():
    async def main():
        alarms = alarms_here()
        for each in await made_old(alarms, 10_000):
            end(alarms, each)
        return len(alarms)

    assert asyncio.run(main()) <= 200


def test_what_the_collector_ends_in_another_thread_is_left_for_the_threads_own():
    async def main():
        alarms = alarms_here()
        waiting = await made_old(alarms, 200)
        thread = threading.Thread(target=lambda: [end(alarms, each) for each in waiting[:150]])
        thread.start()
        thread.join()
        there = len(alarms)
        end(alarms, waiting[150])
        return there, len(alarms)

    assert asyncio.run(main()) == (200, 49)


def test_an_earlier_one_is_not_kept_waiting_by_a_later_one(run):
    async def main():
        alarms, rung, started = alarms_here(), [], monotonic()
        alarms.add(started + 60.0, Waiting(rung, "later"))
        await until(alarms, started + 0.01)
        return rung, monotonic() - started < 30.0

    assert run(main) == ([], True)


def test_one_that_raises_does_not_keep_the_others_from_ringing(run):
    class Broken(Waiting):
        def fire(self):
            raise ZeroDivisionError

    async def main():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, what: told.append(what))
        alarms, rung, now = alarms_here(), [], monotonic()
        alarms.add(now, Broken(rung, "broken"))
        alarms.add(now + 0.001, Waiting(rung, "next"))
        alarms.add(now + 0.002, Waiting(rung, "last"))
        last = Last()
        alarms.add(now + 0.003, last)
        await last.done.wait()
        return rung, [type(what["exception"]) for what in told]

    assert run(main) == (["next", "last"], [ZeroDivisionError])


@given(
    st.lists(st.tuples(st.sampled_from(["add", "end", "go off"]), st.integers(0, 20)), max_size=40)
)
def test_each_rings_once_at_the_first_going_off_after_its_time_unless_it_has_ended(steps):
    class Loop:
        """Has one timer, which goes off when the test says so."""

        timer = None

        def call_later(self, _seconds, callback, *, context):
            assert self.timer is None or self.timer.is_cancelled
            self.timer = Timer(callback)
            return self.timer

    class Timer:
        is_cancelled = False

        def __init__(self, callback):
            self.callback = callback

        def cancel(self):
            self.is_cancelled = True

    loop, rung, expected, running = Loop(), [], [], {}
    alarms, past, future = Alarms(loop), -1e9, 1e9
    for number, (step, choice) in enumerate(steps):
        if step == "add":
            due = past + choice if choice % 2 else future + choice
            waiting = Waiting(rung, number)
            running[waiting] = due
            alarms.add(due, waiting)
        elif step == "end" and running:
            waiting = list(running)[choice % len(running)]
            del running[waiting]
            end(alarms, waiting)
        elif step == "go off" and loop.timer is not None:
            timer, loop.timer = loop.timer, None
            timer.callback()
            over = sorted((due, each.name, each) for each, due in running.items() if due < 0)
            for _, name, each in over:
                expected.append(name)
                del running[each]
            assert rung == expected
    assert rung == expected
    assert len(alarms) >= len(running)
    assert (loop.timer is not None) or not running


def test_each_loop_and_thread_has_its_own():
    async def main():
        loop = asyncio.get_running_loop()
        alarms = alarms_of(loop)
        assert alarms_of(loop) is alarms
        return alarms

    alarms = [asyncio.run(main()), asyncio.run(main())]
    thread = threading.Thread(target=lambda: alarms.append(asyncio.run(main())))
    thread.start()
    thread.join()
    assert len(set(alarms)) == 3


def test_they_keep_no_loop_that_is_over():
    async def main():
        alarms_of(asyncio.get_running_loop()).add(1e9, Waiting([], "left"))
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(main())
    gc.collect()
    assert loop() is None


@pytest.mark.parametrize("limit", ["deadline", "timeout", "hedge"])
def test_the_timer_keeps_nothing_of_the_call_that_set_it(run, limit):
    """The first request under a load lived as long as the load, with its context variables."""

    async def handle():
        request = Request()
        HANDLED.set(request)
        if limit == "deadline":
            async with deadline(3600.0):
                await asyncio.sleep(0)
        elif limit == "timeout":
            await timeout(3600.0).call(asyncio.sleep, 0)
        else:
            await redundant(start=hedge.after(3600.0))(asyncio.sleep)(0)
        return weakref.ref(request)

    async def main():
        request = await asyncio.create_task(handle())
        await asyncio.sleep(0)  # after which nothing else refers to that task
        gc.collect()
        return request()

    assert run(main) is None


class Request:
    """What a web framework keeps in a context variable."""


HANDLED = contextvars.ContextVar("handled")
