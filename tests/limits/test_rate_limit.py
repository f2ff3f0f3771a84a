"""What a rate limit does, sync and async, in all forms, on a clock of the test's own."""

import asyncio
import math
import time
from datetime import timedelta

import pytest

from mainstay import (
    DeadlineExpiredError,
    RateLimit,
    RateLimitedError,
    UnsupportedLoopError,
    deadline,
    retry,
)
from mainstay._limits.gcra import Gcra
from mainstay.testing import FakeClock, Faults, no_waits
from support.callers import SYNC, awaitable
from support.rates import RATE_FORMS, WHOLE_CALLS, most_in_a_window, waiting


@pytest.fixture(params=RATE_FORMS.values(), ids=[*RATE_FORMS])
def caller(request, metrics):
    """Runs a plain function when it is its turn: `caller(limit, fn, *args)`."""
    return request.param


@pytest.fixture(params=WHOLE_CALLS.values(), ids=[*WHOLE_CALLS])
def whole_caller(request, metrics):
    """As `caller`, without `acquire`, which does not see what comes after it."""
    return request.param


def test_there_are_turns_for_a_burst_and_then_calls_are_refused(caller, metrics, context):
    limit, fn = RateLimit("mail", 1, per=60.0, burst=3), Faults(then="sent")
    assert [caller(limit, fn) for _ in range(3)] == ["sent"] * 3
    with pytest.raises(RateLimitedError) as caught:
        caller(limit, fn)
    assert len(fn.calls) == 3
    assert caught.value.component == "mail"
    assert 59.0 < caught.value.retry_after <= 60.0
    assert metrics.outcomes() == {"success": 3, "rejected": 1}
    assert metrics.reasons() == {"rate": 1}
    assert metrics("call_duration_seconds_count", policy="rate_limit") == 3


def test_a_call_waits_for_its_turn(caller, metrics, clock):
    limit = RateLimit("mail", 10, burst=2, max_wait=5.0)
    times = [caller(limit, clock.now) for _ in range(6)]
    assert times == pytest.approx([0.0, 0.0, 0.1, 0.2, 0.3, 0.4])
    assert metrics("call_duration_seconds_sum") == pytest.approx(0.4)
    assert waiting(limit) == 0


def test_turns_are_saved_up_to_the_burst_and_no_further(caller, clock):
    limit = RateLimit("mail", 10, burst=3)
    clock.advance(1000.0)
    for _ in range(3):
        caller(limit, int)
    with pytest.raises(RateLimitedError) as caught:
        caller(limit, int)
    assert caught.value.retry_after == pytest.approx(0.1)
    clock.advance(caught.value.retry_after)
    caller(limit, int)


def test_who_would_have_to_wait_for_longer_than_max_wait_is_refused_at_once(caller, clock):
    limit = RateLimit("mail", 1, max_wait=1.0)
    caller(limit, int)
    caller(limit, int)
    assert clock.now() == 1.0
    slow = RateLimit("slow", 1, per=2.0, max_wait=1.0)
    caller(slow, int)
    with pytest.raises(RateLimitedError) as caught:
        caller(slow, int)
    assert caught.value.retry_after == pytest.approx(2.0)
    assert clock.now() == 1.0


def test_a_wait_of_max_wait_is_waited_and_one_above_it_refused(caller, clock):
    limit = RateLimit("mail", 1, max_wait=2.0)
    caller(limit, int)
    caller(limit, int)

    async def crowd():
        return await asyncio.gather(
            *(limit.acquire_async() for _ in range(4)), return_exceptions=True
        )

    assert [type(each).__name__ for each in asyncio.run(crowd())] == [
        "NoneType",
        "NoneType",
        "RateLimitedError",
        "RateLimitedError",
    ]
    assert clock.now() == pytest.approx(3.0)


def test_a_deadline_bounds_the_wait(caller, metrics, clock):
    limit = RateLimit("mail", 1, max_wait=10.0)
    caller(limit, int)
    with deadline(1.0), pytest.raises(RateLimitedError) as caught:
        caller(limit, int)
    assert clock.now() == 0.0
    assert caught.value.retry_after == pytest.approx(1.0)
    assert metrics.reasons() == {"timeout": 1}
    with deadline(1.01):
        caller(limit, int)
    assert metrics.outcomes() == {"success": 2, "rejected": 1}


def test_no_time_left_calls_nothing_and_takes_no_turn(caller, metrics, clock):
    limit, fn = RateLimit("mail", 1), Faults(then=1)
    with deadline(0), pytest.raises(DeadlineExpiredError):
        caller(limit, fn)
    assert fn.calls == []
    assert metrics.outcomes() == {"timeout": 1}
    caller(limit, fn)


