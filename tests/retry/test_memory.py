"""What calls leave behind: no cycles, no growth, errors that can be pickled."""

import asyncio
import copy
import gc
import logging
import pickle
import weakref

import pytest

from mainstay import (
    CircuitOpenError,
    DeadlineExpiredError,
    ResultRefusedError,
    UnsupportedLoopError,
    deadline,
    retry,
)
from mainstay.testing import FakeClock, Faults

pytestmark = pytest.mark.usefixtures("context")


class Lost(ConnectionError):
    """The failure that the policies of these tests retry."""


class Page:
    """Something that a weak reference can follow."""


@pytest.fixture
def no_gc(metrics):
    """Leave objects to reference counting alone, and let no captured log record hold them."""
    logging.disable()
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


def sync_decorated(policy, fn, *args):
    try:
        return policy(fn)(*args)
    except Exception:  # noqa: BLE001 - only what stays behind matters
        return None


def sync_block(policy, fn, *args):
    try:
        for attempt in policy:
            with attempt:
                return fn(*args)
    except Exception:  # noqa: BLE001 - as above
        return None


async def async_decorated(policy, fn, *args):
    async def awaitable(*args):
        return fn(*args)

    try:
        return await policy(awaitable)(*args)
    except Exception:  # noqa: BLE001 - as above
        return None


async def async_block(policy, fn, *args):
    try:
        async for attempt in policy:
            with attempt:
                return fn(*args)
    except Exception:  # noqa: BLE001 - as above
        return None


FORMS = [sync_decorated, sync_block, async_decorated, async_block]


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__)
def form(request):
    return request.param


def forget(form, prepare):
    """Run `form(*prepare())`, swallowing how it ends, and say what stayed: `watch(object)`.

    Async forms run on a loop that is still there when the question is asked, since the loop's own
    end leaves cycles behind.
    """
    watched = []

    def watch(each):
        watched.append(weakref.ref(each))
        return each

    if asyncio.iscoroutinefunction(form):

        async def main():
            await form(*prepare(watch))
            return [each() for each in watched]

        return asyncio.run(main())
    form(*prepare(watch))
    return [each() for each in watched]


@pytest.mark.parametrize("failures", [0, 1, 3])
@pytest.mark.usefixtures("no_gc")
def test_arguments_are_free_once_the_call_is_over(form, failures):
    """Known fault 22: tenacity's state and exception refer to each other."""
    made = []

    def fetch(page):
        made.append(None)
        if len(made) <= failures:
            raise Lost
        return "ok"

    policy = retry(on=Lost, attempts=3, wait=0)
    assert forget(form, lambda watch: (policy, fetch, watch(Page()))) == [None]


@pytest.mark.parametrize("failures", [1, 2])
@pytest.mark.usefixtures("no_gc")
def test_exceptions_are_free_once_the_call_is_over(form, failures):
    def prepare(watch):
        made = []

        def fetch():
            made.append(None)
            if len(made) <= failures:
                raise watch(Lost())

        return retry(on=Lost, attempts=2, wait=0), fetch

    assert forget(form, prepare) == [None] * failures


@pytest.mark.usefixtures("no_gc")
def test_an_exception_raised_in_place_of_a_refusal_is_free_once_the_call_is_over(form):
    def prepare(watch):
        steps = iter([Lost, refusal, Lost, refusal, refusal])

        def fetch():
            raise watch(next(steps)())

        return retry(on=(Lost, CircuitOpenError), attempts=5, wait=0), fetch

    def refusal():
        return CircuitOpenError("breaker", None)

    assert forget(form, prepare) == [None] * 5


@pytest.mark.usefixtures("no_gc")
def test_exceptions_outside_on_are_free_once_the_call_is_over(form):
    class Other(Exception):
        """One that weak references can follow."""

    def prepare(watch):
        def fetch():
            raise watch(Other())

        return retry(on=Lost), fetch

    assert forget(form, prepare) == [None]


@pytest.mark.parametrize("form", [sync_decorated, async_decorated])
@pytest.mark.usefixtures("no_gc")
def test_a_refused_result_is_free_once_the_call_is_over(form):
    def prepare(watch):
        def fetch():
            return watch(Page())

        return retry(on=Lost, attempts=2, wait=0, on_result=lambda page: True), fetch

    assert forget(form, prepare) == [None, None]


