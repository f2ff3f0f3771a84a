"""Runs of checkpointed functions and blocks: how they go on, what they keep, how they end."""

import asyncio
import copy
import inspect
import pickle
import threading
import typing
from datetime import timedelta
from typing import Any

import pytest

from mainstay import (
    Checkpoint,
    checkpoint_run,
    checkpointed,
    young_daly,
)
from mainstay._checkpoint.code import Code
from mainstay._checkpoint.document import Document, opened
from mainstay.errors import (
    CheckpointError,
    PoisonedRunError,
    RunCompleteError,
    StoreUnavailableError,
    UnsaveableValueError,
)
from mainstay.stores import MemoryStore, SQLiteStore
from mainstay.stores.base import Change, RunId
from mainstay.testing import FakeClock, Faults
from support.checkpoint_values import Totals
from support.checkpoints import RUN, CrashError, OopsError, add_up, set_wall_clock
from support.store_conformance import acquired

# Going on.


def test_a_run_goes_on_after_the_last_item_that_was_done(runner, store):
    job, seen = runner.job(add_up, store=store), []
    with pytest.raises(ValueError, match="3"):
        job(range(6), 3, seen)
    assert job(range(6), None, seen) == 15
    assert seen == [0, 1, 2, 3, 3, 4, 5]


def test_a_run_that_never_failed_is_done_once(runner, store):
    job, seen = runner.job(add_up, store=store), []
    assert [job([1, 2], None, seen), job([1, 2], None, seen)] == [3, 3]
    assert seen == [1, 2]


@pytest.mark.parametrize("every", [1, 2, 3, 10, timedelta(hours=1), young_daly(mtbf=1e9)])
def test_what_was_saved_is_neither_lost_nor_applied_twice(runner, store, crashing, every):
    async def body(cp, crash_at) -> Totals:
        totals = cp.state(Totals())
        async for row in cp.iterate(range(20), key=lambda row: row):
            if totals.rows != row:
                raise AssertionError(f"state is at {totals.rows}, the cursor at {row}")
            if row == crash_at:
                raise CrashError
            totals.rows += 1
            totals.amount += row
        return totals

    job = runner.job(body, store=store, every=every, max_crashes=None)
    for crash_at in (7, 7, 13, 19):
        with pytest.raises(CrashError):
            job(crash_at)
    assert job(None) == Totals(20, 190)


def test_the_name_of_a_run_is_the_functions_and_its_key_comes_from_the_arguments(store):
    @checkpointed(store=store, key="import-{tenant}-{options[day]}")
    def import_rows(cp, tenant, options=None):
        return cp.name, cp.key

    name, key = import_rows("acme", options={"day": 3})
    assert name == f"{import_rows.__module__}.{import_rows.__qualname__}"
    assert key == "import-acme-3"


def test_without_a_key_the_arguments_tell_runs_apart(store):
    @checkpointed(store=store)
    def job(cp, a, b=2):
        return cp.key

    assert job(1) == job(1, 2) == job(a=1, b=2)
    assert job(1) != job("1")
    with pytest.raises(UnsaveableValueError, match=r"job: arguments\['a'\] cannot"):
        job(iter([]))


def test_methods_get_cp_after_self(store):
    class Importer:
        @checkpointed(store=store, key="{tenant}")
        def rows(self, cp, tenant):
            return self, cp.key

        @checkpointed(store=store, key="class-{tenant}")
        @classmethod
        def of_class(cls, cp, tenant):
            return cp.key

        @checkpointed(store=store, key="static-{tenant}")
        @staticmethod
        def of_none(cp, tenant):
            return cp.key

    importer = Importer()
    with pytest.raises(UnsaveableValueError):  # it returns `self`
        importer.rows("acme")
    assert importer.of_class("a") == "class-a"
    assert importer.of_none("a") == "static-a"


async def unwrapped(cp: Checkpoint, tenant: str, rows: "list[int]" = [1], /, *, day=1) -> Totals:  # noqa: B006 - shown
    """Import."""
    return Totals()


