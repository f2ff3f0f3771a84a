"""The places of a bulkhead: a model of all that threads, tasks and the limit can do to them."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from mainstay._limits.places import PRIORITIES, Places, Waiter, WaiterState
from support.examples import examples

USUAL = 1.0


class Loop:
    """Stands for the event loop of some tasks."""

    def __init__(self):
        self.runs = True
        self.closed = False

    def is_running(self):
        return self.runs


class Clock:
    def __init__(self):
        self.time = 0.0

    def now(self):
        return self.time


class TheModel(RuleBasedStateMachine):
    """What everybody has must be what there is, and nobody waits beside a free place."""

    waiters = Bundle("waiters")
    held = Bundle("held")

    @initialize(limit=st.integers(1, 4))
    def make(self, limit):
        self.places = Places(limit, lambda: USUAL)
        self.clock = Clock()
        self.loops = [Loop(), Loop()]
        self.inside = []
        self.waiting = []

    # Calls.

    @rule(target=held)
    def take(self):
        permits = self.places.take()
        if permits is not None:
            self.inside.append(permits)
        return permits

    @rule(target=held)
    def take_on_the_short_path(self):
        permits = self.places.permits
        if self.places.busy or not permits:
            return None
        permits.pop()
        self.inside.append(permits)
        return permits

    @rule(permits=consumes(held))
    def give_back(self, permits):
        if permits is not None:
            self.inside.remove(permits)
            self.places.give_back(permits)

    @rule(
        target=waiters,
        priority=st.sampled_from(PRIORITIES),
        seconds=st.sampled_from((0.5, 3.0, float("inf"))),
        loop=st.sampled_from((None, 0, 1)),
    )
    def begin_to_wait(self, priority, seconds, loop):
        deadline = self.clock.time + seconds
        event_loop = None if loop is None else self.loops[loop]

        def wake():
            if event_loop is not None and event_loop.closed:
                raise RuntimeError

        waiter = Waiter(priority, self.clock, deadline, wake, event_loop)
        self.waiting.append(waiter)
        self.places.queue(waiter)
        return waiter

    @rule(target=held, waiter=consumes(waiters))
    def wake_or_be_cancelled(self, waiter):
        before = waiter.state
        permits = self.places.withdraw(waiter)
        self.waiting.remove(waiter)
        assert (permits is not None) is (before is WaiterState.GIVEN)
        if permits is not None:
            self.inside.append(permits)
        return permits

    # What happens around them.

    @rule(limit=st.integers(1, 5))
    def resize(self, limit):
        self.places.resize(limit)

    @rule(seconds=st.sampled_from((0.4, 2.0)))
    def pass_time(self, seconds):
        self.clock.time += seconds

    @rule(loop=st.sampled_from((0, 1)), closed=st.booleans())
    def end_a_loop(self, loop, closed):
        self.loops[loop].runs = False
        self.loops[loop].closed = closed

    @rule(loop=st.sampled_from((0, 1)))
    def begin_another_loop(self, loop):
        self.loops[loop] = Loop()

    # What must be.

    def has(self, state):
        return [each for each in self.waiting if each.state is state]

    @invariant()
    def no_place_is_lost_or_made(self):
        places = self.places
        given = len(self.has(WaiterState.GIVEN))
        assert places.in_flight == len(self.inside) + given
        assert len(places.permits) == places.total - places.in_flight >= 0
        assert places.total >= places.limit

    @invariant()
    def more_than_the_limit_run_only_until_they_end(self):
        places = self.places
        if places.total > places.limit:
            assert not places.permits
            assert places.busy

    @invariant()
    def nobody_waits_beside_a_free_place(self):
        waiting = self.has(WaiterState.WAITING)
        assert self.places.waiting == len(waiting)
        if waiting:
            assert not self.places.permits
            assert self.places.busy

    def teardown(self):
        if not hasattr(self, "places"):
            return
        for each in [*self.waiting]:
            permits = self.places.withdraw(each)
            if permits is not None:
                self.inside.append(permits)
        for permits in self.inside:
            self.places.give_back(permits)
        self.places.settle()
        assert (self.places.in_flight, self.places.waiting) == (0, 0)
        assert len(self.places.permits) == self.places.total == self.places.limit
        assert not self.places.busy


TestTheModel = TheModel.TestCase
TestTheModel.settings = settings(max_examples=examples(200), stateful_step_count=40, deadline=None)


def waiter(priority="normal", deadline=float("inf")):
    return Waiter(priority, Clock(), deadline, lambda: None)


def test_a_place_goes_to_the_first_of_the_highest_line():
    places = Places(1)
    permits = places.take()
    waiters = [waiter(each) for each in ("low", "normal", "high", "high")]
    for each in waiters:
        places.queue(each)
    order = []
    for _ in waiters:
        places.give_back(permits)
        (given,) = [each for each in waiters if each.state is WaiterState.GIVEN]
        order.append(waiters.index(given))
        permits = places.withdraw(given)
    assert order == [2, 3, 1, 0]


def test_one_that_would_not_end_in_time_is_passed_over_and_told():
    woken, places = [], Places(1, lambda: 2.0)
    permits = places.take()
    late = Waiter("normal", Clock(), 1.9, lambda: woken.append("late"))
    next_one = waiter()
    places.queue(late)
    places.queue(next_one)
    assert late.state is WaiterState.WAITING  # it may still leave by itself
    places.give_back(permits)
    assert (late.state, next_one.state) == (WaiterState.LATE, WaiterState.GIVEN)
    assert woken == ["late"]


def test_a_handler_that_comes_in_while_a_place_is_handed_over_loses_nothing():
    places = Places(2)
    held = [places.take(), places.take()]

    def come_in():
        places.give_back(held.pop())

    first, second = Waiter("normal", Clock(), float("inf"), come_in), waiter()
    places.queue(first)
    places.queue(second)
    places.give_back(held.pop())  # wakes the first, and that gives the other back
    assert (first.state, second.state) == (WaiterState.GIVEN, WaiterState.GIVEN)
    assert not places.busy


def test_what_was_taken_before_a_reset_comes_back_where_it_counts_for_nothing():
    places = Places(1)
    permits = places.take()
    places.reset()
    assert places.take() is not permits
    places.give_back(permits)
    assert places.take() is None
    assert permits == deque([None])
