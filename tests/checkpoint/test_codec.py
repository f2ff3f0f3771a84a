import collections
import datetime as dt
import enum
import functools
import math
import random
import struct
import threading
from dataclasses import InitVar, dataclass
from fractions import Fraction
from typing import NamedTuple

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import register_type
from mainstay._checkpoint import types
from mainstay._checkpoint.codec import Codec, plain, to_bytes
from mainstay._checkpoint.document import seal, unseal
from mainstay._checkpoint.shape import DamagedError, parsed
from mainstay._checkpoint.types import allowed_by, allowed_by_result
from mainstay._checkpoint.value_digest import ITEMS, check_keys, digest, item_digest, value_digest
from mainstay.errors import UnknownTypeError, UnsaveableValueError
from support.checkpoint_values import TYPES, VALUES, Frozen, Paint, Point, Shape, Totals

CODEC = Codec(allowed_by(*TYPES))


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch):
    monkeypatch.setattr(types, "_registered", {})


def round_trip(value, codec=CODEC):
    return codec.decode(parsed(unseal(seal(to_bytes(codec.encode(value, "value"))))), "value")


def shape(value):
    """A value with the types of everything in it, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return dict, [(shape(k), shape(v)) for k, v in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [shape(item) for item in value]
    if isinstance(value, set | frozenset):
        return type(value), {shape_of_hashable(item) for item in value}
    if isinstance(value, float):
        return float, struct.pack("d", value)
    if isinstance(value, dt.datetime | dt.time):
        return type(value), value.replace(tzinfo=None), value.fold, repr(value.tzinfo)
    return type(value), value


def shape_of_hashable(value):
    return repr((type(value), sorted(map(repr, value)) if isinstance(value, frozenset) else value))


@given(VALUES)
def test_a_value_comes_back_equal_and_of_the_same_type(value):
    assert shape(round_trip(value)) == shape(value)


def test_nan_comes_back():
    assert math.isnan(round_trip(math.nan))
    assert round_trip(-0.0).hex() == "-0x0.0p+0"


def test_a_value_is_saved_as_json_that_people_can_read():
    saved = to_bytes(CODEC.encode({"totals": Totals(3, 4), "at": dt.date(2024, 2, 29)}, "state"))
    assert saved == (
        b'{"totals":{"$":"object","t":"support.checkpoint_values.Totals","v":{"rows":3,"amount":4}},'
        b'"at":{"$":"date","v":"2024-02-29"}}'
    )


class Named(NamedTuple):
    x: int


@dataclass
class WithInitVar:
    x: InitVar[int]


class Sub(str):
    __slots__ = ()


class Tally(collections.Counter):
    pass


class Zone(dt.tzinfo):
    pass


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        object(),
        iter([]),
        len,
        Named(1),
        Sub("x"),
        Fraction(1, 2),
        collections.ChainMap(),
        collections.UserDict(),
        Tally(),
        bytearray(b"x"),
        range(3),
        ValueError("x"),
        Zone(),
        dt.datetime(2024, 1, 1, tzinfo=Zone()),
        memoryview(b"x"),
        type,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_exact_form_is_refused_with_its_path(value):
    state = Shape("s", [{"rows": [1, 2, (3, value)]}])
    with pytest.raises(UnsaveableValueError) as refused:
        CODEC.encode(state, "state")
    assert refused.value.path == "state.points[0]['rows'][2][1]"
    assert str(refused.value).startswith(f"{refused.value.path} cannot be saved: ")


def test_what_contains_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(UnsaveableValueError, match="state cannot be saved: it contains itself"):
        CODEC.encode(value, "state")


def test_an_attribute_that_is_no_field_would_be_lost_and_is_refused():
    value = Shape("s", [])
    value.extra = 1
    with pytest.raises(UnsaveableValueError, match="'extra' is not among its fields"):
        CODEC.encode(value, "state")


def test_a_cached_property_is_no_loss():
    @attrs.define(slots=False)
    class Cached:
        x: int

        @functools.cached_property
        def doubled(self):
            return self.x * 2

    value = Cached(2)
    assert value.doubled == 4
    assert round_trip(value, Codec(allowed_by(Cached))) == Cached(2)


def test_a_field_without_a_value_is_refused():
    value = Shape.__new__(Shape)
    with pytest.raises(UnsaveableValueError, match="its field 'name' has no value"):
        CODEC.encode(value, "state")


# Which types may be built.


def test_a_type_that_nobody_named_is_refused_on_saving():
    with pytest.raises(UnsaveableValueError, match=r"register_type\(Totals\)"):
        Codec(allowed_by(Shape)).encode(Totals(), "state")


def test_a_type_that_nobody_named_is_not_built():
    saved = CODEC.encode([Totals()], "state")
    with pytest.raises(UnknownTypeError) as unknown:
        Codec(allowed_by()).decode(saved, "state")
    assert (unknown.value.path, unknown.value.type_name) == (
        "state[0]",
        "support.checkpoint_values.Totals",
    )


def test_another_type_of_the_same_name_is_refused():
    impostor = attrs.make_class("Totals", ["rows"])
    impostor.__module__ = "support.checkpoint_values"
    with pytest.raises(UnsaveableValueError):
        CODEC.encode(impostor(1), "state")


def test_types_are_found_through_annotations_fields_and_values():
    def step() -> dict[str, list[Shape] | None]: ...

    assert {*allowed_by_result(step)} >= {
        "support.checkpoint_values.Shape",
        "support.checkpoint_values.Point",
    }
    assert "support.checkpoint_values.Paint" in allowed_by_result(step)
    assert {*allowed_by({"a": [Totals()], Frozen(Point(1.0)): ()})} == {
        "support.checkpoint_values.Totals",
        "support.checkpoint_values.Frozen",
        "support.checkpoint_values.Point",
    }


def test_annotations_that_cannot_be_evaluated_name_nothing():
    def step() -> "Missing": ...  # noqa: F821 - on purpose

    assert {**allowed_by_result(step)} == {}
    assert {**allowed_by_result(functools.partial(step))} == {}


def test_a_registered_type_may_be_built_anywhere():
    assert register_type(Totals) is Totals
    assert round_trip([Totals(1)], Codec(allowed_by())) == [Totals(1)]


def test_a_registered_exception_is_a_value():
    register_type(KeyError)
    error = round_trip(KeyError("a", 2), Codec(allowed_by()))
    assert (type(error), error.args) == (KeyError, ("a", 2))


@pytest.mark.parametrize("value", [int, 3, object, KeyboardInterrupt, Totals()])
def test_only_types_that_are_saved_by_name_can_be_registered(value):
    with pytest.raises(TypeError, match="`cls` must be an attrs class"):
        register_type(value)


def test_a_type_that_no_longer_takes_what_was_saved_is_told_so():
    saved = CODEC.encode(Totals(), "state")
    saved["v"]["removed"] = 1
    with pytest.raises(
        UnsaveableValueError, match=r"state cannot be saved: support\.checkpoint_values"
    ):
        CODEC.decode(saved, "state")


def test_a_field_that_is_new_takes_its_default():
    saved = CODEC.encode(Totals(3, 4), "state")
    del saved["v"]["amount"]
    assert CODEC.decode(saved, "state") == Totals(3, 0)


def test_an_enum_member_that_is_gone_is_told_so():
    with pytest.raises(UnsaveableValueError, match="no longer accepts"):
        CODEC.decode({"$": "enum", "t": "support.checkpoint_values.Paint", "v": "GREEN"}, "state")


def test_an_init_var_is_not_asked_for_again():
    assert round_trip(WithInitVar(1), Codec(allowed_by(WithInitVar))) == WithInitVar(1)


# Pickle.


def test_pickle_takes_what_has_no_exact_form_where_it_is_allowed():
    codec = Codec(allowed_by(), allow_pickle=True)
    value = {"a": Fraction(1, 2), "b": Totals(1), "c": Paint.RED}
    assert round_trip(value, codec) == value


def test_what_was_pickled_is_not_unpickled_where_it_is_not_allowed():
    saved = Codec(allowed_by(), allow_pickle=True).encode(Fraction(1, 2), "state")
    with pytest.raises(UnknownTypeError, match=r"^state was pickled.*with allow_pickle=True$"):
        Codec(allowed_by()).decode(saved, "state")


def test_what_cannot_be_pickled_either_is_refused():
    with pytest.raises(UnsaveableValueError, match="cannot be pickled"):
        Codec(allowed_by(), allow_pickle=True).encode([threading.Lock()], "state")


# Plain data, for migrations.


def test_plain_data_has_dicts_in_place_of_objects():
    value = Shape("s", [Point(1.0)], Paint.BLUE)
    tree = CODEC.encode({"a": value, 1: (2, {3}), "$": dt.date(2024, 1, 1)}, "state")
    assert plain(tree) == {
        "a": {
            "name": "s",
            "points": [{"x": 1.0, "_hidden": 0, "doubled": 2.0}],
            "paint": "BLUE",
            "area": 0.0,
        },
        1: (2, [3]),
        "$": dt.date(2024, 1, 1),
    }
    assert plain([None, {"x": 1}]) == [None, {"x": 1}]


# The envelope.


@pytest.mark.parametrize("body", [b"", b"short", b"long and alike " * 1000])
def test_every_flipped_bit_of_every_byte_is_noticed(body):
    """Known fault: joblib returns what it reads."""
    sealed = seal(body)
    assert unseal(sealed) == body
    for place in range(len(sealed)):
        for bit in (0x01, 0x80):
            damaged = bytearray(sealed)
            damaged[place] ^= bit
            with pytest.raises(DamagedError):
                unseal(bytes(damaged))


@pytest.mark.parametrize("body", [b"short", b"long and alike " * 1000])
def test_every_cut_is_noticed(body):
    sealed = seal(body)
    for length in range(len(sealed)):
        with pytest.raises(DamagedError):
            unseal(sealed[:length])


def test_only_what_gets_smaller_is_compressed():
    assert len(seal(b"alike " * 1000)) < 200
    noise = random.Random(1).randbytes(5000)
    assert len(seal(noise)) == len(noise) + 21


# Fingerprints.


@given(st.sets(st.text(), max_size=5))
def test_the_fingerprint_of_a_set_does_not_depend_on_its_order(items):
    backwards = set()
    for item in sorted(items, reverse=True):
        backwards.add(item)
    assert value_digest(items, "x", ITEMS) == value_digest(backwards, "x", ITEMS)


@given(st.dictionaries(st.text() | st.integers() | st.just("$"), st.integers(), max_size=5))
def test_the_fingerprint_of_a_dict_does_not_depend_on_its_order(items):
    backwards = dict(reversed([*items.items()]))
    assert value_digest([items], "x", ITEMS) == value_digest([backwards], "x", ITEMS)


def test_fingerprints_tell_types_apart():
    values = [1, 1.0, True, "1", b"1", (1,), [1], {1}, frozenset({1}), None, {1: 1}, {"1": 1}]
    assert len({value_digest(value, "x", ITEMS) for value in values}) == len(values)


def test_parts_of_a_digest_are_told_apart():
    assert digest(b"ab", b"c") != digest(b"a", b"bc")
    assert item_digest("1") != item_digest(1)


def test_keys_are_of_types_with_the_same_repr_everywhere():
    check_keys([1, "a", (b"b", (None, 2.5)), dt.date(2024, 1, 1)], "rows")
    for key in ([1], (1, object()), Paint.RED, enum):
        with pytest.raises(UnsaveableValueError, match="a key of iteration 'rows'"):
            check_keys([1, key], "rows")
