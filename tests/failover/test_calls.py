"""Calls through a pool: who answers, who is tried next, and how a call ends."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import math
import pickle
import weakref
from datetime import timedelta

import pytest

from mainstay import (
    AllMembersFailedError,
    CircuitOpenError,
    DeadlineExpiredError,
    Detect,
    FailoverPool,
    MainstayError,
    Member,
    RetryBudget,
    UnsupportedLoopError,
    Verdict,
    current_lease,
    deadline,
    failover,
    retry,
)
from mainstay.errors import NoMemberError, RejectedError
from support.callers import ASYNC
from support.pools import POOL_FORMS, Lost, ause


class Late(TimeoutError):
    """What makes members fail in another way."""


def test_the_first_member_answers_as_long_as_it_can(pool_caller, servers, metrics, context):
    pool = servers.pool("a", "b")
    assert [pool_caller(pool, servers.use, i) for i in range(3)] == [("a", 0), ("a", 1), ("a", 2)]
    assert metrics.outcomes() == {"success": 3}
    assert metrics.reasons() == {}
    assert metrics.attempts_at("a") == {"success": 3}
    assert metrics.attempts_at("b") == {}


def test_a_call_that_fails_goes_on_to_another_member(pool_caller, servers, metrics, context):
    servers.broken["a"] = Lost
    assert pool_caller(servers.pool("a", "b"), servers.use, 1) == ("b", 1)
    assert servers.calls == ["a", "b"]
    assert metrics.outcomes() == {"recovered": 1}
    assert metrics.attempts_at("a") == {"error": 1}
    assert metrics.attempts_at("b") == {"success": 1}
    assert metrics("call_attempts_sum", policy="failover") == 2


def test_when_all_fail_the_last_exception_lists_the_attempts_before(
    pool_caller, servers, metrics, clock
):
    servers.broken = {"a": Lost, "b": Late}
    pool = servers.pool("a", "b", on=OSError)
    with pytest.raises(Late) as caught:
        pool_caller(pool, servers.use)
    assert servers.calls == ["a", "b"]
    (note,) = caught.value.__notes__
    assert note == (
        "mainstay.failover db: gave up after 2 attempts, the last one at member b, in 0.000 s: "
        "no other member left; the attempts before:\n"
        "  attempt 1, at member a: Lost: a (0.000 s)"
    )
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert metrics.outcomes() == {"error": 1}
    assert metrics.reasons() == {"no_member": 1}


def test_the_note_lists_the_first_attempt_and_the_last_five(servers, clock):
    names = [f"m{number}" for number in range(1, 10)]
    servers.broken = dict.fromkeys(names, Lost)
    with pytest.raises(Lost, match="m9") as caught:
        servers.pool(*names).call(servers.use)
    _, *lines = caught.value.__notes__[0].splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "  attempt 1, at member m1",
        "  ... and 2 more attempts",
        *(f"  attempt {number}, at member m{number}" for number in range(4, 9)),
    ]


def test_with_raises_group_each_attempt_is_there_with_a_note(
    pool_caller, servers, metrics, context
):
    servers.broken = {"a": Lost, "b": Lost}
    with pytest.raises(AllMembersFailedError) as caught:
        pool_caller(servers.pool("a", "b", raises="group"), servers.use)
    assert servers.calls == ["a", "b"]
    assert caught.value.members == ("a", "b")
    assert [type(error) for error in caught.value.exceptions] == [Lost, Lost]
    notes = [error.__notes__[0] for error in caught.value.exceptions]
    assert [note.split(",")[:2] for note in notes] == [
        ["mainstay.failover db: attempt 1", " at member a"],
        ["mainstay.failover db: attempt 2", " at member b"],
    ]
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert metrics.outcomes() == {"error": 1}
    assert metrics.reasons() == {"no_member": 1}


def test_one_attempt_raises_its_own_exception_with_one_note(pool_caller, servers, metrics, context):
    """Known fault 14: a group of one makes `except ConnectionError` miss it."""
    servers.broken["a"] = Lost
    with pytest.raises(Lost) as caught:
        pool_caller(servers.pool("a"), servers.use)
    assert len(caught.value.__notes__) == 1
    assert "gave up after 1 attempt, at member a" in caught.value.__notes__[0]
    assert metrics.outcomes() == {"error": 1}


@pytest.mark.parametrize("options", [{}, {"attempts": 1}, {"timeout": 1e-9}])
def test_with_raises_group_one_attempt_is_a_group_too(pool_caller, servers, options):
    """What is raised must not depend on how many members were left to try."""
    servers.broken["a"] = Lost
    with pytest.raises(AllMembersFailedError) as caught:
        pool_caller(servers.pool("a", raises="group", **options), servers.use)
    assert [type(error) for error in caught.value.exceptions] == [Lost]


def test_with_raises_group_a_lease_raises_what_its_block_raised(servers):
    with pytest.raises(Lost), servers.pool("a", raises="group").lease() as resource:
        raise Lost(resource)


def test_what_an_open_raises_is_not_the_last_exception(pools, site, clock):
    """Only the function's own exceptions are: what failed after it did is in the log."""
    site.broken |= {"a", "open b"}
    pool = FailoverPool("db", [Member("a", "a0"), pools.member(site, "b", standby="cold")],
                        on=Lost, detect=Detect(consecutive=1))  # fmt: skip
    with pytest.raises(Lost, match="a0"):
        pools.call(pool, site.use)
    pools.close(pool)


