"""Rate limits that many processes share: the strategies of `limits`, in memory and in Redis."""

import asyncio
import logging
import threading
import time

import limits
import limits.aio
import limits.aio.strategies
import limits.storage
import limits.strategies
import pytest

from mainstay import DeadlineExpiredError, RateLimit, RateLimitedError, deadline
from mainstay._core import workers
from mainstay._limits.shared_turns import MOST_HUNG, SharedTurns
from mainstay.testing import FakeClock
from support.callers import ASYNC, SYNC
from support.rates import in_async_block

SYNC_STRATEGIES = [
    limits.strategies.FixedWindowRateLimiter,
    limits.strategies.MovingWindowRateLimiter,
    limits.strategies.SlidingWindowCounterRateLimiter,
]
ASYNC_STRATEGIES = [
    limits.aio.strategies.FixedWindowRateLimiter,
    limits.aio.strategies.MovingWindowRateLimiter,
    limits.aio.strategies.SlidingWindowCounterRateLimiter,
]


class Broken(Exception):
    """What a client raises whose server is away."""


class Away(limits.strategies.FixedWindowRateLimiter):
    """A strategy whose store fails."""

    def hit(self, item, *identifiers, cost=1):
        raise Broken("connection refused")


class AsyncAway(limits.aio.strategies.FixedWindowRateLimiter):
    async def hit(self, item, *identifiers, cost=1):
        raise Broken("connection refused")


class Hangs(limits.strategies.FixedWindowRateLimiter):
    """A strategy whose store does not answer until it is told to."""

    def __init__(self, storage):
        super().__init__(storage)
        self.answers = threading.Event()

    def hit(self, item, *identifiers, cost=1):
        self.answers.wait()
        return super().hit(item, *identifiers, cost=cost)


class AsyncHangs(limits.aio.strategies.FixedWindowRateLimiter):
    async def hit(self, item, *identifiers, cost=1):
        await asyncio.Event().wait()


class Colour:
    """Strategies, and how what they limit is called, in one kind of code."""

    def __init__(self, kind):
        self.kind = kind
        self.call = (SYNC if kind == "sync" else ASYNC).called
        self.block = SYNC.guarded if kind == "sync" else in_async_block
        self.strategies = SYNC_STRATEGIES if kind == "sync" else ASYNC_STRATEGIES

    def strategy(self, number=0):
        return self.made(self.strategies[number])

    def made(self, of_sync, of_async=None):
        if self.kind == "sync":
            return of_sync(limits.storage.MemoryStorage())
        return (of_async or of_sync)(limits.aio.storage.MemoryStorage())


@pytest.fixture(params=["sync", "async"])
def colour(request, metrics):
    return Colour(request.param)


@pytest.fixture
def impatient(monkeypatch):
    """Wait for a store for a moment only."""
    monkeypatch.setattr(SharedTurns, "patience", 0.01)


@pytest.mark.parametrize("number", range(3))
def test_the_strategy_decides(colour, metrics, number):
    limit = RateLimit("mail", 3, per=3600, shared=colour.strategy(number))
    assert [colour.call(limit, str.upper, "a") for _ in range(3)] == ["A"] * 3
    with pytest.raises(RateLimitedError) as caught:
        colour.call(limit, str)
    assert 0 <= caught.value.retry_after <= 3600
    with pytest.raises(RateLimitedError):
        colour.block(limit, str)
    assert metrics.outcomes() == {"success": 3, "rejected": 2}
    assert metrics.reasons() == {"rate": 2}
    assert metrics("rate_store_errors_total") == 0


def test_t33_limits_of_one_name_and_store_share_their_turns(colour):
    """Known fault T33: per process, workers multiply what is allowed."""
    strategy = colour.strategy()
    workers = [RateLimit("mail", 4, per=3600, shared=strategy) for _ in range(3)]
    other = RateLimit("other", 4, per=3600, shared=strategy)
    through = 0
    for worker in workers * 4:
        try:
            colour.call(worker, str)
        except RateLimitedError:
            continue
        through += 1
    assert through == 4
    colour.call(other, str)


def test_the_key_is_that_of_the_name(metrics):
    storage = limits.storage.MemoryStorage()
    shared = limits.strategies.FixedWindowRateLimiter(storage)
    RateLimit("mail", 3, per=60, shared=shared).acquire()
    assert [*storage.storage] == ["mainstay/mail/3/60/second"]


