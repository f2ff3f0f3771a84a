"""Wrong arguments: refused when the policy is made or bound, by parameter, value and range.

Values that no parameter of any policy takes are in `tests/package/test_arguments.py`.
"""

import asyncio
import math
import re
from datetime import timedelta

import pytest
import tenacity

from mainstay import RetryBudget, retry
from mainstay.testing import Faults


def refused(kind, *parts, **arguments):
    """Make a policy of *arguments*; check that it is refused and that the message has *parts*."""
    with pytest.raises(kind) as caught:
        retry(**{"on": OSError, **arguments})
    message = str(caught.value)
    assert [part for part in parts if part not in message] == []


# Durations

HUGE = 10**400
ABOVE_ZERO = ("timeout", "attempt_timeout")


@pytest.mark.parametrize("value", [0, math.inf])
@pytest.mark.parametrize("parameter", ABOVE_ZERO)
def test_a_limit_in_seconds_is_finite_and_above_zero(parameter, value):
    refused(
        ValueError,
        f"`{parameter}`",
        "finite and above 0 seconds",
        repr(value),
        **{parameter: value},
    )


@pytest.mark.parametrize("value", [timedelta(0), timedelta(seconds=-1)])
@pytest.mark.parametrize("parameter", ABOVE_ZERO)
def test_a_limit_as_a_timedelta_is_above_zero(parameter, value):
    refused(ValueError, f"`{parameter}`", "above 0 seconds", repr(value), **{parameter: value})


@pytest.mark.parametrize("value", [math.inf, timedelta(seconds=-1)])
def test_a_constant_wait_is_finite_and_not_negative(value):
    refused(ValueError, "`wait`", "finite and at least 0 seconds", repr(value), wait=value)


@pytest.mark.parametrize("parameter", ["timeout", "attempt_timeout", "wait"])
def test_a_number_that_no_float_can_hold_is_a_value_error(parameter):
    refused(ValueError, f"`{parameter}`", "finite", **{parameter: HUGE})


@pytest.mark.parametrize("value", ["1", True])
@pytest.mark.parametrize("parameter", ["timeout", "attempt_timeout", "wait"])
def test_a_duration_is_a_number_or_a_timedelta(parameter, value):
    refused(TypeError, f"`{parameter}`", "seconds", "timedelta", repr(value), **{parameter: value})


# Attempts


@pytest.mark.parametrize("value", [0, -HUGE])
def test_at_least_one_attempt_is_made(value):
    refused(ValueError, "`attempts`", "at least 1", str(value), attempts=value)


@pytest.mark.parametrize("value", [1.0, "3", True])
def test_attempts_are_whole(value):
    refused(TypeError, "`attempts`", "whole number", repr(value), attempts=value)


# on


def test_on_is_required():
    with pytest.raises(TypeError, match="'on'"):
        retry()


def test_all_parameters_are_by_name():
    with pytest.raises(TypeError, match="by name only"):
        retry(OSError)


@pytest.mark.parametrize("value", [None, "OSError", [OSError], OSError()])
def test_on_is_a_class_a_tuple_or_a_predicate(value):
    refused(
        TypeError, "`on`", "exception class, a tuple of them, or a predicate", repr(value), on=value
    )


@pytest.mark.parametrize(
    "value", [int, object, (OSError, int), (OSError, "x"), (OSError, OSError())]
)
def test_on_takes_exception_classes_only(value):
    wrong = value[-1] if isinstance(value, tuple) else value
    refused(TypeError, "`on`", "exception classes", repr(wrong), on=value)


def test_on_takes_no_empty_tuple():
    refused(TypeError, "`on`", "at least one exception class", "()", on=())


def test_on_takes_no_nested_tuple():
    refused(TypeError, "`on`", "exception classes", on=(OSError, (KeyError,)))


@pytest.mark.parametrize(
    "value",
    [
        BaseException,
        KeyboardInterrupt,
        SystemExit,
        GeneratorExit,
        asyncio.CancelledError,
        BaseExceptionGroup,
        (OSError, asyncio.CancelledError),
    ],
)
def test_on_takes_no_class_outside_exception(value):
    wrong = value[-1] if isinstance(value, tuple) else value
    refused(TypeError, "`on`", "below Exception", wrong.__name__, on=value)


def plain_generator(_):
    yield True


async def async_generator(_):
    yield True


async def coroutine(_):
    return True


@pytest.mark.parametrize("hook", [plain_generator, async_generator])
@pytest.mark.parametrize("parameter", ["on", "on_result"])
def test_a_generator_is_no_predicate(parameter, hook):
    refused(TypeError, f"`{parameter}`", "generator", hook.__name__, **{parameter: hook})


# Async hooks of sync functions, and the reverse


@pytest.mark.parametrize("parameter", ["on", "on_result"])
def test_an_async_predicate_on_a_sync_function_is_refused(parameter):
    def plain():
        raise AssertionError("it was called")

    policy = retry(**{"on": OSError, parameter: coroutine})
    message = re.escape(f"`{parameter}` is async")
    with pytest.raises(TypeError, match=message) as caught:
        policy(plain)
    assert "plain" in str(caught.value)
    with pytest.raises(TypeError, match=message):
        policy.call(plain)


