"""What a pool does with calls, in both colours and all forms, on a clock of the test's own."""

import asyncio
import contextlib
import contextvars
import gc
import pickle
import random
import weakref

import pytest

from mainstay import (
    AllMembersFailedError,
    CircuitOpenError,
    DeadlineExpiredError,
    Detect,
    Failback,
    FailoverPool,
    Member,
    RetryBudget,
    UnsupportedLoopError,
    Verdict,
    current_lease,
    deadline,
    default_metrics,
    failover,
    retry,
    set_default_metrics,
)
from mainstay.testing import FakeClock, recorded


class Lost(ConnectionError):
    """What makes the members of these tests fail."""


class Elsewhere:
    """A lease of a call that is on its way in another context, as in another task."""

    def __init__(self, pool):
        self.lease = pool.lease()
        self.context = contextvars.copy_context()
        self.context.run(self.lease.__enter__)

    def end(self, error=None):
        self.context.run(self.lease.__exit__, type(error) if error else None, error, None)


class Servers:
    """Members whose resource is their name, and which fail as long as they are in `broken`."""

    def __init__(self):
        self.broken = {}
        self.calls = []

    def use(self, name, *args):
        self.calls.append(name)
        error = self.broken.get(name)
        if error is not None:
            raise error(name)
        return (name, *args)

    def pool(self, *names, **options):
        members = [Member(name, name) for name in names]
        return FailoverPool("db", members, **{"on": Lost, **options})


def sync_function(pool, fn, *args):
    return failover(pool)(fn)(*args)


def async_function(pool, fn, *args):
    async def awaited(resource, *args):
        return fn(resource, *args)

    return asyncio.run(failover(pool)(awaited)(*args))


def sync_call(pool, fn, *args):
    return pool.call(fn, *args)


def sync_block(pool, fn, *args):
    for attempt in pool:
        with attempt as resource:
            return fn(resource, *args)
    raise AssertionError("a block ends with a result or an exception")


def async_block(pool, fn, *args):
    async def main():
        async for attempt in pool:
            with attempt as resource:
                return fn(resource, *args)
        raise AssertionError("a block ends with a result or an exception")

    return asyncio.run(main())


FORMS = [sync_function, async_function, sync_call, sync_block, async_block]


@pytest.fixture
def values():
    """Metrics that can be asked, and that leave the context empty, as in production."""
    before = default_metrics()
    with recorded() as mine:
        pass
    set_default_metrics(mine)
    yield mine
    set_default_metrics(before)


@pytest.fixture(params=["bare", "on a clock"])
def surroundings(request):
    """Nothing around the calls, or a clock: two ways through the loops that must not differ."""
    if request.param == "bare":
        yield
        return
    with FakeClock():
        yield


@pytest.fixture
def clock():
    with FakeClock() as clock:
        yield clock


@pytest.fixture
def servers():
    return Servers()


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__)
def caller(request, values):
    return request.param


def outcomes(values):
    return _labelled(values, "mainstay_calls_total", "outcome")


def reasons(values):
    return _labelled(values, "mainstay_give_ups_total", "reason")


def attempts_of(values, member):
    return _labelled(values, "mainstay_member_attempts_total", "outcome", member=member)


def state_of(values, member):
    return list(_labelled(values, "mainstay_member_state", "state", member=member))


def _labelled(values, name, label, **wanted):
    return {
        sample.labels[label]: sample.value
        for family in values.collect()
        for sample in family.samples
        if sample.name == name and sample.value and wanted.items() <= sample.labels.items()
    }


def test_the_first_member_answers_as_long_as_it_can(caller, servers, values, surroundings):
    pool = servers.pool("a", "b")
    assert [caller(pool, servers.use, i) for i in range(3)] == [("a", 0), ("a", 1), ("a", 2)]
    assert outcomes(values) == {"success": 3}
    assert reasons(values) == {}
    assert attempts_of(values, "a") == {"success": 3}
    assert attempts_of(values, "b") == {}


def test_a_call_that_fails_goes_on_to_another_member(caller, servers, values, surroundings):
    servers.broken["a"] = Lost
    assert caller(servers.pool("a", "b"), servers.use, 1) == ("b", 1)
    assert servers.calls == ["a", "b"]
    assert outcomes(values) == {"recovered": 1}
    assert attempts_of(values, "a") == {"error": 1}
    assert attempts_of(values, "b") == {"success": 1}
    assert values.value("call_attempts_sum", policy="failover") == 2