def test_what_is_wrapped_shows_the_signature_that_callers_use(store):
    """Known fault A7: the return annotation was lost."""
    wrapped = checkpointed(store=store)(unwrapped)
    assert str(inspect.signature(wrapped)) == (
        "(tenant: str, rows: 'list[int]' = [1], /, *, day=1) -> support.checkpoint_values.Totals"
    )

    class Importer:
        @checkpointed(store=store)
        def rows(self, cp: Checkpoint, tenant: str) -> int:
            return 1

    assert str(inspect.signature(Importer.rows)) == "(self, tenant: str) -> int"
    assert str(inspect.signature(Importer().rows)) == "(tenant: str) -> int"

    @checkpointed(store=store)
    def anything(*args: Any) -> None:
        pass

    assert str(inspect.signature(anything)) == "(*args: Any) -> None"
    assert typing.get_type_hints(wrapped).keys() == {"tenant", "rows", "return"}


def test_call_runs_a_function_without_decorating_it(store):
    policy = checkpointed(store=store, key="{x}", name="called")
    assert policy.call(lambda cp, x: (cp.name, x), "a") == ("called", "a")


def test_a_block_ends_with_its_run(runner, store):
    async def body(cp):
        if cp.complete:
            return [item async for item in cp.iterate([1])], cp.token
        return [item async for item in cp.iterate([1])], cp.token

    assert runner.block(body, store=store) == ([1], 1)
    assert runner.block(body, store=store) == ([], None)


def test_a_block_that_is_left_by_an_exception_is_interrupted(runner, store):
    async def body(cp, fail):
        items = []
        async for item in cp.iterate("abc"):
            items.append(item)
            if fail and item == "b":
                raise OopsError(item)
        return items, cp.resumed, cp.attempt

    with pytest.raises(ValueError, match="b"):
        runner.block(lambda cp: body(cp, True), store=store)
    assert runner.block(lambda cp: body(cp, False), store=store) == (["b", "c"], True, 2)


def nightly(cp_of):
    with checkpoint_run("key", store=cp_of) as cp:
        for day in cp.iterate(["mon", "tue"]):
            if day == "tue" and not cp.resumed:
                raise OopsError
    return cp


async def nightly_async(cp_of):
    async with checkpoint_run("key", store=cp_of) as cp:
        async for day in cp.iterate(["mon", "tue"]):
            if day == "tue" and not cp.resumed:
                raise OopsError
    return cp


BLOCKS = {"sync": nightly, "async": lambda store: asyncio.run(nightly_async(store))}


@pytest.mark.parametrize("form", BLOCKS)
def test_a_block_without_a_name_is_labelled_by_the_code_around_it(store, metrics, caplog, form):
    caplog.set_level("INFO", logger="mainstay")
    around = f"{__name__}.nightly" if form == "sync" else f"{__name__}.nightly_async"
    with pytest.raises(OopsError):
        BLOCKS[form](store)
    cp = BLOCKS[form](store)
    assert metrics("calls_total", component=around, outcome="error") == 1
    assert metrics("calls_total", component=around, outcome="recovered") == 1
    assert metrics("calls_total", component="run") == 0
    assert f"{around}: attempt 2 goes on after error; 1 item done" in caplog.text
    with pytest.raises(RunCompleteError, match=f"^{around}: run 'key' has ended"):
        cp.state([])


def test_two_blocks_without_a_name_are_two_components(store, metrics):
    def weekly():
        with checkpoint_run("weekly", store=store):
            pass

    weekly()
    with checkpoint_run("monthly", store=store):
        pass
    here = f"{__name__}.test_two_blocks_without_a_name_are_two_components"
    assert metrics("calls_total", component=here) == 1
    assert metrics("calls_total", component=f"{here}.<locals>.weekly") == 1


def test_a_block_without_a_name_stores_its_run_as_run(runner, store):
    """As it has always been, so that no run of an earlier version is lost."""
    lease = acquired(store, RunId("run", "key"))
    cursor = {
        "count": 1, "last": ["a"], "digest": "2eaebf447f33bb0c43374d0b637fdf5e", "closed": False,
        "at": "", "inner": {},
    }  # fmt: skip
    document = Document(code=Code("1", ""), cursors={"items": cursor}, items=1)
    store.commit(lease, Change(document=document.sealed()))
    store.release(lease, "error")

    async def body(cp):
        assert cp.resumed
        rows = [row async for row in cp.iterate("abc", key=str)]
        return cp.name, rows

    assert runner.block(body, store=store) == ("run", ["b", "c"])
    assert [(record.run, state) for record, state in store.list()] == [
        (RunId("run", "key"), "done")
    ]


def test_a_block_cannot_be_entered_twice_at_once(store):
    block = checkpoint_run("key", store=store)
    with block, pytest.raises(RuntimeError, match="entered already"):
        block.__enter__()


