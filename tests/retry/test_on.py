"""What counts as a failure: classes, predicates with their verdicts, tenacity's strategies."""

import asyncio
import math
from datetime import timedelta

import pytest
import tenacity
import tenacity.asyncio

from mainstay import (
    Adaptive,
    CircuitBreaker,
    FailoverPool,
    MainstayError,
    Member,
    fallback,
    redundant,
    retry,
)
from mainstay.testing import FakeClock, Faults


class Lost(ConnectionError):
    """A failure."""


class Busy(Exception):
    """A failure that says when to come back."""

    def __init__(self, after):
        super().__init__(after)
        self.after = after


class OursFailedError(MainstayError, ExceptionGroup):
    """A group as mainstay's own policies raise them."""

    def derive(self, excs):
        return OursFailedError(self.message, excs)


def is_retried(caller, on, error):
    fetch = Faults([error, "ok"])
    try:
        caller(retry(on=on, wait=0, attempts=2), fetch)
    except type(error):
        assert len(fetch.calls) == 1
        return False
    assert len(fetch.calls) == 2
    return True


@pytest.mark.parametrize(
    ("on", "error", "expected"),
    [
        (Lost, Lost(), True),
        (ConnectionError, Lost(), True),
        (Exception, Lost(), True),
        (Lost, ConnectionError(), False),
        ((KeyError, Lost), Lost(), True),
        ((KeyError, TimeoutError), Lost(), False),
        (lambda error: True, Lost(), True),
        (lambda error: False, Lost(), False),
        (lambda error: isinstance(error, Lost), Lost(), True),
    ],
)
def test_classes_tuples_and_predicates_say_what_is_retried(caller, on, error, expected):
    assert is_retried(caller, on, error) is expected


@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        ([Lost()], True),
        ([Lost(), Lost()], True),
        ([Lost(), KeyError()], False),
        ([OursFailedError("inner", [Lost()]), Lost()], True),
        ([OursFailedError("inner", [Lost(), KeyError()]), Lost()], False),
        ([ExceptionGroup("of the user's", [Lost()])], False),
    ],
)
def test_one_of_our_groups_matches_if_every_leaf_does(caller, leaves, expected):
    assert is_retried(caller, Lost, OursFailedError("all failed", leaves)) is expected


def test_a_group_of_the_users_is_matched_as_what_it_is(caller):
    assert is_retried(caller, Lost, ExceptionGroup("theirs", [Lost()])) is False
    assert is_retried(caller, ExceptionGroup, ExceptionGroup("theirs", [Lost()])) is True


def test_our_group_is_matched_by_its_own_class_too(caller):
    assert is_retried(caller, OursFailedError, OursFailedError("all", [KeyError()])) is True


# Verdicts


@pytest.mark.parametrize("hint", [30, 30.0, timedelta(seconds=30)])
def test_a_delay_is_used_instead_of_wait_with_up_to_ten_percent_more(caller, waits, hint):
    with FakeClock():
        for _ in range(30):
            fetch = Faults([Busy(hint), "ok"])
            assert caller(retry(on=lambda error: error.after, wait=1), fetch) == "ok"
    assert all(30.0 <= wait <= 33.0 for wait in waits)
    assert max(waits) - min(waits) > 1.0


@pytest.mark.parametrize("hint", [-1, -0.001, math.nan, -math.inf, timedelta(seconds=-5)])
def test_a_negative_or_nan_delay_means_wait(caller, waits, hint):
    """Known fault 12: such hints reach `time.sleep` elsewhere, which raises."""
    with FakeClock():
        caller(retry(on=lambda error: error.after, wait=7), Faults([Busy(hint), "ok"]))
    assert waits == [7.0]


@pytest.mark.parametrize("hint", [0, 0.0, -0.0, timedelta(0)])
def test_a_delay_of_zero_is_no_wait(caller, waits, hint):
    with FakeClock() as clock:
        caller(retry(on=lambda error: error.after, wait=7), Faults([Busy(hint), "ok"]))
        assert clock.now() == 0.0
    assert waits == [0.0]


def test_the_numbers_one_and_zero_are_delays_and_not_truth_values(caller, waits):
    with FakeClock():
        caller(retry(on=lambda error: 1, wait=50), Faults([Lost, "ok"]))
        caller(retry(on=lambda error: 0, wait=50), Faults([Lost, "ok"]))
    assert 1.0 <= waits[0] <= 1.1
    assert waits[1] == 0.0


