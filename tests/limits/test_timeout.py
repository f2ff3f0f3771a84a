"""What a limit of time does, sync, async and in a thread."""

import asyncio
import contextvars
import copy
import logging
import math
import pickle
import threading
import time
from contextvars import ContextVar
from datetime import timedelta

import pytest

from mainstay import (
    BulkheadFullError,
    DeadlineExpiredError,
    TimedOutError,
    UnsupportedLoopError,
    deadline,
    remaining,
    retry,
    timeout,
)
from mainstay._limits import timeout_calls
from mainstay.testing import Faults
from support.callers import ASYNC, SYNC


class Caller:
    """Runs a plain function with a limit, in one form; *sleep* takes time that can be limited."""

    def __init__(self, forms, **options):
        self.forms = forms
        self.options = options

    def __call__(self, seconds, fn, *args, **options):
        policy = timeout(seconds, name="fetch", **self.options, **options)
        return self.forms.decorated(policy, fn, *args)

    def sleeps(self, limit, clock, seconds):
        """Call what sleeps for *seconds* with a limit."""
        policy = timeout(limit, name="fetch", **self.options)
        if self.forms is SYNC:
            return policy(clock.sleep)(seconds)

        async def sleeping():
            await clock.asleep(seconds)

        return asyncio.run(policy(sleeping)())


PLAIN = Caller(SYNC)
THREAD = Caller(SYNC, in_thread=True)
TASK = Caller(ASYNC)
FORMS = {"sync": PLAIN, "thread": THREAD, "async": TASK}
STOPS = {"thread": THREAD, "async": TASK}


@pytest.fixture(params=FORMS.values(), ids=[*FORMS])
def caller(request, metrics):
    """Runs a plain function with a limit: `caller(seconds, fn, *args)`."""
    return request.param


@pytest.fixture(params=STOPS.values(), ids=[*STOPS])
def stopping(request, metrics):
    """As `caller`, for what ends at the end of its time."""
    return request.param


async def for_ever():
    await asyncio.get_running_loop().create_future()


def test_what_ends_in_time_returns_its_value(caller, metrics, context):
    assert caller(5.0, str.upper, "page") == "PAGE"
    assert metrics.outcomes() == {"success": 1}
    assert metrics("call_duration_seconds_count", policy="timeout", component="fetch") == 1
    assert metrics("abandoned_threads") == 0


def test_what_it_raises_passes_untouched(caller, metrics, context):
    error = KeyError("x")
    with pytest.raises(KeyError) as caught:
        caller(5.0, Faults(then=error))
    assert caught.value is error
    assert error.__cause__ is None
    assert not hasattr(error, "__notes__")
    assert metrics.outcomes() == {"error": 1}
    assert metrics.errors() == {"KeyError": 1}


def test_at_the_end_of_its_time_it_is_left_with_an_error_that_says_so(stopping, metrics, clock):
    with pytest.raises(TimedOutError, match=r"fetch: the call took longer than 2.000 s") as caught:
        stopping.sleeps(2.0, clock, 60.0)
    assert (caught.value.component, caught.value.seconds) == ("fetch", 2.0)
    assert clock.now() == pytest.approx(2.0)
    assert metrics.outcomes() == {"timeout": 1}
    assert metrics.reasons() == {"timeout": 1}
    assert metrics.errors() == {"TimedOutError": 1}


def test_a_plain_function_that_comes_back_late_is_said_once_with_both_figures(
    metrics, clock, caplog
):
    for _ in range(2):
        PLAIN.sleeps(2.0, clock, 3.5)
    assert metrics.outcomes() == {"success": 2}
    (record,) = (each for each in caplog.records if each.levelno >= logging.WARNING)
    assert "3.500 s" in record.getMessage()
    assert "2.000 s" in record.getMessage()


def test_a_plain_function_that_fails_late_raises_its_own(metrics, clock):
    def late():
        clock.sleep(3.0)
        raise OSError("late")

    with pytest.raises(OSError, match="late"):
        PLAIN(2.0, late)
    assert metrics.outcomes() == {"error": 1}


def test_the_time_left_is_told_inside(caller, clock):
    assert caller(2.0, remaining) == pytest.approx(2.0)
    with deadline(1.0):
        assert caller(2.0, remaining) == pytest.approx(1.0)
    assert remaining() is None


def test_no_time_left_calls_nothing(caller, metrics, clock):
    fn = Faults(then=1)
    with deadline(0), pytest.raises(DeadlineExpiredError):
        caller(2.0, fn)
    assert fn.calls == []
    assert metrics.outcomes() == {"timeout": 1}


