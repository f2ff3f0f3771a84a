"""Differential test: the same script of failures and the same strategies, through tenacity and us.

tenacity runs with a fake sleep and patched time, mainstay on a `FakeClock`. Both must call as
often, wait as long, and end alike.
"""

import asyncio
import random
from unittest import mock

import attrs
import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay import on_event, retry
from mainstay.testing import FakeClock, recorded
from support.examples import examples


class Lost(Exception):
    """A failure."""


class Busy(Lost):
    """A special one."""


class Broken(Exception):
    """Another failure."""


@attrs.frozen
class Step:
    """What one call does: take some time, then raise an error or return."""

    seconds: float
    error: Exception | None

    def take(self, advance):
        advance(self.seconds)
        if self.error is not None:
            raise self.error
        return "ok"


@attrs.frozen
class Ending:
    """How a run ended: its calls, the waits between them, and the result or the exception."""

    calls: int
    waits: list[float]
    result: object


# Strategies

errors = st.sampled_from(
    [Lost("try again"), Lost("come back later"), Busy("too busy"), Broken("for good")]
)
times = st.sampled_from([0.0, 0.5, 1.0, 3.0, 10.0])
scripts = st.lists(st.builds(Step, times, errors | errors | st.none()), max_size=12).map(
    lambda steps: [*steps, Step(0.0, None)]
)
seconds = st.sampled_from([0, 0.25, 1, 2.5, 7, 30])
small = st.integers(1, 6)

simple_waits = st.one_of(
    st.just(tenacity.wait_none()),
    st.builds(tenacity.wait_fixed, seconds),
    st.builds(tenacity.wait_incrementing, seconds, st.sampled_from([-1, 0, 0.5, 2]), seconds),
    st.builds(
        tenacity.wait_exponential,
        multiplier=seconds,
        max=seconds,
        exp_base=st.sampled_from([1.5, 2, 3]),
        min=seconds,
    ),
    st.builds(tenacity.wait_random, st.just(0), seconds),
    st.builds(tenacity.wait_random_exponential, multiplier=seconds, max=seconds),
    st.builds(tenacity.wait_exponential_jitter, max=seconds, jitter=seconds),
    st.just(tenacity.wait_exception(lambda error: float(len(str(error))))),
)
waits = st.recursive(
    simple_waits,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda each: tenacity.wait_chain(*each)),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: tenacity.wait_combine(*each)),
        st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1]),
    ),
    max_leaves=4,
)
stops = st.recursive(
    st.one_of(
        st.builds(tenacity.stop_after_attempt, small),
        st.builds(tenacity.stop_after_delay, seconds),
        st.builds(tenacity.stop_before_delay, seconds),
        st.just(tenacity.stop_never),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] & pair[1]),
    ),
    max_leaves=3,
)
verdicts = st.recursive(
    st.one_of(
        st.builds(
            tenacity.retry_if_exception_type,
            st.sampled_from([Exception, Lost, Busy, (Busy, Broken)]),
        ),
        st.builds(tenacity.retry_if_not_exception_type, st.sampled_from([Lost, Busy, Broken])),
        st.just(tenacity.retry_if_exception(lambda error: len(str(error)) > 8)),
        st.just(tenacity.retry_if_exception_message(match="come.*|too.*")),
        st.just(tenacity.retry_if_exception_message(message="try again")),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] & pair[1]),
    ),
    max_leaves=3,
)


# The two runs


class PatchedTime:
    """Time for tenacity: what its `time.monotonic` and its `sleep` are patched with."""

    def __init__(self):
        self.now = 0.0
        self.slept = []

    def monotonic(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    async def asleep(self, seconds):
        self.sleep(seconds)


def with_tenacity(kind, script, seed, **strategies):
    time, calls = PatchedTime(), []

    def fn():
        calls.append(None)
        return script[len(calls) - 1].take(time.advance)

    async def afn():
        return fn()

    random.seed(seed)
    with mock.patch("time.monotonic", time.monotonic):
        if kind == "sync":
            run = tenacity.Retrying(reraise=True, sleep=time.sleep, **strategies)
            result = result_of(lambda: run(fn))
        else:
            run = tenacity.AsyncRetrying(reraise=True, sleep=time.asleep, **strategies)
            result = result_of(lambda: finished(run(afn)))
    return Ending(len(calls), time.slept, result)


def with_mainstay(kind, script, seed, **strategies):
    calls, slept = [], []

    def fn():
        calls.append(None)
        return script[len(calls) - 1].take(clock.advance)

    async def afn():
        return fn()

    def listen(event):
        if event.kind == "retry_scheduled":
            slept.append(event.wait)

    strategies["on"] = strategies.pop("retry")
    policy = retry(name="differential", **strategies)
    stop = on_event(listen)
    random.seed(seed)
    try:
        with FakeClock() as clock, recorded():
            if kind == "sync":
                result = result_of(policy(fn))
            else:
                result = result_of(lambda: asyncio.run(policy(afn)()))
            assert clock.now() == pytest.approx(
                sum(slept) + sum(step.seconds for step in script[: len(calls)])
            )
    finally:
        stop()
    return Ending(len(calls), slept, result)


def result_of(call):
    """Give the result of a call, or its exception, which exceptions tell by identity."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - it is what is compared
        return error


def finished(coroutine):
    """Run a coroutine that never suspends: under patched time an event loop would not work."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it suspended")


@pytest.mark.parametrize("kind", ["sync", "async"])
@given(scripts, waits, stops, verdicts, st.integers(0, 99))
@settings(max_examples=examples(60))
def test_retry_does_with_tenacitys_strategies_what_tenacity_does(
    kind, script, wait, stop, verdict, seed
):
    strategies = {"wait": wait, "stop": stop, "retry": verdict}
    expected = with_tenacity(kind, script, seed, **strategies)
    assert with_mainstay(kind, script, seed, **strategies) == expected


@given(scripts, waits, small, st.integers(0, 99))
@settings(max_examples=examples(50))
def test_attempts_is_tenacitys_stop_after_attempt(script, wait, attempts, seed):
    verdict = tenacity.retry_if_exception_type(Lost)
    expected = with_tenacity(
        "sync",
        script,
        seed,
        wait=wait,
        stop=tenacity.stop_after_attempt(attempts),
        retry=verdict,
    )
    found = with_mainstay(
        "sync", script, seed, wait=wait, attempts=attempts, timeout=None, retry=Lost
    )
    assert found == expected


@given(scripts, waits, st.sampled_from([1, 2, 5, 20, 60]), st.integers(0, 99))
@settings(max_examples=examples(50))
def test_timeout_is_tenacitys_stop_before_delay(script, wait, timeout, seed):
    verdict = tenacity.retry_if_exception_type(Lost)
    expected = with_tenacity(
        "sync", script, seed, wait=wait, stop=tenacity.stop_before_delay(timeout), retry=verdict
    )
    found = with_mainstay(
        "sync", script, seed, wait=wait, attempts=None, timeout=timeout, retry=Lost
    )
    assert found == expected
