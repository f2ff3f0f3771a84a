"""What the tests share: callers of both colours, time under control, and metrics of their own.

A behaviour is written once, as a plain function that a policy runs. A caller runs it in one
colour and one form: decorated, through `.call`, or in a block.
"""

import asyncio

import pytest
import uvloop

from mainstay import Metrics, default_metrics, on_event, set_default_metrics
from mainstay.testing import FakeClock


class Sync:
    """Runs plain functions as they are."""

    colour = "sync"

    def decorated(self, policy, fn, *args, **kwargs):
        return policy(fn)(*args, **kwargs)

    def called(self, policy, fn, *args, **kwargs):
        return policy.call(fn, *args, **kwargs)

    def block(self, policy, fn, *args, **kwargs):
        for attempt in policy:
            with attempt:
                return fn(*args, **kwargs)
        raise AssertionError("a block ends with a result or an exception")

    def items(self, policy, fn, *args):
        return list(policy(fn)(*args))


class Async:
    """Runs plain functions as `async def`, on an event loop of their own."""

    colour = "async"

    def __init__(self, run=asyncio.run):
        self._run = run

    def decorated(self, policy, fn, *args, **kwargs):
        return self._run(policy(_awaitable(fn))(*args, **kwargs))

    def called(self, policy, fn, *args, **kwargs):
        async def main():
            return await policy.call(_awaitable(fn), *args, **kwargs)

        return self._run(main())

    def block(self, policy, fn, *args, **kwargs):
        async def main():
            async for attempt in policy:
                with attempt:
                    return fn(*args, **kwargs)
            raise AssertionError("a block ends with a result or an exception")

        return self._run(main())

    def items(self, policy, fn, *args):
        async def source(*args):
            for item in fn(*args):
                yield item

        async def main():
            return [item async for item in policy(source)(*args)]

        return self._run(main())


def _awaitable(fn):
    async def awaitable(*args, **kwargs):
        return fn(*args, **kwargs)

    return awaitable


SYNC, ASYNC, UVLOOP = Sync(), Async(), Async(uvloop.run)
FUNCTIONS = {
    "sync-decorated": SYNC.decorated,
    "sync-called": SYNC.called,
    "async-decorated": ASYNC.decorated,
    "uvloop-decorated": UVLOOP.decorated,
}
BLOCKS = {"sync-block": SYNC.block, "async-block": ASYNC.block}


class Readings:
    """What a `Metrics` shows: the sum of the samples of a name that have the given labels."""

    def __init__(self, metrics):
        self.metrics = metrics

    def __call__(self, name, **labels):
        return sum(
            sample.value
            for family in self.metrics.collect()
            for sample in family.samples
            if sample.name == f"mainstay_{name}" and labels.items() <= sample.labels.items()
        )

    def outcomes(self):
        """How often calls ended in which way, leaving out what never happened."""
        return self._labelled("mainstay_calls_total", "outcome")

    def reasons(self):
        """How often calls gave up for which reason, leaving out what never happened."""
        return self._labelled("mainstay_give_ups_total", "reason")

    def errors(self):
        """How many attempts failed with which exception."""
        return self._labelled("mainstay_errors_total", "error_type")

    def _labelled(self, name, label):
        found = {}
        for family in self.metrics.collect():
            for sample in family.samples:
                if sample.name == name and sample.value:
                    key = sample.labels[label]
                    found[key] = found.get(key, 0) + sample.value
        return found


@pytest.fixture
def metrics():
    """Metrics of the test's own, which policies made without `metrics=` record into.

    Unlike `mainstay.testing.recorded` it leaves the context empty, so that calls take the same
    path as in production.
    """
    before = default_metrics()
    mine = Metrics(None)
    set_default_metrics(mine)
    yield Readings(mine)
    set_default_metrics(before)


@pytest.fixture
def clock():
    """The `FakeClock` that the test runs on."""
    with FakeClock() as clock:
        yield clock


@pytest.fixture
def waits():
    """The waits of all retries that were scheduled."""
    found = []

    def listen(event):
        if event.kind == "retry_scheduled":
            found.append(event.wait)

    stop = on_event(listen)
    yield found
    stop()


@pytest.fixture(params=["bare", "on a clock"])
def surroundings(request):
    """Nothing around the calls, or a clock: two ways through the loops that must not differ."""
    if request.param == "bare":
        yield
        return
    with FakeClock():
        yield


@pytest.fixture
def sync():
    """The forms of calling in sync code."""
    return SYNC


@pytest.fixture(scope="session", params=[SYNC, ASYNC], ids=["sync", "async"])
def colour(request):
    """The forms of calling in one colour."""
    return request.param


@pytest.fixture(params=[*FUNCTIONS.values(), *BLOCKS.values()], ids=[*FUNCTIONS, *BLOCKS])
def caller(request, metrics):
    """Runs a plain function under a policy: `caller(policy, fn, *args)`."""
    return request.param


@pytest.fixture(params=FUNCTIONS.values(), ids=[*FUNCTIONS])
def function_caller(request, metrics):
    """As `caller`, without blocks: for what does not apply to them."""
    return request.param
