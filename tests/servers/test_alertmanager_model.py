"""A model of alerts about a pool: told twice, late or never, while people operate on it too."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mainstay import FailoverPool, Member
from mainstay.integrations.alertmanager import Receiver
from mainstay.testing import recorded
from support.alerts import TOKEN, ByAsgi, ByWsgi, alert, post
from support.examples import examples
from support.pools import Lost, use

MEMBERS = ["a", "b", "c"]
ALERTS = ["Errors", "Slow"]


class AlertsModel(RuleBasedStateMachine):
    """Lets alerts begin and end, tells of them in any order, and operates by hand."""

    def __init__(self):
        super().__init__()
        self.metrics = recorded()
        self.metrics.__enter__()
        self.pool = FailoverPool("db", [Member(name, name) for name in MEMBERS], on=Lost)
        self.pool.call(use)
        receiver = Receiver([self.pool], token=TOKEN)
        self.ways = [ByAsgi(receiver), ByWsgi(receiver)]
        self.now = 1
        self.history = {}  # what there is to tell of each alert, the oldest first
        self.told = {}  # how much of it was told, at least
        self.by_hand = set()
        self.overruled = set()  # alerts whose member was released by hand since
        self.forced = None

    def teardown(self):
        self.metrics.__exit__(None, None, None)

    # What happens.

    @rule(member=st.sampled_from(MEMBERS), name=st.sampled_from(ALERTS))
    def begin_or_end(self, member, name):
        self.now += 1
        told = self.history.setdefault((member, name), [])
        if len(told) % 2:
            starts = told[-1]["starts"]
            told.append({"starts": starts, "ends": self.now})
        else:
            told.append({"starts": self.now})

    @precondition(lambda self: self.history)
    @rule(data=st.data())
    def tell(self, data):
        """Tell of some alerts in one notification, each as it is or as it once was."""
        which = data.draw(st.lists(st.sampled_from(sorted(self.history)), min_size=1, max_size=4))
        alerts = []
        for member, name in which:
            told = self.history[member, name]
            at = data.draw(st.integers(0, len(told) - 1))
            if at > self.told.get((member, name), -1):
                if "ends" not in told[at]:
                    self.overruled.discard((member, name))
                self.told[member, name] = at
            alerts.append(alert(member, name=name, **told[at]))
        self.post(data.draw(st.sampled_from(self.ways)), alerts)

    def post(self, way, alerts):
        served = self.pool.status().serving
        assert post(way, *alerts) == 200
        assert self.pool.status().serving or not served

    @rule(member=st.sampled_from(MEMBERS))
    def drain(self, member):
        self.pool.drain(member)
        self.by_hand.add(member)

    @rule(member=st.sampled_from(MEMBERS))
    def force(self, member):
        self.pool.force(member)
        self.forced = member

    @rule(member=st.sampled_from([*MEMBERS, None]))
    def release(self, member):
        drained = self.drained()
        self.pool.release(member)
        released = set(MEMBERS if member is None else [member])
        self.by_hand -= released
        self.overruled |= {each for each in self.firing() if each[0] in released & drained}
        if self.forced in released:
            self.forced = None

    # What holds.

    def drained(self):
        return {each.name for each in self.pool.status().members if each.state == "draining"}

    def firing(self):
        """Give the alerts that fire, as far as anybody was told."""
        return {key for key, at in self.told.items() if "ends" not in self.history[key][at]}

    @invariant()
    def what_was_drained_by_hand_stays_drained(self):
        assert self.by_hand <= self.drained()

    @invariant()
    def what_was_forced_stays_forced(self):
        assert self.pool.status().forced == self.forced

    @invariant()
    def nobody_else_is_drained_without_an_alert_that_fires(self):
        assert self.drained() - self.by_hand <= {member for member, _ in self.firing()}

    @precondition(lambda self: self.history)
    @rule()
    def everything_is_told(self):
        """After the news, those are drained that alerts are about, as far as may be."""
        for key, told in self.history.items():
            if self.told.get(key, -1) < len(told) - 1:
                self.told[key] = len(told) - 1
                if "ends" not in told[-1]:
                    self.overruled.discard(key)
        self.post(self.ways[0], [
            alert(member, name=name, **told[-1]) for (member, name), told in self.history.items()
        ])  # fmt: skip
        wanted = {member for member, _ in self.firing() - self.overruled} - {self.forced}
        left_alone = wanted - self.drained()
        if left_alone:
            assert self.drained() == set(MEMBERS) - left_alone
            assert len(left_alone) == 1


AlertsModel.TestCase.settings = settings(
    max_examples=examples(100), stateful_step_count=40, suppress_health_check=list(HealthCheck)
)
test_alerts_drain_whom_they_name_in_any_history = AlertsModel.TestCase