def test_an_async_predicate_object_on_a_sync_function_is_refused():
    class Predicate:
        async def __call__(self, error):
            return True

    with pytest.raises(TypeError, match="`on` is async"):
        retry(on=Predicate())(Faults())


def test_attempt_timeout_on_a_sync_function_is_refused_with_the_reason():
    """Known fault 16: redress and pyresilience leave the call in a thread that outlives it."""

    def plain():
        raise AssertionError("it was called")

    policy = retry(on=OSError, attempt_timeout=1)
    for use in (policy, policy.call):
        with pytest.raises(TypeError, match="`attempt_timeout` needs an async function") as caught:
            use(plain)
        assert "thread cannot be stopped" in str(caught.value)


def test_attempt_timeout_on_a_generator_function_is_refused():
    with pytest.raises(TypeError, match="`attempt_timeout`"):
        retry(on=OSError, attempt_timeout=1)(plain_generator)


@pytest.mark.parametrize("function", [plain_generator, async_generator])
def test_on_result_on_a_generator_function_is_refused(function):
    with pytest.raises(TypeError, match="`on_result` does not apply to generators"):
        retry(on=OSError, on_result=bool)(function)


# Strategies


@pytest.mark.parametrize("value", [3, timedelta(1)])
def test_stop_is_a_strategy(value):
    refused(TypeError, "`stop`", "tenacity stop", repr(value), stop=value)


@pytest.mark.parametrize(
    ("parameter", "value"), [("wait", tenacity.wait_fixed), ("stop", tenacity.stop_after_attempt)]
)
def test_a_strategy_class_is_not_a_strategy(parameter, value):
    refused(TypeError, f"`{parameter}`", "not the class", value.__name__, **{parameter: value})


@pytest.mark.parametrize("strategy", [coroutine, plain_generator, async_generator])
@pytest.mark.parametrize("parameter", ["wait", "stop"])
def test_a_strategy_is_a_plain_function(parameter, strategy):
    refused(TypeError, f"`{parameter}`", "plain function", **{parameter: strategy})


# Budget, name, metrics


def test_a_budget_is_a_share_from_zero_to_one():
    refused(ValueError, "`budget`", "from 0 to 1", "1.1", budget=1.1)


@pytest.mark.parametrize("value", [True, RetryBudget])
def test_a_budget_is_a_number_or_a_retry_budget(value):
    refused(TypeError, "`budget`", repr(value), budget=value)


def test_a_name_is_a_str():
    refused(TypeError, "`name`", "str or None", "b'name'", name=b"name")


def test_a_name_is_not_empty():
    refused(ValueError, "`name`", "not be empty", name="")


def test_metrics_is_a_metrics():
    refused(TypeError, "`metrics`", "Metrics or None", "'default'", metrics="default")


def test_an_unknown_parameter_is_refused():
    with pytest.raises(TypeError, match="retries"):
        retry(on=OSError, retries=3)


# What is wrapped


@pytest.mark.parametrize(
    ("value", "said"), [(None, "None"), (property(len), "an object of type property")]
)
def test_only_callables_are_wrapped(value, said):
    policy = retry(on=OSError)
    for use in (policy, policy.call):
        with pytest.raises(TypeError, match=f"retry wraps callables, not {said}"):
            use(value)


def test_a_def_that_returns_a_coroutine_is_refused_and_closed(metrics):
    async def fetch():
        raise AssertionError("it ran")

    made = []

    def plain():
        made.append(fetch())
        return made[-1]

    for policy in (retry(on=Exception), retry(on=Exception, budget=0.5)):
        with pytest.raises(TypeError, match="decorate the async function"):
            policy(plain)()
    assert [coroutine.cr_frame for coroutine in made] == [None, None]


def test_a_refused_coroutine_is_recorded_as_an_error_and_never_retried(metrics):
    async def fetch():
        raise AssertionError("it ran")

    calls = []

    def plain():
        calls.append(None)
        return fetch()

    with pytest.raises(TypeError):
        retry(on=TypeError, wait=0)(plain)()
    assert len(calls) == 1
    assert metrics.outcomes() == {"error": 1}
    assert metrics.reasons() == {"not_retryable": 1}


# Names that no label expects

STRANGE = ["line\nbreak", 'quo"te', "back\\slash", "naïve ☃ 名前", "x" * 5_000, " ", "\x00", "{}%s"]


@pytest.mark.parametrize("name", STRANGE, ids=range(len(STRANGE)))
def test_any_name_works(caller, metrics, name):
    with pytest.raises(OSError, match="no") as caught:
        caller(retry(on=OSError, attempts=2, wait=0, name=name), Faults(then=OSError("no")))
    assert caught.value.__notes__[0].startswith(f"mainstay.retry {name}: ")
    assert metrics("calls_total", component=name, outcome="error") == 1


def test_lone_surrogates_in_a_name_break_no_call(caller):
    assert caller(retry(on=OSError, name="\ud800"), Faults(["ok"])) == "ok"
