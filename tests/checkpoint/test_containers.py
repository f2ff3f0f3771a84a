"""Counters, default dicts, ordered dicts and deques: as state, anywhere in it, and as results."""

from collections import Counter, OrderedDict, defaultdict, deque

import attrs
import pytest

from mainstay._checkpoint.codec import Codec, plain, to_bytes
from mainstay._checkpoint.shape import parsed
from mainstay._checkpoint.types import allowed_by, allowed_by_result
from mainstay._checkpoint.value_digest import ITEMS, value_digest
from mainstay.errors import UnknownTypeError, UnsaveableValueError
from support.checkpoint_values import Point, Totals
from support.checkpoints import OopsError

VALUES = [
    Counter(),
    Counter({"b": 2, "a": -1, (1, 2): 0}),
    OrderedDict(),
    OrderedDict([("b", 1), ("a", [2]), (3, 4)]),
    deque(),
    deque([1, (2, 3)], maxlen=5),
    deque(maxlen=0),
    defaultdict(),
    *(
        defaultdict(factory, {"b": 1, 2: 3})
        for factory in (int, float, str, bool, list, dict, set, tuple, bytes, Counter, deque)
    ),
    defaultdict(OrderedDict, {"a": OrderedDict(b=deque([Counter("x")], 3))}),
    defaultdict(Totals, {"a": Totals(1, 2)}),
    {"$": Counter({"$": 1})},
]


def there_and_back(value, codec=None):
    codec = codec or Codec(allowed_by(value))
    return codec.decode(parsed(to_bytes(codec.encode(value, "state"))), "state")


def shape(value):
    """A value with its types, the order of its items, and what only its class knows of it."""
    own = getattr(value, "maxlen", None), getattr(value, "default_factory", None)
    if isinstance(value, dict):
        return type(value), own, [(shape(k), shape(v)) for k, v in value.items()]
    if isinstance(value, list | tuple | deque):
        return type(value), own, [shape(item) for item in value]
    return type(value), value


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_container_comes_back_as_it_was(value):
    assert shape(there_and_back([value])) == shape([value])


@pytest.mark.parametrize(
    ("default", "add"),
    [
        (Counter, lambda state, row: state.update([row])),
        (lambda: defaultdict(int), lambda state, row: state.__setitem__(row, state[row] + 1)),
        (lambda: defaultdict(Totals), lambda state, row: setattr(state[row], "rows", 1)),
        (OrderedDict, lambda state, row: state.__setitem__(row, 1)),
        (lambda: deque(maxlen=2), lambda state, row: state.append(row)),
    ],
)
def test_a_container_is_state(runner, store, default, add):
    states = []

    async def body(cp):
        state = cp.state(default())
        async for row in cp.iterate([3, 1, 2]):
            if row == 2 and not cp.resumed:
                raise OopsError
            add(state, row)
        states.append(state)

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job()
    job()
    expected = default()
    for row in (3, 1, 2):
        add(expected, row)
    assert shape(states[0]) == shape(expected)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (defaultdict(lambda: 0), "state"),
        ({"a": defaultdict(object)}, "state['a']"),
        (defaultdict(Point), "state"),
        ({"a": deque([1, object()])}, "state['a'][1]"),
        (Counter({"a": object()}), "state['a']"),
        (OrderedDict({"a": object()}), "state['a']"),
    ],
)
def test_what_could_not_be_made_again_is_refused_with_its_path(value, path):
    with pytest.raises(UnsaveableValueError) as refused:
        Codec(allowed_by(Totals)).encode(value, "state")
    assert refused.value.path == path


def test_a_factory_that_nobody_named_is_not_built():
    saved = Codec(allowed_by(Totals)).encode([defaultdict(Totals)], "state")
    with pytest.raises(UnknownTypeError) as unknown:
        Codec(allowed_by()).decode(saved, "state")
    assert unknown.value.path == "state[0]"


def test_the_types_in_a_container_are_found():
    def step() -> "defaultdict[str, deque[Point]]": ...

    assert "support.checkpoint_values.Point" in allowed_by_result(step)
    assert {*allowed_by(deque([Point(1.0)]), defaultdict(Totals))} == {
        "support.checkpoint_values.Point",
        "support.checkpoint_values.Totals",
    }


def test_migrations_get_plain_dicts_and_lists():
    @attrs.define
    class State:
        counts: object

    counts = [Counter("a"), OrderedDict(a=1), defaultdict(list, a=[1]), deque([1], 3)]
    tree = plain(Codec(allowed_by(State)).encode(State(counts), "state"))
    assert shape(tree) == shape({"counts": [{"a": 1}, {"a": 1}, {"a": [1]}, [1]]})


def test_equal_containers_have_equal_digests_and_others_have_others():
    def known(value):
        return value_digest(value, "item", ITEMS)

    assert known(Counter(a=1, b=2)) == known(Counter(b=2, a=1))
    assert known(defaultdict(int, a=1, b=2)) == known(defaultdict(int, b=2, a=1))
    ordered = [OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)]
    different = [*ordered, {"a": 1, "b": 2}, Counter(a=1, b=2), deque([1]), deque([1], 2), [1]]
    assert len({*map(known, different)}) == len(different)
