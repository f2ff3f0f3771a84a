"""What a fallback gives in place of an exception, sync and async."""

import asyncio
import copy
import gc
import logging
import math
import pickle
import weakref
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mainstay import (
    DeadlineExpiredError,
    UnsupportedLoopError,
    deadline,
    fallback,
    on_event,
    transient,
)
from mainstay._limits.last_good import key_of, key_of_call
from mainstay.testing import FakeClock, Faults, no_waits
from support.callers import FUNCTIONS


@pytest.fixture(params=FUNCTIONS.values(), ids=[*FUNCTIONS])
def caller(request, metrics):
    """Runs a plain function with a fallback: `caller(policy, fn, *args)`."""
    return request.param


@pytest.fixture
def make(sync_and_async, metrics):
    """Decorates a plain function once, to be called often: `make(policy, fn)(*args)`."""

    def make(policy, fn):
        if sync_and_async.kind == "sync":
            return policy(fn)

        async def awaitable(*args, **kwargs):
            return fn(*args, **kwargs)

        wrapped = policy(awaitable)
        return lambda *args, **kwargs: asyncio.run(wrapped(*args, **kwargs))

    return make


@pytest.fixture
def used():
    """The fallbacks that events told of."""
    found = []
    stop = on_event(lambda event: found.append(event) if event.kind == "fallback_used" else None)
    yield found
    stop()


REFUSED = ConnectionRefusedError("refused")


def test_what_succeeds_returns_its_value(caller, metrics, context):
    policy = fallback(on=OSError, default=0, name="fetch")
    assert caller(policy, str.upper, "page") == "PAGE"
    assert metrics.outcomes() == {"success": 1}
    assert metrics("call_duration_seconds_count", policy="fallback", component="fetch") == 1
    assert metrics("fallbacks_total") == 0


def test_a_default_stands_in_for_what_on_names(caller, metrics, context, used):
    policy = fallback(on=(ConnectionError, KeyError), default="no page", name="fetch")
    assert caller(policy, Faults(then=REFUSED)) == "no page"
    assert metrics.outcomes() == {"recovered": 1}
    assert metrics.errors() == {"ConnectionRefusedError": 1}
    assert metrics("fallbacks_total", source="value", component="fetch") == 1
    (event,) = used
    assert (event.source, event.age, event.error) == ("value", None, REFUSED)


def test_everything_else_passes(caller, metrics, context):
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        caller(fallback(on=OSError, default=0), Faults(then=error))
    assert caught.value is error
    assert metrics.outcomes() == {"error": 1}
    assert metrics.reasons() == {"not_retryable": 1}
    assert metrics("fallbacks_total") == 0


@pytest.mark.parametrize("value", [["a"], {"a": 1}, {"a"}])
def test_t38_a_default_that_can_be_changed_is_copied(caller, value):
    policy = fallback(on=OSError, default=value)
    first = caller(policy, Faults(then=OSError()))
    assert first == value
    first.clear()
    assert value
    assert caller(policy, Faults(then=OSError())) == value


def test_none_is_a_default(caller):
    assert caller(fallback(on=OSError, default=None), Faults(then=OSError())) is None


def test_a_function_is_called_with_the_exception_and_the_arguments(caller, metrics, context):
    policy = fallback(on=OSError, call=lambda *args: args)
    assert caller(policy, Faults(then=REFUSED), 1, 2) == (REFUSED, 1, 2)
    assert metrics("fallbacks_total", source="call") == 1


def test_a_predicate_may_be_on_and_transient_too(caller, metrics, context):
    policy = fallback(on=lambda error: "refused" in str(error), default=1)
    assert caller(policy, Faults(then=OSError("refused"))) == 1
    with pytest.raises(OSError, match="other"):
        caller(policy, Faults(then=OSError("other")))
    assert caller(fallback(on=transient, default=2), Faults(then=REFUSED)) == 2
    with pytest.raises(KeyError):
        caller(fallback(on=transient, default=2), Faults(then=KeyError("x")))


@pytest.mark.parametrize("delay", [0, 2.5, timedelta(seconds=3)])
def test_a_delay_says_that_the_fallback_answers(caller, context, delay):
    policy = fallback(on=lambda _error: delay, default=1)
    assert caller(policy, Faults(then=OSError())) == 1


def test_a_predicate_that_raises_does_not_hide_the_exception(caller, metrics, context):
    def broken(_error):
        raise ZeroDivisionError

    with pytest.raises(ConnectionRefusedError) as caught:
        caller(fallback(on=broken, default=1), Faults(then=ConnectionRefusedError("no")))
    assert any("ZeroDivisionError" in note for note in caught.value.__notes__)
    assert metrics.reasons() == {"predicate_error": 1}


