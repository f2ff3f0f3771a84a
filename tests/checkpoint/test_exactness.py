"""What comes back is what was saved, or it was refused while saving, or it is told why it cannot.

What the examples of the other tests of the codec do not come to by themselves.
"""

import datetime as dt
import enum
from fractions import Fraction
from zoneinfo import ZoneInfo

import attrs
import pytest

from mainstay import checkpointed, register_type
from mainstay._checkpoint.codec import Codec, plain, to_bytes
from mainstay._checkpoint.shape import parsed
from mainstay._checkpoint.types import allowed_by
from mainstay.errors import CodeChangedError, UnknownTypeError, UnsaveableValueError
from support.checkpoints import OopsError

pytestmark = pytest.mark.usefixtures("nothing_registered")


@attrs.frozen
class Node:
    below: object = None


class Side(enum.Enum):
    LEFT = 1


CODEC = Codec(allowed_by(Node, Side))
AROUND = [
    lambda value: [value],
    lambda value: {"a": value},
    lambda value: {1: value},
    lambda value: (value,),
    lambda value: frozenset({value}),
    Node,
]


def round_trip(value, codec=CODEC):
    return codec.decode(parsed(to_bytes(codec.encode(value, "value"))), "value")


def nested(around, depth):
    value = "end"
    for _ in range(depth):
        value = around(value)
    return value


def saved_if_it_can_be(around, depth):
    try:
        return to_bytes(CODEC.encode(nested(around, depth), "value"))
    except UnsaveableValueError as error:
        assert error.problem.startswith("it contains itself, or is nested too deep")  # noqa: PT017 - one of many
        return None


@pytest.mark.parametrize("around", AROUND)
def test_what_could_be_saved_can_be_read_however_deep_it_is(around):
    depth = 1
    while saved_if_it_can_be(around, depth * 2):
        depth *= 2
    step = depth
    while step := step // 2:
        depth += step if saved_if_it_can_be(around, depth + step) else 0
    value, depth_read = CODEC.decode(parsed(saved_if_it_can_be(around, depth)), "value"), 0
    while value != "end":
        value = inside(value)
        depth_read += 1
    assert depth_read == depth


def inside(value):
    if isinstance(value, Node):
        return value.below
    [part] = value.values() if isinstance(value, dict) else value
    return part


def test_halves_of_surrogate_pairs_do_not_become_a_pair():
    halves = "\ud800\udc00"
    for value in (halves, {halves: halves}, {"$": halves}, [halves + "\U00010000"]):
        assert round_trip(value) == value
    assert len(round_trip(halves)) == 2


def test_a_zone_of_ones_own_keeps_its_name():
    zone = dt.timezone(dt.timedelta(hours=1), "CET")
    for value in (dt.datetime(2024, 1, 1, tzinfo=zone), dt.time(3, tzinfo=zone)):
        assert repr(round_trip(value)) == repr(value)


def test_the_second_of_two_equal_hours_stays_the_second():
    zone = ZoneInfo("Europe/Berlin")
    for value in (dt.datetime(2024, 10, 27, 2, 30, tzinfo=zone, fold=1), dt.time(2, 30, fold=1)):
        assert repr(round_trip(value)) == repr(value)


class Coded(Exception):
    def __init__(self, code):
        super().__init__(f"code {code}")


class Plain(Exception):
    pass


def test_an_exception_that_its_args_would_build_otherwise_is_refused():
    register_type(Coded)
    with pytest.raises(UnsaveableValueError, match="its args would not build it again as it is"):
        CODEC.encode(Coded(5), "value")


def test_an_exception_with_an_attribute_that_would_be_lost_is_refused():
    register_type(Plain)
    error = Plain("a")
    error.add_note("a note is no loss")
    assert round_trip(error).args == ("a",)
    error.code = 5
    with pytest.raises(UnsaveableValueError, match="its args would not build it again as it is"):
        CODEC.encode(error, "value")


def test_an_os_error_keeps_its_file():
    register_type(FileNotFoundError)
    error = FileNotFoundError(2, "No such file", "rows.csv")
    assert str(round_trip(error)) == str(error)


# What cannot be read any more.


def test_a_zone_that_is_gone_is_told_by_its_path():
    saved = {"when": {"$": "datetime", "v": ["2024-01-01T00:00:00", 0, "Mars/Base"]}}
    with pytest.raises(UnsaveableValueError, match=r"state\['when'\].*cannot be read: .*Mars/Base"):
        CODEC.decode(saved, "state")


def test_what_was_pickled_of_a_class_that_is_gone_is_changed_code(runner, store, monkeypatch):
    async def body(cp, part=None):
        cp.state({"part": part})
        await cp.save()
        if part:
            raise OopsError

    monkeypatch.setitem(globals(), "Gone", type("Gone", (), {"__module__": __name__}))
    job = runner.job(body, store=store, allow_pickle=True)
    with pytest.raises(OopsError):
        job(globals()["Gone"]())
    monkeypatch.delitem(globals(), "Gone")
    with pytest.raises(CodeChangedError, match=r"state\['part'\]: its saved data cannot be"):
        job()


# Plain data, for migrations.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({Side.LEFT: 1}, {"LEFT": 1}),
        ({Node(1): 1, (Node(2), 3): 2}, {(("below", 1),): 1, ((("below", 2),), 3): 2}),
        ({frozenset({1}): 1}, {(1,): 1}),
        ([Node((Side.LEFT, {1}))], [{"below": ("LEFT", [1])}]),
    ],
)
def test_keys_of_plain_data_are_what_can_be_a_key(value, expected):
    assert plain(CODEC.encode(value, "state")) == expected


def test_plain_data_is_unpickled_where_that_is_allowed_and_told_where_it_is_not():
    saved = Codec(allowed_by(), allow_pickle=True).encode({"a": Fraction(1, 2)}, "state")
    assert plain(saved, allow_pickle=True) == {"a": Fraction(1, 2)}
    with pytest.raises(UnknownTypeError, match=r"state\['a'\]"):
        plain(saved)


def test_a_state_with_keys_of_ones_own_can_be_migrated(runner, store):
    async def body(cp, fail):
        state = cp.state({Side.LEFT: 1} if fail else {})
        await cp.save()
        if fail:
            raise OopsError
        return state

    def migrate(old):
        return {"left": old["LEFT"]}

    with pytest.raises(OopsError):
        runner.job(body, store=store)(True)
    job = runner.job(body, store=store, version="2", on_code_change=migrate)
    assert job(False) == {"left": 1}


def test_an_exception_of_a_step_that_would_come_back_otherwise_is_raised_anew(store):
    register_type(Coded)

    def charge():
        raise Coded(5)

    def body(cp):
        with pytest.raises(Coded, match=r"^code 5$"):
            cp.step("charge", charge)
        if not cp.resumed:
            raise OopsError

    job = checkpointed(store=store, key=lambda: "key")(body)
    with pytest.raises(OopsError):
        job()
    job()
