"""When a retry waits and when it gives up: wait, timeout, stop, deadline and budget."""

import asyncio
import datetime as dt
import math
import time
from datetime import timedelta

import pytest
import tenacity

from mainstay import DeadlineExpiredError, RetryBudget, deadline, retry
from mainstay._core.clock import SYSTEM
from mainstay.testing import Faults
from support.contexts import OnClock

pytestmark = pytest.mark.usefixtures("clock")


class Lost(ConnectionError):
    """The failure that the policies of these tests retry."""


def give_up(caller, policy, fetch=None):
    """Run *policy* until it gives up; return the reason in its note."""
    with pytest.raises(Lost) as caught:
        caller(policy, Faults(then=Lost) if fetch is None else fetch)
    (note,) = caught.value.__notes__
    return reason_in(note)


def reason_in(note):
    """Return the reason that the note of a retry gives."""
    return note.partition(" s: ")[2].partition("; the attempts before:")[0]


# Waits


@pytest.mark.parametrize("wait", [2, 2.0, timedelta(seconds=2), tenacity.wait_fixed(2)])
def test_a_constant_wait_is_slept_between_attempts_only(caller, metrics, clock, wait):
    give_up(caller, retry(on=Lost, attempts=4, wait=wait))
    assert clock.now() == 6.0
    assert metrics("wait_seconds_total") == 6.0


def test_the_default_wait_is_full_jitter_up_to_five_seconds(caller, waits):
    for _ in range(20):
        give_up(caller, retry(on=Lost, attempts=10, timeout=None))
    most = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    by_attempt = list(zip(*[waits[i : i + 9] for i in range(0, 180, 9)], strict=True))
    assert all(min(seen) >= 0 for seen in by_attempt)
    assert all(max(seen) <= limit for seen, limit in zip(by_attempt, most, strict=True))
    assert all(max(seen) > limit / 2 for seen, limit in zip(by_attempt, most, strict=True))
    assert len(set(waits)) == len(waits)


@pytest.mark.parametrize("wait", [0, 0.0, timedelta(0), tenacity.wait_none()])
def test_a_zero_wait_does_not_sleep(function_caller, monkeypatch, wait):
    def refuse(*_):
        raise AssertionError("it slept")

    monkeypatch.setattr("time.sleep", refuse)
    monkeypatch.setattr("asyncio.sleep", refuse)
    with OnClock(SYSTEM):
        assert function_caller(retry(on=Lost, wait=wait), Faults([Lost, Lost, "ok"])) == "ok"


def test_waiting_in_async_code_lets_other_tasks_run(metrics, clock):
    order = []

    async def worker(name, wait):
        fetch = retry(on=Lost, wait=wait, attempts=3)(Faults([Lost, Lost, name]).acall)
        order.append((await fetch(), clock.now()))

    async def main():
        await asyncio.gather(worker("slow", 4.0), worker("quick", 1.0))

    asyncio.run(main())
    assert order == [("quick", 2.0), ("slow", 8.0)]


def test_a_strategy_sees_the_state_that_tenacity_would_show_it(function_caller, clock):
    seen = []

    def wait(state):
        seen.append(
            (
                state.attempt_number,
                state.seconds_since_start,
                state.idle_for,
                state.args,
                state.kwargs,
                state.outcome.failed,
                type(state.outcome.exception()),
                state.start_time,
                state.outcome_timestamp,
            )
        )
        return 3.0

    def fail(*args, **kwargs):
        clock.advance(1.0)
        raise Lost

    with pytest.raises(Lost):
        function_caller(retry(on=Lost, attempts=3, wait=wait), fail, 7, key="k")
    assert seen == [
        (1, 1.0, 0.0, (7,), {"key": "k"}, True, Lost, 0.0, 1.0),
        (2, 5.0, 3.0, (7,), {"key": "k"}, True, Lost, 0.0, 5.0),
    ]


def test_a_strategy_in_a_block_sees_no_function(sync_and_async, metrics):
    seen = []

    def wait(state):
        seen.append((state.fn, state.args, state.kwargs))
        return 0

    sync_and_async.block(retry(on=Lost, wait=wait), Faults([Lost, "ok"]))
    assert seen == [(None, (), {})]


def test_strategies_are_not_asked_after_the_last_attempt_or_a_success(caller):
    asked = []

    def wait(state):
        asked.append(state.attempt_number)
        return 0

    caller(retry(on=Lost, wait=wait), Faults(["ok"]))
    assert asked == []
    give_up(caller, retry(on=Lost, attempts=3, wait=wait))
    assert asked == [1, 2]


