"""Redundant calls whose copies run at the members of a pool: who gets which, and what it learns."""

import asyncio
import inspect
import logging
import threading
import time

import pytest

from mainstay import (
    CircuitOpenError,
    DeadlineExpiredError,
    Detect,
    FailoverPool,
    Member,
    NoDecisionError,
    NoMemberError,
    ResultRefusedError,
    RetryBudget,
    current_lease,
    deadline,
    hedge,
    redundant,
    vote,
)
from mainstay._redundant.members import PoolMembers
from mainstay.testing import Faults
from support.redundancy import RUNNERS, after

HEDGED = {"start": hedge.after(0.1), "budget": None}
TOGETHER = {"start": hedge.together()}
REAL = {**HEDGED, "start": hedge.after(0.001)}
PATIENCE = 20.0  # real seconds


class Lost(ConnectionError):
    """What counts against a member."""


@pytest.fixture(params=RUNNERS.values(), ids=RUNNERS)
def runner(request, clock, metrics):
    """One way of calling, on a clock, with metrics of its own."""
    return request.param


@pytest.fixture
def threads(clock, metrics):
    return RUNNERS["threads"]


def pool_of(*names, **options):
    members = [Member(name, name) for name in names]
    return FailoverPool("db", members, **{"on": Lost, **options})


def at_members(runner, **scripts):
    """A function that is given a member's resource, and does what that member's script says."""
    faults = {name: each if isinstance(each, Faults) else Faults(then=each)
              for name, each in scripts.items()}  # fmt: skip
    if runner is RUNNERS["threads"]:
        return lambda member, *args: faults[member](*args)

    async def fn(member, *args):
        return await faults[member].acall(*args)

    return fn


def states(pool):
    return {member.name: member.state for member in pool.status().members}


def scores(pool):
    return {member.name: member.score for member in pool.status().members}


def in_flight(pool):
    return {member.name: member.in_flight for member in pool.status().members}


# Which member a copy gets.


def test_each_copy_runs_at_a_member_of_its_own(runner, metrics):
    pool = pool_of("a", "b", "c")
    fn = at_members(runner, a=after(0.1, 7), b=after(0.2, 7), c=after(0.3, 7))
    policy = redundant(pool=pool, copies=3, decide=vote.unanimous(), **runner.options)
    assert runner.run(policy, fn) == 7
    for name in "abc":
        assert metrics("member_attempts_total", member=name, outcome="success") == 1
        assert metrics("dissents_total", copy=name) == 0
    assert metrics("copy_wins_total", copy="a") == 1
    assert metrics("votes_total", verdict="unanimous") == 1
    assert metrics("calls_total", policy="failover") == 0


def test_a_hedge_runs_at_another_member_than_the_slow_primary(runner, metrics):
    pool = pool_of("a", "b")
    policy = redundant(pool=pool, name="it", **runner.options, **HEDGED)
    assert (
        runner.run(policy, at_members(runner, a=after(9, "slow"), b=after(0.05, "fast"))) == "fast"
    )
    assert metrics.outcomes() == {"recovered": 1}
    assert metrics("hedges_total", reason="slow") == 1
    assert metrics("copy_wins_total", component="it", copy="b") == 1
    assert metrics("member_attempts_total", member="b", outcome="success") == 1
    assert scores(pool) == {"a": 0.0, "b": 0.0}


def test_a_failed_copy_is_followed_by_one_at_another_member(runner, metrics):
    pool = pool_of("a", "b")
    policy = redundant(pool=pool, **runner.options, **HEDGED)
    assert runner.run(policy, at_members(runner, a=Lost, b="page")) == "page"
    assert metrics("hedges_total", reason="failed") == 1
    assert scores(pool)["a"] > 0.0


def test_the_selection_of_the_pool_says_where_the_primary_runs(runner, metrics):
    pool = pool_of("a", "b", "c", select="round_robin")
    policy = redundant(pool=pool, copies=2, **runner.options, **HEDGED)
    fn = at_members(runner, a="from a", b="from b", c="from c")
    answers = [runner.run(policy, fn) for _ in range(6)]
    assert sorted(answers[:3]) == sorted(answers[3:]) == ["from a", "from b", "from c"]


def test_the_lease_of_a_copy_is_that_of_its_member(runner):
    pool = pool_of("a", "b")
    seen = []

    def fn(member):
        seen.append((member, current_lease().member, current_lease().resource))

    async def afn(member):
        fn(member)

    plain = runner is RUNNERS["threads"]
    policy = redundant(pool=pool, decide=vote.unanimous(), **runner.options)
    runner.run(policy, fn if plain else afn)
    assert sorted(seen) == [("a", "a", "a"), ("b", "b", "b")]
    with pytest.raises(LookupError):
        current_lease()


