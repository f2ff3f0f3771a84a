"""The fast path and the slow one come to the same: results, counts and notes."""

import asyncio
import gc
import re
import sys
import threading
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import (
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    Detect,
    Metrics,
    RateLimit,
    RejectedError,
    deadline,
    fallback,
    pipeline,
    retry,
    timeout,
)
from mainstay._pipeline import policy as face
from mainstay.testing import Faults
from support.callers import awaitable

ERRORS = {"os": OSError, "value": ValueError, "key": KeyError, "exit": SystemExit}
OUTER = ("retry", "retry rejected", "breaker", "fallback", "bulkhead")
layers = st.tuples(
    st.lists(st.sampled_from(OUTER), max_size=4),
    st.sampled_from([["rate"], []]),
    st.sampled_from([["timeout"], []]),
).map(lambda parts: [name for part in parts for name in part] or ["retry"])
plans = st.lists(
    st.lists(st.sampled_from(["ok", "ok", *ERRORS]), min_size=1, max_size=6),
    min_size=1,
    max_size=5,
)


def policies_of(names, metrics):
    here = {"metrics": metrics}
    for place, name in enumerate(names):
        own = f"{name} {place}"
        if name == "retry":
            yield retry(on=OSError, attempts=3, wait=0, timeout=0.5, **here)
        elif name == "retry rejected":
            yield retry(on=(OSError, RejectedError), attempts=2, wait=0, timeout=0.5, **here)
        elif name == "breaker":
            yield CircuitBreaker(own, on=OSError, detect=Detect(consecutive=3), **here)
        elif name == "fallback":
            yield fallback(default="other", on=(ValueError, RejectedError), **here)
        elif name == "rate":
            yield RateLimit(own, 0.001, burst=6, **here)
        elif name == "bulkhead":
            yield Bulkhead(own, 1, **here)
        else:
            yield timeout(30.0, **here)


def plain_way(policy, fn):
    return policy.call(fn)


def async_way(policy, fn):
    return asyncio.run(policy.call(awaitable(fn)))


def context_of(error):
    """What a traceback shows to have been raised before."""
    return None if error.__context__ is None else type(error.__context__)


def outcome_of(call, *args):
    try:
        return call(*args)
    except BaseException as error:  # noqa: BLE001 - both paths are to raise it
        text = re.sub(r"\d+\.\d+", "", str(error))
        return type(error), text, context_of(error), notes_of(error)


def notes_of(error):
    return [re.sub(r"\d+\.\d+", "", note) for note in getattr(error, "__notes__", ())]


def run(names, todo, *, is_async, slow):
    """Return what came of the calls, and what they counted but for seconds."""
    metrics = Metrics(None)
    with pytest.MonkeyPatch.context() as patch:
        if slow:
            patch.setattr(face, "fast_path", lambda *_args, **_kwargs: None)
        policy = pipeline("orders", *policies_of(names, metrics), metrics=metrics)
        plan = []

        def plain():
            what = plan.pop(0) if plan else "ok"
            if what == "ok":
                return what
            raise ERRORS[what](what)

        async def coroutine():
            return plain()

        wrapped = policy(coroutine if is_async else plain)
    came = []

    async def main():
        for each in todo:
            plan[:] = each
            try:
                came.append(await wrapped())
            except BaseException as error:  # noqa: BLE001 - both paths are to raise it
                came.append((type(error), context_of(error), notes_of(error)))

    if is_async:
        asyncio.run(main())
    else:
        for each in todo:
            plan[:] = each
            came.append(outcome_of(wrapped))
    return came, counts(metrics)


def counts(metrics):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.value and "seconds" not in sample.name and family.type != "gauge"
    }


@given(layers, plans)
def test_both_ways_come_to_the_same_sync(names, todo):
    fast = run(names, todo, is_async=False, slow=False)
    assert fast == run(names, todo, is_async=False, slow=True)


@given(layers, plans)
def test_both_ways_come_to_the_same_async(names, todo):
    fast = run(names, todo, is_async=True, slow=False)
    assert fast == run(names, todo, is_async=True, slow=True)


@pytest.mark.parametrize("form", [plain_way, async_way])
def test_a_fallback_can_log_what_is_handled(form, metrics):
    """By `logging.exception`, which asks for it."""
    handled = []

    def other(error):
        handled.append((error, sys.exc_info()[1]))
        return "other"

    policy = pipeline("orders", fallback(call=other, on=OSError), Bulkhead("places", 1))
    assert form(policy, Faults([OSError("a")])) == "other"
    ((error, told),) = handled
    assert told is error


def with_context():
    try:
        raise KeyError
    except KeyError:
        raise OSError("a")  # noqa: B904 - its context is looked at


def test_an_exception_keeps_its_context_where_the_caller_handles_another_one(metrics):
    policy = pipeline("orders", retry(on=ValueError), Bulkhead("places", 1))
    try:
        raise LookupError
    except LookupError:
        with pytest.raises(OSError, match="a") as caught:
            policy.call(with_context)
    assert type(caught.value.__context__) is KeyError