def test_when_all_fail_a_group_has_each_attempt_with_a_note(caller, servers, values, surroundings):
    servers.broken = {"a": Lost, "b": Lost}
    with pytest.raises(AllMembersFailedError) as caught:
        caller(servers.pool("a", "b"), servers.use)
    assert servers.calls == ["a", "b"]
    assert [type(error) for error in caught.value.exceptions] == [Lost, Lost]
    notes = [error.__notes__[0] for error in caught.value.exceptions]
    assert [note.split(",")[:2] for note in notes] == [
        ["mainstay.failover db: attempt 1", " at member a"],
        ["mainstay.failover db: attempt 2", " at member b"],
    ]
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert outcomes(values) == {"error": 1}
    assert reasons(values) == {"no_member": 1}


def test_one_attempt_raises_its_own_exception_with_one_note(caller, servers, values, surroundings):
    servers.broken["a"] = Lost
    with pytest.raises(Lost) as caught:
        caller(servers.pool("a"), servers.use)
    assert len(caught.value.__notes__) == 1
    assert "gave up after 1 attempt, at member a" in caught.value.__notes__[0]
    assert outcomes(values) == {"error": 1}


def test_an_exception_outside_on_passes_untouched(caller, servers, values, surroundings):
    servers.broken["a"] = KeyError
    with pytest.raises(KeyError) as caught:
        caller(servers.pool("a", "b"), servers.use)
    assert not hasattr(caught.value, "__notes__")
    assert servers.calls == ["a"]
    assert reasons(values) == {"not_retryable": 1}
    assert attempts_of(values, "a") == {"error": 1}
    assert values.value("ejections_total") == 0


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interruptions_pass_and_count_as_nothing(servers, values, surroundings, interruption):
    servers.broken["a"] = interruption
    pool = servers.pool("a", "b")
    for form in (sync_function, sync_block):
        with pytest.raises(interruption):
            form(pool, servers.use)
    assert servers.calls == ["a", "a"]
    assert outcomes(values) == {"cancelled": 2}
    assert attempts_of(values, "a") == {"cancelled": 2}
    assert pool.status().members[0].in_flight == 0


def test_a_cancelled_call_counts_as_nothing_and_frees_what_it_held(servers, values, surroundings):
    pool = servers.pool("a", "b")

    @failover(pool)
    async def wait(_resource):
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert outcomes(values) == {"cancelled": 1}
    assert pool.status().members[0].in_flight == 0


def test_attempts_limits_the_members_that_a_call_tries(caller, servers, values, surroundings):
    servers.broken = {"a": Lost, "b": Lost}
    with pytest.raises(AllMembersFailedError):
        caller(servers.pool("a", "b", "c", attempts=2), servers.use)
    assert servers.calls == ["a", "b"]
    assert reasons(values) == {"attempts": 1}


def test_a_busy_member_is_left_for_another_one_without_a_mark(caller, servers, values):
    servers.broken["a"] = Lost
    pool = servers.pool("a", "b", on=lambda _error: Verdict.TRY_ANOTHER)
    for _ in range(10):
        assert caller(pool, servers.use) == ("b",)
    assert attempts_of(values, "a") == {"rejected": 10}
    assert values.value("ejections_total") == 0


@pytest.mark.parametrize(
    ("verdict", "tried"),
    [
        (True, ["a", "b"]),
        (Verdict.MEMBER_FAILED, ["a", "b"]),
        (False, ["a"]),
        (Verdict.STOP, ["a"]),
    ],
)
def test_a_predicate_decides(caller, servers, verdict, tried):
    servers.broken["a"] = OSError
    pool = servers.pool("a", "b", on=lambda _error: verdict)
    try:
        caller(pool, servers.use)
    except OSError:
        assert verdict in (False, Verdict.STOP)
    assert servers.calls == tried


@pytest.mark.parametrize("answer", [None, 1, "yes"])
def test_a_predicate_that_answers_anything_else_is_told_on_the_exception(caller, servers, answer):
    servers.broken["a"] = Lost
    with pytest.raises(Lost) as caught:
        caller(servers.pool("a", "b", on=lambda _error: answer), servers.use)
    assert "TypeError" in caught.value.__notes__[0]