@pytest.mark.parametrize(
    "hint",
    [60, 1e308, math.inf, 10**400, timedelta.max],
    ids=["60", "1e308", "inf", "10**400", "timedelta.max"],
)
def test_a_delay_longer_than_the_time_left_gives_up_now(caller, metrics, hint):
    """Known fault 13: tenacity and stamina wait for any Retry-After (retryhttp #11)."""
    error = Busy(hint)
    with FakeClock() as clock:
        with pytest.raises(Busy) as caught:
            caller(retry(on=lambda error: error.after, timeout=60), Faults([error]))
        assert clock.now() == 0.0
    assert caught.value is error
    assert metrics.reasons() == {"timeout": 1}


def test_an_endless_delay_gives_up_even_without_limits(caller, metrics):
    policy = retry(on=lambda error: math.inf, attempts=None, timeout=None)
    with pytest.raises(Lost):
        caller(policy, Faults([Lost]))
    assert metrics.reasons() == {"timeout": 1}


class Yes:
    """True, but not `True`."""

    def __bool__(self):
        return True


@pytest.mark.parametrize("verdict", [None, "yes", "", [], (), Yes(), object, 1j])
def test_any_other_verdict_is_a_type_error_noted_on_the_users_exception(caller, metrics, verdict):
    error = Lost("mine")
    fetch = Faults([error])
    with pytest.raises(Lost) as caught:
        caller(retry(on=lambda error: verdict), fetch)
    assert caught.value is error
    (note,) = error.__notes__
    assert "TypeError" in note
    assert "`on` must return True, False, or a delay" in note
    assert repr(verdict) in note
    assert len(fetch.calls) == 1
    assert metrics.reasons() == {"predicate_error": 1}


def test_a_verdict_whose_repr_raises_does_not_hide_the_users_exception(caller):
    class Unprintable:
        def __repr__(self):
            raise ZeroDivisionError

    error = Lost("mine")
    with pytest.raises(Lost) as caught:
        caller(retry(on=lambda error: Unprintable()), Faults([error]))
    assert caught.value is error


def test_a_predicate_that_raises_does_not_hide_the_users_exception(caller, metrics):
    def broken(error):
        raise ZeroDivisionError("in the predicate")

    error = Lost("mine")
    with pytest.raises(Lost) as caught:
        caller(retry(on=broken), Faults([error]))
    assert caught.value is error
    assert error.__context__ is None
    (note,) = error.__notes__
    assert "`on` raised ZeroDivisionError('in the predicate')" in note
    assert metrics.outcomes() == {"error": 1}


def test_a_predicate_is_asked_once_for_each_failure_with_that_exception(caller):
    errors, seen = [Lost(1), Lost(2), Lost(3)], []

    def on(error):
        seen.append(error)
        return True

    with pytest.raises(Lost):
        caller(retry(on=on, attempts=3, wait=0), Faults(errors))
    assert seen == errors


# Async predicates


def run_async(policy, fetch):
    return asyncio.run(policy(fetch.acall)())


@pytest.mark.parametrize(("verdict", "calls"), [(True, 2), (0, 2), (False, 1), (-1.0, 2)])
def test_an_async_predicate_is_awaited(metrics, verdict, calls):
    async def on(error):
        await asyncio.sleep(0)
        return verdict

    fetch = Faults(then=Lost)
    with pytest.raises(Lost):
        run_async(retry(on=on, attempts=2, wait=0), fetch)
    assert len(fetch.calls) == calls


def test_a_lambda_that_returns_an_awaitable_is_awaited_in_async_code(metrics):
    async def verdict(error):
        return isinstance(error, Lost)

    assert run_async(retry(on=lambda e: verdict(e), wait=0), Faults([Lost, "ok"])) == "ok"  # noqa: PLW0108 - the lambda hides that it is async


def test_an_async_predicate_that_raises_does_not_hide_the_users_exception(metrics):
    async def broken(error):
        raise ZeroDivisionError("in the predicate")

    error = Lost("mine")
    with pytest.raises(Lost) as caught:
        run_async(retry(on=broken), Faults([error]))
    assert caught.value is error
    assert "ZeroDivisionError('in the predicate')" in error.__notes__[0]


def test_cancelling_an_async_predicate_ends_the_call(metrics):
    async def forever(error):
        await asyncio.get_running_loop().create_future()

    async def main():
        task = asyncio.create_task(retry(on=forever)(Faults([Lost]).acall)())
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert metrics.outcomes() == {"cancelled": 1}


