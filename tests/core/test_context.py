"""Blocks end their own entries and no others, in whatever order or context they are left."""

import asyncio
import contextvars
import gc
import itertools
import threading
import weakref

import pytest

from mainstay import deadline, default_metrics, remaining, retry
from mainstay._core.context import (
    DEFAULT_CONTEXT,
    block_context,
    current_context,
    helper_context,
    process_contexts,
)
from mainstay.testing import FakeClock, Faults, no_waits, recorded


@pytest.fixture(autouse=True)
def nothing_stays():
    """Find every context as empty after a test as it was before."""
    yield
    assert block_context() is None
    assert process_contexts == []


BLOCKS = {
    "deadline": lambda: deadline(50.0),
    "clock": FakeClock,
    "recorded": recorded,
    "no_waits": no_waits,
}


def in_force():
    """Return which kinds of blocks the current context shows."""
    here = current_context()
    found = set()
    if here.metrics is not None:
        found.add("recorded")
    if here.deadline < float("inf"):
        found.add("deadline")
    if isinstance(here.clock, FakeClock):
        found.add("clock")
    elif type(here.clock).__name__ == "_NoWaits":
        found.add("no_waits")
        if isinstance(here.clock.around, FakeClock):
            found.add("clock")
    return found


def expected(*open_blocks):
    """Return what is in force inside these blocks: a `FakeClock` replaces `no_waits` around it."""
    found = set(open_blocks)
    if open_blocks == ("no_waits", "clock"):
        found.discard("no_waits")
    return found


def here(leave):
    leave()


def in_a_copy(leave):
    contextvars.copy_context().run(leave)


def in_a_thread(leave):
    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()


PAIRS = list(itertools.product(BLOCKS, repeat=2))
PLACES = [here, in_a_copy, in_a_thread]


@pytest.mark.parametrize("left_in", PLACES)
@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_the_outer_block_may_be_left_first(outer, inner, left_in):
    first, second = BLOCKS[outer](), BLOCKS[inner]()
    first.__enter__()
    second.__enter__()
    assert in_force() == expected(outer, inner)
    left_in(lambda: first.__exit__(None, None, None))
    assert in_force() == {inner}
    left_in(lambda: second.__exit__(None, None, None))
    assert current_context() == DEFAULT_CONTEXT


@pytest.mark.parametrize("left_in", PLACES)
@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_the_inner_block_may_be_left_in_another_context(outer, inner, left_in):
    first, second = BLOCKS[outer](), BLOCKS[inner]()
    first.__enter__()
    second.__enter__()
    left_in(lambda: second.__exit__(None, None, None))
    assert in_force() == {outer}
    left_in(lambda: first.__exit__(None, None, None))
    assert current_context() == DEFAULT_CONTEXT


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_that_is_dropped_is_over(kind):
    def generator():
        with BLOCKS[kind]():
            yield

    dropped = generator()
    next(dropped)
    assert in_force() == {kind}
    del dropped
    gc.collect()
    assert current_context() == DEFAULT_CONTEXT


@pytest.mark.parametrize("kind", BLOCKS)
def test_an_entry_whose_block_was_never_left_is_over_when_the_block_is_collected(kind):
    block = BLOCKS[kind]()
    block.__enter__()  # and then an exception from a signal handler, before `__exit__`
    del block
    gc.collect()
    assert current_context() == DEFAULT_CONTEXT


@pytest.mark.parametrize("kind", BLOCKS)
def test_whoever_inherited_an_entry_forgets_it_when_its_block_is_left(kind):
    with BLOCKS[kind]():
        inherited = contextvars.copy_context()
    assert inherited.run(current_context) == DEFAULT_CONTEXT
    assert inherited.run(block_context) is None


def test_an_async_generator_that_another_task_closes_leaves_that_task_alone():
    async def rows():
        with deadline(0.5):
            yield 1

    async def main():
        source = rows()
        await anext(source)
        with deadline(50.0):
            await asyncio.create_task(source.aclose())
            return remaining()

    with FakeClock():
        assert asyncio.run(main()) == 50.0


