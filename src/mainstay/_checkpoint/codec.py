"""Values as JSON, exactly: what is read back equals what was saved, types included, or is refused.

Plain JSON values are themselves. Everything else is an object with a tag:

    {"$": tag, "v": ...}                  a value of a built-in type
    {"$": "object", "t": type, "v": {}}   attrs and dataclass instances, field by field
    {"$": "enum", "t": type, "v": name}
    {"$": "error", "t": type, "v": []}    exceptions of registered types
    {"$": "dict", "v": [[key, value]]}    dicts with keys that are not str, or with a key "$"
    {"$": "raised", "v": exception}       what a step raised, in place of what it returned

Subclasses of built-in types are refused, since what they add would be lost without a word. So are
types that nobody allowed (see `types`): on saving already, because later is too late.

The path to a value is put together only while an error is on its way out.
"""

import base64
import enum
import functools
import json
import math
import pickle  # only ever used where the user said `allow_pickle=True`
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PosixPath, WindowsPath
from typing import Any, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs

from mainstay._checkpoint.fields import built, extra_attribute, field_names
from mainstay._checkpoint.types import Allowed, allowed_by_result, is_buildable
from mainstay._core.callables import name_of
from mainstay.errors import UnknownTypeError, UnsaveableValueError

Json: TypeAlias = Any
"""What `json` takes and gives."""

_TAG = "$"
_ZONES = "use zoneinfo.ZoneInfo or datetime.timezone"
_LONGEST_INT = 10_000  # bits; `json` refuses to write and read ints far above it