@pytest.mark.parametrize("form", ["function", "block"])
@pytest.mark.usefixtures("no_gc")
def test_expired_attempts_are_free_once_others_follow(form):
    """But for the last one: asyncio's task holds the cancellation that it was given last."""
    watched = []

    async def attempt(clock):
        page = Page()
        watched.append(weakref.ref(page))
        if len(watched) < 4:
            clock.advance(1.0)
            await asyncio.get_running_loop().create_future()

    async def block(policy, clock):
        async for each in policy:
            with each:
                await attempt(clock)

    async def main(clock):
        policy = retry(on=Lost, attempts=4, wait=0, attempt_timeout=1.0)
        await (block(policy, clock) if form == "block" else policy(attempt)(clock))
        return [each() for each in watched]

    with FakeClock() as clock:
        assert asyncio.run(main(clock))[:2] == [None, None]


def test_a_log_record_keeps_no_exception_alive(metrics, caplog):
    watched = []

    def fetch():
        error = Lost()
        watched.append(weakref.ref(error))
        raise error

    with caplog.at_level(logging.DEBUG, logger="mainstay"):
        sync_decorated(retry(on=Lost, attempts=2, wait=0), fetch)
    gc.collect()
    assert len(caplog.records) == 2
    assert [each() for each in watched] == [None, None]


@pytest.mark.usefixtures("no_gc")
def test_sync_calls_leave_no_garbage_at_all():
    fetch = Faults([item for _ in range(50) for item in (Lost, "ok")])
    call = retry(on=Lost, wait=0)(fetch)
    call()
    gc.collect()
    for _ in range(40):
        call()
    del fetch.calls[:]
    assert gc.collect() == 0


@pytest.mark.usefixtures("no_gc")
def test_a_policy_and_its_function_are_free_when_nobody_holds_them():
    def fetch():
        return "ok"

    policy = retry(on=Lost, name="fetch")
    call = policy(fetch)
    call()
    watched = [weakref.ref(policy), weakref.ref(fetch), weakref.ref(call)]
    del policy, fetch, call
    gc.collect()
    assert [each() for each in watched] == [None] * 3


def test_nothing_mutable_hangs_on_the_function(metrics):
    def fetch():
        raise Lost

    call = retry(on=Lost, attempts=2, wait=0)(fetch)
    before = dict(vars(call))
    for _ in range(3):
        with pytest.raises(Lost):
            call()
    assert vars(call) == before
    assert before.keys() == {"__wrapped__", "__mainstay_layers__"}
    assert before["__wrapped__"] is fetch
    with pytest.raises(AttributeError):  # of an object that is frozen
        before["__mainstay_layers__"].__self__.component = "another"


# Pickling

ERRORS = [
    ResultRefusedError("fetch", {"page": 1}, 3, 1.5),
    DeadlineExpiredError("fetch"),
    UnsupportedLoopError("fetch"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickling(error, protocol):
    error.add_note("a note")
    back = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_can_be_copied(error):
    for back in (copy.copy(error), copy.deepcopy(error)):
        assert type(back) is type(error)
        assert str(back) == str(error)
        assert back.component == "fetch"


def test_errors_that_were_raised_survive_pickling(metrics):
    """Known fault 20: tenacity's RetryError holds a Future, which cannot be pickled."""
    with pytest.raises(ResultRefusedError) as refused:
        retry(on=Lost, attempts=1, on_result=lambda value: True, name="fetch").call(Faults([[1]]))
    with deadline(0), pytest.raises(DeadlineExpiredError) as expired:
        retry(on=Lost, name="fetch").call(Faults())
    back = [pickle.loads(pickle.dumps(each.value)) for each in (refused, expired)]  # noqa: S301 - our own bytes
    assert [str(each) for each in back] == [str(refused.value), str(expired.value)]
    assert back[0].result == [1]


def test_a_users_exception_with_our_note_survives_pickling(caller):
    with pytest.raises(ConnectionError) as caught:
        caller(retry(on=ConnectionError, attempts=1), Faults([ConnectionResetError(104, "reset")]))
    back = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert back.args == (104, "reset")
    assert back.__notes__ == caught.value.__notes__


@retry(on=Lost)
def decorated_at_module_level():
    """A function that workers of a process pool import by name."""
    return "ok"


def test_a_decorated_function_is_pickled_by_its_name():
    back = pickle.loads(pickle.dumps(decorated_at_module_level))  # noqa: S301 - our own bytes
    assert back is decorated_at_module_level


# Known faults of other libraries, by their numbers in the survey.


def test_no_call_leaves_anything_in_the_policy_or_its_function():
    """Known fault 9: stamina keeps a context manager for each call of a function."""
    policy = retry(on=Lost, attempts=2, wait=0)
    call = policy(Faults(then=Lost))

    def sizes():
        return len(vars(call)), len(gc.get_referents(policy)), len(gc.get_referents(call))

    before = sizes()
    for _ in range(20):
        with pytest.raises(Lost):
            call()
    assert sizes() == before
