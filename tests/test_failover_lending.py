"""A pool that lends its members to another policy, as redundant calls need it."""

import asyncio

import pytest

from mainstay import FailoverPool, Member
from mainstay._core.members import lender_of
from mainstay.testing import FakeClock, recorded
from tests.pools import Lost


@pytest.fixture
def values():
    with recorded() as metrics, FakeClock():
        yield metrics


def pool_of(*names, **options):
    return FailoverPool("db", [Member(name, name) for name in names], on=Lost, **options)


def lend(pool, without=()):
    return lender_of(pool).lend(without)


def alend(pool, without=()):
    return asyncio.run(lender_of(pool).alend(without))


@pytest.mark.parametrize("borrow", [lend, alend])
def test_each_loan_is_of_another_member_until_none_is_left(values, borrow):
    pool = pool_of("a", "b")
    first = borrow(pool)
    second = borrow(pool, [first.member])
    assert (first.member, first.resource, second.member) == ("a", "a", "b")
    assert borrow(pool, ["a", "b"]) is None
    assert [member.in_flight for member in pool.status().members] == [1, 1]
    first.succeeded()
    second.released()
    assert [member.in_flight for member in pool.status().members] == [0, 0]
    assert values.value("member_attempts_total", member="a", outcome="success") == 1
    assert values.value("member_attempts_total", member="b", outcome="cancelled") == 1


def test_failures_of_loans_count_against_the_member(values):
    pool = pool_of("a", "b")
    for _ in range(4):
        lend(pool).failed(Lost())
    assert lend(pool).member == "b"
    assert values.value("ejections_total", member="a", cause="consecutive") == 1


def test_a_member_that_is_outvoted_again_and_again_is_ejected(values):
    pool = pool_of("a", "b")
    for _ in range(4):
        lend(pool).dissented()
    assert lend(pool).member == "b"
    assert values.value("ejections_total", member="a", cause="dissent") == 1


@pytest.mark.parametrize("borrow", [lend, alend])
def test_a_loan_waits_for_a_member_that_is_being_started(values, borrow):
    pool = FailoverPool("db", [Member("a", open=lambda: "opened")], on=Lost)
    loan = borrow(pool)
    assert loan.resource == "opened"
    loan.succeeded()
    pool.close()


@pytest.mark.parametrize("borrow", [lend, alend])
def test_a_loan_waits_for_the_next_trial_if_the_pool_does(values, borrow):
    pool = pool_of("a", when_all_down="wait")
    for _ in range(4):
        lend(pool).failed(Lost())
    loan = borrow(pool)
    assert loan.member == "a"
    loan.succeeded()
    assert pool.status().members[0].state == "standby_hot"


def test_what_is_no_pool_lends_nothing():
    with pytest.raises(TypeError, match="`pool`"):
        lender_of("db")