def test_a_sync_block_in_async_code_says_how_it_is_done(store):
    async def main():
        with checkpoint_run("key", store=store):
            pass

    with pytest.raises(TypeError, match="`async with`"):
        asyncio.run(main())


# State.


def test_state_is_one_object(runner, store):
    async def body(cp):
        state = cp.state({"a": 1})
        assert cp.state({"b": 2}) is state

    runner.job(body, store=store)()


@pytest.mark.parametrize("default", [0, "", None, (), 1.5, frozenset()])
def test_state_that_cannot_change_in_place_is_refused(runner, store, default):
    async def body(cp):
        cp.state(default)

    with pytest.raises(TypeError, match="`default` must be something that is changed in place"):
        runner.job(body, store=store)()


def test_state_that_cannot_be_saved_is_refused_with_its_path(runner, store):
    """Known fault 9: nothing says which part of the state it is."""

    async def body(cp):
        state = cp.state({"rows": []})
        async for item in cp.iterate([1, 2]):
            state["rows"].append(threading.Lock() if item == 2 else item)

    with pytest.raises(UnsaveableValueError, match=r"state\['rows'\]\[1\] cannot be saved"):
        runner.job(body, store=store)()


def test_without_pickle_a_state_of_its_own_kind_is_refused_and_with_it_saved(runner, store):
    async def body(cp):
        state = cp.state({"x": 1j})
        state["range"] = range(3)
        await cp.save()
        return state["range"]

    with pytest.raises(UnsaveableValueError):
        runner.job(body, store=store)()
    assert runner.job(body, store=store, allow_pickle=True)() == range(3)


# Ends.


def test_on_complete_says_what_a_finished_run_does(runner, store):
    async def body(cp):
        return await cp.step("count", calls)

    calls = Faults([1, 2])
    assert runner.job(body, store=store)() == 1
    assert runner.job(body, store=store, on_complete="return")() == 1
    with pytest.raises(RunCompleteError):
        runner.job(body, store=store, on_complete="raise")()
    assert runner.job(body, store=store, on_complete="rerun")() == 2
    assert runner.job(body, store=store)() == 2


def test_an_item_that_kills_the_process_poisons_the_run(runner, store, crashing, metrics):
    """Known fault 11: a deadly item is tried for ever."""

    async def body(cp):
        async for item in cp.iterate([1, 2]):
            if item == 2:
                raise CrashError

    job = runner.job(body, store=store, max_crashes=3)
    for _ in range(3):
        with pytest.raises(CrashError):
            job()
    for _ in range(2):
        with pytest.raises(PoisonedRunError) as poisoned:
            job()
    assert poisoned.value.crashes == 3
    assert metrics("calls_total", outcome="rejected") == 2
    assert store.forget(RUN)


def test_an_error_is_recorded_with_the_attempt(runner, store):
    with pytest.raises(OopsError):
        runner.job(add_up, store=store)([1], 1)
    [(record, state)] = store.list()
    assert (state, record.attempt, record.exit) == ("interrupted", 1, "error")
    assert record.error == "OopsError: 1"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_interruption_releases_the_run(store, metrics, error):
    failures = [error()]

    @checkpointed(store=store, key=lambda: "key", name="job")
    def job(cp, fail=failures):
        if fail:
            raise fail.pop()
        return cp.attempt

    with pytest.raises(error):
        job()
    assert metrics("calls_total", outcome="cancelled") == 1
    assert job() == 2


def test_a_cancellation_releases_the_run(store):
    started = asyncio.Event()

    @checkpointed(store=store, key=lambda: "key", name="job")
    async def job(cp):
        async for _ in cp.iterate([1, 2, 3]):
            if cp.attempt == 1:
                started.set()
                await asyncio.Event().wait()
        return cp.attempt

    async def main():
        task = asyncio.create_task(job())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await job()

    assert asyncio.run(main()) == 2


def test_finished_runs_are_kept_by_count_and_age(runner, store, monkeypatch):
    async def body(cp, number):
        pass

    job = runner.job(body, store=store, key=str, keep=2)
    for number in range(4):
        job(number)
    assert [record.run.key for record, _ in store.list()] == ["2", "3"]
    set_wall_clock(monkeypatch, 4e9)
    runner.job(body, store=store, key=str, keep=(5, timedelta(days=1)))(9)
    assert [record.run.key for record, _ in store.list()] == ["9"]


