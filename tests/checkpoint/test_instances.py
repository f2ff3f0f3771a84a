"""Instances of attrs classes and dataclasses come back as they were, whatever made them."""

import array
import collections
import dataclasses
import functools
import io
import ipaddress
import logging
import random
from datetime import datetime
from fractions import Fraction

import attrs
import pytest

from mainstay import checkpoint_run, register_type
from mainstay._checkpoint.codec import Codec, to_bytes
from mainstay._checkpoint.shape import parsed
from mainstay._checkpoint.types import allowed_by
from mainstay.errors import UnsaveableValueError
from mainstay.testing import Faults
from support.checkpoint_values import Totals
from support.checkpoints import OopsError


@attrs.define
class Converted:
    cents: int = attrs.field(default=1, converter=lambda euros: euros * 100)
    at: datetime = attrs.field(default="2024-01-01", converter=datetime.fromisoformat)
    rows: list[int] = attrs.field(factory=list)


@dataclasses.dataclass
class Reset:
    total: int = 0

    def __post_init__(self):
        self.total = 0


@attrs.define(frozen=True, cache_hash=True, unsafe_hash=True)
class Hashed:
    name: str = "x"


@dataclasses.dataclass
class Grown:
    old: int = 1
    new: list[int] = dataclasses.field(default_factory=lambda: [7])


def there_and_back(value):
    codec = Codec(allowed_by(value))
    return codec.decode(parsed(to_bytes(codec.encode(value, "state"))), "state")


@pytest.mark.parametrize("make", [Converted, lambda: attrs.evolve(Hashed(), name="y"), Totals])
def test_an_instance_comes_back_as_often_as_it_is_saved(make):
    value = make()
    assert there_and_back(there_and_back(value)) == value


def test_a_post_init_does_not_undo_what_was_done_since():
    value = Reset()
    value.total = 3
    assert there_and_back(value) == value


def test_a_hash_that_is_kept_is_computed_anew():
    value = {Hashed("a"), Hashed("b")}
    assert there_and_back(value) == value


def test_a_field_that_is_new_takes_its_default_and_the_others_what_was_saved():
    codec = Codec(allowed_by(Grown()))
    saved = codec.encode(Grown(2), "state")
    del saved["v"]["new"]
    assert codec.decode(saved, "state") == Grown(2, [7])


def test_the_state_of_a_run_that_failed_twice_is_what_it_was(runner, store):
    async def body(cp, fail_at):
        value = cp.state(Converted())
        async for row in cp.iterate([1, 2, 3]):
            if row == fail_at:
                raise OopsError
            value.rows.append(row)
        return value.cents, value.at.year, value.rows

    job = runner.job(body, store=store)
    for fail_at in (2, 3):
        with pytest.raises(OopsError):
            job(fail_at)
    assert job(None) == (100, 2024, [1, 2, 3])


@dataclasses.dataclass
class Bag(dict):
    name: str = "bag"


@attrs.define
class Row(list):
    name: str = "row"


@pytest.mark.parametrize("value", [Bag(), Row()])
def test_fields_and_the_items_of_a_built_in_type_at_once_are_refused(runner, store, value):
    async def body(cp):
        cp.state(value)

    with pytest.raises(UnsaveableValueError, match="has no exact form"):
        runner.job(body, store=store)()
    runner.job(body, store=store, allow_pickle=True)()


# What is in no field would be lost.


class Slotted:
    __slots__ = ("source",)


class Private(Slotted):
    __slots__ = ("__private",)

    def hide(self, what):
        self.__private = what


@dataclasses.dataclass(slots=True)
class Order(Private):
    cents: int = 0


@attrs.define
class Parcel(Slotted):
    cents: int = 0


@dataclasses.dataclass
class Address(ipaddress.IPv4Address):
    name: str = "router"

    def __post_init__(self):
        ipaddress.IPv4Address.__init__(self, "10.0.0.1")


@dataclasses.dataclass
class Share(Fraction):
    owner: str = "me"

    def __new__(cls, owner="me"):
        share = Fraction.__new__(cls, 1, 3)
        share.owner = owner
        return share


def with_slot(value, slot="source"):
    if slot == "source":
        value.source = "shop"
    else:
        value.hide("it")
    return value


@pytest.mark.parametrize(
    ("value", "slot"),
    [
        (with_slot(Order()), "source"),
        (with_slot(Parcel()), "source"),
        (with_slot(Order(), "private"), "_Private__private"),
        (Address(), "_ip"),
        (Share(), "_numerator|_denominator"),
    ],
)
def test_a_slot_that_is_no_field_would_be_lost_and_is_refused(value, slot):
    codec = Codec(allowed_by(value))
    with pytest.raises(UnsaveableValueError, match=rf"^state cannot be saved: .*'({slot})'"):
        codec.encode(value, "state")


