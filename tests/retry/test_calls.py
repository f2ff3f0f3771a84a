"""What a retry does: calls, waits not at all, ends with a result or the last exception."""

import asyncio
import contextvars
import functools
import types
from unittest import mock

import attrs
import pytest

from mainstay import CircuitOpenError, MainstayError, Retry, deadline, errors, retry
from mainstay.testing import Faults

pytestmark = pytest.mark.usefixtures("context")


class Lost(ConnectionError):
    """The failure that the policies of these tests retry."""


def test_a_first_success_is_returned_after_one_call(caller, metrics):
    page = object()
    fetch = Faults([page])
    assert caller(retry(on=Lost), fetch) is page
    assert len(fetch.calls) == 1
    assert metrics.outcomes() == {"success": 1}
    assert metrics.reasons() == {}
    assert metrics.errors() == {}


def test_arguments_reach_every_attempt_as_they_are(caller):
    fetch = Faults([Lost, Lost, "page"])
    assert caller(retry(on=Lost, wait=0), fetch, 1, key="x") == "page"
    assert fetch.calls == [((1,), {"key": "x"})] * 3


def test_a_failure_is_tried_again_until_it_succeeds(caller, metrics):
    fetch = Faults([Lost, Lost, "page"])
    assert caller(retry(on=Lost, wait=0), fetch) == "page"
    assert metrics.outcomes() == {"recovered": 1}
    assert metrics.errors() == {"Lost": 2}
    assert metrics.reasons() == {}
    assert metrics("call_attempts_sum") == 3


@pytest.mark.parametrize("attempts", [1, 2, 7])
def test_attempts_is_the_number_of_calls_with_the_first_one(caller, metrics, attempts):
    fetch = Faults(then=Lost)
    with pytest.raises(Lost):
        caller(retry(on=Lost, attempts=attempts, wait=0), fetch)
    assert len(fetch.calls) == attempts
    assert metrics.outcomes() == {"error": 1}
    assert metrics.reasons() == {"attempts": 1}
    assert metrics.errors() == {"Lost": attempts}


def test_five_attempts_are_made_by_default(caller):
    fetch = Faults(then=Lost)
    with pytest.raises(Lost):
        caller(retry(on=Lost, wait=0), fetch)
    assert len(fetch.calls) == 5


def test_no_limits_at_all_go_on_for_ever(caller):
    fetch = Faults([Lost] * 1_000, then="page")
    policy = retry(on=Lost, attempts=None, timeout=None, wait=0)
    assert caller(policy, fetch) == "page"
    assert len(fetch.calls) == 1_001


def test_the_last_exception_itself_is_raised(caller):
    errors = [Lost("first"), Lost("second"), Lost("third")]
    with pytest.raises(Lost) as caught:
        caller(retry(on=Lost, attempts=3, wait=0), Faults(errors))
    assert caught.value is errors[-1]


def test_one_attempt_made_raises_its_own_exception_with_one_note(caller):
    with pytest.raises(Lost) as caught:
        caller(retry(on=Lost, attempts=1, name="fetch"), Faults([Lost]))
    (note,) = caught.value.__notes__
    assert note.startswith("mainstay.retry fetch: gave up after 1 attempt in 0.0")


def test_the_note_says_attempts_seconds_and_reason(caller):
    with pytest.raises(Lost) as caught:
        caller(retry(on=Lost, attempts=3, wait=0, name="fetch"), Faults(then=Lost))
    (note,) = caught.value.__notes__
    assert note.startswith("mainstay.retry fetch: gave up after 3 attempts in 0.0")
    first, *before = note.split("\n")
    assert first.endswith(" s: no attempts left; the attempts before:")
    assert [line[:20] for line in before] == [
        "  attempt 1: Lost (0",
        "  attempt 2: Lost (0",
    ]


def test_the_note_has_one_line_for_each_attempt_whatever_its_message(caller):
    with pytest.raises(Lost) as caught:
        caller(retry(on=Lost, attempts=2, wait=0), Faults(then=Lost("503\n  see the manual\r\n")))
    (note,) = caught.value.__notes__
    assert note.split("\n")[1].startswith("  attempt 1: Lost: 503 see the manual (0")
    assert len(note.split("\n")) == 2


def test_only_the_last_exception_gets_a_note(caller):
    errors = [Lost("first"), Lost("second"), Lost("third")]
    with pytest.raises(Lost):
        caller(retry(on=Lost, attempts=3, wait=0), Faults(errors))
    assert [len(getattr(error, "__notes__", ())) for error in errors] == [0, 0, 1]