def test_a_predicate_has_to_say_true_or_false(caller, metrics):
    with pytest.raises(ConnectionRefusedError) as caught:
        caller(fallback(on=lambda _: "yes", default=1), Faults(then=ConnectionRefusedError("no")))
    assert any("must return True or False" in note for note in caught.value.__notes__)


def test_no_time_left_calls_nothing(caller, metrics, clock):
    fn = Faults(then=1)
    with deadline(0), pytest.raises(DeadlineExpiredError):
        caller(fallback(on=KeyError, default=0), fn)
    assert fn.calls == []
    assert metrics.outcomes() == {"timeout": 1}
    assert metrics.reasons() == {"not_retryable": 1}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_program_is_never_caught(metrics, context, error):
    with pytest.raises(error):
        fallback(on=Exception, default=0).call(Faults(then=error()))
    assert metrics.outcomes() == {"cancelled": 1}


def test_a_cancellation_is_never_caught(metrics):
    async def main():
        task = asyncio.create_task(fallback(on=Exception, default=0)(asyncio.sleep)(60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert metrics.outcomes() == {"cancelled": 1}


# The last good answer.


def test_the_last_good_answer_stands_in_while_it_is_new_enough(make, metrics, clock, used):
    fn = Faults(["old", "new", REFUSED, REFUSED, REFUSED])
    wrapped = make(fallback(on=OSError, last_good=600.0, name="fetch"), fn)
    assert [wrapped(), wrapped()] == ["old", "new"]
    clock.advance(100.0)
    assert wrapped() == "new"
    clock.advance(500.0)
    assert wrapped() == "new"
    clock.advance(0.001)
    with pytest.raises(ConnectionRefusedError):
        wrapped()
    assert metrics.outcomes() == {"success": 2, "recovered": 2, "error": 1}
    assert metrics("fallbacks_total", source="last_good") == 2
    assert metrics("fallback_age_seconds_sum") == pytest.approx(700.0)
    assert [event.age for event in used] == pytest.approx([100.0, 600.0])


def test_without_an_answer_the_exception_is_raised(make, metrics, context):
    wrapped = make(fallback(on=OSError, last_good=timedelta(minutes=1)), Faults(then=REFUSED))
    with pytest.raises(ConnectionRefusedError) as caught:
        wrapped()
    assert caught.value is REFUSED


def test_an_answer_of_one_clock_is_none_of_another_s(make):
    """On that of a test the system's is old, or of the future."""
    fn = Faults(["system", "test", REFUSED, REFUSED, REFUSED, REFUSED])
    wrapped = make(fallback(on=OSError, last_good=60.0), fn)
    assert wrapped() == "system"
    with FakeClock():
        assert wrapped() == "test"
        assert wrapped() == "test"
        with no_waits():
            assert wrapped() == "test"
        with FakeClock(), pytest.raises(ConnectionRefusedError):
            wrapped()
    with no_waits():
        assert wrapped() == "system"


def test_a_key_tells_calls_apart(make, clock):
    down = False

    def fetch(user, page):
        if down:
            raise REFUSED
        return user, page

    wrapped = make(fallback(on=OSError, last_good=60.0, key=lambda user, page: user), fetch)
    wrapped("ann", 1)
    wrapped("bob", 2)
    down = True
    assert wrapped("ann", 3) == ("ann", 1)
    assert wrapped("bob", 4) == ("bob", 2)
    with pytest.raises(ConnectionRefusedError):
        wrapped("eve", 1)


def test_the_key_that_was_answered_longest_ago_goes(make, clock):
    down = False

    def fetch(number):
        if down:
            raise REFUSED
        return number

    wrapped = make(fallback(on=OSError, last_good=60.0, keep=2), fetch)
    for number in (1, 2, 1, 3):
        wrapped(number)
    down = True
    assert wrapped(1) == 1
    assert wrapped(3) == 3
    with pytest.raises(ConnectionRefusedError):
        wrapped(2)


def test_arguments_that_cannot_be_a_key_are_refused_before_the_call(make, metrics):
    fn = Faults(then=1)
    with pytest.raises(TypeError, match=r"cannot be told apart.*give `key=`"):
        make(fallback(on=OSError, last_good=60.0), fn)([])
    assert fn.calls == []


@pytest.mark.parametrize("hook", ["key", "copy"])
def test_a_hook_that_raises_is_counted_and_logged_once(make, metrics, caplog, hook):
    def broken(*_):
        raise LookupError("broken")

    hooks = {hook: broken if hook == "key" else good_once(broken)}
    wrapped = make(
        fallback(on=OSError, last_good=60.0, name="a", **hooks), Faults(["page"], then=REFUSED)
    )
    if hook == "copy":
        assert wrapped() == "page"
    for _ in range(2):
        with pytest.raises(LookupError, match="broken"):
            wrapped()
    assert metrics("give_ups_total", policy="fallback", reason="predicate_error") == 2
    assert metrics("hook_errors_total", hook="predicate") == 2
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert said == [f"a: `{hook}` raised LookupError"]


def good_once(broken):
    """Return a function that hands out its argument once, and is *broken* from then on."""
    calls = []

    def once(value):
        calls.append(value)
        return value if len(calls) == 1 else broken()

    return once


def test_t38_a_copy_is_handed_out_or_a_warning_is_said_once(make, clock, caplog):
    """Known fault T38: what one caller changed, the next one got."""
    wrapped = make(
        fallback(on=OSError, last_good=60.0, copy=copy.deepcopy, name="a"),
        Faults([[1], REFUSED, REFUSED]),
    )
    wrapped()
    wrapped().clear()
    assert wrapped() == [1]
    assert not caplog.records
    wrapped = make(fallback(on=OSError, last_good=60.0, name="b"), Faults([[1], REFUSED, REFUSED]))
    for _ in range(3):
        wrapped()
    (record,) = (each for each in caplog.records if each.levelno >= logging.WARNING)
    assert "give `copy=`" in record.getMessage()


def test_the_warning_on_copies_names_each_function_of_a_policy_once(caplog):
    policy = fallback(on=OSError, last_good=60.0, name="shared")
    users, orders = Faults([[1], REFUSED, REFUSED]), Faults([[2], REFUSED, REFUSED])

    def find_users():
        return users()

    def find_orders():
        return orders()

    wrapped = [policy(find_users), policy(find_orders)]
    for _ in range(3):
        assert [each() for each in wrapped] == [[1], [2]]
    said = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert ["find_users" in each for each in said] == [True, False]
    assert ["find_orders" in each for each in said] == [False, True]


def test_call_does_not_go_with_last_good(metrics):
    with pytest.raises(TypeError, match="decorate it"):
        fallback(on=OSError, last_good=1.0).call(int)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, TypeError, "exactly one of .* not none"),
        ({"default": 1, "call": int}, TypeError, "not `default` and `call`"),
        ({"call": 3}, TypeError, "`call` must take.*3"),
        ({"last_good": 0}, ValueError, "`last_good`.*above 0.*0"),
        ({"last_good": math.inf}, ValueError, "`last_good`.*inf"),
        ({"last_good": True}, TypeError, "`last_good`.*True"),
        ({"default": 1, "key": int}, TypeError, "`key` belongs to `last_good`"),
        ({"default": 1, "copy": int}, TypeError, "`copy` belongs to `last_good`"),
        ({"last_good": 1, "key": 3}, TypeError, "`key` must be a plain function, not 3"),
        ({"last_good": 1, "keep": 0}, ValueError, "`keep`.*at least 1.*0"),
        ({"default": 1, "on": BaseException}, TypeError, "BaseException"),
        ({"default": 1, "on": 3}, TypeError, "`on`.*3"),
        ({"default": 1, "name": ""}, ValueError, "`name`"),
        ({"default": 1, "metrics": 4}, TypeError, "`metrics`"),
        ({"default": 1, "ttl": 4}, TypeError, "last_good="),
    ],
)
def test_wrong_options_are_refused_when_it_is_made(options, error, match):
    with pytest.raises(error, match=match):
        fallback(**{"on": OSError, **options})


