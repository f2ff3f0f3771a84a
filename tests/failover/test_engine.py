"""What happens to the members of a pool, told of answers one by one."""

import attrs
import pytest

from mainstay import Detect, Failback, FailoverPool, Member, Probe
from mainstay._core.context import current_context
from mainstay._core.detector import Phase
from mainstay._failover import engine as engines
from mainstay._failover.hooks import UnhealthyError
from mainstay._failover.members import OpenedResource
from support.pools import AT_ONCE, Lost, wait_until


class Told:
    """The engine of a pool of two, which is told what probes answer."""

    def __init__(self, clock, **options):
        self.clock = clock
        members = [Member(name, name) for name in "ab"]
        pool = FailoverPool("db", members, **{"on": Lost, "failback": AT_ONCE, **options})
        self.engine = pool._engine
        self.slot = self.engine.slots["a"]

    def probes(self, *answers):
        """Answer for member a: True is good; return where it stands then."""
        for good in answers:
            error = None if good is True else good or Lost()
            self.engine.probed(self.slot, self.slot.opened, self.clock.now(), error)
        return self.slot.detector.phase


def bad_and_good(clock, **options):
    return Told(clock, probe=Probe(lambda _resource: True, rise=2, fall=2), **options)


def test_bad_answers_in_a_row_eject(clock, metrics):
    told = bad_and_good(clock)
    assert told.probes(False, True, False, True, False) is Phase.WELL
    assert told.probes(False) is Phase.EJECTED
    assert metrics("ejections_total", member="a", cause="probe") == 1
    assert (told.slot.good_probes, told.slot.bad_probes) == (0, 0)


def test_good_answers_in_a_row_bring_back_once_the_time_is_over(clock):
    told = bad_and_good(clock)
    told.probes(False, False)
    assert told.probes(True, True, True) is Phase.EJECTED
    clock.advance(5.0)
    assert told.probes(False) is Phase.EJECTED
    until = told.slot.detector.until
    assert until > clock.now()  # it has to wait anew
    clock.advance(until - clock.now())
    assert told.probes(True) is Phase.EJECTED
    assert told.probes(True) is Phase.WELL
    slot = told.slot
    assert (slot.good_probes, slot.bad_probes, slot.strikes) == (0, 0, 0)
    assert slot.has_failures  # the next failure ejects it


def test_a_member_that_is_fenced_off_is_let_in_by_good_answers(clock):
    told = bad_and_good(clock)
    told.slot.barred = True
    assert told.slot.absence(0.0).args == ("member a is fenced off",)
    told.probes(True)
    assert told.slot.barred
    told.probes(True)
    assert not told.slot.barred
    told.probes(False, False)
    told.slot.barred = True
    clock.advance(5.0)
    assert told.probes(True, True) is Phase.WELL
    assert not told.slot.barred


def test_what_a_probe_raises_is_told_once_in_a_row(clock, caplog):
    told = bad_and_good(clock)

    def lines():
        return [line for line in caplog.messages if "probe of" in line]

    told.probes(UnhealthyError())
    assert caplog.messages == []
    told.probes(True, Lost())
    assert lines() == ["db: probe of member a failed with Lost"]
    told.probes(Lost(), True)
    assert lines() == ["db: probe of member a failed with Lost"]


def test_the_share_of_a_member_that_came_back_grows_for_longer_by_chance(clock, monkeypatch):
    told = bad_and_good(clock, failback=Failback(grace=16.0, ramp=64.0, jitter=0.5))
    told.probes(False, False)
    clock.advance(5.0)
    monkeypatch.setattr(engines, "chance", lambda: 1.0)
    told.probes(True, True)
    slot, now = told.slot, clock.now()
    assert (slot.grace_until - now, slot.ramp_until - now) == (24.0, 120.0)
    shares = [slot.share(now + seconds) for seconds in (0.0, 24.0, 72.0, 120.0, 500.0)]
    assert shares == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_two_calls_at_once_make_one_trial(clock, metrics):
    told = Told(clock)
    now = current_context().clock
    for _ in range(4):
        told.engine.failed(told.engine.choose(now, (), set()), clock.now())
    assert told.slot.detector.phase is Phase.EJECTED
    assert "ejected; next trial in " in told.slot.absence(clock.now()).args[0]
    clock.advance(5.0)
    chosen = [told.engine.choose(now, (), set()) for _ in range(3)]
    assert [each.lease.member for each in chosen] == ["a", "b", "b"]
    assert told.slot.state(clock.now()) == "trial"
    assert "ejected; next trial in " in told.slot.absence(clock.now()).args[0]
    assert told.slot.state(told.slot.detector.until) == "ejected"  # nothing was heard of it


@pytest.mark.parametrize(("seconds", "late"), [(0.125, False), (0.25, True)])
def test_a_silence_is_too_long_beyond_its_limit(clock, metrics, seconds, late):
    told = Told(clock, detect=Detect(slow=0.125))
    handle = told.engine.choose(current_context().clock, (), set())
    assert told.engine.cancelled(handle, 0.0, seconds) is late