def test_a_policy_inside_that_finds_the_time_over_is_timed_out(caller, metrics, clock):
    """With what it raised as the cause; a thread may be left a moment before it has raised that."""
    inner = retry(on=OSError, name="inner")

    def late():
        clock.advance(2.0)
        return inner.call(str)

    with pytest.raises(TimedOutError) as caught:
        caller(2.0, late)
    causes = (DeadlineExpiredError, type(None)) if caller is THREAD else (DeadlineExpiredError,)
    assert isinstance(caught.value.__cause__, causes)
    assert metrics("calls_total", policy="timeout", outcome="timeout") == 1


def test_the_end_of_an_outer_deadline_passes(caller, metrics, clock):
    inner = retry(on=OSError, name="inner")

    def late():
        clock.advance(1.0)
        return inner.call(str)

    with deadline(1.0), pytest.raises(DeadlineExpiredError):
        caller(2.0, late)
    assert metrics("calls_total", policy="timeout", outcome="timeout") == 1


@pytest.mark.parametrize(
    ("outer", "inner", "speaks"), [(1.0, 2.0, "outer"), (2.0, 1.0, "inner"), (1.0, 1.0, "outer")]
)
def test_of_two_limits_the_shorter_speaks_and_of_equal_ones_the_outer(
    metrics, clock, outer, inner, speaks
):
    async def sleeping():
        await clock.asleep(60.0)

    wrapped = timeout(outer, name="outer")(timeout(inner, name="inner")(sleeping))
    with pytest.raises(TimedOutError) as caught:
        asyncio.run(wrapped())
    assert caught.value.component == speaks
    assert clock.now() == pytest.approx(1.0)


@pytest.mark.parametrize("same_turn", [False, True])
def test_a_cancellation_from_outside_wins(metrics, same_turn):
    async def main():
        task = asyncio.create_task(timeout(0.01 if same_turn else 60.0, name="fetch")(for_ever)())
        await asyncio.sleep(0)
        if same_turn:
            time.sleep(0.02)  # noqa: ASYNC251 - the limit is over in the turn of the cancellation
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert metrics.outcomes() == {"cancelled": 1}


def test_a_hundred_limits_of_one_loop_end_on_time(metrics):
    async def one(number):
        limit = 0.05 + number * 0.002
        started = time.monotonic()
        with pytest.raises(TimedOutError):
            await timeout(limit, name="fetch")(for_ever)()
        return time.monotonic() - started - limit

    async def main():
        return await asyncio.gather(*(one(number) for number in range(100)))

    late = asyncio.run(main())
    assert min(late) > -0.005
    assert sorted(late)[50] < 0.05
    assert metrics.outcomes() == {"timeout": 100}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_program_is_no_error(metrics, context, error):
    for caller in (PLAIN, THREAD):
        with pytest.raises(error):
            caller(5.0, Faults(then=error()))
    assert metrics.outcomes() == {"cancelled": 2}


@pytest.mark.parametrize("name", ["fetch", None])
def test_each_function_that_comes_back_late_is_said_once(clock, caplog, name):
    """With an answer or with an exception, also where several functions share a policy."""
    policy = timeout(2.0, name=name)

    def slow():
        clock.sleep(3.0)

    def broken():
        clock.sleep(4.0)
        raise OSError("late")

    for _ in range(2):
        SYNC.called(policy, slow)
        with pytest.raises(OSError, match="late"):
            SYNC.called(policy, broken)
    said = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(said) == 2
    assert "after 3.000 s, and had 2.000 s" in said[0]
    assert f"{slow.__qualname__} blocks" in said[0]
    assert "after 4.000 s, and had 2.000 s" in said[1]
    assert f"{broken.__qualname__} blocks" in said[1]


# In real time, where a plain function takes the fast path.


def test_a_plain_function_keeps_its_late_value_and_its_late_exception(metrics, caplog):
    def late(error):
        while remaining() > 0:
            pass
        if error is not None:
            raise error
        return "late"

    limited, own = timeout(0.001, name="fetch")(late), OSError("late")
    assert [limited(None), limited(None)] == ["late", "late"]
    with pytest.raises(OSError, match="late") as caught:
        limited(own)
    assert caught.value is own
    assert remaining() is None
    assert metrics.outcomes() == {"success": 2, "error": 1}
    assert caplog.text.count("fetch: came back after") == 1