def test_costs_are_so_many_turns(metrics):
    strategy = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
    limit = RateLimit("mail", 10, per=3600, shared=strategy)
    limit.acquire(7)
    limit.acquire(3)
    with pytest.raises(RateLimitedError):
        limit.acquire()
    with pytest.raises(ValueError, match="`cost` must be at most `rate`, which is 10, not 11"):
        limit.acquire(11)
    with pytest.raises(ValueError, match="`cost` must be a whole number"):
        limit.acquire(1.5)


def test_acquire_async_asks_a_strategy_for_async_code(metrics):
    strategy = limits.aio.strategies.FixedWindowRateLimiter(limits.aio.storage.MemoryStorage())
    limit = RateLimit("mail", 1, per=3600, shared=strategy)

    async def main():
        await limit.acquire_async()
        with pytest.raises(RateLimitedError):
            await limit.acquire_async()

    asyncio.run(main())


def test_a_strategy_for_the_other_kind_of_code_is_refused(metrics):
    sync, aio = (RateLimit("mail", 1, shared=Colour(kind).strategy()) for kind in ("sync", "async"))

    async def work():
        """Never called."""

    with pytest.raises(TypeError, match=r"is async code, where `shared` must be of limits\.aio"):
        sync(work)
    with pytest.raises(TypeError, match=r"is sync code, where `shared` must be of limits\.strat"):
        aio(str)
    for wrong in (aio.acquire, aio.__enter__):
        with pytest.raises(TypeError, match="is sync code"):
            wrong()
    for wrong in (sync.acquire_async, sync.__aenter__):
        with pytest.raises(TypeError, match="is async code"):
            asyncio.run(wrong())
    assert metrics("calls_total") == 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rate": 1.5}, "`rate` must be a whole number of at least 1 with `shared`, not 1.5"),
        ({"rate": 0.5}, "`rate` must be a whole number"),
        ({"per": 0.5}, "`per` must be a whole number"),
    ],
)
def test_a_shared_limit_needs_whole_numbers(options, match):
    with pytest.raises(ValueError, match=match):
        RateLimit(**{"name": "mail", "rate": 1, "shared": Colour("sync").strategy(), **options})


def test_without_the_package_it_says_what_to_install(monkeypatch):
    strategy = Colour("sync").strategy()
    monkeypatch.setitem(__import__("sys").modules, "limits.strategies", None)
    monkeypatch.delattr(limits, "strategies")
    with pytest.raises(TypeError, match=r"pip install 'mainstay\[limits\]'"):
        RateLimit("mail", 1, shared=strategy)


# Known fault T34: the store is gone. What happens then is chosen, and counted.


def test_t34_allow_lets_calls_through(colour, metrics):
    shared = colour.made(Away, AsyncAway)
    limit = RateLimit("mail", 1, per=60, shared=shared, on_store_error="allow")
    assert [colour.call(limit, str) for _ in range(5)] == [""] * 5
    assert metrics("rate_store_errors_total", action="allow") == 5
    assert metrics.outcomes() == {"success": 5}


def test_t34_deny_refuses_calls(colour, metrics):
    shared = colour.made(Away, AsyncAway)
    limit = RateLimit("mail", 1, per=60, shared=shared, on_store_error="deny")
    with pytest.raises(RateLimitedError) as caught:
        colour.call(limit, str)
    assert caught.value.retry_after is None
    assert isinstance(caught.value.__cause__, Broken)
    assert metrics("rate_store_errors_total", action="deny") == 1
    assert metrics.reasons() == {"rate": 1}


def test_t34_local_keeps_to_the_limit_in_this_process(colour, metrics, clock):
    shared = colour.made(Away, AsyncAway)
    limit = RateLimit("mail", 1, per=60, burst=2, max_wait=60.0, shared=shared)
    for _ in range(3):
        colour.call(limit, str)
    assert clock.now() == 60.0
    assert metrics("rate_store_errors_total", action="local") == 3


def test_a_cost_above_the_burst_is_refused_while_the_store_is_away(metrics, clock):
    limit = RateLimit("mail", 100, per=60, burst=2, max_wait=60.0, shared=Colour("sync").made(Away))
    limit.acquire(2)
    with pytest.raises(RateLimitedError) as caught:
        limit.acquire(3)
    assert caught.value.retry_after is None


