"""A model of the pool that starts, fences and probes its members: who may be given calls, and when.

Starts, closes and probes happen at once in the calling thread, so that a history can be repeated;
the clock counts how often it is read, and does not let anybody wait for what never comes.
"""

import contextlib
from unittest import mock

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mainstay import AllMembersFailedError, Failback, FailoverPool, Member, Probe, deadline
from mainstay.testing import FakeClock, recorded
from support.examples import examples
from support.pools import Lost

STANDBY = {"a": None, "b": None, "c": "hot", "d": "hot", "e": "cold"}
NAMES = [*STANDBY]
MOST_READS = 300  # of the clock by one call
SHORTEST_EJECTION = 2.5
LONGEST_EJECTION = 300.0


class Spinning(BaseException):
    """A call reads the clock again and again."""


class CountingClock(FakeClock):
    """Counts its readers; what another thread does has been done when it is waited for."""

    def __init__(self):
        super().__init__()
        self.reads = 0

    def now(self):
        self.reads += 1
        if self.reads > MOST_READS:
            raise Spinning
        return super().now()

    def bell(self, *, still=False):
        return super().bell()


@attrs.define
class World:
    """What is true outside the pool.

    Attributes:
        broken: Members that cannot be opened, and fail whoever calls them.
        fence_broken: Whether the fence raises.
        posts: Whose work each member may do, by the fence.
        cut: Members that were fenced off, and have not been let back in.
        refused: When the fence last refused to let a standby take over.
        open: What was opened and not closed.
        asked: Who was given the present call.
        wrong: What should not have happened.
    """

    broken: set[str] = attrs.field(factory=set)
    fence_broken: bool = False
    posts: dict[str, set[str]] = attrs.field(
        factory=lambda: {name: {name} if STANDBY[name] is None else set() for name in NAMES}
    )
    cut: set[str] = attrs.field(factory=set)
    refused: dict[str, float] = attrs.field(factory=dict)
    open: list[object] = attrs.field(factory=list)
    asked: list[str] = attrs.field(factory=list)
    wrong: list[str] = attrs.field(factory=list)

    def hand_back(self, name):
        """Let an active member do its own work again."""
        for posts in self.posts.values():
            posts.discard(name)
        self.posts[name].add(name)
        self.cut.discard(name)


@attrs.frozen(eq=False)
class Resource:
    """What opening a member gives."""

    name: str


