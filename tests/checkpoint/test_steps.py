"""`cp.step`, and `cp.idempotency_key`."""

import asyncio
import contextlib
import gc
import os
import weakref

import pytest

from mainstay import checkpoint_run, checkpointed, interrupt_all, register_type
from mainstay._checkpoint.document import opened
from mainstay._checkpoint.steps import name_in
from mainstay.errors import (
    CheckpointError,
    CodeChangedError,
    RunInterruptedError,
    StoreUnavailableError,
    UnknownTypeError,
    UnsaveableValueError,
)
from mainstay.stores import MemoryStore, SQLiteStore
from mainstay.stores.base import RunId
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


# When a result is saved, and with what.


def twice(job):
    """Run a job to its end that fails once."""
    with pytest.raises(OopsError):
        job()
    return job()


class BadRowError(ValueError):
    """A result as any other, once it is registered."""


@pytest.fixture
def registered(nothing_registered):
    register_type(BadRowError)


def bad(row=None):
    raise BadRowError(row)


@pytest.mark.parametrize("every", [1, 2, 10])
@pytest.mark.parametrize("fails", [False, True])
def test_a_step_outside_of_items_is_saved_with_all_that_was_not(
    registered, runner, store, every, fails
):
    async def body(cp):
        totals = cp.state(Totals())
        async for _ in cp.iterate([1, 2, 3]):
            totals.rows += 1
            if totals.rows == 2:
                break
        with contextlib.suppress(BadRowError):
            await cp.step("load", bad if fails else int)
        if not cp.resumed:
            raise OopsError
        return totals.rows

    assert twice(runner.job(body, store=store, every=every)) == 2


def test_a_result_that_was_not_written_goes_with_the_next_save(runner, store, monkeypatch):
    calls, commit = Faults(["charged"]), type(store).commit

    def full(self, lease, change):
        if change.put:
            monkeypatch.undo()
            raise StoreUnavailableError("memory", "full")
        commit(self, lease, change)

    async def body(cp):
        if cp.resumed:
            return await cp.step("charge", calls)
        with pytest.raises(StoreUnavailableError):
            await cp.step("charge", calls)
        await cp.save()
        raise OopsError

    monkeypatch.setattr(type(store), "commit", full)
    assert twice(runner.job(body, store=store)) == "charged"


def test_the_result_of_a_step_that_is_cancelled_while_it_waits_goes_with_the_next_save(store):
    calls = Faults(["charged"])

    @checkpointed(store=store, key=lambda: "key")
    async def job(cp):
        if cp.resumed:
            return await cp.step("charge", calls)
        async with cp._lock:
            task = asyncio.create_task(cp.step("charge", calls))
            for _ in range(3):
                await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await cp.save()
        raise OopsError

    assert twice(lambda: asyncio.run(job())) == "charged"


def test_results_that_wait_for_their_turn_go_with_the_first_save(store, monkeypatch):
    saves, commit = [], store.commit

    def counted(lease, change):
        saves.append(len(change.put))
        commit(lease, change)

    @checkpointed(store=store, key=lambda: "key", name="job", every=10)
    async def job(cp):
        async for _ in cp.iterate([1, 2, 3]):
            break  # what is done is not saved, so it goes with the next step
        async with cp._lock:
            tasks = [asyncio.create_task(cp.step(name, int)) for name in "ab"]
            for _ in range(3):
                await asyncio.sleep(0)
        monkeypatch.setattr(store, "commit", counted)
        await asyncio.gather(*tasks)
        assert saves == [2]
        assert len(store.load(RUN).results) == 2

    asyncio.run(job())


def test_a_step_of_a_source_is_no_boundary_while_items_are_not_saved(store):
    """SIGTERM ends the process at a boundary, where everything up to there is saved."""
    with checkpoint_run("key", store=store, every=100) as cp:

        def pages():
            for page in range(3):
                boundaries.append(cp._run.at_boundary)
                yield from cp.step("page", lambda page=page: [page])

        boundaries = []
        assert [*cp.iterate(pages())] == [0, 1, 2]
        assert boundaries == [True, False, False]


