"""The members of a pool that the copies of one call run at."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from mainstay import FailoverPool, Member, NoMemberError, Verdict, current_lease
from mainstay._core.threads import Pause
from mainstay._redundant.members import PoolMembers
from mainstay.testing import FakeClock, recorded
from support.pools import Lost


@pytest.fixture
def values():
    with recorded() as metrics, FakeClock():
        yield metrics


def pool_of(*names, **options):
    return FailoverPool("db", [Member(name, name) for name in names], on=Lost, **options)


def members_of(pool):
    """The members for one call."""
    return PoolMembers(pool).begin(votes=True)


def lend(members):
    """Lend in a thread."""
    while isinstance(offer := members.choose(), Pause):
        offer.wait()
    return offer


def alend(members):
    """Lend in a task."""

    async def main():
        while isinstance(offer := members.choose(), Pause):
            await offer.await_()
        return offer

    return asyncio.run(main())


def loan_of(pool):
    """A loan for a call of its own, whose attempt has ended."""
    loan = lend(members_of(pool))
    loan.enter()
    loan.leave()
    return loan


def in_flight(pool):
    return [member.in_flight for member in pool.status().members]


def test_each_loan_of_a_call_is_of_another_member_until_none_is_left(values):
    pool = pool_of("a", "b")
    members = members_of(pool)
    first, second = members.choose(), members.choose()
    assert (first.member, first.resource, second.member) == ("a", "a", "b")
    assert members.choose() is None
    assert in_flight(pool) == [1, 1]
    first.enter()
    first.leave()
    assert in_flight(pool) == [0, 1]
    first.succeeded()
    second.released(cut_short=False)
    assert in_flight(pool) == [0, 0]
    assert values.value("member_attempts_total", member="a", outcome="success") == 1
    assert values.value("member_attempts_total", member="b", outcome="cancelled") == 1


def test_threads_of_one_call_never_get_the_same_member(values):
    names = [f"m{number}" for number in range(8)]
    for _ in range(20):
        members = members_of(pool_of(*names))
        with ThreadPoolExecutor(8) as threads:
            lent = [each.result() for each in [threads.submit(members.choose) for _ in names]]
        assert sorted(loan.member for loan in lent) == names


class Overtaken:
    """A selector that is so slow that another thread of the call gets the member first."""

    members = other = None

    def pick(self, names):
        members, self.members = self.members, None
        if members is not None:
            self.other = members.choose()
        return names[0]


def test_a_thread_that_was_overtaken_gives_the_member_back_and_asks_again(values):
    selector = Overtaken()
    pool = pool_of("a", "b", select=selector)
    selector.members = members = members_of(pool)
    assert (members.choose().member, selector.other.member) == ("b", "a")
    assert in_flight(pool) == [1, 1]
    assert values.value("member_attempts_total") == 0


def test_a_loan_that_is_not_used_leaves_no_trace(values):
    pool = pool_of("a", "b")
    members_of(pool).choose().unused()
    assert in_flight(pool) == [0, 0]
    assert values.value("member_attempts_total") == 0


def test_a_loan_is_the_lease_of_the_code_that_uses_it(values):
    with pool_of("outer").lease():
        loan = members_of(pool_of("a")).choose()
        loan.enter()
        assert current_lease().member == "a"
        loan.leave()
        assert current_lease().member == "outer"


def test_failures_of_members_count_against_the_member_if_the_pool_says_so(values):
    pool = pool_of("a", "b")
    for _ in range(9):
        loan_of(pool).failed(KeyError())
    for _ in range(4):
        loan_of(pool).failed(Lost())
    assert loan_of(pool).member == "b"
    assert values.value("ejections_total", member="a", cause="consecutive") == 1


def test_a_busy_member_is_not_blamed(values):
    pool = FailoverPool("db", [Member("a", 1)], on=lambda _error: Verdict.TRY_ANOTHER)
    loan_of(pool).failed(Lost())
    assert values.value("member_attempts_total", member="a", outcome="rejected") == 1


def test_a_predicate_that_raises_blames_nobody(values):
    def broken(_error):
        raise KeyError("x")

    pool = FailoverPool("db", [Member("a", 1), Member("b", 2)], on=broken)
    error = Lost()
    for _ in range(4):
        loan_of(pool).failed(error)
    assert loan_of(pool).member == "a"
    (note,) = error.__notes__
    assert note == (
        "mainstay.failover db: `on` raised KeyError('x'), so the exception counts as not matched"
    )


def test_a_member_that_is_outvoted_again_and_again_is_ejected(values):
    pool = pool_of("a", "b")
    for _ in range(4):
        loan_of(pool).dissented()
    assert loan_of(pool).member == "b"
    assert values.value("ejections_total", member="a", cause="dissent") == 1


def test_an_answer_that_nobody_judged_makes_up_for_nothing(values):
    pool = pool_of("a", "b")
    for _ in range(3):
        loan_of(pool).dissented()
    loan_of(pool).unjudged()
    loan_of(pool).dissented()
    assert loan_of(pool).member == "b"
    assert values.value("member_attempts_total", member="a", outcome="success") == 5


@pytest.mark.parametrize("borrow", [lend, alend])
def test_a_loan_waits_for_a_member_that_is_being_started(values, borrow):
    pool = FailoverPool("db", [Member("a", open=lambda: "opened")], on=Lost)
    loan = borrow(members_of(pool))
    assert loan.resource == "opened"
    loan.unused()
    pool.close()


@pytest.mark.parametrize("borrow", [lend, alend])
def test_a_loan_waits_for_the_next_trial_if_the_pool_does(values, borrow):
    pool = pool_of("a", when_all_down="wait")
    for _ in range(4):
        loan_of(pool).failed(Lost())
    loan = borrow(members_of(pool))
    assert loan.member == "a"
    loan.enter()
    loan.leave()
    loan.succeeded()
    assert pool.status().members[0].state == "standby_hot"


def test_a_cancelled_trial_is_due_again_at_once(values):
    pool = pool_of("a", when_all_down="wait")
    for _ in range(4):
        loan_of(pool).failed(Lost())
    lend(members_of(pool)).released(cut_short=False)
    assert isinstance(members_of(pool).choose().member, str)


def test_nobody_left_is_told_by_the_members_that_the_call_has_not_had(values):
    pool = pool_of("a", "b", "c")
    pool.drain("b")
    members = members_of(pool)
    assert [members.choose().member, members.choose().member, members.choose()] == ["a", "c", None]
    error = members.refusal()
    assert isinstance(error, NoMemberError)
    assert error.members == ("b",)
    assert [str(each) for each in error.exceptions] == ["member b is drained"]


def test_what_is_no_pool_lends_nothing():
    with pytest.raises(TypeError, match="`pool`"):
        PoolMembers("db")
