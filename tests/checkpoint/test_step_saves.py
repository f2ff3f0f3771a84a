"""What is saved with the result of a step that has iterations inside it, and when."""

import asyncio
import contextlib
import gc
import weakref

import pytest

from mainstay import checkpoint_run, checkpointed, register_type
from mainstay._checkpoint.document import opened
from mainstay._checkpoint.steps import name_in
from mainstay.errors import StoreUnavailableError, UnsaveableValueError
from support.checkpoint_values import Totals
from support.checkpoints import RUN, OopsError, finished


class BadRowError(ValueError):
    """A result as any other, once it is registered."""


@pytest.fixture
def registered(nothing_registered):
    register_type(BadRowError)


def stepping(runner, cp):
    """Give a way to call a step of an async function that is plain in sync code."""

    async def step(name, fn, *args):
        if runner.name == "async":
            return await cp.step(name, fn, *args)
        return await cp.step(name, lambda: finished(fn(*args)))

    return step


def twice(job):
    """Run a job to its end that fails once."""
    with pytest.raises(OopsError):
        job()
    return job()


@pytest.mark.parametrize("every", [1, 2, 10])
def test_an_exception_that_ends_the_run_leaves_all_that_was_saved_inside_its_step(
    registered, runner, store, every
):
    charged = []

    async def body(cp):
        state = cp.state([])

        async def load():
            async for row in cp.iterate([1, 2, 3, 4]):
                await cp.step("charge", lambda row=row: charged.append(row))
                if row == 4 and not cp.resumed:
                    raise BadRowError(row)
                state.append(row)

        await stepping(runner, cp)("load", load)
        return state

    job = runner.job(body, store=store, every=every)
    with pytest.raises(BadRowError):
        job()
    assert job() == [1, 2, 3, 4]
    assert [*dict.fromkeys(charged)] == [1, 2, 3, 4]


@pytest.mark.parametrize("every", [1, 10])
def test_an_exception_is_not_saved_with_half_an_item(registered, runner, store, every):
    async def body(cp):
        state = cp.state({"on": False})

        async def switch():
            async for row in cp.iterate([1, 2]):
                state["on"] = not state["on"]
                if row == 2 and not cp.resumed:
                    raise BadRowError(row)

        await stepping(runner, cp)("switch", switch)
        return state["on"]

    job = runner.job(body, store=store, every=every)
    with pytest.raises(BadRowError):
        job()
    assert job() is False


@pytest.mark.parametrize("caught", [False, True])
def test_an_exception_leaves_what_is_inside_its_step(registered, runner, store, caught):
    """Also where it was a result for an attempt, and ends the run in the next one."""
    charged = []

    async def body(cp, attempt):
        async def pay():
            await cp.step("charge", lambda: charged.append("charge"))
            if attempt < 3:
                raise BadRowError

        step = stepping(runner, cp)
        if caught and attempt == 1:
            with contextlib.suppress(BadRowError):
                await step("pay", pay)
            await cp.save()
            raise OopsError
        try:
            await step("pay", pay)
        finally:
            await cp.save()

    job = runner.job(body, store=store)
    for attempt in (1, 2):
        with pytest.raises((BadRowError, OopsError)):
            job(attempt)
    job(3)
    assert charged == ["charge"]


def test_an_exception_goes_with_the_step_around_it(registered, runner, store):
    async def body(cp):
        step, totals = stepping(runner, cp), cp.state(Totals())

        async def inner():
            async for _ in cp.iterate([1, 2]):
                totals.rows += 1
                break
            raise BadRowError

        async def outer():
            with contextlib.suppress(BadRowError):
                await step("inner", inner)

        await step("outer", outer)

    runner.job(body, store=store)()
    assert [name_in(result.slot) for result in store.load(RUN).results.values()] == ["outer"]


@pytest.mark.parametrize("every", [1, 2, 10])
def test_an_exception_that_is_a_result_is_saved_with_the_state(registered, runner, store, every):
    async def body(cp):
        totals = cp.state(Totals())

        async def load():
            async for row in cp.iterate([1, 2, 3]):
                totals.rows += 1
                if row == 3:
                    raise BadRowError(row)

        with contextlib.suppress(BadRowError):
            await stepping(runner, cp)("load", load)
        await cp.step("next", int)
        if not cp.resumed:
            raise OopsError
        return totals.rows

    assert twice(runner.job(body, store=store, every=every)) == 3


def test_a_result_that_cannot_be_saved_takes_nothing_along(runner, store):
    done = []

    async def body(cp):
        async def load():
            async for row in cp.iterate([1, 2, 3]):
                await cp.step("inner", lambda row=row: done.append(row))
            await cp.step("after", lambda: done.append("after"))
            return object() if not cp.resumed else "loaded"

        step = stepping(runner, cp)
        if cp.resumed:
            return await step("load", load)
        with pytest.raises(UnsaveableValueError):
            await step("load", load)
        await cp.save()
        raise OopsError

    assert twice(runner.job(body, store=store)) == "loaded"
    assert done == [1, 2, 3, "after"]


