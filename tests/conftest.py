"""What the tests share: sync and async callers, time under control, and metrics of their own.

A behaviour is written once, as a plain function that a policy runs in the forms of
`support.callers`; pools and breakers have forms of their own, in `support.pools`.
"""

import asyncio

import pytest

from mainstay import Metrics, default_metrics, on_event, set_default_metrics
from mainstay._checkpoint.watcher import _watchers
from mainstay._core.events import forget_firsts
from mainstay._metrics import schema
from mainstay._metrics.collector import recorders_of
from mainstay._metrics.readings import readings
from mainstay.testing import FakeClock
from support.callers import ASYNC, BLOCKS, FUNCTIONS, SYNC
from support.checkpoints import (  # noqa: F401 - fixtures for the tests of checkpoints
    crashing,
    nothing_registered,
    runner,
    store,
    url,
)
from support.executors import spreading  # noqa: F401 - a fixture, too
from support.pools import BREAKER_FORMS, POOL_FORMS, Pools, Servers, Site


def _one(numbers):
    return numbers[0]


def _count(numbers):
    return sum(numbers[:-1])


def _sum(numbers):
    return numbers[-1]


SAMPLES = {
    name: (family, number)
    for family in schema.FAMILIES
    for name, number in (
        [(f"{family.name}_count", _count), (f"{family.name}_sum", _sum)]
        if family.kind == "histogram"
        else [(family.name, _one)]
    )
}
"""By the name of a sample its family, and which of the numbers of a series the sample is."""


class Readings:
    """What a `Metrics` shows: the sum of the samples of a name that have the given labels.

    Read from where exporters read: to write all families out takes five times as long.
    """

    def __init__(self, metrics):
        self.metrics = metrics

    def __call__(self, name, **labels):
        return sum(value for found, value in self._samples(name) if labels.items() <= found.items())

    def outcomes(self):
        """How often calls ended in which way, leaving out what never happened."""
        return self._labelled("calls_total", "outcome")

    def reasons(self):
        """How often calls gave up for which reason, leaving out what never happened."""
        return self._labelled("give_ups_total", "reason")

    def errors(self):
        """How many attempts failed with which exception."""
        return self._labelled("errors_total", "error_type")

    def attempts_at(self, member):
        """How often attempts at a member of a pool ended in which way."""
        return self._labelled("member_attempts_total", "outcome", member=member)

    def states_of(self, member):
        """The states that a member of a pool is in, of which there must be one."""
        return list(self._labelled("member_state", "state", member=member))

    def _labelled(self, name, label, **wanted):
        found = {}
        for labels, value in self._samples(name):
            if value and wanted.items() <= labels.items():
                found[labels[label]] = found.get(labels[label], 0) + value
        return found

    def _samples(self, name):
        family, number = SAMPLES[name]
        for each in readings(recorders_of(self.metrics)):
            if each.family is family:
                for values, numbers in each.totals.items():
                    yield dict(zip(family.labels, values, strict=True)), number(numbers)


@pytest.fixture(autouse=True)
def nothing_said_before():
    """Let each test hear what is said only once in a process, and nothing about earlier tests.

    A run that a test has left is released when it is collected, which is logged if that fails: in
    another test, seconds later.
    """
    forget_firsts()
    for watcher in [*_watchers.values()]:
        watcher._runs.clear()
        watcher._wake_up()


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
def context(request):
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
def sync_and_async(request):
    """The forms of calling in sync or async code."""
    return request.param


@pytest.fixture(params=[*FUNCTIONS.values(), *BLOCKS.values()], ids=[*FUNCTIONS, *BLOCKS])
def caller(request, metrics):
    """Runs a plain function under a policy: `caller(policy, fn, *args)`."""
    return request.param


@pytest.fixture(params=FUNCTIONS.values(), ids=[*FUNCTIONS])
def function_caller(request, metrics):
    """As `caller`, without blocks: for what does not apply to them."""
    return request.param


@pytest.fixture
def servers():
    """Members that fail on demand."""
    return Servers()


@pytest.fixture
def site():
    """Resources that are opened and closed."""
    return Site()


@pytest.fixture(params=["sync", "async"])
def pools(request):
    """How pools are used in sync or async code."""
    if request.param == "sync":
        yield Pools()
        return
    loop = asyncio.new_event_loop()
    yield Pools(loop)
    loop.close()


@pytest.fixture(params=POOL_FORMS.values(), ids=[*POOL_FORMS])
def pool_caller(request, metrics):
    """Runs a plain function with a member's resource: `pool_caller(pool, fn, *args)`."""
    return request.param


@pytest.fixture(params=BREAKER_FORMS.values(), ids=[*BREAKER_FORMS])
def breaker_caller(request, metrics):
    """Runs a plain function through a breaker: `breaker_caller(breaker, fn, *args)`."""
    return request.param
