"""Iterations inside each other, with steps, in any shape, interrupted anywhere and begun again.

A run that is interrupted again and again is to come to what an undisturbed one comes to.
"""

import contextlib
import itertools

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay import register_type
from mainstay._checkpoint.document import opened
from mainstay.stores import MemoryStore
from support.checkpoint_values import Totals
from support.checkpoints import RUN, CrashError, OopsError, Runner
from support.examples import examples

NAMES = st.sampled_from(["a", "b", None])


@attrs.frozen
class Add:
    """Changes the state, inside an item."""


@attrs.frozen
class Batch:
    """Collects items in the state, and goes through two of them.

    Before it does the state is what it was two items ago.
    """


class PlainError(ValueError):
    """Ends a step, which then has no result."""


class RegisteredError(ValueError):
    """Ends a step, and is its result."""


@attrs.frozen
class Step:
    name: str
    ends: type | None = None


@attrs.frozen
class Loop:
    name: str | None
    items: int
    body: tuple = ()
    left_after: int | None = None


STEPS = st.builds(
    Step, st.sampled_from("ab"), st.sampled_from([None, None, None, PlainError, RegisteredError])
)


def loops(depth):
    """Iterations, with others inside their items up to *depth*."""
    inside = [STEPS, st.builds(Add), st.builds(Batch)]
    if depth:
        inside.append(loops(depth - 1))
    bodies = st.lists(st.one_of(inside), max_size=3).map(tuple)
    return st.builds(Loop, NAMES, st.integers(0, 3), bodies, st.sampled_from([None, None, None, 1]))


class Program:
    """Runs a tree of the above; every step that has a result is computed once."""

    def __init__(self, body, runner):
        self.body = body
        self.runner = runner
        self.left = None
        self.computed = []

    def event(self):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise CrashError

    async def run(self, cp):
        state = cp.state({"added": [], "batches": {}})
        found = await self.nodes(cp, state, self.body, (), frozenset())
        return [found, state["added"]]

    async def nodes(self, cp, state, body, path, going_on):
        return [
            await self.node(cp, state, node, (*path, number), going_on)
            for number, node in enumerate(body)
        ]

    async def node(self, cp, state, node, path, going_on):
        self.event()
        if isinstance(node, Add):
            state["added"].append(str(path))
            return "added"
        if isinstance(node, Batch):
            return await self.batch(cp, state, path)
        if isinstance(node, Loop):
            return await self.loop(cp, state, node, path, going_on)
        return await self.step(cp, node, path)

    async def step(self, cp, node, path):
        def compute():
            self.event()
            if node.ends is not PlainError:
                self.computed.append(path)
            if node.ends:
                raise node.ends(str(path))
            return str(path)

        try:
            found = await cp.step(node.name, compute)
        except (PlainError, RegisteredError) as error:
            found = f"error {error}"
        self.event()
        return found

    async def batch(self, cp, state, path):
        *loop, _, number = path
        batch = state["batches"].setdefault(f"{loop} {number}", [])
        batch.append(str(path))
        if len(batch) == 2:
            todo = [*batch]
            batch.clear()
            async for entry in cp.iterate(todo):
                state["added"].append(entry)
                self.event()
        return "batch"

    async def loop(self, cp, state, node, path, going_on):
        name = None if node.name in going_on else node.name
        items = cp.iterate(range(node.items), key=lambda item: item % 2, name=name)
        gone = 0
        async for item in items:
            await self.nodes(cp, state, node.body, (*path, f"item {item}"), going_on | {name})
            self.event()
            gone = item + 1
            if gone == node.left_after:
                break
        return "loop"


PROGRAMS = st.lists(st.one_of(STEPS, loops(2)), min_size=1, max_size=4).map(tuple)


def outcome(program, every, crashes):
    """Run a program to its end, crashing after so many events, attempt by attempt."""
    store = MemoryStore()
    job = program.runner.job(program.run, store=store, every=every, max_crashes=None)
    for events in itertools.chain(crashes, [None]):
        program.left = events
        with contextlib.suppress(CrashError):
            found = job()
            break
    return found, len(store.load(RUN).results)


@pytest.mark.parametrize("name", ["sync", "async"])
@given(
    body=PROGRAMS,
    every=st.integers(1, 4),
    crashes=st.lists(st.integers(0, 30), min_size=1, max_size=6),
)
@settings(max_examples=examples(400))
def test_interrupted_anywhere_it_comes_to_the_same(name, body, every, crashes):
    register_type(RegisteredError)
    undisturbed = outcome(Program(body, Runner(name)), every, [])
    program = Program(body, Runner(name))
    assert outcome(program, every, crashes) == undisturbed
    results = [node for node in body if isinstance(node, Step) and node.ends is not PlainError]
    assert undisturbed[1] == len(results), "those inside items go with their items"
    assert len(program.computed) == len({*program.computed}), "computed again"


@pytest.mark.parametrize("name", ["sync", "async"])
def test_an_exception_from_a_save_keeps_no_iteration_open_that_was_left_by_break(name):
    register_type(RegisteredError)
    body = (Loop("a", 1, (Step("a", RegisteredError),), 1), Step("a"), Loop("a", 1))
    program = Program(body, Runner(name))
    assert outcome(program, 1, [3]) == outcome(Program(body, Runner(name)), 1, [])


# The state that iterations inside items save, and what items change themselves.


def undisturbed_and_interrupted(runner, store, body):
    """Give what a job comes to without and with an error at first, saved after every item."""
    job = runner.job(body, store=store, every=1, on_complete="rerun")
    undisturbed = job(False)
    with pytest.raises(OopsError):
        job(True)
    return undisturbed, job(True)