@attrs.frozen
class Codec:
    """How the values of one place are saved.

    Attributes:
        allowed: The types that may be built; None to save any, for what is never read back.
        allow_pickle: Whether what cannot be saved otherwise is pickled.
    """

    allowed: Allowed | None
    allow_pickle: bool = False

    def encode(self, value: object, root: str) -> Json:
        """Turn *value* into JSON.

        Raises:
            UnsaveableValueError: If something in it cannot be saved. *root* begins its path.
        """
        try:
            return self._encode(value)
        except _RefusedError as refused:
            raise UnsaveableValueError(root + refused.path(), refused.problem) from refused.cause
        except RecursionError:
            raise UnsaveableValueError(
                root,
                "it contains itself, or is nested too deep; save keys in place of references",
            ) from None

    def decode(self, saved: Json, root: str) -> Any:
        """Turn JSON back into the value.

        Raises:
            UnknownTypeError: If it names a type that may not be built.
            UnsaveableValueError: If a type no longer takes what was saved of it.
        """
        try:
            return self.rebuild(saved)
        except _UnknownError as unknown:
            raise UnknownTypeError(root + unknown.path(), unknown.problem) from None
        except _RefusedError as refused:
            raise UnsaveableValueError(root + refused.path(), refused.problem) from refused.cause

    def _encode(self, value: object) -> Json:
        encode = _ENCODERS.get(type(value))
        if encode is not None:
            return encode(self, value)
        cls = type(value)
        if issubclass(cls, tzinfo):
            raise _RefusedError(f"{cls.__qualname__} is no zone that can be saved; {_ZONES}")
        if is_buildable(cls) or (isinstance(value, Exception) and self._knows(cls)):
            if self._knows(cls):
                return self._encode_object(value, cls)
            if not self.allow_pickle:
                raise _RefusedError(
                    f"a {name_of(cls)} could not be built again; name it in the annotations, or "
                    f"allow it with register_type({cls.__qualname__})"
                )
        if self.allow_pickle:
            return self._pickled(value)
        advice = "save its parts, or allow pickling with allow_pickle=True"
        if self.allowed is None:
            advice = "give a `key`, or its parts in its place"
        raise _RefusedError(f"a {name_of(cls)} has no exact form in JSON; {advice}")

    def _knows(self, cls: type) -> bool:
        return self.allowed is None or self.allowed.get(name_of(cls)) is cls

    def _encode_object(self, value: Any, cls: type) -> Json:
        if isinstance(value, enum.Enum):
            if value.name not in cls.__members__:  # type: ignore[attr-defined]  # it is an enum
                return self._tagged("flag", cls, self._encode(value.value))
            return self._tagged("enum", cls, value.name)
        if isinstance(value, Exception):
            return self._tagged("error", cls, self.encode_items(value.args))
        extra = extra_attribute(value, cls)
        if extra:
            raise _RefusedError(
                f"its attribute {extra!r} is not among its fields; make it one, or remove it"
            )
        saved = {}
        for name in field_names(cls):
            try:
                saved[name] = self._encode(getattr(value, name))
            except AttributeError:
                raise _RefusedError(f"its field {name!r} has no value; give it one") from None
            except _RefusedError as refused:
                raise refused.within(f".{name}") from None
        return self._tagged("object", cls, saved)

    @staticmethod
    def _tagged(tag: str, cls: type, saved: Json) -> Json:
        return {_TAG: tag, "t": name_of(cls), "v": saved}

    def _pickled(self, value: object) -> Json:
        try:
            data = pickle.dumps(value)
        except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
            raise _RefusedError(f"it cannot be pickled: {error}; save its parts", error) from None
        return {_TAG: "pickle", "v": base64.b85encode(data).decode()}

    def encode_items(self, items: Iterable[object]) -> list[Json]:
        """Turn a row of values into JSON."""
        saved: list[Json] = []
        for item in items:
            try:
                saved.append(self._encode(item))
            except _RefusedError as refused:
                raise refused.within(f"[{len(saved)}]") from None
        return saved

    def encode_dict(self, value: dict[Any, Any]) -> Json:
        """Turn a dict into JSON, as it is where its keys allow that."""
        plain = True
        saved: list[list[Json]] = []
        for key, item in value.items():
            try:
                plain = plain and type(key) is str and key != _TAG
                saved.append([key if plain else self._encode(key), self._encode(item)])
            except _RefusedError as refused:
                raise refused.within(f"[{key!r:.60}]") from None
        return dict(saved) if plain else {_TAG: "dict", "v": saved}

    def rebuild(self, saved: Json) -> Any:
        """Turn JSON back into a value."""
        if type(saved) is list:
            return self.decode_items(saved)
        if type(saved) is not dict:
            return saved
        tag = saved.get(_TAG)
        if tag is None:
            return {key: self.within(f"[{key!r:.60}]", item) for key, item in saved.items()}
        body = saved["v"]
        if tag in _DECODERS:
            return _DECODERS[tag](self, body)
        if tag == "pickle":
            if not self.allow_pickle:
                raise _UnknownError("pickled value")
            return pickle.loads(base64.b85decode(body))  # noqa: S301 - the user allows it
        cls = None if self.allowed is None else self.allowed.get(saved["t"])
        if cls is None:
            raise _UnknownError(saved["t"])
        return self._build(tag, cls, body)

    def _build(self, tag: str, cls: Any, body: Json) -> Any:
        try:
            if tag == "enum":
                return cls[body]
            if tag == "flag":
                return cls(self.rebuild(body))
            if tag == "error":
                return cls(*self.decode_items(body))
            values = {name: self.within(f".{name}", item) for name, item in body.items()}
            return built(cls, values)
        except _RefusedError:
            raise
        except Exception as error:  # noqa: BLE001 - as may a user's __init__
            raise _RefusedError(
                f"{name_of(cls)} no longer takes what was saved of it: {error}", error
            ) from None

    def decode_items(self, saved: list[Json]) -> list[Any]:
        """Turn a row of JSON back into values."""
        return [self.within(f"[{index}]", item) for index, item in enumerate(saved)]

    def within(self, step: str, saved: Json) -> Any:
        """Turn one part of something back into a value; *step* leads to it."""
        if type(saved) in _PLAIN:
            return saved
        try:
            return self.rebuild(saved)
        except _RefusedError as refused:
            raise refused.within(step) from None