@pytest.mark.parametrize("form", ["decorated", "called", "block"])
def test_an_awaitable_verdict_in_sync_code_is_closed_and_noted(metrics, sync, form):
    call = getattr(sync, form)

    async def verdict():
        return True

    error = Lost("mine")
    with pytest.raises(Lost) as caught:
        call(retry(on=lambda error: verdict()), Faults([error]))
    assert caught.value is error
    assert "TypeError" in error.__notes__[0]


# tenacity's strategies


@pytest.mark.parametrize(
    ("on", "error", "expected"),
    [
        (tenacity.retry_if_exception_type(ConnectionError), Lost(), True),
        (tenacity.retry_if_exception_type(KeyError), Lost(), False),
        (tenacity.retry_if_exception_type(), Lost(), True),
        (tenacity.retry_if_not_exception_type(KeyError), Lost(), True),
        (tenacity.retry_if_not_exception_type(Lost), Lost(), False),
        (tenacity.retry_if_exception(lambda error: isinstance(error, Lost)), Lost(), True),
        (tenacity.retry_if_exception(lambda error: "truthy"), Lost(), True),
        (tenacity.retry_if_exception(lambda error: ""), Lost(), False),
        (tenacity.retry_if_exception_message(match="come back.*"), Lost("come back soon"), True),
        (tenacity.retry_if_exception_message(message="no"), Lost("come back soon"), False),
        (tenacity.retry_if_exception_cause_type(KeyError), Lost(), False),
        (
            tenacity.retry_if_exception_type(KeyError) | tenacity.retry_if_exception_type(Lost),
            Lost(),
            True,
        ),
        (
            tenacity.retry_if_exception_type(OSError) & tenacity.retry_if_exception_message("no"),
            Lost(),
            False,
        ),
    ],
)
def test_tenacitys_exception_strategies_work_as_on(caller, on, error, expected):
    assert is_retried(caller, on, error) is expected


def test_tenacitys_cause_strategy_looks_at_the_cause(caller):
    error = Lost()
    error.__cause__ = KeyError()
    assert is_retried(caller, tenacity.retry_if_exception_cause_type(KeyError), error) is True


def test_tenacitys_broken_predicate_does_not_hide_the_users_exception(caller):
    on = tenacity.retry_if_exception(lambda error: error.missing)
    error = Lost("mine")
    with pytest.raises(Lost) as caught:
        caller(retry(on=on), Faults([error]))
    assert caught.value is error
    assert "AttributeError" in error.__notes__[0]


def test_tenacitys_strategies_never_see_an_interruption(caller):
    on = tenacity.retry_if_not_exception_type(KeyError)
    for interruption in (KeyboardInterrupt, SystemExit, asyncio.CancelledError):
        fetch = Faults([interruption])
        with pytest.raises(interruption):
            caller(retry(on=on), fetch)
        assert len(fetch.calls) == 1


async def is_lost(error):
    await asyncio.sleep(0)
    return isinstance(error, Lost)


@pytest.mark.parametrize(
    "on",
    [
        tenacity.asyncio.retry_if_exception(is_lost),
        tenacity.asyncio.retry_if_exception(is_lost) | tenacity.retry_if_exception_type(KeyError),
        tenacity.retry_if_exception_type(OSError) & tenacity.asyncio.retry_if_exception(is_lost),
    ],
    ids=["alone", "or", "and"],
)
def test_tenacitys_async_exception_strategies_are_awaited(metrics, on):
    assert run_async(retry(on=on, wait=0), Faults([Lost, "ok"])) == "ok"
    fetch = Faults([ZeroDivisionError])
    with pytest.raises(ZeroDivisionError):
        run_async(retry(on=on, wait=0), fetch)
    assert len(fetch.calls) == 1


@pytest.mark.parametrize(
    "on",
    [
        tenacity.retry_if_result(lambda value: True),
        tenacity.retry_if_not_result(lambda value: True),
        tenacity.retry_if_exception_type() | tenacity.retry_if_result(lambda value: True),
        tenacity.asyncio.retry_if_result(is_lost),
        tenacity.asyncio.retry_if_exception(is_lost) | tenacity.retry_if_result(lambda value: True),
        tenacity.retry_always,
        tenacity.retry_never,
    ],
)
def test_strategies_that_look_at_results_are_refused(on):
    with pytest.raises(TypeError, match="to retry on a result, use `on_result`"):
        retry(on=on)


