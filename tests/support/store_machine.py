"""Two workers, a server that forgets, lost answers and a clock that steps, in any order of events.

The workers are blocks of `checkpoint_run` as users have them, so that what is proved is proved of
the code that runs: how a hold numbers its saves, how the sender sends again, and what the rules of
`mainstay.stores.base` make of it. The server checks the rules by a log of its own; here is checked
what a worker sees:

- the state is always where the cursor is, so that each item is counted once;
- a step whose result was acknowledged is not run again by the owner, unless the history was cut;
- a finished run stays finished, unless the history was cut;
- whatever has happened, a worker that is left alone finishes the run.
"""

from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mainstay import checkpoint_run
from mainstay._checkpoint import archive, signals, watcher
from mainstay._checkpoint.document import opened
from mainstay._core.events import forget_firsts
from mainstay.errors import LeaseLostError, RunBusyError, RunCompleteError, StoreUnavailableError
from mainstay.stores.base import RunId
from mainstay.testing import FakeClock, recorded
from support.forgetful_server import LEAP, ROUNDING, TROUBLES, ForgetfulServer
from support.store_conformance import DEAD

PARTS, SIZE = 3, 4
ITEMS = PARTS * SIZE
LEASE = 30.0
RUN = RunId("run", "key")
NAMES = ("a", "b")
WORKERS, TROUBLE = st.sampled_from(NAMES), st.sampled_from(TROUBLES)


class Worker:
    """A process that works on the run, item by item."""

    def __init__(self, machine):
        self.machine = machine
        self.block = checkpoint_run(
            "key",
            store=machine.server,
            every=machine.every,
            lease=LEASE,
            max_crashes=None,
            on_complete="raise",
        )
        self.cp = self.block.__enter__()
        self.log = self.cp.state([])
        self.body = self.go_through()

    @property
    def hold(self):
        return self.block._call.run.hold

    def go_through(self):
        """Do all items; yield after each. Their keys are used again and again."""
        for part in range(PARTS):
            for item in self.cp.iterate(
                range(part * SIZE, (part + 1) * SIZE), key=lambda item: item % 2
            ):
                assert self.log == [*range(item)], "the state is not where the cursor is"
                known = self.machine.numbers
                of, number = first = self.cp.step("first", self.effect, item)
                assert of == item, "a step gets the result of another item"
                second = self.cp.step("second", lambda first=first: first)
                assert second == first, "a step builds on a result that is not there"
                if number >= known:  # not one of a history that was cut meanwhile
                    self.machine.kept.add(item)
                self.log.append(item)
                yield True

    def go_on(self):
        """Do one item; say whether there was one."""
        return next(self.body, False)

    def effect(self, item):
        server = self.machine.server
        if server.owner() == self.hold.held.grant:
            assert item not in self.machine.kept, "a step runs again whose result was acknowledged"
        self.machine.numbers += 1
        return [item, self.machine.numbers - 1]

    def end(self, error=None):
        """Leave the block, as the program does at the end of it or with an error."""
        self.block.__exit__(error and type(error), error, None)

    def vanish(self):
        """End as a process that is killed."""
        call = self.block._call
        call._end_watch(call.run)
        signals.unwatch(call.run)
        self.body.close()


class StoreMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        forget_firsts()
        self.server = ForgetfulServer()
        self.server.meanwhile = self.come_first
        self.workers = {}
        self.acting = []
        self.cuts = 0
        self.kept = set()
        self.numbers = 0
        self.patch = mock.patch.object(archive, "MOST_KEPT", 1)
        self.patch.start()
        self.clock = FakeClock()
        self.clock.__enter__()
        self.metrics = recorded()
        self.metrics.__enter__()

    def teardown(self):
        try:
            self.finish_alone()
        finally:
            for worker in self.workers.values():
                worker.vanish()
            self.metrics.__exit__(None, None, None)
            self.clock.__exit__(None, None, None)
            self.patch.stop()

    @initialize(every=st.integers(1, 4))
    def choose(self, every):
        self.every = every

    # What workers do.

    def act(self, name, what):
        """Have a worker do something; what it may raise ends it."""
        worker = self.workers.get(name)
        self.acting.append(name)
        try:
            if worker is None:
                self.workers[name] = Worker(self)
            else:
                what(worker)
        except (LeaseLostError, StoreUnavailableError) as error:
            if self.workers.pop(name, None) is not None:
                worker.end(error)
        except RunBusyError:
            assert self.server.left() > -ROUNDING, "busy without an owner"
        except RunCompleteError:
            assert self.server.finished(), "complete before the end"
        finally:
            self.acting.remove(name)
            self.heed_cuts()

    def heed_cuts(self):
        if self.server.cuts > self.cuts:
            self.cuts = self.server.cuts
            self.kept.clear()

    def do_item(self, name):
        def work(worker):
            if not worker.go_on():
                del self.workers[name]
                worker.end()

        self.act(name, work)

    def come_first(self):
        """Do an item of the other worker while one waits for its answer."""
        for name in NAMES:
            if name not in self.acting:
                self.do_item(name)

    @rule(name=WORKERS, count=st.integers(1, 6), troubles=st.lists(TROUBLE, max_size=6))
    def work(self, name, count, troubles):
        self.server.troubles.extend(troubles)
        for _ in range(count):
            self.do_item(name)

    @rule(name=WORKERS)
    def save(self, name):
        worker = self.workers.get(name)
        if worker is not None and worker.body.gi_frame is not None:
            self.act(name, lambda worker: worker.cp.save())

    @rule(name=WORKERS)
    def renew(self, name):
        worker = self.workers.get(name)
        if worker is not None:
            watcher._watchers[id(self.server)]._renewed([worker.hold])

    @rule(name=WORKERS)
    def fail(self, name):
        worker = self.workers.pop(name, None)
        if worker is not None:
            worker.end(ValueError("failed"))

    @rule(name=WORKERS, proved=st.booleans())
    def die(self, name, proved):
        worker = self.workers.pop(name, None)
        if worker is not None:
            worker.vanish()
            if proved and self.server.owner() == worker.hold.held.grant:
                self.server.declare_dead(DEAD)

    # What happens to the server.

    @rule(troubles=st.lists(TROUBLE, min_size=1, max_size=4))
    def get_into_trouble(self, troubles):
        self.server.troubles.extend(troubles)

    @rule(count=st.integers(1, 6))
    def lose_the_last_writes(self, count):
        self.server.forget_writes(count)
        self.heed_cuts()

    @rule()
    def believe_that_the_owner_died(self):
        self.server.declare_dead(DEAD)

    @rule(seconds=st.sampled_from([-100.0, -1.0, 1.0, LEAP]))
    def step_clock(self, seconds):
        self.server.step_clock(seconds)

    @rule(seconds=st.sampled_from([1.0, 20.0, LEAP]))
    def pass_time(self, seconds):
        self.clock.advance(seconds)

    # What must hold.

    @invariant()
    def the_server_keeps_the_rules(self):
        self.server.check_contents()
        assert not self.server.wrongs, self.server.wrongs[0]

    @invariant()
    def what_was_saved_is_the_state_at_its_cursor(self):
        contents = self.server.load(RUN)
        if contents.latest is not None:
            document = opened(contents.latest)
            assert document.state in ([*range(document.items)], None) or document.cursors == {}

    def finish_alone(self):
        """Let one worker have the run for itself, at last."""
        self.server.troubles.clear()
        for worker in self.workers.values():
            worker.vanish()
        self.workers.clear()
        self.server.step_clock(1000.0)
        for _ in range(ITEMS + 2):
            self.do_item("a")
        assert self.server.finished(), "a worker that is left alone does not finish"
        self.the_server_keeps_the_rules()
        document = opened(self.server.load(RUN).latest)
        assert document.state == [*range(ITEMS)], "an item is lost, or counted twice"
        self.do_item("b")
        assert "b" not in self.workers, "a finished run goes on"
