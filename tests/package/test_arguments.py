"""What every public callable does with nonsense: it refuses it, and says which parameter it was.

A row says how to call something with one of its parameters open. Values that no parameter takes are
put there one after the other. What is right, and at the edge of it, is tested where the feature is.
"""

import asyncio
import inspect
import itertools
import math
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from mainstay import (
    Adaptive,
    Availability,
    Bulkhead,
    Checkpoint,
    CircuitBreaker,
    Detect,
    Failback,
    FailoverPool,
    HostCollector,
    Member,
    Metrics,
    Probe,
    RateLimit,
    RetryBudget,
    StoreCollector,
    checkpoint_run,
    checkpointed,
    deadline,
    fallback,
    hedge,
    on_event,
    ops,
    priority,
    recover,
    recover_async,
    redundant,
    register_type,
    remaining,
    retry,
    set_default_metrics,
    timeout,
    vote,
    young_daly,
)
from mainstay._core.arguments import (
    check_choice,
    to_count,
    to_flag,
    to_limit,
    to_number,
    to_share,
)
from mainstay.integrations.alertmanager import Receiver
from mainstay.stores import SQLiteStore, store_of
from mainstay.testing import FakeClock, Faults


class Nonsense:
    """Nothing that a parameter takes; it cannot even be compared or counted."""

    def __repr__(self):
        return "<nonsense>"


NUMBERS = [-1, -0.5, math.nan, -math.inf, -(10**400)]
STORE = "memory://arguments"


def function(*args, **kwargs):
    return True


def members():
    return [Member("a", "x"), Member("b", "y")]


def pool():
    return FailoverPool("p", members(), on=OSError)


WRAPPERS = [
    retry(on=OSError),
    pool(),
    CircuitBreaker("b", on=OSError),
    redundant(),
    checkpointed(store=STORE),
    timeout(1),
    Bulkhead("o"),
    RateLimit("m", 1),
    fallback(on=OSError, default=None),
]

keys = map(str, itertools.count())
POOL = ThreadPoolExecutor(1)  # no thread is started for calls that are refused


def iterate(**options):
    with checkpoint_run(next(keys), store=STORE) as cp:
        return list(cp.iterate(**{"source": [1], **options}))


def spread(**options):
    given = {"fn": str, "source": [1], "executor": POOL, **options}
    with checkpoint_run(next(keys), store=STORE) as cp:
        return list(cp.map(**given))


def aspread(**options):
    given = {"fn": str, "source": [1], "executor": POOL, **options}

    async def main():
        async with checkpoint_run(next(keys), store=STORE) as cp:
            return [item async for item in cp.map(**given)]

    return asyncio.run(main())


def aiterate(**options):
    async def main():
        async with checkpoint_run(next(keys), store=STORE) as cp:
            return [item async for item in cp.iterate(**{"source": [1], **options})]

    return asyncio.run(main())


def answering(**options):
    return fallback(**options)


def step(name="step", fn=function):
    with checkpoint_run(next(keys), store=STORE) as cp:
        return cp.step(name, fn)


def advance(seconds):
    with FakeClock() as clock:
        clock.advance(seconds)


