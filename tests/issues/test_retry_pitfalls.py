"""Known faults of other retry libraries, one test for each, named after its number.

The numbers are those of the survey of retry libraries that mainstay was designed from. A
docstring names the library and what goes wrong there.
"""

import asyncio
import contextvars
import datetime as dt
import functools
import gc
import inspect
import math
import pickle
import threading
import time
import weakref

import pytest

from mainstay import (
    Metrics,
    ResultRefusedError,
    RetryBudget,
    deadline,
    on_event,
    remaining,
    retry,
)
from mainstay.testing import FakeClock, Faults, no_waits, recorded

pytestmark = pytest.mark.usefixtures("metrics")


class Lost(ConnectionError):
    """The failure that the policies of these tests retry."""


def test_p01_no_predicate_can_make_an_interruption_a_failure(caller, metrics):
    """tenacity's negated predicates retry CancelledError and KeyboardInterrupt (#529, #505)."""
    for interruption in (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError):
        fetch = Faults([interruption])
        with pytest.raises(interruption):
            caller(retry(on=lambda error: not isinstance(error, ValueError), wait=0), fetch)
        assert len(fetch.calls) == 1
    assert metrics.outcomes() == {"cancelled": 4}


def test_p01_closing_a_generator_is_no_failure(metrics):
    """pybreaker counts `gen.close()` as a failure, and raises from it."""

    @retry(on=lambda error: True)
    def items():
        yield 1
        yield 2

    source = items()
    next(source)
    source.close()
    assert metrics.errors() == {}


def test_p02_a_cancelled_call_is_over_and_holds_nothing(metrics):
    """resilience4j (#544, #935) and Polly (#1979) keep what a cancelled call had taken."""
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


def test_p03_a_cancelled_or_foreign_outcome_is_no_success(caller, metrics):
    """circuitbreaker, hyx, Polly and cockatiel take a cancelled or unmatched call for a success."""
    with pytest.raises(KeyboardInterrupt):
        caller(retry(on=Lost), Faults([KeyboardInterrupt]))
    with pytest.raises(KeyError):
        caller(retry(on=Lost), Faults([KeyError]))
    assert metrics.outcomes() == {"cancelled": 1, "error": 1}


def test_p07_no_lock_is_held_while_user_code_runs(metrics):
    """pybreaker holds its lock around the call: five calls of 0.1 s take 0.5 s."""
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


def test_p08_calls_of_a_shared_policy_count_their_own_attempts():
    """tenacity's shared AsyncRetrying makes 2, 2, 2, 1 attempts instead of 3 each."""
    fetches = [Faults(then=Lost) for _ in range(4)]
    policy = retry(on=Lost, attempts=3, wait=0)

    def attempt_of(fetch):
        @policy
        async def attempt():
            await asyncio.sleep(0)
            fetch()

        return attempt()

    async def main():
        await asyncio.gather(*map(attempt_of, fetches), return_exceptions=True)

    asyncio.run(main())
    assert [len(fetch.calls) for fetch in fetches] == [3, 3, 3, 3]


def test_p09_no_call_leaves_anything_in_the_policy_or_its_function():
    """stamina keeps a list of context managers of all calls of a function, and never clears it."""
    policy = retry(on=Lost, attempts=2, wait=0)
    call = policy(Faults(then=Lost))

    def sizes():
        return len(vars(call)), len(gc.get_referents(policy)), len(gc.get_referents(call))

    before = sizes()
    for _ in range(20):
        with pytest.raises(Lost):
            call()
    assert sizes() == before


def test_p10_a_hook_that_raises_does_not_break_the_call(caller):
    """A raising hook escapes to the caller in tenacity and stamina."""

    def broken(event):
        raise ZeroDivisionError

    stop = on_event(broken)
    try:
        assert caller(retry(on=Lost, wait=0), Faults([Lost, "ok"])) == "ok"
    finally:
        stop()