def test_alternatives_run_at_members_of_their_own(runner):
    pool = pool_of("a", "b")
    fn = at_members(runner, a=after(0.2, 1.0), b=after(0.1, 1.0))
    other = at_members(runner, a=after(0.2, 2.0), b=after(0.1, 1.0))
    policy = redundant(
        pool=pool, alternatives=[other], decide=vote.median(within=0.1), **runner.options
    )
    assert runner.run(policy, fn) == 1.0


def test_a_race_runs_each_of_its_copies_at_another_member(runner, metrics):
    policy = redundant(pool=pool_of("a", "b"), decide=vote.unanimous())
    fns = [at_members(runner, a=after(0.1, 7), b=after(0.2, 7)) for _ in range(2)]
    if runner is RUNNERS["threads"]:
        with policy.race() as race:
            for fn in fns:
                race.start(fn)
            assert race.result() == 7
    else:

        async def main():
            async with policy.race() as race:
                for fn in fns:
                    race.start(fn)
                return await race.result()

        assert runner.run_main(main()) == 7
    for name in "ab":
        assert metrics("member_attempts_total", member=name, outcome="success") == 1


class Client:
    """What a pool may have as resources, with methods of its own."""

    def __init__(self, name):
        self.name = name

    def get(self, key):
        return self.name, key

    def ping(self):
        return self.name

    async def aget(self, key):
        return self.name, key

    async def aping(self):
        return self.name


class Other:
    def get(self, key):
        return key


CLIENTS = [Member("a", Client("x")), Member("b", Client("x"))]


def test_a_method_of_the_resources_own_class_takes_it_as_its_self(runner):
    """Field faults, D11: the resource went second, since the first parameter is called self."""
    pool = FailoverPool("db", CLIENTS, on=Lost)
    policy = redundant(pool=pool, decide=vote.unanimous(), **runner.options)
    plain = runner is RUNNERS["threads"]
    assert runner.run(policy, Client.get if plain else Client.aget, "k") == ("x", "k")
    assert runner.run(policy, Client.ping if plain else Client.aping) == "x"


def test_so_do_alternatives():
    policy = redundant(
        pool=FailoverPool("db", CLIENTS, on=Lost),
        alternatives=[lambda client, key: client.get(key)],
        decide=vote.unanimous(),
    )
    assert policy.call(Client.get, "k") == ("x", "k")


def test_a_method_of_neither_class_is_refused():
    policy = redundant(pool=FailoverPool("db", CLIENTS, on=Lost), start=hedge.together())
    with pytest.raises(TypeError, match="it is a method, but not of the resource"):
        policy.call(Other.get, "k")


@pytest.mark.parametrize(
    ("fn", "afn"),
    [
        (lambda client, key, *, end="": client.get(key + end), None),
        (Client.get, Client.aget),
    ],
)
def test_what_a_race_starts_gets_the_resource_before_its_arguments(fn, afn):
    policy = redundant(pool=FailoverPool("db", CLIENTS, on=Lost))
    with policy.race() as race:
        race.start(fn, "k")
        assert race.result() == ("x", "k")

    async def of_lambda(client, key, *, end=""):
        return fn(client, key, end=end)

    async def main():
        async with policy.race() as race:
            race.start(afn or of_lambda, "k")
            return await race.result()

    assert asyncio.run(main()) == ("x", "k")


class Sensors:
    """Methods that are given a resource after self or cls."""

    pool = pool_of("a", "b")

    def __init__(self, unit):
        self.unit = unit

    @redundant(pool=pool, decide=vote.unanimous())
    def read(self, db, scale):
        return scale * len(db), self.unit

    @redundant(pool=pool, decide=vote.unanimous())
    async def aread(self, db, scale):
        return scale * len(db), self.unit

    @redundant(pool=pool, decide=vote.unanimous())
    @classmethod
    def shared(cls, db, scale):
        return scale * len(db), cls

    @redundant(pool=pool, decide=vote.unanimous())
    @staticmethod
    def plain(db, scale):
        return scale * len(db)


def test_methods_take_the_resource_after_self():
    sensors = Sensors("mm")
    assert sensors.read(3) == (3, "mm")
    assert asyncio.run(sensors.aread(3)) == (3, "mm")
    assert Sensors.shared(3) == (3, Sensors)
    assert Sensors.plain(3) == 3


def test_what_is_wrapped_shows_the_signature_that_callers_use():
    pool = pool_of("a", "b")

    @redundant(pool=pool)
    def look_up(db: str, key: str, *, unit: int = 1) -> bytes:
        return (db + key).encode() * unit

    assert str(inspect.signature(look_up)) == "(key: str, *, unit: int = 1) -> bytes"
    assert str(inspect.signature(Sensors.read)) == "(self, scale)"
    assert str(inspect.signature(Sensors("mm").aread)) == "(scale)"
    assert str(inspect.signature(Sensors.shared)) == "(scale)"
    assert str(inspect.signature(redundant(pool=pool)(lambda *args: args))) == "(*args)"
    assert str(inspect.signature(redundant()(max_of))) == "(a, b)"


def max_of(a, b):
    return max(a, b)