# Refusals of policies inside the call: nothing was called, so they say nothing of the member.


def refuse(name):
    raise CircuitOpenError(f"breaker of {name}", 2.0)


def test_a_refusal_that_on_matches_moves_on_and_is_not_charged(pool_caller, servers, metrics):
    def use(name):
        return refuse(name) if name == "a" else name

    pool = servers.pool("a", "b", on=CircuitOpenError)
    assert [pool_caller(pool, use) for _ in range(10)] == ["b"] * 10
    assert metrics.attempts_at("a") == {"rejected": 10}
    assert pool.status().members[0].score == 0.0


def test_refusals_in_a_group_as_of_a_task_group_are_not_charged(pool_caller, servers, metrics):
    def use(name):
        if name == "b":
            return name
        refusals = [CircuitOpenError("left", 2.0), CircuitOpenError("right", 2.0)]
        raise ExceptionGroup("tasks", [refusals[0], ExceptionGroup("more", refusals[1:])])

    pool = servers.pool("a", "b", on=Exception)
    assert [pool_caller(pool, use) for _ in range(10)] == ["b"] * 10
    assert metrics.attempts_at("a") == {"rejected": 10}
    assert pool.status().members[0].score == 0.0


def test_a_group_of_a_refusal_and_more_is_charged(pool_caller, servers, metrics):
    def use(name):
        if name == "b":
            return name
        raise ExceptionGroup("tasks", [CircuitOpenError("left", 2.0), Lost(name)])

    pool = servers.pool("a", "b", on=Exception)
    assert pool_caller(pool, use) == "b"
    assert metrics.attempts_at("a") == {"error": 1}


def test_a_refusal_that_on_does_not_match_ends_the_call_and_is_not_charged(
    pool_caller, servers, metrics
):
    pool = servers.pool("a", "b")
    for _ in range(10):
        with pytest.raises(CircuitOpenError):
            pool_caller(pool, refuse)
    assert metrics.attempts_at("a") == {"rejected": 10}
    assert metrics.attempts_at("b") == {}
    assert pool.status().members[0].score == 0.0


def test_a_refusal_is_the_last_exception_only_if_there_is_no_other(pool_caller, servers, clock):
    def use(name):
        if name == "a":
            raise Lost(name)
        refuse(name)

    pool = servers.pool("a", "b", "c", on=(Lost, CircuitOpenError))
    with pytest.raises(Lost) as caught:
        pool_caller(pool, use)
    _, *lines = caught.value.__notes__[0].splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["  attempt 1, at member a", "Lost"],
        ["  attempt 2, at member b", "CircuitOpenError"],
        ["  attempt 3, at member c", "CircuitOpenError"],
    ]
    with pytest.raises(CircuitOpenError, match="breaker of c"):
        pool_caller(pool, refuse)


