"""Known faults of libraries that fail over, in what becomes of calls; one test each or more.

The names begin with the numbers of the survey's list of failure modes; a docstring says who has
the fault. Those of redundant calls are in `test_redundant_pitfalls`.
"""

import asyncio
import contextvars
import random
import threading

import pytest

from mainstay import (
    AllMembersFailedError,
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExpiredError,
    Detect,
    FailoverPool,
    Member,
    RetryBudget,
    Verdict,
    deadline,
    failover,
    retry,
)
from mainstay.errors import NoMemberError
from tests.pools import LONGEST, Lost, state_of, wait_until

MEMBERS = ("a", "b", "c")


# 2. All members down.


def down(servers, **options):
    pool = servers.pool("a", "b", **options)
    servers.broken = {"a": Lost, "b": Lost}
    for _ in range(4):
        with pytest.raises((Lost, AllMembersFailedError)):
            pool.call(servers.use)
    servers.calls.clear()
    return pool


def test_2_when_all_are_down_the_error_says_why_for_each_member(servers, clock):
    """LiteLLM says "no deployments available", and of the fallback only."""
    pool = down(servers, when_all_down="raise")
    with pytest.raises(NoMemberError) as caught:
        pool.call(servers.use)
    assert servers.calls == []
    assert caught.value.members == ("a", "b")
    assert all(str(error).startswith("ejected; next") for error in caught.value.exceptions)


def test_2_when_all_are_down_a_call_can_wait_for_the_first_to_return(servers, clock):
    """LiteLLM knows when that will be, and fails."""
    pool = down(servers, when_all_down="wait")
    first = min(member.seconds for member in pool.status().members)
    servers.broken.clear()
    before = clock.now()
    assert pool.call(servers.use) in {("a",), ("b",)}
    assert clock.now() - before == pytest.approx(first)


def test_2_when_all_are_down_a_call_can_take_the_least_bad_at_once(servers, clock):
    """MongoDB's drivers wait for 30 seconds without a word."""
    pool = down(servers)
    servers.broken.clear()
    before = clock.now()
    assert pool.call(servers.use) in {("a",), ("b",)}
    assert clock.now() == before


@pytest.mark.parametrize("when_all_down", ["least_bad", "raise", "wait"])
def test_2_no_call_waits_longer_than_its_deadline(servers, clock, when_all_down):
    """The 30 seconds of MongoDB's drivers know no deadline."""
    pool = down(servers, when_all_down=when_all_down)
    before = clock.now()
    with deadline(1.0), pytest.raises((Lost, AllMembersFailedError)):
        pool.call(servers.use)
    assert clock.now() == before


def test_2_no_call_waits_longer_than_its_deadline_for_a_member_that_is_being_opened(clock):
    """As above; the member's own limit is much later."""
    go = threading.Event()
    pool = FailoverPool("db", [Member("a", open=lambda: go.wait(LONGEST))], on=Lost)
    waiting = threading.Event()

    def pass_time():
        waiting.wait(LONGEST)
        wait_until(lambda: pool.status().members[0].open or clock.advance(0.1) or clock.now() > 1.0)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(pass_time,))
    thread.start()
    with deadline(1.0):
        waiting.set()
        with pytest.raises(AllMembersFailedError):
            pool.call(str)
    go.set()
    thread.join(LONGEST)
    pool.close()


# 6. Faults of the caller's own, blamed on a member.


class PoolExhausted(Exception):
    """All connections of the process are in use."""


def test_6_a_pool_of_connections_that_is_empty_is_not_blamed_on_the_member(
    pool_caller, servers, metrics
):
    """Elasticsearch's client marks the node dead."""

    def judge(error):
        return Verdict.STOP if isinstance(error, PoolExhausted) else isinstance(error, OSError)

    pool = servers.pool("a", "b", on=judge)
    servers.broken["a"] = PoolExhausted
    for _ in range(10):
        with pytest.raises(PoolExhausted):
            pool_caller(pool, servers.use)
    assert (pool.status().members[0].score, metrics("ejections_total")) == (0.0, 0)


def test_6_a_callers_deadline_that_is_too_short_is_not_blamed_on_the_member(
    pool_caller, servers, metrics, clock
):
    """Elasticsearch's client marks the node dead; LiteLLM asks whose timeout it was."""
    pool = servers.pool("a", "b", on=TimeoutError)
    nested = retry(on=Lost)

    def use(resource):
        clock.advance(1.0)
        return nested.call(servers.use, resource)

    for _ in range(10):
        with deadline(0.5), pytest.raises(DeadlineExpiredError):
            pool_caller(pool, use)
    assert (pool.status().members[0].score, metrics("ejections_total")) == (0.0, 0)
    assert (metrics.outcomes()["timeout"], servers.calls) == (20, [])  # of both policies


