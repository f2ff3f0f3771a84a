"""A step is atomic: nothing of its run is used inside it, while other runs may be."""

import asyncio
import contextlib
import contextvars

import pytest

from mainstay import checkpoint_run, checkpointed
from mainstay._checkpoint.code import Code
from mainstay._checkpoint.codec import to_bytes
from mainstay._checkpoint.document import Document, seal
from mainstay.errors import CheckpointError
from mainstay.stores.base import Change, Result
from support.checkpoints import RUN, OopsError, finished
from support.store_conformance import acquired


def stepping(runner, cp):
    """A way to call a step of an async function, sync and async."""

    async def step(name, fn):
        return await cp.step(name, fn if runner.name == "async" else lambda: finished(fn()))

    return step


async def use_step(cp):
    await cp.step("inner", int)


async def use_iterate(cp):
    async for _ in cp.iterate([1]):
        pass


async def use_save(cp):
    await cp.save()


async def use_state(cp):
    cp.state([])


USES = pytest.mark.parametrize(
    ("name", "use"),
    [
        ("cp.step", use_step),
        ("cp.iterate", use_iterate),
        ("cp.save", use_save),
        ("cp.state", use_state),
    ],
    ids=["step", "iterate", "save", "state"],
)


@USES
def test_what_belongs_to_the_run_is_refused_inside_a_step_by_its_name(runner, store, name, use):
    async def body(cp):
        async def load():
            await use(cp)

        await cp.step("load", int)
        await stepping(runner, cp)("load", load)

    with pytest.raises(CheckpointError) as refused:
        runner.job(body, store=store)()
    assert type(refused.value) is CheckpointError
    assert str(refused.value) == (
        f"job: `{name}` was used inside step 'load#2' of run 'key'; a step is saved as a whole or "
        f"runs again as a whole, so use it before or after the step"
    )


@USES
def test_it_is_refused_in_tasks_that_the_step_starts(store, name, use):
    @checkpointed(store=store)
    async def job(cp):
        async def load():
            await asyncio.create_task(use(cp))

        await cp.step("load", load)

    with pytest.raises(CheckpointError, match=f"`{name}` was used inside step 'load'"):
        asyncio.run(job())


def test_it_is_refused_in_threads_that_the_step_starts(store):
    @checkpointed(store=store)
    async def job(cp):
        await cp.step("load", lambda: asyncio.to_thread(cp.state, []))

    with pytest.raises(CheckpointError, match=r"`cp\.state` was used inside step 'load'"):
        asyncio.run(job())


def test_an_iteration_does_not_go_on_inside_a_step_and_its_item_runs_again(runner, store):
    seen = []

    async def body(cp):
        rows = aiter(cp.iterate([1, 2, 3]))
        async for row in rows:
            seen.append(row)
            if row == 2 and not cp.resumed:
                await stepping(runner, cp)("rest", lambda: anext(rows))

    job = runner.job(body, store=store)
    with pytest.raises(CheckpointError, match=r"`cp.iterate` was used inside step 'rest'"):
        job()
    job()
    assert seen == [1, 2, 2, 3]


def test_a_refusal_that_is_dealt_with_leaves_the_run_as_it_was(runner, store):
    async def body(cp):
        async def load():
            with contextlib.suppress(CheckpointError):
                await cp.step("inner", lambda: "never")
            return "loaded"

        first = await stepping(runner, cp)("load", load)
        second = await cp.step("inner", lambda: "beside")
        if not cp.resumed:
            raise OopsError
        return first, second

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job()
    assert job() == ("loaded", "beside")


def test_what_says_which_run_it_is_may_be_used_inside_a_step(runner, store):
    async def body(cp):
        async def charge():
            return [cp.key, cp.name, cp.attempt, cp.token, cp.lost, cp.idempotency_key()]

        return await stepping(runner, cp)("charge", charge)

    *told, key = runner.job(body, store=store)()
    assert told == ["key", "job", 1, 1, False]
    assert len(key) == 32


def test_steps_side_by_side_are_not_inside_each_other(store):
    @checkpointed(store=store)
    async def job(cp):
        inside, done = asyncio.Event(), asyncio.Event()

        async def wait():
            inside.set()
            await done.wait()
            return "waited"

        async def beside():
            await inside.wait()
            cp.state([])
            rows = [row async for row in cp.iterate([1, 2])]
            await cp.save()
            result = await cp.step("beside", lambda: rows)
            done.set()
            return result

        return await asyncio.gather(cp.step("wait", wait), beside())

    assert asyncio.run(job()) == ["waited", [1, 2]]