@pytest.mark.parametrize("fn", [lambda: 1, lambda **_options: 1, lambda *, db: db])
def test_a_function_that_could_not_take_the_resource_is_refused_when_it_is_wrapped(fn):
    with pytest.raises(TypeError, match="has no parameter for the resource of a member"):
        redundant(pool=pool_of("a", "b"))(fn)


def test_a_method_that_could_not_take_the_resource_is_refused_when_it_is_wrapped():
    with pytest.raises(TypeError, match="has no parameter for the resource of a member"):
        redundant(pool=pool_of("a", "b"))(lambda self: self)


def test_a_method_may_have_parameters_of_any_name():
    class Locks:
        @redundant(pool=pool_of("a", "b"))
        def lock(self, db, resource, fn="fn", copy=0):
            return db, resource, fn, copy

    assert Locks().lock(resource="lamp", copy=1, fn="f") == ("a", "lamp", "f", 1)


# What the pool learns.


def test_a_member_that_is_outvoted_again_and_again_is_ejected(runner, metrics):
    pool = pool_of("a", "b", "c")
    fn = at_members(runner, a=after(0.2, 7), b=after(0.3, 7), c=after(0.1, 666))
    policy = redundant(pool=pool, copies=3, decide=vote.majority(), name="it", **runner.options)
    assert [runner.run(policy, fn) for _ in range(4)] == [7] * 4
    assert states(pool) == {"a": "active", "b": "active", "c": "ejected"}
    assert metrics("ejections_total", member="c", cause="dissent") == 1
    assert metrics("dissents_total", component="it", copy="c") == 4
    assert metrics("member_attempts_total", member="c", outcome="success") == 4


def test_a_vote_goes_on_without_the_member_that_was_ejected(runner, metrics):
    pool = pool_of("a", "b", "c")
    wrong = Faults(then=after(0.1, 666))
    fn = at_members(runner, a=after(0.2, 7), b=after(0.3, 7), c=wrong)
    policy = redundant(pool=pool, copies=3, decide=vote.majority(), **runner.options)
    assert [runner.run(policy, fn) for _ in range(6)] == [7] * 6
    assert len(wrong.calls) == 4
    assert metrics("votes_total", verdict="decided") == 6


def test_an_answer_that_no_vote_outvotes_makes_up_for_a_dissent(runner):
    pool = pool_of("a", "b", "c")
    script = [after(0.1, 666), after(0.1, 666), after(0.1, 666), after(0.1, 7)] * 3
    fn = at_members(runner, a=after(0.2, 7), b=after(0.3, 7), c=Faults(script))
    policy = redundant(pool=pool, copies=3, decide=vote.majority(), **runner.options)
    for _ in range(4):
        runner.run(policy, fn)
    assert states(pool)["c"] == "active"


def test_a_vote_without_a_decision_blames_nobody(runner):
    pool = pool_of("a", "b")
    fn = at_members(runner, a=after(0.1, 1), b=after(0.2, 2))
    policy = redundant(pool=pool, decide=vote.unanimous(), name="it", **runner.options)
    for _ in range(5):
        with pytest.raises(NoDecisionError) as caught:
            runner.run(policy, fn)
    assert scores(pool) == {"a": 0.0, "b": 0.0}
    assert caught.value.answers == {"a": 1, "b": 2}
    assert [each.__notes__ for each in caught.value.exceptions] == [
        ["mainstay.redundant it: copy 0 at member a, started at 0.000 s, answered after 0.100 s"],
        ["mainstay.redundant it: copy 1 at member b, started at 0.000 s, answered after 0.200 s"],
    ]


def test_failures_that_the_pool_does_not_count_leave_the_member_alone(runner):
    pool = pool_of("a", "b")
    policy = redundant(pool=pool, **runner.options, **HEDGED)
    for _ in range(9):
        assert runner.run(policy, at_members(runner, a=KeyError, b="page")) == "page"
    assert scores(pool) == {"a": 0.0, "b": 0.0}


@pytest.mark.parametrize("on", [Exception, CircuitOpenError])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_refusal_inside_a_copy_is_never_charged_to_its_member(runner, metrics, on, wrapped):
    pool = pool_of("a", "b", on=on)
    policy = redundant(pool=pool, **runner.options, **HEDGED)
    refusal = CircuitOpenError("inner", 1.0)
    for _ in range(9):
        a = ExceptionGroup("tasks", [refusal]) if wrapped else refusal
        fn = at_members(runner, a=a, b="page")
        assert runner.run(policy, fn) == "page"
    assert scores(pool) == {"a": 0.0, "b": 0.0}
    assert metrics("member_attempts_total", member="a", outcome="rejected") == 9