def test_a_reset_forgets_what_answers_took(clock):
    pool = FailoverPool("db", [Member("a", "a")], on=Lost, budget=0.5)
    settings = pool._engine.settings
    pool._engine.answers.append(1000.0)
    pool.reset()
    assert not pool._engine.answers
    assert pool._engine.settings is not settings


@pytest.mark.parametrize(("what", "cause"), [("probe", "probe"), ("open", "consecutive")])
def test_a_member_that_cannot_start_is_ejected_for_what_failed(clock, metrics, what, cause):
    told = bad_and_good(clock)
    start = told.slot.begin_start(clock.now())
    told.engine.started(told.slot, start, None, Lost(), what)
    assert told.slot.detector.phase is Phase.EJECTED
    assert metrics("ejections_total", member="a", cause=cause) == 1


def test_a_start_that_was_given_up_meanwhile_is_closed_and_ends_nothing(clock):
    closed = []
    pool = FailoverPool("one", [Member("a", open=list, close=closed.append)], on=Lost)
    slot, engine = pool._engine.slots["a"], pool._engine
    old, new = slot.begin_start(0.0), slot.begin_start(0.0)
    engine.started(slot, old, OpenedResource("late"), None, "open")
    assert slot.start is new
    wait_until(lambda: closed == ["late"])
    engine.started(slot, old, None, Lost(), "open")
    assert slot.start is new


def test_a_forked_child_knows_of_no_start_and_of_no_suspicion(clock):
    told = bad_and_good(clock)
    told.slot.begin_start(clock.now())
    told.slot.suspected_at = clock.now()
    told.engine.forget()
    assert (told.slot.start, told.slot.suspected_at) == (None, None)


def test_calls_that_wait_hear_of_what_comes_back_and_of_the_end_and_of_nothing_else(clock):
    members = [Member("a", "a"), Member("z", open=list, standby="cold")]
    pool = FailoverPool("db", members, on=Lost, failback=AT_ONCE)
    engine = pool._engine
    with pool:
        standby = engine.slots["z"]
        standby.detector.eject("consecutive", clock.now(), 0.0)
        engine.replan(clock.now())
        waiting = engine.progress
        engine.replan(clock.now())
        assert engine.progress is waiting
        clock.advance(standby.detector.until - clock.now())
        engine.settle(clock.now())
        assert standby.detector.phase is Phase.WELL
        assert engine.progress is not waiting
        waiting = engine.progress
        engine.plan = attrs.evolve(engine.plan, wake=clock.now())
        engine.settle(clock.now())
        assert engine.progress is waiting  # it was time to look, and there was nothing
    assert engine.progress is not waiting


def test_the_next_trial_follows_as_soon_as_one_has_passed(clock):
    told = Told(clock, detect=Detect(trials=2))
    now = current_context().clock
    for _ in range(4):
        told.engine.failed(told.engine.choose(now, (), set()), clock.now())
    clock.advance(5.0)
    for phase in (Phase.EJECTED, Phase.WELL):
        trial = told.engine.choose(now, (), set())
        assert trial.lease.member == "a"
        waiting = told.engine.progress
        told.engine.succeeded(trial, clock.now(), 0.0)
        assert told.engine.progress is not waiting
        assert told.slot.detector.phase is phase


def test_calls_that_find_everybody_down_have_a_member_started_once(clock):
    members = [Member("a", "a"), Member("z", open=list, standby="cold")]
    engine = FailoverPool("db", members, on=Lost, failback=AT_ONCE)._engine
    starts = []
    engine.opener.start = lambda slot, start: starts.append(slot.name)
    engine.open()
    for slot in engine.slots.values():
        slot.detector.eject("consecutive", clock.now(), 0.0)
    engine.replan(clock.now())
    for _ in range(2):
        engine.choose(current_context().clock, (engine.slots["a"],), set())
    assert starts == ["z"]


def test_a_resource_that_a_given_up_start_has_used_again_is_not_closed(clock):
    told = bad_and_good(clock)
    told.slot.detector.eject("consecutive", clock.now(), 0.0)
    old = told.slot.begin_start(clock.now())
    told.slot.begin_start(clock.now())
    assert old.reused is not None
    told.engine.started(told.slot, old, old.reused, None, "open")
    assert not old.reused.gone


def test_a_member_that_waits_for_its_turn_says_so(clock):
    members = [Member("a", "a"), Member("b", "b", standby="hot")]
    pool = FailoverPool("db", members, on=Lost)
    assert pool._engine.slots["b"].absence(clock.now()).args == ("member b is standing by",)


def test_calls_that_wait_hear_of_a_trial_that_failed(clock):
    told = Told(clock)
    now = current_context().clock
    for _ in range(4):
        told.engine.failed(told.engine.choose(now, (), set()), clock.now())
    clock.advance(5.0)
    trial = told.engine.choose(now, (), set())
    waiting = told.engine.progress
    told.engine.failed(trial, clock.now())
    assert told.engine.progress is not waiting
    assert told.engine.settle(clock.now()) == told.slot.detector.until  # when to look again