def test_a_task_that_outlives_the_step_it_began_in_is_not_inside_it_any_more(store):
    @checkpointed(store=store)
    async def job(cp):
        over = asyncio.Event()

        async def late():
            await over.wait()
            return await cp.step("late", lambda: "late")

        async def start():
            tasks.append(asyncio.create_task(late()))

        tasks = []
        await cp.step("start", start)
        over.set()
        return await tasks[0]

    assert asyncio.run(job()) == "late"


def test_another_run_may_be_used_inside_a_step(runner, store):
    async def other(cp):
        state = cp.state([])
        async for row in cp.iterate("ab"):
            state.append(await cp.step("upper", row.upper))
        return state

    async def body(cp):
        return await cp.step("other", runner.job(other, store=store, name="other"))

    if runner.name == "sync":
        assert runner.job(body, store=store)() == ["A", "B"]
        return

    @checkpointed(store=store)
    async def job(cp):
        return await cp.step("other", checkpointed(store=store, name="other")(other))

    assert asyncio.run(job()) == ["A", "B"]


def test_a_run_inside_a_step_of_another_knows_both_steps(store):
    with (
        checkpoint_run("outer", store=store) as outer,
        checkpoint_run("inner", store=store) as inner,
    ):
        for cp, key in ((outer, "outer"), (inner, "inner")):
            with pytest.raises(CheckpointError, match=rf"inside step '[a-z#2 ]+' of run '{key}'"):
                outer.step("of outer", lambda cp=cp: inner.step("of inner", cp.save))


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


# Runs that were saved when steps could have steps and iterations inside them.

CURSOR = {
    "count": 1,
    "last": [{"$": "tuple", "v": [0, "6544bbae32115af58d73427fbb68d961"]}],
    "digest": "563f8280635e91b10731cfb387a36b45",
    "closed": False,
    "at": "",
    "inner": {},
}
AT_B = "cd2f26060a855b9d4d858b6027751967"
"""What tells the second item of "ab"."""


def was_saved(store, cursors, *slots):
    """Leave a run in *store* as an earlier version did that was interrupted."""
    lease = acquired(store, RUN)
    document = Document(code=Code("1", ""), cursors=cursors).sealed()
    put = {number: Result(slot, seal(to_bytes("old"))) for number, slot in slots}
    store.commit(lease, Change(document=document, put=put))
    store.release(lease, "error")


@pytest.mark.parametrize(
    ("cursors", "slots", "step"),
    [
        ({}, ["d9402201 0 1 10 8 load#1()inner"], "load"),
        ({}, ["d9402201 0 1 10 8 load#1()inner", "61c10b0b 1 2 10 8 load#1()inner"], "load"),
        ({"load#1()/items": CURSOR}, [], "load"),
        ({"a/b#1()/in#1()/items": CURSOR}, [], "a/b"),
        ({"items": CURSOR | {"at": AT_B, "inner": {"load#2()/items": CURSOR}}}, [], "load#2"),
        (
            {},
            ["40395176 0 1 59 7 a/b#1()6 in#1()39 items[87acf6a9e2f71c1bec2a33dd695a8c62]deep"],
            "a/b",
        ),
    ],
    ids=["step", "steps", "iteration", "deep iteration", "in an item", "deep step"],
)
def test_a_run_that_was_interrupted_inside_a_step_with_parts_says_that_it_cannot_go_on(
    runner, store, cursors, slots, step
):
    async def body(cp):
        raise AssertionError("it began anew")

    was_saved(store, cursors, *enumerate(slots))
    saved = store.load(RUN)
    with pytest.raises(CheckpointError) as refused:
        runner.job(body, store=store)()
    assert str(refused.value) == (
        f"job: run 'key' cannot go on, since it was interrupted in step '{step}' with steps or "
        f"iterations inside it, by a version of mainstay that allowed that; end it with that "
        f"version, or forget it and begin it again"
    )
    assert store.load(RUN) == saved


def test_a_run_goes_on_after_a_step_with_parts_that_has_its_result(runner, store):
    """What is left of the parts by then is a cursor in the document."""

    async def body(cp):
        first = await cp.step("load", lambda: "again")
        return first, [
            (item, await cp.step("load", lambda: "again")) async for item in cp.iterate("ab")
        ]

    inside = {"load#1()/items": CURSOR}
    was_saved(
        store,
        {**inside, "items": CURSOR | {"at": AT_B, "inner": inside}},
        (4, "4eab113a 0 1 0 load"),
        (9, f"77ffca1d 0 1 42 39 items[{AT_B}]load"),
    )
    assert runner.job(body, store=store)() == ("old", [("b", "old")])