def test_p11_setting_the_wall_clock_back_changes_nothing(caller, monkeypatch):
    """backoff measures with `datetime.now()`: set back, `max_time=5` never ends."""

    class SetBack(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(1970, 1, 1, tzinfo=tz)

    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(dt, "datetime", SetBack)
    with FakeClock() as clock:
        with pytest.raises(Lost):
            caller(retry(on=Lost, attempts=None, timeout=5, wait=2), Faults(then=Lost))
        assert clock.now() == 4.0


def test_p12_the_default_wait_overflows_at_no_number_of_attempts(caller):
    """tenacity (#710), stamina (#104) and Polly (#2163) overflow or get NaN after many attempts."""
    waits = []

    def listen(event):
        if event.kind == "retry_scheduled":
            waits.append(event.wait)

    stop = on_event(listen)
    try:
        with FakeClock():
            caller(retry(on=Lost, attempts=None, timeout=None), Faults([Lost] * 1_200, then="ok"))
    finally:
        stop()
    assert len(waits) == 1_200
    assert all(0 <= wait <= 5.0 for wait in waits)


def test_p12_no_number_of_a_predicate_makes_a_negative_sleep(caller):
    """Hints that are negative or NaN reach `time.sleep` elsewhere, which raises."""
    for hint in (-1, -math.inf, math.nan):
        with FakeClock() as clock:
            fetch = Faults([Lost, "ok"])
            assert caller(retry(on=lambda error, hint=hint: hint, wait=2), fetch) == "ok"
            assert clock.now() == 2.0


def test_p13_a_retry_after_is_jittered_and_does_not_outlast_the_timeout(caller):
    """tenacity and stamina wait for any Retry-After, without a cap (retryhttp #11)."""
    with FakeClock() as clock:
        with pytest.raises(Lost):
            caller(retry(on=lambda error: 86_400, timeout=30), Faults(then=Lost))
        assert clock.now() == 0.0
        assert caller(retry(on=lambda error: 10, timeout=30), Faults([Lost, "ok"])) == "ok"
        assert 10.0 <= clock.now() <= 11.0


def test_p14_a_spent_budget_raises_the_original_error_before_any_wait(caller):
    """failsafe-go sleeps, then asks the budget, then raises an error of its own."""
    error = Lost("mine")
    with FakeClock() as clock:
        with pytest.raises(Lost) as caught:
            caller(retry(on=Lost, budget=RetryBudget(0, floor=0), wait=9), Faults([error]))
        assert clock.now() == 0.0
    assert caught.value is error


def test_p14_the_first_call_is_never_charged(caller):
    """hyx charges the bucket for the first call too."""
    policy = retry(on=Lost, budget=RetryBudget(0, floor=0))
    assert [caller(policy, Faults(["ok"])) for _ in range(3)] == ["ok"] * 3


def test_p15_waits_do_not_overshoot_the_timeout(caller):
    """tenacity, stamina and backoff overshoot: `max_time=0.2` ends after 1.05 s."""
    with FakeClock() as clock:
        with pytest.raises(Lost):
            caller(retry(on=Lost, timeout=0.2, wait=1.05), Faults(then=Lost))
        assert clock.now() == 0.0


def test_p15_nested_policies_share_a_deadline(caller):
    """No Python library carries a deadline into nested policies."""
    inner = retry(on=Lost, attempts=None, timeout=None, wait=1)(Faults(then=Lost))
    with FakeClock() as clock, deadline(3.5), pytest.raises(Lost):
        caller(retry(on=Lost, attempts=None, timeout=None, wait=1), inner)
    assert clock.now() <= 3.5


def test_p15_a_deadline_follows_the_context_into_threads(metrics):
    """redress, pyresilience and interlock run calls in threads without the caller's context."""
    found = []
    with FakeClock(), deadline(5):
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(lambda: found.append(remaining()),))
        thread.start()
        thread.join()
    assert found == [5.0]


def test_p16_a_sync_attempt_timeout_is_refused_rather_than_faked():
    """redress and pyresilience run the call in a pool thread that outlives its timeout."""
    with pytest.raises(TypeError, match="thread cannot be stopped"):
        retry(on=Lost, attempt_timeout=0.1)(lambda: None)


def test_p17_an_attempt_with_a_timeout_runs_in_the_callers_task():
    """`wait_for` runs it in another task on 3.11: what it sets in the context is lost."""
    token = contextvars.ContextVar("token", default="before")

    @retry(on=Lost, attempt_timeout=5)
    async def attempt():
        token.set("set inside")

    async def main():
        await attempt()
        return token.get()

    assert asyncio.run(main()) == "set inside"


def test_p17_timeouts_of_one_policy_do_not_disturb_each_other(metrics):
    """hyx keeps the timer on a shared object: three calls end "ok" instead of two timeouts."""
    policy = retry(on=KeyError, attempt_timeout=2.0, attempts=1)

    @policy
    async def attempt(seconds):
        await clock.asleep(seconds)
        return "ok"

    async def main():
        return await asyncio.gather(*map(attempt, (1.0, 3.0, 4.0)), return_exceptions=True)

    with FakeClock() as clock:
        ended = asyncio.run(main())
    assert [type(each) for each in ended] == [str, TimeoutError, TimeoutError]


def test_p18_a_generator_is_retried_until_its_first_item_and_not_restarted_after():
    """tenacity retries no generator; stamina restarts it, so that items come twice."""
    script = Faults([Lost, None])

    def items():
        script()
        yield "a"
        yield "b"
        raise Lost

    taken = []
    with pytest.raises(Lost):
        taken.extend(retry(on=Lost, wait=0)(items)())
    assert taken == ["a", "b"]
    assert len(script.calls) == 2


def test_p18_items_are_not_collected_first():
    """backon makes a list of the whole generator before it gives the first item."""

    @retry(on=Lost)
    def items():
        yield "first"
        raise AssertionError("it was asked for more than was taken")

    assert next(items()) == "first"


def test_p19_return_and_break_in_a_block_are_recorded_as_success(metrics):
    """tenacity's hooks after a success never fire when the block is left by return or break."""

    def returning():
        for attempt in retry(on=Lost):
            with attempt:
                return "ok"
        return None

    assert returning() == "ok"
    for attempt in retry(on=Lost):
        with attempt:
            break
    assert metrics.outcomes() == {"success": 2}


