"""The shape of saved data, checked before values are built from it.

A checksum detects accidental changes. But a writer with access to the store, or a faulty program,
can write any data with a correct checksum. The checks here handle all of it, however deep, large or
odd: nothing is recursive, and no type is built.
"""

import json
import re
import zlib
from collections.abc import Callable, Container, Iterable
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

from mainstay._checkpoint.scalars import SCALAR_DECODERS, TAG, Json

MOST_BYTES = 2**28
"""How long what is saved at once may be as JSON, before it is compressed."""

_MOST_LEVELS = 1_000
MOST_INNER = 100
"""How many iterations may be inside each other."""

MOST_ABOVE = 2**20
"""How far beyond the first item that is not done items may be done."""

_NONE_ABOVE = ["0", "0"]
_DIGITS = re.compile(f"[0-9a-f]{{1,{MOST_ABOVE // 4}}}")

_PLAIN = frozenset({str, int, float, bool, type(None)})
_MOST = 2**63
_TAGS_OF_KEYS = frozenset({*SCALAR_DECODERS, "tuple", "frozenset"})
_UNHASHABLE = frozenset({"set", "dict", "ordereddict", "counter", "defaultdict", "deque"})


class DamagedError(Exception):
    """The bytes are not what was sealed; the message says in what way."""


def inflated(body: bytes) -> bytes:
    """Return what was compressed.

    Raises:
        DamagedError: If nothing was, or more than is ever saved.
    """
    inflate = zlib.decompressobj()
    try:
        whole = inflate.decompress(body, MOST_BYTES)
    except zlib.error as error:
        raise DamagedError(f"it cannot be decompressed: {error}") from None
    if not inflate.eof or inflate.unused_data:
        raise DamagedError(f"it is cut off, or longer than {MOST_BYTES} bytes")
    return whole


def parsed(body: bytes) -> Json:
    """Return the JSON that bytes hold.

    Raises:
        DamagedError: If they hold none.
    """
    try:
        return json.loads(body.decode())
    except ValueError as error:
        raise DamagedError(f"it is not JSON: {error}") from None
    except RecursionError:
        raise DamagedError("it is nested deeper than anything that is saved") from None


def check_document(tree: Json) -> None:
    """Check what a save writes.

    Raises:
        DamagedError: If it cannot be that.
    """
    _expect(type(tree) is dict, "it is no document")
    code = tree.get("code")
    _expect(type(code) is list and [*map(type, code)] == [str, str], "`code` is no pair of texts")
    _expect(_is_number(tree.get("seconds"), int, float), "`seconds` is no number from 0 up")
    _expect(_is_number(tree.get("items"), int), "`items` is no number from 0 up")
    check_cursors(tree.get("cursors"))
    for name in ("state", "result"):
        if name in tree:
            check_value(tree[name])


def check_cursors(cursors: Json) -> None:
    """Check the cursors of the iterations of a place.

    Raises:
        DamagedError: If they cannot be that.
    """
    left: list[tuple[Json, int]] = [(cursors, 0)]
    cursor: Json
    while left:
        here, depth = left.pop()
        _expect(type(here) is dict and depth < MOST_INNER, "the cursors are none")
        for cursor in here.values():
            _expect(type(cursor) is dict, "a cursor is none")
            kinds = type(cursor.get("digest")), type(cursor.get("closed")), type(cursor.get("at"))
            _expect(kinds == (str, bool, str), "a cursor has no `digest`, `closed` or `at`")
            _expect(_is_number(cursor.get("count"), int), "the `count` of a cursor is no number")
            last = cursor.get("last")
            _expect(type(last) is list and len(last) <= 1, "the `last` of a cursor is no key")
            check_value({TAG: "frozenset", "v": last}, tags=_TAGS_OF_KEYS)
            _expect(_is_number(cursor.get("position", 0), int), "a `position` is no number")
            above = cursor.get("above", _NONE_ABOVE)
            _expect(type(above) is list and [*map(type, above)] == [str, str], "no pair is `above`")
            _expect(all(map(_DIGITS.fullmatch, above)), "what is `above` are no digits")
            left.append((cursor.get("inner"), depth + 1))


def check_result(tree: Json) -> None:
    """Check the result of a step: a value, or an exception that was raised.

    Raises:
        DamagedError: If it cannot be that.
    """
    if type(tree) is dict and tree.get(TAG) == "raised":
        tree = tree.get("v")
        _expect(type(tree) is dict and tree.get(TAG) == "error", "it is no exception")
    check_value(tree)


def check_arguments(tree: Json) -> None:
    """Check the arguments of a call: a list of them, and a dict of those with names.

    Raises:
        DamagedError: If they cannot be that.
    """
    pair = type(tree) is list and [*map(type, tree)] == [list, dict]
    _expect(pair and tree[1].get(TAG, "dict") == "dict", "they are no arguments")
    check_value(tree)