@pytest.mark.parametrize(
    "strategy",
    [
        tenacity.retry_unless_exception_type(Lost),
        tenacity.retry_if_not_exception_message("lost"),
        tenacity.retry_if_exception_type(Lost) | tenacity.retry_unless_exception_type(Busy),
        tenacity.retry_if_exception_type(Lost) & tenacity.retry_if_not_exception_message("lost"),
    ],
)
def test_strategies_that_answer_for_results_too_are_refused(strategy):
    with pytest.raises(TypeError, match="to retry on a result, use `on_result`"):
        retry(on=strategy)


STRATEGIES = [
    tenacity.retry_if_exception_type(OSError),
    tenacity.retry_if_exception_cause_type(OSError),
    tenacity.retry_never,
    tenacity.retry_if_result(bool),
    tenacity.retry_any(tenacity.retry_if_exception_type(OSError)),
    tenacity.asyncio.retry_if_exception(is_lost),
    tenacity.stop_after_attempt(3),
    tenacity.wait_fixed(1),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(
    ("parameter", "make"),
    [
        ("on", lambda on: CircuitBreaker("db", on=on)),
        ("on", lambda on: FailoverPool("db", [Member("a", 1)], on=on)),
        ("on", lambda on: redundant(on=on)),
        ("on", lambda on: fallback(on=on, default=None)),
        ("overload", lambda on: Adaptive(overload=on)),
        ("on_result", lambda on: retry(on=OSError, on_result=on)),
        ("on_result", lambda on: CircuitBreaker("db", on=OSError, on_result=on)),
    ],
)
def test_only_a_retry_takes_tenacitys_strategies(parameter, make, strategy):
    with pytest.raises(TypeError, match=f"`{parameter}` .*tenacity"):
        make(strategy)


@pytest.mark.parametrize(
    ("parameter", "strategy"),
    [
        ("stop", tenacity.wait_fixed(1)),
        ("stop", tenacity.retry_never),
        ("wait", tenacity.stop_after_attempt(3)),
        ("wait", tenacity.stop_never | tenacity.stop_after_delay(1)),
    ],
)
def test_a_strategy_for_another_parameter_is_refused(parameter, strategy):
    with pytest.raises(TypeError, match=rf"`{parameter}` takes tenacity's {parameter}_\*"):
        retry(on=OSError, **{parameter: strategy})


@pytest.mark.parametrize("strategy", STRATEGIES[-2:], ids=["stop", "wait"])
def test_a_strategy_of_another_parameter_is_no_predicate(strategy):
    with pytest.raises(TypeError, match="`on` takes no strategy of tenacity"):
        retry(on=strategy)


def test_a_subclass_that_answers_for_results_is_refused_as_well():
    class RetryUnlessDone(tenacity.retry_if_exception_type):
        def __call__(self, state):
            return not state.outcome.failed or super().__call__(state)

    with pytest.raises(TypeError, match="to retry on a result, use `on_result`"):
        retry(on=RetryUnlessDone(Lost))


def test_a_hint_of_no_wait_counts_once_in_a_row(caller, clock):
    """A server that answers "at once" for ever was called 192,093 times in half a second."""
    fetch = Faults(then=Lost)
    with pytest.raises(Lost):
        caller(retry(on=lambda error: 0.0, attempts=4, wait=1.0), fetch)
    assert clock.now() == 2.0


@pytest.mark.parametrize("hint", [5e-324, 1e-9, 0.0009, timedelta(microseconds=1)])
def test_hints_of_next_to_no_wait_in_a_row_do_not_make_a_busy_loop(caller, clock, hint):
    with pytest.raises(Lost):
        caller(retry(on=lambda error: hint, attempts=4, wait=1.0), Faults(then=Lost))
    assert 2.0 <= clock.now() <= 2.001


def test_hints_of_a_millisecond_are_waited_each_time(caller, clock):
    with pytest.raises(Lost):
        caller(retry(on=lambda error: 0.001, attempts=4, wait=1.0), Faults(then=Lost))
    assert clock.now() <= 0.0034


@pytest.mark.parametrize("hint", [9_999_999_999, 1e300, timedelta.max])
def test_a_hint_that_nobody_can_sleep_gives_up_with_the_users_exception(caller, metrics, hint):
    policy = retry(on=lambda error: hint, attempts=None, timeout=None)
    with pytest.raises(Lost):
        caller(policy, Faults(then=Lost))
    assert metrics("give_ups_total", reason="timeout") == 1
