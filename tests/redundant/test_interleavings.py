"""Any order of starts, answers, failures and cancels: one outcome, and every other result disposed.

Copies take whole seconds that differ, so that an oracle can say in which order they end.
"""

import asyncio
import contextlib
import itertools
import time

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay import (
    FailoverPool,
    Member,
    Metrics,
    NoDecisionError,
    deadline,
    hedge,
    redundant,
    vote,
)
from mainstay._core.context import current_context
from mainstay.testing import FakeClock
from support.examples import examples
from support.jumping_time import jumping_time

LONGEST = 5.0  # real seconds until abandoned copies have ended


class Lost(ConnectionError):
    """A failure of a copy, which counts."""

    def __init__(self, copy):
        super().__init__(copy.seconds)
        self.copy = copy


@attrs.frozen
class Answer:
    """An answer that equals others of its value but is an object of its own."""

    value: str


@attrs.frozen
class Copy:
    """What a copy does: wait, then answer with a value, fail, or raise what does not count."""

    seconds: int
    end: str

    def done(self):
        if self.end == "fails":
            raise Lost(self)
        if self.end == "breaks":
            raise KeyError(self.seconds)
        return Answer(self.end)


ENDS = st.sampled_from(["a", "a", "b", "c", "fails"])
RULES = {
    "first": vote.first(),
    "majority": vote.majority(),
    "unanimous": vote.unanimous(),
    "plurality": vote.plurality(),
}


@st.composite
def copies(draw, ends=ENDS):
    count = draw(st.integers(2, 4))
    times = draw(st.lists(st.integers(1, 9), min_size=count, max_size=count, unique=True))
    return [Copy(seconds, draw(ends)) for seconds in times]


class Stage:
    """Runs a call of scripted copies, and keeps what was started, answered and disposed of.

    Each copy is an alternative, or what the function does at one member of a pool.
    """

    def __init__(self, plan, *, pooled=False, **parameters):
        self.plan = plan
        self.started = []
        self.answered = []
        self.disposed = []
        first, *others = [self.fn(each) for each in plan]
        self.metrics = Metrics(None)
        parameters |= {"dispose": self.disposed.append, "metrics": self.metrics, "name": "it"}
        self.pool = None
        if pooled:
            members = [Member(str(number), each) for number, each in enumerate(plan)]
            self.pool = FailoverPool("db", members, on=Lost, metrics=Metrics(None))
            self.policy = redundant(pool=self.pool, copies=len(plan), **parameters)
            self.call = self.policy(self.at_member())
        else:
            self.policy = redundant(alternatives=others, **parameters)
            self.call = self.policy(first)

    def keep(self, copy):
        answer = copy.done()
        self.answered.append(answer)
        return answer

    def check(self, returned):
        left = [answer for answer in self.answered if answer is not returned]
        assert len(self.disposed) == len(left)
        assert {id(answer) for answer in self.disposed} == {id(answer) for answer in left}
        assert len(self.started) == len({id(copy) for copy in self.started})
        if self.pool is not None:
            self.check_pool(returned)

    def check_pool(self, returned):
        """Each loan has ended, and nobody is blamed who has neither failed nor dissented."""
        members = dict(zip(self.pool.status().members, self.plan, strict=True))
        assert [member.in_flight for member in members] == [0] * len(self.plan)
        value = getattr(returned, "value", None)
        for member, copy in members.items():
            if copy.end != "fails" and (value is None or copy.end == value):
                assert member.score == 0.0

    def blamed(self):
        """The copies that count against their members."""
        members = self.pool.status().members
        return {id(c) for member, c in zip(members, self.plan, strict=True) if member.score}