@pytest.mark.parametrize("answer", [-1.0, math.nan, math.inf, "soon", None, True])
@pytest.mark.parametrize("parameter", ["wait"])
def test_a_senseless_wait_gives_up_with_a_note_and_the_users_error(caller, answer, parameter):
    error = Lost("mine")
    with pytest.raises(Lost) as caught:
        caller(retry(on=Lost, **{parameter: lambda state: answer}), Faults([error]))
    assert caught.value is error
    (note,) = error.__notes__
    assert "`wait`" in note
    assert repr(answer) in note


@pytest.mark.parametrize("parameter", ["wait", "stop"])
def test_a_strategy_that_raises_does_not_hide_the_users_error(caller, metrics, parameter):
    def broken(state):
        raise ZeroDivisionError("in the strategy")

    error = Lost("mine")
    with pytest.raises(Lost) as caught:
        caller(retry(on=Lost, **{parameter: broken}), Faults([error]))
    assert caught.value is error
    assert error.__context__ is None
    (note,) = error.__notes__
    assert "ZeroDivisionError('in the strategy')" in note
    assert metrics.outcomes() == {"error": 1}


# Timeout


def test_a_wait_that_would_use_up_the_timeout_gives_up_now(caller, metrics, clock):
    """Known fault 15: tenacity, stamina and backoff overshoot: `max_time=0.2` ends after 1.05 s."""
    assert give_up(caller, retry(on=Lost, attempts=None, timeout=10.0, wait=3.0)) == (
        "no time left for another one"
    )
    assert clock.now() == 9.0
    assert metrics.outcomes() == {"timeout": 1}
    assert metrics.reasons() == {"timeout": 1}
    assert metrics.errors() == {"Lost": 4}


@pytest.mark.parametrize(("wait", "calls"), [(9.999, 2), (10.0, 1), (10.001, 1)])
def test_a_wait_of_exactly_the_time_left_is_too_long(caller, clock, wait, calls):
    fetch = Faults(then=Lost)
    give_up(caller, retry(on=Lost, timeout=10, wait=wait), fetch)
    assert len(fetch.calls) == calls
    assert clock.now() == (wait if calls == 2 else 0.0)


def test_the_timeout_is_sixty_seconds_by_default(caller, clock):
    give_up(caller, retry(on=Lost, attempts=None, wait=7))
    assert clock.now() == 56.0


def test_the_timeout_counts_the_time_in_attempts_and_interrupts_none(caller, clock):
    def fail():
        clock.advance(25.0)
        raise Lost

    assert give_up(caller, retry(on=Lost, timeout=timedelta(seconds=60), wait=1), fail) == (
        "no time left for another one"
    )
    assert clock.now() == 77.0


def test_a_late_success_is_a_success(caller, metrics, clock):
    def succeed():
        clock.advance(1_000.0)
        return "late"

    assert caller(retry(on=Lost, timeout=1), succeed) == "late"
    assert metrics.outcomes() == {"success": 1}


def test_a_zero_wait_after_the_timeout_gives_up(caller, clock):
    fetch = Faults(then=Faults.delay(1.0, Lost))
    give_up(caller, retry(on=Lost, timeout=3, attempts=None, wait=0), fetch)
    assert len(fetch.calls) == 3


@pytest.mark.parametrize(
    ("limits", "calls", "outcome"),
    [
        ({"attempts": 3, "timeout": 100}, 3, "error"),
        ({"attempts": 30, "timeout": 5}, 3, "timeout"),
        ({"attempts": 3, "timeout": 4.0}, 2, "timeout"),
        ({"attempts": 2, "timeout": 4.0}, 2, "error"),
    ],
)
def test_the_limit_reached_first_ends_the_call(caller, metrics, limits, calls, outcome):
    fetch = Faults(then=Lost)
    give_up(caller, retry(on=Lost, wait=2, **limits), fetch)
    assert len(fetch.calls) == calls
    assert metrics.outcomes() == {outcome: 1}


# Stop


def test_with_stop_the_other_limits_are_off(caller, clock):
    fetch = Faults(then=Lost)
    assert give_up(caller, retry(on=Lost, wait=20, stop=tenacity.stop_after_attempt(9)), fetch) == (
        "no attempts left"
    )
    assert len(fetch.calls) == 9
    assert clock.now() == 160.0


