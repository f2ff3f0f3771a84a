"""Types and strategies that the tests of the codec use."""

import enum
import math
from dataclasses import dataclass, field
from datetime import timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import attrs
from hypothesis import strategies as st


class Paint(enum.Enum):
    RED = 1
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


@attrs.frozen
class Point:
    x: float
    _hidden: int = 0
    doubled: float = attrs.field(init=False)

    @doubled.default
    def _doubled(self):
        return self.x * 2


@dataclass
class Shape:
    name: str
    points: list[Point]
    paint: Paint = Paint.RED
    area: float = field(init=False, default=0.0)


@dataclass(frozen=True, slots=True)
class Frozen:
    value: object


@attrs.define
class Totals:
    rows: int = 0
    amount: int = 0


ZONES = st.one_of(
    st.none(),
    st.sampled_from([ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")]),
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone),
)
POINTS = st.builds(Point, st.floats(allow_nan=False), st.integers())
KEYS = st.one_of(
    st.text(),
    st.integers(),
    st.floats(allow_nan=False),
    st.booleans(),
    st.binary(max_size=8),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=st.just(None) | ZONES),
    st.decimals(allow_nan=False),
    st.timedeltas(),
)
SCALARS = st.one_of(
    KEYS,
    st.none(),
    st.times(
        timezones=st.none() | st.timedeltas(timedelta(hours=-9), timedelta(hours=9)).map(timezone)
    ),
    st.complex_numbers(allow_nan=False),
    st.sampled_from([math.inf, -math.inf, -0.0, 10**4000, -(10**4000)]),
    st.sampled_from([*Paint, *Level, *Access, Access.READ | Access.WRITE, Access(0)]),
    st.text(st.characters(blacklist_characters="\0"), min_size=1).map(Path),
    POINTS,
    st.builds(Shape, st.text(), st.lists(POINTS, max_size=2), st.sampled_from(Paint)),
)
HASHABLE = st.one_of(KEYS, st.tuples(KEYS, KEYS), st.frozensets(KEYS, max_size=2))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.sets(HASHABLE, max_size=3),
        st.frozensets(HASHABLE, max_size=3),
        st.dictionaries(st.text(max_size=4) | st.just("$"), inner, max_size=3),
        st.dictionaries(HASHABLE, inner, max_size=3),
        inner.map(Frozen),
    ),
    max_leaves=10,
)
TYPES = (Paint, Level, Access, Point, Shape, Frozen, Totals)
