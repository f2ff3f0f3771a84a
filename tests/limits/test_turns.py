"""The line of those who wait for turns: its order, and what threads, loops and forks do to it."""

import asyncio
import gc
import math
import random
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mainstay import RateLimit, RateLimitedError
from mainstay._limits.gcra import Gcra
from mainstay._limits.turns import LOOK_AGAIN, Turns, TurnWaiter
from mainstay.testing import FakeClock
from support.examples import examples, strides
from support.processes import program
from support.rates import most_in_a_window, waiting


class Hand:
    """A clock that is moved by hand."""

    def __init__(self):
        self.time = 0.0

    def now(self):
        return self.time


class Ended:
    """An event loop that does not run any more."""

    def is_running(self):
        return False


def waiter(clock, cost=1.0, max_wait=1e6, deadline=math.inf):
    return TurnWaiter(cost, clock, clock.now() + max_wait, deadline)


class Line(RuleBasedStateMachine):
    """Waiters come, wake in their time or late, give up; a plain list says who is to be served."""

    RATE, BURST, PER = 10, 3, 1.0

    def __init__(self):
        super().__init__()
        self.clock = Hand()
        self.turns = Turns("mail", Gcra(self.RATE, self.PER, self.BURST))
        self.line = []
        self.served = []

    def forget_missing(self, one):
        """Those that were passed over are out, but for the one that looks now."""
        self.line = [each for each in self.line if each is one or not each.missing]

    def look(self, one):
        """Let *one* look, as its loop does."""
        one.event_loop = None  # which runs, or it could not look
        if one.missing and one in self.line:
            self.line.remove(one)
        try:
            pause = self.turns.look(one)
        except RateLimitedError:
            self.line = [each for each in self.line if each is not one]
            assert one.missing
            return
        self.forget_missing(one)
        if one not in self.line:
            self.line.append(one)
        if pause is None:
            assert self.line[0] is one, "somebody jumped the queue"
            del self.line[0]
            self.served += [self.clock.now()] * int(one.cost)
        else:
            assert pause.seconds > 0
            assert (pause.signal is None) == (self.line[0] is one), "only the first one sleeps"

    @rule(cost=st.integers(1, 3), max_wait=st.sampled_from([0.05, 0.5, 5.0, 1e6]))
    def come(self, cost, max_wait):
        if self.turns.take(self.clock.now(), cost, self.clock) is None:
            self.forget_missing(None)
            assert self.line == []
            self.served += [self.clock.now()] * cost
        else:
            self.look(waiter(self.clock, cost, max_wait))

    @rule(seconds=st.floats(0, 2))
    def time_passes(self, seconds):
        self.clock.time += seconds

    @precondition(lambda self: self.line)
    @rule()
    def the_first_wakes(self):
        first = self.line[0]
        if first.turn < math.inf:  # it sleeps
            self.clock.time = max(self.clock.time, first.turn)
        self.look(first)

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def somebody_looks(self, data):
        one = data.draw(st.sampled_from(self.line))
        if one.turn == math.inf or self.clock.time >= one.turn:  # a sleeper sleeps
            self.look(one)

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def somebody_gives_up(self, data):
        one = data.draw(st.sampled_from(self.line))
        was_first = self.line[0] is one
        self.line.remove(one)
        self.turns.leave(one)
        self.turns.leave(one)  # once more changes nothing
        self.forget_missing(None)
        if was_first and self.line:
            assert self.line[0].called._is_set, "the next one was not called"

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def a_loop_ends(self, data):
        data.draw(st.sampled_from(self.line)).event_loop = Ended()

    @invariant()
    def nobody_is_lost(self):
        self.forget_missing(None)
        assert self.turns.waiting == len(self.line)
        assert self.turns._ahead == pytest.approx(sum(each.cost for each in self.line))

    @invariant()
    def no_window_has_too_many(self):
        assert most_in_a_window(self.served, self.PER) <= self.RATE + self.BURST


TestLine = Line.TestCase
TestLine.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)


def test_those_who_come_first_are_served_first_whatever_their_kind(metrics, monkeypatch):
    """Threads and tasks of two loops in one line; served is who takes a turn behind the lock."""
    with FakeClock(everywhere=True) as clock:
        limit = RateLimit("mail", 1, max_wait=100.0)
        limit.acquire()
        served, in_line = [], threading.Semaphore(0)
        turns, take_due = limit._bound.engine.turns, Gcra.take_due

        def logged(gcra, at, cost):
            served.append((turns._line[0].thread, at))
            take_due(gcra, at, cost)

        monkeypatch.setattr(Gcra, "take_due", logged)

        def in_task():
            asyncio.run(limit.acquire_async())

        bodies = [limit.acquire, in_task, limit.acquire, in_task]
        threads = []
        with turns._lock:  # nobody is served before all have come
            holder = waiter(clock)
            turns.look(holder)
        for i, body in enumerate(bodies):
            thread = threading.Thread(target=body, daemon=True)
            thread.start()
            threads.append(thread)
            while turns.waiting < i + 2:
                in_line.acquire(timeout=0.001)
        turns.leave(holder)
        for thread in threads:
            thread.join(30)
    assert [thread for thread, _ in served] == [thread.ident for thread in threads]
    # The clock may have been moved on before the one that it woke has looked.
    assert all(at >= number for number, (_, at) in enumerate(served, 1))