def test_a_slot_without_a_value_is_no_loss():
    assert there_and_back(Order(3)) == Order(3)
    assert there_and_back(Parcel(3)) == Parcel(3)


@attrs.define
class Cached:
    x: int

    @functools.cached_property
    def doubled(self):
        return self.x * 2


def test_a_cached_property_in_a_slot_is_no_loss():
    value = Cached(2)
    assert value.doubled == 4
    assert there_and_back(value).doubled == 4


def also(base):
    return dataclasses.dataclass(type("Also", (base,), {"__annotations__": {"x": int}, "x": 0}))


@pytest.mark.parametrize(
    "base",
    [
        collections.deque, collections.Counter, collections.OrderedDict, io.BytesIO, io.StringIO,
        bytearray, random.Random, str, datetime,
    ],
)  # fmt: skip
def test_a_class_that_is_not_made_of_its_fields_alone_is_refused(base):
    cls = also(base)
    value = cls.__new__(cls, 2024, 1, 1) if base is datetime else cls.__new__(cls)
    codec = Codec(allowed_by(value))
    with pytest.raises(UnsaveableValueError, match="has no exact form"):
        codec.encode(value, "state")
    with pytest.raises(TypeError, match="`cls` must be"):
        register_type(cls)


def test_an_array_with_fields_is_refused():
    cls = also(array.array)
    with pytest.raises(UnsaveableValueError, match="has no exact form"):
        Codec(allowed_by(cls)).encode(cls.__new__(cls, "i", [1]), "state")


@attrs.define
class Db:
    host: str = "?"
    port: str = "?"

    def __getstate__(self):
        return self.host, self.port

    def __setstate__(self, state):
        self.host, self.port = state


@attrs.define
class Replica(Db):
    lag: float = 0.0


@attrs.define(slots=False)
class Dict:
    host: str = "?"

    def __getstate__(self):
        return self.host

    def __setstate__(self, state):
        self.host = state


@dataclasses.dataclass
class Data:
    host: str = "?"

    def __reduce__(self):
        return Data, ()

    def __setstate__(self, state):
        self.host = state


@pytest.mark.parametrize(
    "value", [Db("db", "5432"), Replica("db", "5432", 0.5), Dict("db"), Data("db")]
)
def test_pickling_methods_of_a_class_change_nothing(value):
    assert there_and_back(value) == value


@attrs.define(unsafe_hash=True, cache_hash=True)
class HashedDb:
    host: str = "?"

    def __getstate__(self):
        return self.host

    def __setstate__(self, state):
        raise AssertionError("never called")


def test_a_hash_that_is_kept_is_computed_anew_beside_pickling_methods():
    assert hash(there_and_back(HashedDb("db"))) == hash(HashedDb("db"))


# Exceptions are results of steps, or values, if their args build them as they are.


class Declined(Exception):
    def __init__(self, card, reason):
        super().__init__(f"{card}: {reason}")


class Coded(Exception):
    def __init__(self, message="", *, code=0):
        super().__init__(message)
        self.code = code


class Slots(Exception):
    __slots__ = ("code",)


class Numbered(Exception):
    numbers = iter(range(100))

    def __init__(self, *args):
        super().__init__(*args)
        self.number = next(self.numbers)


class Contrary(Exception):
    def __eq__(self, other):
        raise RuntimeError("never equal")

    __hash__ = Exception.__hash__


class Derived(Exception):
    """Everything beside its args follows from them."""

    def __init__(self, rows):
        super().__init__(rows)
        self.rows = rows
        self.first = rows[0]
        self.handler = print


@attrs.define
class Attrs(Exception):
    code: int = 0


def with_attribute(error, **attributes):
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def raised_by(fn):
    try:
        fn()
    except Exception as error:  # noqa: BLE001 - whatever Python raises
        return error


LOSSY = {
    "a constructor of its own": lambda: Declined("4711", "limit"),
    "an attribute that was set": lambda: with_attribute(ValueError("x"), code=7),
    "an attribute of another value": lambda: with_attribute(Derived([1, 2]), first=2),
    "an attribute of another type": lambda: with_attribute(Derived([1, 2]), first=True),
    "a keyword argument": lambda: Coded("x", code=7),
    "a slot": lambda: with_attribute(Slots("x"), code=7),
    "a name of Python's": lambda: ImportError("x", name="module"),
    "a path of Python's": lambda: ImportError("x", path="/module.py"),
    "a module that is not there": lambda: raised_by(lambda: __import__("no_such_module")),
    "an attribute that is not there": lambda: raised_by(lambda: (1).no_such),
    "an object": lambda: with_attribute(ValueError("x"), request=object()),
    "a number of its own": lambda: Numbered("x"),
    "written characters": lambda: with_attribute(OSError(2, "x"), characters_written=3),
    "a note that is no text": lambda: with_attribute(ValueError("x"), __notes__=[1, "note"]),
    "an attribute of an exception in it": lambda: ExceptionGroup("x", [Coded("y", code=7)]),
    "a field that was changed": lambda: with_attribute(Attrs(1), code=2),
}  # fmt: skip

