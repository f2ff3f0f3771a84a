"""How instances of attrs classes, dataclasses and exceptions are taken apart and built again.

An instance of an attrs class or dataclass is saved as its fields, and rebuilt as by unpickling,
without the constructor: a converter that runs a second time, or a `__post_init__`, would change the
saved values. Only if fields were added or removed since the save, the constructor is called, since
it knows the defaults of new fields. An exception is saved as its args and notes, and rebuilt by its
constructor.

An instance with any other data is refused, since that data would be lost silently. Such data is
looked for where Python keeps it: in the dict of the instance, in the slots of all its classes, and
in base classes that are written in C.
"""

import enum
import functools
import types
from collections.abc import Callable, Iterable
from dataclasses import FrozenInstanceError, is_dataclass
from dataclasses import fields as dataclass_fields
from typing import Any

import attrs

from mainstay._checkpoint.scalars import CodecError

_NOTES = "__notes__"
_MISSING = object()
_CACHED_HASH = "_attrs_cached_hash"
"""Where attrs keeps the hash of some classes, beside their fields."""


def is_buildable(cls: type) -> bool:
    """True if *cls* is saved by name, field by field, or, as an exception, by its args.

    A subclass of a class written in C, such as `dict`, is not: the content of that class is in no
    field, and only its own `__new__` can make an instance.
    """
    if issubclass(cls, enum.Enum):
        return True
    if not (attrs.has(cls) or is_dataclass(cls)):
        return False
    own = (vars(each).get("__new__") for each in cls.__mro__ if each is not object)
    return issubclass(cls, Exception) or not any(
        isinstance(new, types.BuiltinFunctionType) for new in own
    )


# Instances by their fields.


@functools.lru_cache(maxsize=1024)
def field_names(cls: Any) -> tuple[str, ...]:
    """Return the names of the fields of an attrs class or dataclass."""
    fields: Iterable[Any] = attrs.fields(cls) if attrs.has(cls) else dataclass_fields(cls)
    return tuple(field.name for field in fields)


def attribute_left_out(value: object, cls: type) -> str | None:
    """Return an attribute that is not a field, and would be lost; cached properties may be."""
    for name in _slots_beside(cls):
        if hasattr(value, name):
            return name
    own = getattr(value, "__dict__", None)
    names = field_names(cls)
    if not own or own.keys() <= set(names):
        return None
    extra = (each for each in own if each not in names)
    return next(
        (e for e in extra if not isinstance(getattr(cls, e, None), functools.cached_property)), None
    )


@functools.lru_cache(maxsize=1024)
def _slots_beside(cls: Any) -> tuple[str, ...]:
    """Return the slots of a class that are no fields, and hold nothing that is computed again."""
    computed = {_CACHED_HASH, *field_names(cls)}
    for each in cls.__mro__:  # attrs makes slots of cached properties, and this to fill them
        fill = vars(each).get("__getattr__")
        for default in getattr(fill, "__defaults__", None) or ():
            computed |= default.keys() if isinstance(default, dict) else set()
    return tuple(name for name in _slots_of(cls) if name not in computed)


def _slots_of(cls: type) -> list[str]:
    """Return the names of what instances keep outside of their dicts, C's own included."""
    kept = types.MemberDescriptorType | types.GetSetDescriptorType
    return [
        name
        for each in cls.__mro__
        if each not in (object, BaseException)
        for name, descriptor in vars(each).items()
        if isinstance(descriptor, kept) and name not in ("__dict__", "__weakref__")
    ]


_ATTRS_FROZEN: object = attrs.make_class("Frozen", (), frozen=True).__setattr__


