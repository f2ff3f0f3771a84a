"""Results that are refused: `on_result`."""

import asyncio

import pytest

from mainstay import ResultRefusedError, on_event, retry
from mainstay.testing import FakeClock, Faults

pytestmark = pytest.mark.usefixtures("context")


def is_none(value):
    return value is None


def test_a_refused_result_is_tried_again(function_caller, metrics):
    fetch = Faults([None, None, "page"])
    policy = retry(on=OSError, on_result=is_none, wait=0)
    assert function_caller(policy, fetch) == "page"
    assert metrics.outcomes() == {"recovered": 1}
    assert metrics.errors() == {"ResultRefusedError": 2}


def test_a_result_that_is_taken_costs_one_call(function_caller, metrics):
    fetch = Faults(["page"])
    assert function_caller(retry(on=OSError, on_result=is_none), fetch) == "page"
    assert len(fetch.calls) == 1
    assert metrics.outcomes() == {"success": 1}


def test_the_last_refused_result_is_carried_by_the_error(function_caller, metrics):
    values = [["first"], ["second"], ["third"]]
    policy = retry(on=OSError, attempts=3, on_result=lambda _: True, wait=0, name="fetch")
    with pytest.raises(ResultRefusedError) as caught:
        function_caller(policy, Faults(values))
    error = caught.value
    assert error.result is values[-1]
    assert error.attempts == 3
    assert error.component == "fetch"
    assert 0 <= error.elapsed < 60
    assert str(error).startswith("fetch: `on_result` refused the last of 3 results after 0.0")
    assert "third" not in str(error)
    assert metrics.outcomes() == {"error": 1}
    assert metrics.reasons() == {"refused_result": 1}


def test_an_exception_after_a_refused_result_is_raised_as_it_is(function_caller):
    error = OSError("mine")
    policy = retry(on=OSError, attempts=2, on_result=is_none, wait=0)
    with pytest.raises(OSError, match="mine") as caught:
        function_caller(policy, Faults([None, error]))
    assert caught.value is error
    assert error.__context__ is None


def test_a_refused_result_after_an_exception_has_no_context(function_caller):
    policy = retry(on=OSError, attempts=2, on_result=is_none, wait=0)
    with pytest.raises(ResultRefusedError) as caught:
        function_caller(policy, Faults([OSError, None]))
    assert caught.value.__context__ is None
    assert caught.value.attempts == 2


@pytest.mark.parametrize(
    ("limits", "reason", "outcome"),
    [
        ({"timeout": 5}, "timeout", "timeout"),
        ({"budget": 0.0}, "budget", "error"),
        ({"attempts": 2}, "refused_result", "error"),
        ({"stop": lambda state: True}, "refused_result", "error"),
    ],
)
def test_all_limits_hold_for_refused_results(function_caller, metrics, limits, reason, outcome):
    policy = retry(on=OSError, on_result=is_none, wait=3, **limits)
    with FakeClock(), pytest.raises(ResultRefusedError):
        function_caller(policy, Faults(then=None))
    assert metrics.reasons() == {reason: 1}
    assert metrics.outcomes() == {outcome: 1}


def test_the_answer_counts_by_its_truth(function_caller):
    policy = retry(on=OSError, on_result=lambda value: value, wait=0)
    assert function_caller(policy, Faults([[1], "x", 7, []])) == []


def test_a_strategy_sees_the_refused_result(function_caller):
    seen = []

    def wait(state):
        seen.append((state.outcome.failed, state.outcome.exception(), state.outcome.result()))
        return 0

    function_caller(retry(on=OSError, on_result=is_none, wait=wait), Faults([None, "ok"]))
    assert seen == [(False, None, None)]


def test_what_on_result_raises_is_raised_after_one_call(function_caller, metrics):
    error = ZeroDivisionError("in on_result")

    def broken(value):
        raise error

    fetch = Faults(["page"])
    with pytest.raises(ZeroDivisionError) as caught:
        function_caller(retry(on=Exception, on_result=broken), fetch)
    assert caught.value is error
    assert len(fetch.calls) == 1
    assert metrics.outcomes() == {"error": 1}


def test_an_interruption_in_on_result_ends_the_call(function_caller, metrics):
    def interrupt(value):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        function_caller(retry(on=OSError, on_result=interrupt), Faults(["page"]))
    assert metrics.outcomes() == {"cancelled": 1}


def test_an_async_on_result_is_awaited(metrics):
    async def refuses(value):
        await asyncio.sleep(0)
        return value is None

    fetch = Faults([None, "page"])
    policy = retry(on=OSError, on_result=refuses, wait=0)
    assert asyncio.run(policy(fetch.acall)()) == "page"
    assert len(fetch.calls) == 2


def test_an_awaitable_answer_in_sync_code_is_closed_and_refused(metrics):
    async def answer():
        return False

    with pytest.raises(TypeError, match="`on_result`"):
        retry(on=OSError, on_result=lambda value: answer())(Faults(["page"]))()
    assert metrics.outcomes() == {"error": 1}


def test_events_of_a_refused_result_carry_it(function_caller):
    events = []
    stop = on_event(events.append)
    try:
        with pytest.raises(ResultRefusedError):
            function_caller(
                retry(on=OSError, on_result=is_none, attempts=2, wait=0), Faults(then=None)
            )
    finally:
        stop()
    assert [(event.kind, type(event.error)) for event in events] == [
        ("retry_scheduled", ResultRefusedError),
        ("retry_gave_up", ResultRefusedError),
    ]
    assert events[-1].reason == "refused_result"
