"""`cp.map` over the executors of loky and Dask, whose workers die under it."""

import contextlib
import random
import signal
import threading

import pytest

from mainstay import checkpoint_run
from mainstay.stores import MemoryStore
from programs import map_jobs
from support.map_runs import MapRun

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

SEEDS = random.Random(20260103)
ITEMS = 40


@pytest.fixture
def map_run(tmp_path, library):
    runs = []

    def begin(pool, **plan):
        library({"loky": "loky", "dask": "distributed"}[pool])
        runs.append(MapRun(tmp_path, pool=pool, items=ITEMS, **plan))
        return runs[-1]

    yield begin
    for run in runs:
        run.kill()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("pool", ["loky", "dask"])
def test_killed_as_a_whole_the_run_goes_on_and_each_item_is_in_the_state_once(
    map_run, pool, ordered
):
    run = map_run(pool, ordered=ordered, seconds=0.02).start()
    run.wait_until(lambda: len(run.begun()) >= SEEDS.randrange(12, 25))
    run.kill()
    saved, before = run.saved(), len(run.begun())
    assert run.start().ended()[0] == 0
    assert sorted(run.result()) == [*range(ITEMS)]
    assert not ordered or run.result() == [*range(ITEMS)]
    assert not {*saved} & {*run.begun()[before:]}


@pytest.mark.parametrize("ordered", [True, False])
def test_dask_runs_the_items_of_a_lost_worker_again_in_the_same_attempt(map_run, ordered):
    run = map_run("dask", ordered=ordered, seconds=0.05).start()
    run.wait_until(lambda: len(run.begun()) >= 15)
    run.wait_until(run.kill_a_worker)
    code, errors = run.ended()
    assert (code, errors.count("Traceback")) == (0, 0), errors
    assert sorted(run.result()) == [*range(ITEMS)]
    assert len(run.lines("resumed")) == 1
    assert len(run.begun()) > ITEMS


def test_a_pool_of_loky_that_lost_a_process_says_so_and_the_next_attempt_goes_on(map_run):
    run = map_run("loky", seconds=0.03).start()
    run.wait_until(lambda: len(run.begun()) >= 15)
    run.wait_until(run.kill_a_worker)
    code, errors = run.ended()
    assert code == 1
    assert "TerminatedWorkerError" in errors
    saved = run.saved()
    assert saved
    assert run.start().ended()[0] == 0
    assert run.result() == [*range(ITEMS)]


@pytest.mark.parametrize("pool", ["loky", "dask"])
def test_sigterm_acts_while_the_loop_waits(map_run, pool):
    run = map_run(pool, every=3600.0, at=3, long=100.0).start()
    run.wait_until(lambda: len(run.lines("end")) >= 3 and len(run.begun()) >= 4)
    run.wait_until(lambda: len(run.lines("end")) >= 8)  # the loop has had the three, and waits
    run.signal(signal.SIGTERM)
    assert run.ended()[0] == -signal.SIGTERM
    assert run.saved() == [0, 1, 2]


def double(n):
    return n * 2


@pytest.mark.filterwarnings("default")  # of theirs
@pytest.mark.parametrize(("pool", "module"), [("loky", "loky"), ("dask", "distributed")])
def test_what_cannot_be_sent_is_told_at_its_turn_and_nothing_is_lost(library, pool, module):
    library(module)
    lock = threading.Lock()
    with getattr(map_jobs, pool)() as executor:
        for fn, items, done in (
            (lambda _: lock, [1, 2], []),
            (double, [1, 2, 3, lock, 5], [2, 4, 6]),
        ):
            had = []
            with (
                checkpoint_run("key", store=MemoryStore()) as cp,
                contextlib.closing(cp.map(fn, items, repr, executor=executor)) as results,
                pytest.raises(Exception, match=r"(?i)could not (pickle|serialize)") as caught,
            ):
                had.extend(results)
            assert had == done
            assert f"raised for item {len(done)} of" in caught.value.__notes__[-1]
        assert executor.submit(double, 2).result() == 4
