"""One policy, used by many threads and tasks at the same time: nothing leaks between calls."""

import asyncio
import contextvars
import sys
import threading

import pytest
import tenacity

from mainstay import RetryBudget, deadline, on_event, remaining, retry
from mainstay.testing import FakeClock, Faults

THREADS = 8
CALLS = 60


class Lost(ConnectionError):
    """The failure that the policies of these tests retry."""


@pytest.fixture
def switching():
    """Let threads be switched as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(number, work):
    """Run `work(i)` in threads that start together; raise what the first of them raised."""
    start, errors = threading.Barrier(number), []

    def run(i):
        try:
            start.wait(10)
            work(i)
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for error in errors:
        raise error


class Script:
    """A call that fails as often as it is told, and knows what it was given."""

    def __init__(self, failures):
        self.failures = failures
        self.calls = 0

    def __call__(self, token):
        self.calls += 1
        if self.calls <= self.failures:
            raise Lost(token)
        return token


def failures_of(thread, call):
    return (thread * 7 + call * 3) % 6  # 0 to 5: with 5 attempts, the last kind gives up


def expected_totals():
    failures = [failures_of(i, n) for i in range(THREADS) for n in range(CALLS)]
    return {
        "success": failures.count(0),
        "recovered": sum(1 <= each <= 4 for each in failures),
        "error": failures.count(5),
    }


def check(policy_call, script, token):
    if script.failures < 5:
        assert policy_call(script, token) == token
        assert script.calls == script.failures + 1
        return
    with pytest.raises(Lost) as caught:
        policy_call(script, token)
    assert caught.value.args == (token,)
    assert script.calls == 5
    (note,) = caught.value.__notes__
    assert "gave up after 5 attempts" in note


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("form", ["decorated", "called", "block"])
def test_threads_that_share_a_policy_get_their_own_numbers_notes_and_results(metrics, form):
    policy = retry(on=Lost, wait=0, name="shared")
    decorated = policy(lambda script, token: script(token))

    def block(script, token):
        numbers = []
        for attempt in policy:
            with attempt:
                numbers.append(attempt.number)
                assert numbers == [*range(1, len(numbers) + 1)]
                if attempt.number > 1:
                    assert attempt.last_error.args == (token,)
                return script(token)
        raise AssertionError("a block ends with a result or an exception")

    call = {
        "decorated": decorated,
        "called": policy.call,
        "block": block,
    }[form]

    def work(i):
        for n in range(CALLS):
            check(call, Script(failures_of(i, n)), (i, n))

    in_threads(THREADS, work)
    assert metrics.outcomes() == expected_totals()


def test_tasks_that_share_a_policy_get_their_own_numbers_notes_and_results(metrics):
    """Known fault 8: tenacity's shared AsyncRetrying makes 2, 2, 2, 1 attempts instead of 3."""
    policy = retry(on=Lost, wait=0, name="shared")

    @policy
    async def call(script, token):
        await asyncio.sleep(0)
        try:
            return script(token)
        finally:
            await asyncio.sleep(0)

    async def work(i):
        for n in range(CALLS):
            script, token = Script(failures_of(i, n)), (i, n)
            if script.failures < 5:
                assert await call(script, token) == token
                assert script.calls == script.failures + 1
                continue
            with pytest.raises(Lost) as caught:
                await call(script, token)
            assert caught.value.args == (token,)
            assert len(caught.value.__notes__) == 1
            assert script.calls == 5

    async def main():
        async with asyncio.TaskGroup() as group:
            for i in range(THREADS):
                group.create_task(work(i))

    asyncio.run(main())
    assert metrics.outcomes() == expected_totals()


def test_async_blocks_of_a_shared_policy_keep_their_numbers(metrics):
    policy = retry(on=Lost, wait=0, attempts=None)

    async def work(i):
        numbers = []
        async for attempt in policy:
            with attempt:
                numbers.append(attempt.number)
                await asyncio.sleep(0)
                if attempt.number <= i:
                    raise Lost(i)
                if i:
                    assert attempt.last_error.args == (i,)
        return numbers

    async def main():
        return await asyncio.gather(*(work(i) for i in range(20)))

    assert asyncio.run(main()) == [[*range(1, i + 2)] for i in range(20)]