def test_rerun_false_moves_on_only_before_the_function_ran(servers, values):
    servers.broken["a"] = Lost
    call = failover(servers.pool("a", "b"), rerun=False)(servers.use)
    for _ in range(4):
        with pytest.raises(Lost):
            call()
    assert servers.calls == ["a"] * 4
    assert call() == ("b",)


def test_the_resource_goes_in_after_self_or_cls(servers):
    pool = servers.pool("a")

    class Store:
        @failover(pool)
        def read(self, db, key):
            return self, db, key

        @failover(pool)
        async def aread(self, db, key):
            return self, db, key

        @failover(pool)
        @classmethod
        def made(cls, db):
            return cls, db

        @failover(pool)
        @staticmethod
        def plain(db, key):
            return db, key

    store = Store()
    assert store.read("k") == (store, "a", "k")
    assert asyncio.run(store.aread("k")) == (store, "a", "k")
    assert Store.made() == (Store, "a")
    assert store.plain("k") == ("a", "k")
    assert Store.read.__name__ == "read"


def test_the_lease_of_a_call_is_known_inside_it(caller, servers, surroundings):
    pool = servers.pool("a", "b")
    seen = []
    caller(pool, lambda _resource: seen.append(current_lease()))
    assert (seen[0].member, seen[0].resource, seen[0].epoch) == ("a", "a", 0)
    with pytest.raises(LookupError):
        current_lease()


def test_leases_of_nested_pools_come_back(servers):
    outer, inner = servers.pool("a"), servers.pool("b")
    with outer.lease():
        with inner.lease():
            assert current_lease().member == "b"
        assert current_lease().member == "a"


def test_an_error_in_a_lease_counts_against_the_member(servers, values):
    pool = servers.pool("a", "b")
    for _ in range(4):
        with pytest.raises(Lost), pool.lease() as resource:  # noqa: PT012 - it ends in a block
            assert resource == "a"
            raise Lost
    with pool.lease() as resource:
        assert resource == "b"
    assert attempts_of(values, "a") == {"error": 4}


def test_leases_work_in_async_code(servers):
    pool = servers.pool("a", "b")

    async def main():
        async with pool.lease() as resource:
            return resource, current_lease().member

    assert asyncio.run(main()) == ("a", "a")


def test_break_and_return_in_a_block_are_a_success(servers, values):
    for attempt in servers.pool("a"):
        with attempt:
            break
    assert outcomes(values) == {"success": 1}


def test_an_attempt_that_is_not_entered_is_refused_and_frees_the_member(servers):
    pool = servers.pool("a")
    with pytest.raises(RuntimeError, match="with attempt"):
        for _attempt in pool:
            pass
    assert pool.status().members[0].in_flight == 0


def test_for_in_async_code_is_refused(servers):
    pool = servers.pool("a")

    async def main():
        for _attempt in pool:
            pass

    with pytest.raises(TypeError, match="async for attempt in pool"):
        asyncio.run(main())


def test_a_function_that_returns_a_coroutine_is_refused(servers, values, surroundings):
    async def inner():
        """Never awaited."""

    with pytest.raises(TypeError, match="decorate the async function"):
        failover(servers.pool("a"))(lambda _resource: inner())()
    assert outcomes(values) == {"error": 1}


def test_generators_are_refused_at_decoration(servers):
    def items(_resource):
        yield 1

    with pytest.raises(TypeError, match="does not wrap generators"):
        failover(servers.pool("a"))(items)


def test_async_calls_outside_asyncio_are_refused(servers):
    async def fetch(resource):
        return resource

    call = failover(servers.pool("a"))(fetch)()
    with pytest.raises(UnsupportedLoopError):
        call.send(None)


def test_no_time_left_calls_nothing(caller, servers, values):
    with deadline(0), pytest.raises(DeadlineExpiredError):
        caller(servers.pool("a"), servers.use)
    assert servers.calls == []
    assert outcomes(values) == {"timeout": 1}


