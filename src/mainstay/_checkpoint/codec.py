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
import contextlib
import enum
import json
import pickle  # only ever used where the user said `allow_pickle=True`
from collections.abc import Callable, Iterable
from datetime import tzinfo
from operator import itemgetter
from typing import Any, TypeAlias

import attrs

from mainstay._checkpoint.fields import built, extra_attribute, field_names
from mainstay._checkpoint.scalars import (
    SCALAR_DECODERS,
    SCALAR_ENCODERS,
    TAG,
    ZONES,
    Json,
    RefusedError,
    UnknownError,
    is_plain,
)
from mainstay._checkpoint.types import Allowed, is_buildable
from mainstay._core.functions import name_of
from mainstay.errors import UnknownTypeError, UnsaveableValueError

__all__ = ["Codec", "Json", "from_bytes", "plain", "to_bytes"]

_TOO_DEEP = "it contains itself, or is nested too deep; save keys in place of references"


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
        except RefusedError as refused:
            raise UnsaveableValueError(root + refused.path(), refused.problem) from refused.cause
        except RecursionError:
            raise UnsaveableValueError(root, _TOO_DEEP) from None

    def decode(self, saved: Json, root: str) -> Any:
        """Turn JSON back into the value.

        Raises:
            UnknownTypeError: If it names a type that may not be built.
            UnsaveableValueError: If a type no longer takes what was saved of it.
        """
        try:
            return self.rebuild(saved)
        except UnknownError as unknown:
            raise UnknownTypeError(root + unknown.path(), unknown.problem) from None
        except RefusedError as refused:
            raise UnsaveableValueError(root + refused.path(), refused.problem) from refused.cause

    def _encode(self, value: object) -> Json:
        cls = type(value)
        scalar = SCALAR_ENCODERS.get(cls)
        if scalar is not None:
            return scalar(value)
        encode = _ENCODERS.get(cls)
        if encode is not None:
            return encode(self, value)
        if issubclass(cls, tzinfo):
            raise RefusedError(f"{cls.__qualname__} is no zone that can be saved; {ZONES}")
        if is_buildable(cls) or (isinstance(value, Exception) and self._knows(cls)):
            if self._knows(cls):
                return self._encode_object(value, cls)
            if not self.allow_pickle:
                raise RefusedError(
                    f"a {name_of(cls)} could not be built again; name it in the annotations, or "
                    f"allow it with register_type({cls.__qualname__})"
                )
        if self.allow_pickle:
            return self._pickled(value)
        advice = "save its parts, or allow pickling with allow_pickle=True"
        if self.allowed is None:
            advice = "give a `key`, or its parts in its place"
        raise RefusedError(f"a {name_of(cls)} has no exact form in JSON; {advice}")

    def _knows(self, cls: type) -> bool:
        return self.allowed is None or self.allowed.get(name_of(cls)) is cls

    def _encode_object(self, value: Any, cls: type) -> Json:
        if isinstance(value, enum.Enum):
            if value.name not in cls.__members__:  # type: ignore[attr-defined]  # it is an enum
                return self._tagged("flag", cls, self._encode(value.value))
            return self._tagged("enum", cls, value.name)
        if isinstance(value, Exception):
            return self._tagged("error", cls, self.encode_items(_args_of(value)))
        extra = extra_attribute(value, cls)
        if extra:
            raise RefusedError(
                f"its attribute {extra!r} is not among its fields; make it one, or remove it"
            )
        saved = {}
        for name in field_names(cls):
            try:
                saved[name] = self._encode(getattr(value, name))
            except AttributeError:
                raise RefusedError(f"its field {name!r} has no value; give it one") from None
            except RefusedError as refused:
                raise refused.within(f".{name}") from None
        return self._tagged("object", cls, saved)

    @staticmethod
    def _tagged(tag: str, cls: type, saved: Json) -> Json:
        return {TAG: tag, "t": name_of(cls), "v": saved}

    def _pickled(self, value: object) -> Json:
        try:
            data = pickle.dumps(value)
        except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
            raise RefusedError(f"it cannot be pickled: {error}; save its parts", error) from None
        return {TAG: "pickle", "v": base64.b85encode(data).decode()}

    def encode_items(self, items: Iterable[object]) -> list[Json]:
        """Turn a row of values into JSON."""
        saved: list[Json] = []
        for item in items:
            try:
                saved.append(self._encode(item))
            except RefusedError as refused:
                raise refused.within(f"[{len(saved)}]") from None
        return saved

    def encode_dict(self, value: dict[Any, Any]) -> Json:
        """Turn a dict into JSON, as it is where its keys allow that."""
        plain = True
        saved: list[list[Json]] = []
        for key, item in value.items():
            try:
                plain = plain and type(key) is str and key != TAG and is_plain(key)
                saved.append([key if plain else self._encode(key), self._encode(item)])
            except RefusedError as refused:
                raise refused.within(f"[{key!r:.60}]") from None
        return dict(saved) if plain else {TAG: "dict", "v": saved}

    def rebuild(self, saved: Json) -> Any:
        """Turn JSON back into a value.

        It takes one frame for each level, and encoding at least two: what could be saved can be
        read, wherever it is read.
        """
        if type(saved) in _PLAIN:
            return saved
        parts, lead, build = self._taken_apart(saved)
        values: list[Any] = []
        for part in parts:
            try:
                values.append(part if type(part) in _PLAIN else self.rebuild(part))
            except RefusedError as refused:
                raise refused.within(lead(len(values))) from None
        return build(values)

    def _taken_apart(self, saved: Json) -> "_Apart":
        """Give the parts of a value, what leads to each, and what puts them together again."""
        if type(saved) is list:
            return saved, _place, _as_it_is
        tag = saved.get(TAG)
        if tag is None:
            return _named_parts(saved, _item)
        body = saved["v"]
        if tag in _ROWS:
            return body, _place, _ROWS[tag]
        if tag == "dict":
            parts = [part for pair in body for part in pair]
            return parts, lambda index: _item(body[index // 2][0]), self._paired
        if tag in SCALAR_DECODERS:
            return (), _place, lambda _: self._read(tag, body)
        return self._typed(tag, saved["t"], body) if tag != "pickle" else self._unpickled(body)

    def _typed(self, tag: str, name: str, body: Json) -> "_Apart":
        cls = None if self.allowed is None else self.allowed.get(name)
        if cls is None:
            raise UnknownError(name)
        parts, lead, put_together = _as_plain(tag, body)

        def build(values: list[Any]) -> Any:
            try:
                return _BUILDERS[tag](cls, put_together(values))
            except Exception as error:  # noqa: BLE001 - as may a user's __init__
                raise RefusedError(
                    f"{name_of(cls)} no longer takes what was saved of it: {error}", error
                ) from None

        return parts, lead, build

    def _unpickled(self, body: Json) -> "_Apart":
        if not self.allow_pickle:
            raise UnknownError("pickled value")
        return (), _place, lambda _: self._read("pickle", body)

    @staticmethod
    def _read(tag: str, body: Json) -> Any:
        try:
            if tag == "pickle":
                return pickle.loads(base64.b85decode(body))  # noqa: S301 - the user allows it
            return SCALAR_DECODERS[tag](body)
        except Exception as error:  # noqa: BLE001 - a zone or module is not there any more
            raise RefusedError(f"what was saved of it cannot be read: {error}", error) from None

    @staticmethod
    def _paired(values: list[Any]) -> Any:
        return dict(zip(values[::2], values[1::2], strict=True))


class _Plain(Codec):
    """Builds no types: objects become dicts of their fields, and sets lists."""

    def _taken_apart(self, saved: Json) -> "_Apart":
        parts, lead, build = super()._taken_apart(saved)
        return parts, lead, list if build in (set, frozenset) else build

    def _typed(self, tag: str, name: str, body: Json) -> "_Apart":  # noqa: ARG002 - as above
        return _as_plain(tag, body)

    @staticmethod
    def _paired(values: list[Any]) -> Any:
        return dict(zip(map(_hashable, values[::2]), values[1::2], strict=True))


_Apart: TypeAlias = tuple[Iterable[Json], Callable[[Any], str], Callable[[list[Any]], Any]]


def _as_plain(tag: str, body: Json) -> _Apart:
    if tag == "object":
        return _named_parts(body, lambda name: f".{name}")
    return (body, _place, _as_it_is) if tag == "error" else ((body,), _whole, itemgetter(0))


def _named_parts(parts: dict[str, Json], lead: Callable[[str], str]) -> _Apart:
    return (
        parts.values(),
        lambda index: lead([*parts][index]),
        lambda values: dict(zip(parts, values, strict=True)),
    )


def _hashable(key: Any) -> Any:
    """Give what can be the key of a dict in place of what cannot: tuples."""
    if isinstance(key, dict):
        return tuple((name, _hashable(value)) for name, value in key.items())
    return tuple(map(_hashable, key)) if isinstance(key, list | tuple) else key


def _place(index: int) -> str:
    return f"[{index}]"


def _item(key: object) -> str:
    return f"[{key!r:.60}]"


def _whole(_index: int) -> str:
    return ""


def _as_it_is(values: list[Any]) -> list[Any]:
    return values


def _args_of(error: Exception) -> tuple[Any, ...]:
    """Give what builds an exception again; refuse one that would be another."""
    same, args = False, error.args
    with contextlib.suppress(Exception):  # a user's __init__ or __eq__ may raise anything
        if isinstance(error, OSError):  # whose args leave out the file
            reduced: Any = error.__reduce__()
            args = reduced[1]
        again = type(error)(*args)
        own = vars(error).keys() - {"__notes__"}
        same = again.args == error.args and own <= vars(again).keys()
    if not same:
        raise RefusedError("its args would not build it again as it is; save its parts")
    return args


def as_raised(exception: Json) -> Json:
    """Mark an exception as one that a step raised."""
    return {TAG: "raised", "v": exception}


def is_raised(saved: Json) -> bool:
    """Whether it is what a step raised, and not what it returned."""
    return type(saved) is dict and saved.get(TAG) == "raised"


def to_bytes(tree: Json) -> bytes:
    """Write JSON.

    Raises:
        UnsaveableValueError: If it is nested too deep.
    """
    try:
        return _write(tree).encode()
    except RecursionError:
        raise UnsaveableValueError("what is saved", _TOO_DEEP) from None


def from_bytes(data: bytes) -> Json:
    """Read JSON."""
    return json.loads(data)


_write = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


_PLAIN = frozenset({str, int, float, bool, type(None)})

_ENCODERS: dict[type, Callable[[Codec, Any], Json]] = {
    list: Codec.encode_items,
    dict: Codec.encode_dict,
    tuple: lambda codec, value: {TAG: "tuple", "v": codec.encode_items(value)},
    set: lambda codec, value: {TAG: "set", "v": codec.encode_items(value)},
    frozenset: lambda codec, value: {TAG: "frozenset", "v": codec.encode_items(value)},
    complex: lambda codec, value: {
        TAG: "complex", "v": codec.encode_items((value.real, value.imag)),
    },
}  # fmt: skip

_ROWS: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "complex": lambda values: complex(*values),
}

_BUILDERS: dict[str, Callable[[Any, Any], Any]] = {
    "enum": lambda cls, name: cls[name],
    "flag": lambda cls, value: cls(value),
    "error": lambda cls, args: cls(*args),
    "object": built,
}


def plain(saved: Json, *, allow_pickle: bool = False) -> Any:
    """Turn JSON into values without building any type: objects become dicts of their fields.

    What is the key of a dict becomes a tuple where it was an object: of pairs of name and value.

    Raises:
        UnknownTypeError: If something in it was pickled, unless *allow_pickle*.
        UnsaveableValueError: If it cannot be read any more.
    """
    return _Plain(None, allow_pickle).decode(saved, "state")