def test_an_on_of_the_pool_that_raises_is_logged_once_and_counted(runner, metrics, caplog):
    """Field faults, B2: a note and nothing else."""
    pool = pool_of("a", "b", on=lambda error: error.response.status)
    policy = redundant(pool=pool, **TOGETHER, **runner.options)
    for _ in range(2):
        with pytest.raises(Lost) as caught:
            runner.run(policy, at_members(runner, a=after(0.2, Lost), b=Lost))
        assert "`on` raised AttributeError" in "".join(caught.value.__notes__)
    (line,) = [each for each in caplog.messages if "raised AttributeError" in each]
    assert line.startswith("db: for Lost `on` raised")
    assert metrics("hook_errors_total", hook="predicate") == 4


def test_a_member_that_fails_too_often_gets_no_primaries_any_more(runner, metrics):
    pool = pool_of("a", "b", "c")
    broken = Faults(then=Lost)
    fn = at_members(runner, a=broken, b="page", c="page")
    policy = redundant(pool=pool, **runner.options, **HEDGED)
    assert [runner.run(policy, fn) for _ in range(9)] == ["page"] * 9
    assert len(broken.calls) == 4
    assert metrics("ejections_total", member="a", cause="consecutive") == 1


def test_an_error_outside_on_ends_the_call_and_releases_its_member(runner):
    pool = pool_of("a", "b")
    policy = redundant(pool=pool, on=Lost, **runner.options, **HEDGED)
    with pytest.raises(KeyError):
        runner.run(policy, at_members(runner, a=KeyError("x"), b="page"))
    assert in_flight(pool) == {"a": 0, "b": 0}
    assert scores(pool) == {"a": 0.0, "b": 0.0}


def test_a_copy_that_its_time_ran_out_for_blames_nobody(runner):
    pool = pool_of("a", "b")
    fn = at_members(runner, a=after(9, "slow"), b=after(9, "slow"))
    policy = redundant(pool=pool, timeout=0.5, **runner.options, **HEDGED)
    with pytest.raises(TimeoutError):
        runner.run(policy, fn)
    assert scores(pool) == {"a": 0.0, "b": 0.0}


# Fewer members than copies.


def test_more_copies_than_members_are_refused_when_the_policy_is_made():
    for pool, parameters in (
        (pool_of("a", "b"), {"copies": 3}),
        (pool_of("a", "b"), {"alternatives": [len, max]}),
        (pool_of("a"), {}),
    ):
        with pytest.raises(ValueError, match="`copies` must be at most") as caught:
            redundant(pool=pool, **parameters)
        assert "number of members of pool 'db'" in str(caught.value)


def test_a_race_refuses_more_copies_than_members_when_they_start(runner):
    policy = redundant(pool=pool_of("a", "b"))

    def fill(race):
        fn = at_members(runner, a="a", b="b")
        race.start(fn)
        race.start(fn)
        with pytest.raises(ValueError, match="`copies` must be at most 2"):
            race.start(fn)

    if runner is RUNNERS["threads"]:
        with policy.race() as race:
            fill(race)
            assert race.result() in "ab"
        return

    async def main():
        async with policy.race() as race:
            fill(race)
            return await race.result()

    assert runner.run_main(main()) in "ab"


def test_a_vote_gets_no_easier_because_the_pool_has_shrunk(runner, metrics):
    pool = pool_of("a", "b", "c")
    fn = at_members(runner, a=after(0.1, 7), b=after(0.2, 7), c=after(0.3, 7))
    majority = redundant(pool=pool, copies=3, decide=vote.majority(), **runner.options)
    unanimous = redundant(pool=pool, copies=3, decide=vote.unanimous(), **runner.options)
    pool.remove("c")
    assert runner.run(majority, fn) == 7
    with pytest.raises(NoDecisionError) as caught:
        runner.run(unanimous, fn)
    assert isinstance(caught.value.exceptions[2], NoMemberError)
    assert metrics.reasons() == {"no_member": 1}
    assert metrics("call_attempts_sum") == 4  # two each: nobody was called for the third copy


def test_members_that_join_later_are_used(runner):
    pool = pool_of("a", "b")
    policy = redundant(pool=pool, decide=vote.unanimous(), **runner.options)
    pool.add(Member("c", "c"))
    pool.remove("a")
    assert runner.run(policy, at_members(runner, b=after(0.1, 7), c=after(0.2, 7))) == 7


def test_a_slow_primary_goes_on_alone_where_there_is_no_other_member(runner, clock, metrics):
    pool = pool_of("a", "b")
    pool.drain("b")
    limit = {"threads": 2} if runner is RUNNERS["threads"] else runner.options
    policy = redundant(pool=pool, start=hedge.after(0.1), budget=0.05, **limit)
    for _ in range(2):  # the thread for the copy is free again
        assert runner.run(policy, at_members(runner, a=after(0.5, "page"))) == "page"
    assert clock.now() == pytest.approx(1.0)
    assert metrics.outcomes() == {"success": 2}
    assert metrics("hedges_total") == metrics("hedges_denied_total") == 0


def refuses(status):
    return status == 503