class Threads(Stage):
    def fn(self, copy):
        def fn():
            self.started.append(copy)
            current_context().clock.sleep(copy.seconds)
            return self.keep(copy)

        return fn

    def at_member(self):
        return lambda copy: self.fn(copy)()

    def run(self):
        with FakeClock() as clock:
            try:
                return self.call(), clock.now()
            except Exception as error:  # noqa: BLE001 - the outcome
                return error, clock.now()

    def wait_for_abandoned(self):
        (abandoned,) = self.policy._abandoned.values()
        end = time.monotonic() + LONGEST
        while abandoned.threads and time.monotonic() < end:
            time.sleep(0.001)
        assert abandoned.threads == 0


class Tasks(Stage):
    def fn(self, copy):
        async def fn():
            self.started.append(copy)
            await current_context().clock.asleep(copy.seconds)
            return self.keep(copy)

        return fn

    def at_member(self):
        async def fn(copy):
            return await self.fn(copy)()

        return fn

    async def outcome(self, cancel_at, limit):
        with contextlib.nullcontext() if limit is None else deadline(limit):
            call = asyncio.ensure_future(self.call())
            if cancel_at is not None:
                current_context().clock.call_later(cancel_at, call.cancel)
            await asyncio.wait([call])
        for _ in range(5):  # losers handle their cancellation
            await asyncio.sleep(0)
        if call.cancelled():
            return "cancelled"
        return call.exception() or call.result()

    def run(self, cancel_at=None, limit=None):
        with FakeClock() as clock:
            return asyncio.run(self.outcome(cancel_at, limit)), clock.now()

    def wait_for_abandoned(self):
        (abandoned,) = self.policy._abandoned.values()
        assert not abandoned.tasks


class TasksOnly(Tasks):
    def __init__(self, plan, **parameters):
        super().__init__(plan, primary="task", **parameters)


class TasksAlone(Tasks):
    """With nothing around them but perhaps a deadline, where calls take their short ways."""

    def run(self, cancel_at=None, limit=None):
        with jumping_time() as loop:
            return loop.run_until_complete(self.outcome(cancel_at, limit)), loop.time()


STAGES = {"threads": Threads, "inline": Tasks, "alone": TasksAlone, "task": TasksOnly}