def is_frozen(value: object) -> bool:
    """True if no field of an instance of an attrs class or dataclass can be set."""
    cls: Any = type(value)
    parameters = getattr(cls, "__dataclass_params__", None)
    if cls.__setattr__ is _ATTRS_FROZEN or (parameters is not None and parameters.frozen):
        return True
    if cls.__setattr__ is object.__setattr__ or not (attrs.has(cls) or parameters):
        return False
    names = [name for name in field_names(cls) if hasattr(value, name)]
    copy = object.__new__(cls)  # a copy, since `__setattr__` of the user may do more than refuse
    for name in names:
        object.__setattr__(copy, name, getattr(value, name))
    return bool(names) and not any(_can_be_set(copy, name) for name in names)


def _can_be_set(instance: object, name: str) -> bool:
    try:
        setattr(instance, name, getattr(instance, name))
    except (attrs.exceptions.FrozenError, FrozenInstanceError):
        return False
    except Exception:  # noqa: BLE001 - of a hook of the user's, which has more to say of values
        return True
    return True


def instance_of(cls: Any, values: dict[str, Any]) -> Any:
    """Build an instance from its fields, those too that its constructor does not take."""
    as_saved = values.keys() == set(field_names(cls))
    instance = object.__new__(cls) if as_saved else _constructed(cls, values)
    for name, value in values.items():
        object.__setattr__(instance, name, value)
    if hasattr(cls, _CACHED_HASH):
        object.__setattr__(instance, _CACHED_HASH, None)
    return instance


def _constructed(cls: Any, values: dict[str, Any]) -> Any:
    if attrs.has(cls):
        arguments = {f.name: f.alias for f in attrs.fields(cls) if f.init}
    else:
        arguments = {f.name: f.name for f in dataclass_fields(cls) if f.init}
    late = {*field_names(cls)} - arguments.keys()
    return cls(**{arguments.get(n, n): value for n, value in values.items() if n not in late})


# Exceptions by their args.


def parts_of_exception(
    error: Exception, in_json: Callable[[object], bytes]
) -> tuple[tuple[Any, ...], list[str]]:
    """Return the args and notes that build an exception again.

    Args:
        error: The exception.
        in_json: Returns what a value is saved as, or raises.

    Raises:
        CodecError: If it would be another one.
    """
    args, lost = error.args, "args"
    try:
        if isinstance(error, OSError):  # whose args leave out the file
            reduced: Any = error.__reduce__()
            args = reduced[1]
        again = type(error)(*args)
        was, would_be = _kept_by(error), _kept_by(again)
        notes = was.pop(_NOTES, [])
        different = (
            name
            for name in [*was, *would_be]
            if not _is_same(was.get(name, _MISSING), would_be.get(name, _MISSING), in_json)
        )
        if type(notes) is not list or any(type(note) is not str for note in notes):
            lost = _NOTES
        else:
            lost = next(different, "")
    except Exception as refused:  # noqa: BLE001 - a user's __init__ or __eq__ may raise anything
        raise CodecError(_not_again(lost), refused) from None
    if lost:
        raise CodecError(_not_again(lost))
    return args, notes


def exception_of(cls: type[Exception], args: list[Any], notes: list[str]) -> Exception:
    """Build an exception from its args and notes."""
    error = cls(*args)
    for note in notes:
        error.add_note(note)
    return error


def _not_again(lost: str) -> str:
    return (
        f"its args would not build it again as it is, with the same {lost!r}; hand all that it "
        f"has to `Exception.__init__`, or save its parts"
    )


def _kept_by(error: Exception) -> dict[str, Any]:
    """Return all that an exception keeps, its args included, by name."""
    kept = {"args": error.args, **vars(error)}
    for name in _slots_of(type(error)):
        if (value := getattr(error, name, _MISSING)) is not _MISSING:
            kept[name] = value
    return kept


def _is_same(one: object, other: object, in_json: Callable[[object], bytes]) -> bool:
    """True if two values are the same to a reader, or cannot be told apart."""
    if one is other:
        return True
    if _MISSING in (one, other) or type(one) is not type(other):
        return False
    try:
        return in_json(one) == in_json(other)
    except Exception:  # noqa: BLE001 - what has no exact form may be equal all the same
        return bool(one == other)