def check_value(tree: Json, tags: Container[str] | None = None) -> None:
    """Check a value.

    Args:
        tree: The value, as JSON.
        tags: The tags that may be in it; None for all.

    Raises:
        DamagedError: If it cannot be one.
    """
    left = [(tree, 0, False)]
    while left:
        node, depth, hashed = left.pop()
        kind = type(node)
        if kind in _PLAIN:
            continue
        _expect(depth < _MOST_LEVELS, "it is nested deeper than anything that is saved")
        if kind is dict and TAG in node:
            tag = node[TAG]
            if type(tag) is not str or tag not in (_PARTS if tags is None else tags):
                raise DamagedError(f"there is no tag {tag!r:.60}")
            _expect(not (hashed and tag in _UNHASHABLE), "a set, dict or deque is no key")
            parts, hashed = _PARTS[tag](node), tag in _HASHING or (hashed and tag == "tuple")
        else:
            _expect(not hashed, "a list or dict is no key")
            parts = node if kind is list else node.values()
        left += [(part, depth + 1, hashed) for part in parts if type(part) not in _PLAIN]


def _expect(right: bool, problem: str) -> None:  # noqa: FBT001 - as `assert`
    if not right:
        raise DamagedError(problem)


def _is_number(value: object, *kinds: type) -> bool:
    if type(value) not in kinds:
        return False
    number: Any = value
    return bool(0 <= number < _MOST)


def _scalar(node: Json) -> Iterable[Json]:
    try:
        SCALAR_DECODERS[node[TAG]](node["v"])
    except ZoneInfoNotFoundError:  # the time zone existed where the value was saved
        pass
    except Exception as error:  # noqa: BLE001 - whatever a constructor makes of anything
        raise DamagedError(f"{node!r:.60} is not a {node[TAG]}: {error!r:.200}") from None
    return ()


def _row(node: Json) -> list[Json]:
    body: list[Json] = node.get("v")
    _expect(type(body) is list, f"a {node[TAG]} has no items")
    return body


def _complex(node: Json) -> Iterable[Json]:
    body = _row(node)
    _expect(len(body) == 2, "a complex number has two parts")  # noqa: PLR2004 - it says so
    for part in body:
        is_float = type(part) is dict and part.get(TAG) == "float"
        _expect(is_float or type(part) in (int, float), "a complex number has two numbers")
    return body


def _deque(node: Json) -> Iterable[Json]:
    body, most = _row(node), node.get("m", -1)
    fits = most is None or (_is_number(most, int) and len(body) <= most)
    _expect(fits, "a deque has a length below its own")
    return body


def _error(node: Json) -> Iterable[Json]:
    notes = node.get("n", [])
    texts = type(notes) is list and all(type(note) is str for note in notes)
    _expect(texts, "an exception has notes that are no texts")
    return _row(_of_type(node))


def _pairs(node: Json) -> Iterable[Json]:
    """Return the keys, as parts of something whose parts can be keys, and the values."""
    pairs = _row(node)
    for pair in pairs:
        _expect(type(pair) is list and len(pair) == 2, "a dict has no pairs")  # noqa: PLR2004 - a pair
    return [{TAG: "frozenset", "v": [key for key, _ in pairs]}, *(value for _, value in pairs)]


def _filled(node: Json) -> Iterable[Json]:
    body = node.get("v")
    _expect(type(body) is dict and body.get(TAG, "dict") == "dict", f"a {node[TAG]} has no dict")
    _expect(type(node.get("f", "")) is str, "a default factory has no name")
    _expect(node[TAG] != "defaultdict" or "f" in node, "a default dict has no factory")
    return (body,)


def _object(node: Json) -> Iterable[Json]:
    body = _of_type(node).get("v")
    _expect(type(body) is dict, "an object has no fields")
    return body.values()  # type: ignore[no-any-return]  # as JSON says


def _flag(node: Json) -> Iterable[Json]:
    _expect("v" in _of_type(node), "a flag has no value")
    return (node["v"],)


def _named(node: Json) -> Iterable[Json]:
    _expect(type(node.get("v")) is str, f"a {node[TAG]} has no text")
    return ()


def _of_type(node: Json) -> Json:
    _expect(type(node.get("t")) is str, f"an {node[TAG]} has no type")
    return node


_HASHING = frozenset({"set", "frozenset"})
"""What has only parts that can be keys of a dict."""

_PARTS: dict[str, Callable[[Json], Iterable[Json]]] = {
    **dict.fromkeys(SCALAR_DECODERS, _scalar),
    **dict.fromkeys(("tuple", "set", "frozenset"), _row),
    "complex": _complex,
    "deque": _deque,
    "dict": _pairs,
    "ordereddict": _pairs,
    "counter": _filled,
    "defaultdict": _filled,
    "object": _object,
    "enum": lambda node: _named(_of_type(node)),
    "flag": _flag,
    "error": _error,
    "pickle": _named,
}
"""From a tag to what is checked of it at once, and its parts, which are checked afterwards."""