@pytest.mark.parametrize(
    ("limits", "calls"),
    [({"attempts": 5}, 5), ({"timeout": 60.0}, 3), ({"attempts": 5, "timeout": 60.0}, 3)],
)
def test_limits_given_beside_stop_hold_even_at_their_defaults(caller, limits, calls):
    fetch = Faults(then=Lost)
    policy = retry(on=Lost, wait=20, stop=tenacity.stop_after_attempt(9), **limits)
    give_up(caller, policy, fetch)
    assert len(fetch.calls) == calls


def test_tenacitys_stops_can_be_joined(caller, clock):
    stop = tenacity.stop_after_attempt(50) | tenacity.stop_after_delay(10)
    give_up(caller, retry(on=Lost, wait=4, stop=stop))
    assert clock.now() == 12.0


def test_stop_before_delay_knows_the_wait_to_come(caller, clock):
    give_up(caller, retry(on=Lost, wait=4, stop=tenacity.stop_before_delay(10)))
    assert clock.now() == 8.0


# Deadline


def test_a_policy_entered_with_no_time_left_calls_nothing(caller, metrics):
    fetch = Faults(["never"])
    with deadline(0), pytest.raises(DeadlineExpiredError) as caught:
        caller(retry(on=Exception, name="fetch"), fetch)
    assert fetch.calls == []
    assert caught.value.component == "fetch"
    assert isinstance(caught.value, TimeoutError)
    assert metrics.outcomes() == {"timeout": 1}
    assert metrics.errors() == {}


def test_the_deadline_is_not_outlasted_by_a_wait(caller, metrics, clock):
    with deadline(5.0):
        give_up(caller, retry(on=Lost, attempts=None, timeout=None, wait=2))
    assert clock.now() == 4.0
    assert metrics.outcomes() == {"timeout": 1}


@pytest.mark.parametrize(("seconds", "timeout", "ends"), [(5, 50, 4.0), (50, 5, 4.0), (9, 8, 6.0)])
def test_the_shorter_of_deadline_and_timeout_counts(caller, clock, seconds, timeout, ends):
    with deadline(seconds):
        give_up(caller, retry(on=Lost, attempts=None, timeout=timeout, wait=2))
    assert clock.now() == ends


def test_a_deadline_ends_nested_policies_together(caller, metrics, clock):
    """Known fault 15: no other Python library carries a deadline into nested policies."""
    inner = retry(on=Lost, attempts=3, wait=1, name="inner")(Faults(then=Lost))
    with deadline(10.5):
        give_up_inner = retry(on=ConnectionError, attempts=None, timeout=None, wait=1, name="outer")
        with pytest.raises(Lost) as caught:
            caller(give_up_inner, inner)
    assert clock.now() <= 10.5
    assert reason_in(caught.value.__notes__[-1]) == "no time left for another one"


def test_a_retry_inside_an_attempt_gets_the_deadline_that_the_attempt_set(caller, clock):
    def inner():
        with deadline(3):
            return retry(on=Lost, attempts=None, timeout=None, wait=2)(Faults(then=Lost))()

    give_up(caller, retry(on=KeyError), inner)
    assert clock.now() == 2.0


def test_an_inner_expiry_is_a_timeout_error_that_on_may_name(caller, metrics, clock):
    def inner():
        with deadline(0):
            retry(on=Lost, name="inner")(Faults(["never"]))()

    with pytest.raises(DeadlineExpiredError) as caught:
        caller(retry(on=TimeoutError, attempts=3, wait=0, name="outer"), inner)
    assert caught.value.component == "inner"
    assert metrics("errors_total", component="outer", error_type="DeadlineExpiredError") == 3


# Budget


def test_a_spent_budget_raises_the_original_error_without_waiting(caller, metrics, clock):
    """Known fault 14: failsafe-go sleeps, then asks the budget, then raises an error of its own."""
    error = Lost("mine")
    fetch = Faults([error])
    with pytest.raises(Lost) as caught:
        caller(retry(on=Lost, budget=0.0, wait=5), fetch)
    assert caught.value is error
    assert caught.value.__notes__[0].endswith(" s: the retry budget is spent")
    assert len(fetch.calls) == 1
    assert clock.now() == 0.0
    assert metrics.reasons() == {"budget": 1}
    assert metrics.outcomes() == {"error": 1}
    assert metrics("wait_seconds_total") == 0.0