def test_a_member_whose_result_is_refused_has_failed(runner, metrics):
    pool = pool_of("a", "b")
    policy = redundant(pool=pool, on_result=refuses, **HEDGED, **runner.options)
    for _ in range(4):
        assert runner.run(policy, at_members(runner, a=503, b=200)) == 200
    assert states(pool)["a"] == "ejected"
    assert metrics("member_attempts_total", member="a", outcome="error") == 4


def test_so_has_one_whose_result_the_pool_refuses(runner, metrics):
    pool = pool_of("a", "b", on_result=refuses)
    policy = redundant(pool=pool, **HEDGED, **runner.options)
    for _ in range(4):
        assert runner.run(policy, at_members(runner, a=503, b=200)) == 200
    assert states(pool)["a"] == "ejected"
    assert metrics("member_attempts_total", member="a", outcome="error") == 4


def test_where_the_pool_refuses_every_result_the_error_has_the_last(runner):
    pool = pool_of("a", "b", on_result=refuses)
    policy = redundant(pool=pool, on_result=lambda status: status == 500, **runner.options)
    with pytest.raises(ResultRefusedError) as caught:
        runner.run(policy, at_members(runner, a=500, b=after(0.1, 503)))
    assert caught.value.result == 503


def test_an_on_result_of_the_pool_that_raises_ends_the_call(runner, metrics):
    pool = pool_of("a", "b", on_result=lambda status: status["code"])
    policy = redundant(pool=pool, **HEDGED, **runner.options)
    with pytest.raises(TypeError, match="subscriptable"):
        runner.run(policy, at_members(runner, a=503, b=200))
    assert metrics.reasons() == {"predicate_error": 1}
    assert states(pool) == {"a": "active", "b": "active"}


def test_no_member_for_a_second_copy_costs_nothing_of_the_budget(runner, metrics):
    pool = pool_of("a", "b")
    budget = RetryBudget(ratio=0.0, floor=1.0, window=1.0)
    policy = redundant(pool=pool, start=hedge.after(0.1), budget=budget, **runner.options)
    pool.drain("b")
    for _ in range(3):
        runner.run(policy, at_members(runner, a=after(0.2, "page")))
    pool.release()
    fn = at_members(runner, a=after(0.5, "slow"), b=after(0.01, "fast"))
    assert runner.run(policy, fn) == "fast"


def test_a_failed_primary_that_nobody_can_follow_raises_its_own_error(runner, metrics):
    pool = pool_of("a", "b")
    pool.drain("b")
    policy = redundant(pool=pool, on=Lost, name="it", **runner.options, **HEDGED)
    with pytest.raises(Lost) as caught:
        runner.run(policy, at_members(runner, a=after(0.05, Lost("gone"))))
    assert caught.value.__notes__ == ["mainstay.redundant it: gave up after 1 copy in 0.050 s"]
    assert metrics.reasons() == {"no_member": 1}
    assert metrics.outcomes() == {"error": 1}


@pytest.mark.parametrize("parameters", [HEDGED, TOGETHER], ids=["hedged", "together"])
def test_a_call_that_finds_no_member_at_all_is_rejected(runner, metrics, parameters):
    pool = pool_of("a", "b")
    pool.drain("a")
    pool.drain("b")
    policy = redundant(pool=pool, on=Lost, **runner.options, **parameters)
    with pytest.raises(NoMemberError) as caught:
        runner.run(policy, at_members(runner))
    assert len(caught.value.exceptions) == 2
    assert metrics.outcomes() == {"rejected": 1}
    assert metrics.reasons() == {"no_member": 1}
    assert metrics.errors() == {}


def test_calls_that_find_no_member_earn_no_hedges(runner, metrics):
    pool = pool_of("a", "b")
    budget = RetryBudget(ratio=0.25, floor=0, window=1000)
    policy = redundant(pool=pool, start=hedge.after(0.1), budget=budget, **runner.options)
    fn = at_members(runner, a=after(0.5, "page"), b="never")
    pool.drain("a")
    pool.drain("b")
    for _ in range(8):
        with pytest.raises(NoMemberError):
            runner.run(policy, fn)
    pool.release()
    assert runner.run(policy, fn) == "page"
    assert metrics("hedges_denied_total", reason="budget") == 1


def test_a_hedge_that_the_budget_denies_gives_its_member_back(runner, metrics):
    pool = pool_of("a", "b")
    policy = redundant(pool=pool, start=hedge.after(0.1), budget=0.0, **runner.options)
    assert runner.run(policy, at_members(runner, a=after(0.5, "page"), b="never")) == "page"
    assert metrics("hedges_denied_total", reason="budget") == 1
    assert in_flight(pool) == {"a": 0, "b": 0}
    assert metrics("member_attempts_total", member="b") == 0


class Moody:
    """A selector that picks the first member, and raises when that is asked already."""

    def pick(self, names):
        if names[0] != "a":
            raise KeyError("mood")
        return "a"


