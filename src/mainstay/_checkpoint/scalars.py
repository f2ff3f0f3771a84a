"""The JSON form of built-in values without parts: the value itself, or an object with a tag."""

import base64
import math
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PosixPath, WindowsPath
from typing import Any, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

Json: TypeAlias = Any
"""What `json` reads and writes."""

TAG = "$"
ZONES = "use zoneinfo.ZoneInfo or datetime.timezone"
_HALVES = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LONGEST_INT = 10_000  # bits; `json` refuses to write and read ints far above it


class CodecError(Exception):
    """Tells why a value cannot be saved or rebuilt, and gathers its path on the way out."""

    def __init__(self, problem: str, cause: BaseException | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.cause = cause
        self._path: list[str] = []

    def within(self, part: str) -> "CodecError":
        """Add a part to the path: the error passes what is around the part before."""
        self._path.append(part)
        return self

    def path(self) -> str:
        """Return the path to the value, from where encoding or decoding began."""
        return "".join(reversed(self._path))


class NotAllowedError(CodecError):
    """The problem is the name of a type that may not be built."""


def _itself(value: Json) -> Json:
    return value


def is_plain(text: str) -> bool:
    """True if JSON returns *text* as it was: not if two halves of a surrogate pair meet in it."""
    return text.isascii() or not _HALVES.search(text)


def _encode_text(text: str) -> Json:
    return {TAG: "str", "v": base64.b85encode(text.encode("utf-8", "surrogatepass")).decode()}


def _encode_int(value: int) -> Json:
    return value if value.bit_length() < _LONGEST_INT else {TAG: "int", "v": hex(value)}


def _encode_float(value: float) -> Json:
    return value if math.isfinite(value) else {TAG: "float", "v": repr(value)}


def _encode_datetime(value: datetime | time) -> Json:
    """Encode the wall time, the fold, and the zone: by name, or as an offset."""
    tag = "datetime" if isinstance(value, datetime) else "time"
    zone = value.tzinfo
    if zone is None:
        place: Json = None
    elif isinstance(zone, ZoneInfo) and zone.key is not None:
        place = zone.key
    elif type(zone) is timezone and zone == timezone(offset := zone.utcoffset(None)):
        place = offset / timedelta(microseconds=1)
        if (name := zone.tzname(None)) != timezone(offset).tzname(None):
            place = [place, name]
    else:
        raise CodecError(f"its time zone {zone!r} has no name or offset to save; {ZONES}")
    return {TAG: tag, "v": [value.replace(tzinfo=None).isoformat(), value.fold, place]}


def _decode_datetime(kind: Any, body: Json) -> Any:
    text, fold, place = body
    zone: tzinfo | None = None
    if isinstance(place, str):
        zone = ZoneInfo(place)
    elif place is not None:
        offset, *name = place if isinstance(place, list) else [place]
        zone = timezone(timedelta(microseconds=offset), *name)
    return kind.fromisoformat(text).replace(tzinfo=zone, fold=fold)


SCALAR_ENCODERS: dict[type, Callable[[Any], Json]] = {
    type(None): _itself,
    bool: _itself,
    str: lambda value: value if is_plain(value) else _encode_text(value),
    int: _encode_int,
    float: _encode_float,
    bytes: lambda value: {TAG: "bytes", "v": base64.b85encode(value).decode()},
    Decimal: lambda value: {TAG: "decimal", "v": str(value)},
    UUID: lambda value: {TAG: "uuid", "v": value.hex},
    PosixPath: lambda value: {TAG: "path", "v": str(value)},
    WindowsPath: lambda value: {TAG: "path", "v": str(value)},
    date: lambda value: {TAG: "date", "v": value.isoformat()},
    time: _encode_datetime,
    datetime: _encode_datetime,
    timedelta: lambda value: {
        TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds],
    },
}  # fmt: skip

SCALAR_DECODERS: dict[str, Callable[[Json], Any]] = {
    "int": lambda body: int(body, 16),
    "float": float,
    "str": lambda body: base64.b85decode(body).decode("utf-8", "surrogatepass"),
    "bytes": base64.b85decode,
    "decimal": Decimal,
    "uuid": lambda body: UUID(hex=body),
    "path": Path,
    "date": date.fromisoformat,
    "time": lambda body: _decode_datetime(time, body),
    "datetime": lambda body: _decode_datetime(datetime, body),
    "timedelta": lambda body: timedelta(*body),
}
