"""What policies come to at worst, by hand; and what `explain` warns of, each with a silent case."""

import functools
import math

import pytest

from mainstay import (
    Bulkhead,
    CircuitBreaker,
    FailoverPool,
    Member,
    RateLimit,
    RejectedError,
    explain,
    fallback,
    hedge,
    pipeline,
    redundant,
    retry,
    timeout,
)

TAKES = 2.0


def call(*args):
    raise ConnectionError(*args)


async def acall(*args):
    raise ConnectionError(*args)


def charge(*, idempotency_key):
    return idempotency_key


def stack(*policies, fn=call):
    for policy in reversed(policies):
        fn = policy(fn)
    return fn


def worst(*policies, fn=call, takes=TAKES):
    explanation = explain(stack(*policies, fn=fn), call_takes=takes)
    return explanation.worst_seconds, explanation.worst_calls, explanation.places


def again(attempts=3, *, on=ConnectionError, wait=1.0, **others):
    return retry(on=on, attempts=attempts, wait=wait, name="again", **others)


def breaker():
    return CircuitBreaker("breaker", on=ConnectionError)


def bulkhead(**others):
    return Bulkhead("bulkhead", 4, **others)


def pool(members=3, **others):
    everyone = [Member(str(each), each) for each in range(members)]
    return FailoverPool("pool", everyone, on=ConnectionError, **others)


def codes(*policies, fn=call, takes=TAKES):
    return [each.code for each in explain(stack(*policies, fn=fn), call_takes=takes).warnings]


# The figures.

FIGURES = {
    "a function": ((), 2.0, 1, 0),
    "a retry": ((again(),), 3 * 2 + 2 * 1, 3, 0),
    "its timeout, and one attempt": ((again(9, timeout=5.0),), 5 + 2, 9, 0),
    "default waits": ((again(5, wait=None),), 5 * 2 + 0.1 + 0.2 + 0.4 + 0.8, 5, 0),
    "a wait that a predicate asks for": ((again(3, on=lambda _: True),), 60 + 2, 3, 0),
    "a wait that a refusal asks for": ((again(3, on=Exception),), 60 + 2, 3, 0),
    "one attempt waits for nothing": ((again(1, on=Exception),), 2.0, 1, 0),
    "a strategy": ((again(3, wait=lambda _: 1.0, timeout=9.0),), 9 + 2, 3, 0),
    "retry in retry": ((again(), again()), 3 * 8 + 2, 9, 0),
    "a pool": ((pool(3),), 3 * 2, 3, 0),
    "a pool of fewer attempts": ((pool(3, attempts=2),), 2 * 2, 2, 0),
    "a pool with a timeout": ((pool(3, timeout=3.0),), 3 + 2, 3, 0),
    "copies": ((redundant(copies=3),), 3 * 2, 3, 0),
    "copies in bulkheads": ((redundant(copies=3), bulkhead()), 3 * 2, 3, 3),
    "copies that end": ((redundant(copies=3, timeout=1.0),), 1 + 2, 3, 0),
    "a breaker": ((breaker(),), 2.0, 1, 0),
    "a bulkhead": ((bulkhead(max_wait=0.5),), 2.5, 1, 1),
    "two bulkheads": ((bulkhead(), bulkhead(max_wait=0.5)), 2.5, 1, 2),
    "a rate limit": ((RateLimit("rate", 1, max_wait=0.5),), 2.5, 1, 0),
    "a fallback": ((fallback(on=OSError, default=0),), 2.0, 1, 0),
    "a timeout that is told": ((timeout(3.0), again()), 3 + 2, 3, 0),
    "a thread that is left": ((timeout(3.0, in_thread=True), again()), 3.0, 3, 0),
    "one in a timeout": ((timeout(3.0), timeout(1.0, in_thread=True)), 1.0, 1, 0),
    "a thread in a retry in a timeout": (
        (timeout(3.0), again(9), timeout(1.0, in_thread=True)),
        3.0,
        9,
        0,
    ),
}


@pytest.mark.parametrize(
    ("policies", "seconds", "calls", "places"), FIGURES.values(), ids=FIGURES.keys()
)
def test_the_worst_is_what_it_is_by_hand(policies, seconds, calls, places):
    assert worst(*policies) == (pytest.approx(seconds), calls, places)