@pytest.mark.parametrize("slow", [after(0.5, "page"), after(0.05, Lost)], ids=["slow", "failed"])
def test_a_selector_that_raises_fails_the_copy_that_it_was_to_place(runner, metrics, caplog, slow):
    pool = pool_of("a", "b", select=Moody())
    policy = redundant(pool=pool, on=Lost, **runner.options, **HEDGED)
    for _ in range(2):
        with pytest.raises(KeyError, match="mood"):
            runner.run(policy, at_members(runner, a=slow, b="never"))
    assert metrics("hook_errors_total", hook="predicate") == 2
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert said == ["db: `select` raised KeyError"]


# Members that are opened.


class Opening:
    """How a member is opened and closed, and what came of it."""

    def __init__(self, *names, **options):
        self.closed = []
        self.pool = FailoverPool(
            "db",
            [Member(each, open=lambda each=each: each, close=self.closed.append) for each in names],
            on=Lost,
            **options,
        )


def test_the_first_call_waits_for_all_its_members_to_open(runner):
    opening = Opening("a", "b")
    policy = redundant(pool=opening.pool, decide=vote.unanimous(), **runner.options)
    fn = at_members(runner, a=after(0.1, 7), b=after(0.2, 7))
    assert runner.run(policy, fn) == 7
    opening.pool.close()
    assert sorted(opening.closed) == ["a", "b"]


def test_a_closed_pool_is_opened_again_by_the_next_call(runner):
    opening = Opening("a", "b")
    policy = redundant(pool=opening.pool, **TOGETHER, **runner.options)
    fn = at_members(runner, a=after(0.1, "page"), b=after(0.2, "page"))
    for _ in range(2):
        assert runner.run(policy, fn) == "page"
        opening.pool.close()
    assert opening.closed.count("a") == 2


def test_a_pool_that_is_closed_during_a_call_closes_members_when_they_have_answered(runner):
    """Known fault 17: a switch that closes connections in the middle of their work."""
    opening = Opening("a", "b")
    pool, closed_at_end = opening.pool, []

    def fn(member):
        if member == "a":
            pool.close()
            closed_at_end.extend(opening.closed)
        return member

    async def afn(member):
        return fn(member)

    policy = redundant(pool=pool, **HEDGED, **runner.options)
    with pool:
        assert runner.run(policy, fn if runner is RUNNERS["threads"] else afn) == "a"
    assert "a" not in closed_at_end
    end = time.monotonic() + PATIENCE
    while sorted(opening.closed) != ["a", "b"]:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_member_that_cannot_be_opened_is_one_fewer(runner, metrics):
    def refuse():
        raise Lost("refused")

    members = [Member("a", open=refuse), Member("b", "b"), Member("c", "c")]
    pool = FailoverPool("db", members, on=Lost)
    policy = redundant(pool=pool, copies=3, decide=vote.majority(), **runner.options)
    assert runner.run(policy, at_members(runner, b=after(0.1, 7), c=after(0.2, 7))) == 7
    assert metrics.outcomes() == {"success": 1}


def test_a_call_without_time_left_asks_for_no_member(runner):
    opening = Opening("a", "b")
    policy = redundant(pool=opening.pool, **HEDGED, **runner.options)
    with deadline(0), pytest.raises(DeadlineExpiredError):
        runner.run(policy, at_members(runner))
    assert [member.open for member in opening.pool.status().members] == [False, False]


# Losers.


@pytest.mark.parametrize("primary", ["inline", "task"])
def test_cancelled_losers_are_released_without_a_mark(clock, metrics, primary):
    pool = pool_of("a", "b")
    fn = at_members(RUNNERS["inline"], a=after(9, "slow"), b=after(0.05, "fast"))

    async def main():
        answers = [await redundant(pool=pool, primary=primary, **HEDGED).call(fn) for _ in range(9)]
        await asyncio.sleep(0)
        return answers

    assert asyncio.run(main()) == ["fast"] * 9
    assert in_flight(pool) == {"a": 0, "b": 0}
    assert scores(pool) == {"a": 0.0, "b": 0.0}
    assert metrics("member_attempts_total", member="a", outcome="cancelled") == 9


@pytest.mark.parametrize("parameters", [HEDGED, TOGETHER, {"primary": "task"}])
def test_a_cancelled_caller_gives_all_members_back(clock, metrics, parameters):
    pool = pool_of("a", "b", detect=Detect(slow=9.0))

    async def hang(_member):
        await asyncio.Event().wait()

    async def main():
        call = asyncio.ensure_future(redundant(pool=pool, **parameters).call(hang))
        await clock.asleep(0.2)
        call.cancel()
        await asyncio.wait([call])
        await asyncio.sleep(0)
        return call.cancelled()

    assert asyncio.run(main())
    assert in_flight(pool) == {"a": 0, "b": 0}
    assert metrics("member_attempts_total", member="a", outcome="cancelled") == 1