def test_a_cancelled_wait_is_cancelled_and_takes_no_turn(metrics, clock):
    limit = RateLimit("mail", 1, max_wait=10.0)
    times = []

    async def wait():
        await limit.acquire_async()
        times.append(clock.now())

    async def main():
        tasks = [asyncio.create_task(wait()) for _ in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()  # the first of those that wait
        await asyncio.wait(tasks)

    asyncio.run(main())
    assert times == pytest.approx([0.0, 1.0, 2.0])
    assert metrics.outcomes() == {"success": 3, "cancelled": 1}
    assert waiting(limit) == 0


def test_what_the_function_raises_passes_untouched(whole_caller, metrics, context):
    limit, error = RateLimit("mail", 1, burst=5), KeyError("x")
    with pytest.raises(KeyError) as caught:
        whole_caller(limit, Faults(then=error))
    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert metrics.outcomes() == {"error": 1}
    assert metrics.reasons() == {}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_program_is_no_error(metrics, context, error):
    with pytest.raises(error):
        SYNC.decorated(RateLimit("mail", 1), Faults(then=error))
    assert metrics.outcomes() == {"cancelled": 1}


def test_a_deadline_that_ends_inside_is_a_timeout(whole_caller, metrics, clock):
    nested = retry(on=OSError, name="nested")

    def late():
        clock.advance(2.0)
        return nested.call(str)

    with deadline(1.0), pytest.raises(DeadlineExpiredError):
        whole_caller(RateLimit("mail", 1), late)
    assert metrics("calls_total", policy="rate_limit", outcome="timeout") == 1
    assert metrics("give_ups_total", policy="rate_limit", reason="timeout") == 1


def test_t30_in_a_thread_whose_event_loop_runs_sync_calls_never_wait(metrics, clock):
    """Known fault T30: a `def` that waits there would stop every task of the loop."""
    limit = RateLimit("mail", 1, max_wait=10.0)

    async def main():
        limit.acquire()
        for use in (limit.acquire, lambda: limit.call(int), lambda: SYNC.guarded(limit, int)):
            with pytest.raises(RateLimitedError) as caught:
                use()
            assert caught.value.retry_after == pytest.approx(1.0)

    asyncio.run(main())
    assert clock.now() == 0.0


def test_t30_waiting_in_async_code_lets_other_tasks_run(clock):
    """Known fault T30: the loop stood still for a second, by default."""
    limit = RateLimit("mail", 1, max_wait=10.0)
    seen = []

    async def other():
        await asyncio.sleep(0)
        assert waiting(limit) == 1
        seen.append(clock.now())

    async def main():
        limit.acquire()
        await asyncio.gather(limit.acquire_async(), other())

    asyncio.run(main())
    assert seen == [0.0]
    assert clock.now() == 1.0


def test_a_cost_is_so_many_turns(metrics, clock):
    limit = RateLimit("upload", 100, burst=50, max_wait=10.0)
    limit.acquire(cost=50)
    limit.acquire(cost=25)
    assert clock.now() == pytest.approx(0.25)
    asyncio.run(limit.acquire_async(cost=50))
    assert clock.now() == pytest.approx(0.75)
    limit.acquire(cost=0.5)
    assert clock.now() == pytest.approx(0.755)


@pytest.mark.parametrize("cost", [0, -1, math.nan, math.inf, 51, 10**400])
def test_a_cost_out_of_range_is_refused_by_name_value_and_range(metrics, cost):
    limit = RateLimit("upload", 100, burst=50)
    with pytest.raises(ValueError, match="`cost` must be"):
        limit.acquire(cost=cost)
    with pytest.raises(ValueError, match="`cost` must be"):
        asyncio.run(limit.acquire_async(cost=cost))
    assert metrics("calls_total") == 0


@pytest.mark.parametrize("cost", [True, "1", None])
def test_a_cost_that_is_no_number_is_refused(metrics, cost):
    with pytest.raises(TypeError, match="`cost` must be a number"):
        RateLimit("upload", 1).acquire(cost=cost)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"rate": 0}, ValueError, "`rate` must be finite and above 0, not 0"),
        ({"rate": -1}, ValueError, "`rate` must be finite and above 0, not -1"),
        ({"rate": math.nan}, ValueError, "`rate`.*nan"),
        ({"rate": math.inf}, ValueError, "`rate`.*inf"),
        ({"rate": True}, TypeError, "`rate`.*True"),
        ({"rate": "1"}, TypeError, "`rate`"),
        ({"rate": 1e300}, ValueError, "`per` / `rate`.*1e-9 to 1e9.*1e\\+300"),
        ({"rate": 1e-300}, ValueError, "`per` / `rate`"),
        ({"rate": 1e-300, "per": 1e300}, ValueError, "`per` / `rate`"),
        ({"per": 0}, ValueError, "`per` must be finite and above 0 seconds, not 0"),
        ({"per": -1.0}, ValueError, "`per`.*-1.0"),
        ({"per": math.nan}, ValueError, "`per`.*nan"),
        ({"per": math.inf}, ValueError, "`per`.*inf"),
        ({"per": True}, TypeError, "`per`.*True"),
        ({"burst": 0}, ValueError, "`burst` must be at least 1, not 0"),
        ({"burst": 0.5}, ValueError, "`burst` must be at least 1, not 0.5"),
        ({"burst": -3}, ValueError, "`burst`.*-3"),
        ({"burst": math.nan}, ValueError, "`burst`.*nan"),
        ({"burst": math.inf}, ValueError, "`burst`.*inf"),
        ({"burst": True}, TypeError, "`burst`.*True"),
        ({"max_wait": -0.1}, ValueError, "`max_wait`.*at least 0.*-0.1"),
        ({"max_wait": math.nan}, ValueError, "`max_wait`.*nan"),
        ({"max_wait": math.inf}, ValueError, "`max_wait`.*inf"),
        ({"max_wait": None}, TypeError, "`max_wait`"),
        ({"on_store_error": "raise"}, ValueError, "'local', 'allow' or 'deny', not 'raise'"),
        ({"on_store_error": None}, ValueError, "`on_store_error`"),
        ({"on_store_error": "deny"}, ValueError, "`on_store_error` is for a limit with `shared`"),
        (
            {"shared": 3},
            TypeError,
            "`shared` must be a strategy of limits.strategies.*not an object of type int",
        ),
        ({"shared": dict}, TypeError, "`shared` must be a strategy"),
        ({"metrics": 4}, TypeError, "`metrics`"),
        ({"name": ""}, ValueError, "`name`"),
        ({"name": None}, TypeError, "`name`"),
    ],
)
def test_wrong_options_are_refused_when_it_is_made(options, error, match):
    with pytest.raises(error, match=match):
        RateLimit(**{"name": "mail", "rate": 1, **options})


