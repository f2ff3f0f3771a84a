"""Statements with named parameters, and how values travel: all of them in binary.

A statement is written with `:name` for each parameter, whose type `PARAMETERS` knows. So the text
of a statement and what is bound to it cannot come apart, and neither side parses numbers.
"""

import re
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import attrs

Values: TypeAlias = Mapping[str, Any]
Row: TypeAlias = tuple[Any, ...]

BOOL, BYTEA, INT8, TEXT, FLOAT8 = 16, 17, 20, 25, 701
INT8_ARRAY, BYTEA_ARRAY = 1016, 1001

_BINARY = 1
_HEADER = struct.Struct(">iiIii")  # dimensions, whether NULL is inside, type, length, lower bound
_LENGTH = struct.Struct(">i")
_int8, _float8 = struct.Struct(">q"), struct.Struct(">d")
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")

PARAMETERS = {
    "above": INT8, "after": INT8, "after_key": TEXT, "after_name": TEXT, "after_result": INT8,
    "arguments": BYTEA,
    "attempt": INT8,
    "began": BOOL, "below": INT8, "boot": TEXT, "channel": TEXT, "crashes": INT8, "created": FLOAT8,
    "document": BYTEA, "drops": INT8_ARRAY, "error": TEXT, "exit": TEXT, "expires": FLOAT8,
    "fresh": FLOAT8, "grants": BYTEA_ARRAY, "granted": TEXT, "host": TEXT, "key": TEXT,
    "keys": BYTEA_ARRAY, "lease": FLOAT8, "life": TEXT, "limit": INT8, "lock": INT8, "name": TEXT,
    "names": BYTEA_ARRAY, "namespace": TEXT, "now": FLOAT8, "number": INT8, "numbers": INT8_ARRAY,
    "offset": INT8, "payload": TEXT, "pid": INT8, "saved": FLOAT8, "seconds": FLOAT8,
    "seen": FLOAT8, "sequence": INT8, "session": INT8, "since": FLOAT8, "slot": BYTEA,
    "slots": BYTEA_ARRAY, "started": INT8, "status": TEXT, "token": INT8, "tokens": INT8_ARRAY,
    "updated": FLOAT8, "value": BYTEA, "values": BYTEA_ARRAY, "was_expires": FLOAT8,
    "was_granted": TEXT, "was_seen": FLOAT8, "was_sequence": INT8, "was_status": TEXT,
    "was_token": INT8, "leases": BYTEA_ARRAY,
}  # fmt: skip
"""The types of all parameters, by their names."""


def _bool(value: bool) -> bytes:  # noqa: FBT001 - one of the encoders
    return b"\1" if value else b"\0"


def _array(element: int, parts: Iterable[bytes]) -> bytes:
    found = [*parts]
    if not found:
        return _HEADER.pack(0, 0, element, 0, 0)[:12]
    pieces = [_HEADER.pack(1, 0, element, len(found), 1)]
    for part in found:
        pieces += _LENGTH.pack(len(part)), part
    return b"".join(pieces)


_ENCODERS: Mapping[int, Callable[[Any], bytes]] = {
    BOOL: _bool,
    BYTEA: bytes,
    INT8: _int8.pack,
    TEXT: str.encode,
    FLOAT8: _float8.pack,
    INT8_ARRAY: lambda values: _array(INT8, map(_int8.pack, values)),
    BYTEA_ARRAY: lambda values: _array(BYTEA, values),
}

DECODERS: Mapping[int, Callable[[bytes], Any]] = {
    BOOL: lambda value: value == b"\1",
    BYTEA: bytes,
    INT8: lambda value: _int8.unpack(value)[0],
    TEXT: bytes.decode,
    FLOAT8: lambda value: _float8.unpack(value)[0],
}
"""What a value of an answer means, by its type: statements cast all others to these."""


@attrs.define(eq=False)
class Statement:
    """A statement as it is sent.

    Attributes:
        text: The text, with `$1` and so on.
        name: What a session calls it once it is prepared.
        types: The types of the parameters.
        formats: That all are binary.
    """

    text: bytes
    name: bytes
    types: tuple[int, ...]
    formats: tuple[int, ...]
    _encoders: tuple[tuple[str, Callable[[Any], bytes]], ...]

    def bound(self, values: Values) -> "Bound":
        """Return the statement with its values."""
        return Bound(
            self,
            [
                None if (value := values[name]) is None else encode(value)
                for name, encode in self._encoders
            ],
        )


@attrs.define(eq=False)
class Bound:
    """A statement with its values."""

    statement: Statement
    values: list[bytes | None]


@attrs.define(eq=False)
class Reply:
    """What a statement answered.

    Attributes:
        rows: The rows, decoded.
        count: How many rows the statement was about.
    """

    rows: list[Row]
    count: int


def parsed(name: str, text: str) -> Statement:
    """Return the statement that *text* is."""
    names = [*dict.fromkeys(_PARAMETER.findall(text))]
    numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text)
    types = tuple(PARAMETERS[each] for each in names)
    encoders = tuple((each, _ENCODERS[PARAMETERS[each]]) for each in names)
    text = " ".join(numbered.split())
    return Statement(
        text.encode(), f"mainstay_{name}".encode(), types, (_BINARY,) * len(types), encoders
    )