def wins(rule, values):
    """What a vote of all copies comes to; None for no decision. Failures are "fails"."""
    answers = [value for value in values if value != "fails"]
    if rule == "first":
        return answers[0] if answers else None
    most = max(map(answers.count, answers), default=0)
    best = [value for value in dict.fromkeys(answers) if answers.count(value) == most]
    needed = {"majority": len(values) // 2 + 1, "unanimous": len(values), "plurality": 1}[rule]
    return best[0] if most >= needed and len(best) == 1 else None


def expected(rule, plan):
    """When a vote of copies that start together ends, and with what."""
    order = sorted(plan, key=lambda copy: copy.seconds)
    for ended in range(1, len(order) + 1):
        known = [copy.end for copy in order[:ended]]
        ends = {
            wins(rule, [*known, *rest])
            for rest in itertools.product(["a", "b", "c", "d", "fails"], repeat=len(order) - ended)
        }
        if len(ends) == 1:
            return ends.pop(), order[ended - 1].seconds
    return pytest.fail("a vote ends with its last copy")


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@settings(max_examples=examples(60))
@given(plan=copies(), rule=st.sampled_from([*RULES]), pooled=st.booleans())
def test_copies_that_start_together_decide_as_the_oracle_says(stage, plan, rule, pooled):
    scene = stage(plan, decide=RULES[rule], start=hedge.together(), pooled=pooled)
    outcome, ended = scene.run()
    answer, seconds = expected(rule, plan)
    assert ended == seconds
    if answer is None:
        known = [copy for copy in plan if copy.seconds <= ended]
        if all(copy.end == "fails" for copy in known):
            assert type(outcome) is Lost
            last = max(known, key=lambda copy: copy.seconds)
            assert (outcome.copy, len(outcome.__notes__)) == (last, 1)
        else:
            assert type(outcome) is NoDecisionError
            assert len(outcome.exceptions) == len(plan)
            assert all(len(each.__notes__) == 1 for each in outcome.exceptions)
    else:
        assert outcome.value == answer
    scene.wait_for_abandoned()
    scene.check(outcome)


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@settings(max_examples=examples(60))
@given(plan=copies(), rule=st.sampled_from([*RULES]))
def test_the_pool_learns_who_failed_and_who_was_outvoted(stage, plan, rule):
    scene = stage(plan, decide=RULES[rule], start=hedge.together(), pooled=True)
    scene.run()
    scene.wait_for_abandoned()
    answer, ended = expected(rule, plan)
    # A thread goes on when the call has ended, and what it then fails at is the member's.
    seen = plan if stage is Threads else [copy for copy in plan if copy.seconds <= ended]
    failed = {id(copy) for copy in seen if copy.end == "fails"}
    voted = [copy for copy in plan if copy.seconds <= ended and copy.end != "fails"]
    outvoted = {id(copy) for copy in voted if rule != "first" and copy.end != answer}
    assert scene.blamed() == failed | (outvoted if answer is not None else set())


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@settings(max_examples=examples(60))
@given(
    plan=copies(st.sampled_from(["a", "b", "fails", "breaks"])),
    rule=st.sampled_from([*RULES]),
    delay=st.sampled_from([0.5, 1.5, 3.5]),
    budget=st.sampled_from([None, 0.0]),
    timeout=st.sampled_from([None, 4.25]),
    pooled=st.booleans(),
)
def test_copies_that_start_one_by_one_leave_nothing_behind(
    stage, plan, rule, delay, budget, timeout, pooled
):
    parameters = {"start": hedge.after(delay), "budget": budget, "timeout": timeout}
    scene = stage(plan, decide=RULES[rule], pooled=pooled, **parameters)
    outcome, ended = scene.run()
    scene.wait_for_abandoned()
    scene.check(outcome)
    assert scene.started[0] is plan[0] or len(scene.started) > 1
    if timeout is not None:
        assert ended <= timeout
    if rule == "first" and budget == 0.0:
        assert len(scene.started) == 1


@pytest.mark.parametrize("stage", [Tasks, TasksAlone, TasksOnly], ids=["inline", "alone", "task"])
@settings(max_examples=examples(60))
@given(
    plan=copies(),
    rule=st.sampled_from([*RULES]),
    start=st.sampled_from([hedge.together(), hedge.after(1.5)]),
    cancel_at=st.one_of(st.integers(1, 9), st.sampled_from([0.25, 1.5, 2.5, 4.75])),
    pooled=st.booleans(),
)
def test_a_cancelled_call_is_over_at_once_and_leaves_nothing_behind(
    stage, plan, rule, start, cancel_at, pooled
):
    scene = stage(plan, decide=RULES[rule], start=start, budget=None, pooled=pooled)
    outcome, ended = scene.run(cancel_at)
    scene.wait_for_abandoned()
    scene.check(outcome)
    assert ended <= cancel_at + 1e-9


@settings(max_examples=examples(150))
@given(
    plan=copies(st.sampled_from(["a", "a", "b", "fails", "breaks"])),
    start=st.sampled_from([hedge.together(), hedge.after(0.7), hedge.after(3.7)]),
    budget=st.sampled_from([None, 0.0]),
    cancel_at=st.sampled_from([None, 0.25, 1.5, 4.75]),
    limit=st.sampled_from([None, 0.3, 2.2, 20.0]),
)
def test_a_call_with_nothing_around_it_goes_and_is_recorded_as_any_other(
    plan, start, budget, cancel_at, limit
):
    seen = []
    for stage in (Tasks, TasksAlone):
        scene = stage(plan, start=start, budget=budget)
        outcome, ended = scene.run(cancel_at, limit)
        samples = [
            (each.name, each.labels, round(each.value, 6))
            for family in scene.metrics.collect()
            for each in family.samples
            if not each.name.endswith("_created")
        ]
        what = outcome if isinstance(outcome, str | Answer) else repr(outcome)
        seen.append((what, round(ended, 6), scene.started, scene.disposed, samples))
    assert seen[0] == seen[1]