def test_durations_may_be_timedeltas(clock):
    limit = RateLimit("mail", 2, per=timedelta(minutes=1), max_wait=timedelta(hours=1))
    for _ in range(3):
        limit.acquire()
    assert clock.now() == 60.0
    assert repr(limit) == "<RateLimit 'mail': 2 in 60 s>"
    assert limit.name == "mail"


def test_reset_is_as_if_just_made(caller, clock):
    limit = RateLimit("mail", 1, per=60.0)
    caller(limit, int)
    limit.reset()
    caller(limit, int)
    with pytest.raises(RateLimitedError):
        caller(limit, int)


def test_methods_are_wrapped():
    limit = RateLimit("mail", 1, burst=5)

    class Mail:
        @limit
        def send(self, to):
            return self, to

        @limit
        @classmethod
        def made(cls):
            return cls

        @limit
        @staticmethod
        def plain(x):
            return x

    mail = Mail()
    assert mail.send("ann") == (mail, "ann")
    assert Mail.made() is Mail
    assert Mail.plain(1) == 1


def test_what_cannot_be_wrapped_is_refused(metrics):
    limit = RateLimit("mail", 1, burst=5)
    with pytest.raises(TypeError, match="wraps callables"):
        limit(1)

    def items():
        yield 1

    with pytest.raises(TypeError, match="does not wrap generators"):
        limit(items)

    async def inner():
        """Never awaited."""

    with pytest.raises(TypeError, match="decorate the async function"):
        limit(lambda: inner())()  # noqa: PLW0108 - the lambda is what is tested
    with FakeClock(), pytest.raises(TypeError, match="decorate the async function"):
        limit(lambda: inner())()  # noqa: PLW0108 - the lambda is what is tested
    with pytest.raises(UnsupportedLoopError):
        limit(inner)().send(None)
    with pytest.raises(UnsupportedLoopError):
        limit.acquire_async().send(None)
    with pytest.raises(UnsupportedLoopError):
        limit.__aenter__().send(None)


