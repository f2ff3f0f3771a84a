"""`on_result` of a pool: results that count as failures."""

import pytest

from mainstay import (
    AllMembersFailedError,
    CircuitBreaker,
    FailoverPool,
    Member,
    ResultRefusedError,
    failover,
    redundant,
)
from support.pools import Lost, state_of

STATUS = {"a": 503, "b": 200}


def refused(status):
    return status == 503


@pytest.fixture
def status():
    return dict(STATUS)


def pool_of(*names, **options):
    members = [Member(name, name) for name in names]
    return FailoverPool("db", members, **{"on": Lost, "on_result": refused, **options})


def test_a_refused_result_counts_against_its_member_and_the_call_goes_on(
    sync_and_async, status, metrics
):
    pool = pool_of("a", "b")
    for _ in range(6):
        assert sync_and_async.called(pool, status.get) == 200
    assert state_of(pool, "a") == "ejected"
    assert metrics.outcomes() == {"recovered": 4, "success": 2}
    assert metrics.attempts_at("a") == {"error": 4}
    assert metrics.errors() == {"ResultRefusedError": 4}


def test_if_the_last_one_is_refused_the_error_carries_it(sync_and_async, status, metrics):
    status["b"] = 503
    with pytest.raises(ResultRefusedError) as caught:
        sync_and_async.decorated(failover(pool_of("a", "b")), status.get)
    error = caught.value
    assert (error.component, error.result, error.attempts) == ("db", 503, 2)
    assert "gave up after 2 attempts, the last one at member b" in error.__notes__[0]
    assert metrics.outcomes() == {"error": 1}
    assert metrics.reasons() == {"no_member": 1}


def test_in_a_group_there_is_one_for_each(sync_and_async, status, metrics):
    status["b"] = 503
    with pytest.raises(AllMembersFailedError) as caught:
        sync_and_async.called(pool_of("a", "b", raises="group"), status.get)
    assert [type(error) for error in caught.value.exceptions] == [ResultRefusedError] * 2


def test_a_member_that_is_the_only_one_left_fails_and_serves_on(sync_and_async, status, metrics):
    pool = pool_of("a")
    for _ in range(5):
        with pytest.raises(ResultRefusedError):
            sync_and_async.called(pool, status.get)
    assert state_of(pool, "a") == "failing"


def test_a_predicate_that_raises_ends_the_call_with_that(sync_and_async, status, metrics):
    pool = pool_of("a", "b", on_result=lambda result: result["status"])
    with pytest.raises(TypeError, match="subscriptable"):
        sync_and_async.called(pool, status.get)
    assert metrics.reasons() == {"predicate_error": 1}
    assert metrics.attempts_at("a") == {"error": 1}
    assert metrics.attempts_at("b") == {}
    assert pool.status().members[0].score == 0.0


def test_a_program_that_is_ended_in_the_predicate_is_ended(sync_and_async, status, metrics):
    def interrupt(_result):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync_and_async.called(pool_of("a", "b", on_result=interrupt), status.get)
    assert metrics.outcomes() == {"cancelled": 1}


async def arefused(_result):
    return True


def generated(_result):
    yield True


@pytest.mark.parametrize("bad", [503, arefused, generated])
def test_what_cannot_say_is_refused(bad):
    with pytest.raises(TypeError, match="`on_result`"):
        pool_of("a", on_result=bad)


@pytest.mark.parametrize("make", ["pool", "breaker", "redundant"])
def test_an_answer_that_would_have_to_be_awaited_is_no_answer(sync_and_async, make, metrics):
    """It would always count as True: every result would be a failure, without a word."""

    def on_result(result):
        return arefused(result)

    policy = {
        "pool": lambda: FailoverPool("db", [Member("a", 200)], on=Lost, on_result=on_result),
        "breaker": lambda: CircuitBreaker("db", on=Lost, on_result=on_result),
        "redundant": lambda: redundant(on_result=on_result),
    }[make]()
    with pytest.raises(TypeError, match="`on_result` must return a bool, not an awaitable"):
        sync_and_async.called(policy, str, *([] if make == "pool" else [200]))
    assert metrics.reasons() == {"predicate_error": 1}
