"""What the tests of stores on servers share: callers that send again, calls from tasks, suites."""

import asyncio
import itertools
import os
import pickle
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import attrs
import pytest

from mainstay import checkpoint_run
from mainstay.errors import CorruptCheckpointError, StoreSchemaError, StoreUnavailableError
from mainstay.stores.base import (
    Acquired,
    AsyncStore,
    Change,
    Contents,
    Finished,
    Held,
    Result,
    RunId,
)
from mainstay.stores.selection import count_runs, surplus_runs
from support.examples import strides
from support.fault_proxy import FAULTS
from support.pools import LONGEST
from support.store_conformance import (
    ONE,
    OTHER,
    RUN,
    TWO,
    StoreConformance,
    acquired,
    lease_of,
    request,
    save,
)

SECRET = "hun%40ter2"  # noqa: S105 - that it is shown nowhere is a test
SHOWN = ("hun", "ter2")
LONG = 180.0  # a lease of which a third is more than a busy machine needs


class InTasks:
    """A store whose `AsyncStore` half is called, in an event loop of its own."""

    def __init__(self, store):
        self._store = store
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def __getattr__(self, name):
        return getattr(self._store, name)

    def _wait(self, task):
        return asyncio.run_coroutine_threadsafe(task, self._loop).result(LONGEST)

    def end(self):
        self._wait(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def acquire(self, run, request):
        return self._wait(self._store.aacquire(run, request))

    def commit(self, lease, change):
        return self._wait(self._store.acommit(lease, change))

    def release(self, *args, **options):
        return self._wait(self._store.arelease(*args, **options))


class Persistent:
    """A caller that sends again what was not answered."""

    def __init__(self, call):
        self.call = call
        self.failures = 0

    def __call__(self, *args, **options):
        end = time.monotonic() + LONGEST
        while True:
            try:
                return self.call(*args, **options)
            except StoreUnavailableError as error:
                if not error.retryable or time.monotonic() > end:
                    raise
                self.failures += 1


class FromThreads:
    """A caller in a thread."""

    def __init__(self, store):
        self.acquire, self.commit = Persistent(store.acquire), Persistent(store.commit)
        self.release = Persistent(store.release)


class FromTasks:
    """A caller in a task."""

    def __init__(self, store, runner):
        def wait(call):
            return Persistent(lambda *args, **options: runner.run(call(*args, **options)))

        self.acquire, self.commit = wait(store.aacquire), wait(store.acommit)
        self.release = wait(store.arelease)


@contextmanager
def calling(store, kind):
    """Give a caller of the store that is "sync" or "async"."""
    if kind == "sync":
        yield FromThreads(store)
        return
    with asyncio.Runner() as runner:
        yield FromTasks(store, runner)


def work(caller):
    """Go through a run with all that a run does, in two attempts."""
    numbers = itertools.count(1)

    def commit(lease, **change):
        caller.commit(lease, Change(**change, sequence=next(numbers)))

    lease = lease_of(caller.acquire(RUN, request()))
    commit(lease, put={0: ONE})
    commit(lease, document=b"1", drop=(0,))
    commit(lease, put={1: ONE, 2: TWO})
    caller.release(lease, "error", "no")
    numbers = itertools.count(1)
    answer = caller.acquire(RUN, request())
    assert answer.contents == Contents(b"1", None, {1: ONE, 2: TWO})
    lease = lease_of(answer)
    commit(lease, document=b"2", put={3: TWO})
    commit(lease, drop=(1,))
    commit(lease, document=b"3", finished=True)
    answer = caller.acquire(RUN, request())
    assert isinstance(answer, Finished)
    assert answer.record.attempt == 2
    assert answer.contents == Contents(b"3", b"3", {2: TWO, 3: TWO})


def refusal(kind, url, use=acquired, **options):
    """Give the error of a use of a store of that kind, which can be pickled and shows no secret."""
    store = kind(url, **{"timeout": 5.0, **options})
    with pytest.raises((StoreUnavailableError, StoreSchemaError, CorruptCheckpointError)) as error:
        use(store)
    store.close()
    for secret in (*SHOWN, "Debug"):
        assert secret not in f"{error.value!s} {error.value!r} {store!r} {store.url}"
    assert pickle.loads(pickle.dumps(error.value)).args == error.value.args  # noqa: S301 - ours
    return error.value


def until(condition):
    """Wait until a condition holds."""
    end = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@contextmanager
def making(kind, url):
    """Give a function that makes stores, which are closed at the end."""
    with ExitStack() as made:

        def make(**options):
            store = kind(url, **{"timeout": 5.0, **options})
            made.callback(store.close)
            return store

        yield make


def wait_for_release(store, colour, run=RUN, seconds=LONGEST):
    """Wait as `on_busy="wait"` does, "sync" or "async"; give the seconds that took."""
    began = time.monotonic()
    if colour == "sync":
        store._wait_for_release(run, seconds)
    else:
        asyncio.run(store._await_release(run, seconds))
    return time.monotonic() - began


class ClockedConformance(StoreConformance):
    """What every store must do; needs the fixture `clocked`, a store on the context's clock."""

    @pytest.fixture
    def store(self, clocked):
        return clocked


class InTasksConformance(StoreConformance):
    """What every store must do, from tasks; needs the fixture `clocked` as well."""

    @pytest.fixture
    def store(self, clocked):
        store = InTasks(clocked)
        yield store
        store.end()

    def test_it_is_a_store(self, store):
        assert isinstance(store._store, AsyncStore)


class ServerStoreConformance:
    """What a store does where its runs are, besides what every store must do.

    Attributes:
        NAMES: Names of runs that the store must take.
        KEYS: Keys of runs that the store must take.
    """

    NAMES = ("a", "a\0", "a\0b", "a\x01", "a/b", "a.", "..", "A", "ab", "é", "\U0001f600", "\ud800",
             "%2F")  # fmt: skip
    KEYS = ("", "\0", "k", "\0\0x", "{x}", "100%", "+ ~")

    def test_a_run_goes_through_its_store_from_threads_and_from_tasks(self, store):
        with checkpoint_run("nightly", store=store, every=timedelta(hours=1)) as cp:
            assert [cp.step("double", int.__mul__, 2, each) for each in cp.iterate(range(3))] == [
                0, 2, 4,
            ]  # fmt: skip

        async def one():
            return 1

        async def run():
            async with checkpoint_run("async", store=store) as cp:
                return await cp.step("one", one)

        assert asyncio.run(run()) == 1
        assert [(record.run.key, state) for record, state in store.list()] == [
            ("async", "done"), ("nightly", "done"),
        ]  # fmt: skip

    def test_a_hundred_thousand_results_are_kept_and_removed_at_once(self, store):
        results = {number: Result("slot", b"%d" % number) for number in range(100_000)}
        lease = acquired(store, lease=LONG)
        store.commit(lease, Change(document=b"x", put=results, sequence=1))
        store.release(lease, "error")
        answer = store.acquire(RUN, request(lease=LONG))
        assert answer.contents.results == results
        store.commit(lease_of(answer), Change(drop=(*results,), sequence=1))
        assert store.load(RUN) == Contents(b"x", None, {})

    def test_names_of_all_letters_are_sorted_as_python_sorts_them(self, store):
        runs = [RunId(name, key) for name in self.NAMES for key in self.KEYS]
        for run in reversed(runs):
            acquired(store, run)
        assert [record.run for record, _ in store.list()] == sorted(runs)
        for name in self.NAMES:
            expected = sorted(run for run in runs if run.name == name)
            assert [each.run for each, _ in store.list(name)] == expected
        paged, after = [], None
        while page := store.list("a", after=after, limit=1):
            after = page[-1][0].run
            paged.append(after)
        assert paged == sorted(run for run in runs if run.name == "a")
        counts = count_runs(store)
        assert counts == {(name, "running"): len(self.KEYS) for name in self.NAMES}


class ListeningStoreConformance(ServerStoreConformance):
    """What a store does besides that listens, chooses by itself, and has its own connections."""

    @pytest.mark.parametrize("how", ["release", "finish"])
    @pytest.mark.parametrize("colour", ["sync", "async"])
    def test_who_waits_for_a_run_wakes_when_it_is_left(self, store, how, colour):
        lease = acquired(store)

        def leave():
            time.sleep(0.1)
            if how == "release":
                store.release(lease, "error")
            else:
                save(store, lease, b"end", finished=True)

        thread = threading.Thread(target=leave)
        thread.start()
        assert wait_for_release(store, colour) < LONGEST / 2
        thread.join()
        assert wait_for_release(store, colour) < LONGEST / 2

    @pytest.mark.parametrize("colour", ["sync", "async"])
    def test_who_waits_for_a_run_does_not_wait_longer_than_that(self, store, colour):
        acquired(store)
        store.release(acquired(store, OTHER), "error")
        assert 0.1 <= wait_for_release(store, colour, seconds=0.1) < LONGEST

    def test_runs_are_counted_and_chosen(self, store):
        for number in range(5):
            save(store, acquired(store, RunId("a", str(number))), b"end", finished=True)
        save(store, acquired(store, RunId("b", "1")), b"end", finished=True)
        acquired(store, RunId("a", "5"))
        store.release(acquired(store, RunId("b", "0")), "error")
        assert count_runs(store) == {
            ("a", "done"): 5, ("a", "running"): 1, ("b", "done"): 1, ("b", "interrupted"): 1,
        }  # fmt: skip
        last = RunId("a", "4")

        def chosen(most, seconds, ended=last):
            return {run.key for run in surplus_runs(store, ended, most, seconds, 0.0)}

        assert chosen(1, None, RunId("a", "3")) == {"0", "1", "2"}  # and not the newest

        assert chosen(3, None) == {"0", "1"}
        assert chosen(1, None) == chosen(None, 0.0) == chosen(3, 0.0) == {"0", "1", "2", "3"}
        assert chosen(3, 60.0) == {"0", "1"}
        assert chosen(9, 60.0) == chosen(None, 60.0) == set()
        store.forget(RunId("a", "0"))
        acquired(store, RunId("a", "1"), rerun=True)
        assert chosen(1, None) == chosen(None, 0.0) == {"2", "3"}

    @pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning")
    def test_a_forked_child_and_its_parent_do_not_share_connections(self, store):
        lease = acquired(store)
        child = os.fork()
        if child == 0:
            try:
                acquired(store, OTHER)
                os._exit(0 if isinstance(store.acquire(RUN, request()), Held) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        save(store, lease, b"one")
        assert isinstance(store.acquire(OTHER, request()), Acquired)


class ServerFaultConformance:
    """What is lost, doubled or left hanging when connections fail: nothing.

    Needs the fixtures `server`, `proxy`, a `FaultProxy` in front of that, and `through`, which is
    `making` a store by way of the proxy.
    """

    def check(self, server):
        """Look for more that must hold after `work`, where that can be seen."""

    @pytest.mark.parametrize("colour", ["sync", "async"])
    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_failure_at_any_message_loses_and_doubles_nothing(
        self, server, proxy, through, fault, colour
    ):
        """Known fault: a save whose answer is lost ends the run, although it was made."""
        store = through()
        with calling(store, colour) as caller:
            work(caller)
            rounds = 1
            for number in itertools.count(1, strides()):
                assert Persistent(store.forget)(RUN)
                proxy.fail_at(number, fault)
                work(caller)
                rounds += 1
                if not proxy.has_failed.is_set():
                    break
        assert number > 10
        proxy.fail_at(0, None)
        [(record, _)] = store.list()
        assert (record.token, record.attempt) == (2 * rounds, 2)
        self.check(server)

    @pytest.mark.parametrize("colour", ["sync", "async"])
    @pytest.mark.parametrize("options", [{"timeout": 0.5}, {"timeout": None}])
    def test_a_call_that_nobody_answers_ends_in_its_time(self, proxy, through, colour, options):
        """Known fault: a connection that passes nothing on any more hangs a run for good."""
        store = through(**options)
        lease = attrs.evolve(acquired(store), seconds=1.5)
        change = Change(document=b"one", sequence=1)
        calls = {
            "sync": lambda: store.commit(lease, change),
            "async": lambda: asyncio.run(store.acommit(lease, change)),
        }
        proxy.fail_at(1, "hole")
        for _ in range(2):  # the second time, a connection is made
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="did not answer in time") as late:
                calls[colour]()
            assert late.value.retryable
            assert 0.4 < time.monotonic() - began < LONGEST / 2
        proxy.release()
        Persistent(store.commit)(lease, change)
        assert store.load(RUN) == Contents(b"one", None)

    @pytest.mark.parametrize("colour", ["sync", "async"])
    def test_connections_that_ended_while_nobody_used_them_are_not_noticed(
        self, proxy, through, colour
    ):
        store = through()
        lease = acquired(store)
        with asyncio.Runner() as runner:

            def commit(document):
                if colour == "sync":
                    return store.commit(lease, Change(document=document))
                return runner.run(store.acommit(lease, Change(document=document)))

            commit(b"one")
            proxy.cut()
            commit(b"two")
            proxy.refuse()
            proxy.cut()
            with pytest.raises(StoreUnavailableError) as refused:
                commit(b"three")
        assert refused.value.retryable

    def test_an_interrupted_save_leaves_no_answer_for_the_next(self, proxy, through):
        """The handler of the signal runs at once, or when the request has ended."""
        store = through(timeout=1.0)
        lease = acquired(store)
        proxy.fail_at(1, "delay")

        def interrupt(number, frame):
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        began = time.monotonic()
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                save(store, lease, b"one", sequence=1)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert time.monotonic() - began < LONGEST / 2
        proxy.release()
        Persistent(store.commit)(lease, Change(document=b"one", sequence=1))
        Persistent(store.commit)(lease, Change(document=b"two", sequence=2))
        assert store.load(RUN) == Contents(b"two", b"one")

    def test_a_cancelled_save_leaves_no_answer_for_the_next(self, proxy, through):
        store = through()
        lease = acquired(store)

        async def cancelled():
            await store.acommit(lease, Change())
            proxy.fail_at(1, "delay")
            saving = store.acommit(lease, Change(document=b"one", sequence=1))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(saving, 0.2)
            proxy.release()
            await store.acommit(lease, Change(document=b"one", sequence=1))
            await store.acommit(lease, Change(document=b"two", sequence=2))

        asyncio.run(cancelled())
        assert store.load(RUN) == Contents(b"two", b"one")
