"""What a run takes for its own: names of iterations, seconds of work, its thread, its pickles."""

import threading
from fractions import Fraction

import pytest

from mainstay import checkpoint_run
from mainstay.errors import CheckpointError
from mainstay.stores.base import RunId
from mainstay.stores.owner import Owner, this_process
from mainstay.testing import FakeClock, recorded
from support.checkpoints import OopsError
from support.store_conformance import acquired


def test_the_name_of_an_iteration_is_not_that_of_another_one_with_its_number(runner, store):
    async def body(cp):
        return [[row async for row in cp.iterate("ab", name=name)] for name in ("x", "x", "x#2")]

    assert runner.job(body, store=store)() == [["a", "b"]] * 3


def test_time_spent_waiting_for_the_run_is_no_work_that_was_saved(runner, store):
    async def body(cp, fail):
        async for row in cp.iterate([1, 2]):
            if fail and row == 2:
                raise OopsError

    here = this_process()
    with FakeClock(), recorded() as metrics:
        elsewhere = Owner(here.boot, "another namespace", 1, 1)
        acquired(store, RunId("job", "key"), owner=elsewhere, lease=60.0)
        with pytest.raises(OopsError):
            runner.job(body, store=store, on_busy="wait")(True)
        runner.job(body, store=store)(False)
        assert metrics.value("wait_seconds_total", component="job") >= 60
        assert metrics.value("checkpoint_saved_seconds_total", component="job") < 1


def test_a_state_with_something_pickled_in_it_can_be_migrated(runner, store):
    """`plain` takes `allow_pickle`, and nobody gives it."""

    async def body(cp, share=None):
        state = cp.state({"share": share})
        await cp.save()
        if share:
            raise OopsError
        return str(state["share"])

    with pytest.raises(OopsError):
        runner.job(body, store=store, allow_pickle=True)(Fraction(1, 2))
    job = runner.job(
        body, store=store, allow_pickle=True, version="2", on_code_change=lambda old: old
    )
    assert job() == "1/2"


def test_an_iteration_belongs_to_the_thread_of_its_run(store):
    errors = []

    def take(items):
        try:
            list(items)
        except CheckpointError as error:
            errors.append(error)

    with checkpoint_run("key", store=store) as cp:
        thread = threading.Thread(target=take, args=(cp.iterate([1, 2]),))
        thread.start()
        thread.join()
    assert ["belongs to the thread that the run" in str(error) for error in errors] == [True]