FIGURES_OF_ASYNC = {
    "a timeout interrupts": ((timeout(3.0), again()), 3.0, 3),
    "an attempt that is interrupted": ((again(attempt_timeout=0.5),), 3 * 0.5 + 2, 3),
    "a call whose attempts are": ((again(9, attempt_timeout=2, timeout=5.0),), 5.0, 9),
    "copies that are cancelled": ((redundant(copies=3, timeout=1.0),), 1.0, 3),
}


@pytest.mark.parametrize(
    ("policies", "seconds", "calls"), FIGURES_OF_ASYNC.values(), ids=FIGURES_OF_ASYNC.keys()
)
def test_async_code_is_interrupted(policies, seconds, calls):
    assert worst(*policies, fn=acall)[:2] == (pytest.approx(seconds), calls)


@pytest.mark.parametrize(
    ("policies", "seconds", "calls", "places"),
    [figures for figures in FIGURES.values() if figures[0]],
    ids=[name for name, figures in FIGURES.items() if figures[0]],
)
def test_a_pipeline_comes_to_what_its_policies_do(policies, seconds, calls, places):
    policy = pipeline("all", *policies)
    for what in (policy, policy(call)):
        explanation = explain(what, call_takes=TAKES)
        assert explanation.worst_seconds == pytest.approx(seconds)
        assert (explanation.worst_calls, explanation.places) == (calls, places)


def test_a_pipeline_of_a_coroutine_function_is_interrupted():
    policy = pipeline("all", timeout(3.0), again())
    assert explain(policy(acall), call_takes=TAKES).worst_seconds == 3.0
    assert explain(policy, call_takes=TAKES).worst_seconds == 5.0  # as for a `def`


def test_a_pipeline_for_async_functions_only_is_explained_too():
    policy = pipeline("all", again(attempt_timeout=0.5))
    assert explain(policy, call_takes=TAKES).worst_seconds == 3 * 0.5 + 2


def test_a_pipeline_is_one_layer_after_another_in_a_stack():
    inside = pipeline("inside", again(), breaker())
    assert worst(again(2), inside) == worst(again(2), again(), breaker())
    assert str(explain(inside, call_takes=TAKES)).splitlines()[:3] == [
        "retry again: at most 8 s, 3 calls",
        "  breaker breaker: at most 2 s, 1 call",
        "    the function: at most 2 s, 1 call",
    ]


def test_explaining_a_pipeline_makes_no_series(metrics):
    explain(pipeline("all", again(), metrics=metrics.metrics))
    families = metrics.metrics.collect()
    assert "all" not in {each.labels.get("component") for f in families for each in f.samples}


def test_members_that_came_later_count():
    members = pool(1)
    decorated = members(call)
    members.add(Member("another", 1))
    assert explain(decorated, call_takes=1).worst_calls == 2


def test_a_fallback_adds_the_time_of_its_own_function():
    def slow(error, *args):
        return error, args

    limited = fallback(on=OSError, call=timeout(0.5, in_thread=True)(slow))
    assert worst(limited)[0] == 2.5
    endless = fallback(on=OSError, call=slow)
    assert worst(endless)[0] == math.inf
    (warning,) = explain(endless(call), call_takes=TAKES).warnings
    assert "what its `call` takes is not known" in warning.text


def test_decorators_of_others_are_passed_through():
    def others(fn):
        @functools.wraps(fn)
        def wrapper(*args):
            return fn(*args)

        return wrapper

    decorated = again()(others(others(again(2)(call))))
    assert explain(others(decorated), call_takes=TAKES).worst_calls == 6
    assert explain(functools.partial(decorated, 1), call_takes=TAKES).worst_calls == 6


def test_methods_are_explained():
    class Client:
        @again()
        def get(self):
            return self

    assert explain(Client().get, call_takes=1).worst_calls == 3
    assert explain(Client.get, call_takes=1).worst_calls == 3


def test_a_tree_has_a_line_for_each_layer():
    decorated = stack(redundant(copies=2, name="twice"), bulkhead(), fn=call)
    assert str(explain(decorated, call_takes=TAKES)).splitlines()[:3] == [
        "redundant twice: at most 4 s, 2 calls, 2 places",
        "  bulkhead bulkhead: at most 2 s, 1 call",
        "    call: at most 2 s, 1 call",
    ]


@pytest.mark.parametrize(
    ("what", "takes", "error", "text"),
    [
        (3, None, TypeError, "`what` must be"),
        (retry(on=OSError), None, TypeError, "not <Retry: on OSError>"),
        (CircuitBreaker("api", on=OSError), None, TypeError, "not <CircuitBreaker 'api'"),
        (call, -1, ValueError, "`call_takes`"),
        (call, math.nan, ValueError, "`call_takes`"),
        (call, math.inf, ValueError, "`call_takes`"),
        (call, "2", TypeError, "`call_takes`"),
    ],
)
def test_bad_input_is_refused(what, takes, error, text):
    with pytest.raises(error, match=text):
        explain(what, call_takes=takes)


