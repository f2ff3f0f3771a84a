"""Statistics of the pool, simulated on a fake clock, with bounds that are many deviations away."""

import functools
import heapq
import itertools
import math
import random
import statistics

import pytest

from mainstay import AllMembersFailedError, FailoverPool, Member, failover
from mainstay._core.context import current_context
from mainstay.testing import FakeClock, recorded
from support.examples import examples
from support.pools import Lost

RATE = 50
SECONDS = 300
SEEDS = examples(4)  # 31 errors in each, give or take 4: the bound of 75 is far away from any


@functools.cache
def simulate(seed, error_rates, *, attempts=1, select="round_robin"):
    """Give the errors that callers saw, and the ejections of each member."""
    random.seed(seed)
    errors = 0
    with recorded() as values, FakeClock() as clock:
        members = [Member(f"m{i}", i) for i in range(len(error_rates))]
        pool = FailoverPool("db", members, on=Lost, select=select, attempts=attempts)

        @failover(pool)  # it looks at the function once, and `.call` each time
        def use(member):
            if random.random() < error_rates[member]:
                raise Lost

        for _ in range(SECONDS * RATE):
            try:
                use()
            except (Lost, AllMembersFailedError):
                errors += 1
            clock.advance(1 / RATE)
        ejections = [
            values.value("ejections_total", member=f"m{i}") for i in range(len(error_rates))
        ]
    return errors, ejections


@pytest.fixture(scope="module", autouse=True)
def keep_random_numbers():
    state = random.getstate()
    yield
    random.setstate(state)


def test_a_grey_member_costs_a_tenth_of_what_it_would_cost_unnoticed():
    runs = [simulate(seed, (0.15, 0.001, 0.001)) for seed in range(SEEDS)]
    unnoticed = SECONDS * RATE / 3 * 0.15
    assert statistics.mean(errors for errors, _ in runs) < unnoticed / 10
    assert all(ejections[0] >= 2 for _, ejections in runs)


def test_no_healthy_member_is_ejected_beside_a_grey_one():
    runs = [simulate(seed, (0.15, 0.001, 0.001)) for seed in range(SEEDS)]
    assert [ejections[1:] for _, ejections in runs] == [[0, 0]] * SEEDS


def test_one_more_attempt_elsewhere_hides_a_grey_member():
    errors = [simulate(seed, (0.15, 0.001, 0.001), attempts=2)[0] for seed in range(SEEDS)]
    assert sum(errors) <= SEEDS


def test_a_dead_member_costs_a_handful_of_errors_and_its_trials():
    errors, ejections = simulate(0, (1.0, 0.0, 0.0))
    assert errors <= 4 + 8
    assert ejections == [1, 0, 0]


def test_normal_errors_eject_nobody_in_five_minutes():
    runs = [simulate(seed, (0.01, 0.01, 0.01)) for seed in range(SEEDS)]
    assert [ejections for _, ejections in runs] == [[0, 0, 0]] * SEEDS


class Leaving:
    """Callers of a pool of three; every tenth leaves, and ten leave at once every two minutes.

    Answers take 50 ms in the middle, and more than 1.6 s in one of a hundred.
    `benchmarks/leaving_callers.py` lives through months of it.
    """

    def __init__(self, clock, hanging=""):
        self.clock = clock
        self.hanging = hanging
        self.numbers = random.Random(1)
        members = [Member(name, name) for name in "abc"]
        self.engine = FailoverPool("db", members, on=Lost, select="round_robin")._engine
        self.under_way = []
        self.places = itertools.count()

    def live(self, seconds):
        ends = self.clock.now() + seconds
        while self.clock.now() < ends:
            self.begin()
            self.clock.advance(self.numbers.expovariate(10.0))
            while self.under_way and self.under_way[0][0] <= self.clock.now():
                ended, _, *call = heapq.heappop(self.under_way)
                self.end(ended, *call)
            if self.numbers.random() < 1 / 1200:
                self.stop_ten()

    def begin(self):
        handle = self.engine.choose(current_context().clock, (), set())
        seconds, leaves = self.numbers.lognormvariate(-3.0, 1.5), False
        if handle.slot.name == self.hanging:
            seconds = math.inf
        if self.numbers.random() < 0.1:
            patience = 2.0 * self.numbers.random()
            seconds, leaves = min(seconds, patience), patience < seconds
        now = self.clock.now()
        heapq.heappush(self.under_way, (now + seconds, next(self.places), now, handle, leaves))

    def end(self, now, began, handle, leaves):
        if leaves:
            self.engine.cancelled(handle, began, now)
        else:
            self.engine.answers.append(now - began)
            self.engine.succeeded(handle, now, now - began)
        self.engine.done(handle)

    def stop_ten(self):
        """Cancel ten calls that are under way, which are longer than others."""
        now = self.clock.now()
        for _ in range(10):
            handle = self.engine.choose(current_context().clock, (), set())
            began = now - self.numbers.random() * self.numbers.lognormvariate(-0.75, 1.5)
            self.end(now, began, handle, leaves=True)


def test_no_healthy_member_is_ejected_because_callers_leave(metrics, clock):
    Leaving(clock).live(2_400.0)
    assert [metrics("ejections_total", member=name) for name in "abc"] == [0, 0, 0]


def test_a_member_that_hangs_is_ejected_among_callers_that_leave(metrics, clock):
    Leaving(clock, hanging="b").live(60.0)
    assert [metrics("ejections_total", member=name) for name in "abc"] == [0, 1, 0]