def test_blocks_nest_and_what_is_not_open_is_not_left(clock):
    outer, inner = RateLimit("a", 1, burst=2), RateLimit("b", 1)
    with outer, inner, outer:
        pass
    with pytest.raises(RuntimeError, match="had not been entered"):
        outer.__exit__(None, None, None)


def test_a_limit_cannot_be_copied():
    with pytest.raises(TypeError, match="cannot be copied"):
        RateLimit("mail", 1).__reduce_ex__(4)


def test_without_waits_a_turn_is_had_at_once(metrics):
    limit = RateLimit("mail", 1, per=3600.0, max_wait=7200.0)
    with no_waits():
        for form in ("sync-acquired", "async-acquired", "sync-acquired"):
            RATE_FORMS[form](limit, int)
        with pytest.raises(RateLimitedError) as caught:  # the waits that were left out count
            limit.acquire()
    assert caught.value.retry_after > 7200.0


def test_what_is_owed_goes_along_to_another_clock():
    """A limit of a module is used by tests that set a clock, and by others."""
    limit = RateLimit("mail", 1, per=60.0, max_wait=100.0)
    limit.acquire()
    for start in (0.0, 1e6):
        with FakeClock() as clock:
            clock.advance(start)
            limit.acquire()
            assert clock.now() - start == pytest.approx(60.0, abs=5.0)
    with deadline(1.0), pytest.raises(RateLimitedError) as caught:
        limit.acquire()
    assert 50.0 < caught.value.retry_after <= 60.0


# Known faults of other libraries, by their numbers in the survey.


def test_t27_steps_of_the_wall_clock_have_no_effect(monkeypatch, clock):
    """Known fault T27: after a step of an hour back everything is refused for an hour."""
    limit, wall = RateLimit("mail", 10, burst=2), time.time()
    for step in (-3600.0, 3600.0, 0.0):
        monkeypatch.setattr(time, "time", lambda step=step: wall + step)
        limit.acquire()
        limit.acquire()
        with pytest.raises(RateLimitedError) as caught:
            limit.acquire()
        assert caught.value.retry_after == pytest.approx(0.1)
        clock.advance(0.2)


def test_t28_no_window_has_more_than_rate_and_burst(clock):
    """Known fault T28: 19 of 10 at the edge of a fixed window, or 20 in the first."""
    limit, through = RateLimit("mail", 10, per=10.0, burst=1), []
    for _ in range(400):
        try:
            limit.acquire()
        except RateLimitedError:
            clock.advance(0.1)
        else:
            through.append(clock.now())
    assert most_in_a_window(through, 10.0) <= 11
    assert len(through) > 30


def test_t29_one_that_wants_several_turns_is_served_in_its_turn(clock):
    """Known fault T29: it starves while single ones keep coming."""
    limit, served = RateLimit("mail", 10, burst=5, max_wait=60.0), []

    async def want(name, cost):
        await limit.acquire_async(cost)
        served.append((name, round(clock.now(), 3)))

    async def main():
        for _ in range(5):
            limit.acquire()
        tasks = [asyncio.create_task(want("big", 5))]
        tasks += [asyncio.create_task(want("small", 1)) for _ in range(20)]
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert served[:2] == [("big", 0.5), ("small", 0.6)]


def test_t31_inside_of_a_retry_it_limits_attempts(sync_and_async, clock):
    """Known fault T31: outside of it any number of attempts goes through."""
    limit, fn = RateLimit("mail", 2, per=60.0), Faults([OSError(), OSError(), "ok"])
    policy = retry(on=(OSError, RateLimitedError), attempts=10, timeout=None, wait=0.0)
    if sync_and_async is SYNC:
        assert policy(limit(fn))() == "ok"
    else:
        assert asyncio.run(policy(limit(awaitable(fn)))()) == "ok"
    assert len(fn.calls) == 3
    assert clock.now() >= 60.0


def test_a_retry_waits_for_the_turn_and_spends_no_attempt_on_it(sync_and_async, clock):
    limit, fn = RateLimit("mail", 1, per=60.0), Faults(then="ok")
    limit.acquire()
    policy = retry(on=RateLimitedError, attempts=2, timeout=None)
    assert sync_and_async.called(policy, lambda: limit.call(fn)) == "ok"
    assert 60.0 <= clock.now() <= 66.1


def test_t32_what_is_kept_does_not_grow_with_the_rate():
    """Known fault T32: a moving window keeps an entry for each call, and stalled a server."""
    gcra = Gcra(1e6, 1.0, 1e6)
    for _ in range(10_000):
        gcra.take(0.0)
    assert {type(getattr(gcra, each)) for each in Gcra.__slots__} == {float}
