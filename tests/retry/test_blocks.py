"""The block forms: `for attempt in policy` and `async for attempt in policy`."""

import asyncio

import pytest

from mainstay import DeadlineExpiredError, UnsupportedLoopError, deadline, retry
from mainstay.testing import FakeClock, Faults

pytestmark = pytest.mark.usefixtures("metrics")


class Lost(ConnectionError):
    """The failure that the policies of these tests retry."""


class SyncBlocks:
    """Runs the body of a block: a function that takes the attempt."""

    def __call__(self, policy, body):
        for attempt in policy:
            with attempt:
                body(attempt)

    def returning(self, policy, body):
        def function():
            for attempt in policy:
                with attempt:
                    return body(attempt)
            return "fell through"

        return function()

    def breaking(self, policy, body):
        for attempt in policy:
            with attempt:
                body(attempt)
                break
        return attempt.number

    def continuing(self, policy, body):
        numbers = []
        for attempt in policy:
            with attempt:
                numbers.append(attempt.number)
                body(attempt)
                continue
            numbers.append("after")
        return numbers

    def with_code_between(self, policy, body, between):
        for attempt in policy:
            with attempt:
                body(attempt)
            between(attempt)

    def without_with(self, policy):
        for _ in policy:
            pass

    def entered_twice(self, policy):
        for attempt in policy:
            with attempt:
                pass
            with attempt:
                pass


class AsyncBlocks:
    """The same in async code."""

    def __call__(self, policy, body):
        async def main():
            async for attempt in policy:
                with attempt:
                    body(attempt)

        asyncio.run(main())

    def returning(self, policy, body):
        async def main():
            async for attempt in policy:
                with attempt:
                    return body(attempt)
            return "fell through"

        return asyncio.run(main())

    def breaking(self, policy, body):
        async def main():
            async for attempt in policy:
                with attempt:
                    body(attempt)
                    break
            return attempt.number

        return asyncio.run(main())

    def continuing(self, policy, body):
        async def main():
            numbers = []
            async for attempt in policy:
                with attempt:
                    numbers.append(attempt.number)
                    body(attempt)
                    continue
                numbers.append("after")
            return numbers

        return asyncio.run(main())

    def with_code_between(self, policy, body, between):
        async def main():
            async for attempt in policy:
                with attempt:
                    body(attempt)
                between(attempt)

        asyncio.run(main())

    def without_with(self, policy):
        async def main():
            async for _ in policy:
                pass

        asyncio.run(main())

    def entered_twice(self, policy):
        async def main():
            async for attempt in policy:
                with attempt:
                    pass
                with attempt:
                    pass

        asyncio.run(main())


@pytest.fixture(params=[SyncBlocks(), AsyncBlocks()], ids=["sync", "async"])
def block(request):
    return request.param


def failing(times, then=None):
    """A body that fails a number of times."""
    script = Faults([Lost] * times, then=then)
    return lambda attempt: script()


@pytest.mark.parametrize(("failures", "outcome"), [(0, "success"), (2, "recovered")])
def test_a_block_runs_until_an_attempt_succeeds(block, metrics, failures, outcome):
    numbers = []
    body = failing(failures)
    block(retry(on=Lost, wait=0), lambda attempt: (numbers.append(attempt.number), body(attempt)))
    assert numbers == [*range(1, failures + 2)]
    assert metrics.outcomes() == {outcome: 1}
    assert metrics("call_duration_seconds_count") == 1


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_return_in_a_block_is_a_success(block, metrics, failures):
    """Known fault 19: tenacity's hooks after a success never fire then, nor after `break`."""
    assert block.returning(retry(on=Lost, wait=0), failing(failures, then="ok")) == "ok"
    assert metrics.outcomes() == {"recovered" if failures else "success": 1}


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_break_in_a_block_is_a_success(block, metrics, failures):
    assert block.breaking(retry(on=Lost, wait=0), failing(failures)) == failures + 1
    assert metrics.outcomes() == {"recovered" if failures else "success": 1}


