"""`cp.map` in real processes: killed as a whole, a worker at a time, and asked to end."""

import itertools
import json
import multiprocessing
import random
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from mainstay import checkpoint_run
from mainstay._checkpoint.document import opened
from mainstay.errors import CheckpointError
from mainstay.stores import MemoryStore, SQLiteStore
from mainstay.stores.base import RunId
from programs import checkpoint_jobs
from support.job_server import JobServer
from support.map_runs import MapRun

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

SEEDS = random.Random(20260102)
AHEAD = 8
ROWS = [*range(checkpoint_jobs.ITEMS)]
LEAST_KILLS = {"1": 60, "3": 34}


@pytest.fixture
def map_run(tmp_path):
    runs = []

    def begin(**plan):
        runs.append(MapRun(tmp_path, ahead=AHEAD, **plan))
        return runs[-1]

    yield begin
    for run in runs:
        run.kill()


@pytest.mark.parametrize(
    ("pool", "ordered", "every", "kills"),
    [
        ("threads", True, 1, 4), ("threads", False, 1, 4), ("threads", True, 10, 2),
        ("threads", False, 0.05, 2), ("tasks", True, 1, 2), ("tasks", False, 10, 2),
        ("processes", True, 1, 3), ("processes", False, 1, 3),
    ],
)  # fmt: skip
def test_killed_at_any_time_each_item_is_in_the_state_once(map_run, pool, ordered, every, kills):
    items = 30 * (kills + 1)
    run = map_run(pool=pool, ordered=ordered, every=every, items=items, seconds=0.004)
    killed, begun_before = 0, []
    for _ in range(kills):
        reached = len(run.begun()) + SEEDS.randrange(10, 30)
        run.start()
        run.wait_until(lambda reached=reached: len(run.begun()) >= reached)
        run.kill()
        killed += 1
        saved = run.saved()
        assert len({*saved}) == len(saved)
        assert not ordered or saved == [*range(len(saved))]
        begun = {*run.begun()}
        unsaved = every if isinstance(every, int) else items
        assert len(begun - {*saved}) <= AHEAD + unsaved
        for resumed, state in begun_before:
            assert not {*state} & {*run.begun()[resumed:]}, "what was saved ran again"
        begun_before.append((len(run.begun()), saved))
    assert run.start().ended()[0] == 0
    for resumed, state in begun_before:
        assert not {*state} & {*run.begun()[resumed:]}, "what was saved ran again"
    result = run.result()
    assert sorted(result) == [*range(items)]
    assert not ordered or result == [*range(items)]
    assert killed == kills


@pytest.fixture(scope="module")
def server():
    server = JobServer()
    yield server
    server.close()


@pytest.mark.parametrize("job", ["map_job", "unordered_map_job", "async_map_job"])
@pytest.mark.parametrize("every", ["1", "3"])
def test_killed_around_every_store_call_the_run_goes_on_from_what_was_saved(
    server, tmp_path, job, every
):
    kills = 0
    for operation, when in itertools.product(("acquire", "commit"), ("before", "after")):
        for number in itertools.count(1):
            url = f"sqlite:///{tmp_path / f'{operation}-{when}-{number}.db'}"
            plan = {"job": job, "every": every}
            status, first = server.run(url, **plan, die=[when, operation, number])
            if status == 0:
                break
            assert status == signal.SIGKILL
            kills += 1
            saved = saved_by(url)
            status, second = server.run(url, **plan)
            assert (status, second[-1][0]) == (0, "result")
            done, charged, _ = json.loads(second[-1][1])
            assert sorted(done) == ROWS
            assert sorted(charged) == [row * 10 for row in ROWS if row % 3 == 1]
            assert job == "unordered_map_job" or done == ROWS
            again = [int(rest) for word, rest in second if word == "work"]
            assert sorted(again) == sorted({*ROWS} - {*saved})
            assert not [line for line in first + second if line[0] == "error"]
            charges = [rest for word, rest in first + second if word == "charge"]
            in_flight = 1 if when == "before" and operation == "commit" else 0
            assert len(charges) <= len(charged) + 1 + in_flight
    assert kills >= LEAST_KILLS[every]


def saved_by(url):
    """The items that are done by the newest save."""
    store = SQLiteStore(url.removeprefix("sqlite:///"))
    try:
        latest = store.load(RunId("job", "key")).latest
        state = opened(latest).state if latest else None
        return state["v"]["done"] if state else []
    finally:
        store.close()


