"""What is in nobody's interest to read: arguments and objects of the functions that users give."""

# ruff: noqa: PLW0108 - a policy is made by the test, and not when this file is imported

import functools

import pytest

from mainstay import (
    Adaptive,
    Bulkhead,
    CircuitBreaker,
    FailoverPool,
    Member,
    Probe,
    RateLimit,
    checkpoint_run,
    checkpointed,
    failover,
    fallback,
    on_event,
    pipeline,
    redundant,
    retry,
    timeout,
    vote,
)

SECRET = "hunter2"  # noqa: S105 - that it is found nowhere is what is tested


class Client:
    """Something whose `repr` has a password."""

    def __repr__(self):
        return f"Client({SECRET})"

    def plain(self, *args):
        return args

    async def coroutine(self, *args):
        return args

    def generator(self, *args):
        yield args

    async def async_generator(self, *args):
        yield args

    def returns_coroutine(self, *args):
        return self.coroutine(*args)


def given(kind, form):
    """A function of some kind that holds a password."""
    method = getattr(Client(), kind)
    return method if form == "method" else functools.partial(method, SECRET)


def pool(**options):
    return FailoverPool("db", [Member("a", Client())], on=OSError, **options)


def in_a_race(fn):
    with redundant().race() as race:
        race.start(fn)


def items(fn):
    with checkpoint_run("night", store="memory://secrets") as cp:
        return list(cp.iterate("ab", fn))


REFUSED = {
    "retry-on_result": ("generator", lambda fn: retry(on=OSError, on_result=lambda _: True)(fn)),
    "retry-timeout": ("plain", lambda fn: retry(on=OSError, attempt_timeout=1)(fn)),
    "retry-async-on": (
        "plain",
        lambda fn: retry(on=functools.partial(Client().coroutine, SECRET))(fn),
    ),
    "retry-coroutine": ("returns_coroutine", lambda fn: retry(on=OSError)(fn)()),
    "on-generator": ("generator", lambda fn: retry(on=fn)),
    "on_result-generator": ("generator", lambda fn: retry(on=OSError, on_result=fn)),
    "wait": ("coroutine", lambda fn: retry(on=OSError, wait=fn)),
    "breaker": ("generator", lambda fn: CircuitBreaker("db", on=OSError)(fn)),
    "breaker-coroutine": (
        "returns_coroutine",
        lambda fn: CircuitBreaker("db", on=OSError).call(fn),
    ),
    "breaker-on": ("coroutine", lambda fn: CircuitBreaker("db", on=fn)),
    "breaker-on_result": (
        "coroutine",
        lambda fn: CircuitBreaker("db", on=OSError, on_result=fn),
    ),
    "failover": ("generator", lambda fn: failover(pool())(fn)),
    "failover-coroutine": ("returns_coroutine", lambda fn: pool().call(fn)),
    "pool-async": ("plain", lambda fn: pool(probe=Probe(Client().coroutine)).call(fn)),
    "pool-attempt_timeout": ("plain", lambda fn: pool(attempt_timeout=1.0)(fn)),
    "member-open": ("generator", lambda fn: Member("a", open=fn)),
    "redundant": ("generator", lambda fn: redundant()(fn)),
    "redundant-primary": ("plain", lambda fn: redundant(primary="task")(fn)),
    "redundant-alternatives": (
        "plain",
        lambda fn: redundant(alternatives=[Client().coroutine])(fn),
    ),
    "redundant-on": ("coroutine", lambda fn: redundant(on=fn)),
    "redundant-dispose": ("generator", lambda fn: redundant(dispose=fn)),
    "redundant-coroutine": ("returns_coroutine", lambda fn: redundant(budget=None).call(fn)),
    "race": ("coroutine", in_a_race),
    "vote": ("coroutine", lambda fn: vote.majority(key=fn)),
    "checkpointed": ("generator", lambda fn: checkpointed(store="memory://")(fn)),
    "iterate": ("coroutine", items),
    "timeout": ("generator", lambda fn: timeout(1.0)(fn)),
    "timeout-thread": ("coroutine", lambda fn: timeout(1.0, in_thread=True)(fn)),
    "timeout-coroutine": ("returns_coroutine", lambda fn: timeout(1.0)(fn)()),
    "bulkhead": ("generator", lambda fn: Bulkhead("db")(fn)),
    "bulkhead-coroutine": ("returns_coroutine", lambda fn: Bulkhead("db").call(fn)),
    "rate": ("generator", lambda fn: RateLimit("db", 5)(fn)),
    "rate-coroutine": ("returns_coroutine", lambda fn: RateLimit("db", 5).call(fn)),
    "overload": ("coroutine", lambda fn: Adaptive(overload=fn)),
    "fallback": ("generator", lambda fn: fallback(on=OSError, default=1)(fn)),
    "fallback-async": (
        "plain",
        lambda fn: fallback(on=OSError, call=functools.partial(Client().coroutine, SECRET))(fn),
    ),
    "fallback-key": (
        "coroutine",
        lambda fn: fallback(on=OSError, last_good=9.0, key=fn),
    ),
    "fallback-coroutine": (
        "returns_coroutine",
        lambda fn: fallback(on=OSError, default=1)(fn)(),
    ),
    "listener": ("coroutine", on_event),
}