def test_a_timeout_ends_the_call_after_the_running_attempt(caller, servers, values, clock):
    servers.broken["b"] = Lost

    def slow(name):
        clock.advance(2)
        raise Lost(name)

    with pytest.raises(Lost):
        caller(servers.pool("a", "b", timeout=2.0), slow)
    assert outcomes(values) == {"timeout": 1}


def test_the_budget_charges_only_further_attempts(servers, values):
    servers.broken["a"] = Lost
    pool = servers.pool("a", "b", budget=RetryBudget(ratio=0.0, floor=0.1, window=10.0),
                        detect=Detect(consecutive=100, threshold=10_000))  # fmt: skip
    assert sync_call(pool, servers.use) == ("b",)
    with pytest.raises(Lost):
        sync_call(pool, servers.use)
    assert reasons(values) == {"budget": 1}


# Health and the return of members.


def test_four_failures_in_a_row_eject_a_member(caller, servers, values, clock):
    servers.broken["a"] = Lost
    pool = servers.pool("a", "b")
    for _ in range(6):
        assert caller(pool, servers.use) == ("b",)
    assert servers.calls == ["a", "b"] * 4 + ["b", "b"]
    assert state_of(values, "a") == ["ejected"]
    assert values.value("ejections_total", member="a", cause="consecutive") == 1
    assert values.value("failovers_total", from_member="a", to_member="b", reason="ejected") == 1
    assert values.value("time_to_detect_seconds_count") == 1


def test_a_single_trial_finds_that_a_member_is_well(caller, servers, values, clock):
    servers.broken["a"] = Lost
    pool = servers.pool("a", "b", failback=Failback("grace", grace=0.0))
    for _ in range(4):
        caller(pool, servers.use)
    clock.advance(5.0)
    assert caller(pool, servers.use) == ("b",)
    assert attempts_of(values, "a") == {"error": 5}
    servers.broken.clear()
    clock.advance(10.0)
    assert caller(pool, servers.use) == ("a",)
    assert caller(pool, servers.use) == ("a",)
    assert values.value("failovers_total", from_member="b", to_member="a", reason="failback") == 1
    assert values.value("time_to_recover_seconds_sum") == 15.0
    assert values.value("ejections_total") == 1


def test_a_member_in_trial_gets_one_call_at_a_time(servers, values, clock):
    pool = servers.pool("a", "b")
    servers.broken["a"] = Lost
    for _ in range(4):
        sync_call(pool, servers.use)
    clock.advance(5.0)
    with pool.lease() as trial:
        assert trial == "a"
        assert state_of(values, "a") == ["trial"]
        assert [sync_call(pool, servers.use) for _ in range(5)] == [("b",)] * 5


def test_a_hung_trial_does_not_wedge_the_pool(servers, clock):
    """P5: a trial whose call never ends frees its place when its lease is over."""
    pool = servers.pool("a", "b", failback=Failback("grace", grace=0.0))
    servers.broken["a"] = Lost
    for _ in range(4):
        sync_call(pool, servers.use)
    servers.broken.clear()
    clock.advance(5.0)
    hung = Elsewhere(pool)
    clock.advance(5.0)
    assert sync_call(pool, servers.use) == ("b",)
    clock.advance(10.0)
    assert sync_call(pool, servers.use) == ("a",)
    hung.end(Lost())
    assert sync_call(pool, servers.use) == ("a",)


def test_a_cancelled_trial_is_neither_success_nor_failure_and_frees_its_place(servers, clock):
    """P2 and P3 of the field notes on breakers."""
    pool = servers.pool("a", "b")
    servers.broken["a"] = Lost
    for _ in range(4):
        sync_call(pool, servers.use)
    clock.advance(5.0)
    servers.broken["a"] = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        sync_call(pool, servers.use)
    assert pool.status().members[0].state == "ejected"
    servers.broken.clear()
    assert sync_call(pool, servers.use) == ("a",)


def test_failures_on_their_way_when_a_member_is_ejected_are_one_strike(servers, values, clock):
    """Field section 4, item 5: ten calls in flight of one outage made ten strikes elsewhere."""
    pool = servers.pool("a", "b")
    leases = [Elsewhere(pool) for _ in range(10)]
    for lease in leases:
        lease.end(Lost())
    first = pool.status().members[0]
    assert first.seconds <= 5.0
    assert values.value("ejections_total") == 1


