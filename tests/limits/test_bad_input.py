"""What a limit refuses when it is made, or decorates: by name, value and range, each in one line.

More values, and all other parameters, are with each limit and in `tests/package`.
"""

import math
import re
from datetime import timedelta

import limits
import pytest
from limits.aio.storage import MemoryStorage as AsyncMemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter as AsyncMovingWindow

from mainstay import Adaptive, Bulkhead, RateLimit, fallback, retry, timeout

FINITE = "must be finite and at least 0 seconds, not"
ABOVE_0 = "must be finite and above 0 seconds, not"
WHOLE = "`limit` must be a whole number, not"
RATE = "`rate` must be finite and above 0, not"
STRATEGY = (
    "`shared` must be a strategy of limits.strategies, or of limits.aio.strategies for async code, "
    "such as SlidingWindowCounterRateLimiter(storage)"
)
EXACTLY_ONE = "exactly one of `default`, `call` and `last_good` must be given, not"


def plain(*_args):
    """Never called."""


async def a_coroutine(*_args):
    """Never called."""


def of_aio():
    return AsyncMovingWindow(AsyncMemoryStorage())


REFUSED = {
    # limits of 0, negative, NaN or infinite
    "timeout of 0": (lambda: timeout(0), f"`seconds` {ABOVE_0} 0"),
    "timeout below 0": (
        lambda: timeout(timedelta(seconds=-1)),
        f"`seconds` {ABOVE_0} datetime",
    ),
    "timeout of NaN": (lambda: timeout(math.nan), f"`seconds` {ABOVE_0} nan"),
    "timeout for ever": (lambda: timeout(math.inf), f"`seconds` {ABOVE_0} inf"),
    "no threads": (
        lambda: timeout(1, in_thread=True, threads=0),
        "`threads` must be at least 1, not 0",
    ),
    "NaN threads": (
        lambda: timeout(1, in_thread=True, threads=math.nan),
        "`threads` must be a whole number, not nan",
    ),
    "threads without in_thread": (
        lambda: timeout(1, threads=3),
        "`threads` belongs to `in_thread=True`",
    ),
    "bulkhead of 0": (lambda: Bulkhead("o", 0), "`limit` must be at least 1, not 0"),
    "bulkhead below 0": (lambda: Bulkhead("o", -1), "`limit` must be at least 1, not -1"),
    "bulkhead of NaN": (lambda: Bulkhead("o", math.nan), f"{WHOLE} nan"),
    "endless bulkhead": (
        lambda: Bulkhead("o", math.inf),
        f"{WHOLE} inf",
    ),
    "resize to 0": (lambda: Bulkhead("o").resize(0), "`limit` must be at least 1, not 0"),
    "wait below 0": (lambda: Bulkhead("o", max_wait=-0.1), f"`max_wait` {FINITE} -0.1"),
    "wait of NaN": (lambda: Bulkhead("o", max_wait=math.nan), f"`max_wait` {FINITE} nan"),
    "wait for ever": (lambda: Bulkhead("o", max_wait=math.inf), f"`max_wait` {FINITE} inf"),
    "rate of 0": (lambda: RateLimit("m", 0), f"{RATE} 0"),
    "rate below 0": (lambda: RateLimit("m", -2), f"{RATE} -2"),
    "rate of NaN": (lambda: RateLimit("m", math.nan), f"{RATE} nan"),
    "endless rate": (
        lambda: RateLimit("m", math.inf),
        f"{RATE} inf",
    ),
    "per 0 s": (lambda: RateLimit("m", 1, per=0), f"`per` {ABOVE_0} 0"),
    "turn wait of NaN": (lambda: RateLimit("m", 1, max_wait=math.nan), f"`max_wait` {FINITE} nan"),
    "age of 0": (lambda: fallback(on=OSError, last_good=0), f"`last_good` {ABOVE_0} 0"),
    "age of NaN": (lambda: fallback(on=OSError, last_good=math.nan), f"`last_good` {ABOVE_0} nan"),
    "endless age": (lambda: fallback(on=OSError, last_good=math.inf), f"`last_good` {ABOVE_0} inf"),
    "no keys": (
        lambda: fallback(on=OSError, last_good=1, keep=0),
        "`keep` must be at least 1, not 0",
    ),
    # at_least > at_most
    "at least 9, at most 8": (
        lambda: Adaptive(at_least=9, at_most=8),
        "`at_most` must be at least `at_least`, which is 9, not 8",
    ),
    "at least 0": (lambda: Adaptive(at_least=0), "`at_least` must be at least 1, not 0"),
    "at most NaN": (
        lambda: Adaptive(at_most=math.nan),
        "`at_most` must be a whole number, not nan",
    ),
    "initial above": (
        lambda: Adaptive(initial=21, at_most=20),
        "`initial` must be from `at_least` to `at_most`, 1 to 20, not 21",
    ),
    "resize of an adaptive one": (
        lambda: Bulkhead("o", Adaptive()).resize(3),
        "give it `at_least` and `at_most` instead of 3",
    ),
    # burst below 1
    "burst of 0": (lambda: RateLimit("m", 1, burst=0), "`burst` must be at least 1, not 0"),
    "burst below 1": (lambda: RateLimit("m", 1, burst=0.9), "`burst` must be at least 1, not 0.9"),
    "burst of NaN": (lambda: RateLimit("m", 1, burst=math.nan), "`burst` must be"),
    # more than one of default, call, last_good
    "no fallback": (lambda: fallback(on=OSError), f"{EXACTLY_ONE} none"),
    "two fallbacks": (
        lambda: fallback(on=OSError, default=1, call=plain),
        f"{EXACTLY_ONE} `default` and `call`",
    ),
    "three fallbacks": (
        lambda: fallback(on=OSError, default=None, call=plain, last_good=1),
        f"{EXACTLY_ONE} `default` and `call` and `last_good`",
    ),
    # last_good without a key where arguments cannot be one
    "arguments that are no key": (
        lambda: fallback(on=OSError, last_good=1, name="fetch")(plain)([1]),
        "fetch: the arguments cannot be told apart (unhashable type: 'list'); give `key=`",
    ),
    "a key that is none": (
        lambda: fallback(on=OSError, last_good=1, key=dict, name="fetch")(plain)(()),
        "cannot be told apart (unhashable type: 'dict'); give `key=`",
    ),
    "key of a default": (
        lambda: fallback(on=OSError, default=1, key=plain),
        "`key` belongs to `last_good`",
    ),
    # an async-only policy on def, and the other way round
    "attempt_timeout on def": (
        lambda: retry(on=OSError, attempt_timeout=1)(plain),
        "`attempt_timeout`",
    ),
    "async fallback on def": (
        lambda: fallback(on=OSError, call=a_coroutine)(plain),
        "`call` is async and",
    ),
    "async store on def": (
        lambda: RateLimit("m", 1, shared=of_aio())(plain),
        "where `shared` must be of limits.strategies",
    ),
    "in_thread on async def": (
        lambda: timeout(1, in_thread=True)(a_coroutine),
        "`in_thread` is for plain functions",
    ),
    # a shared that is no strategy
    "shared that is a url": (
        lambda: RateLimit("m", 1, shared="redis://"),
        f"{STRATEGY}, not an object of type str",
    ),
    "shared that is a store": (
        lambda: RateLimit("m", 1, shared=limits.storage.MemoryStorage()),
        f"{STRATEGY}, not an object of type MemoryStorage",
    ),
    "shared that is a class": (
        lambda: RateLimit("m", 1, shared=limits.strategies.MovingWindowRateLimiter),
        f"{STRATEGY}, not the class MovingWindowRateLimiter",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=[*REFUSED])
def test_it_is_refused_when_it_is_made(make, message, metrics):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        make()
    assert metrics("calls_total", outcome="success") == 0
