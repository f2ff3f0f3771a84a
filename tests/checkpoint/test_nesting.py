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
from mainstay.stores import MemoryStore
from support.checkpoints import RUN, CrashError, Runner

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
@settings(max_examples=400, deadline=None)
def test_interrupted_anywhere_it_comes_to_the_same(name, body, every, crashes):
    register_type(RegisteredError)
    undisturbed = outcome(Program(body, Runner(name)), every, [])
    program = Program(body, Runner(name))
    assert outcome(program, every, crashes) == undisturbed
    results = [node for node in body if isinstance(node, Step) and node.ends is not PlainError]
    assert undisturbed[1] == len(results), "those inside items go with their items"
    assert len(program.computed) == len({*program.computed}), "computed again"
