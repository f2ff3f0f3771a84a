"""Steps and iterations inside a step, which is not begun again on a resume."""

import asyncio
import contextlib
import contextvars

import pytest

from mainstay import checkpoint_run, checkpointed
from mainstay._checkpoint.document import opened
from mainstay.errors import CheckpointError
from mainstay.stores.base import RunId
from support.checkpoints import RUN, OopsError, finished


def paths(store, run=RUN):
    """Say where each step is that has a result, and what it is called."""
    slots = [result.slot for result in store.load(run).results.values()]
    return [slot.split(" ", 4)[4] for slot in slots]


def test_a_step_finds_no_result_of_a_step_inside_another_one(store):
    """On a resume the outer step is replayed, and the next use of the inner name is the first."""

    def body(cp):
        def both():
            return [cp.step("fetch", int, "1"), cp.step("fetch", int, "2")]

        return cp.step("both", both), cp.step("fetch", int, "3")

    for fail in (True, False):
        try:
            with checkpoint_run("key", store=store) as cp:
                got = body(cp)
                if fail:
                    raise OopsError
        except OopsError:
            pass
        assert got == ([1, 2], 3)


def test_an_iteration_finds_no_cursor_of_one_inside_a_step(runner, store):
    """On a resume the step is replayed, and the iteration after it has the name of the inner."""

    async def body(cp, seen):
        async def prepare():
            return [row async for row in cp.iterate([1, 2, 3])]

        if hasattr(cp, "_cp"):  # in sync code a step takes a plain function
            rows = await cp.step("prepare", lambda: [*cp._cp.iterate([1, 2, 3])])
        else:
            rows = await cp.step("prepare", prepare)
        async for row in cp.iterate([1, 2, 3]):
            if row == 2 and not cp.resumed:
                raise OopsError
            seen.append(row)
        return rows

    seen = []
    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(seen)
    assert job(seen) == [1, 2, 3]
    assert seen == [1, 2, 3]


def test_what_was_kept_inside_a_step_goes_when_the_step_has_a_result(runner, store):
    async def body(cp, fail):
        async def outer():
            for _ in "ab":
                await cp.step("inner", lambda: 1)
            rows = [row async for row in cp.iterate([1, 2, 3])]
            if fail:
                raise OopsError
            return rows

        await cp.step("outer", outer if runner.name == "async" else lambda: finished(outer()))
        assert paths(store) == ["outer"]
        await cp.save()
        assert opened(store.load(RUN).latest).cursors == {}

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job(True)
    assert paths(store) == ["9 outer#1()inner", "9 outer#1()inner"]
    assert [*opened(store.load(RUN).latest).cursors] == ["outer#1()/items"]
    job(False)


def test_what_a_step_that_failed_had_begun_is_over_with_its_item(runner, store):
    async def body(cp):
        async def outer():
            async for _ in cp.iterate([1, 2, 3]):
                await cp.step("inner", lambda: 1)
                break
            raise OopsError

        with contextlib.suppress(OopsError):
            await cp.step("outer", outer if runner.name == "async" else lambda: finished(outer()))
        await cp.save()
        return paths(store)

    assert runner.job(body, store=store)() == []


def test_an_iteration_is_over_with_the_step_that_it_began_in(store):
    with checkpoint_run("key", store=store) as cp:
        rows = cp.iterate([1, 2, 3])
        assert cp.step("first", lambda: next(rows)) == 1
        with pytest.raises(CheckpointError, match="goes on after the one around it"):
            next(rows)


def test_what_goes_on_beside_a_step_is_not_inside_it(store):
    """Each task has its own steps around it, and those that it was begun in."""

    @checkpointed(store=store, key=lambda: "key", name="job")
    async def job(cp):
        inside, outside = asyncio.Event(), asyncio.Event()

        async def outer():
            inside.set()
            await outside.wait()
            await asyncio.create_task(cp.step("same", lambda: "inside"))
            return paths(store)

        async def beside():
            await inside.wait()
            await cp.step("same", lambda: "beside")
            outside.set()

        found, _ = await asyncio.gather(cp.step("outer", outer), beside())
        return found

    assert asyncio.run(job()) == ["same", "9 outer#1()same"]


def test_a_run_inside_a_step_of_another_has_its_own_steps_around_it(store):
    with (
        checkpoint_run("outer", store=store, name="job") as outer,
        checkpoint_run("inner", store=store, name="job") as inner,
    ):

        def innermost():
            inner.step("c", int)
            return [paths(store, RunId("job", key)) for key in ("outer", "inner")]

        def within():
            outer.step("b", int)
            return inner.step("a", innermost)

        assert outer.step("whole", within) == [["9 whole#1()b"], ["5 a#1()c"]]


def test_a_step_that_is_closed_elsewhere_ends_in_peace(store):
    async def wait():
        await asyncio.Event().wait()

    async def main():
        async with checkpoint_run("key", store=store) as cp:
            step = cp.step("wait", wait)
            contextvars.copy_context().run(step.send, None)
            step.close()
            return await cp.step("next", lambda: 1)

    assert asyncio.run(main()) == 1