def test_a_policy_leaves_at_most_one_note_on_an_exception(caller):
    error = Lost("the same every time")
    error.add_note("a note of the user's")
    policy = retry(on=Lost, attempts=2, wait=0, name="fetch")
    for _ in range(3):
        with pytest.raises(Lost):
            caller(policy, Faults(then=error))
    assert [note.partition(" gave up")[0] for note in error.__notes__] == [
        "a note of the user's",
        "mainstay.retry fetch:",
    ]


def test_two_policies_leave_a_note_each(caller):
    def inner():
        return caller_of_inner(inner_policy, Faults(then=Lost("both gave up")))

    inner_policy = retry(on=Lost, attempts=2, wait=0, name="inner")

    def caller_of_inner(policy, fn):
        return policy(fn)()

    with pytest.raises(Lost) as caught:
        caller(retry(on=Lost, attempts=3, wait=0, name="outer"), inner)
    assert [note.split(": gave up after")[0] for note in caught.value.__notes__] == [
        "mainstay.retry inner",
        "mainstay.retry outer",
    ]


def refused(name):
    return CircuitOpenError(name, 0.0)


@pytest.mark.parametrize("refusals", [1, 3, 9])
def test_a_refusal_is_the_last_exception_only_if_there_is_no_other(caller, refusals):
    cause = KeyError("why")
    error, first = Lost("own"), Lost("first")
    error.__context__ = cause
    policy = retry(on=(Lost, CircuitOpenError), attempts=2 + refusals, wait=0, timeout=None)
    script = [first, error, *(refused(f"breaker {n}") for n in range(refusals))]
    with pytest.raises(Lost) as caught:
        caller(policy, Faults(script))
    assert caught.value is error
    assert error.__context__ is cause
    (note,) = error.__notes__
    summary, *lines = note.splitlines()
    assert f"gave up after {2 + refusals} attempts" in summary
    assert summary.endswith("the attempts:")
    assert lines[0].startswith("  attempt 1: Lost: first")
    assert lines[-1].startswith(f"  attempt {2 + refusals}: CircuitOpenError: ")
    with pytest.raises(CircuitOpenError, match="second"):
        caller(policy, Faults([refused("first")], then=refused("second")))


def test_a_refusal_that_on_does_not_match_passes_through_as_it_is(caller):
    refusal = refused("breaker")
    with pytest.raises(CircuitOpenError) as caught:
        caller(retry(on=Lost, wait=0), Faults([Lost, refusal]))
    assert caught.value is refusal


def test_an_exception_that_refuses_notes_is_raised_all_the_same(caller):
    class Stubborn(Lost):
        def add_note(self, note):
            raise RuntimeError(note)

    with pytest.raises(Stubborn):
        caller(retry(on=Lost, attempts=2, wait=0), Faults(then=Stubborn))


def test_what_on_does_not_name_passes_through_untouched(caller, metrics):
    """Known fault 3: circuitbreaker, hyx, Polly and cockatiel take such a call for a success."""
    error = KeyError("none of ours")
    fetch = Faults([error])
    with pytest.raises(KeyError) as caught:
        caller(retry(on=Lost, wait=0), fetch)
    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert error.__context__ is None
    assert error.__cause__ is None
    assert len(fetch.calls) == 1
    assert metrics.outcomes() == {"error": 1}
    assert metrics.reasons() == {"not_retryable": 1}
    assert metrics.errors() == {"KeyError": 1}


def test_what_on_does_not_name_ends_the_call_at_any_attempt(caller, metrics):
    error = KeyError("none of ours")
    with pytest.raises(KeyError):
        caller(retry(on=Lost, wait=0), Faults([Lost, Lost, error]))
    assert not hasattr(error, "__notes__")
    assert metrics.errors() == {"Lost": 2, "KeyError": 1}
    assert metrics.reasons() == {"not_retryable": 1}


def test_the_context_of_an_exception_does_not_grow_with_the_attempts(caller):
    seen = []

    def fail():
        seen.append(Lost(len(seen)))
        raise seen[-1]

    with pytest.raises(Lost):
        caller(retry(on=Lost, attempts=6, wait=0), fail)
    assert [error.__context__ for error in seen] == [None] * 6
    assert [error.__cause__ for error in seen] == [None] * 6


def test_the_traceback_does_not_grow_with_the_attempts(caller):
    def depth(attempts):
        with pytest.raises(Lost) as caught:
            caller(retry(on=Lost, attempts=attempts, wait=0), Faults(then=Lost))
        return len(caught.traceback)

    assert depth(20) == depth(2)