def test_an_exception_outside_on_passes_untouched(pool_caller, servers, metrics, context):
    servers.broken["a"] = KeyError
    with pytest.raises(KeyError) as caught:
        pool_caller(servers.pool("a", "b"), servers.use)
    assert not hasattr(caught.value, "__notes__")
    assert servers.calls == ["a"]
    assert metrics.reasons() == {"not_retryable": 1}
    assert metrics.attempts_at("a") == {"error": 1}
    assert metrics("ejections_total") == 0


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interruptions_pass_and_count_as_nothing(servers, metrics, context, interruption):
    servers.broken["a"] = interruption
    pool = servers.pool("a", "b")
    for form in ("sync-decorated", "sync-block"):
        with pytest.raises(interruption):
            POOL_FORMS[form](pool, servers.use)
    assert servers.calls == ["a", "a"]
    assert metrics.outcomes() == {"cancelled": 2}
    assert metrics.attempts_at("a") == {"cancelled": 2}
    assert pool.status().members[0].in_flight == 0


def test_a_cancelled_call_counts_as_nothing_and_frees_what_it_held(servers, metrics, context):
    """Known fault 6: timeouts made of cancellations mark nodes dead."""
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
    assert metrics.outcomes() == {"cancelled": 1}
    member = pool.status().members[0]
    assert (member.in_flight, member.score) == (0, 0.0)


def test_attempts_limits_the_members_that_a_call_tries(pool_caller, servers, metrics, context):
    servers.broken = {"a": Lost, "b": Lost}
    with pytest.raises(Lost, match="b"):
        pool_caller(servers.pool("a", "b", "c", attempts=2), servers.use)
    assert servers.calls == ["a", "b"]
    assert metrics.reasons() == {"attempts": 1}


def test_a_busy_member_is_left_for_another_one_without_a_mark(pool_caller, servers, metrics):
    servers.broken["a"] = Lost
    pool = servers.pool("a", "b", on=lambda _error: Verdict.TRY_ANOTHER)
    for _ in range(10):
        assert pool_caller(pool, servers.use) == ("b",)
    assert metrics.attempts_at("a") == {"rejected": 10}
    assert metrics("ejections_total") == 0


@pytest.mark.parametrize(
    ("verdict", "tried"),
    [
        (True, ["a", "b"]),
        (Verdict.MEMBER_FAILED, ["a", "b"]),
        (False, ["a"]),
        (Verdict.STOP, ["a"]),
    ],
)
def test_a_predicate_decides(pool_caller, servers, verdict, tried):
    servers.broken["a"] = OSError
    pool = servers.pool("a", "b", on=lambda _error: verdict)
    try:
        pool_caller(pool, servers.use)
    except OSError:
        assert verdict in (False, Verdict.STOP)
    assert servers.calls == tried


@pytest.mark.parametrize(
    ("leaves", "raised", "tried"),
    [
        ([Verdict.MEMBER_FAILED, Verdict.STOP], True, ["x", "y"]),
        ([True, Verdict.STOP], True, ["x", "y"]),
        ([Verdict.MEMBER_FAILED, Verdict.TRY_ANOTHER], False, ["x", "y"]),
        ([Verdict.MEMBER_FAILED, True], False, ["x", "y"]),
    ],
)
def test_one_leaf_of_a_group_that_is_the_callers_stops_a_call(
    pool_caller, metrics, leaves, raised, tried
):
    verdicts = dict(zip("xy", leaves, strict=True))
    inner = FailoverPool("inner", [Member("x", "x"), Member("y", "y")], on=Lost, raises="group")
    outer = FailoverPool("outer", [Member("a", inner), Member("b", None)], on=lambda error:
                         verdicts[str(error)])  # fmt: skip
    asked = []

    def fail(name):
        asked.append(name)
        raise Lost(name)

    def use(pool):
        return pool.call(fail) if pool else "b answers"

    try:
        assert pool_caller(outer, use) == "b answers"
        assert not raised
    except AllMembersFailedError:
        assert raised
    assert asked == tried
    charged = metrics("member_attempts_total", component="outer", member="a", outcome="error")
    assert charged == (Verdict.TRY_ANOTHER not in leaves)