def test_what_cannot_be_wrapped_is_refused(metrics):
    policy = fallback(on=OSError, default=0)

    async def ask(_error, *_args):
        return True

    def items():
        yield 1

    with pytest.raises(TypeError, match="wraps callables"):
        policy(1)
    with pytest.raises(TypeError, match="does not wrap generators"):
        policy(items)
    with pytest.raises(TypeError, match="`on` is async"):
        fallback(on=ask, default=0)(int)
    with pytest.raises(TypeError, match="`call` is async"):
        fallback(on=OSError, call=ask)(int)
    with pytest.raises(TypeError, match="decorate the async function"):
        policy(lambda: ask(1))()
    with pytest.raises(UnsupportedLoopError):
        policy(ask)(1).send(None)


def test_copies_are_the_same_and_pickles_work_the_same(metrics):
    policy = fallback(on=OSError, default=7, name="fetch")
    assert copy.copy(policy) is copy.deepcopy(policy) is policy
    assert pickle.loads(pickle.dumps(policy)).call(Faults(then=OSError())) == 7  # noqa: S301 - its own


# Known faults of other libraries, by their numbers in the survey.


def test_t35_keys_are_told_apart_by_value_and_type():
    """Known fault T35: 1, True and 1.0, or two users of the same repr, shared an answer."""
    keys = [1, True, 1.0, (1,), (True,), ((1.0,),), frozenset({1}), frozenset({True})]
    assert len({key_of(each) for each in keys}) == len(keys)


def exactly(value):
    """Tell a value, and its parts, from all others."""
    parts = tuple(map(exactly, value)) if isinstance(value, tuple) else repr(value)
    return type(value), parts


