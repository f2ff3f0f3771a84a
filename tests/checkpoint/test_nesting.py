"""Steps and iterations inside each other, in any shape, interrupted anywhere and begun again.

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
from support.checkpoints import RUN, CrashError, Runner, finished
from support.examples import examples

NAMES = st.sampled_from(["a", "b", None])


@attrs.frozen
class Add:
    """Changes the state, inside an item."""

    body = ()


@attrs.frozen
class Batch:
    """Collects items in the state, and goes through two of them, in a step or not.

    Before it does the state is what it was two items ago.
    """

    in_step: bool
    body = ()


class PlainError(ValueError):
    """Ends a step, which then has no result."""


class RegisteredError(ValueError):
    """Ends a step, and is its result."""


@attrs.frozen
class Step:
    name: str
    body: tuple = ()
    ends: type | None = None


@attrs.frozen
class Loop:
    name: str | None
    items: int
    body: tuple = ()
    left_after: int | None = None


def bodies(depth):
    """Give what may be in a body; in a step the state is changed by its iterations alone."""
    leaves = st.one_of(st.just(Add()), st.builds(Batch, st.booleans()))
    if not depth:
        return st.just(()), st.lists(leaves, max_size=1).map(tuple)
    of_step, of_item = bodies(depth - 1)
    ends = st.sampled_from([None, None, None, PlainError, RegisteredError])
    steps = st.builds(Step, st.sampled_from("ab"), of_step, ends)
    loops = st.builds(
        Loop, NAMES, st.integers(0, 3), of_item, st.sampled_from([None, None, None, 1])
    )
    inner = st.one_of(steps, loops)
    return (
        st.lists(inner, max_size=3).map(tuple),
        st.lists(st.one_of(inner, leaves), max_size=3).map(tuple),
    )


class Program:
    """Runs a tree of the above; every step gives what was in it, and a number of its own."""

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
            return await self.batch(cp, state, node, path)
        if isinstance(node, Loop):
            return await self.loop(cp, state, node, path, going_on)

        async def compute():
            inside = await self.nodes(cp, state, node.body, path, going_on)
            self.event()
            if node.ends:
                raise node.ends(str(path))
            if not (changes_state(node.body) and "item" in str(path)):  # may have to wait
                self.computed.append(path)
            return [str(path), inside]

        try:
            found = await self.step(cp, node.name, compute)
        except (PlainError, RegisteredError) as error:
            found = str(error)
        self.event()
        return found

    async def step(self, cp, name, compute):
        fn = compute if self.runner.name == "async" else lambda: finished(compute())
        return await cp.step(name, fn)

    async def batch(self, cp, state, node, path):
        async def send():
            async for entry in cp.iterate(todo):
                state["added"].append(entry)
                self.event()

        *loop, _, number = path
        batch = state["batches"].setdefault(f"{loop} {number}", [])
        batch.append(str(path))
        if len(batch) == 2:
            todo = [*batch]
            batch.clear()
            await (self.step(cp, "batch", send) if node.in_step else send())
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


PROGRAMS = st.lists(
    st.one_of(
        st.builds(Step, st.sampled_from("ab"), bodies(2)[0], st.sampled_from([None, PlainError])),
        st.builds(Loop, NAMES, st.integers(1, 3), bodies(2)[1]),
    ),
    min_size=1,
    max_size=3,
).map(tuple)


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


def changes_state(body):
    return any(isinstance(node, (Add, Batch)) or changes_state(node.body) for node in body)


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
    assert undisturbed[1] == sum(isinstance(node, Step) and not node.ends for node in body), (
        "of what is inside"
    )
    assert len(program.computed) == len({*program.computed}), "computed again"