def test_an_answer_from_before_the_ejection_changes_nothing(servers, clock):
    """P6 and item 4: a late success must not close, a late failure not lengthen."""
    pool = servers.pool("a", "b")
    early, late = Elsewhere(pool), Elsewhere(pool)
    servers.broken["a"] = Lost
    for _ in range(4):
        sync_call(pool, servers.use)
    before = pool.status().members[0]
    early.end()
    late.end(Lost())
    after = pool.status().members[0]
    assert (after.state, after.seconds, after.score) == (before.state, before.seconds, 1.0)


def test_a_readmitted_member_gets_a_growing_share(servers, clock, monkeypatch):
    monkeypatch.setattr(random, "random", random.Random(7).random)
    pool = servers.pool("a", "b", failback=Failback(grace=10.0, ramp=100.0, jitter=0.0))
    servers.broken["a"] = Lost
    for _ in range(4):
        sync_call(pool, servers.use)
    servers.broken.clear()
    clock.advance(5.0)
    assert sync_call(pool, servers.use) == ("a",)
    assert {sync_call(pool, servers.use)[0] for _ in range(50)} == {"b"}
    shares = []
    clock.advance(10.0)
    for _ in range(4):
        clock.advance(20.0)
        picked = [sync_call(pool, servers.use)[0] for _ in range(500)]
        shares.append(picked.count("a") / 500)
    assert all(abs(share - want) < 0.07
               for share, want in zip(shares, [0.2, 0.4, 0.6, 0.8], strict=True))  # fmt: skip
    clock.advance(20.0)
    assert {sync_call(pool, servers.use)[0] for _ in range(50)} == {"a"}


def test_manual_failback_waits_for_release(servers, values, clock):
    pool = servers.pool("a", "b", failback=Failback("manual"))
    servers.broken["a"] = Lost
    for _ in range(4):
        sync_call(pool, servers.use)
    servers.broken.clear()
    clock.advance(5.0)
    sync_call(pool, servers.use)
    clock.advance(100_000.0)
    assert sync_call(pool, servers.use) == ("b",)
    pool.release()
    assert sync_call(pool, servers.use) == ("a",)


def test_the_jitter_keeps_pools_from_coming_back_at_the_same_time(servers, clock):
    """Field section 4, item 1."""
    ends = set()
    for _ in range(20):
        pool = servers.pool("a", "b")
        servers.broken = {"a": Lost}
        for _ in range(4):
            sync_call(pool, servers.use)
        ends.add(round(pool.status().members[0].seconds, 6))
    assert len(ends) == 20
    assert max(ends) <= 5.0
    assert min(ends) >= 2.5


def test_the_last_member_is_not_ejected_and_serves_on_as_failing(caller, servers, values, clock):
    servers.broken = {"a": Lost}
    pool = servers.pool("a")
    for _ in range(10):
        with pytest.raises(Lost):
            caller(pool, servers.use)
    assert servers.calls == ["a"] * 10
    assert state_of(values, "a") == ["failing"]
    assert pool.status().down
    servers.broken.clear()
    for _ in range(4):
        assert caller(pool, servers.use) == ("a",)
    assert state_of(values, "a") == ["active"]
    assert not pool.status().down


def test_a_failing_member_is_ejected_once_another_one_is_well(servers, values, clock):
    pool = servers.pool("a", "b", failback=Failback("grace", grace=0.0))
    servers.broken = {"a": Lost, "b": Lost}
    for _ in range(8):
        with pytest.raises((Lost, AllMembersFailedError)):
            sync_call(pool, servers.use)
    assert sorted(state_of(values, "a") + state_of(values, "b")) == ["ejected", "failing"]
    del servers.broken["a"]
    clock.advance(300.0)
    assert sync_call(pool, servers.use) == ("a",)
    pool.force("b")
    with pytest.raises(Lost):
        sync_call(pool, servers.use)
    pool.release()
    assert [sync_call(pool, servers.use) for _ in range(3)] == [("a",)] * 3


