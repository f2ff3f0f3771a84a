"""The known faults of other limits: a test for each, by its number in the survey.

Here are those that no limit has for itself. All others stand with what they are about, and
`FAULTS` says of each that it has a test.
"""

import asyncio
import re
from pathlib import Path

import pytest

from mainstay import (
    Bulkhead,
    BulkheadFullError,
    RateLimit,
    TimedOutError,
    fallback,
    timeout,
)
from mainstay.testing import Faults
from support.bulkheads import Inside
from support.callers import ASYNC, SYNC, awaitable

FAULTS = {
    # timeout
    1: "context variables are lost in the thread",
    2: "threads without bound",
    3: "injected exceptions leave locks locked",
    4: "the process-wide ctypes function is changed",
    5: "SIGALRM: an inner limit turns the outer one off",
    6: "the error is no TimeoutError",
    7: "the user's own TimeoutError is taken for the limit's",
    8: "around a retry the real error is lost",
    9: "threads hold the end of the process",
    10: "another task",
    # bulkhead
    11: "a limit per event loop",
    12: "sync and async counted apart",
    13: "a place is lost",
    14: "lowering the limit blocks everybody",
    15: "threads starve",
    16: "only gauges",
    17: "metrics registered twice",
    18: "a place held while an inner retry waits",
    # adaptive limit
    19: "too few samples",
    20: "a minimum of 20",
    21: "the baseline learns the overload",
    22: "a tail is taken for overload",
    23: "a limit that grows although nobody needs it",
    24: "a start that is too slow, or overshoots",
    26: "blind to a slow dependency",
    # rate limit
    27: "the wall clock",
    28: "twice the rate at the edge of a window",
    29: "one that wants several is never served",
    30: "waiting blocks the event loop",
    31: "outside of the retry",
    32: "costs that grow with the limit",
    33: "per process",
    34: "the store is gone",
    # fallback
    35: "keys by repr",
    36: "keys that fail leave something",
    37: "keys that keep instances alive",
    38: "the stored object is handed out",
    40: "an async fallback is not awaited",
    41: "a fallback that fails hides the error",
    42: "a stale answer without age and mark",
    # all of them
    43: "counted twice",
    44: "labels without bound",
    45: "calls that fail have no duration, and one label is of two functions",
    46: "retries in retries",
    51: "a changed setting forgets the state",
    52: "a limit that starts again at every read",
}
"""Left out: 25 and 39, of what is not here, and 47 to 50 and 53, which are about clients, servers
and health."""

TESTS = Path(__file__).parents[1]


def test_each_known_fault_has_a_test_that_is_named_after_it():
    named = set()
    for path in TESTS.rglob("test_*.py"):
        for numbers, _ in re.findall(r"^ *def test((_t\d+)+)_", path.read_text(), re.MULTILINE):
            named |= {int(each) for each in re.findall(r"\d+", numbers)}
    assert FAULTS.keys() - named == set()


class Limits:
    """Each limit once, around a plain function, for sync or async code."""

    def __init__(self, forms):
        self.forms = forms

    def around(self, fn):
        """Give the decorated functions by the name of the policy, to be called often."""
        policies = {
            "timeout": timeout(60.0),
            "bulkhead": Bulkhead("fetch", limit=2),
            "rate_limit": RateLimit("fetch", 1e6, burst=1000),
            "fallback": fallback(on=ZeroDivisionError, last_good=60.0),
        }
        return {name: self.wrapped(policy, fn) for name, policy in policies.items()}

    def wrapped(self, policy, fn):
        if self.forms is SYNC:
            return policy(fn)
        wrapped = policy(awaitable(fn))
        return lambda *args: asyncio.run(wrapped(*args))


@pytest.fixture(params=[SYNC, ASYNC], ids=["sync", "async"])
def limits(request, metrics):
    """Wraps functions in limits."""
    return Limits(request.param)