@pytest.mark.parametrize("form", ["partial", "method"])
@pytest.mark.parametrize(("kind", "use"), REFUSED.values(), ids=REFUSED.keys())
def test_a_function_that_is_refused_is_named_without_what_it_holds(kind, use, form):
    with pytest.raises(TypeError) as caught:
        use(given(kind, form))
    assert SECRET not in str(caught.value)
    assert "Client." in str(caught.value)


HOLD = {
    "member-open": lambda fn: Member("a", open=fn),
    "member-close": lambda fn: Member("a", 1, close=fn),
    "probe": Probe,
    "adaptive": lambda fn: Adaptive(overload=fn),
    "bulkhead": lambda fn: Bulkhead("db", limit=Adaptive(overload=fn)),
    "retry-on": lambda fn: retry(on=fn),
    "retry-on_result": lambda fn: retry(on=OSError, on_result=fn, name="fetch"),
    "fallback-default": lambda _: fallback(on=OSError, default=SECRET),
    "fallback-call": lambda fn: fallback(on=OSError, call=fn, name="fetch"),
    "checkpointed": lambda fn: checkpointed(store="memory://", key=fn),
    "checkpointed-migration": lambda fn: checkpointed(
        store="memory://", on_code_change=fn, name="import"
    ),
    "breaker": lambda fn: CircuitBreaker("db", on=fn, on_result=fn),
    "redundant": lambda fn: redundant(on=fn, dispose=fn, alternatives=[fn]),
    "vote": lambda fn: vote.majority(key=fn),
    "pool": lambda fn: FailoverPool("db", [Member("a", open=fn)], on=fn, fence=fn),
}


@pytest.mark.parametrize("form", ["partial", "method"])
@pytest.mark.parametrize("make", HOLD.values(), ids=HOLD.keys())
def test_no_repr_shows_what_a_function_holds(make, form):
    assert SECRET not in repr(make(given("plain", form)))


def test_the_repr_of_a_policy_says_what_it_is_for():
    assert repr(retry(on=(OSError, KeyError))) == "<Retry: on OSError, KeyError>"
    assert repr(fallback(on=OSError, last_good=1.0, name="ask")) == (
        "<Fallback 'ask': last_good on OSError>"
    )
    assert repr(checkpointed(store="sqlite:///jobs.db", name="import")).startswith(
        "<CheckpointedFunction 'import': sqlite:///"
    )
    assert repr(timeout(1.5, in_thread=True, name="ask")) == "<Timeout 'ask': 1.5 s in a thread>"
    pool = FailoverPool("db", [Member("a", SECRET)], on=OSError)
    assert repr(pipeline("orders", timeout(2), failover(pool))) == (
        "<Pipeline 'orders' of <Timeout: 2 s>, <failover of pool 'db'>>"
    )
