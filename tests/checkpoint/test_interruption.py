"""`interrupt_all`: save at the next boundary, release, and raise there."""

import asyncio
import threading

import pytest

from mainstay import RunInterruptedError, checkpointed, interrupt_all
from mainstay.stores import MemoryStore
from support.checkpoints import CrashError


@pytest.fixture
def store():
    return MemoryStore()


def test_the_item_in_progress_is_done_and_the_next_attempt_goes_on_after_it(runner, store):
    async def body(cp, stop):
        total = cp.state([0])
        async for row in cp.iterate(range(10), key=lambda row: row):
            total[0] += row
            if row == stop:
                interrupt_all()
                total.append(row)
        return total

    job = runner.job(body, store=store, every=1000)
    with pytest.raises(RunInterruptedError, match="another attempt goes on") as caught:
        job(4)
    [(record, state)] = store.list()
    assert (state, record.exit) == ("interrupted", "sigterm")
    assert caught.value.key == record.run.key
    assert job(None) == [45, 4]
    assert store.list()[0][0].attempt == 2


def test_a_step_does_not_begin(runner, store):
    made = []

    async def body(cp, interrupted):
        await cp.step("one", made.append, 1)
        if interrupted:
            interrupt_all()
        await cp.step("two", made.append, 2)
        return made

    job = runner.job(body, store=store)
    with pytest.raises(RunInterruptedError):
        job(True)
    assert made == [1]
    assert job(False) == [1, 2]


def test_a_step_inside_an_item_is_no_boundary(runner, store):
    made = []

    async def body(cp, interrupted):
        async for item in cp.iterate("ab"):
            if interrupted:
                interrupt_all()
            await cp.step("one", made.append, item)
            made.append(item.upper())

    job = runner.job(body, store=store)
    with pytest.raises(RunInterruptedError):
        job(True)
    assert made == ["a", "A"]
    job(False)
    assert made == ["a", "A", "b", "B"]


def test_steps_side_by_side_are_all_saved_before_the_run_ends(store):
    made = []

    @checkpointed(store=store, key=lambda _interrupted: "key")
    async def job(cp, interrupted):
        async def slow(name, waits):
            for _ in range(waits):
                await asyncio.sleep(0)
            if interrupted and name == "b":
                interrupt_all()
            made.append(name)
            return name

        steps = (cp.step(name, slow, name, waits) for name, waits in (("a", 40), ("b", 10)))
        return await asyncio.gather(*steps)

    with pytest.raises(RunInterruptedError):
        asyncio.run(job(True))
    assert asyncio.run(job(False)) == ["a", "b"]
    assert made == ["b", "a"]


def test_an_inner_iteration_ends_where_it_may_save(runner, store):
    seen = []

    async def body(cp, stop):
        async for outer in cp.iterate("ab"):
            async for inner in cp.iterate(range(3), name=f"inner-{outer}"):
                seen.append((outer, inner))
                if (outer, inner) == stop:
                    interrupt_all()

    job = runner.job(body, store=store)
    with pytest.raises(RunInterruptedError):
        job(("a", 1))
    job(None)
    assert seen == [(outer, inner) for outer in "ab" for inner in range(3)]


def test_it_is_released_before_the_body_hears_of_it(runner, store):
    states = []

    async def body(cp):
        try:
            async for _ in cp.iterate(range(3)):
                interrupt_all()
        finally:
            states.append(store.list()[0][1])

    with pytest.raises(RunInterruptedError):
        runner.job(body, store=store)()
    assert states == ["interrupted"]


def test_it_ends_the_run_once_and_says_so_to_who_goes_on_using_it(runner, store):
    async def body(cp):
        try:
            async for _ in cp.iterate(range(3)):
                interrupt_all()
        except RunInterruptedError:
            await cp.step("after all", int)

    with pytest.raises(RunInterruptedError):
        runner.job(body, store=store)()


def test_runs_of_all_threads_are_interrupted_and_later_ones_are_not(store):
    started, go_on, ended = threading.Barrier(4), threading.Event(), []

    @checkpointed(store=store, key="{name}")
    def job(cp, name):
        for _ in cp.iterate(range(2)):
            started.wait(60)
            go_on.wait(60)

    def run(name):
        try:
            job(name)
        except RunInterruptedError:
            ended.append(name)

    threads = [threading.Thread(target=run, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    started.wait(60)
    interrupt_all()
    go_on.set()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["a", "b", "c"]
    assert checkpointed(store=store).call(lambda cp: [*cp.iterate("xy")]) == ["x", "y"]


def test_it_is_no_error_in_the_metrics(runner, store, metrics):
    async def body(cp):
        async for _ in cp.iterate(range(3)):
            interrupt_all()

    with pytest.raises(RunInterruptedError):
        runner.job(body, store=store)()
    assert metrics("calls_total", policy="checkpoint", outcome="cancelled") == 1
    with pytest.raises(RunInterruptedError):
        runner.job(body, store=store)()
    assert metrics("checkpoint_resumes_total", reason="sigterm") == 1


def test_without_a_run_it_does_nothing():
    interrupt_all()


def test_an_item_that_fails_while_it_is_interrupted_raises_its_own_error(runner, store):
    async def body(cp):
        async for _ in cp.iterate(range(3)):
            interrupt_all()
            raise CrashError

    with pytest.raises(CrashError):
        runner.job(body, store=store)()
    assert store.list()[0][0].exit == "error"