def test_a_task_that_is_cancelled_before_it_runs_gives_its_member_back(metrics):
    pool = pool_of("a", "b")

    async def at_once(member):
        return member

    async def main():
        answer = await redundant(pool=pool, **TOGETHER).call(at_once)
        await asyncio.sleep(0)
        return answer

    assert asyncio.run(main()) == "a"
    assert in_flight(pool) == {"a": 0, "b": 0}


def test_a_loser_in_a_thread_keeps_its_member_until_it_returns(metrics):
    pool = pool_of("a", "b")
    release = threading.Event()
    results = {"a": lambda: release.wait(PATIENCE), "b": lambda: "fast"}
    policy = redundant(pool=pool, start=hedge.after(0.001), budget=None)
    assert policy.call(lambda member: results[member]()) == "fast"
    assert in_flight(pool) == {"a": 1, "b": 0}
    assert metrics("abandoned_threads") == 1
    release.set()
    end = time.monotonic() + PATIENCE
    while metrics("member_attempts_total", member="a", outcome="success") < 1:
        assert time.monotonic() < end
        time.sleep(0.001)
    assert in_flight(pool) == {"a": 0, "b": 0}


def test_a_loser_in_a_thread_that_fails_by_itself_counts_against_its_member(metrics):
    pool = pool_of("a", "b")
    release = threading.Event()

    def fn(member):
        if member == "a":
            release.wait(PATIENCE)
            raise Lost("timed out")
        return "fast"

    policy = redundant(pool=pool, start=hedge.after(0.001), budget=None)
    assert policy.call(fn) == "fast"
    assert scores(pool)["a"] == 0.0
    release.set()
    end = time.monotonic() + PATIENCE
    while metrics("member_attempts_total", member="a", outcome="error") < 1:
        assert time.monotonic() < end
        time.sleep(0.001)
    assert scores(pool)["a"] > 0.0


def test_a_late_answer_to_a_vote_is_no_success(metrics):
    pool = pool_of("a", "b", "c")
    release = threading.Event()

    def fn(member):
        if member == "a":
            release.wait(PATIENCE)
            return 666
        return 7

    policy = redundant(pool=pool, copies=3, decide=vote.majority(), name="it")
    for _ in range(3):
        PoolMembers(pool).begin(votes=True).choose().dissented()
    before = scores(pool)["a"]
    assert policy.call(fn) == 7
    release.set()
    end = time.monotonic() + PATIENCE
    while metrics("abandoned_threads"):
        assert time.monotonic() < end
        time.sleep(0.001)
    assert scores(pool)["a"] == before > 0.0


def test_a_thread_that_waits_for_a_member_does_not_call_for_nobody(metrics):
    release, called = threading.Event(), []
    slow = Member("slow", open=lambda: release.wait(PATIENCE))
    pool = FailoverPool("db", [Member("a", "a"), slow], on=Lost)
    policy = redundant(pool=pool, **TOGETHER)
    assert policy.call(lambda member: called.append(member) or "page") == "page"
    release.set()
    end = time.monotonic() + PATIENCE
    while metrics("abandoned_threads") or not pool.status().members[1].open:
        assert time.monotonic() < end
        time.sleep(0.001)
    assert called == ["a"]
    assert in_flight(pool) == {"a": 0, "slow": 0}
    pool.close()


def test_a_caller_that_is_interrupted_gives_its_member_back(threads):
    pool = pool_of("a", "b")
    policy = redundant(pool=pool)  # cold: the primary runs in the caller's thread

    def interrupt(_member):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        policy.call(interrupt)
    assert in_flight(pool) == {"a": 0, "b": 0}
    assert scores(pool) == {"a": 0.0, "b": 0.0}


def test_a_plain_function_that_returns_a_coroutine_blames_no_member():
    pool = pool_of("a", "b", on=Exception)

    async def awaited():
        pass

    with pytest.raises(TypeError, match="returned a coroutine"):
        redundant(pool=pool).call(lambda _member: awaited())
    assert scores(pool) == {"a": 0.0, "b": 0.0}


# Sync and async.


async def aopen():
    return "opened"


def async_pool():
    return FailoverPool("db", [Member("a", open=aopen), Member("b", open=aopen)], on=Lost)


def test_an_async_pool_serves_async_functions():
    pool = async_pool()

    async def main():
        async def fn(member):
            return member

        async with pool:
            return await redundant(pool=pool, decide=vote.unanimous()).call(fn)

    assert asyncio.run(main()) == "opened"


def test_an_async_pool_is_refused_by_what_cannot_await_it():
    policy = redundant(pool=async_pool())
    with pytest.raises(TypeError, match="pool 'db' is async"):
        policy(len)
    with pytest.raises(TypeError, match="pool 'db' is async"), policy.race():
        pass


def test_what_is_no_pool_is_refused():
    with pytest.raises(TypeError, match="`pool` must be a FailoverPool"):
        redundant(pool=["a", "b"])


# Known faults of other libraries, by their numbers in the survey.