def test_it_is_known_three_deep_what_the_state_was_before_an_item(runner, store):
    async def body(cp, fail):
        state = cp.state({"on": False})
        async for outer in cp.iterate([1, 2]):
            if outer == 1:
                state["on"] = True
                continue
            async for _ in cp.iterate([1], name="middle"):
                state["on"] = not state["on"]
                async for inner in cp.iterate([1, 2, 3], name="inner"):
                    if inner == 3 and fail and not cp.resumed:
                        raise OopsError
        return state["on"]

    assert undisturbed_and_interrupted(runner, store, body) == (False, False)


def test_it_is_known_after_a_break_what_the_state_was_before_the_item(runner, store):
    async def body(cp, fail):
        state = cp.state({"batch": [], "sent": []})
        async for row in cp.iterate([1, 2]):
            if row == 1:
                state["batch"].append(row)
                continue
            async for _ in cp.iterate([5, 6], name="look"):
                break
            todo = [*state["batch"], row]
            state["batch"].clear()
            async for each in cp.iterate(todo, name="send"):
                if each == 2 and fail and not cp.resumed:
                    raise OopsError
                state["sent"].append(each)
        return state["sent"]

    assert undisturbed_and_interrupted(runner, store, body) == ([1, 2], [1, 2])


def test_what_takes_back_what_an_iteration_did_before_a_break_is_a_change(runner, store):
    async def body(cp, fail):
        state = cp.state({"free": 3})
        async for _ in cp.iterate(["order"]):
            async for _ in cp.iterate(["shelf", "other shelf"], name="shelves"):
                state["free"] -= 1
                break
            state["free"] += 1
            async for line in cp.iterate([1, 2, 3], name="lines"):
                if line == 3 and fail and not cp.resumed:
                    raise OopsError
        return state["free"]

    assert undisturbed_and_interrupted(runner, store, body) == (3, 3)


def twice(job):
    """Run a job to its end that fails once."""
    with pytest.raises(OopsError):
        job()
    return job()


@pytest.mark.parametrize("crash_at", [1, 2, 3])
def test_what_an_item_changed_before_its_first_iteration_waits_for_its_end(runner, store, crash_at):
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
                await send(todo)
        return batch

    assert twice(runner.job(body, store=store)) == []
    assert {*sent} == {1, 2, 3, 4, 5, 6}


def test_what_an_item_changed_waits_for_its_end_though_an_iteration_takes_it_back(runner, store):
    async def body(cp):
        pending = cp.state([])

        async def flush(order):
            async for entry in cp.iterate([order]):
                pending.remove(entry)

        async for order in cp.iterate(["a", "b"]):
            pending.append(order)
            await flush(order)
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


def test_what_an_iteration_inside_an_item_did_keeps_the_next_one_from_nothing(runner, store):
    """It is no change of the item's own, so saves in the next iteration need not wait."""
    seen = []

    async def body(cp):
        totals = cp.state(Totals())
        async for _ in cp.iterate(["order"]):
            async for row in cp.iterate([1, 2], name="lines"):
                totals.rows += 1
                seen.append(row)
            async for part in cp.iterate("abc", name="parts"):
                if part == "c" and not cp.resumed:
                    raise OopsError
                seen.append(part)
        return totals.rows

    assert twice(runner.job(body, store=store, every=1)) == 2
    assert seen == [1, 2, "a", "b", "c"]


def test_results_of_steps_in_an_item_that_was_left_by_break_are_removed(runner, store):
    async def body(cp):
        async for _ in cp.iterate("ab"):
            await cp.step("send", str)
            break
        async for _ in cp.iterate([1, 2], name="second"):
            pass
        raise OopsError

    with pytest.raises(OopsError):
        runner.job(body, store=store, every=1)()
    assert not store.load(RUN).results


def test_results_of_steps_are_removed_with_the_inner_item_that_they_are_of(runner, store):
    async def body(cp):
        async for order in cp.iterate(range(2), name="orders"):
            async for line in cp.iterate(range(3), name="lines"):
                await cp.step("charge", int)
                if (order, line) == (1, 2):
                    raise OopsError

    with pytest.raises(OopsError):
        runner.job(body, store=store, every=1)()
    [kept] = store._runs.values()
    assert len(kept.results) == 1  # that of the item in progress


def test_items_done_before_an_inner_iteration_are_counted_with_its_save(runner, store):
    async def body(cp):
        async for order in cp.iterate(range(3), name="orders"):
            async for line in cp.iterate(range(2), name="lines"):
                if (order, line) == (2, 1):
                    raise OopsError
                if order == 2:
                    await cp.save()

    with pytest.raises(OopsError):
        runner.job(body, store=store, every=1_000)()
    [kept] = store._runs.values()
    assert opened(kept.latest).items == 2 + 5  # orders and lines


def test_many_iterations_in_an_item_stay_over_when_deeper_ones_are(runner, store):
    seen = []

    async def body(cp, fails):
        async for _ in cp.iterate("a", name="outer"):
            for number in range(40):
                async for each in cp.iterate([number], name="many"):
                    seen.append(each)  # noqa: PERF401 - in sync code as well
            async for _ in cp.iterate("b", name="middle"):
                async for _ in cp.iterate(range(6), name="inner"):
                    await cp.save()
            async for each in cp.iterate("xyz", name="late"):
                if fails and each == "z":
                    raise OopsError
                await cp.save()

    job = runner.job(body, store=store, every=1_000)
    with pytest.raises(OopsError):
        job(fails=True)
    job(fails=False)
    assert seen == [*range(40)]