def test_a_result_that_was_not_written_takes_nothing_along(runner, store, monkeypatch):
    done, commit = [], type(store).commit

    def full(self, lease, change):
        if change.put and "after" in done:
            monkeypatch.undo()
            raise StoreUnavailableError("memory", "full")
        commit(self, lease, change)

    async def body(cp):
        async def load():
            async for row in cp.iterate([1, 2, 3]):
                await cp.step("inner", lambda row=row: done.append(row))
            done.append("after")

        step = stepping(runner, cp)
        if cp.resumed:
            return await step("load", load)
        with pytest.raises(StoreUnavailableError):
            await step("load", load)
        await cp.save()
        raise OopsError

    monkeypatch.setattr(type(store), "commit", full)
    twice(runner.job(body, store=store))
    assert done == [1, 2, 3, "after"]


def test_a_step_that_is_cancelled_while_it_waits_to_be_saved_takes_nothing_along(store):
    done = []

    @checkpointed(store=store, key=lambda: "key")
    async def job(cp):
        computed = asyncio.Event()

        async def load():
            done.extend([row async for row in cp.iterate([1, 2, 3])])
            await cp.step("charge", lambda: done.append("charge"))
            await cp._lock.acquire()
            computed.set()

        task = asyncio.create_task(cp.step("load", load))
        if not cp.resumed:
            await computed.wait()
            await asyncio.sleep(0)
            task.cancel()
            cp._lock.release()
            with pytest.raises(asyncio.CancelledError):
                await task
            await cp.save()
            raise OopsError
        await task

    with pytest.raises(OopsError):
        asyncio.run(job())
    asyncio.run(job())
    assert done == [1, 2, 3, "charge"]


@pytest.mark.parametrize("in_step", [False, True])
@pytest.mark.parametrize("crash_at", [1, 2, 3])
def test_what_an_item_changed_before_its_first_iteration_waits_for_its_end(
    runner, store, in_step, crash_at
):
    """The state before an item is not taken down until there are iterations inside items."""
    sent = []

    async def body(cp):
        batch = cp.state([])

        async def send(todo):
            async for row in cp.iterate(todo):
                sent.append(row)
                if len(sent) == crash_at and not cp.resumed:
                    raise OopsError

        async for row in cp.iterate([1, 2, 3, 4, 5, 6]):
            batch.append(row)
            if len(batch) == 3:
                todo = [*batch]
                batch.clear()
                await (stepping(runner, cp)("send", send, todo) if in_step else send(todo))
        return batch

    assert twice(runner.job(body, store=store)) == []
    assert {*sent} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("in_step", [False, True])
def test_what_an_item_changed_waits_for_its_end_though_an_iteration_takes_it_back(
    runner, store, in_step
):
    async def body(cp):
        pending = cp.state([])

        async def flush(order):
            async for entry in cp.iterate([order]):
                pending.remove(entry)

        async for order in cp.iterate(["a", "b"]):
            pending.append(order)
            await (stepping(runner, cp)("flush", flush, order) if in_step else flush(order))
            async for _ in cp.iterate([1, 2], name="lines"):
                pass
            if not cp.resumed:
                raise OopsError
        return pending

    assert twice(runner.job(body, store=store, every=1)) == []


def test_the_first_iteration_inside_an_item_saves_where_the_item_before_was_saved(runner, store):
    seen = []

    async def body(cp):
        totals = cp.state(Totals())
        async for item in cp.iterate([1, 2, 3]):
            if item == 3:
                async for row in cp.iterate("abc"):
                    seen.append(row)
                    if row == "b" and not cp.resumed:
                        raise OopsError
            totals.rows += 1

    twice(runner.job(body, store=store, every=1))
    assert seen == ["a", "b", "b", "c"]


@pytest.mark.parametrize("every", [1, 2, 3, 10])
def test_a_state_that_is_back_where_it_was_is_saved_with_its_step(runner, store, every):
    sent = []

    async def body(cp):
        buffer = cp.state([])

        async def collect(day):
            async for number in cp.iterate([1, 2, 3]):
                buffer.append(f"{day}{number}")
            sent.append([*buffer])
            async for _ in cp.iterate(["clear"]):
                buffer.clear()

        async for day in cp.iterate(["mon", "tue"]):
            await stepping(runner, cp)("collect", collect, day)
            if day == "mon" and not cp.resumed:
                raise OopsError

    twice(runner.job(body, store=store, every=every))
    assert [*map(list, dict.fromkeys(map(tuple, sent)))] == [
        ["mon1", "mon2", "mon3"],
        ["tue1", "tue2", "tue3"],
    ]


def test_a_step_that_has_to_wait_keeps_what_is_inside_it(runner, store):
    done = []

    async def body(cp):
        state = cp.state({"day": None})

        async def work():
            async for _ in cp.iterate([1]):
                state["day"] = None
            await cp.step("inner", lambda: done.append("inner"))

        async for day in cp.iterate(["mon"]):
            state["day"] = day
            await stepping(runner, cp)("work", work)
            async for _ in cp.iterate([1, 2], name="later"):
                pass
            if not cp.resumed:
                raise OopsError

    twice(runner.job(body, store=store, every=1))
    assert done == ["inner"]


