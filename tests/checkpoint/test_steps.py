"""`cp.step`, and `cp.idempotency_key`."""

import asyncio
import os

import pytest

from mainstay import (
    checkpointed,
    register_type,
)
from mainstay.errors import (
    CheckpointError,
    CodeChangedError,
    UnknownTypeError,
    UnsaveableValueError,
)
from mainstay.stores import SQLiteStore
from mainstay.testing import Faults
from support.checkpoint_values import Totals
from support.checkpoints import RUN, CrashError, OopsError


def test_a_saved_result_is_never_computed_again(runner, store):
    calls = Faults([1, 2, 3])

    async def body(cp, fail):
        results = [await cp.step("a", calls), await cp.step("b", calls), await cp.step("a", calls)]
        if fail:
            raise OopsError
        return results

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(True)
    assert job(False) == [1, 2, 3]
    assert len(calls.calls) == 3


def test_a_step_that_failed_runs_again(runner, store):
    """Known fault 10: failures that are results on resume make a run unfinishable (lionagi)."""
    calls = Faults([OSError("down"), "up"])

    async def body(cp):
        return await cp.step("fetch", calls, 1, x=2)

    job = runner.job(body, store=store)
    with pytest.raises(OSError, match="down"):
        job()
    assert job() == "up"
    assert calls.calls == [((1,), {"x": 2})] * 2


@pytest.mark.usefixtures("nothing_registered")
def test_a_registered_exception_of_a_step_is_its_result(runner, store):
    """Known fault 10: exceptions that cannot be unpickled end DBOS runs for ever."""
    register_type(KeyError)
    calls = Faults([KeyError("declined")], then="charged twice")

    async def body(cp, fail):
        try:
            await cp.step("charge", calls)
        except KeyError as error:
            if fail:
                raise OopsError from error
            return error.args[0]

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(True)
    assert job(False) == "declined"
    assert len(calls.calls) == 1


@pytest.mark.usefixtures("nothing_registered")
def test_a_saved_exception_that_ends_the_run_does_not_end_it_for_ever(runner, store):
    register_type(KeyError)
    calls = Faults([KeyError("down"), "up"])

    async def body(cp):
        return await cp.step("charge", calls)

    job = runner.job(body, store=store)
    with pytest.raises(KeyError):
        job()
    assert job() == "up"


def test_a_step_inside_an_item_belongs_to_it_and_goes_with_it(runner, store, crashing):
    calls = Faults(range(100))

    async def body(cp, crash_at):
        log = cp.state([])
        async for item in cp.iterate("abc"):
            first = await cp.step("call", calls)
            if item == crash_at:
                raise CrashError
            log.append([first, await cp.step("call", calls)])
        return log

    job = runner.job(body, store=store)
    with pytest.raises(CrashError):
        job("b")
    assert len(store.load(RUN).results) == 1
    assert job("") == [[0, 1], [2, 3], [4, 5]]
    assert store.load(RUN).results == {}


@pytest.mark.parametrize("steps_of_the_later", [1, 2])
def test_items_with_equal_keys_have_steps_of_their_own_until_they_are_saved(
    runner, store, crashing, steps_of_the_later
):
    calls = Faults(range(100))
    rows = [("a", 2), ("b", 1), ("a", steps_of_the_later), ("c", 1)]

    async def body(cp, crash):
        log = cp.state([])
        async for _, steps in cp.iterate(rows, key=lambda row: row[0]):
            log.append([await cp.step("call", calls) for _ in range(steps)])
            if crash and len(log) == len(rows):
                raise CrashError
        return log

    job = runner.job(body, store=store, every=10)
    with pytest.raises(CrashError):
        job(True)
    total = sum(steps for _, steps in rows)
    assert len(store.load(RUN).results) == total
    numbers = iter(range(total))
    assert job(False) == [[next(numbers) for _ in range(steps)] for _, steps in rows]
    assert len(calls.calls) == total
    assert store.load(RUN).results == {}


