"""What a function does while an exception is on its way out of its loop."""

import threading

import pytest

from mainstay._checkpoint.document import opened
from mainstay.stores import SQLiteStore
from support.checkpoint_values import Totals
from support.checkpoints import RUN, OopsError


async def fails_at_2(cp, rows=(1, 2, 3)):
    totals = cp.state(Totals())
    async for row in cp.iterate(rows):
        totals.rows += 1
        if row == 2 and not cp.resumed:
            raise OopsError(row)
        totals.amount += row
    return totals.amount


async def step_in_finally(cp):
    try:
        return await fails_at_2(cp)
    finally:
        await cp.step("close", int)


async def step_before_raising_again(cp):
    totals = cp.state(Totals())
    try:
        async for row in cp.iterate([1, 2, 3]):
            totals.rows += 1
            if row == 2 and not cp.resumed:
                raise OopsError(row)
            totals.amount += row
    except OopsError:
        await cp.step("alert", int)
        raise
    return totals.amount


async def save_in_finally(cp):
    try:
        return await fails_at_2(cp)
    finally:
        await cp.save()


async def iteration_in_finally(cp):
    try:
        return await fails_at_2(cp)
    finally:
        async for _ in cp.iterate("ab", name="clean up"):
            pass


async def step_while_another_exception_is_raised(cp):
    try:
        try:
            return await fails_at_2(cp)
        except OopsError:
            raise KeyError from None
    except KeyError:
        await cp.step("alert", int)
        raise OopsError from None


@pytest.mark.parametrize(
    "body",
    [
        step_in_finally, step_before_raising_again, save_in_finally, iteration_in_finally,
        step_while_another_exception_is_raised,
    ],
    ids=lambda body: body.__name__,
)  # fmt: skip
def test_an_item_that_failed_runs_again_whatever_is_done_on_the_way_out(runner, store, body):
    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job()
    assert opened(store.load(RUN).latest).items == 1
    assert job() == 6


def test_an_item_whose_exception_was_dealt_with_is_done(runner, store):
    async def body(cp):
        seen = []
        try:
            async for row in cp.iterate([1, 2, 3]):
                seen.append(row)
                if row == 2:
                    raise OopsError
        except OopsError:
            pass
        await cp.step("after", int)
        if not cp.resumed:
            raise KeyError
        return seen

    job = runner.job(body, store=store)
    with pytest.raises(KeyError):
        job()
    assert job() == []


def test_a_loop_that_was_left_by_break_is_left_whatever_fails_later(runner, store):
    async def body(cp, calls):
        async for row in cp.iterate([1, 2, 3]):
            if row == 2:
                break
        try:
            raise OopsError
        except OopsError:
            await cp.step("alert", calls.append, 1)
        if not cp.resumed:
            raise KeyError
        return [row async for row in cp.iterate([1, 2, 3], name="more")]

    calls = []
    job = runner.job(body, store=store)
    with pytest.raises(KeyError):
        job(calls)
    assert job(calls) == [1, 2, 3]
    assert calls == [1]


def test_a_loop_inside_a_handler_is_as_any_other(runner, store):
    async def body(cp):
        async for row in cp.iterate([1, 2, 3]):
            if row == 2:
                break
        await cp.step("after", int)
        raise OopsError

    job = runner.job(body, store=store)
    try:
        raise KeyError
    except KeyError:
        with pytest.raises(OopsError):
            job()
    assert opened(store.load(RUN).latest).items == 2


def test_what_changes_the_state_after_a_break_is_not_saved_before_its_item_is_done(runner, store):
    """An iteration that follows must not save what the item around it is to do again."""

    async def body(cp, fail):
        totals = cp.state(Totals())
        async for _ in cp.iterate(["item"]):
            async for _ in cp.iterate([1, 2]):
                async for _ in cp.iterate([1]):
                    pass
                break
            totals.rows += 1
            async for _ in cp.iterate([1, 2]):
                pass
            if fail:
                raise OopsError
        return totals.rows

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(True)
    assert job(False) == 1


# The exception that ends a run reaches the user, whatever its message does to the store.


class Speechless(Exception):
    def __str__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (Speechless(), "Speechless"),
        (ValueError("data-\udcff.csv"), "ValueError: data-\\udcff.csv"),
        (ValueError("x" * 5000), "ValueError: " + "x" * 1000),
    ],
    ids=["speechless", "no utf-8", "long"],
)
def test_an_exception_is_the_users_own_and_the_run_is_given_back(runner, tmp_path, error, kept):
    async def body(cp):
        raise error

    store = SQLiteStore(tmp_path / "runs.db")
    with pytest.raises(type(error)) as raised:
        runner.job(body, store=store)()
    assert raised.value is error
    [(record, state)] = store.list()
    assert (record.error, state) == (kept, "interrupted")


def test_a_store_that_fails_in_a_way_of_its_own_does_not_hide_it(runner, store, monkeypatch):
    def broken(*_args):
        raise RuntimeError("connection reset")

    async def body(cp):
        raise KeyError("mine")

    monkeypatch.setattr(store, "release", broken)
    with pytest.raises(KeyError, match="mine") as raised:
        runner.job(body, store=store)()
    [note] = raised.value.__notes__
    assert note.startswith("mainstay.checkpoint job: the run was not released, so that others may")
    assert note.endswith(": connection reset")


def test_a_state_that_cannot_be_saved_does_not_hide_it(runner, store):
    """Known fault 9: in DBOS a TypeError takes the place of the real error."""

    async def body(cp):
        state = cp.state({"rows": []})
        async for _ in cp.iterate(range(2)):
            state["rows"].append(threading.Lock())
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        runner.job(body, store=store)()