class _RefusedError(Exception):
    """Says why a value cannot be saved or built, and gathers its path on the way out."""

    def __init__(self, problem: str, cause: BaseException | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.cause = cause
        self._steps: list[str] = []

    def within(self, step: str) -> "_RefusedError":
        self._steps.append(step)
        return self

    def path(self) -> str:
        return "".join(reversed(self._steps))


class _UnknownError(_RefusedError):
    """The problem is the name of a type that may not be built."""


@functools.lru_cache(maxsize=256)
def codec_of_result(fn: Callable[..., Any], allow_pickle: bool) -> Codec:  # noqa: FBT001 - it is cached
    """Give the codec for what *fn* returns, by its annotation."""
    return Codec(allowed_by_result(fn), allow_pickle)


def as_raised(exception: Json) -> Json:
    """Mark an exception as one that a step raised."""
    return {_TAG: "raised", "v": exception}


def is_raised(saved: Json) -> bool:
    """Whether it is what a step raised, and not what it returned."""
    return type(saved) is dict and saved.get(_TAG) == "raised"


def to_bytes(tree: Json) -> bytes:
    """Write JSON."""
    return _write(tree).encode()


def from_bytes(data: bytes) -> Json:
    """Read JSON."""
    return json.loads(data)


_write = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def _encode_int(codec: Codec, value: int) -> Json:  # noqa: ARG001 - as all encoders
    return value if value.bit_length() < _LONGEST_INT else {_TAG: "int", "v": hex(value)}


def _encode_float(codec: Codec, value: float) -> Json:  # noqa: ARG001 - as all encoders
    return value if math.isfinite(value) else {_TAG: "float", "v": repr(value)}


def _encode_datetime(codec: Codec, value: datetime | time) -> Json:  # noqa: ARG001 - as all encoders
    """Keep the wall time, the fold, and the zone: by name, or as an offset."""
    tag = "datetime" if isinstance(value, datetime) else "time"
    zone = value.tzinfo
    if zone is None:
        place: Json = None
    elif isinstance(zone, ZoneInfo) and zone.key is not None:
        place = zone.key
    elif type(zone) is timezone and zone == timezone(offset := zone.utcoffset(None)):
        place = offset / timedelta(microseconds=1)
    else:
        raise _RefusedError(f"its time zone {zone!r} has no name or offset to save; {_ZONES}")
    return {_TAG: tag, "v": [value.replace(tzinfo=None).isoformat(), value.fold, place]}


def _decode_datetime(kind: Any, body: Json) -> Any:
    text, fold, place = body
    zone: tzinfo | None = None
    if isinstance(place, str):
        zone = ZoneInfo(place)
    elif place is not None:
        zone = timezone(timedelta(microseconds=place))
    return kind.fromisoformat(text).replace(tzinfo=zone, fold=fold)


_PLAIN = frozenset({str, int, float, bool, type(None)})

_ENCODERS: dict[type, Callable[[Codec, Any], Json]] = {
    type(None): lambda _, value: value,
    bool: lambda _, value: value,
    str: lambda _, value: value,
    int: _encode_int,
    float: _encode_float,
    list: Codec.encode_items,
    dict: Codec.encode_dict,
    tuple: lambda codec, value: {_TAG: "tuple", "v": codec.encode_items(value)},
    set: lambda codec, value: {_TAG: "set", "v": codec.encode_items(value)},
    frozenset: lambda codec, value: {_TAG: "frozenset", "v": codec.encode_items(value)},
    bytes: lambda _, value: {_TAG: "bytes", "v": base64.b85encode(value).decode()},
    complex: lambda codec, value: {
        _TAG: "complex", "v": codec.encode_items((value.real, value.imag)),
    },
    Decimal: lambda _, value: {_TAG: "decimal", "v": str(value)},
    UUID: lambda _, value: {_TAG: "uuid", "v": value.hex},
    PosixPath: lambda _, value: {_TAG: "path", "v": str(value)},
    WindowsPath: lambda _, value: {_TAG: "path", "v": str(value)},
    date: lambda _, value: {_TAG: "date", "v": value.isoformat()},
    time: _encode_datetime,
    datetime: _encode_datetime,
    timedelta: lambda _, value: {
        _TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds],
    },
}  # fmt: skip

_DECODERS: dict[str, Callable[[Codec, Json], Any]] = {
    "int": lambda _, body: int(body, 16),
    "float": lambda _, body: float(body),
    "dict": lambda codec, body: {
        codec.rebuild(key): codec.within(f"[{key!r:.60}]", item) for key, item in body
    },
    "tuple": lambda codec, body: tuple(codec.decode_items(body)),
    "set": lambda codec, body: set(codec.decode_items(body)),
    "frozenset": lambda codec, body: frozenset(codec.decode_items(body)),
    "bytes": lambda _, body: base64.b85decode(body),
    "complex": lambda codec, body: complex(*codec.decode_items(body)),
    "decimal": lambda _, body: Decimal(body),
    "uuid": lambda _, body: UUID(hex=body),
    "path": lambda _, body: Path(body),
    "date": lambda _, body: date.fromisoformat(body),
    "time": lambda _, body: _decode_datetime(time, body),
    "datetime": lambda _, body: _decode_datetime(datetime, body),
    "timedelta": lambda _, body: timedelta(*body),
}


def plain(saved: Json) -> Any:
    """Turn JSON into values without building any type: objects become dicts of their fields."""
    if type(saved) is list:
        return [plain(item) for item in saved]
    if type(saved) is not dict:
        return saved
    match saved.get(_TAG):
        case None:
            return {key: plain(item) for key, item in saved.items()}
        case "object" | "enum" | "flag" | "error":
            return plain(saved["v"])
        case "tuple" | "set" | "frozenset" as tag:
            build = {"tuple": tuple, "set": list, "frozenset": list}[tag]
            return build(map(plain, saved["v"]))
        case "dict":
            return {Codec(None).rebuild(key): plain(item) for key, item in saved["v"]}
        case _:
            return Codec(None).rebuild(saved)