def test_two_verdicts_equal_what_they_stand_for():
    assert Verdict.MEMBER_FAILED == True  # noqa: E712 - that is what is tested
    assert Verdict.STOP == False  # noqa: E712 - that is what is tested
    assert Verdict.TRY_ANOTHER not in (True, False, "try_another")
    assert len({*Verdict, True, False}) == 3


@pytest.mark.parametrize("delay", [2.5, 0, timedelta(seconds=1), -1.0, math.nan])
def test_a_delay_from_a_predicate_counts_as_true(pool_caller, servers, metrics, delay):
    """So that one predicate can be the `on` of a retry and of a pool."""
    servers.broken["a"] = Lost
    pool = servers.pool("a", "b", on=lambda _error: delay, detect=Detect(consecutive=1))
    assert pool_caller(pool, servers.use) == ("b",)
    assert metrics("ejections_total", member="a") == 1


@pytest.mark.parametrize("answer", [None, [], "yes"])
def test_a_predicate_that_answers_anything_else_is_told_on_the_exception(
    pool_caller, servers, answer
):
    servers.broken["a"] = Lost
    with pytest.raises(Lost) as caught:
        pool_caller(servers.pool("a", "b", on=lambda _error: answer), servers.use)
    assert "TypeError" in caught.value.__notes__[0]


def test_rerun_false_moves_on_only_before_the_function_ran(servers, metrics):
    """Known fault 9: LiteLLM and Elasticsearch's client send again whatever failed, also after it
    was sent.
    """
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


def test_the_resource_goes_in_after_self_without_a_decorator_too(servers):
    class Store:
        def read(self, db, key):
            return self, db, key

        async def aread(self, db, key):
            return self, db, key

    store, pool = Store(), servers.pool("a")
    again = retry(on=Lost)(Store.read)  # whose own parameters do not show
    for fn in (Store.read, again):
        assert pool.call(fn, store, "k") == (store, "a", "k")
    assert asyncio.run(pool.call(Store.aread, store, "k")) == (store, "a", "k")
    assert pool.call(store.read, "k") == (store, "a", "k")
    assert pool.call(str) == "a"


class Client:
    def __init__(self, name):
        self.name = name

    def ping(self):
        return self.name

    def get(self, key, *, default=None):
        return self.name, key, default

    async def aget(self, key):
        return self.name, key

    def __call__(self, key):
        return self.name, key


class Cluster(Client):
    """Has the methods from a base, as clients have them from mix-ins."""


def test_a_method_of_the_resources_own_class_takes_the_resource_as_its_self():
    with FailoverPool("clients", [Member("a", Cluster("a"))], on=Lost) as pool:
        assert pool.call(Client.get, "k") == ("a", "k", None)
        assert pool.call(Cluster.get, "k", default=1) == ("a", "k", 1)
        assert pool.call(Client.ping) == "a"
        assert pool.call(functools.partial(Client.get, default=1), "k") == ("a", "k", 1)
        assert pool.call(retry(on=Lost)(Client.get), "k") == ("a", "k", None)
        assert asyncio.run(pool.call(Client.aget, "k")) == ("a", "k")
    with FailoverPool("words", [Member("a", "a,b")], on=Lost) as pool:
        assert pool.call(str.split, ",") == ["a", "b"]
        assert pool.call(str.upper) == "A,B"


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (Client.ping, ()),
        (Client.get, ("k",)),
        (Client.get, ()),
        (Client.get, ({"k": 1},)),  # whose class has a `get` of its own
        (functools.partial(Client.get), ("k",)),
        (Client.__call__, ("k",)),  # as every class has
    ],
)
def test_a_method_of_another_class_than_the_resources_is_never_called(fn, args):
    with (
        FailoverPool("clients", [Member("a", 1)], on=Lost) as pool,
        pytest.raises(TypeError, match="is a method, but not of the resource"),
    ):
        pool.call(fn, *args)


def test_the_lease_of_a_call_is_known_inside_it(pool_caller, servers, context):
    pool = servers.pool("a", "b")
    seen = []
    pool_caller(pool, lambda _resource: seen.append(current_lease()))
    assert (seen[0].member, seen[0].resource, seen[0].epoch) == ("a", "a", 0)
    with pytest.raises(LookupError):
        current_lease()


