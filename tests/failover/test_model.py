"""A model of the pool: whatever happens to it, what it promises about each call holds."""

from collections import Counter

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mainstay import AllMembersFailedError, Failback, FailoverPool, Member
from mainstay.testing import FakeClock, recorded
from support.examples import examples
from support.pools import Lost

NAMES = ["a", "b", "c", "d"]


@attrs.define
class World:
    """What is true outside the pool."""

    broken: set[str] = attrs.field(factory=set)
    fatal: bool = False
    asked: list[str] = attrs.field(factory=list)


class PoolModel(RuleBasedStateMachine):
    """Breaks and mends members, passes time, calls, leases and operates, in any order."""

    def __init__(self):
        super().__init__()
        self.metrics = recorded()
        self.values = self.metrics.__enter__()
        self.clock = FakeClock()
        self.clock.__enter__()
        self.world = World()
        self.calls = 0
        self.drained = set()
        self.removed = set()
        self.forced = None
        self.epoch = 0

    @initialize(raises=st.sampled_from(["last", "group"]))
    def make(self, raises):
        self.raises = raises
        members = [Member(name, name) for name in NAMES[:2]]
        members += [Member(name, name, standby="hot") for name in NAMES[2:]]
        self.pool = FailoverPool("db", members, on=Lost, select="round_robin", raises=raises,
                                 failback=Failback(grace=5.0, ramp=5.0))  # fmt: skip

    def teardown(self):
        self.clock.__exit__(None, None, None)
        self.metrics.__exit__(None, None, None)

    def use(self, resource):
        self.world.asked.append(resource)
        if self.world.fatal:
            raise KeyError(resource)
        if resource in self.world.broken:
            raise Lost(resource)
        return resource

    @rule(name=st.sampled_from(NAMES))
    def break_one(self, name):
        self.world.broken.add(name)

    @rule(name=st.sampled_from(NAMES))
    def mend_one(self, name):
        self.world.broken.discard(name)

    @rule()
    def mend_all(self):
        self.world.broken.clear()

    @rule(seconds=st.floats(0.0, 400.0))
    def pass_time(self, seconds):
        self.clock.advance(seconds)

    @rule(times=st.integers(1, 12))
    def call(self, times):
        for _ in range(times):
            self.world.asked = []
            self.calls += 1
            present = {member.name for member in self.pool.status().members}
            usable = present - self.drained
            try:
                answer = self.pool.call(self.use)
            except (Lost, AllMembersFailedError) as error:
                # It tried all that serve; while one is well that it may use, that one answers.
                asked = self.world.asked
                assert asked or not usable
                assert set(asked) <= self.world.broken
                if asked:
                    leaves = error.exceptions if self.raises == "group" else [error]
                    expected = asked if self.raises == "group" else asked[-1:]
                    assert [str(leaf) for leaf in leaves] == expected
            else:
                assert answer == self.world.asked[-1]
                assert set(self.world.asked[:-1]) <= self.world.broken
            assert len(set(self.world.asked)) == len(self.world.asked)
            if self.forced is None:
                assert not set(self.world.asked) & self.drained
            else:
                assert set(self.world.asked) <= {self.forced}

    @rule()
    def call_with_a_bug(self):
        before = self.values.value("ejections_total")
        self.world.fatal, self.world.asked = True, []
        self.calls += 1
        try:
            self.pool.call(self.use)
        except KeyError:
            assert len(self.world.asked) == 1
        except AllMembersFailedError:
            assert not self.world.asked
        finally:
            self.world.fatal = False
        assert self.values.value("ejections_total") == before

    @rule(name=st.sampled_from(NAMES))
    def drain(self, name):
        if name not in self.removed:
            self.pool.drain(name)
            self.drained.add(name)

    @rule(name=st.sampled_from(NAMES))
    def force(self, name):
        if name not in self.removed:
            self.pool.force(name)
            self.forced = name

    @rule()
    def release(self):
        self.pool.release()
        self.drained.clear()
        self.forced = None

    @precondition(lambda self: len(self.removed) < 2)
    @rule(name=st.sampled_from(NAMES))
    def remove(self, name):
        if name not in self.removed:
            self.pool.remove(name)
            self.removed.add(name)
            self.drained.discard(name)
            if self.forced == name:
                self.forced = None

    @precondition(lambda self: self.removed)
    @rule()
    def add(self):
        name = self.removed.pop()
        self.pool.add(Member(name, name, standby=None if name in "ab" else "hot"))

    @invariant()
    def every_call_is_counted_once_and_every_member_is_in_one_state(self):
        counted, states = 0, Counter()
        for family in self.values.collect():  # once for all: it is most of what a step takes
            for sample in family.samples:
                if sample.name == "mainstay_calls_total":
                    counted += sample.value
                elif sample.name == "mainstay_member_state":
                    states[sample.labels["member"]] += sample.value
        assert counted == self.calls
        present = [member.name for member in self.pool.status().members]
        assert {name: states[name] for name in present} == dict.fromkeys(present, 1)

    @invariant()
    def somebody_serves_unless_all_are_drained(self):
        present = set(NAMES) - self.removed
        if self.calls and (present - self.drained or self.forced):
            status = self.pool.status()
            states = {member.state for member in status.members}
            assert states & {"active", "failing", "standby_hot", "trial", "draining"}

    @invariant()
    def the_epoch_never_falls(self):
        epoch = self.pool.status().epoch
        assert epoch >= self.epoch
        self.epoch = epoch

    @invariant()
    def nothing_is_in_flight_between_calls(self):
        assert all(member.in_flight == 0 for member in self.pool.status().members)


PoolModel.TestCase.settings = settings(
    max_examples=examples(60),
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
test_the_pool_keeps_its_promises_in_any_history = PoolModel.TestCase