def test_so_does_one_of_a_coroutine(metrics):
    policy = pipeline("orders", retry(on=ValueError), Bulkhead("places", 1))

    async def main():
        try:
            raise LookupError
        except LookupError:
            with pytest.raises(OSError, match="a") as caught:
                await policy.call(awaitable(with_context))
        return caught.value.__context__

    assert type(asyncio.run(main())) is KeyError


class LostError(OSError):
    """One that can be looked for with a weak reference."""


def lose():
    raise LostError


@pytest.fixture
def uncollected():
    gc.disable()
    yield
    gc.enable()


def test_what_was_raised_is_free_once_it_was_handled(metrics, uncollected):
    policy = pipeline("orders", fallback(default=1, on=ValueError), retry(on=ValueError))
    try:
        policy.call(lose)
    except LostError as error:
        gone = weakref.ref(error)
    assert gone() is None


def test_what_a_coroutine_raised_is_free_once_it_was_handled(metrics, uncollected):
    policy = pipeline("orders", fallback(default=1, on=ValueError), retry(on=ValueError))

    async def main():
        try:
            await policy.call(awaitable(lose))
        except LostError as error:
            gone = weakref.ref(error)
        return gone()

    assert asyncio.run(main()) is None


def test_a_place_is_given_back_where_a_later_layer_says_no(metrics):
    places, breaker = Bulkhead("places", 1), CircuitBreaker("shop", on=OSError)
    policy = pipeline("orders", places, breaker, RateLimit("rate", 0.001))
    breaker.open()
    with pytest.raises(RejectedError):
        policy.call(len, "a")
    assert places.in_flight == 0
    breaker.close()
    assert policy.call(len, "a") == 1
    with pytest.raises(RejectedError):
        policy.call(len, "a")
    assert places.in_flight == 0


def test_what_is_awaitable_is_refused_by_a_plain_function(metrics):
    async def coroutine():
        raise AssertionError("never awaited")

    with pytest.raises(TypeError, match="a coroutine"):
        pipeline("orders", retry(on=OSError), Bulkhead("places", 1)).call(lambda: coroutine())  # noqa: PLW0108 - a plain function
    assert metrics("errors_total", policy="pipeline", error_type="TypeError") == 1


def test_the_function_sees_the_time_of_the_timeout(metrics):
    from mainstay import remaining  # noqa: PLC0415

    policy = pipeline("orders", retry(on=OSError), timeout(5.0))
    assert 4.0 < policy.call(remaining) <= 5.0
    with deadline(1.0):
        assert policy.call(remaining) <= 1.0
    assert remaining() is None


@pytest.mark.parametrize("inner", ["pipeline", "bulkhead"])
def test_a_call_inside_a_call_that_has_the_last_place_is_told_so(inner, metrics):
    places = Bulkhead("places", 1, max_wait=60.0)
    policy = pipeline("orders", retry(on=OSError), places)
    inside = policy if inner == "pipeline" else places
    with pytest.raises(BulkheadFullError, match="would wait for itself"):
        policy.call(lambda: inside.call(len, "a"))
    assert places.in_flight == 0


@pytest.mark.parametrize("inner", ["pipeline", "bulkhead"])
def test_a_coroutine_inside_one_that_has_the_last_place_is_told_so(inner, metrics):
    places = Bulkhead("places", 1, max_wait=60.0)
    policy = pipeline("orders", retry(on=OSError), places)
    inside = policy if inner == "pipeline" else places

    async def work():
        return 1

    async def outer():
        return await inside.call(work)

    with pytest.raises(BulkheadFullError, match="would wait for itself"):
        asyncio.run(policy.call(outer))
    assert places.in_flight == 0


def test_a_task_that_a_call_makes_waits_for_its_place(metrics):
    places = Bulkhead("places", 1, max_wait=60.0)
    policy = pipeline("orders", retry(on=OSError), places)

    async def work():
        return "done"

    async def outer():
        return asyncio.create_task(policy.call(work))

    async def main():
        return await (await policy.call(outer))

    assert asyncio.run(main()) == "done"


def test_a_second_attempt_waits_for_the_place_that_the_first_has_given_back(metrics):
    places = Bulkhead("places", 1, max_wait=60.0)
    policy = pipeline("orders", retry(on=OSError, attempts=2, wait=0), places)
    release, others, attempts = threading.Event(), [], []

    def other():
        places.call(release.wait)

    def work():
        attempts.append(None)
        if len(attempts) == 1:
            others.append(threading.Thread(target=other))
            others[0].start()
            while not places.waiting:  # it gets the place when this attempt has failed
                time.sleep(0.001)
            threading.Timer(0.02, release.set).start()
            raise ConnectionResetError
        return "done"

    assert policy.call(work) == "done"
    others[0].join()
    assert places.in_flight == 0