# The warnings.

HEDGE = redundant(copies=2, start=hedge.after(0.1))
WARNED = {
    "no limit of time": ("W0", (again(),), {"takes": None}),
    "no limit of attempts": ("W0", (retry(on=OSError, attempts=None),), {}),
    "retry in retry": ("W1", (again(4), again(3)), {}),
    "breaker around retry": ("W2", (breaker(), again()), {}),
    "refusals are not looked at": ("W2", (again(), breaker()), {}),
    "bulkhead around retry": ("W3", (bulkhead(), again()), {}),
    "rate limit around retry": ("W3", (RateLimit("rate", 1), again()), {}),
    "fallback inside": ("W4", (again(), fallback(on=OSError, default=0)), {}),
    "too short for a second attempt": ("W5", (timeout(2.5), again()), {}),
    "a hedge": ("W6", (HEDGE,), {}),
    "too short for all": ("W7", (timeout(4.0), again()), {}),
    "a thread for nothing": ("W8", (timeout(3.0, in_thread=True),), {}),
}
SILENT = {
    "a limit of time": ("W0", (timeout(1.0, in_thread=True), again()), {"takes": None}),
    "few calls": ("W1", (again(3), again(3)), {}),
    "attempts of one retry": ("W1", (again(4, nested="once"), again(3)), {}),
    "breaker inside": ("W2", (again(on=(ConnectionError, RejectedError)), breaker()), {}),
    "bulkhead inside": ("W3", (again(), bulkhead(), RateLimit("rate", 1)), {}),
    "fallback around": ("W4", (fallback(on=OSError, default=0), again()), {}),
    "long enough for a second attempt": ("W5", (timeout(3.5), again()), {}),
    "one attempt": ("W5", (timeout(1.0), again(1)), {}),
    "a hedge with a key": ("W6", (HEDGE,), {"fn": charge}),
    "long enough for all": ("W7", (timeout(8.0), again()), {}),
    "a thread that ends something": ("W8", (timeout(1.0, in_thread=True),), {}),
}


@pytest.mark.parametrize(("code", "policies", "how"), WARNED.values(), ids=WARNED.keys())
def test_a_mistake_is_warned_of(code, policies, how):
    assert code in codes(*policies, **how)


@pytest.mark.parametrize(("code", "policies", "how"), SILENT.values(), ids=SILENT.keys())
def test_what_is_well_is_not_warned_of(code, policies, how):
    assert code not in codes(*policies, **how)


def test_the_order_of_the_page_has_no_warning():
    named = (ConnectionError, RejectedError)
    order = (
        fallback(on=named, default=None),
        timeout(70.0),
        retry(on=named, attempts=3, timeout=30.0),
        breaker(),
        RateLimit("rate", 10),
        bulkhead(),
        timeout(1.0, in_thread=True),
    )
    assert codes(*order) == []


@pytest.mark.parametrize(
    ("policies", "layer"),
    [
        ((breaker(), again(None, timeout=None), timeout(1.0, in_thread=True)), "retry again"),
        ((again(), pool(when_all_down="wait")), "failover pool"),
        ((again(), breaker()), "call"),
    ],
)
def test_a_warning_names_the_layer_that_has_no_limit(policies, layer):
    explanation = explain(stack(*policies), call_takes=None if layer == "call" else TAKES)
    assert explanation.worst_seconds == math.inf
    assert next(each.layer for each in explanation.warnings if each.code == "W0") == layer


@pytest.mark.parametrize(
    ("policies", "what_to_do"),
    [
        ((again(),), "or put a `timeout` around it"),
        ((again(), timeout(1.0)), "or give its `timeout` `in_thread=True`"),
    ],
)
def test_what_to_do_about_no_limit_is_not_what_is_there_already(policies, what_to_do):
    (warning,) = explain(stack(*policies)).warnings
    assert warning.text.endswith(what_to_do)


def test_a_stop_of_the_users_own_is_no_limit_that_can_be_told():
    texts = [
        each.text for each in explain(again(None, stop=lambda _: True)(call), call_takes=1).warnings
    ]
    assert len(texts) == 2
    assert all("what its `stop` comes to cannot be told" in text for text in texts)