def test_6_a_call_that_its_user_cancels_is_not_blamed_on_the_member(servers, metrics):
    """Timeouts made of cancellations mark nodes dead."""
    pool = servers.pool("a", "b")

    @failover(pool)
    async def hang(_resource):
        await asyncio.Event().wait()

    async def main():
        for _ in range(10):
            task = asyncio.create_task(hang())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert (pool.status().members[0].score, metrics("ejections_total")) == (0.0, 0)


# 9. Effects that happen twice.


def in_a_lease(pool, fn):
    with pool.lease() as resource:
        return fn(resource)


def without_rerun(pool, fn):
    return failover(pool, rerun=False)(fn)()


@pytest.mark.parametrize("form", [in_a_lease, without_rerun])
def test_9_what_must_not_run_twice_does_not(servers, form):
    """LiteLLM and Elasticsearch's client send again whatever failed, also after it was sent."""
    servers.broken["a"] = Lost
    with pytest.raises(Lost):
        form(servers.pool("a", "b"), servers.use)
    assert servers.calls == ["a"]


def test_9_what_must_not_run_twice_moves_on_if_it_has_not_run(pools, site, clock):
    """A member that cannot be opened has had no effect: refusing to move on helps nobody."""
    site.broken.add("open a")
    pool = FailoverPool("db", [pools.member(site, "a"), pools.member(site, "b")], on=Lost)
    calls = pools.hook(site.use)
    call = failover(pool, rerun=False)(calls)
    answer = pools.loop.run_until_complete(call()) if pools.loop else call()
    assert answer == "b1"
    pools.close(pool)


# 11. Cancellation. (10, what comes too late is closed: `test_failover_opening`.)


def test_11_a_callers_cancellation_is_not_swallowed_while_it_waits_for_a_member():
    """asyncio's wait_for, and aiohappyeyeballs, return a result to a cancelled caller."""
    opening = []

    async def slow():
        opening.append(asyncio.current_task())
        await asyncio.Event().wait()

    async def main():
        pool = FailoverPool("db", [Member("a", open=slow)], on=Lost)
        task = asyncio.create_task(failover(pool)(_nothing)())
        while not opening:  # noqa: ASYNC110 - polls
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not opening[0].done()  # the start is not the call's: others may wait for it
        await pool.close()
        return task.cancelled(), opening[0].cancelled(), len(asyncio.all_tasks())

    assert asyncio.run(main()) == (True, True, 1)


async def _nothing(resource):
    return resource


def test_11_a_cancellation_that_the_function_raises_by_itself_goes_on(pool_caller, servers):
    """It is not the caller's: it must neither hang nor be taken for a failure of the member."""
    servers.broken["a"] = asyncio.CancelledError
    pool = servers.pool("a", "b", on=lambda _error: True)
    with pytest.raises(asyncio.CancelledError):
        pool_caller(pool, servers.use)
    assert servers.calls == ["a"]
    assert pool.status().members[0].score == 0.0


def test_11_a_cancelled_trial_frees_its_place(servers, clock):
    """Finagle was stuck in its probing state."""
    pool = servers.pool("a", "b")
    servers.eject(pool, "a")
    clock.advance(5.0)

    async def hang(_resource):
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(failover(pool)(hang)())
        await asyncio.sleep(0)
        assert state_of(pool, "a") == "trial"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    servers.broken.clear()
    assert pool.call(servers.use) == ("a",)


# 12. Context variables.

VARIABLE = contextvars.ContextVar("variable", default="unset")


def test_12_calls_and_hooks_see_the_callers_context_variables(pools, site):
    """`run_in_executor` loses them."""
    seen = {}

    def open_():
        seen["open"] = VARIABLE.get()
        return "a1"

    def use(resource):
        seen["call"] = VARIABLE.get()
        return resource

    pool = FailoverPool("db", [Member("a", open=pools.hook(open_))], on=Lost)
    token = VARIABLE.set("of the caller")
    try:
        assert pools.call(pool, use) == "a1"
    finally:
        VARIABLE.reset(token)
    assert seen == {"open": "of the caller", "call": "of the caller"}
    pools.close(pool)


def test_12_what_a_call_sets_is_seen_by_its_caller(servers):
    """A copy of the context for each attempt would lose it."""
    pool = servers.pool("a", "b")
    servers.broken["a"] = Lost

    def use(resource):
        VARIABLE.set(resource)
        return servers.use(resource)

    def main():
        pool.call(use)
        return VARIABLE.get()

    assert contextvars.copy_context().run(main) == "b"


# 14. Exception groups.


