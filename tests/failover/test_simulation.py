"""Statistics of the pool, simulated on a fake clock, with bounds that are many deviations away."""

import functools
import random
import statistics

import pytest

from mainstay import AllMembersFailedError, FailoverPool, Member
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

        def use(member):
            if random.random() < error_rates[member]:
                raise Lost

        for _ in range(SECONDS * RATE):
            try:
                pool.call(use)
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