def test_inner_items_with_equal_keys_belong_to_the_outer_item_that_they_are_in(
    runner, store, crashing
):
    calls = Faults(range(100))
    path = ["ax", "ay", "ax", "bx", "ax", "ay", "ax", "bx"]

    async def body(cp, crash):
        log = []
        async for outer in cp.iterate("abab", key=str):
            async for inner in cp.iterate("xyx" if outer == "a" else "x", key=str):
                number = await cp.step("call", calls)
                log.append((outer + inner, number))
                if crash and len(log) == len(path):
                    raise CrashError
        return log

    job = runner.job(body, store=store, every=100)
    with pytest.raises(CrashError):
        job(True)
    assert job(False) == [(each, number) for number, each in enumerate(path)]
    assert len(calls.calls) == len(path)
    assert store.load(RUN).results == {}


def test_a_resume_goes_on_after_the_numbers_of_the_results_that_are_kept(runner, store):
    async def body(cp, steps):
        for number in range(steps):
            await cp.step("call", lambda number=number: number)
        raise OopsError

    job = runner.job(body, store=store)
    for steps in (2, 3, 5):
        with pytest.raises(OopsError):
            job(steps)
        assert [*store.load(RUN).results] == [*range(steps)]


def test_a_run_that_has_had_as_many_results_as_it_can_says_so(runner, store, monkeypatch):
    monkeypatch.setattr("mainstay._checkpoint.steps.MOST_RESULTS", 2)

    async def body(cp):
        return [await cp.step("call", lambda: 1) for _ in range(3)]

    with pytest.raises(CheckpointError, match="run 'key' of job has saved 2 results of steps"):
        runner.job(body, store=store)()


def test_another_step_at_the_place_of_a_saved_one_is_refused_with_both_names(runner, store):
    """Known fault 7: steps that are found by position get the results of others."""

    async def body(cp, name):
        await cp.step(name, lambda: 1)
        raise OopsError

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job("publish")
    with pytest.raises(CodeChangedError, match="step 'publish' is now 'notify'"):
        job("notify")
    lenient = runner.job(body, store=store, on_code_change="ignore")
    with pytest.raises(OopsError):
        lenient("notify")


def test_a_result_is_built_from_the_return_annotation(runner, store):
    def totals() -> Totals:
        return Totals(1, 2)

    def untold():
        return Totals(1, 2)

    async def body(cp, fn, fail):
        value = await cp.step("totals", fn)
        if fail:
            raise OopsError
        return value.amount

    job = runner.job(body, store=store)
    with pytest.raises(UnsaveableValueError, match="the result of step 'totals'"):
        job(untold, False)
    with pytest.raises(OopsError):
        job(totals, True)
    with pytest.raises(UnknownTypeError, match="the result of step 'totals'"):
        job(untold, False)
    assert job(totals, False) == 2


def test_a_sync_step_refuses_an_async_function(store):
    async def fetch():
        pass

    @checkpointed(store=store)
    def job(cp):
        cp.step("fetch", fetch)

    with pytest.raises(TypeError, match="step 'fetch' is async"):
        job()


def test_steps_of_tasks_are_saved_one_at_a_time(store):
    async def fetch(number):
        await asyncio.sleep(0)
        return number

    @checkpointed(store=store)
    async def job(cp):
        return await asyncio.gather(*(cp.step(f"s{n}", fetch, n) for n in range(8)))

    assert asyncio.run(job()) == [*range(8)]


def test_an_idempotency_key_is_the_same_in_every_attempt_and_for_nothing_else(runner, store):
    keys = []

    async def body(cp, fail):
        keys.append(cp.idempotency_key())
        async for row in cp.iterate([1, 2], key=lambda row: row):
            keys.append(cp.idempotency_key(row))
            if fail and row == 2:
                raise OopsError

    with pytest.raises(OopsError):
        runner.job(body, store=store)(True)
    runner.job(body, store=store)(False)
    first, again = keys[:3], keys[3:]
    assert len(set(first)) == 3
    assert again == [first[0], first[2]]
    runner.job(body, store=store, on_complete="rerun")(False)
    assert not {*keys[5:]} & {*first}


def test_a_large_result_is_saved_once_and_once_only(runner, tmp_path):
    """Known fault 13: DBOS records outputs twice, LangGraph all state each time."""
    path, size = tmp_path / "runs.db", 1_000_000
    store = SQLiteStore(path)
    text = os.urandom(size // 2).hex()

    async def body(cp):
        await cp.step("fetch", lambda: text)
        async for _ in cp.iterate(range(20)):
            pass
        assert len(store.load(RUN).latest) < 1_000

    runner.job(body, store=store)()
    store.close()
    assert path.stat().st_size < 1.5 * size