def test_an_equal_key_that_comes_later_has_steps_of_its_own_though_the_first_has_no_result(
    runner, store
):
    charged = []

    def pay(amount):
        if amount:
            raise OopsError
        charged.append(amount)

    async def body(cp):
        items = [("x", 0), ("a", 2), ("b", 0), ("a", 0), ("c", 0)]
        async for item, amount in cp.iterate(items, key=lambda each: each[0]):
            if item != "x":
                with contextlib.suppress(OopsError):
                    await cp.step("pay", pay, amount)
            if item == "c" and not cp.resumed:
                raise KeyError

    job = runner.job(body, store=store, every=10)
    with pytest.raises(KeyError):
        job()
    job()
    assert charged == [0, 0, 0]


def test_an_exception_that_was_dealt_with_keeps_no_iteration_going(registered, runner, store):
    """Whatever it was raised in, and though it is the result of a step."""

    async def body(cp):
        async def load():
            rows = cp.iterate([1, 2, 3], name="rows")
            async for row in rows:
                if row == 2:
                    await cp.step("load", bad, row)

        with contextlib.suppress(BadRowError):
            await load()
        async for number in cp.iterate(range(6), name="after"):
            if number == 5:
                raise OopsError

    with pytest.raises(OopsError):
        runner.job(body, store=store, every=1)()
    assert opened(store.load(RUN).latest).items == 7


def test_an_exception_of_a_step_is_not_kept_alive(registered, store):
    with checkpoint_run("key", store=store) as cp:
        try:
            cp.step("fail", bad)
        except BadRowError as error:
            kept = weakref.ref(error)
        gc.collect()
        assert kept() is None


def test_an_exception_of_pythons_own_may_be_a_result_too(nothing_registered, runner, store):
    register_type(ZeroDivisionError)
    computed = []

    async def body(cp):
        await cp.step("divide", lambda: computed.append(1) or 1 / 0)

    job = runner.job(body, store=store)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            job()
    assert len(computed) == 2, "it had ended the run, so that its step runs again"


# Steps that overlap in tasks have no order that a resume could check.


@pytest.mark.parametrize("fast", [0, 1])
def test_tasks_may_come_to_their_steps_in_another_order_on_a_resume(store, fast):
    executed = []

    async def compute(name):
        executed.append(name)
        return name

    async def task(cp, number, waits):
        first = await cp.step(f"{number}-first", compute, f"{number}-first")
        for _ in range(waits):
            await asyncio.sleep(0)
        return [first, await cp.step(f"{number}-second", compute, f"{number}-second")]

    @checkpointed(store=store, key=lambda *_: "key")
    async def job(cp, waits, fail):
        results = await asyncio.gather(*(task(cp, n, each) for n, each in enumerate(waits)))
        if fail:
            raise OopsError
        return results

    waits = [50, 50]
    waits[fast] = 0
    for fail in (True, True):
        with pytest.raises(OopsError):
            asyncio.run(job(waits, fail))
        waits.reverse()
    assert asyncio.run(job(waits, False)) == [[f"{n}-first", f"{n}-second"] for n in range(2)]
    assert len(executed) == 4


def test_steps_that_follow_each_other_are_checked_still(store):
    @checkpointed(store=store, key=lambda _name: "key")
    async def job(cp, name):
        await cp.step("a", lambda: 1)
        await cp.step(name, lambda: 1)
        raise OopsError

    with pytest.raises(OopsError):
        asyncio.run(job("publish"))
    with pytest.raises(CodeChangedError, match="step 'publish' is now 'notify'"):
        asyncio.run(job("notify"))


class PressedStore(MemoryStore):
    """Ctrl-C is pressed before the first result is saved."""

    pressed = False

    def commit(self, lease, change):
        if change.put and not self.pressed:
            self.pressed = True
            raise KeyboardInterrupt
        super().commit(lease, change)


def test_a_result_that_ctrl_c_kept_from_its_save_is_saved_with_the_next_one():
    """Known fault: it was not before all was saved, and `interrupt_all` had to wait until then."""
    store = PressedStore()

    def job(cp):
        with pytest.raises(KeyboardInterrupt):
            cp.step("a", int, 1)
        cp.step("b", int, 2)
        interrupt_all()
        cp.step("c", int, 3)

    with pytest.raises(RunInterruptedError):
        checkpointed(store=store, key="key", name="job").call(job)
    results = store.load(RunId("job", "key")).results
    assert [name_in(each.slot) for each in results.values()] == ["a", "b"]