TAKEN = {
    "retry": (retry, {"on": OSError}),
    "Member": (Member, {"name": "a", "open": function}),
    "FailoverPool": (FailoverPool, {"name": "p", "members": members(), "on": OSError}),
    "force": (pool().force, {"name": "a"}),
    "drain": (pool().drain, {"name": "a"}),
    "remove": (pool().remove, {"name": "a"}),
    "add": (pool().add, {"member": Member("c", "z")}),
    "Probe": (Probe, {"fn": function}),
    "Probe.promql": (Probe.promql, {"url": "http://prometheus:9090", "query": "up"}),
    "Receiver": (Receiver, {"pools": [pool()], "token": "t"}),
    "Detect": (Detect, {}),
    "Failback": (Failback, {}),
    "CircuitBreaker": (CircuitBreaker, {"name": "b", "on": OSError}),
    "redundant": (redundant, {}),
    "hedge.after": (hedge.after, {"seconds": 1}),
    "hedge.quantile": (hedge.quantile, {"q": 0.9}),
    "vote.quorum": (vote.quorum, {"k": 2}),
    "vote.majority": (vote.majority, {}),
    "vote.plurality": (vote.plurality, {}),
    "vote.unanimous": (vote.unanimous, {}),
    "vote.median": (vote.median, {}),
    "checkpointed": (lambda **options: checkpointed(**options)(function), {"store": STORE}),
    "checkpoint_run": (checkpoint_run, {"key": "k", "store": STORE}),
    "iterate": (iterate, {}),
    "async iterate": (aiterate, {}),
    "map": (spread, {}),
    "async map": (aspread, {}),
    "step": (step, {}),
    "recover": (recover, {"store": STORE}),
    "recover_async": (lambda store: asyncio.run(recover_async(store)), {"store": STORE}),
    "register_type": (register_type, {"cls": Nonsense}),
    "young_daly": (young_daly, {"mtbf": 3600}),
    "timeout": (timeout, {"seconds": 1, "in_thread": True}),
    "Bulkhead": (Bulkhead, {"name": "o"}),
    "resize": (Bulkhead("o").resize, {"limit": 1}),
    "Adaptive": (Adaptive, {}),
    "priority": (priority, {"level": "low"}),
    "RateLimit": (RateLimit, {"name": "m", "rate": 1}),
    "acquire": (RateLimit("m", 1).acquire, {"cost": 1}),
    "fallback": (answering, {"on": OSError, "last_good": 1}),
    "fallback call": (lambda call: fallback(on=OSError, call=call), {"call": function}),
    "deadline": (deadline, {"seconds": 1}),
    "remaining": (remaining, {}),
    "RetryBudget": (RetryBudget, {}),
    "Metrics": (Metrics, {"registry": None}),
    "set_default_metrics": (set_default_metrics, {"metrics": Metrics(None)}),
    "Availability": (Availability, {"name": "a"}),
    "reliability": (Availability("a").reliability, {"period": 1}),
    "reliability_linear": (Availability("a").reliability_linear, {"period": 1}),
    "over": (Availability("a").over, {"window": 1}),
    "HostCollector": (HostCollector, {}),
    "StoreCollector": (StoreCollector, {"store": STORE}),
    "on_event": (on_event, {"fn": function}),
    "rules": (ops.rules, {}),
    "dashboard": (ops.dashboard, {}),
    "SQLiteStore": (SQLiteStore, {"path": "a.db"}),
    "store_of": (store_of, {"store": STORE}),
    "FakeClock": (FakeClock, {}),
    "advance": (advance, {"seconds": 1}),
    "Faults": (Faults, {"script": ()}),
    "Faults.delay": (Faults.delay, {"seconds": 1}),
    "Faults.seeded": (Faults.seeded, {"seed": 1, "rate": 0.5}),
}

ANYTHING = {"resource", "then", "step", "result"}
"""Parameters that take whatever a program has."""

MAP_PARAMETERS = {*inspect.signature(Checkpoint.map).parameters} - {"self"}
OPTIONS = {
    "checkpointed": {*inspect.signature(checkpointed).parameters} - {"recoverable"},
    "fallback": {*inspect.signature(fallback).parameters} - {"default", "call"},
    "iterate": {"source", "key", "name"},
    "async iterate": {"source", "key", "name"},
    "map": MAP_PARAMETERS,
    "async map": MAP_PARAMETERS,
}
"""The parameters of rows that pass on what they get."""


def parameters_of(name, fn):
    known = inspect.signature(fn).parameters
    return sorted(({*known} - {"options"} | OPTIONS.get(name, set())) - ANYTHING)


PARAMETERS = [
    pytest.param(fn, given, parameter, id=f"{name}-{parameter}")
    for name, (fn, given) in TAKEN.items()
    for parameter in parameters_of(name, fn)
]