@pytest.mark.parametrize(("outer", "error"), [(60.0, TimedOutError), (0.001, DeadlineExpiredError)])
def test_a_policy_inside_that_comes_too_late_speaks_for_the_limit_that_is_over(
    metrics, outer, error
):
    def late():
        while remaining() > 0:
            pass
        return retry(on=OSError, name="inner").call(str)

    with deadline(outer), pytest.raises(error) as caught:
        timeout(0.002, name="fetch")(late)()
    assert (type(caught.value.__cause__) is DeadlineExpiredError) == (error is TimedOutError)
    assert metrics("calls_total", policy="timeout", outcome="timeout") == 1


def test_what_a_plain_function_has_started_has_its_time_no_longer(metrics):
    context = timeout(5.0)(contextvars.copy_context)()
    assert context.run(remaining) is None
    with deadline(60.0):
        context = timeout(5.0)(contextvars.copy_context)()
        assert 50.0 < context.run(remaining) <= 60.0


def test_one_that_is_left_behind_is_counted_until_it_ends(metrics):
    go_on, done = threading.Event(), threading.Event()

    def hang():
        go_on.wait()
        done.set()

    with pytest.raises(TimedOutError):
        timeout(0.01, in_thread=True, name="fetch")(hang)()
    assert metrics("abandoned_threads", component="fetch") == 1
    go_on.set()
    assert done.wait(5)
    for _ in range(500):
        if metrics("abandoned_threads") == 0:
            break
        time.sleep(0.01)  # the thread counts after the function has ended
    assert metrics("abandoned_threads") == 0


def test_an_interrupt_before_the_thread_has_the_call_leaves_the_thread_free(metrics, monkeypatch):
    policy = timeout(5.0, in_thread=True, threads=1, name="fetch")

    def interrupted(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(timeout_calls, "_Job", interrupted)
        with pytest.raises(KeyboardInterrupt):
            policy.call(str)
    assert policy.call(str.upper, "page") == "PAGE"
    assert metrics("abandoned_threads") == 0
    assert metrics.outcomes() == {"cancelled": 1, "success": 1}


def test_without_a_free_thread_nothing_is_called(metrics):
    go_on, fn = threading.Event(), Faults(then=1)
    policy = timeout(0.01, in_thread=True, threads=2, name="fetch")
    try:
        for _ in range(2):
            with pytest.raises(TimedOutError):
                policy.call(go_on.wait)
        with pytest.raises(BulkheadFullError) as caught:
            policy.call(fn)
    finally:
        go_on.set()
    assert caught.value.reason == "full"
    assert caught.value.retry_after is None
    assert fn.calls == []
    assert metrics.outcomes() == {"timeout": 2, "rejected": 1}
    assert metrics.reasons() == {"timeout": 2, "full": 1}


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"seconds": 0}, ValueError, "`seconds` must be.*above 0.*not 0"),
        ({"seconds": -1}, ValueError, "`seconds`.*-1"),
        ({"seconds": math.nan}, ValueError, "`seconds`.*nan"),
        ({"seconds": math.inf}, ValueError, "`seconds`.*inf"),
        ({"seconds": True}, TypeError, "`seconds`.*True"),
        ({"seconds": None}, TypeError, "`seconds`.*None"),
        ({"in_thread": 1}, TypeError, "`in_thread`.*1"),
        ({"threads": 0}, ValueError, "`threads` must be.*at least 1.*0"),
        ({"threads": 1.5}, TypeError, "`threads`.*1.5"),
        ({"name": ""}, ValueError, "`name`"),
        ({"metrics": 4}, TypeError, "`metrics`"),
    ],
)
def test_wrong_options_are_refused_when_it_is_made(options, error, match):
    with pytest.raises(error, match=match):
        timeout(**{"seconds": 1.0, **options})


def test_what_cannot_be_wrapped_is_refused():
    def items():
        yield 1

    with pytest.raises(TypeError, match="wraps callables"):
        timeout(1.0)(1)
    with pytest.raises(TypeError, match="does not wrap generators"):
        timeout(1.0)(items)
    with pytest.raises(TypeError, match="`in_thread` is for plain functions"):
        timeout(1.0, in_thread=True)(for_ever)
    for in_thread in (False, True):
        with pytest.raises(TypeError, match="decorate the async function"):
            timeout(1.0, in_thread=in_thread)(lambda: for_ever())()  # noqa: PLW0108 - as it is
    with pytest.raises(UnsupportedLoopError):
        timeout(1.0)(for_ever)().send(None)


def test_methods_are_wrapped(metrics):
    class Page:
        @timeout(timedelta(seconds=1))
        def fetch(self, x):
            return self, x

        @timeout(1, in_thread=True)
        @classmethod
        def made(cls):
            return cls

    page = Page()
    assert page.fetch(1) == (page, 1)
    assert Page.made() is Page