def test_p20_errors_can_be_pickled(metrics):
    """tenacity's RetryError holds a Future, which cannot be pickled."""
    with pytest.raises(ResultRefusedError) as caught:
        retry(on=Lost, attempts=1, on_result=lambda value: True).call(Faults([{"a": 1}]))
    back = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert (back.result, back.attempts) == ({"a": 1}, 1)


def test_p21_no_exception_instance_is_raised_again_by_us(caller):
    """purgatory raises one stored object again and again: its traceback grows with each call."""

    def depth():
        with deadline(0), pytest.raises(TimeoutError) as caught:
            caller(policy, Faults())
        return len(caught.traceback), caught.value

    policy = retry(on=Lost)
    found = [depth() for _ in range(10)]
    assert len({length for length, _ in found}) == 1
    assert len({id(error) for _, error in found}) == 10


def test_p22_the_last_exception_does_not_keep_the_arguments_alive(metrics):
    """tenacity's state and exception refer to each other until the cyclic collector comes."""

    class Page:
        pass

    def call():
        page = Page()
        watched = weakref.ref(page)
        try:
            retry(on=Lost, attempts=2, wait=0, stop=lambda state: False)(fail)(page)
        except Lost:
            return watched

    def fail(page):
        raise Lost

    gc.disable()
    try:
        assert call()() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "wrap",
    [lambda fn: fn, functools.partial, lambda fn: functools.partial(functools.partial(fn))],
    ids=["object", "partial", "partial of a partial"],
)
def test_p23_partials_and_objects_with_an_async_call_are_async(wrap):
    """stamina and tenacity (#132, #657) take them for sync, and call them once, without retry."""

    class Fetch:
        def __init__(self):
            self.script = Faults([Lost, Lost, "ok"])

        async def __call__(self):
            return self.script()

    assert asyncio.run(retry(on=Lost, wait=0)(wrap(Fetch()))()) == "ok"


def test_p23_a_lambda_that_returns_a_coroutine_is_refused_aloud():
    """tenacity (#132) calls it once and returns the coroutine, whose failure nobody retries."""

    async def fetch():
        raise Lost

    with pytest.raises(TypeError, match="decorate the async function"):
        retry(on=Lost)(lambda: fetch())()  # noqa: PLW0108 - the lambda hides that it is async


def test_p24_a_decorated_coroutine_function_makes_coroutines():
    """interlock's async functions return a bare Awaitable, which `create_task` refuses."""

    class Client:
        @retry(on=Lost)
        async def fetch(self, x: int) -> int:
            return x

    async def main():
        return await asyncio.create_task(Client().fetch(3))

    assert asyncio.run(main()) == 3
    assert inspect.iscoroutinefunction(Client.fetch)
    assert list(inspect.signature(Client().fetch).parameters) == ["x"]


def test_p25_attempt_numbers_and_messages_are_no_labels(caller, metrics):
    """stamina labels its counter with the attempt: ten attempts make eighteen series."""

    def series():
        return sum(len(family.samples) for family in metrics.metrics.collect())

    policy = retry(on=Lost, attempts=None, timeout=None, wait=0, name="fetch")
    caller(policy, Faults([Lost("a"), "ok"]))
    before = series()
    caller(policy, Faults([Lost(f"message {n}") for n in range(50)], then="ok"))
    assert series() == before


def test_p27_load_of_nested_retries_is_bounded_by_a_shared_budget(caller):
    """Nested retries multiply: two policies of five attempts make 25 calls of one."""
    fetch = Faults(then=Lost)
    budget = RetryBudget(ratio=0.2, floor=0.4, window=10)
    inner = retry(on=Lost, wait=0, attempts=5, budget=budget, name="inner")(fetch)
    with FakeClock(), pytest.raises(Lost):
        caller(retry(on=Lost, wait=0, attempts=5, budget=budget, name="outer"), inner)
    assert len(fetch.calls) <= 7  # two calls asked for, and at most five extra ones


def test_p29_no_waits_and_recorded_hold_for_their_own_context_only(metrics):
    """stamina's `set_testing` is process-global: it leaks into other threads."""
    started, leave = threading.Event(), threading.Event()

    def testing():
        with no_waits(), recorded():
            started.set()
            leave.wait(10)

    thread = threading.Thread(target=testing)
    thread.start()
    started.wait(10)
    try:
        with FakeClock() as clock:
            assert retry(on=Lost, wait=3)(Faults([Lost, "ok"]))() == "ok"
            assert clock.now() == 3.0
    finally:
        leave.set()
        thread.join()
    assert metrics.outcomes() == {"recovered": 1}


BUDGET_AT_IMPORT = RetryBudget()


@retry(on=Lost, wait=0, attempt_timeout=5, budget=BUDGET_AT_IMPORT, metrics=Metrics(None))
async def made_at_import(script):
    """An async policy that was made where no event loop runs."""
    return script()


def test_p30_a_policy_made_at_import_serves_any_event_loop():
    """hyx's token bucket needs a running loop to be made; others stay bound to the first one."""
    assert [asyncio.run(made_at_import(Faults([Lost, n]))) for n in range(3)] == [0, 1, 2]