@pytest.mark.parametrize("ordered", [True, False])
def test_a_pool_that_lost_a_process_says_so_and_the_next_attempt_goes_on(map_run, ordered):
    run = map_run(pool="processes", ordered=ordered, items=40, seconds=0.02)
    run.start()
    run.wait_until(lambda: len(run.begun()) >= 20)
    run.wait_until(run.kill_a_worker)
    code, errors = run.ended()
    assert code == 1
    assert "BrokenProcessPool" in errors
    saved = run.saved()
    assert saved
    assert run.start().ended()[0] == 0
    assert sorted(run.result()) == [*range(40)]
    assert run.lines("resumed")[1].split()[0] == str(len(saved))


@pytest.mark.parametrize("pool", ["threads", "tasks", "processes"])
def test_sigterm_acts_while_the_loop_waits(map_run, pool):
    run = map_run(pool=pool, items=20, every=3600.0, at=3, long=60.0)
    run.start()
    run.wait_until(lambda: len(run.lines("end")) >= 3 and len(run.begun()) >= 4)
    time.sleep(0.2)  # the loop has had the three, and waits
    run.signal(signal.SIGTERM)
    before = time.monotonic()
    code, _ = run.ended()
    assert code == -signal.SIGTERM
    assert time.monotonic() - before < 5
    assert run.saved() == [0, 1, 2]


# `cp` in a forked process.


in_hand = []


def use_cp(n):
    return in_hand[0].step("inside", double, n)


@pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning")
def test_cp_inside_fn_in_a_forked_process_is_refused():
    forking = multiprocessing.get_context("fork")
    with (
        ProcessPoolExecutor(1, mp_context=forking) as executor,
        checkpoint_run("key", store=MemoryStore()) as cp,
    ):
        in_hand[:] = [cp]
        with pytest.raises(CheckpointError, match=r"`cp.step` was used inside `fn` of `cp.map`"):
            next(cp.map(use_cp, [1], executor=executor))


# What cannot be sent.


def double(n):
    return n * 2


def lock_of(_n):
    return threading.Lock()


def pool():
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def test_a_function_that_cannot_be_sent_is_refused_before_anything_begins():
    with pool() as executor, checkpoint_run("key", store=MemoryStore()) as cp:
        with pytest.raises(TypeError, match=r"<lambda> cannot be pickled.*top level of a module"):
            cp.map(lambda n: n, [1], executor=executor)
        with pytest.raises(TypeError, match=r"cannot be pickled.*<Checkpoint of run 'key'"):
            cp.map(cp.step, [1], executor=executor)


@pytest.mark.parametrize(
    ("fn", "items"),
    [(double, [1, 2, 3, threading.Lock(), 5]), (lock_of, [])],
    ids=["item", "result"],
)
def test_what_cannot_be_sent_is_told_at_its_turn_and_nothing_is_lost(fn, items):
    store = MemoryStore()

    def job():
        with checkpoint_run("key", store=store) as cp:
            done = cp.state([])
            for result in cp.map(fn, items or [1], repr, executor=executor):
                done.append(result)

    with pool() as executor:
        with pytest.raises(TypeError, match=r"cannot pickle '_thread.lock' object") as caught:
            job()
        state = opened(latest).state if (latest := store.load(RunId("run", "key")).latest) else []
        assert state == [double(n) for n in items[:3]]
        note = f"raised for item {len(items[:3])} of"
        assert note in caught.value.__notes__[-1]
        assert executor.submit(double, 2).result() == 4


def test_the_executor_is_left_alone(tmp_path):
    with pool() as executor:
        with checkpoint_run("key", store=f"sqlite:///{tmp_path / 'a.db'}") as cp:
            for _ in cp.map(double, range(100), executor=executor):
                break
        assert executor.submit(double, 2).result() == 4


def test_a_broken_pool_refuses_items_by_its_own_error():
    with pool() as executor, checkpoint_run("key", store=MemoryStore()) as cp:
        with pytest.raises(BrokenProcessPool):
            executor.submit(signal.raise_signal, signal.SIGKILL).result()
        with pytest.raises(BrokenProcessPool):
            next(cp.map(double, range(3), executor=executor))