def test_the_context_of_the_caller_is_kept(caller):
    outer = ValueError("being handled")
    fetch = Faults([Lost("one"), Lost("two")])
    with pytest.raises(Lost) as caught:  # noqa: PT012 - the call is made while another is handled
        try:
            raise outer
        except ValueError:
            retry(on=Lost, attempts=2, wait=0)(fetch)()
    assert caught.value.__context__ is outer


def test_attempts_see_and_leave_context_variables(caller):
    number = contextvars.ContextVar("number", default=0)

    def count():
        number.set(number.get() + 1)
        if number.get() < 3:
            raise Lost
        return number.get()

    assert caller(retry(on=Lost, wait=0), count) == 3


def test_async_attempts_run_in_the_context_and_the_task_of_the_caller(metrics):
    """Known fault 17: `wait_for` runs them in another task on 3.11: what they set is lost."""
    token = contextvars.ContextVar("token")
    tasks = []

    @retry(on=Lost, wait=0, attempt_timeout=5.0)
    async def attempt():
        tasks.append(asyncio.current_task())
        token.set(len(tasks))
        if len(tasks) < 3:
            raise Lost

    async def main():
        await attempt()
        return token.get(), set(tasks) == {asyncio.current_task()}

    assert asyncio.run(main()) == (3, True)


def test_a_policy_serves_any_number_of_functions(caller, metrics):
    policy = retry(on=Lost, attempts=2, wait=0)
    assert caller(policy, Faults([Lost, "a"])) == "a"
    assert caller(policy, Faults([Lost, "b"])) == "b"
    with pytest.raises(Lost):
        caller(policy, Faults(then=Lost))
    assert metrics.outcomes() == {"recovered": 2, "error": 1}


def test_a_policy_is_immutable():
    policy = retry(on=Lost)
    for name in ("attempts", "timeout", "wait", "judge"):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(policy, name, 1)
    assert isinstance(policy, Retry)


def test_policies_are_equal_only_to_themselves():
    policy = retry(on=Lost)
    assert policy == policy  # noqa: PLR0124 - identity is the point
    assert policy != retry(on=Lost)
    assert {policy: 1}[policy] == 1


def test_nested_policies_each_count_their_own_calls(caller, metrics):
    inner = retry(on=Lost, attempts=2, wait=0, name="inner")
    outer = retry(on=Lost, attempts=2, wait=0, name="outer")
    fetch = inner(Faults([Lost, Lost, Lost, "page"]))
    assert caller(outer, fetch) == "page"
    assert metrics("calls_total", component="inner", outcome="error") == 1
    assert metrics("calls_total", component="inner", outcome="recovered") == 1
    assert metrics("calls_total", component="inner") == 2
    assert metrics("calls_total", component="outer", outcome="recovered") == 1
    assert metrics("calls_total", component="outer") == 1


def test_a_function_that_calls_itself_through_its_policy_keeps_the_calls_apart(metrics):
    failures = {3: 1, 1: 2}

    @retry(on=Lost, attempts=3, wait=0, name="down")
    def down(n):
        if failures.get(n, 0):
            failures[n] -= 1
            raise Lost
        return [n, *down(n - 1)] if n else []

    assert down(3) == [3, 2, 1]
    assert metrics("calls_total", component="down") == 4
    assert metrics.errors() == {"Lost": 3}


@pytest.mark.parametrize(
    "interruption", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]
)
@pytest.mark.parametrize("on", [Exception, lambda error: True], ids=["class", "predicate"])
def test_interruptions_are_never_retried_and_count_as_neither(caller, metrics, interruption, on):
    """Known fault 1: tenacity's negated predicates retry them (#529, #505)."""
    fetch = Faults([interruption])
    with pytest.raises(interruption):
        caller(retry(on=on, wait=0), fetch)
    assert len(fetch.calls) == 1
    assert metrics.outcomes() == {"cancelled": 1}
    assert metrics.errors() == {}
    assert metrics.reasons() == {}


@pytest.mark.parametrize(
    "interruption", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]
)
def test_an_interruption_in_a_later_attempt_ends_the_call(caller, metrics, interruption):
    fetch = Faults([Lost, Lost, interruption])
    with pytest.raises(interruption) as caught:
        caller(retry(on=Lost, wait=0), fetch)
    assert not hasattr(caught.value, "__notes__")
    assert len(fetch.calls) == 3
    assert metrics.outcomes() == {"cancelled": 1}
    assert metrics.errors() == {"Lost": 2}


def test_a_group_with_an_interruption_in_it_is_an_interruption(caller, metrics):
    group = BaseExceptionGroup("both", [Lost(), KeyboardInterrupt()])
    with pytest.raises(BaseExceptionGroup):
        caller(retry(on=Exception, wait=0), Faults([group]))
    assert metrics.outcomes() == {"cancelled": 1}


