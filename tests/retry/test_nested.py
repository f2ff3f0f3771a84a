"""A retry inside a retry is found, counted, and warned of once (T46)."""

import asyncio
import copy
import logging
import pickle

import pytest

from mainstay import retry
from mainstay._retry.nested import RetryNote
from mainstay.testing import no_waits, recorded
from tests.support.callers import ASYNC, SYNC, awaitable

CALLERS = {"sync": SYNC, "async": ASYNC}


@pytest.fixture(params=CALLERS)
def caller(request):
    return CALLERS[request.param]


def nested(caller, calls, *, outer="outer", inner="inner", inner_attempts=4, on_nested="allow"):
    """Call a function that always fails through two retries around it."""

    def fail():
        calls.append(None)
        raise ConnectionError("refused")

    policy = retry(on=OSError, attempts=inner_attempts, name=inner)
    within = policy(awaitable(fail) if caller is ASYNC else fail)
    around = retry(on=OSError, attempts=3, nested=on_nested, name=outer)(within)
    call = (lambda: asyncio.run(around())) if caller is ASYNC else around
    with no_waits(), pytest.raises(ConnectionError):
        call()


def test_t46_a_retry_inside_a_retry_is_counted_and_warned_of_once(caller, caplog):
    calls, name = [], f"warned-{caller.kind}"
    with recorded() as metrics, caplog.at_level(logging.WARNING, "mainstay.retry"):
        nested(caller, calls, outer=name)
        nested(caller, calls, outer=name)
    assert len(calls) == 24
    assert metrics.value("nested_retries_total", component=name) == 6
    told = [each for each in caplog.messages if "contain those of another retry" in each]
    assert len(told) == 1


def test_once_gives_up_where_an_inner_retry_has(caller):
    calls = []
    with recorded() as metrics:
        nested(caller, calls, on_nested="once")
    assert len(calls) == 4
    assert (
        metrics.value("give_ups_total", component="outer", policy="retry", reason="attempts") == 1
    )


def test_two_retries_of_one_name_are_found_as_well(caller):
    calls = []
    with recorded() as metrics:
        nested(caller, calls, inner="outer")
    assert metrics.value("nested_retries_total", component="outer") == 3


def test_an_inner_retry_of_one_attempt_is_none(caller):
    calls = []
    with recorded() as metrics:
        nested(caller, calls, inner_attempts=1)
    assert metrics.value("nested_retries_total", component="outer") == 0


def test_an_exception_that_is_raised_again_does_not_count_for_a_later_call(caller):
    kept = ConnectionError("kept")
    policy = retry(on=OSError, attempts=2, name="alone")
    with recorded() as metrics, no_waits():
        for _ in range(3):
            with pytest.raises(ConnectionError):
                caller.decorated(policy, raising(kept))
    assert metrics.value("nested_retries_total", component="alone") == 0


def raising(error):
    def fail():
        raise error

    return fail


def test_nested_must_be_one_of_its_values():
    with pytest.raises(ValueError, match="`nested` must be 'allow' or 'once', not 'never'"):
        retry(on=OSError, nested="never")


@pytest.mark.parametrize("again", [copy.deepcopy, lambda note: pickle.loads(pickle.dumps(note))])  # noqa: S301 - its own
def test_a_note_can_be_copied(again):
    note = again(RetryNote("text", "inner", 1.5))
    assert (note, note.component, note.left_at) == ("text", "inner", 1.5)
