"""Generator and async generator functions: retried until the first item is out."""

import asyncio
import inspect

import pytest

from mainstay import DeadlineExpiredError, UnsupportedLoopError, deadline, retry
from mainstay.testing import FakeClock, Faults

pytestmark = pytest.mark.usefixtures("metrics", "context")


class Lost(ConnectionError):
    """The failure that the policies of these tests retry."""


def test_items_are_passed_on(sync_and_async, metrics):
    def items(n):
        yield from range(n)

    assert sync_and_async.items(retry(on=Lost), items, 3) == [0, 1, 2]
    assert metrics.outcomes() == {"success": 1}


def test_a_failure_before_the_first_item_is_retried(sync_and_async, metrics):
    script = Faults([Lost, Lost, None])

    def items():
        script()
        yield from "ab"

    assert sync_and_async.items(retry(on=Lost, wait=0), items) == ["a", "b"]
    assert len(script.calls) == 3
    assert metrics.outcomes() == {"recovered": 1}
    assert metrics.errors() == {"Lost": 2}


def test_a_failure_after_the_first_item_passes_through_and_repeats_nothing(sync_and_async, metrics):
    """Known fault 18: tenacity retries no generator; stamina restarts it and repeats items."""
    error = Lost("in the middle")
    starts = []

    def items():
        starts.append(None)
        yield "a"
        raise error

    with pytest.raises(Lost) as caught:
        sync_and_async.items(retry(on=Lost, wait=0), items)
    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert starts == [None]
    assert metrics.outcomes() == {"success": 1}
    assert metrics.errors() == {}


def test_a_source_that_never_gets_to_an_item_gives_up(sync_and_async, metrics):
    starts = []

    def items():
        starts.append(None)
        raise Lost
        yield

    with pytest.raises(Lost) as caught:
        sync_and_async.items(retry(on=Lost, attempts=3, wait=0), items)
    assert len(caught.value.__notes__) == 1
    assert len(starts) == 3
    assert metrics.outcomes() == {"error": 1}


def test_an_empty_source_is_a_success(sync_and_async, metrics):
    def items():
        return
        yield

    assert sync_and_async.items(retry(on=Lost), items) == []
    assert metrics.outcomes() == {"success": 1}


def test_what_on_does_not_name_passes_through(sync_and_async, metrics):
    def items():
        raise KeyError
        yield

    with pytest.raises(KeyError):
        sync_and_async.items(retry(on=Lost, wait=0), items)
    assert metrics.reasons() == {"not_retryable": 1}


def test_items_come_one_by_one(sync_and_async):
    """Known fault 18: backon makes a list of the whole generator before it gives the first item."""
    taken = []

    def items():
        for i in range(1_000_000_000):
            taken.append(i)
            yield i

    def first_three():
        source = retry(on=Lost)(items)()
        return [next(source) for _ in range(3)]

    if sync_and_async.kind == "async":

        async def asource():
            for i in items():
                yield i

        async def main():
            source = retry(on=Lost)(asource)()
            found = [await anext(source) for _ in range(3)]
            await source.aclose()
            return found

        assert asyncio.run(main()) == [0, 1, 2]
    else:
        assert first_three() == [0, 1, 2]
    assert taken == [0, 1, 2]


def test_the_duration_is_decided_with_the_first_item(sync_and_async, metrics):
    with FakeClock() as clock:

        def items():
            clock.advance(2.0)
            yield "a"
            clock.advance(500.0)
            yield "b"

        assert sync_and_async.items(retry(on=Lost, timeout=1), items) == ["a", "b"]
    assert metrics("call_duration_seconds_sum") == 2.0


def test_nothing_happens_before_the_first_item_is_asked_for(metrics):
    script = Faults()

    @retry(on=Lost)
    def items():
        script()
        yield

    source = items()
    assert script.calls == []
    source.close()
    assert script.calls == []
    assert metrics.outcomes() == {}


def test_a_deadline_is_read_when_the_first_item_is_asked_for(sync_and_async, metrics):
    def items():
        yield "never"

    with deadline(0), pytest.raises(DeadlineExpiredError):
        sync_and_async.items(retry(on=Lost), items)
    assert metrics.outcomes() == {"timeout": 1}


def test_an_interruption_before_the_first_item_ends_the_call(sync_and_async, metrics):
    def items():
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        sync_and_async.items(retry(on=Exception), items)
    assert metrics.outcomes() == {"cancelled": 1}


def test_a_generator_function_stays_sync_or_async():
    @retry(on=Lost)
    def items():
        yield

    @retry(on=Lost)
    async def aitems():
        yield

    assert inspect.isgeneratorfunction(items)
    assert inspect.isasyncgenfunction(aitems)


# What generators can do besides giving items


def echo(log):
    """A generator that logs what comes in."""
    try:
        item = "first"
        while item != "end":
            try:
                item = yield item
            except KeyError as error:
                item = f"caught {error}"
            log.append(item)
    finally:
        log.append("closed")
    return "returned"


async def aecho(log):
    try:
        item = "first"
        while item != "end":
            try:
                item = yield item
            except KeyError as error:
                item = f"caught {error}"
            log.append(item)
    finally:
        log.append("closed")