def test_when_all_are_down_raise_rejects_at_once_with_the_time_of_the_next_trial(
    caller, servers, values, clock
):
    servers.broken = {"a": Lost, "b": Lost}
    pool = servers.pool("a", "b", when_all_down="raise")
    for _ in range(4):
        with pytest.raises((Lost, AllMembersFailedError)):
            caller(pool, servers.use)
    servers.calls.clear()
    with pytest.raises(AllMembersFailedError) as caught:
        caller(pool, servers.use)
    assert servers.calls == []
    assert [type(error) for error in caught.value.exceptions] == [CircuitOpenError] * 2
    assert 0 < caught.value.retry_after <= 5.0
    assert outcomes(values)["rejected"] == 1


def test_when_all_are_down_wait_waits_for_the_next_trial(caller, servers, values, clock):
    servers.broken = {"a": Lost, "b": Lost}
    pool = servers.pool("a", "b", when_all_down="wait")
    for _ in range(4):
        with pytest.raises((Lost, AllMembersFailedError)):
            caller(pool, servers.use)
    servers.broken.clear()
    before = clock.now()
    assert caller(pool, servers.use)[0] in {"a", "b"}
    assert 2.5 <= clock.now() - before <= 5.0
    assert values.value("wait_seconds_total") == pytest.approx(clock.now() - before)


def test_waiting_for_a_trial_gives_up_at_once_if_the_deadline_is_earlier(caller, servers, clock):
    servers.broken = {"a": Lost}
    pool = servers.pool("a", when_all_down="wait")
    for _ in range(4):
        with pytest.raises(Lost):
            caller(pool, servers.use)
    before = clock.now()
    with deadline(1.0), pytest.raises(AllMembersFailedError):
        caller(pool, servers.use)
    assert clock.now() == before


def test_a_retry_around_a_pool_waits_for_as_long_as_it_says(servers, clock):
    servers.broken = {"a": Lost}
    pool = servers.pool("a", when_all_down="raise")
    for _ in range(4):
        with pytest.raises(Lost):
            sync_call(pool, servers.use)
    servers.broken.clear()
    policy = retry(on=(Lost, CircuitOpenError), attempts=2, wait=0)
    assert policy.call(pool.call, servers.use) == ("a",)
    assert 2.5 <= clock.now() <= 5.5


def test_an_answer_that_is_too_slow_counts_although_it_is_returned(servers, values, clock):
    pool = servers.pool("a", "b", detect=Detect(slow=1.0))

    def slow(name):
        if name == "a":
            clock.advance(1.5)
        return name

    assert [sync_call(pool, slow) for _ in range(5)] == ["a"] * 4 + ["b"]
    assert values.value("ejections_total", member="a", cause="slow") == 1


def test_the_backoff_level_is_not_reset_by_a_good_trial(servers, clock):
    """Field section 4, item 3: flapping members used to come back after the shortest time."""
    pool = servers.pool("a", "b", failback=Failback("grace", grace=0.0))
    spans = []
    for _ in range(4):
        servers.broken = {"a": Lost}
        while pool.status().members[0].state != "ejected":
            sync_call(pool, servers.use)
        spans.append(pool.status().members[0].seconds)
        servers.broken.clear()
        clock.advance(spans[-1])
        assert sync_call(pool, servers.use) == ("a",)
    for n, span in enumerate(spans):
        assert 2.5 * 2**n <= span <= 5.0 * 2**n


# Operations.


def test_force_holds_until_release(servers, values, clock):
    """Field section 4, item 16: a forced switch used to be undone by the next check."""
    pool = servers.pool("a", "b")
    sync_call(pool, servers.use)
    pool.force("b")
    clock.advance(10_000.0)
    assert [sync_call(pool, servers.use)[0] for _ in range(3)] == ["b"] * 3
    servers.broken["b"] = Lost
    for _ in range(6):
        with pytest.raises(Lost):
            sync_call(pool, servers.use)
    assert pool.status().forced == "b"
    pool.release()
    assert sync_call(pool, servers.use) == ("a",)
    assert values.value("failovers_total", from_member="a", to_member="b", reason="forced") == 1


def test_a_drained_member_gets_no_new_calls_and_keeps_the_ones_it_has(servers, values):
    pool = servers.pool("a", "b")
    with pool.lease() as resource:
        pool.drain("a")
        assert resource == "a"
        assert pool.status().members[0].in_flight == 1
        assert sync_call(pool, servers.use) == ("b",)
    assert state_of(values, "a") == ["draining"]
    assert values.value("failovers_total", from_member="a", to_member="b", reason="drained") == 1
    pool.release()
    assert sync_call(pool, servers.use) == ("a",)