def call(fn, given, parameter, value):
    """Call with one argument changed; positional-only ones are in their places."""
    arguments = {**given, parameter: value}
    kinds = {each.name: each.kind for each in inspect.signature(fn).parameters.values()}
    first = [
        arguments.pop(name)
        for name, kind in kinds.items()
        if kind is inspect.Parameter.POSITIONAL_ONLY and name in arguments
    ]
    fn(*first, **arguments)


@pytest.mark.parametrize(("fn", "given", "parameter"), PARAMETERS)
def test_nonsense_is_refused_by_the_name_of_its_parameter(fn, given, parameter):
    with pytest.raises(
        (TypeError, ValueError), match=f"`{parameter}`.* not (.*<nonsense>|an object)"
    ):
        call(fn, given, parameter, Nonsense())


@pytest.mark.parametrize(("fn", "given", "parameter"), PARAMETERS)
def test_no_parameter_takes_a_number_that_makes_no_sense(fn, given, parameter):
    for value in (-0.5, math.nan):
        with pytest.raises(
            (TypeError, ValueError), match=f"`{parameter}`.* not (.*{value}|an object)"
        ):
            call(fn, given, parameter, value)


@pytest.mark.parametrize("policy", WRAPPERS, ids=lambda policy: type(policy).__name__)
def test_what_cannot_be_called_is_refused_before_anything_else(policy):
    with pytest.raises(TypeError, match=r"wraps callables, not (<nonsense>|an object)"):
        policy.call(Nonsense())


@pytest.mark.parametrize("take", [to_count, to_number, to_share], ids=lambda take: take.__name__)
@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: repr(value)[:8])
def test_numbers_out_of_range_are_refused_with_name_and_value(take, value):
    with pytest.raises((TypeError, ValueError), match="`it` must be ") as caught:
        take(value, "it")
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("take", [to_count, to_number, to_share], ids=lambda take: take.__name__)
@pytest.mark.parametrize("value", [None, "1", True, [1], 1j], ids=repr)
def test_what_is_no_number_is_a_type_error(take, value):
    with pytest.raises(TypeError, match=f"`it` must be a .*number, not {re.escape(repr(value))}"):
        take(value, "it")


def test_numbers_at_the_edge_are_taken():
    assert (to_count(1, "it"), to_count(10**400, "it")) == (1, 10**400)
    assert (to_number(0, "it"), to_number(5e-324, "it", zero=False)) == (0.0, 5e-324)
    assert (to_share(0, "it"), to_share(1, "it")) == (0.0, 1.0)


@pytest.mark.parametrize("value", [math.inf, 10**400], ids=["inf", "huge"])
def test_numbers_that_no_float_holds_are_out_of_range(value):
    with pytest.raises(ValueError, match="`it` must be finite and at least 0"):
        to_number(value, "it")
    with pytest.raises(ValueError, match="`it` must be from 0 to 1"):
        to_share(value, "it")


def test_zero_is_refused_where_it_makes_no_sense():
    with pytest.raises(ValueError, match="`it` must be finite and above 0, not 0"):
        to_number(0, "it", zero=False)


@pytest.mark.parametrize("value", [None, 0, 1, "no", [], math.nan], ids=repr)
def test_a_switch_is_true_or_false(value):
    assert (to_flag(True, "it"), to_flag(False, "it")) == (True, False)
    with pytest.raises(TypeError, match="`it` must be True or False, not"):
        to_flag(value, "it")


def test_no_limit_of_time_is_none():
    assert (to_limit(None, "it"), to_limit(timedelta(seconds=2), "it")) == (None, 2.0)
    with pytest.raises(ValueError, match="`it` must be finite and above 0 seconds, not 0"):
        to_limit(0, "it")


@pytest.mark.parametrize("value", ["c", "", 1, []], ids=repr)
def test_what_is_no_choice_is_refused_with_all_that_there_are(value):
    check_choice(None, "it", (None, "a", "b"))
    message = f"`it` must be None, 'a' or 'b', not {re.escape(repr(value))}"
    with pytest.raises(ValueError, match=message):
        check_choice(value, "it", (None, "a", "b"))
