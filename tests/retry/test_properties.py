"""Properties of whole calls: for any script of failures, in every form, the records are true."""

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay import ResultRefusedError, RetryBudget, deadline, on_event, retry
from mainstay.testing import FakeClock, Faults, recorded
from support.examples import examples


class Lost(ConnectionError):
    """A failure that is retried."""


class Other(Exception):
    """A failure that is not."""


REFUSED = "refused"

steps = st.sampled_from([Lost, Lost, Lost, Other, KeyboardInterrupt, asyncio.CancelledError, "ok"])
scripts = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 3.0]), steps | st.just(REFUSED)), max_size=10
)
policies = st.fixed_dictionaries(
    {
        "attempts": st.none() | st.integers(1, 6),
        "timeout": st.none() | st.sampled_from([0.5, 4.0, 60.0]),
        "wait": st.none() | st.sampled_from([0.0, 0.25, 2.0, 30.0]),
        "budget": st.none() | st.sampled_from([0.0, 0.5, 1.0]) | st.builds(RetryBudget),
    }
)
deadlines = st.none() | st.sampled_from([0.0, 1.0, 10.0])


@pytest.mark.parametrize("form", ["decorated", "block"])
@pytest.mark.parametrize("hints", [False, True], ids=["class", "predicate"])
@given(script=scripts, options=policies, seconds=deadlines)
@settings(max_examples=examples(30))
def test_every_call_is_recorded_once_and_as_it_was(
    sync_and_async, form, hints, script, options, seconds
):
    if form != "block":
        options = {**options, "on_result": lambda value: value == REFUSED}
    if hints:
        options = {**options, "on": lambda error: 1.0 if isinstance(error, Lost) else False}
    fetch = Faults([Faults.delay(*each) for each in script], then="ok")
    events = []
    stop = on_event(events.append)
    try:
        with recorded() as metrics, FakeClock() as clock:
            call = getattr(sync_and_async, form)
            ending = ending_of(call, {"on": Lost, **options}, fetch, seconds)
            took = clock.now()
    finally:
        stop()
    check_metrics(metrics, ending, len(fetch.calls), took)
    check_events(events, ending, metrics.value("wait_seconds_total"))
    check_notes(ending)


def ending_of(caller, options, fetch, seconds):
    """Make a call; give its result or exception."""
    policy = retry(name="fetch", **options)
    try:
        if seconds is None:
            return caller(policy, fetch)
        with deadline(seconds):
            return caller(policy, fetch)
    except BaseException as error:  # noqa: BLE001 - interruptions too are what is looked at
        return error


def check_metrics(metrics, ending, attempts, took):
    def value(name, **labels):
        return metrics.value(name, component="fetch", **labels)

    outcomes = {
        outcome: value("calls_total", outcome=outcome)
        for outcome in ("success", "recovered", "error", "timeout", "rejected", "cancelled")
    }
    interrupted = isinstance(ending, KeyboardInterrupt | asyncio.CancelledError)
    failed = isinstance(ending, Exception)
    assert sum(outcomes.values()) == 1
    assert outcomes["cancelled"] == interrupted
    assert outcomes["error"] + outcomes["timeout"] == failed
    assert outcomes["success"] == (not failed and not interrupted and attempts == 1)
    assert value("give_ups_total") == failed
    assert value("give_ups_total", reason="timeout") == outcomes["timeout"]
    assert value("errors_total") == (attempts if failed else attempts - 1)
    assert value("call_duration_seconds_count") == 1
    assert value("call_duration_seconds_sum") == pytest.approx(took)
    assert value("call_attempts_sum") == (attempts if attempts > 1 else 0)


def check_events(events, ending, waited):
    *retries, last = [*events, None] if not isinstance(ending, Exception) else events
    assert [each.attempt for each in retries] == [*range(1, len(retries) + 1)]
    assert math.fsum(each.wait for each in retries) == pytest.approx(waited)
    if last is not None:
        assert last.kind == "retry_gave_up"
        assert last.error is ending


def check_notes(ending):
    notes = [] if not isinstance(ending, BaseException) else getattr(ending, "__notes__", [])
    gave_up = isinstance(ending, Lost)
    assert len(notes) == gave_up
    if isinstance(ending, ResultRefusedError):
        assert ending.result == REFUSED