def test_members_are_added_and_removed(servers, values):
    pool = servers.pool("a")
    sync_call(pool, servers.use)
    pool.add(Member("b", "b"))
    pool.remove("a")
    assert sync_call(pool, servers.use) == ("b",)
    assert values.value("failovers_total", from_member="a", to_member="b", reason="removed") == 1
    assert [member.name for member in pool.status().members] == ["b"]
    assert state_of(values, "a") == []


@pytest.mark.parametrize("operation", ["force", "drain", "remove"])
def test_unknown_members_are_named(servers, operation):
    with pytest.raises(ValueError, match="no member 'x'; it has a, b"):
        getattr(servers.pool("a", "b"), operation)("x")


def test_a_name_cannot_be_added_twice_nor_the_last_member_be_removed(servers):
    pool = servers.pool("a")
    with pytest.raises(ValueError, match="already has a member 'a'"):
        pool.add(Member("a", "x"))
    with pytest.raises(ValueError, match="would have no members"):
        pool.remove("a")
    with pytest.raises(TypeError, match="`member`"):
        pool.add("a")


def test_events_are_heard_and_cannot_break_a_call(servers, values, clock):
    pool = servers.pool("a", "b")
    heard = []
    stop = pool.on_event(lambda event: heard.append(event.kind))
    pool.on_event(lambda _event: 1 / 0)
    servers.broken["a"] = Lost
    for _ in range(4):
        sync_call(pool, servers.use)
    assert heard == ["member_ejected", "pool_switched"]
    stop()
    servers.broken.clear()
    clock.advance(5.0)
    sync_call(pool, servers.use)
    assert len(heard) == 2
    assert values.value("errors_total", error_type="ZeroDivisionError") == 3


def test_the_epoch_grows_with_every_switch(servers, clock):
    pool = servers.pool("a", "b")
    epochs = []
    for broken in ({}, {"a": Lost}):
        servers.broken = broken
        for _ in range(5):
            sync_call(pool, lambda name: (servers.use(name), epochs.append(current_lease().epoch)))
    assert epochs == [0] * 5 + [0] * 3 + [1] * 2 or sorted(set(epochs)) == [0, 1]
    assert epochs == sorted(epochs)


# Errors as objects.


def test_the_group_is_an_exception_group_that_pickles_and_derives():
    error = AllMembersFailedError("db", [Lost("a"), CircuitOpenError("db/b", 2.0)], 1.5)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled right here
    assert (copy.component, copy.retry_after) == ("db", 1.5)
    assert [repr(leaf) for leaf in copy.exceptions] == [repr(leaf) for leaf in error.exceptions]
    lost, rest = error.split(Lost)
    assert type(lost) is type(rest) is AllMembersFailedError
    assert (lost.component, lost.retry_after) == ("db", 1.5)
    with pytest.raises(ValueError, match="non-empty"):
        AllMembersFailedError("db", [])


def test_on_of_a_retry_matches_the_group_if_it_matches_every_leaf(servers, clock):
    servers.broken = {"a": Lost, "b": Lost}
    pool = servers.pool("a", "b")
    with pytest.raises(AllMembersFailedError):
        retry(on=Lost, attempts=2, wait=0).call(pool.call, servers.use)
    assert servers.calls == ["a", "b"] * 2


def test_failed_attempts_leave_nothing_to_the_garbage_collector(caller, servers, surroundings):
    """P22: an exception that is kept by a cycle keeps the arguments of the call."""
    gone = []

    class Tracked(Lost):
        def __init__(self, *args):
            super().__init__(*args)
            weakref.finalize(self, gone.append, args)

    pool = servers.pool("a", "b")
    servers.broken = {"a": Tracked}
    gc.collect()
    gc.disable()
    try:
        caller(pool, servers.use)
        assert gone == [("a",)]
        servers.broken = {"a": Tracked, "b": Tracked}
        with contextlib.suppress(AllMembersFailedError):
            caller(pool, servers.use)
        # What leaves `asyncio.run` with an exception leaves cycles of asyncio's own.
        assert sorted(gone) == [("a",), ("a",), ("b",)] or "async" in caller.__name__
    finally:
        gc.enable()