def test_14_plain_except_and_except_star_both_catch_what_all_members_raised(servers):
    """asynchedging's group is empty in places, and no error of its own in others."""
    servers.broken = {"a": Lost, "b": KeyError}
    pool = servers.pool("a", "b", on=(Lost, KeyError), raises="group")
    caught = []
    try:
        pool.call(servers.use)
    except AllMembersFailedError as error:
        caught.append(len(error.exceptions))
    try:
        pool.call(servers.use)
    except* Lost as group:
        caught.append([str(error) for error in group.exceptions])
    except* KeyError as group:
        caught.append(len(group.exceptions))
    assert caught == [2, ["a"], 1]


def test_14_each_attempt_says_which_member_it_was_and_how_long_it_took(servers, clock):
    """ "All connections failed" helps nobody."""

    def slow(name):
        clock.advance(1.5 if name == "a" else 0.25)
        raise Lost(name)

    with pytest.raises(AllMembersFailedError) as caught:
        servers.pool("a", "b", raises="group").call(slow)
    assert [error.__notes__ for error in caught.value.exceptions] == [
        ["mainstay.failover db: attempt 1, at member a, 1.500 s"],
        ["mainstay.failover db: attempt 2, at member b, 0.250 s"],
    ]


def test_14_the_group_is_never_empty_although_nobody_was_called(servers, clock):
    """asynchedging raises ValueError instead."""
    pool = servers.pool("a", "b")
    pool.drain("a")
    pool.drain("b")
    with pytest.raises(AllMembersFailedError) as caught:
        pool.call(servers.use)
    assert len(caught.value.exceptions) == 2


def test_14_one_attempt_raises_its_own_exception(pool_caller, servers):
    """A group of one makes `except ConnectionError` miss it."""
    servers.broken["a"] = Lost
    with pytest.raises(Lost):
        pool_caller(servers.pool("a", "b", attempts=1), servers.use)


# 15. Budgets.


def test_15_a_spent_budget_does_not_hurt_the_first_attempt(pool_caller, servers, metrics):
    """failsafe-go cancelled the primary when the budget was exceeded."""
    pool = servers.pool("a", "b", budget=RetryBudget(ratio=0.0, floor=0.0))
    assert pool_caller(pool, servers.use) == ("a",)
    servers.broken["a"] = Lost
    with pytest.raises(Lost):
        pool_caller(pool, servers.use)
    assert servers.calls == ["a", "a"]
    assert metrics.reasons() == {"budget": 1}


# 19. The order of filters, and an exclusion that leaves nobody.


class Asked:
    """A user's selector that remembers what it was offered, and always wants its favourite."""

    def __init__(self, favourite="a"):
        self.favourite = favourite
        self.offered = []

    def pick(self, members):
        self.offered.append(tuple(members))
        return self.favourite if self.favourite in members else members[0]


SELECTS = ["priority", "round_robin", "weighted", "least_latency", "own"]


@pytest.mark.parametrize("select", SELECTS)
def test_19_exclusion_comes_before_selection_and_never_empties_the_set(servers, clock, select):
    """LiteLLM excluded after affinity had left one candidate, so that none was left."""
    random.seed(1)
    detect = Detect(consecutive=10**6, threshold=10**9)
    pool = servers.pool(*MEMBERS, select=Asked() if select == "own" else select, detect=detect)
    for well in MEMBERS * 10:
        servers.broken = dict.fromkeys(set(MEMBERS) - {well}, Lost)
        servers.calls.clear()
        assert pool.call(servers.use) == (well,)
        assert len(set(servers.calls)) == len(servers.calls)


def test_19_a_selector_is_only_offered_who_may_be_called(servers, clock):
    """Affinity that is asked first picks who is ejected, drained or tried."""
    selector = Asked("b")
    pool = servers.pool("a", "b", "c", "d", select=selector)
    servers.eject(pool, "b")
    pool.drain("c")
    servers.broken = {"a": Lost}
    selector.offered.clear()
    assert pool.call(servers.use) == ("d",)
    assert selector.offered == [("a", "d"), ("d",)]


def test_19_force_comes_before_health(servers, clock):
    """A fixed order: what the operator says, who is excluded, who is well, who is preferred."""
    pool = servers.pool("a", "b")
    servers.eject(pool, "a")
    servers.broken.clear()
    pool.force("a")
    assert pool.call(servers.use) == ("a",)


def test_a_breaker_blames_no_deadline_of_the_caller_on_what_it_protects(breaker_caller, clock):
    """As item 6, for breakers."""
    breaker = CircuitBreaker("mail", on=TimeoutError, detect=Detect(consecutive=1))
    nested = retry(on=Lost)

    def late():
        clock.advance(1.0)
        return nested.call(str)

    with deadline(0.5), pytest.raises(DeadlineExpiredError):
        breaker_caller(breaker, late)
    assert breaker.state == "closed"
    with pytest.raises(CircuitOpenError):
        breaker.open() or breaker_caller(breaker, late)
