"""`Codec`: values as JSON. A value that is read back equals the saved value, types included.

A value that has no such form is refused. Plain JSON values are saved as they are, all others as an
object with a tag:

    {"$": tag, "v": ...}                  a value of a built-in type
    {"$": "object", "t": type, "v": {}}   attrs and dataclass instances, field by field
    {"$": "enum", "t": type, "v": name}
    {"$": "error", "t": type, "v": []}    exceptions of registered types; "n" are their notes
    {"$": "dict", "v": [[key, value]]}    dicts with keys that are not str, or with a key "$"
    {"$": "ordereddict", "v": [[k, v]]}
    {"$": "counter", "v": dict}
    {"$": "defaultdict", "f": type, "v": dict}
    {"$": "deque", "m": maxlen, "v": []}
    {"$": "raised", "v": exception}       what a step raised, in place of what it returned

Subclasses of built-in types are refused, since their additions would be lost silently. Types that
the program did not allow (see `types`) are refused already when they are saved, since after a crash
it would be too late.
"""

import base64
import enum
import functools
import json
import pickle  # only ever used where the user said `allow_pickle=True`
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import tzinfo
from operator import itemgetter
from typing import Any, TypeAlias

import attrs

from mainstay._checkpoint.instances import (
    attribute_left_out,
    exception_of,
    field_names,
    instance_of,
    is_buildable,
    parts_of_exception,
)
from mainstay._checkpoint.scalars import (
    SCALAR_DECODERS,
    SCALAR_ENCODERS,
    TAG,
    ZONES,
    CodecError,
    Json,
    NotAllowedError,
    is_plain,
)
from mainstay._checkpoint.types import Allowed
from mainstay._core.functions import name_of
from mainstay.errors import UnknownTypeError, UnsaveableValueError

__all__ = ["Codec", "Json", "plain", "to_bytes"]

_MOST_LEVELS = 250
_TOO_DEEP = "it contains itself, or is nested too deep; save keys in place of references"


class _TooDeepError(Exception):
    """A value is nested too deep."""