ARGUMENTS = st.recursive(
    st.sampled_from([0, False, 0.0, 1, True, 1.0, "", "a", "k", b"", None, int, tuple]),
    lambda parts: st.lists(parts, max_size=3).map(tuple),
    max_leaves=6,
)
CALLS = st.tuples(
    st.lists(ARGUMENTS, max_size=3).map(tuple),
    st.dictionaries(st.sampled_from(["a", "k"]), ARGUMENTS, max_size=2),
)


@given(CALLS, CALLS)
@example(((1, "a"), {}), (((1, "a"),), {}))
@example((((1,), ("k", 2)), {}), ((1,), {"k": 2}))
@example((((1,), (("k", 2),)), {}), ((1,), {"k": 2}))
@example(((int, 1), {}), ((1,), {}))
@example(((1,), {"a": 1, "k": 2}), ((1,), {"k": 2, "a": 1}))
def test_two_calls_have_one_key_if_all_their_arguments_are_the_same(one, other):
    def arguments(call):
        args, kwargs = call
        return exactly(args), exactly(tuple(sorted(kwargs.items(), key=lambda item: item[0])))

    assert (key_of_call(*one) == key_of_call(*other)) == (arguments(one) == arguments(other))


def test_t36_keys_that_fail_leave_nothing(make, clock):
    """Known fault T36: 5,000 failing keys left 5,000 locks beside a cache of 256."""

    class Key:
        """Can be hashed, and watched."""

    def fetch(_key):
        raise ConnectionRefusedError

    wrapped, seen = make(fallback(on=OSError, last_good=60.0), fetch), weakref.WeakSet()
    for _ in range(50):
        key = Key()
        seen.add(key)
        with pytest.raises(ConnectionRefusedError):
            wrapped(key)
    del key
    gc.collect()
    assert not seen


def test_t37_a_key_leaves_the_self_of_a_method_out(make, clock):
    """Known fault T37: a cache that keeps instances alive."""

    class Client:
        def fetch(self, user):
            return user

    policy = fallback(on=OSError, last_good=60.0, key=lambda _self, user: user)
    fetch, client = make(policy, Client.fetch), Client()
    assert fetch(client, "ann") == "ann"
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None


def test_t40_an_async_fallback_is_awaited(metrics):
    """Known fault T40: it was returned as a coroutine that nobody awaits."""

    async def cached(_error, key):
        return f"cached {key}"

    async def fetch(_key):
        raise REFUSED

    assert asyncio.run(fallback(on=OSError, call=cached)(fetch)("a")) == "cached a"


def test_t41_a_fallback_that_fails_has_the_original_error_as_cause(caller, metrics, context):
    """Known fault T41: the original error was hidden in ``__context__``."""

    def broken(_error):
        raise KeyError("cache")

    with pytest.raises(KeyError) as caught:
        caller(fallback(on=OSError, call=broken), Faults(then=REFUSED))
    assert caught.value.__cause__ is REFUSED
    assert any("in place of" in note for note in caught.value.__notes__)
    assert metrics.errors() == {"ConnectionRefusedError": 1, "KeyError": 1}
    assert metrics("fallbacks_total") == 0


def test_t42_an_old_answer_is_marked_and_bounded(make, clock, used):
    """Known fault T42: a stale answer without an age, and without a mark."""
    policy = fallback(on=OSError, last_good=10.0, name="fetch")
    wrapped = make(policy, Faults([1, REFUSED, REFUSED]))
    wrapped()
    clock.advance(10.0)
    assert wrapped() == 1
    clock.advance(1.0)
    with pytest.raises(ConnectionRefusedError):
        wrapped()
    assert str(used[0]).startswith("fetch: answered by last_good, 10.000 s old")


def test_a_deadline_that_ends_the_call_is_a_timeout_of_the_fallback_too(metrics):
    @fallback(on=ConnectionError, default=0, name="job", metrics=metrics.metrics)
    async def hangs():
        await asyncio.Event().wait()

    async def call():
        with FakeClock() as clock:
            async with deadline(1.0):
                waiting = asyncio.ensure_future(clock.asleep(2.0))
                try:
                    await hangs()
                finally:
                    waiting.cancel()

    with pytest.raises(DeadlineExpiredError):
        asyncio.run(call())
    assert metrics.outcomes() == {"timeout": 1}
    assert metrics.reasons() == {"timeout": 1}


def test_an_exception_that_is_not_caught_is_no_warning(caller, caplog, context):
    with caplog.at_level(logging.DEBUG, "mainstay"), pytest.raises(KeyError):
        caller(fallback(on=OSError, default=1), Faults(then=KeyError("x")))
    levels = [each.levelname for each in caplog.records if each.name == "mainstay.fallback"]
    assert levels == ["INFO"]