KEPT = {
    "args": lambda: ValueError("x", 1, (2, 3)),
    "a file": lambda: FileNotFoundError(2, "No such file", "f"),
    "two files": lambda: OSError(2, "No such file", "f", None, "g"),
    "a file that was named later": lambda: with_attribute(OSError(2, "x"), filename="f"),
    "a number of the system's": lambda: OSError(2, "No such file"),
    "written characters": lambda: BlockingIOError(11, "x", 3),
    "bytes that are no text": lambda: raised_by(b"\xff".decode),
    "a syntax error": lambda: SyntaxError("x", ("f", 1, 2, "text", 1, 3)),
    "what follows from its args": lambda: Derived([1, 2]),
    "a keyword argument at its default": lambda: Coded("x"),
    "empty slots": lambda: Slots("x"),
    "a class that is never equal": lambda: Contrary("x"),
    "notes": lambda: with_attribute(ValueError("x"), __notes__=["one", "two"]),
    "a group": lambda: ExceptionGroup("x", [ValueError("y")]),
    "fields": lambda: Attrs(7),
}


def all_of(error):
    """What is known of an exception, without what only this process can know."""
    names = [name for name in dir(error) if not name.startswith("__") or name == "__notes__"]
    values = {name: getattr(error, name, None) for name in names}
    parts = [all_of(each) for each in getattr(error, "exceptions", ())]
    return type(error), repr({n: v for n, v in values.items() if not callable(v)}), parts


@pytest.mark.usefixtures("nothing_registered")
@pytest.mark.parametrize("make", KEPT.values(), ids=KEPT)
def test_an_exception_that_its_args_build_is_raised_again_as_it_was(runner, store, make):
    error, raised = make(), []
    for cls in (type(error), ValueError, OSError):
        register_type(cls)
    calls = Faults([error], then="charged twice")

    async def body(cp):
        try:
            await cp.step("charge", calls)
        except type(error) as same:
            raised.append(all_of(same))
            if not cp.resumed:
                raise OopsError from None

    job = runner.job(body, store=store)
    with pytest.raises(OopsError):
        job()
    job()
    assert raised[0] == raised[1]
    assert len(calls.calls) == 1


@pytest.mark.usefixtures("nothing_registered")
@pytest.mark.parametrize("make", LOSSY.values(), ids=LOSSY)
def test_an_exception_that_would_lose_something_is_raised_as_it_is_and_its_step_runs_again(
    runner, store, caplog, make
):
    errors, raised = [make() for _ in range(4)], []
    cls = type(errors[0])
    register_type(cls)
    register_type(Coded)
    calls = Faults(errors, then="charged")

    async def body(cp):
        for name in ("first", "second"):
            try:
                await cp.step(name, calls)
            except cls as error:
                raised.append(error)
        if not cp.resumed:
            raise OopsError
        return await cp.step("third", calls)

    job = runner.job(body, store=store)
    with caplog.at_level(logging.WARNING, "mainstay.checkpoint"):
        with pytest.raises(OopsError):
            job()
        assert job() == "charged"
    assert [*map(id, raised)] == [*map(id, errors)]
    assert len(calls.calls) == 5
    [record] = [each for each in caplog.records if "exception" in each.message]
    assert f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.") in record.message


@pytest.mark.usefixtures("nothing_registered")
def test_an_exception_that_would_lose_something_is_refused_as_a_value(store):
    register_type(Coded)
    with pytest.raises(UnsaveableValueError, match=r"^state\['last'\] cannot be saved"):
        checkpointed_state(store, {"last": Coded("x", code=7)})


def checkpointed_state(store, value):
    with checkpoint_run("key", store=store) as cp:
        cp.state(value)


@pytest.mark.usefixtures("nothing_registered")
def test_a_value_of_pythons_own_that_its_args_do_not_have_is_refused():
    register_type(StopIteration)
    with pytest.raises(UnsaveableValueError, match="with the same 'value'"):
        Codec(allowed_by()).encode(with_attribute(StopIteration(1), value=2), "state")
