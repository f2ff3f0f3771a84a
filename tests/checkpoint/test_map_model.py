"""What `cp.map` decides, against a model: which items begin, whose turn is next, what is done.

The model is a source of numbers, a set of those that the loop has had, and what of that is saved.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mainstay._checkpoint.above import Above, positions_in
from mainstay._checkpoint.iteration import NOTHING, key_function
from mainstay._checkpoint.shape import MOST_ABOVE, check_cursors
from mainstay._checkpoint.spread import Spread
from mainstay._checkpoint.value_digest import item_digest
from mainstay._checkpoint.window import SPAN, Window
from mainstay.errors import SourceChangedError
from mainstay.stores.base import RunId
from support.checkpoints import finished
from support.examples import examples

RUN = RunId("job", "key")
ITEMS = 40
READS = ["sync", "async"]


def spread_of(*, ordered, trusted=False, key=None):
    spread = Spread(RUN, "items", key_function(key, "items", 0), trusted, "", by_position=not key)
    spread.ordered = ordered
    return spread


class Source:
    """The items, for an iteration that reads them in one thread or in an event loop."""

    def __init__(self, items):
        self._items = iter(items)

    def __aiter__(self):
        return self

    async def __anext__(self):
        value = next(self._items, NOTHING)
        if value is NOTHING:
            raise StopAsyncIteration
        return value

    def __iter__(self):
        return self._items


class Map(RuleBasedStateMachine):
    """One run, killed now and then, whose items end in any order."""

    @initialize(
        trusted=st.booleans(), keyed=st.booleans(), reads=st.sampled_from(["sync", "async"])
    )
    def choose(self, trusted, keyed, reads):
        self.trusted = trusted
        self.key = (lambda value: value % 40) if keyed or trusted else None
        self.reads = reads
        self.saved, self.saved_done = None, set()
        self.begin_attempt(ordered=True, ahead=1)

    def begin_attempt(self, *, ordered, ahead):
        self.spread = spread = spread_of(ordered=ordered, trusted=self.trusted, key=self.key)
        if self.saved is not None:
            spread.restore(self.saved)
        start = spread.count if self.trusted else 0
        self.source = iter(range(start, ITEMS))
        source = Source(self.source)
        if self.reads == "sync":
            spread.pass_over(iter(source))
        else:
            finished(spread.apass_over(source))
        self.first = spread.first
        self.window = Window(ahead, ordered, spread.first)
        self.ordered, self.ahead = ordered, ahead
        self.done, self.begun, self.arrived = {*self.saved_done}, {}, set()
        self.in_progress = None
        assert spread.done == len(self.done)
        last = max({*self.done, -1 if spread.first is None else spread.first}, default=-1)
        assert spread.read == last + 1, "no more is read than has to be compared"

    @precondition(lambda self: self.may_begin())
    @rule()
    def begin(self):
        waiting = self.spread.waiting
        if waiting:
            item = waiting.popleft()
        else:
            value = next(self.source, NOTHING)
            if value is NOTHING:
                self.window.ended = True
                return
            item = self.spread.item_of(value)
        assert item.value == item.position
        assert item.position not in self.done | self.begun.keys()
        self.begun[item.position] = item
        self.window.begin(item.position)
        if not self.ordered and len(self.begun) > 1:
            assert item.position - self.gap() < SPAN * self.ahead

    def may_begin(self):
        spread = self.spread
        return self.in_progress is None and self.window.has_room(spread.next_position, spread.count)

    def gap(self):
        return min({*range(ITEMS + 1)} - self.done)

    @precondition(lambda self: self.begun.keys() - self.arrived)
    @rule(data=st.data())
    def arrive(self, data):
        position = data.draw(st.sampled_from(sorted(self.begun.keys() - self.arrived)))
        self.arrived.add(position)
        self.window.arrive(position)

    @precondition(lambda self: self.in_progress is None and self.window.turn() is not None)
    @rule()
    def take(self):
        position = self.window.turn()
        assert position in self.arrived
        if self.first is not None:
            assert position == self.first
            self.first = None
        elif self.ordered:
            assert position == min(self.begun)
        self.window.take(position)
        self.spread.enter(self.begun.pop(position))
        self.arrived.discard(position)
        self.in_progress = position

    @precondition(lambda self: self.in_progress is not None)
    @rule()
    def item_ends(self):
        self.spread.item_done()
        self.spread.leave_item()
        self.done.add(self.in_progress)
        self.in_progress = None
        assert self.spread.done == len(self.done)

    @rule(count=st.integers(1, 8), data=st.data())
    def go_on(self, count, data):
        """Do several items at once, so that runs come further than single steps would."""
        for _ in range(count):
            if self.in_progress is not None:
                self.item_ends()
            while self.may_begin():
                self.begin()
            while self.window.turn() is None and self.begun.keys() - self.arrived:
                self.arrive(data)
            if self.window.turn() is not None:
                self.take()

    @rule(inside=st.booleans())
    def save(self, inside):
        """Save between two items, or inside one in which iterations were saved."""
        if self.in_progress is not None and inside:
            self.spread.inner = {"inner": {}}
        self.saved = self.spread.cursor()
        self.saved_done = {*self.done}
        if self.key is not None and not self.ordered:
            assert len(self.spread._open) == self.spread.read - self.gap()

    @rule(ordered=st.booleans(), ahead=st.integers(1, 12))
    def crash(self, ordered, ahead):
        self.begin_attempt(ordered=ordered, ahead=ahead)

    @invariant()
    def something_goes_on(self):
        """Either an item may begin, or one is under way or in progress, or all are done."""
        if not hasattr(self, "window") or self.in_progress is not None or self.begun:
            return
        assert self.may_begin() or (self.window.is_over and self.done == {*range(ITEMS)})

    @invariant()
    def nobody_waits_for_what_has_ended(self):
        if not hasattr(self, "window") or self.in_progress is not None or self.may_begin():
            return
        assert self.window.turn() is not None or self.begun.keys() - self.arrived or not self.begun

    @invariant()
    def no_more_are_under_way_than_were_asked_for(self):
        if hasattr(self, "window"):
            assert len(self.begun) <= self.ahead


Map.TestCase.settings = settings(max_examples=examples(250), stateful_step_count=60, deadline=None)
TestMap = Map.TestCase


@given(st.permutations([*range(30)]), st.integers(0, 30))
def test_what_is_above_the_gap_is_saved_whatever_came_first(order, count):
    above, passed = Above(), []
    for position in order[:count]:
        passed += above.add(position, f"key {position}")
    done = {*order[:count]}
    gap = min({*range(31)} - done)
    assert passed == [f"key {n}" for n in range(gap)]
    assert above.gap == gap
    assert positions_in(above.saved(), gap) == {n for n in done if n > gap}
    digests = [int(item_digest((n, f"key {n}")), 16) for n in done if n > gap]
    assert int(above.saved()[1], 16) == sum(digests) % 2**128
    again = Above(gap)
    for position in sorted(n for n in done if n > gap):
        again.add(position, f"key {position}")
    assert again.saved() == above.saved()


def test_the_item_in_progress_must_be_there_again():
    """It was the fourth, the first three were not done, and there are only three now."""
    for items, error in ((range(4), None), (range(3), "beyond the first unfinished")):
        spread = spread_of(ordered=False)
        cursor = {"count": 0, "last": [], "digest": spread.cursor()["digest"], "closed": False}
        spread.restore({**cursor, "at": "", "inner": {"inner": {}}, "position": 3})
        if error is None:
            spread.pass_over(iter(items))
            assert [item.position for item in spread.waiting] == [3, 0, 1, 2]
        else:
            with pytest.raises(SourceChangedError, match=error):
                spread.pass_over(iter(items))


def test_items_are_done_so_far_beyond_the_gap_as_can_be_read_again():
    window = Window(MOST_ABOVE, ordered=False)
    window.begin(0)
    assert window.has_room(MOST_ABOVE - 1, 0)
    assert not window.has_room(MOST_ABOVE, 0)
    above = Above()
    above.add(MOST_ABOVE - 1, "last")
    cursor = {"count": 0, "last": [], "digest": "", "closed": False, "at": "", "inner": {}}
    check_cursors({"items": {**cursor, "above": above.saved()}})
