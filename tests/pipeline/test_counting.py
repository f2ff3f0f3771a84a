"""Whatever the layers and whatever fails: a call is one call, and a failed attempt is one error.

The oracle is the function itself, which counts how often it was called and has raised.
"""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from mainstay import (
    Bulkhead,
    CircuitBreaker,
    Detect,
    FailoverPool,
    Member,
    Metrics,
    RateLimit,
    RejectedError,
    fallback,
    pipeline,
    retry,
    timeout,
)
from mainstay.testing import FakeClock

ERRORS = {"os": OSError, "value": ValueError, "key": KeyError}
LAYERS = ("retry", "retry rejected", "breaker", "fallback", "rate", "bulkhead", "timeout", "pool")

layers = st.lists(st.sampled_from(LAYERS), min_size=1, max_size=6)
calls = st.lists(
    st.lists(st.sampled_from(["ok", "ok", *ERRORS]), min_size=1, max_size=8),
    min_size=1,
    max_size=5,
)


class Function:
    """Does what it is told, one thing after the other, and counts."""

    def __init__(self):
        self.plan = []
        self.called = 0
        self.raised = 0

    def __call__(self):
        self.called += 1
        what = self.plan.pop(0) if self.plan else "ok"
        if what == "ok":
            return what
        self.raised += 1
        raise ERRORS[what](what)


def policies_of(names, metrics):
    """Make a policy for each name; of pools there is at most one, since each gives a resource."""
    here = {"metrics": metrics}
    for place, name in enumerate(names):
        own = f"{name} {place}"
        if name == "retry":
            yield retry(on=OSError, attempts=3, wait=0.1, **here)
        elif name == "retry rejected":
            yield retry(on=(OSError, RejectedError), attempts=2, wait=0.1, **here)
        elif name == "breaker":
            yield CircuitBreaker(own, on=OSError, detect=Detect(consecutive=3), **here)
        elif name == "fallback":
            yield fallback(default="other", on=(ValueError, RejectedError), **here)
        elif name == "rate":
            yield RateLimit(own, 1.0, burst=4, **here)
        elif name == "bulkhead":
            yield Bulkhead(own, 2, **here)
        elif name == "timeout":
            yield timeout(30.0, **here)
        elif name not in names[:place]:
            yield FailoverPool(own, [Member("a", 1), Member("b", 2)], on=OSError, **here)


def run(policy, fn, *, is_async, takes_resource):
    """Call *fn* through the pipeline; return what came of it."""

    def plain(*_resource):
        return fn()

    async def coroutine(*_resource):
        return fn()

    def with_resource(_resource):
        return fn()

    async def awith_resource(_resource):
        return fn()

    if is_async:
        wrapped = policy(awith_resource if takes_resource else coroutine)
        return lambda: asyncio.run(wrapped())
    return policy(with_resource if takes_resource else plain)


def check(names, plans, *, is_async):
    metrics = Metrics(None)
    with FakeClock() as clock:
        policy = pipeline("orders", *policies_of(names, metrics), metrics=metrics)
        fn = Function()
        call = run(policy, fn, is_async=is_async, takes_resource="pool" in names)
        failed = rejected = repeated = attempts = 0
        for plan in plans:
            fn.plan = [*plan]
            before = fn.called
            try:
                call()
            except Exception as error:  # noqa: BLE001 - whatever the function raised
                failed += 1
                rejected += isinstance(error, RejectedError) and fn.called == before
            made = fn.called - before
            repeated += made > 1
            attempts += made if made > 1 else 0
            clock.advance(0.5)
        shown = readings(metrics)
    assert shown("calls_total") == len(plans)
    assert shown("calls_total", outcome="rejected") == rejected
    assert shown("calls_total", "error", "timeout", "rejected") == failed
    assert shown("call_duration_seconds_count") == len(plans) - rejected
    assert shown("call_attempts_count") == repeated
    assert shown("call_attempts_sum") == attempts
    assert shown("errors_total") == fn.raised
    assert shown("give_ups_total") <= failed


def readings(metrics):
    def shown(name, *outcomes, outcome=None):
        wanted = outcomes or ((outcome,) if outcome else None)
        return sum(
            sample.value
            for family in metrics.collect()
            for sample in family.samples
            if sample.name == f"mainstay_{name}"
            and sample.labels["component"] == "orders"
            and sample.labels.get("policy") == "pipeline"
            and (wanted is None or sample.labels["outcome"] in wanted)
        )

    return shown


@given(layers, calls)
def test_plain_functions(names, plans):
    check(names, plans, is_async=False)


@given(layers, calls)
def test_coroutines(names, plans):
    check(names, plans, is_async=True)