def test_leases_of_nested_pools_come_back(servers):
    outer, inner = servers.pool("a"), servers.pool("b")
    with outer.lease():
        with inner.lease():
            assert current_lease().member == "b"
        assert current_lease().member == "a"


def test_an_error_in_a_lease_counts_against_the_member(servers, metrics):
    pool = servers.pool("a", "b")
    for _ in range(4):
        with pytest.raises(Lost), pool.lease() as resource:  # noqa: PT012 - it ends in a block
            assert resource == "a"
            raise Lost
    with pool.lease() as resource:
        assert resource == "b"
    assert metrics.attempts_at("a") == {"error": 4}


def test_leases_work_in_async_code(servers):
    pool = servers.pool("a", "b")

    async def main():
        async with pool.lease() as resource:
            return resource, current_lease().member

    assert asyncio.run(main()) == ("a", "a")


def test_break_and_return_in_a_block_are_a_success(servers, metrics):
    for attempt in servers.pool("a"):
        with attempt:
            break
    assert metrics.outcomes() == {"success": 1}


def test_an_exception_that_would_end_the_loop_statement_does_not_end_it_in_silence(servers):
    """PEP 479: where the last one is raised by the loop, it would look like a success."""
    pool = FailoverPool("db", [Member("a", 1), Member("b", 2)], on=Exception)

    def block():
        for attempt in pool:
            with attempt:
                raise StopIteration(7)

    with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
        block()
    assert caught.value.__cause__.value == 7

    async def main():
        async for attempt in pool:
            with attempt:
                raise StopAsyncIteration(7)

    pool = FailoverPool("db", [Member("a", 1), Member("b", 2)], on=Exception)
    with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
        asyncio.run(main())


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


def test_a_function_that_returns_a_coroutine_is_refused(servers, metrics, context):
    async def inner():
        """Never awaited."""

    with pytest.raises(TypeError, match="decorate the async function"):
        failover(servers.pool("a"))(lambda _resource: inner())()
    assert metrics.outcomes() == {"error": 1}


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


def test_no_time_left_calls_nothing(pool_caller, servers, metrics):
    pool, heard = servers.pool("a"), []
    pool.on_event(heard.append)
    with deadline(0), pytest.raises(DeadlineExpiredError) as caught:
        pool_caller(pool, servers.use)
    assert servers.calls == []
    assert metrics.outcomes() == {"timeout": 1}
    assert metrics.reasons() == {"timeout": 1}
    (event,) = heard
    assert (event.kind, event.attempts, event.reason) == ("pool_gave_up", 0, "timeout")
    assert event.error is caught.value


def test_a_timeout_ends_the_call_after_the_running_attempt(pool_caller, servers, metrics, clock):
    servers.broken["b"] = Lost

    def slow(name):
        clock.advance(2)
        raise Lost(name)

    with pytest.raises(Lost):
        pool_caller(servers.pool("a", "b", timeout=2.0), slow)
    assert metrics.outcomes() == {"timeout": 1}


def test_the_budget_charges_only_further_attempts(servers, metrics):
    servers.broken["a"] = Lost
    pool = servers.pool("a", "b", budget=RetryBudget(ratio=0.0, floor=0.1, window=10.0),
                        detect=Detect(consecutive=100, threshold=10_000))  # fmt: skip
    assert pool.call(servers.use) == ("b",)
    with pytest.raises(Lost):
        pool.call(servers.use)
    assert metrics.reasons() == {"budget": 1}


def test_the_group_is_an_exception_group_that_pickles_and_derives():
    error = AllMembersFailedError("db", [Lost("a"), CircuitOpenError("db/b", 2.0)], 1.5, 2, 0.25)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled right here
    assert (copy.component, copy.retry_after) == ("db", 1.5)
    assert [repr(leaf) for leaf in copy.exceptions] == [repr(leaf) for leaf in error.exceptions]
    lost, rest = error.split(Lost)
    assert type(lost) is type(rest) is AllMembersFailedError
    assert (lost.component, lost.retry_after) == ("db", 1.5)
    with pytest.raises(ValueError, match="non-empty"):
        AllMembersFailedError("db", [])


