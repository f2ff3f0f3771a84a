"""Keys of items: which may be told apart, in every process alike, and which neighbours are two."""

import copy
import datetime as dt
import itertools
import math
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from mainstay._checkpoint.key_digest import KeyDigest
from mainstay._checkpoint.value_digest import item_digest
from mainstay.errors import SourceChangedError, UnsaveableValueError
from support.checkpoints import OopsError

BERLIN = ZoneInfo("Europe/Berlin")
NAN = math.nan

NO_KEYS = {
    "a float": NAN,
    "a decimal": Decimal("NaN"),
    "a decimal with a payload": Decimal("NaN123"),
    "a signalling decimal": Decimal("sNaN"),
    "in a tuple": (1, NAN),
    "in a tuple in a tuple": (1, ("a", Decimal("NaN"))),
}


@pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_not_equal_to_itself_is_no_key(runner, store, key):
    """Three payments without a number had one idempotency key, and two were not made."""

    async def body(cp, ask):
        async for _ in cp.iterate([100, 200], key=lambda _: key):
            if ask:
                cp.idempotency_key()

    for ask in (True, False):
        with pytest.raises(UnsaveableValueError, match="NaN"):
            runner.job(body, store=store)(ask)


TWO = {
    "the two 02:00 of a clock change": (
        dt.datetime(2024, 10, 27, 2, tzinfo=BERLIN),
        dt.datetime(2024, 10, 27, 2, tzinfo=BERLIN, fold=1),
    ),
    "without a zone": (dt.time(2), dt.time(2, fold=1)),
    "one moment in two zones": (
        dt.datetime(2024, 1, 1, 1, tzinfo=BERLIN),
        dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    ),
    "1 and True": (1, True),
    "1 and 1.0": (1, 1.0),
    "two zeros": (0.0, -0.0),
    "decimals of two lengths": (Decimal("1.0"), Decimal("1.00")),
    "in tuples": ((1, "a"), (True, "a")),
}


@pytest.mark.parametrize("stop", [0, 1, 2])
@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("keys", TWO.values(), ids=TWO)
def test_equal_neighbours_that_are_told_apart_are_two(runner, store, keys, trusted, stop):
    seen, idempotency = [], set()

    def after(last):
        at = next((i for i, key in enumerate(keys) if repr(key) == repr(last)), -1)
        return keys[at + 1 :]

    async def body(cp, fail_at=None):
        async for position, key in numbered(cp.iterate(after if trusted else keys, lambda k: k)):
            if position == fail_at:
                raise OopsError
            seen.append(repr(key))
            idempotency.add(cp.idempotency_key())

    async def numbered(items):
        numbers = itertools.count()
        async for item in items:
            yield next(numbers), item

    if stop < 2:
        with pytest.raises(OopsError):
            runner.job(body, store=store)(stop)
    runner.job(body, store=store)()
    assert seen == [*map(repr, keys)]
    assert len(idempotency) == 2


@pytest.mark.parametrize("key", [1, "a", (1, "b"), dt.time(2), Decimal("1.0"), None])
def test_the_same_key_twice_is_refused_however_it_was_made(runner, store, key):
    async def body(cp):
        async for _ in cp.iterate([key, copy.deepcopy(key)], lambda k: k):
            pass

    with pytest.raises(SourceChangedError, match="have the same key"):
        runner.job(body, store=store)()


def test_digests_are_what_they_were():
    """Those that today's stores hold are to be found again."""
    keys = [1, True, 0.5, "a", b"b", None, (1, ("c", None)), -(2**70), Decimal("1.00"),
            dt.datetime(2024, 10, 27, 2, tzinfo=BERLIN, fold=1), dt.timedelta(1)]  # fmt: skip
    digest = KeyDigest()
    digest.add(keys, {*map(type, keys)})
    assert digest.digest() == "71cd6d3a62ba5c0cb77d2a2b2a4fcc10"
    assert item_digest(keys[9]) == "73973224d0465710c051689272e8572e"
