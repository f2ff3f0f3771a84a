"""Two workers and one run, in any order of events, against a model of one list."""

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mainstay import checkpoint_run
from mainstay._checkpoint import signals
from mainstay._checkpoint.document import opened
from mainstay.errors import LeaseLostError, RunBusyError, RunCompleteError
from mainstay.stores import MemoryStore
from mainstay.stores.base import RunId
from mainstay.testing import FakeClock, recorded
from support.examples import examples
from support.store_conformance import DEAD

ITEMS = 12
RUN = RunId("run", "key")
WORKERS = st.sampled_from(["a", "b"])


class Worker:
    """A process that works on the run, item by item."""

    def __init__(self, store, every):
        self.block = checkpoint_run(
            "key", store=store, every=every, lease=30, max_crashes=None, on_complete="raise"
        )
        cp = self.block.__enter__()
        self.token = cp.token
        self.log = cp.state([])
        self.resumed_at = [*self.log]
        self.items = cp.iterate(range(ITEMS), key=lambda item: item % 3)
        self.cp = cp

    def go_on(self):
        """Do one item; say whether there was one."""
        for item in self.items:
            assert self.log == [*range(item)], "the state is not where the cursor is"
            assert self.cp.step("effect", lambda item=item: item) == item, "of another item"
            self.log.append(item)
            return True
        return False

    def vanish(self):
        call = self.block._call
        call._end_watch(call.run)
        signals.unwatch(call.run)
        self.items.close()


class TwoWorkers(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.store = MemoryStore()
        self.workers = {}
        self.saved = []
        self.finished = False
        self.clock = FakeClock()
        self.clock.__enter__()
        self.metrics = recorded()
        self.metrics.__enter__()

    def teardown(self):
        for worker in self.workers.values():
            worker.vanish()
        self.metrics.__exit__(None, None, None)
        self.clock.__exit__(None, None, None)

    @initialize(every=st.integers(1, 5))
    def choose(self, every):
        self.every = every

    def record(self):
        kept = self.store._runs.get(RUN)
        return kept.record if kept else None

    @rule(name=WORKERS)
    def begin(self, name):
        if name in self.workers:
            return
        record = self.record()
        try:
            self.workers[name] = worker = Worker(self.store, self.every)
        except RunBusyError:
            assert record.status == "running"
            assert self.clock.now() < record.expires
        except RunCompleteError:
            assert self.finished
        else:
            assert not self.finished
            assert worker.resumed_at == self.saved
            assert record is None or worker.token > record.token

    @rule(name=WORKERS, count=st.integers(1, 4))
    def work(self, name, count):
        worker = self.workers.get(name)
        for _ in range(count if worker else 0):
            mine = self.record().token == worker.token
            before = self.store.load(RUN)
            try:
                went_on = worker.go_on()
                unchanged = self.store.load(RUN) == before
                assert mine or unchanged, "a worker saved after it was taken over"
                if not went_on:
                    worker.block.__exit__(None, None, None)
                    del self.workers[name]
                    self.finished = True
                    return
            except LeaseLostError as error:
                assert not mine
                worker.block.__exit__(LeaseLostError, error, None)
                del self.workers[name]
                return

    @rule(name=WORKERS)
    def fail(self, name):
        worker = self.workers.pop(name, None)
        if worker is not None:
            worker.block.__exit__(ValueError, ValueError("failed"), None)

    @rule(name=WORKERS)
    def die(self, name):
        worker = self.workers.pop(name, None)
        if worker is not None:
            worker.vanish()
            kept = self.store._runs[RUN]
            if kept.record.token == worker.token:
                kept.record = attrs.evolve(kept.record, owner=DEAD)

    @precondition(lambda self: self.workers)
    @rule(name=WORKERS)
    def save(self, name):
        worker = self.workers.get(name)
        if worker is not None and worker.items.gi_frame is not None:
            mine = self.record().token == worker.token
            try:
                worker.cp.save()
            except LeaseLostError as error:
                assert not mine
                worker.block.__exit__(LeaseLostError, error, None)
                del self.workers[name]

    @rule(seconds=st.sampled_from([1, 20, 31]))
    def pass_time(self, seconds):
        self.clock.advance(seconds)

    @invariant()
    def what_was_saved_is_the_state_at_its_cursor_and_never_less_than_before(self):
        contents = self.store.load(RUN)
        if contents.latest is None:
            return
        document = opened(contents.latest)
        saved = [] if document.cursors == {} else document.state
        assert saved == [*range(document.items)]
        assert saved[: len(self.saved)] == self.saved
        self.saved = saved

    @invariant()
    def results_of_steps_are_only_kept_for_items_that_are_not_saved(self):
        results = self.store.load(RUN).results
        assert len(results) <= self.every + 1 if not self.finished else results == {}


TwoWorkers.TestCase.settings = settings(max_examples=examples(80), stateful_step_count=40)
test_two_workers_agree_with_the_model = TwoWorkers.TestCase