def test_the_group_says_what_failed_how_often_and_what_to_do(pool_caller, servers, clock):
    servers.broken = {"a": Lost, "b": Lost}
    with pytest.raises(AllMembersFailedError) as caught:
        pool_caller(servers.pool("a", "b", raises="group"), servers.use)
    said = "pool db: both of 2 members failed (a: Lost, b: Lost) in 0.000 s"
    assert str(caught.value).startswith(said)
    assert (caught.value.attempts, caught.value.elapsed) == (2, 0.0)


def test_the_member_is_named_once_whatever_became_of_it():
    errors = [MainstayError("member a is drained"), CircuitOpenError("mail", 2.0), Lost("b0")]
    refused = NoMemberError("db", errors, None, 0, 0.0, ("a", "b", "c"))
    why = "member a is drained, b: circuit breaker mail is open: not called; next trial in 2.0 s"
    assert str(refused).startswith(f"pool db: no member could be called ({why}")
    assert ", c: Lost)" in str(refused)


@pytest.mark.parametrize("raises", ["last", "group"])
def test_where_no_member_can_be_called_it_is_told_of_each(pool_caller, servers, clock, raises):
    servers.broken = {"a": Lost, "b": Lost}
    pool = servers.pool("a", "b", "c", when_all_down="raise", raises=raises)
    pool.drain("c")
    for _ in range(4):
        with pytest.raises((Lost, AllMembersFailedError)):
            pool_caller(pool, servers.use)
    with pytest.raises(NoMemberError) as caught:
        pool_caller(pool, servers.use)
    error = caught.value
    assert (error.members, error.attempts) == (("a", "b", "c"), 0)
    assert 0 < error.retry_after <= 5.0
    assert [type(why) for why in error.exceptions] == [MainstayError] * 3
    waits = [member.seconds for member in pool.status().members[:2]]
    assert error.retry_after == min(waits)
    why = [
        f"member a is ejected; next trial in {waits[0]:.1f} s",
        f"member b is ejected; next trial in {waits[1]:.1f} s",
        "member c is drained",
    ]
    assert [str(each) for each in error.exceptions] == why
    assert str(error).startswith(f"pool db: no member could be called ({', '.join(why)}) after")


@pytest.mark.parametrize(
    "on", [NoMemberError, RejectedError, lambda error: isinstance(error, NoMemberError)]
)
def test_that_no_member_can_be_called_is_one_exception_for_a_retry_around_it(servers, clock, on):
    pool = servers.pool("a", when_all_down="raise")
    servers.eject(pool, "a")
    servers.broken.clear()
    with pytest.raises(NoMemberError):  # its entries are not judged
        retry(on=MainstayError, attempts=1, wait=0).call(pool.call, servers.use)
    before = clock.now()
    assert retry(on=on, attempts=2, wait=0).call(pool.call, servers.use) == ("a",)
    assert clock.now() - before >= 2.5


def test_giving_up_is_told_once_and_counted_once(pool_caller, servers, caplog, metrics):
    servers.broken = {"a": Lost, "b": Lost}
    pool, heard = servers.pool("a", "b"), []
    pool.on_event(heard.append)
    with pytest.raises(Lost) as caught:
        pool_caller(pool, servers.use)
    (event,) = heard
    assert (event.kind, event.attempts, event.reason) == ("pool_gave_up", 2, "no_member")
    assert event.error is caught.value
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.text.count("db: gave up (no_member) after 2 attempts") == 1
    assert metrics("give_ups_total") == 1


class Picky:
    """A selector that raises from its second pick on."""

    def __init__(self, error):
        self.error = error
        self.picks = 0

    def pick(self, members):
        self.picks += 1
        if self.picks > 1:
            raise self.error
        return members[0]