def test_the_first_attempt_is_never_charged(caller):
    """Known fault 14: hyx charges the bucket for the first call too."""
    policy = retry(on=Lost, budget=RetryBudget(ratio=0, floor=0))
    assert [caller(policy, Faults(["ok"])) for _ in range(5)] == ["ok"] * 5


def test_retries_are_charged_one_by_one(caller):
    budget = RetryBudget(ratio=0, floor=0.5, window=10)
    fetch = Faults(then=Lost)
    assert give_up(caller, retry(on=Lost, attempts=50, wait=0, budget=budget), fetch) == (
        "the retry budget is spent"
    )
    assert len(fetch.calls) == 6
    give_up(caller, retry(on=Lost, attempts=50, wait=0, budget=budget), fetch)
    assert len(fetch.calls) == 7


def test_a_retry_that_is_not_made_is_not_charged(caller):
    budget = RetryBudget(ratio=0, floor=0.1, window=10)
    give_up(caller, retry(on=Lost, attempts=1, budget=budget))
    give_up(caller, retry(on=Lost, timeout=5, wait=10, budget=budget))
    with pytest.raises(Lost):
        caller(retry(on=KeyError, budget=budget), Faults([Lost]))
    give_up(caller, retry(on=Lost, stop=lambda state: True, budget=budget))
    assert caller(retry(on=Lost, wait=0, budget=budget), Faults([Lost, "ok"])) == "ok"


def test_a_float_budget_is_a_share_of_the_policys_own_calls(caller):
    policy = retry(on=Lost, wait=0, budget=0.5)
    for _ in range(3):
        caller(policy, Faults(["ok"]))
    fetch = Faults(then=Lost)
    give_up(caller, policy, fetch)
    assert len(fetch.calls) == 3  # four calls observed, half of them granted
    fresh = Faults(then=Lost)
    give_up(caller, retry(on=Lost, wait=0, budget=0.5), fresh)
    assert len(fresh.calls) == 1


def test_sync_and_async_policies_share_a_budget(metrics):
    from_sync, from_async = Faults(then=Lost), Faults(then=Lost)
    budget = RetryBudget(ratio=0, floor=0.3, window=10)
    policy = retry(on=Lost, wait=0, attempts=3, budget=budget)
    with pytest.raises(Lost):
        policy(from_sync)()
    with pytest.raises(Lost):
        asyncio.run(policy(from_async.acall)())
    assert (len(from_sync.calls), len(from_async.calls)) == (3, 2)


def test_a_call_that_the_deadline_refused_is_not_observed(caller):
    budget = RetryBudget(ratio=1.0, floor=0)
    policy = retry(on=Lost, wait=0, budget=budget)
    with deadline(0):
        for _ in range(5):
            with pytest.raises(DeadlineExpiredError):
                caller(policy, Faults(["never"]))
    fetch = Faults(then=Lost)
    give_up(caller, policy, fetch)
    assert len(fetch.calls) == 2


# Known faults of other libraries, by their numbers in the survey.


def test_setting_the_wall_clock_back_changes_nothing(caller, clock, monkeypatch):
    """Known fault 11: backoff measures with `datetime.now()`: set back, `max_time=5` never ends."""

    class SetBack(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(1970, 1, 1, tzinfo=tz)

    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(dt, "datetime", SetBack)
    give_up(caller, retry(on=Lost, attempts=None, timeout=5, wait=2))
    assert clock.now() == 4.0


def test_the_default_wait_overflows_at_no_number_of_attempts(caller, waits):
    """Known fault 12: tenacity (#710), stamina (#104) and Polly (#2163) overflow or get NaN."""
    caller(retry(on=Lost, attempts=None, timeout=None), Faults([Lost] * 1_200, then="ok"))
    assert len(waits) == 1_200
    assert all(0 <= wait <= 5.0 for wait in waits)


def test_load_of_nested_retries_is_bounded_by_a_shared_budget(caller):
    """Known fault 27: nested retries multiply: two policies of five make 25 calls of one."""
    fetch = Faults(then=Lost)
    budget = RetryBudget(ratio=0.2, floor=0.4, window=10)
    inner = retry(on=Lost, wait=0, attempts=5, budget=budget, name="inner")(fetch)
    with pytest.raises(Lost):
        caller(retry(on=Lost, wait=0, attempts=5, budget=budget, name="outer"), inner)
    assert len(fetch.calls) <= 7  # two calls asked for, and at most five extra ones