class Last:
    """A selector of one's own."""

    def pick(self, names):
        return names[-1]


def test_no_member_at_all_is_told_at_once_with_the_reason_of_each(runner, clock):
    """Known fault 2: a silent wait of 30 s, or an error that says nothing of why."""
    pool = pool_of("a", "b", when_all_down="raise")
    policy = redundant(pool=pool, **{**HEDGED, **runner.options})
    fn = at_members(runner, a=Lost, b=Lost)
    for _ in range(4):
        with pytest.raises(Lost):
            runner.run(policy, fn)
    assert states(pool) == {"a": "ejected", "b": "ejected"}
    began = clock.now()
    with pytest.raises(NoMemberError) as caught:
        runner.run(policy, fn)
    assert clock.now() == began
    assert caught.value.members == ("a", "b")
    assert caught.value.retry_after > 0


def test_a_failure_from_before_the_ejection_changes_nothing(metrics):
    """Known fault 4: a stale failure is charged to whoever is active now."""
    pool = pool_of("a", "b")
    release = threading.Event()

    def fn(member):
        if member == "a":
            release.wait(PATIENCE)
            raise Lost
        return "fast"

    assert redundant(pool=pool, **REAL).call(fn) == "fast"
    for _ in range(4):
        loan = PoolMembers(pool).begin(votes=True).choose()
        loan.enter()
        loan.leave()
        loan.failed(Lost())
    ejected, _ = pool.status().members
    release.set()
    end = time.monotonic() + PATIENCE
    while metrics("member_attempts_total", member="a", outcome="error") < 5:
        assert time.monotonic() < end
        time.sleep(0.001)
    now, _ = pool.status().members
    assert (ejected.state, now.state) == ("ejected", "ejected")
    assert now.seconds <= ejected.seconds


def test_many_calls_in_flight_of_one_outage_are_one_strike(clock, metrics):
    """Known fault 5: ten failures at once made ten strikes, and the longest ejection."""
    pool = pool_of("a", "b")
    fn = at_members(RUNNERS["inline"], a=after(0.05, Lost), b="page")

    async def main():
        policy = redundant(pool=pool, **HEDGED)
        return await asyncio.gather(*(policy.call(fn) for _ in range(10)))

    assert asyncio.run(main()) == ["page"] * 10
    assert metrics("ejections_total", member="a") == 1
    assert pool.status().members[0].seconds <= 5.0


@pytest.mark.parametrize("limit", ["timeout", "cancel"])
def test_a_caller_who_will_not_wait_is_not_blamed_on_a_member(clock, metrics, limit):
    """Known fault 6: a deadline set too short, or a cancel by the user."""
    pool = pool_of("a", "b", detect=Detect(slow=9.0))
    fn = at_members(RUNNERS["inline"], a=after(9, "slow"), b=after(9, "slow"))

    async def main():
        policy = redundant(pool=pool, timeout=0.5 if limit == "timeout" else None, **HEDGED)
        for _ in range(9):
            call = asyncio.ensure_future(policy.call(fn))
            await clock.asleep(0.6)
            call.cancel()
            await asyncio.wait([call])
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [member.score for member in pool.status().members] == [0.0, 0.0]
    assert metrics("member_attempts_total", outcome="cancelled") == 18


def test_a_forced_member_gets_all_copies_until_it_is_released(runner, metrics):
    """Known fault 16: a manual switch that is undone behind the operator's back."""
    pool = pool_of("a", "b")
    pool.force("b")
    policy = redundant(pool=pool, **{**HEDGED, **runner.options})
    fn = at_members(runner, a="from a", b=after(0.5, "from b"))
    assert runner.run(policy, fn) == "from b"
    assert metrics("hedges_total") == 0
    pool.release()
    assert runner.run(policy, fn) == "from a"


def test_dissent_never_ejects_the_last_member(runner, metrics):
    """Known fault 18: a pool whose last member is ejected is down for no reason."""
    pool = pool_of("a", "b", "c")
    pool.drain("b")
    pool.drain("c")
    for _ in range(9):
        loan = PoolMembers(pool).begin(votes=True).choose()
        loan.enter()
        loan.leave()
        loan.dissented()
    assert states(pool)["a"] == "failing"
    assert metrics("ejections_total") == 0


@pytest.mark.parametrize("select", ["priority", "round_robin", "weighted", "least_latency", Last()])
def test_however_members_are_selected_none_is_asked_twice_by_a_call(runner, select):
    """Known fault 19: exclusion applied after the choice, or lost on the way."""
    pool = pool_of("a", "b", "c", "d", select=select)
    seen = []

    def note(member):
        seen.append(member)

    async def anote(member):
        note(member)

    policy = redundant(pool=pool, copies=4, decide=vote.unanimous(), **runner.options)
    for _ in range(5):
        seen.clear()
        runner.run(policy, note if runner is RUNNERS["threads"] else anote)
        assert sorted(seen) == ["a", "b", "c", "d"]