@pytest.mark.parametrize(
    ("error", "outcome", "reasons"),
    [(KeyError("x"), "error", {"predicate_error": 1}), (KeyboardInterrupt(), "cancelled", {})],
)
def test_a_call_whose_selector_raises_is_counted_once(
    pool_caller, servers, metrics, context, caplog, error, outcome, reasons
):
    pool = servers.pool("a", "b", select=Picky(error))
    assert pool_caller(pool, servers.use) == ("a",)
    with pytest.raises(type(error)):
        pool_caller(pool, servers.use)
    assert metrics.outcomes() == {outcome: 1, "success": 1}
    assert metrics.reasons() == reasons
    assert metrics("call_duration_seconds_count") == 2
    said = ["db: `select` raised KeyError"] if reasons else []
    assert [record.getMessage() for record in caplog.records] == said
    assert metrics("hook_errors_total", hook="predicate") == len(said)


@pytest.mark.parametrize("raises", ["last", "group"])
def test_a_selector_that_raises_does_not_hide_what_the_function_raised(
    pool_caller, servers, metrics, context, raises
):
    pool = servers.pool("a", "b", select=Picky(KeyError("x")), raises=raises)
    servers.broken["a"] = Lost
    with pytest.raises(Lost if raises == "last" else AllMembersFailedError) as caught:
        pool_caller(pool, servers.use)
    if raises == "last":
        (note,) = caught.value.__notes__
        assert note.endswith("`select` raised")
        assert caught.value.__context__ is None
    assert metrics.outcomes() == {"error": 1}
    assert metrics.reasons() == {"predicate_error": 1}


def test_an_interruption_of_the_selector_passes_after_a_failed_attempt(
    pool_caller, servers, metrics, context
):
    pool = servers.pool("a", "b", select=Picky(KeyboardInterrupt()))
    servers.broken["a"] = Lost
    with pytest.raises(KeyboardInterrupt):
        pool_caller(pool, servers.use)
    assert metrics.outcomes() == {"cancelled": 1}


def test_on_of_a_retry_matches_the_group_if_it_matches_every_leaf(servers, clock):
    servers.broken = {"a": Lost, "b": Lost}
    pool = servers.pool("a", "b", raises="group")
    with pytest.raises(AllMembersFailedError):
        retry(on=Lost, attempts=2, wait=0).call(pool.call, servers.use)
    assert servers.calls == ["a", "b"] * 2


@pytest.mark.parametrize("raises", ["last", "group"])
def test_failed_attempts_leave_nothing_to_the_garbage_collector(
    pool_caller, servers, context, raises
):
    """P22: an exception that is kept by a cycle keeps the arguments of the call."""
    gone = []

    class Tracked(Lost):
        def __init__(self, *args):
            super().__init__(*args)
            weakref.finalize(self, gone.append, args)

    pool = servers.pool("a", "b", raises=raises)
    servers.broken = {"a": Tracked}
    gc.collect()
    gc.disable()
    try:
        pool_caller(pool, servers.use)
        assert gone == [("a",)]
        servers.broken = {"a": Tracked, "b": Tracked}
        with contextlib.suppress(Tracked, AllMembersFailedError):
            pool_caller(pool, servers.use)
        # What leaves `asyncio.run` with an exception leaves cycles of asyncio's own.
        assert sorted(gone) == [("a",), ("a",), ("b",)] or pool_caller.__self__.caller is ASYNC
    finally:
        gc.enable()


# Known faults of other libraries, by their numbers in the survey.


class PoolExhausted(Exception):
    """All connections of the process are in use."""


VARIABLE = contextvars.ContextVar("variable", default="unset")


def test_a_pool_of_connections_that_is_empty_is_not_blamed_on_the_member(
    pool_caller, servers, metrics
):
    """Known fault 6: Elasticsearch's client marks the node dead."""

    def judge(error):
        return Verdict.STOP if isinstance(error, PoolExhausted) else isinstance(error, OSError)

    pool = servers.pool("a", "b", on=judge)
    servers.broken["a"] = PoolExhausted
    for _ in range(10):
        with pytest.raises(PoolExhausted):
            pool_caller(pool, servers.use)
    assert (pool.status().members[0].score, metrics("ejections_total")) == (0.0, 0)


def test_a_callers_deadline_that_is_too_short_is_not_blamed_on_the_member(
    pool_caller, servers, metrics, clock
):
    """Known fault 6: Elasticsearch's client marks the node dead; LiteLLM asks whose timeout it
    was.
    """
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