def test_waits_of_calls_at_the_same_time_are_their_own(metrics):
    """A strategy sees the attempt, the arguments and the idle time of its own call only."""
    seen = {}

    def wait(state):
        (token,) = state.args
        seen.setdefault(token, []).append((state.attempt_number, state.idle_for))
        return token

    policy = retry(on=Lost, wait=wait, attempts=4, timeout=None)

    @policy
    async def call(token):
        await asyncio.sleep(0)
        raise Lost(token)

    async def main():
        return await asyncio.gather(*map(call, range(1, 6)), return_exceptions=True)

    with FakeClock() as clock:
        errors = asyncio.run(main())
        assert clock.now() == 15.0
    assert [error.args for error in errors] == [(token,) for token in range(1, 6)]
    assert seen == {
        token: [(number, (number - 1) * token) for number in (1, 2, 3)] for token in range(1, 6)
    }


@pytest.mark.usefixtures("switching")
def test_threads_that_share_a_tenacity_strategy_wait_as_long_as_alone(metrics):
    events = {}

    def listen(event):
        if event.kind == "retry_scheduled":
            events.setdefault(threading.get_ident(), []).append(event.wait)

    wait = tenacity.wait_chain(*map(tenacity.wait_fixed, (1, 2, 3)))
    policy = retry(on=Lost, wait=wait, attempts=4, timeout=None, name="shared")

    def work(_):
        with FakeClock():
            for _ in range(10):
                with pytest.raises(Lost):
                    policy(Faults(then=Lost))()

    stop = on_event(listen)
    try:
        in_threads(THREADS, work)
    finally:
        stop()
    assert list(events.values()) == [[1.0, 2.0, 3.0] * 10] * THREADS


@pytest.mark.usefixtures("switching")
def test_threads_that_share_a_budget_spend_it_exactly_once(metrics):
    budget = RetryBudget(ratio=0.0, floor=10.0, window=10.0)
    policy = retry(on=Lost, wait=0, attempts=3, timeout=None, budget=budget, name="shared")
    retries = []

    def work(_):
        for _ in range(20):
            fetch = Faults(then=Lost)
            with pytest.raises(Lost):
                policy(fetch)()
            retries.append(len(fetch.calls) - 1)

    with FakeClock(everywhere=True):
        in_threads(THREADS, work)
    assert sum(retries) == 100


def test_a_deadline_of_one_thread_is_none_of_the_others(metrics):
    policy = retry(on=Lost, wait=1, attempts=None, timeout=None)
    outcomes = {}

    def work(i):
        with FakeClock() as clock, deadline(i + 1.5), pytest.raises(Lost):
            policy(Faults(then=Lost))()
        outcomes[i] = clock.now()

    in_threads(4, work)
    assert outcomes == {i: i + 1.0 for i in range(4)}


def test_threads_in_a_copy_of_the_context_share_the_deadline_of_a_policy(metrics):
    policy = retry(on=Lost, wait=1, attempts=None, timeout=None)
    notes = []

    def work():
        assert remaining() is not None
        with pytest.raises(Lost) as caught:
            policy(Faults(then=Lost))()
        notes.extend(caught.value.__notes__)

    with FakeClock() as clock, deadline(3.5):
        for _ in range(2):
            thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
            thread.start()
            thread.join()
        assert clock.now() == 3.0
    assert all("s: no time left for another one" in each for each in notes)
    assert len(notes) == 2


@pytest.mark.usefixtures("switching")
def test_events_of_calls_at_the_same_time_are_not_mixed_up(metrics):
    found = {}
    stop = on_event(lambda event: found.setdefault(event.error.args[0], []).append(event))
    policy = retry(on=Lost, attempts=3, wait=0)

    def work(i):
        for n in range(10):

            def fail(token=(i, n)):
                raise Lost(token)

            with pytest.raises(Lost):
                policy(fail)()

    try:
        in_threads(THREADS, work)
    finally:
        stop()
    assert len(found) == THREADS * 10
    for events in found.values():
        assert [(e.kind, getattr(e, "attempt", None)) for e in events] == [
            ("retry_scheduled", 1),
            ("retry_scheduled", 2),
            ("retry_gave_up", None),
        ]


@pytest.mark.usefixtures("switching")
def test_listeners_can_come_and_go_while_calls_run(metrics):
    policy = retry(on=Lost, attempts=2, wait=0)

    def work(i):
        for _ in range(50):
            if i % 2:
                on_event(lambda event: None)()
            else:
                with pytest.raises(Lost):
                    policy(Faults(then=Lost))()

    in_threads(4, work)
    assert metrics.outcomes() == {"error": 100}


# Known faults of other libraries, by their numbers in the survey.


def test_no_lock_is_held_while_user_code_runs(metrics):
    """Known fault 7: pybreaker holds its lock around the call: five calls of 0.1 s take 0.5 s."""
    budget = RetryBudget()
    together = threading.Barrier(5)
    call = retry(on=Lost, budget=budget)(lambda: together.wait(10))
    threads = [threading.Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not together.broken
    assert metrics.outcomes() == {"success": 5}