def test_an_error_of_the_store_is_logged_once_for_each_class(colour, caplog):
    shared = colour.made(Away, AsyncAway)
    limit = RateLimit("mail", 1, per=60, burst=9, shared=shared)
    with caplog.at_level(logging.WARNING, "mainstay.rate_limit"):
        for _ in range(3):
            colour.call(limit, str)
    (line,) = caplog.messages
    assert "the store of the shared rate limit failed with" in line
    assert "each process keeps to the limit by itself" in line


def test_errors_of_the_store_start_at_zero(metrics):
    RateLimit("mail", 1, shared=Colour("sync").strategy())
    RateLimit("local", 1)
    found = {
        sample.labels["component"]
        for family in metrics.metrics.collect()
        for sample in family.samples
        if sample.name == "mainstay_rate_store_errors_total"
    }
    assert found == {"mail"}


def test_a_store_that_hangs_counts_as_failed_after_its_time(colour, metrics, impatient):
    shared = colour.made(Hangs, AsyncHangs)
    limit = RateLimit("mail", 1, per=60, shared=shared, on_store_error="deny")
    with pytest.raises(RateLimitedError) as caught:
        colour.call(limit, str)
    assert isinstance(caught.value.__cause__, TimeoutError)
    if colour.kind == "sync":
        shared.answers.set()


def test_a_store_that_hangs_holds_a_call_no_longer_than_the_deadline(colour, metrics):
    shared = colour.made(Hangs, AsyncHangs)
    limit = RateLimit("mail", 1, per=60, shared=shared, on_store_error="allow")
    with deadline(0.01), pytest.raises(DeadlineExpiredError):
        colour.call(limit, str)
    assert metrics.outcomes() == {"timeout": 1}
    if colour.kind == "sync":
        shared.answers.set()


def test_threads_that_hang_are_bounded_and_then_it_is_asked_again(metrics, monkeypatch):
    monkeypatch.setattr(SharedTurns, "patience", 0.01)
    shared = Colour("sync").made(Hangs)
    limit = RateLimit("mail", 100, per=60, shared=shared, on_store_error="allow")
    before = threading.active_count()
    for _ in range(3 * MOST_HUNG):
        limit.acquire()
    assert threading.active_count() - before <= MOST_HUNG
    assert metrics("rate_store_errors_total", action="allow") == 3 * MOST_HUNG
    shared.answers.set()
    turns = limit._bound.engine.shared
    end = time.monotonic() + 30
    while turns._hung:
        assert time.monotonic() < end
        time.sleep(0.001)
    monkeypatch.undo()
    limit.acquire()
    assert metrics("rate_store_errors_total", action="allow") == 3 * MOST_HUNG


def test_threads_are_used_again_and_end_when_there_is_nothing_to_do(metrics, monkeypatch):
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.001)
    limit = RateLimit("mail", 100, per=60, shared=Colour("sync").strategy())
    for _ in range(5):
        limit.acquire()
    end = time.monotonic() + 30
    while limit._bound.engine.shared._workers._idle:
        assert time.monotonic() < end
        time.sleep(0.001)
    limit.acquire()


def test_a_cancelled_call_leaves_the_store(metrics):
    limit = RateLimit("mail", 1, per=60, shared=Colour("async").made(AsyncHangs))

    async def main():
        task = asyncio.create_task(limit.acquire_async())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert metrics.outcomes() == {"cancelled": 1}


def test_a_refusal_stands_though_the_store_fails_to_say_until_when(colour, metrics):
    class Half(limits.strategies.FixedWindowRateLimiter):
        def get_window_stats(self, item, *identifiers):
            raise Broken("gone")

    class AsyncHalf(limits.aio.strategies.FixedWindowRateLimiter):
        async def get_window_stats(self, item, *identifiers):
            raise Broken("gone")

    limit = RateLimit("mail", 1, per=60, shared=colour.made(Half, AsyncHalf))
    colour.call(limit, str)
    with pytest.raises(RateLimitedError) as caught:
        colour.call(limit, str)
    assert caught.value.retry_after is None
    assert metrics("rate_store_errors_total") == 0


def test_no_time_left_does_not_ask_the_store(metrics):
    limit = RateLimit("mail", 1, per=60, shared=Colour("sync").made(Away))
    with FakeClock(), deadline(0), pytest.raises(DeadlineExpiredError):
        limit.acquire()
    assert metrics("rate_store_errors_total") == 0