@attrs.frozen
class Codec:
    """How the values of one place are saved.

    Attributes:
        allowed: The types that may be built; None to save any, for what is never read back.
        allow_pickle: True to pickle what cannot be saved otherwise.
        advice: What to do about a value that cannot be saved.
        on_gone: Called with each saved field that its class no longer has, which is then dropped;
            None to refuse such fields.
    """

    allowed: Allowed | None
    allow_pickle: bool = False
    advice: str = "save its parts, or allow pickling with allow_pickle=True"
    on_gone: Callable[[str], object] | None = None

    def allowing(self, allowed: Allowed) -> "Codec":
        """Return the codec for other types: `attrs.evolve`, in a tenth of its time at each step."""
        return Codec(allowed, self.allow_pickle, self.advice, self.on_gone)

    def encode(self, value: object, root: str) -> Json:
        """Return *value* as JSON.

        Raises:
            UnsaveableValueError: If something in it cannot be saved. *root* begins its path.
        """
        try:
            return self._encode(value, _MOST_LEVELS)
        except CodecError as refused:
            raise UnsaveableValueError(root + refused.path(), refused.problem) from refused.cause
        except (RecursionError, _TooDeepError):
            raise UnsaveableValueError(root, _TOO_DEEP) from None

    def decode(self, saved: Json, root: str) -> Any:
        """Return the value that was saved as JSON.

        Raises:
            UnknownTypeError: If it names a type that may not be built.
            UnsaveableValueError: If a type no longer takes what was saved of it.
        """
        try:
            return self.rebuild(saved)
        except NotAllowedError as unknown:
            raise UnknownTypeError(root + unknown.path(), unknown.problem) from None
        except CodecError as refused:
            raise UnsaveableValueError(root + refused.path(), refused.problem) from refused.cause

    def _encode(self, value: object, left: int) -> Json:
        """Return *value* as JSON, with at most *left* levels below it."""
        cls = type(value)
        scalar = SCALAR_ENCODERS.get(cls)
        if scalar is not None:
            return scalar(value)
        if not left:
            raise _TooDeepError
        encode = _ENCODERS.get(cls)
        if encode is not None:
            return encode(self, value, left - 1)
        if issubclass(cls, tzinfo):
            raise CodecError(f"{cls.__qualname__} is not a time zone that can be saved; {ZONES}")
        if is_buildable(cls) or (isinstance(value, Exception) and self._knows(cls)):
            if self._knows(cls):
                return self._encode_object(value, cls, left - 1)
            if not self.allow_pickle:
                raise CodecError(
                    f"a {name_of(cls)} could not be built again; name it in the annotations, or "
                    f"allow it with register_type({cls.__qualname__})"
                )
        if self.allow_pickle:
            return self._pickled(value)
        name = name_of(cls).removeprefix("builtins.")
        article = "an" if name[0] in "aeiou" else "a"
        raise CodecError(f"{article} {name} has no exact form in JSON; {self.advice}")

    def _knows(self, cls: type) -> bool:
        return self.allowed is None or self.allowed.get(name_of(cls)) is cls

    def _encode_object(self, value: Any, cls: type, left: int) -> Json:
        if isinstance(value, enum.Enum):
            if value.name not in cls.__members__:  # type: ignore[attr-defined]  # it is an enum
                return self._tagged("flag", cls, self._encode(value.value, left))
            return self._tagged("enum", cls, value.name)
        if isinstance(value, Exception):
            args, notes = parts_of_exception(value, _in_json)
            saved_error = self._tagged("error", cls, self.encode_items(args, left))
            return {**saved_error, "n": notes} if notes else saved_error
        extra = attribute_left_out(value, cls)
        if extra:
            raise CodecError(
                f"its attribute {extra!r} is not among its fields; make it one, or remove it"
            )
        saved = {}
        for name in field_names(cls):
            try:
                saved[name] = self._encode(getattr(value, name), left)
            except AttributeError:
                raise CodecError(f"its field {name!r} has no value; give it one") from None
            except CodecError as refused:
                raise refused.within(f".{name}") from None
        return self._tagged("object", cls, saved)

    @staticmethod
    def _tagged(tag: str, cls: type, saved: Json) -> Json:
        return {TAG: tag, "t": name_of(cls), "v": saved}

    def _pickled(self, value: object) -> Json:
        try:
            data = pickle.dumps(value)
        except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
            raise CodecError(f"it cannot be pickled: {error}; save its parts", error) from None
        return {TAG: "pickle", "v": base64.b85encode(data).decode()}

    def encode_items(self, items: Iterable[object], left: int) -> list[Json]:
        """Return a row of values as JSON."""
        saved: list[Json] = []
        for item in items:
            try:
                saved.append(self._encode(item, left))
            except CodecError as refused:
                raise refused.within(f"[{len(saved)}]") from None
        return saved

    def encode_dict(self, value: dict[Any, Any], left: int) -> Json:
        """Return a dict as JSON: as it is where its keys allow that."""
        pairs, plain = self._encode_pairs(value, left)
        return dict(pairs) if plain else {TAG: "dict", "v": pairs}

    def encode_ordered(self, value: OrderedDict[Any, Any], left: int) -> Json:
        """Return an ordered dict as JSON: as pairs, whose order is part of it."""
        return {TAG: "ordereddict", "v": self._encode_pairs(value, left)[0]}

    def encode_defaultdict(self, value: defaultdict[Any, Any], left: int) -> Json:
        """Return a default dict as JSON, with its factory by name."""
        factory: Any = value.default_factory
        name = "" if factory is None else name_of(factory)
        known = isinstance(factory, type) and is_buildable(factory) and self._knows(factory)
        if not known and _FACTORIES.get(name) is not factory:
            raise CodecError(
                f"its default factory {name} could not be found again; use a type such as list, "
                f"or one that is named in the annotations or given to register_type"
            )
        return {TAG: "defaultdict", "f": name, "v": self.encode_dict(value, left)}

    def _encode_pairs(self, value: dict[Any, Any], left: int) -> tuple[list[list[Json]], bool]:
        """Return the pairs of a dict as JSON; and True if its keys may be those of an object."""
        plain = True
        saved: list[list[Json]] = []
        for key, item in value.items():
            try:
                plain = plain and type(key) is str and key != TAG and is_plain(key)
                saved_key = key if plain else self._encode(key, left)
                saved.append([saved_key, self._encode(item, left)])
            except CodecError as refused:
                raise refused.within(f"[{key!r:.60}]") from None
        return saved, plain

    def rebuild(self, saved: Json) -> Any:
        """Return the value that JSON stands for.

        It takes one frame for each level, and encoding at least two: what could be saved can be
        read, however deep the stack is there.
        """
        if type(saved) in _PLAIN:
            return saved
        parts, name_part, build = self._parts(saved)
        values: list[Any] = []
        for part in parts:
            try:
                values.append(part if type(part) in _PLAIN else self.rebuild(part))
            except CodecError as refused:
                raise refused.within(name_part(len(values))) from None
        try:
            return build(values)
        except TypeError as error:  # a class has lost its hash since
            raise CodecError(f"its saved data cannot be put together: {error}") from None

    def _parts(self, saved: Json) -> "_Parts":
        """Return the parts of a value, and the functions that name each in a path and join them."""
        if type(saved) is list:
            return saved, _index, _same
        tag = saved.get(TAG)
        if tag is None:
            return _named_parts(saved, _item)
        body = saved["v"]
        if tag in _ROWS:
            return body, _index, functools.partial(_ROWS[tag], saved)
        if tag in ("dict", "ordereddict"):
            parts = [part for pair in body for part in pair]
            return parts, lambda index: _item(body[index // 2][0]), self._paired(tag)
        if tag in ("counter", "defaultdict"):
            kind = Counter if tag == "counter" else self._default_dict(saved["f"])
            return (body,), _whole, lambda values: kind(values[0])
        if tag in SCALAR_DECODERS:
            return (), _index, lambda _: self._read(tag, body)
        return self._typed(tag, saved, body) if tag != "pickle" else self._unpickled(body)

    def _typed(self, tag: str, saved: Json, body: Json) -> "_Parts":
        name = saved["t"]
        cls = None if self.allowed is None else self.allowed.get(name)
        if cls is None:
            raise NotAllowedError(name)
        if not _KINDS[tag](cls):
            raise CodecError(
                f"{name} no longer accepts its saved data, since it is not a {tag} any more"
            )
        if tag == "object" and self.on_gone is not None:
            body = self._without_what_is_gone(cls, body, self.on_gone)
        parts, name_part, join = _as_plain(tag, body)

        def build(values: list[Any]) -> Any:
            try:
                if tag == "error":
                    return exception_of(cls, values, saved.get("n", []))
                return _BUILDERS[tag](cls, join(values))
            except Exception as error:  # noqa: BLE001 - as may a user's __init__
                raise CodecError(
                    f"{name_of(cls)} no longer accepts its saved data: {error}", error
                ) from None

        return parts, name_part, build

    @staticmethod
    def _without_what_is_gone(
        kind: type, body: dict[str, Json], on_gone: Callable[[str], object]
    ) -> dict[str, Json]:
        names = field_names(kind)
        for name in body.keys() - {*names}:
            on_gone(f"{name_of(kind)}.{name}")
        return {name: part for name, part in body.items() if name in names}

    def _default_dict(self, name: str) -> Callable[[Any], Any]:
        """Return what makes a default dict of a dict, by the name of its factory."""
        factory = _FACTORIES.get(name)
        if name not in _FACTORIES:
            factory = None if self.allowed is None else self.allowed.get(name)
            if factory is None:
                raise NotAllowedError(name)
        return functools.partial(defaultdict, factory)

    def _unpickled(self, body: Json) -> "_Parts":
        if not self.allow_pickle:
            raise NotAllowedError("pickled value")
        return (), _index, lambda _: self._read("pickle", body)

    @staticmethod
    def _read(tag: str, body: Json) -> Any:
        try:
            if tag == "pickle":
                return pickle.loads(base64.b85decode(body))  # noqa: S301 - the user allows it
            return SCALAR_DECODERS[tag](body)
        except Exception as error:  # noqa: BLE001 - a zone or module is not there any more
            raise CodecError(f"its saved data cannot be read: {error}", error) from None

    @staticmethod
    def _paired(tag: str) -> Callable[[list[Any]], Any]:
        """Return what makes a dict of its keys and values in turn."""
        kind = OrderedDict if tag == "ordereddict" else dict
        return lambda values: kind(zip(values[::2], values[1::2], strict=True))


class _Plain(Codec):
    """Builds no types: objects become dicts of their fields; sets and deques become lists."""

    def _parts(self, saved: Json) -> "_Parts":
        tag = saved.get(TAG) if type(saved) is dict else None
        if tag in ("counter", "defaultdict"):
            return (saved["v"],), _whole, itemgetter(0)
        parts, name_part, build = super()._parts(saved)
        return parts, name_part, list if tag in ("set", "frozenset", "deque") else build

    def _typed(self, tag: str, saved: Json, body: Json) -> "_Parts":  # noqa: ARG002 - as above
        return _as_plain(tag, body)

    @staticmethod
    def _paired(tag: str) -> Callable[[list[Any]], Any]:  # noqa: ARG004 - as above
        return lambda values: dict(zip(map(_hashable, values[::2]), values[1::2], strict=True))


_Parts: TypeAlias = tuple[Iterable[Json], Callable[[Any], str], Callable[[list[Any]], Any]]


def _as_plain(tag: str, body: Json) -> _Parts:
    if tag == "object":
        return _named_parts(body, lambda name: f".{name}")
    return (body, _index, _same) if tag == "error" else ((body,), _whole, itemgetter(0))


def _named_parts(parts: dict[str, Json], name_part: Callable[[str], str]) -> _Parts:
    return (
        parts.values(),
        lambda index: name_part([*parts][index]),
        lambda values: dict(zip(parts, values, strict=True)),
    )


def _hashable(key: Any) -> Any:
    """Return what can be the key of a dict: tuples in place of dicts and lists."""
    if isinstance(key, dict):
        return tuple((name, _hashable(value)) for name, value in key.items())
    return tuple(map(_hashable, key)) if isinstance(key, list | tuple) else key


def _index(index: int) -> str:
    return f"[{index}]"


def _item(key: object) -> str:
    return f"[{key!r:.60}]"


def _whole(_index: int) -> str:
    return ""


def _same(values: list[Any]) -> list[Any]:
    return values


def to_bytes(tree: Json) -> bytes:
    """Return JSON as bytes.

    Raises:
        UnsaveableValueError: If it is nested too deep.
    """
    try:
        return _write(tree).encode()
    except RecursionError:
        raise UnsaveableValueError("what is saved", _TOO_DEEP) from None


_write = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


_PLAIN = frozenset({str, int, float, bool, type(None)})

_ENCODERS: dict[type, Callable[[Codec, Any, int], Json]] = {
    list: Codec.encode_items,
    dict: Codec.encode_dict,
    OrderedDict: Codec.encode_ordered,
    defaultdict: Codec.encode_defaultdict,
    Counter: lambda codec, value, left: {TAG: "counter", "v": codec.encode_dict(value, left)},
    deque: lambda codec, value, left: {
        TAG: "deque", "m": value.maxlen, "v": codec.encode_items(value, left),
    },
    tuple: lambda codec, value, left: {TAG: "tuple", "v": codec.encode_items(value, left)},
    set: lambda codec, value, left: {TAG: "set", "v": codec.encode_items(value, left)},
    frozenset: lambda codec, value, left: {TAG: "frozenset", "v": codec.encode_items(value, left)},
    complex: lambda codec, value, left: {
        TAG: "complex", "v": codec.encode_items((value.real, value.imag), left),
    },
}  # fmt: skip

_FACTORIES: dict[str, Any] = {"": None} | {
    name_of(factory): factory
    for factory in (
        bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple,
        Counter, OrderedDict, deque,
    )
}  # fmt: skip
"""What a default dict may be filled by, besides the types that are allowed."""

_ROWS: dict[str, Callable[[Json, list[Any]], Any]] = {
    "tuple": lambda _, values: tuple(values),
    "set": lambda _, values: set(values),
    "frozenset": lambda _, values: frozenset(values),
    "complex": lambda _, values: complex(*values),
    "deque": lambda saved, values: deque(values, saved["m"]),
}

_KINDS: dict[str, Callable[[type], bool]] = {
    "enum": lambda cls: issubclass(cls, enum.Enum),
    "flag": lambda cls: issubclass(cls, enum.Enum),
    "error": lambda cls: issubclass(cls, Exception),
    "object": lambda cls: is_buildable(cls) and not issubclass(cls, enum.Enum | Exception),
}
"""Which classes a tag may stand for."""

_BUILDERS: dict[str, Callable[[Any, Any], Any]] = {
    "enum": lambda cls, name: cls[name],
    "flag": lambda cls, value: cls(value),
    "object": instance_of,
}


def _in_json(value: object) -> bytes:
    """Return what a value of any type is saved as."""
    return to_bytes(Codec(None).encode(value, "value"))


def plain(saved: Json, *, allow_pickle: bool = False) -> Any:
    """Return what was saved without building any type: objects become dicts of their fields.

    An object that is the key of a dict becomes a tuple of pairs of name and value.

    Raises:
        UnknownTypeError: If something in it was pickled, unless *allow_pickle*.
        UnsaveableValueError: If it cannot be read any more.
    """
    return _Plain(None, allow_pickle).decode(saved, "state")