def test_t43_a_failed_call_is_one_call_of_each_limit_and_one_error_of_an_attempt(limits, metrics):
    """Known fault T43: a breaker counts twice what the time limiter in it ended."""
    fetch = timeout(60.0, name="fetch")(Faults(then=ConnectionError()))
    if limits.forms is ASYNC:
        fetch = timeout(60.0, name="fetch")(awaitable(Faults(then=ConnectionError())))
    bulkhead, rate = Bulkhead("fetch"), RateLimit("fetch", 1)
    wrapped = rate(bulkhead(fetch))
    with pytest.raises(ConnectionError):
        wrapped() if limits.forms is SYNC else asyncio.run(wrapped())
    for policy in ("timeout", "bulkhead", "rate_limit"):
        assert metrics("calls_total", policy=policy, component="fetch") == 1
        assert metrics("calls_total", policy=policy, outcome="error") == 1
    assert metrics.errors() == {"ConnectionError": 1}


def test_t44_no_argument_and_no_key_is_a_label(limits, metrics):
    """Known fault T44: the path of a request is a label, and each user a series."""
    wrapped = limits.around(lambda user: user)

    def series():
        return {
            (sample.name, *sorted(sample.labels.items()))
            for family in metrics.metrics.collect()
            for sample in family.samples
        }

    for call in wrapped.values():
        call("user-0")
    before = series()
    for number in range(1, 30):
        for call in wrapped.values():
            call(f"user-{number}")
    assert series() == before
    assert not [labels for labels in before if "user-" in str(labels)]


def test_t45_calls_that_fail_have_a_duration(limits, metrics, clock):
    """Known fault T45: calls that failed wrote events, but no duration."""

    def fails():
        clock.advance(2.0)
        raise ConnectionError

    for name, call in limits.around(fails).items():
        with pytest.raises(ConnectionError):
            call()
        assert metrics("call_duration_seconds_count", policy=name) == 1
        assert metrics("call_duration_seconds_sum", policy=name) == 2.0


def test_t45_functions_of_one_name_are_two_components(metrics):
    """Known fault T45: `get` of two clients is one series."""

    class Orders:
        @timeout(1.0)
        def get(self):
            return 1

    class Users:
        @timeout(1.0)
        def get(self):
            return 2

    assert (Orders().get(), Users().get()) == (1, 2)
    module = f"{__name__}.test_t45_functions_of_one_name_are_two_components.<locals>"
    for name in ("Orders", "Users"):
        assert metrics("calls_total", component=f"{module}.{name}.get") == 1


def test_t51_another_limit_keeps_what_was_learned_and_who_is_inside(limits, metrics, clock):
    """Known fault T51: a changed setting is a new object, with nothing in it."""
    bulkhead = Bulkhead("fetch", limit=1)
    call = limits.wrapped(bulkhead, clock.advance)
    call(4.0)
    with Inside(bulkhead):
        bulkhead.resize(2)
        assert bulkhead.in_flight == 1
        call(4.0)
        bulkhead.resize(1)
        with pytest.raises(BulkheadFullError) as caught:
            call(0.0)
    assert caught.value.retry_after == 4.0  # of the two calls
    assert call(1.0) is None  # through the function that was wrapped before
    assert metrics("calls_total", policy="bulkhead", outcome="success") == 4


def test_t52_what_comes_in_drips_is_left_at_the_end_of_the_time(limits, metrics, clock):
    """Known fault T52: a byte every 0.1 s held a call for 1.9 s, where 0.3 s were given."""

    def drips():
        for _ in range(20):
            clock.sleep(0.1)

    async def drips_in_a_task():
        for _ in range(20):
            await clock.asleep(0.1)

    def read():
        if limits.forms is SYNC:
            timeout(0.3, in_thread=True).call(drips)
        else:
            asyncio.run(timeout(0.3)(drips_in_a_task)())

    with pytest.raises(TimedOutError):
        read()
    assert clock.now() == pytest.approx(0.3)