def test_interruptions_in_the_predicate_end_the_call(caller, metrics):
    def interrupt(error):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caller(retry(on=interrupt), Faults([Lost]))
    assert metrics.outcomes() == {"cancelled": 1}


@pytest.mark.parametrize("parameter", ["wait", "stop"])
def test_interruptions_in_a_strategy_end_the_call(caller, metrics, parameter):
    def interrupt(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caller(retry(on=Lost, **{parameter: interrupt}), Faults([Lost]))
    assert metrics.outcomes() == {"cancelled": 1}


def test_a_stop_iteration_of_a_plain_function_is_an_exception_like_any(metrics):
    fetch = Faults([StopIteration, "page"])
    assert retry(on=StopIteration, wait=0)(fetch)() == "page"


def test_call_takes_keyword_arguments_of_any_name(function_caller):
    def echo(**kwargs):
        return kwargs

    names = dict.fromkeys(["self", "fn", "policy", "name", "args"], 1)
    policy = retry(on=Lost)
    assert functools.partial(policy.call, echo)(**names) == names
    assert policy(echo)(**names) == names


def test_the_error_tree_has_one_base():
    classes = [getattr(errors, name) for name in errors.__all__]
    assert all(issubclass(each, MainstayError) for each in classes)
    assert issubclass(MainstayError, Exception)


class Nameless(type):
    """A class of classes that do not tell their names."""

    @property
    def __name__(cls):
        raise ZeroDivisionError


class Unprintable(Lost, metaclass=Nameless):
    """An exception that nobody can write down."""

    def __str__(self):
        raise ZeroDivisionError

    __repr__ = __str__


@pytest.mark.parametrize("form", ["decorated", "called", "block"])
def test_an_exception_that_cannot_be_printed_is_raised_all_the_same(sync, metrics, form):
    """In sync code only: asyncio itself prints exceptions."""
    call = getattr(sync, form)
    error = Unprintable()
    raised = None
    try:
        call(retry(on=Lost, attempts=2, wait=0), Faults(then=error))
    except Lost as caught:
        raised = caught
    assert raised is error
    assert call(retry(on=Lost, wait=0), Faults([error, "ok"])) == "ok"
    assert metrics.outcomes() == {"error": 1, "recovered": 1}


def test_the_note_lists_the_first_attempt_and_the_last_five_before(caller):
    with pytest.raises(Lost) as caught:
        caller(
            retry(on=Lost, attempts=9, wait=0),
            Faults([Lost(f"no {number}: {'x' * 300}") for number in range(1, 10)]),
        )
    (note,) = caught.value.__notes__
    lines = note.split("\n  ")[1:]
    assert [line[:14] for line in lines] == [
        "attempt 1: Los",
        "... and 2 more",
        "attempt 4: Los",
        "attempt 5: Los",
        "attempt 6: Los",
        "attempt 7: Los",
        "attempt 8: Los",
    ]
    messages = [line.partition("Lost: ")[2].rpartition(" (")[0] for line in lines if "Lost" in line]
    assert messages == [f"no {number}: {'x' * 194}" for number in (1, 4, 5, 6, 7, 8)]


# Known faults of other libraries, by their numbers in the survey.


def test_no_exception_instance_is_raised_again_by_us(caller):
    """Known fault 21: purgatory raises one stored object, whose traceback grows."""

    def depth():
        with deadline(0), pytest.raises(TimeoutError) as caught:
            caller(policy, Faults())
        return len(caught.traceback), caught.value

    policy = retry(on=Lost)
    found = [depth() for _ in range(10)]
    assert len({length for length, _ in found}) == 1
    assert len({id(error) for _, error in found}) == 10


class Call:
    """Something to await that is no coroutine, as grpc.aio's calls are."""

    def __await__(self):
        return iter(())


@types.coroutine
def by_hand():
    yield


@pytest.mark.parametrize(
    "returned", [Call, asyncio.Future, by_hand], ids=["call", "future", "by hand"]
)
def test_a_plain_function_that_returns_something_to_await_is_refused(metrics, returned):
    def stub():
        return returned()

    async def main():
        with pytest.raises(TypeError, match="is not an async function, but returned something"):
            retry(on=ConnectionError, name="rpc").call(stub)

    asyncio.run(main())
    assert metrics.outcomes() == {"error": 1}


def test_a_spec_of_an_object_can_be_retried(metrics):
    stand_in = mock.create_autospec(Faults(["never"]), return_value="page")
    assert retry(on=Lost).call(stand_in) == "page"