class StartedPoolModel(RuleBasedStateMachine):
    """Breaks and mends members and the fence, passes time, calls, probes and operates."""

    def __init__(self):
        super().__init__()
        self.around = contextlib.ExitStack()
        at_once = "mainstay._failover.hooks.HookThreads.begin"
        self.around.enter_context(mock.patch(at_once, run_at_once))
        nobody = "mainstay._failover.probes.ThreadProber.start"
        self.around.enter_context(mock.patch(nobody))
        self.values = self.around.enter_context(recorded())
        self.clock = self.around.enter_context(CountingClock())
        self.world = World()
        self.drained = set()
        self.removed = set()
        self.forced = None
        self.calls = 0

    @initialize(
        mode=st.sampled_from(["least_bad", "raise", "wait"]),
        fenced=st.sampled_from([True, True, False]),
        probed=st.booleans(),
        select=st.sampled_from(["priority", "round_robin"]),
        actives=st.sampled_from(["a", "ab"]),
        standbys=st.sampled_from(["", "c", "e", "cd", "ce", "cde"]),
    )
    def make(self, mode, fenced, probed, select, actives, standbys):
        self.mode, self.fenced, self.probed = mode, fenced, probed
        self.names = [*actives, *standbys]
        self.pool = FailoverPool(
            "db",
            [self.member(name) for name in self.names],
            on=Lost,
            select=select,
            when_all_down=mode,
            fence=self.fence if fenced else None,
            probe=Probe(self.is_well, rise=2, fall=3) if probed else None,
            failback=Failback(grace=5.0, ramp=5.0),
        )

    def teardown(self):
        self.clock.reads = 0
        with self.around:
            if hasattr(self, "pool"):
                self.pool.close()
                assert self.world.open == []

    # What the user gave.

    def member(self, name):
        def open_():
            if name in self.world.broken:
                raise Lost(f"open {name}")
            self.world.open.append(Resource(name))
            return self.world.open[-1]

        return Member(name, open=open_, close=self.world.open.remove, standby=STANDBY[name])

    def fence(self, old, new):
        world = self.world
        if STANDBY[old] is None and (self.probed or old not in world.cut):
            world.hand_back(old)  # it may have been back without a call
        self.check(old != new, "it would fence itself off")
        self.check(STANDBY[new] is not None, "an active member needs no fence")
        self.check(world.posts[old] or old in world.cut, "it never did anybody's work")
        if world.fence_broken:
            before = world.refused.get(new, -LONGEST_EJECTION)
            self.check(self.clock._now - before >= SHORTEST_EJECTION, "it was asked just now")
            world.refused[new] = self.clock._now
            raise Lost(f"fence {old}, {new}")
        world.posts[new] |= world.posts[old]
        world.posts[old] = set()
        world.cut.add(old)
        world.cut.discard(new)

    def check(self, holds, otherwise):
        """Remember what a hook should not have seen, since the pool takes what it raises."""
        if not holds:
            self.world.wrong.append(otherwise)

    def is_well(self, resource):
        return resource.name not in self.world.broken

    def use(self, resource):
        name, world = resource.name, self.world
        world.asked.append(name)
        assert resource in world.open
        if self.fenced and STANDBY[name] is None:
            assert self.probed or name == self.forced or name not in world.cut
            world.hand_back(name)
        elif self.fenced:
            assert world.posts[name], "the fence has not let it take over from anybody"
        if name in world.broken:
            raise Lost(name)
        return name

    # What happens.

    @rule(broken=st.sets(st.sampled_from(NAMES)), fence_broken=st.booleans())
    def break_and_mend(self, broken, fence_broken):
        self.world.broken = broken
        self.world.fence_broken = fence_broken

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 10.0, 100.0, 400.0]))
    def pass_time(self, seconds):
        self.clock.advance(seconds)

    @rule(times=st.integers(1, 8))
    def call(self, times):
        for _ in range(times):
            self.call_once()

    def call_once(self):
        """Call; give who answered, or None."""
        self.clock.reads, self.world.asked = 0, []
        self.calls += 1
        answer = None
        try:
            with deadline(50.0):
                answer = self.pool.call(self.use)
        except (Lost, AllMembersFailedError):
            assert set(self.world.asked) <= self.world.broken
        asked = self.world.asked
        assert len(set(asked)) == len(asked)
        assert set(asked) <= ({self.forced} if self.forced else set(self.names) - self.drained)
        self.clock.reads = 0
        return answer

    @precondition(lambda self: self.probed and self.calls)
    @rule()
    def ask_all(self):
        engine = self.pool._engine
        engine.settle(self.clock.now())
        for slot in [*engine.slots.values()]:
            if slot.opened is not None and not slot.draining:
                error = None if self.is_well(slot.opened.resource) else Lost(slot.name)
                engine.probed(slot, slot.opened, self.clock.now(), error)
        self.clock.reads = 0

    # What operators do.

    @rule(data=st.data())
    def drain(self, data):
        name = data.draw(st.sampled_from(self.names))
        self.pool.drain(name)
        self.drained.add(name)

    @rule(data=st.data())
    def force(self, data):
        self.forced = data.draw(st.sampled_from(self.names))
        self.pool.force(self.forced)
        if STANDBY[self.forced] is None:
            self.world.cut.discard(self.forced)  # the operator says so

    @rule()
    def release(self):
        self.world.cut.clear()
        self.pool.release()
        self.drained.clear()
        self.forced = None

    @precondition(lambda self: len(self.names) > 1)
    @rule(data=st.data())
    def remove(self, data):
        name = data.draw(st.sampled_from(self.names))
        self.names.remove(name)
        self.removed.add(name)
        self.drained.discard(name)
        self.forced = None if self.forced == name else self.forced
        self.pool.remove(name)

    @precondition(lambda self: self.removed)
    @rule(data=st.data())
    def add(self, data):
        name = data.draw(st.sampled_from(sorted(self.removed)))
        self.removed.remove(name)
        self.names.append(name)
        self.world.cut.discard(name)
        self.world.refused.pop(name, None)
        self.pool.add(self.member(name))

    # What calls can rely on.

    @rule(data=st.data(), forced=st.booleans())
    def only_one_is_left(self, data, forced):
        """Whoever it is, calls reach it; in the end without waiting for anything."""
        name = data.draw(st.sampled_from(self.names))
        self.world.broken = set(NAMES) - {name}
        self.world.fence_broken = False
        for _ in range(2):
            self.release()
            if forced:
                self.forced = name
                self.pool.force(name)
                self.world.cut.discard(name)
            for _ in range(8):
                self.call_once()
                if self.probed:
                    self.ask_all()
                    self.ask_all()
                self.clock.advance(LONGEST_EJECTION / 2)
        assert self.call_once() == name

    # What always holds.

    @invariant()
    def nothing_went_wrong_in_a_hook(self):
        assert self.world.wrong == []

    @invariant()
    def every_call_is_counted_once(self):
        assert self.values.value("calls_total", component="db") == self.calls

    @invariant()
    def nothing_is_started_for_ever_and_nothing_is_in_flight(self):
        if hasattr(self, "pool"):
            assert all(slot.start is None for slot in self.pool._engine.slots.values())
            assert all(member.in_flight == 0 for member in self.pool.status().members)
            self.clock.reads = 0


def run_at_once(_threads, _name, _limit, fn, /, *args):
    """Do what a thread would do."""
    fn(*args)


StartedPoolModel.TestCase.settings = settings(
    max_examples=examples(150),
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)
test_a_pool_that_starts_its_members_keeps_its_promises = StartedPoolModel.TestCase
