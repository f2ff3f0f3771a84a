"""Digests of items and arguments, which are the same in every process.

`hash()` differs from process to process. So an item is identified by the `repr` of its key, and
keys are limited to types whose `repr` is the same everywhere. Sets are sorted, dicts keep their
order.
"""

import hashlib
import math
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from mainstay._checkpoint.codec import Codec, Json, to_bytes
from mainstay.errors import UnsaveableValueError

_KEYS = frozenset({
    str, int, float, bool, bytes, type(None), UUID, datetime, date, time, timedelta, Decimal,
})  # fmt: skip

_WITH_NAN = frozenset({float, Decimal})

ITEMS = Codec(None, advice="give `key=`, or iterate over plain values")
ARGUMENTS = Codec(None, advice="give `key=`, or pass plain values")


def value_digest(value: object, root: str, codec: Codec) -> str:
    """Return 32 hexadecimal digits that *value* is known by; those of other types have others.

    Raises:
        UnsaveableValueError: If *value* has no exact form; *root* begins the path to why, and
            *codec* says what to do about it.
    """
    return digest(to_bytes(_ordered(codec.encode(value, root))))


def item_digest(key: object) -> str:
    """Return 32 hexadecimal digits that an item with that key is known by."""
    return digest(repr(key).encode())


def digest(*parts: bytes) -> str:
    """Return 32 hexadecimal digits for *parts*; other digits if they are split elsewhere."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.hexdigest()


def is_same_key(one: object, other: object) -> bool:
    """True if two keys are one: not the two 02:00 of a clock change, nor 1 and True."""
    return one is other or item_digest(one) == item_digest(other)


def check_keys(keys: Iterable[Any], iteration: str) -> set[type]:
    """Return the types of keys; raise if the `repr` of one may differ in another process.

    Raises:
        UnsaveableValueError: If one of *keys* is not of a type that is accepted, or is NaN.
    """
    kinds = {*map(type, keys)}
    if not kinds.isdisjoint(_WITH_NAN) and any(map(_is_nan, keys)):
        raise UnsaveableValueError(
            f"a key of iteration {iteration!r}",
            "NaN is not equal to itself, and tells no item from another; give a `key` that does",
        )
    if kinds <= _KEYS:
        return kinds
    if tuple in kinds:
        check_keys([part for key in keys if type(key) is tuple for part in key], iteration)
    for kind in kinds - _KEYS - {tuple}:
        raise UnsaveableValueError(
            f"a key of iteration {iteration!r}",
            f"keys are str, int, float, bool, bytes, None, UUID, date, time, datetime, timedelta, "
            f"Decimal, or tuples of these, not {kind.__qualname__}",
        )
    return kinds


def _is_nan(key: object) -> bool:
    return key.is_nan() if type(key) is Decimal else type(key) is float and math.isnan(key)


def _ordered(saved: Json) -> Json:
    """Put the items of sets and dicts in an order that depends on nothing but what they are."""
    if type(saved) is list:
        return [_ordered(item) for item in saved]
    if type(saved) is not dict:
        return saved
    ordered = {key: _ordered(saved[key]) for key in sorted(saved)}
    if ordered.get("$") in ("set", "frozenset", "dict"):
        ordered["v"] = sorted(ordered["v"], key=to_bytes)
    return ordered