def test_a_generator_left_by_break_leaves_no_deadline_behind():
    def rows():
        with deadline(0.0):
            yield 1

    for _ in rows():
        break
    assert remaining() is None
    assert retry(on=OSError, name="later").call(Faults(["ok"])) == "ok"


def test_generators_entered_hand_over_hand_leave_a_short_chain():
    def rows():
        with deadline(50.0):
            yield

    open_ones = []
    for _ in range(300):
        each = rows()
        next(each)
        open_ones.append(each)
        if len(open_ones) > 3:
            open_ones.pop(0).close()
    length, entry = 0, block_context()
    while entry is not None:
        length, entry = length + 1, entry.outer
    assert length <= 5
    open_ones.clear()
    del each
    assert remaining() is None


def test_one_object_that_is_open_twice_ends_its_innermost_entry():
    shared = deadline(50.0)
    with FakeClock() as clock, shared:
        clock.advance(20.0)
        with shared:
            assert remaining() == 30.0
        assert remaining() == 30.0
    assert remaining() is None


def test_one_object_left_where_it_has_no_entry_ends_the_one_entered_last():
    shared = deadline(50.0)
    with FakeClock() as clock:
        shared.__enter__()
        other = contextvars.copy_context()
        clock.advance(10.0)
        other.run(shared.__enter__)
        contextvars.Context().run(shared.__exit__, None, None, None)
        assert (remaining(), other.run(remaining)) == (40.0, 40.0)
        shared.__exit__(None, None, None)
        assert (remaining(), other.run(remaining)) == (None, None)


def test_leaving_a_block_that_is_not_open_does_nothing():
    block = deadline(5.0)
    block.__exit__(None, None, None)
    with deadline(50.0):
        block.__exit__(None, None, None)
        assert remaining(100.0) > 40.0


def test_a_deadline_goes_on_by_the_clock_inside_and_by_its_own_after_it():
    with FakeClock() as outer, deadline(50.0):
        with FakeClock() as inner:
            assert remaining() == 50.0
            inner.advance(20.0)
            assert remaining() == 30.0
        assert remaining() == 50.0
        outer.advance(10.0)
        assert remaining() == 40.0


def test_an_outer_deadline_that_ends_first_gives_the_inner_one_its_own_time():
    outer, inner = deadline(5.0), deadline(50.0)
    with FakeClock():
        outer.__enter__()
        inner.__enter__()
        assert remaining() == 5.0
        outer.__exit__(None, None, None)
        assert remaining() == 50.0
        inner.__exit__(None, None, None)


def test_a_clock_everywhere_holds_for_threads_and_ends_with_its_block():
    found = []

    def look():
        found.append(current_context().clock)

    with FakeClock(everywhere=True) as clock:
        in_fresh_thread(look)
    in_fresh_thread(look)
    assert found == [clock, DEFAULT_CONTEXT.clock]


def in_fresh_thread(fn):
    thread = threading.Thread(target=lambda: contextvars.Context().run(fn))
    thread.start()
    thread.join()


# Helpers.


def test_a_helper_keeps_the_clock_for_good_and_no_deadline():
    variable = contextvars.ContextVar("users_own", default="nothing")
    variable.set("of the first caller")
    with FakeClock() as clock, deadline(0.0):
        helper = helper_context()
    assert helper.run(current_context).clock is clock
    assert helper.run(remaining) is None
    assert helper.run(variable.get) == "nothing"


def test_a_helper_keeps_the_metrics_while_their_block_is_open():
    before = default_metrics()
    with recorded() as metrics:
        helper = helper_context()
        child = helper.run(contextvars.copy_context)
        assert helper.run(default_metrics) == metrics
        assert child.run(default_metrics) == metrics
    assert helper.run(default_metrics) == before
    assert child.run(default_metrics) == before


def test_a_helper_keeps_nothing_of_its_caller_alive():
    class Request:
        pass

    request = Request()
    gone = weakref.ref(request)
    variable = contextvars.ContextVar("request")
    caller = contextvars.copy_context()
    caller.run(variable.set, request)
    helper = caller.run(helper_context)
    del request, caller
    gc.collect()
    assert gone() is None
    assert helper.run(remaining) is None
