"""Blocks of one object that is open several times: each is a passage of its own."""

import asyncio
import contextlib
import contextvars

import pytest

from mainstay import Bulkhead, CircuitBreaker, RateLimit

pytestmark = pytest.mark.usefixtures("metrics")

KINDS = {
    "breaker": lambda name="db": CircuitBreaker(name, on=OSError),
    "bulkhead": lambda name="db": Bulkhead(name, limit=5),
    "rate limit": lambda name="db": RateLimit(name, 1000.0, burst=999),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def make(request):
    return request.param


def passage(block, error=None):
    with block:
        yield
        if error is not None:
            raise error


def begun(generator):
    next(generator)
    return generator


def seconds(metrics):
    return metrics("call_duration_seconds_sum", component="db")


@pytest.mark.parametrize("others", [False, True])
def test_generators_that_are_read_alternately_leave_their_own(make, metrics, clock, others):
    """Field faults, A11: the user's exception became a RuntimeError, and durations were swapped."""
    block = make()
    first = begun(passage(block, OSError("down")))
    clock.advance(10.0)
    second = begun(passage(make("other") if others else block))
    clock.advance(1.0)
    with pytest.raises(OSError, match="down"):
        next(first)
    assert seconds(metrics) == 11.0
    assert next(second, "over") == "over"
    assert seconds(metrics) == (11.0 if others else 12.0)


def test_a_block_may_be_left_in_another_context(make, metrics):
    block = make()
    generator = passage(block)
    contextvars.copy_context().run(next, generator)
    generator.close()
    assert metrics("calls_total", component="db", outcome="cancelled") == 1


def test_a_block_of_an_async_generator_may_be_closed_by_another_task(make, metrics):
    block = make()

    async def rows():
        with block:
            yield 1

    async def main():
        generator = rows()
        await asyncio.create_task(anext(generator))
        await asyncio.create_task(generator.aclose())

    asyncio.run(main())
    assert metrics("calls_total", component="db", outcome="cancelled") == 1


def test_stacks_of_two_contexts_leave_their_own(make, metrics, clock):
    """The code that leaves is not the code that has entered: it is told by the context."""
    block, stacks = make(), []

    def enter(after):
        clock.advance(after)
        stack = contextlib.ExitStack()
        stack.enter_context(block)
        stacks.append((contextvars.copy_context(), stack))

    for after in (0.0, 10.0):
        contextvars.copy_context().run(enter, after)
    clock.advance(1.0)
    for (context, stack), passed in zip(stacks, (11.0, 12.0), strict=True):
        context.run(stack.close)
        assert seconds(metrics) == passed


def test_what_the_context_does_not_know_ends_the_one_entered_last(make, metrics, clock):
    block = make()
    contextvars.copy_context().run(block.__enter__)
    clock.advance(10.0)
    contextvars.copy_context().run(block.__enter__)
    clock.advance(1.0)
    contextvars.copy_context().run(block.__exit__, None, None, None)
    contextvars.copy_context().run(block.__exit__, None, None, None)
    assert metrics("calls_total", component="db", outcome="success") == 2
    assert seconds(metrics) == 12.0


def test_contexts_keep_nothing_of_blocks_that_were_left_elsewhere(make):
    block = make()

    def enter_and_leave():
        generator = begun(passage(block))
        contextvars.copy_context().run(generator.close)

    def around():
        for _ in range(100):
            enter_and_leave()
        kept = contextvars.copy_context()
        (blocks,) = [kept[each] for each in kept if each.name == "mainstay_blocks"]
        return len(blocks)

    assert contextvars.Context().run(around) <= 1