def test_continue_in_a_block_is_a_success(block, metrics):
    numbers = block.continuing(retry(on=Lost, wait=0), failing(2))
    assert numbers == [1, "after", 2, "after", 3]
    assert metrics.outcomes() == {"recovered": 1}


def test_a_block_gives_up_with_the_last_exception(block, metrics):
    with pytest.raises(Lost) as caught:
        block(retry(on=Lost, attempts=3, wait=0, name="load"), failing(9))
    assert caught.value.__notes__[0].startswith("mainstay.retry load: gave up after 3 attempts")
    assert metrics.outcomes() == {"error": 1}
    assert metrics.reasons() == {"attempts": 1}


def test_what_on_does_not_name_leaves_the_block_at_once(block, metrics):
    error = KeyError("none of ours")
    with pytest.raises(KeyError) as caught:
        block(retry(on=Lost), lambda attempt: Faults([error])())
    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert metrics.reasons() == {"not_retryable": 1}


def test_an_attempt_knows_its_number_the_time_and_the_error_before(block):
    errors = [Lost("first"), Lost("second")]
    script = Faults(errors)
    seen = []

    with FakeClock() as clock:

        def body(attempt):
            clock.advance(1.0)
            seen.append((attempt.number, attempt.elapsed, attempt.last_error))
            script()

        block(retry(on=Lost, wait=10), body)
    assert seen == [(1, 1.0, None), (2, 12.0, errors[0]), (3, 23.0, errors[1])]


def test_the_loop_waits_before_the_next_attempt_only(block):
    with FakeClock() as clock:
        with pytest.raises(Lost):
            block(retry(on=Lost, attempts=3, wait=4), failing(9))
        assert clock.now() == 8.0


def test_code_after_the_with_runs_after_each_attempt_that_let_the_loop_go_on(block):
    between = []
    block.with_code_between(
        retry(on=Lost, wait=0), failing(2), lambda attempt: between.append(attempt.number)
    )
    assert between == [1, 2, 3]


def test_each_loop_over_a_policy_is_a_call_of_its_own(block, metrics):
    policy = retry(on=Lost, attempts=2, wait=0)
    for _ in range(3):
        block(policy, failing(1))
    assert metrics.outcomes() == {"recovered": 3}


def test_blocks_of_one_policy_nest(metrics):
    policy = retry(on=Lost, attempts=3, wait=0)
    pairs = []
    inner_script = Faults([Lost, None, None])
    outer_script = Faults([Lost, None])
    for outer in policy:
        with outer:
            for inner in policy:
                with inner:
                    pairs.append((outer.number, inner.number))
                    inner_script()
            outer_script()
    assert pairs == [(1, 1), (1, 2), (2, 1)]
    assert metrics.outcomes() == {"recovered": 2, "success": 1}


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_interruption_leaves_the_block(block, metrics, interruption):
    def body(attempt):
        raise interruption

    with pytest.raises(interruption):
        block(retry(on=Exception, wait=0), body)
    assert metrics.outcomes() == {"cancelled": 1}
    assert metrics.errors() == {}


def test_a_block_entered_with_no_time_left_runs_nothing(block, metrics):
    entered = []
    with deadline(0), pytest.raises(DeadlineExpiredError):
        block(retry(on=Exception), entered.append)
    assert entered == []
    assert metrics.outcomes() == {"timeout": 1}


# Misuse


def test_a_loop_without_a_with_is_a_runtime_error(block):
    with pytest.raises(RuntimeError, match="with attempt:"):
        block.without_with(retry(on=Lost))


def test_an_attempt_that_is_entered_twice_is_a_runtime_error(block, metrics):
    with pytest.raises(RuntimeError, match="attempt"):
        block.entered_twice(retry(on=Lost))
    assert metrics("calls_total") == 1