@pytest.mark.parametrize("stall", [0.3, 1.0, 10.0])
def test_a_loop_that_stalls_lets_nobody_through_twice(stall, clock):
    """Who had a turn in advance would take it, late, beside those whose turn is now."""
    limit, through = RateLimit("mail", 50, burst=5, max_wait=1000.0), []

    async def call():
        await limit.acquire_async()
        through.append(clock.now())

    async def stalls():
        for _ in range(3):
            for _ in range(100):
                await asyncio.sleep(0)
            clock.advance(stall)  # nothing else of the loop runs meanwhile

    async def main():
        await asyncio.gather(stalls(), *(call() for _ in range(200)))

    asyncio.run(main())
    assert len(through) == 200
    assert through == sorted(through)
    assert most_in_a_window(through, 1.0) <= 55


def test_a_cancelled_waiter_leaves_no_gap(clock):
    limit, through = RateLimit("mail", 1, max_wait=100.0), []

    async def call():
        await limit.acquire_async()
        through.append(clock.now())

    async def main():
        limit.acquire()
        tasks = [asyncio.create_task(call()) for _ in range(10)]
        await asyncio.sleep(0)
        for each in tasks[::2]:
            each.cancel()
        await asyncio.wait(tasks)

    asyncio.run(main())
    assert through == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0])


def test_after_many_cancels_nobody_is_left(metrics):
    rounds = 1000 // strides()
    limit, dice = RateLimit("mail", 1, per=3600.0, max_wait=1e9), random.Random(12)
    limit.acquire()

    async def main():
        tasks = []
        for _ in range(rounds):
            tasks += [asyncio.create_task(limit.acquire_async()) for _ in range(100)]
            await asyncio.sleep(0)
            dice.shuffle(tasks)
            tasks, going = tasks[:20], tasks[20:]
            for each in going:
                each.cancel()
            await asyncio.sleep(0)
        for each in tasks:
            each.cancel()
        await asyncio.wait(tasks)

    asyncio.run(main())
    assert waiting(limit) == 0
    assert metrics.outcomes() == {"success": 1, "cancelled": 100 * rounds}


def test_waiters_of_a_loop_that_has_ended_are_passed_over(clock):
    limit = RateLimit("mail", 1, max_wait=100.0)
    limit.acquire()
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(limit.acquire_async()) for _ in range(3)]
    loop.run_until_complete(asyncio.sleep(0))
    assert waiting(limit) == 3
    limit.acquire()  # none of them runs, so that nobody is before it
    assert clock.now() == 1.0
    loop.run_until_complete(asyncio.wait(tasks))  # it runs again, and they wait anew
    assert clock.now() == pytest.approx(4.0)
    assert waiting(limit) == 0
    loop.close()


def test_a_loop_that_is_closed_with_waiters_blocks_nobody(clock):
    limit = RateLimit("mail", 1, max_wait=100.0)
    limit.acquire()
    loop = asyncio.new_event_loop()
    coroutine = limit.acquire_async()
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    limit.acquire()
    assert (clock.now(), waiting(limit)) == (1.0, 0)
    task._log_destroy_pending = False
    coroutine.close()
    del task, coroutine
    gc.collect()
    assert waiting(limit) == 0


def test_one_whose_turn_is_overdue_looks_whether_those_before_it_are_there():
    clock, turns = Hand(), Turns("mail", Gcra(1, 1.0, 1))
    turns.take(0.0, 1.0, clock)
    first, second = waiter(clock), waiter(clock)
    assert turns.look(first).seconds == 1.0
    assert turns.look(second).seconds == 2.0
    clock.time = 2.5  # the first one's loop stalls
    assert turns.look(second).seconds == LOOK_AGAIN
    first.event_loop = Ended()
    assert turns.look(second) is None


def test_who_is_too_late_because_of_a_stall_is_refused():
    clock, turns = Hand(), Turns("mail", Gcra(1, 1.0, 1))
    turns.take(0.0, 1.0, clock)
    first, second = waiter(clock), waiter(clock, max_wait=2.0)
    third = waiter(clock, deadline=4.0)
    for each in (first, second, third):
        turns.look(each)
    clock.time = 2.5
    with pytest.raises(RateLimitedError):
        turns.look(second)
    clock.time = 4.0
    turns.leave(first)
    with pytest.raises(RateLimitedError):  # the turn is there, but its time is over
        turns.look(third)
    assert turns.waiting == 0


def test_a_call_from_a_signal_handler_gets_in_while_the_state_changes(metrics):
    """A lock that is not reentrant would hang here, and a turn that is written back be lost."""
    limit = RateLimit("mail", 1, per=3600.0, burst=3)
    turns = limit._bound.engine.turns

    class Interrupted:
        def __init__(self, lock):
            self.lock, self.handler = lock, limit.acquire

        def __enter__(self):
            self.lock.acquire()
            handler, self.handler = self.handler, lambda: None
            handler()

        def __exit__(self, *exc_info):
            self.lock.release()

    turns._lock = Interrupted(turns._lock)
    limit.acquire()
    limit.acquire()
    with pytest.raises(RateLimitedError):
        limit.acquire()


def test_many_threads_take_no_more_than_there_is(metrics):
    limit, through = RateLimit("mail", 1, per=3600.0, burst=500), []

    def work():
        for _ in range(200):
            try:
                limit.acquire()
            except RateLimitedError:
                continue
            through.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(through) == 500


def test_calls_that_wait_while_it_is_reset_keep_their_turns(clock):
    limit, through = RateLimit("mail", 1, max_wait=10.0), []

    async def call():
        await limit.acquire_async()
        through.append(clock.now())

    async def main():
        limit.acquire()
        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        limit.reset()
        limit.acquire()
        await task

    asyncio.run(main())
    assert through == [1.0]
    assert waiting(limit) == 0


@pytest.mark.process
def test_a_child_goes_on_with_what_is_owed_and_without_the_parents_waiters():
    assert program("rate_forks.py").split() == ["refused", "0", "served", "kept"]