def test_send_throw_and_the_return_value_of_a_generator_work():
    log = []
    source = retry(on=Lost)(echo)(log)
    assert next(source) == "first"
    assert source.send("x") == "x"
    assert source.throw(KeyError("k")) == "caught 'k'"
    assert next(source) is None
    with pytest.raises(StopIteration) as end:
        source.send("end")
    assert end.value.value == "returned"
    assert log == ["x", "caught 'k'", None, "end", "closed"]


def test_asend_and_athrow_of_an_async_generator_work():
    log = []

    async def main():
        source = retry(on=Lost)(aecho)(log)
        assert await anext(source) == "first"
        assert await source.asend("x") == "x"
        assert await source.athrow(KeyError("k")) == "caught 'k'"
        assert await anext(source) is None
        with pytest.raises(StopAsyncIteration):
            await source.asend("end")

    asyncio.run(main())
    assert log == ["x", "caught 'k'", None, "end", "closed"]


def test_the_return_value_of_a_generator_without_items_is_kept():
    @retry(on=Lost)
    def items():
        return "nothing"
        yield

    def outer():
        return (yield from items())

    with pytest.raises(StopIteration) as end:
        next(outer())
    assert end.value.value == "nothing"


def test_closing_is_no_failure_and_closes_the_source(metrics):
    """Known fault 1: pybreaker counts `gen.close()` as a failure, and raises from it."""
    log = []
    source = retry(on=Exception)(echo)(log)
    next(source)
    source.close()
    assert log == ["closed"]
    assert metrics.outcomes() == {"success": 1}
    assert metrics.errors() == {}


def test_closing_an_async_generator_is_no_failure_and_closes_the_source(metrics):
    log = []

    async def main():
        source = retry(on=Exception)(aecho)(log)
        await anext(source)
        await source.aclose()
        assert log == ["closed"]  # by then, and not when the loop ends

    asyncio.run(main())
    assert metrics.outcomes() == {"success": 1}
    assert metrics.errors() == {}


def test_an_exception_thrown_in_reaches_the_source_and_comes_back_out():
    log = []
    source = retry(on=Exception, wait=0)(echo)(log)
    next(source)
    error = ValueError("thrown in")
    with pytest.raises(ValueError, match="thrown in") as caught:
        source.throw(error)
    assert caught.value is error
    assert log == ["closed"]


def test_an_exception_thrown_into_an_async_source_comes_back_out():
    log = []
    error = ValueError("thrown in")

    async def main():
        source = retry(on=Exception, wait=0)(aecho)(log)
        await anext(source)
        await source.athrow(error)

    with pytest.raises(ValueError, match="thrown in") as caught:
        asyncio.run(main())
    assert caught.value is error
    assert log == ["closed"]


def test_cancelling_the_reader_of_an_async_generator_reaches_the_source(metrics):
    log, started = [], asyncio.Event()

    @retry(on=Exception)
    async def items():
        try:
            yield "first"
            await asyncio.get_running_loop().create_future()
        finally:
            log.append("cleaned up")

    async def read():
        async for item in items():
            log.append(item)
            started.set()

    async def main():
        task = asyncio.create_task(read())
        await started.wait()
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert log == ["first", "cleaned up"]
    assert metrics.outcomes() == {"success": 1}


def test_the_first_item_of_an_async_generator_can_be_limited(metrics):
    starts = []

    @retry(on=Lost, attempt_timeout=1.0, attempts=2, wait=0, name="items")
    async def items():
        starts.append(None)
        await asyncio.get_running_loop().create_future()
        yield

    async def main(clock):
        task = asyncio.ensure_future(anext(items()))
        while not task.done():
            for _ in range(20):
                await asyncio.sleep(0)
            clock.advance(1.0)
        return await task

    with FakeClock() as clock, pytest.raises(TimeoutError, match="attempt 2 took longer than 1"):
        asyncio.run(main(clock))
    assert len(starts) == 2
    assert metrics.errors() == {"TimedOutError": 2}


def test_later_items_are_not_limited(metrics):
    @retry(on=Lost, attempt_timeout=1.0)
    async def items():
        yield 1
        clock.advance(100.0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        yield 2

    async def main():
        return [item async for item in items()]

    with FakeClock() as clock:
        assert asyncio.run(main()) == [1, 2]


def test_an_async_generator_outside_asyncio_is_refused():
    @retry(on=Lost)
    async def items():
        yield

    with pytest.raises(UnsupportedLoopError):
        anext(items()).send(None)


def test_call_gives_a_generator():
    def items(n):
        yield from range(n)

    assert list(retry(on=Lost).call(items, 3)) == [0, 1, 2]


def test_a_budget_is_charged_for_restarts(sync_and_async, metrics):
    starts = []

    def items():
        starts.append(None)
        raise Lost
        yield

    with pytest.raises(Lost):
        sync_and_async.items(retry(on=Lost, budget=0.0, wait=0), items)
    assert len(starts) == 1
    assert metrics.reasons() == {"budget": 1}


def test_an_async_predicate_decides_about_an_async_generator():
    async def on(error):
        return isinstance(error, Lost)

    script = Faults([Lost, None])

    @retry(on=on, wait=0)
    async def items():
        script()
        yield "a"

    async def main():
        return [item async for item in items()]

    assert asyncio.run(main()) == ["a"]