def test_a_policy_with_on_result_cannot_be_a_block(block):
    entered = []
    with pytest.raises(TypeError, match="`on_result`"):
        block(retry(on=Lost, on_result=bool), entered.append)
    assert entered == []


@pytest.mark.parametrize("hook", ["on"])
def test_an_async_predicate_cannot_be_in_a_block(block, hook):
    async def predicate(error):
        return True

    entered = []
    with pytest.raises(TypeError, match=f"`{hook}`"):
        block(retry(**{hook: predicate}), entered.append)
    assert entered == []


def test_a_sync_block_in_async_code_is_refused():
    async def main():
        for attempt in retry(on=Lost):
            with attempt:
                raise AssertionError("it ran")

    with pytest.raises(TypeError, match="async for attempt in policy"):
        asyncio.run(main())


def test_a_sync_block_in_an_async_generator_is_refused():
    async def items():
        for attempt in retry(on=Lost):
            with attempt:
                yield attempt.number

    async def main():
        return [number async for number in items()]

    with pytest.raises(TypeError, match="async for attempt in policy"):
        asyncio.run(main())


def test_a_sync_block_in_a_plain_function_under_an_event_loop_is_allowed(metrics):
    def load():
        for attempt in retry(on=Lost):
            with attempt:
                return attempt.number
        return None

    async def main():
        return load()

    assert asyncio.run(main()) == 1


def test_an_attempt_timeout_on_a_sync_block_is_refused():
    with pytest.raises(TypeError, match=r"`attempt_timeout`.*cannot"):
        iter(retry(on=Lost, attempt_timeout=1.0))


def test_an_async_block_outside_asyncio_is_refused():
    with pytest.raises(UnsupportedLoopError, match="asyncio"):
        aiter(retry(on=Lost))


def test_an_async_block_limits_each_attempt(metrics):
    numbers = []

    async def main():
        async for attempt in retry(on=Lost, attempt_timeout=2.0, wait=1, attempts=3, name="load"):
            with attempt:
                numbers.append(attempt.number)
                if attempt.number < 3:
                    await asyncio.get_running_loop().create_future()
                return attempt.elapsed
        raise AssertionError("a block ends with a result or an exception")

    with FakeClock() as clock:
        assert asyncio.run(ticking(clock, main())) == 6.0
    assert numbers == [1, 2, 3]
    assert metrics.errors() == {"TimedOutError": 2}
    assert metrics.outcomes() == {"recovered": 1}


def test_an_async_block_whose_last_attempt_is_too_long_raises_a_timeout_error(metrics):
    async def main():
        async for attempt in retry(on=Lost, attempt_timeout=2.0, attempts=1, name="load"):
            with attempt:
                await asyncio.get_running_loop().create_future()

    with FakeClock() as clock, pytest.raises(TimeoutError) as caught:
        asyncio.run(ticking(clock, main()))
    assert "load: attempt 1 took longer than 2.000 s" in str(caught.value)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert metrics.outcomes() == {"error": 1}


async def ticking(clock, coroutine):
    """Run a coroutine while the clock goes on, one second at a time."""
    task = asyncio.ensure_future(coroutine)
    while not task.done():
        for _ in range(20):
            await asyncio.sleep(0)
        if not task.done():
            clock.advance(1.0)
    return await task


def test_a_block_can_be_iterated_by_hand(metrics):
    attempts = iter(retry(on=Lost, wait=0))
    assert iter(attempts) is attempts
    with next(attempts) as attempt:
        assert attempt.number == 1
        raise Lost
    with next(attempts) as attempt:
        assert attempt.number == 2
    with pytest.raises(StopIteration):
        next(attempts)


def test_an_async_block_can_be_iterated_by_hand(metrics):
    async def main():
        attempts = aiter(retry(on=Lost, wait=0))
        assert aiter(attempts) is attempts
        with await anext(attempts):
            raise Lost
        with await anext(attempts) as attempt:
            assert attempt.number == 2
        with pytest.raises(StopAsyncIteration):
            await anext(attempts)

    asyncio.run(main())