@pytest.mark.parametrize(("crash_at", "times"), [(1, 2), (3, 1)])
def test_a_step_beside_an_iteration_is_saved_when_an_item_of_that_is_done(store, crash_at, times):
    executed = []

    @checkpointed(store=store, key=lambda: "key", every=1)
    async def job(cp):
        totals, read = cp.state(Totals()), asyncio.Event()

        async def index():
            async for _ in cp.iterate([1, 2, 3], name="index"):
                totals.rows += 1
                if totals.rows == 2:
                    break
            read.set()
            await asyncio.sleep(0)
            executed.append("index")

        task = asyncio.create_task(cp.step("index", index))
        await (task if cp.resumed else read.wait())
        async for row in cp.iterate([1, 2, 3], name="main"):
            totals.amount += row
            await task
            if row == crash_at and not cp.resumed:
                raise OopsError
        return totals.rows, totals.amount

    with pytest.raises(OopsError):
        asyncio.run(job())
    assert asyncio.run(job())[1] == 6
    assert executed == ["index"] * times


def test_results_that_wait_for_their_turn_go_with_the_first_save(store):
    @checkpointed(store=store, key=lambda: "key", name="job")
    async def job(cp):
        async def read():
            return [row async for row in cp.iterate([1, 2, 3])]

        async with cp._lock:
            tasks = [
                asyncio.create_task(cp.step("read", read)),
                asyncio.create_task(cp.step("other", lambda: 7)),
            ]
            for _ in range(3):
                await asyncio.sleep(0)
        results = await asyncio.gather(*tasks)
        assert len(store.load(RUN).results) == 2
        return results

    assert asyncio.run(job()) == [[1, 2, 3], 7]


def test_an_iteration_that_outlives_its_step_is_saved_with_it(store):
    def body(cp):
        totals = cp.state(Totals())
        rows = cp.iterate([1, 2, 3])

        def first_two():
            for row in rows:
                totals.rows += 1
                if row == 2:
                    return

        cp.step("first two", first_two)
        if not cp.resumed:
            raise OopsError
        return totals.rows

    assert twice(checkpointed(store=store, key=lambda: "key")(body)) == 2


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


@pytest.mark.parametrize("waits", [False, True])
def test_an_equal_key_that_comes_later_has_steps_of_its_own_though_the_first_has_no_result(
    runner, store, waits
):
    charged = []

    async def body(cp):
        totals = cp.state(Totals())
        got = []

        async def pay(amount):
            if waits and amount:
                async for _ in cp.iterate(range(amount)):
                    totals.rows += 1
            elif amount:
                raise OopsError
            charged.append(amount)
            return amount

        items = [("x", 0), ("a", 2), ("b", 0), ("a", 0), ("c", 0)]
        async for item, amount in cp.iterate(items, key=lambda each: each[0]):
            if item != "x":
                with contextlib.suppress(OopsError):
                    got.append((item, await stepping(runner, cp)("pay", pay, amount)))
            if item == "c" and not cp.resumed:
                raise KeyError
        return got

    job = runner.job(body, store=store, every=10)
    with pytest.raises(KeyError):
        job()
    first = [("a", 2)] if waits else []
    assert job() == [*first, ("b", 0), ("a", 0), ("c", 0)]
    assert charged == [2, 0, 0, 0, 2] if waits else [0, 0, 0]


def test_an_exception_that_was_dealt_with_keeps_no_iteration_going(registered, runner, store):
    """Whatever it was raised in, and though it is the result of a step."""

    async def body(cp):
        totals = cp.state(Totals())

        async def load():
            rows = cp.iterate([1, 2, 3], name="rows")
            async for row in rows:
                totals.rows += 1
                if row == 2:
                    raise BadRowError(row)

        with contextlib.suppress(BadRowError):
            await stepping(runner, cp)("load", load)
        async for number in cp.iterate(range(6), name="after"):
            if number == 5:
                raise OopsError
        return totals.rows

    with pytest.raises(OopsError):
        runner.job(body, store=store, every=1)()
    assert opened(store.load(RUN).latest).items == 7


def test_an_exception_of_a_step_is_not_kept_alive(registered, store):
    def fail():
        raise BadRowError

    with checkpoint_run("key", store=store) as cp:
        try:
            cp.step("fail", fail)
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


def test_a_step_whose_iterations_leave_the_state_alone_waits_for_nothing(runner, store):
    """Though one was left by a break, after which other saves wait."""
    computed = []

    async def body(cp):
        cp.state(Totals())

        async def read():
            async for _ in cp.iterate([1]):
                pass
            async for _ in cp.iterate([1, 2]):
                break
            computed.append("read")

        async for _ in cp.iterate(["item"]):
            await stepping(runner, cp)("read", read)
            if not cp.resumed:
                raise OopsError

    twice(runner.job(body, store=store, every=1))
    assert computed == ["read"]