def test_what_must_not_run_twice_moves_on_if_it_has_not_run(pools, site, clock):
    """Known fault 9: a member that cannot be opened has had no effect."""
    site.broken.add("open a")
    pool = FailoverPool("db", [pools.member(site, "a"), pools.member(site, "b")], on=Lost)
    calls = pools.hook(site.use)
    call = failover(pool, rerun=False)(calls)
    answer = pools.loop.run_until_complete(call()) if pools.loop else call()
    assert answer == "b1"
    pools.close(pool)


def test_a_cancellation_that_the_function_raises_by_itself_goes_on(pool_caller, servers):
    """Known fault 11: it must neither hang nor be charged to the member."""
    servers.broken["a"] = asyncio.CancelledError
    pool = servers.pool("a", "b", on=lambda _error: True)
    with pytest.raises(asyncio.CancelledError):
        pool_caller(pool, servers.use)
    assert servers.calls == ["a"]
    assert pool.status().members[0].score == 0.0


def test_calls_see_the_callers_context_variables_and_hooks_do_not(pools, site):
    """Known fault 12: `run_in_executor` loses them."""
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
    assert seen == {"open": "unset", "call": "of the caller"}
    pools.close(pool)


def test_what_a_call_sets_is_seen_by_its_caller(servers):
    """Known fault 12: a copy of the context for each attempt would lose it."""
    pool = servers.pool("a", "b")
    servers.broken["a"] = Lost

    def use(resource):
        VARIABLE.set(resource)
        return servers.use(resource)

    def main():
        pool.call(use)
        return VARIABLE.get()

    assert contextvars.copy_context().run(main) == "b"


def test_plain_except_and_except_star_both_catch_what_all_members_raised(servers):
    """Known fault 14: asynchedging's group is empty here, and no error of its own there."""
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


def test_each_attempt_says_which_member_it_was_and_how_long_it_took(servers, clock):
    """Known fault 14: "All connections failed" helps nobody."""

    def slow(name):
        clock.advance(1.5 if name == "a" else 0.25)
        raise Lost(name)

    with pytest.raises(AllMembersFailedError) as caught:
        servers.pool("a", "b", raises="group").call(slow)
    assert [error.__notes__ for error in caught.value.exceptions] == [
        ["mainstay.failover db: attempt 1, at member a, 1.500 s"],
        ["mainstay.failover db: attempt 2, at member b, 0.250 s"],
    ]


def test_the_group_is_never_empty_although_nobody_was_called(servers, clock):
    """Known fault 14: asynchedging raises ValueError instead."""
    pool = servers.pool("a", "b")
    pool.drain("a")
    pool.drain("b")
    with pytest.raises(AllMembersFailedError) as caught:
        pool.call(servers.use)
    assert len(caught.value.exceptions) == 2


def test_a_spent_budget_does_not_hurt_the_first_attempt(pool_caller, servers, metrics):
    """Known fault 15: failsafe-go cancelled the primary when the budget was exceeded."""
    pool = servers.pool("a", "b", budget=RetryBudget(ratio=0.0, floor=0.0))
    assert pool_caller(pool, servers.use) == ("a",)
    servers.broken["a"] = Lost
    with pytest.raises(Lost):
        pool_caller(pool, servers.use)
    assert servers.calls == ["a", "a"]
    assert metrics.reasons() == {"budget": 1}


def test_a_builtin_is_given_the_resource_first():
    pool = FailoverPool("db", [Member("a", "text")], on=Lost)
    assert failover(pool)(len)() == 4
    assert failover(pool)(min)("b") == "b"


def test_async_failures_take_the_path_without_a_context_too():
    pool = FailoverPool("db", [Member("a", "bad"), Member("b", "good")], on=Lost)
    call = failover(pool)(ause)
    assert [asyncio.run(call()) for _ in range(6)] == ["good"] * 6
    lone = FailoverPool("db", [Member("a", "bad")], on=Lost)
    for _ in range(5):
        with pytest.raises(Lost):
            asyncio.run(failover(lone)(ause)())


def test_a_lease_is_for_one_block():
    pool = FailoverPool("db", [Member("a", "x")], on=Lost)
    lease = pool.lease()
    with lease, pytest.raises(RuntimeError, match="for one block"):
        lease.__enter__()