@pytest.mark.parametrize("kind", [MemoryStore, SQLiteStore])
def test_runs_grow_old_by_the_clock_of_their_context(runner, tmp_path, kind):
    """Known fault: `keep=` went by the system's clock, whatever clock a test had set."""

    async def body(cp, number):
        pass

    runs = MemoryStore() if kind is MemoryStore else SQLiteStore(tmp_path / "runs.db")
    job = runner.job(body, store=runs, key=str, keep=timedelta(days=1))
    with FakeClock() as clock:
        job(1)
        clock.advance(timedelta(hours=23))
        job(2)
        assert [record.run.key for record, _ in runs.list()] == ["1", "2"]
        clock.advance(timedelta(hours=2))
        job(3)
        assert [record.run.key for record, _ in runs.list()] == ["2", "3"]


def test_the_run_that_has_just_ended_is_kept_where_the_clock_was_stepped_back(
    runner, store, monkeypatch
):
    async def body(cp, number):
        return number

    job = runner.job(body, store=store, key=str, keep=1)
    for number, wall in ((9, 2e9), (1, 1e9), (0, 1e9)):
        set_wall_clock(monkeypatch, wall)
        job(number)
        # The first one stays: the clock says that another machine has ended it later.
        assert {record.run.key for record, _ in store.list()} == {str(number), "9"}


def test_an_old_run_that_cannot_be_forgotten_is_logged(store, monkeypatch, caplog):
    def broken(*_, **__):
        raise StoreUnavailableError("memory://", "down")

    monkeypatch.setattr(store, "list", broken)
    checkpointed(store=store, keep=1).call(lambda _cp: None)
    assert "old runs of" in caplog.text


# Use outside of the run.


def test_cp_of_a_run_that_has_ended_is_of_no_use(store):
    kept = []
    checkpointed(store=store).call(kept.append)
    [cp] = kept
    for use in (cp.save, lambda: cp.step("a", int), lambda: cp.state({}), cp.idempotency_key):
        with pytest.raises(RunCompleteError, match="has ended"):
            use()
    with pytest.raises(RunCompleteError):
        cp.iterate([1])
    assert store.list()[0][1] == "done"


def test_cp_of_a_finished_block_answers_what_was_saved_and_nothing_else(runner, store):
    async def first(cp):
        cp.state({"a": 1})
        await cp.step("known", lambda: 42)

    async def second(cp):
        assert cp.state({"a": 0}) == {"a": 1}
        assert await cp.step("known", int) == 42
        with pytest.raises(RunCompleteError):
            await cp.step("unknown", int)
        with pytest.raises(RunCompleteError):
            await cp.save()

    runner.block(first, store=store)
    runner.block(second, store=store)


def test_cp_belongs_to_the_thread_of_its_run(store):
    problems = []

    def elsewhere(cp):
        try:
            cp.step("a", int)
        except CheckpointError as error:
            problems.append(str(error))

    def job(cp):
        thread = threading.Thread(target=elsewhere, args=(cp,))
        thread.start()
        thread.join()

    checkpointed(store=store).call(job)
    assert "belongs to the thread that the run is in" in problems[0]


# Known faults of other libraries, by their numbers in the survey.


def test_what_changes_while_a_save_is_under_way_is_not_in_it(store, monkeypatch):
    """Known fault 14: PyTorch and LangGraph save the live object some time later."""
    commit, changed = store.commit, threading.Event()

    def late(lease, change):
        changed.wait(10)
        commit(lease, change)

    async def job(cp):
        state = cp.state({"x": 1})
        saving = asyncio.create_task(cp.save())
        await asyncio.sleep(0)  # it is in another thread by now
        state["x"] = 2
        changed.set()
        await saving
        assert opened(store.load(RUN).latest).state == {"x": 1}

    monkeypatch.setattr(store, "commit", late)
    asyncio.run(checkpointed(store=store, name="job", key=lambda: "key").call(job))


def test_a_key_that_is_used_again_does_not_find_old_results(runner, store):
    """Known fault 16: after an interrupted clean-up DBOS answers with the old ones."""

    async def body(cp, number):
        return await cp.step("count", lambda: number)

    job = runner.job(body, store=store)
    for number in (1, 2):
        assert job(number) == number
        assert store.forget(RUN)


def test_a_checkpoint_is_not_taken_to_another_process():
    with checkpoint_run("nightly", store="memory://taken") as cp:
        with pytest.raises(TypeError, match=r"cannot be copied or pickled: .*; pass on values"):
            pickle.dumps(cp)
        with pytest.raises(TypeError, match="<Checkpoint of run 'nightly'"):
            copy.copy(cp)