def test_copies_are_the_same_and_pickles_work_the_same(metrics):
    policy = timeout(2.0, in_thread=True, threads=3, name="fetch")
    assert copy.copy(policy) is copy.deepcopy(policy) is policy
    again = pickle.loads(pickle.dumps(policy))  # noqa: S301 - its own
    assert again.seconds == 2.0
    assert again.call(str.upper, "page") == "PAGE"


# Known faults of other libraries, by their numbers in the survey.

CUSTOMER = ContextVar("customer", default="nobody")


def test_t1_the_context_follows_into_the_thread(metrics):
    """Known fault T1: context variables are lost in the worker, and the deadline with them."""
    token = CUSTOMER.set("ann")
    try:
        with deadline(60.0):
            name, left = timeout(5.0, in_thread=True).call(lambda: (CUSTOMER.get(), remaining()))
    finally:
        CUSTOMER.reset(token)
    assert name == "ann"
    assert 4.0 < left <= 5.0


def test_t2_threads_are_bounded_and_counted(metrics):
    """Known fault T2: 50 calls past their time left 50 threads, which nobody counted."""
    go_on, policy, refused = threading.Event(), timeout(0.001, in_thread=True, threads=4), 0
    hanging = policy(go_on.wait)
    try:
        for _ in range(50):
            try:
                hanging()
            except BulkheadFullError:
                refused += 1
            except TimedOutError:
                pass
        assert refused == 46
        assert metrics("abandoned_threads") == 4
    finally:
        go_on.set()


def test_t3_t4_a_function_that_is_left_behind_gives_its_lock_back(metrics):
    """Known faults T3 and T4: an exception injected into a thread leaves locks locked."""
    lock, go_on = threading.Lock(), threading.Event()

    def locked():
        with lock:
            go_on.wait()

    with pytest.raises(TimedOutError):
        timeout(0.01, in_thread=True).call(locked)
    assert lock.locked()
    go_on.set()
    assert lock.acquire(timeout=5)


def test_t5_limits_nest_in_any_thread(metrics, clock):
    """Known fault T5: with SIGALRM an inner limit turns the outer one off."""
    found = []

    def nested():
        try:
            timeout(0.5, in_thread=True, name="outer").call(THREAD.sleeps, 60.0, clock, 30.0)
        except TimedOutError as error:
            found.append(error.component)

    nested()
    assert found == ["outer"]
    assert clock.now() == pytest.approx(0.5)


def test_t6_the_error_is_a_timeout_error():
    """Known fault T6: an error that neither `TimeoutError` nor `Exception` catches."""
    assert issubclass(TimedOutError, TimeoutError)
    again = pickle.loads(pickle.dumps(TimedOutError("fetch", 2.0)))  # noqa: S301 - its own
    assert (again.component, again.seconds) == ("fetch", 2.0)


def test_t7_the_timeout_error_of_a_socket_stays_what_it_is(caller, metrics):
    """Known fault T7: a socket's own `TimeoutError` became "exceeded its 5.000 s" at once."""
    error = TimeoutError("timed out")
    with pytest.raises(TimeoutError) as caught:
        caller(5.0, Faults(then=error))
    assert caught.value is error
    assert metrics.outcomes() == {"error": 1}


def test_t8_around_a_retry_the_real_error_is_raised(sync_and_async, metrics, clock):
    """Known fault T8: the caller got an empty error, and what had failed was lost."""
    inner = retry(on=OSError, attempts=None, timeout=None, wait=0.3, name="inner")
    fn = inner(Faults(then=OSError("refused")))
    if sync_and_async is ASYNC:

        async def failing():
            raise OSError("refused")

        wrapped = timeout(1.0)(inner(failing))
        with pytest.raises(OSError, match="refused"):
            asyncio.run(wrapped())
    else:
        with pytest.raises(OSError, match="refused"):
            timeout(1.0)(fn)()
    assert clock.now() < 1.0
    assert (
        metrics("calls_total", policy="retry", outcome="error")
        + metrics("calls_total", policy="retry", outcome="timeout")
        == 1
    )


def test_t9_threads_do_not_hold_the_end_of_the_process(metrics):
    """Known fault T9: pool threads that are no daemons do."""
    assert timeout(5.0, in_thread=True).call(lambda: threading.current_thread().daemon)


def test_t10_it_runs_in_the_task_of_its_caller(metrics):
    """Known fault T10: `wait_for` of Python 3.11 runs in another task."""

    async def main():
        return await timeout(5.0)(current)() is asyncio.current_task()

    async def current():
        return asyncio.current_task()

    assert asyncio.run(main())
