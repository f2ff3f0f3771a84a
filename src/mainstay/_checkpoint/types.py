"""Which types may be built from what was saved, and nothing else may.

Saved data names types, and a store is not the program: who can write to it could name any type.
So only types are built that the program itself has named: the type of the default given to
`state()`, what its fields and the annotations of a function or step name, and what was given to
`register_type`. Nothing is ever imported because saved data says so.
"""

import contextlib
import enum
import functools
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import attrs

from mainstay._core.callables import name_of

Allowed: TypeAlias = Mapping[str, type]
"""From `module.qualname` to the type, as saved data names it."""

T = TypeVar("T", bound=type[Any])

_BUILT_IN = (
    dict, list, set, frozenset, tuple, str, bytes, bytearray, int, float, complex, date, time,
    timedelta, Decimal, UUID, PurePath,
)  # fmt: skip

_registered: dict[str, type] = {}


def register_type(cls: T) -> T:
    """Allow a type to be built from saved data, wherever it turns up. Usable as a decorator.

    Not needed for the type of the default given to `cp.state()`, for the types that its fields
    name, and for those in the return annotation of a step or in the annotations of a recoverable
    function.

    An exception class, once registered, is a result: a step that raises it has it saved, and
    raises it again instead of running again.

    Args:
        cls: An attrs class, a dataclass, an enum, or an exception class whose ``args`` build it.

    Returns:
        *cls*.

    Raises:
        TypeError: If *cls* is none of these.

    Example:
        >>> import attrs
        >>> from mainstay import register_type
        >>> @register_type
        ... @attrs.frozen
        ... class Totals:
        ...     rows: int = 0
    """
    given: object = cls
    if not (isinstance(given, type) and (is_buildable(given) or issubclass(given, Exception))):
        raise TypeError(
            f"`cls` must be an attrs class, a dataclass, an enum or an exception class, not {cls!r}"
        )
    _registered[name_of(cls)] = cls
    return cls


def is_buildable(cls: type) -> bool:
    """Whether *cls* is a kind of type that is saved field by field or by name.

    Not one that is a built-in type besides: what that holds is in no field, and would be lost.
    """
    if issubclass(cls, enum.Enum):
        return True
    return (attrs.has(cls) or is_dataclass(cls)) and not issubclass(cls, _BUILT_IN)


def allowed_by(*named: object) -> Allowed:
    """Collect the types that annotations name and values have, and those that their fields name."""
    found: dict[str, type] = {}
    for each in named:
        _collect(each, found)
        _collect_from_value(each, found)
    return _WithRegistered(found)


def allowed_by_result(fn: Callable[..., Any]) -> Allowed:
    """Collect the types that the return annotation of *fn* names."""
    return allowed_by(hints_of(fn).get("return"))


def hints_of(fn: object) -> Mapping[str, Any]:
    """Give the annotations of a function or class; none where they cannot be evaluated."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    with contextlib.suppress(Exception):
        return typing.get_type_hints(fn)
    return {}


class _WithRegistered(dict[str, type]):
    """The collected types, and whatever has been registered by the time that one is looked up."""

    def __missing__(self, name: str) -> type:
        return _registered[name]

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name) or _registered.get(name, default)


def _collect(hint: object, found: dict[str, type]) -> None:
    for part in typing.get_args(hint):
        _collect(part, found)
    if not isinstance(hint, type) or not is_buildable(hint) or name_of(hint) in found:
        return
    found[name_of(hint)] = hint
    for field_hint in hints_of(hint).values():
        _collect(field_hint, found)


def _collect_from_value(value: object, found: dict[str, type]) -> None:
    """Go through a value and its parts, however deep, and those that contain themselves once."""
    left, seen = [value], {id(value)}
    while left:
        each = left.pop()
        _collect(type(each), found)
        for part in _parts(each):
            if id(part) not in seen:
                seen.add(id(part))
                left.append(part)


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return value
    cls = type(value)
    if attrs.has(cls):
        return [getattr(value, field.name, None) for field in attrs.fields(cls)]
    if is_dataclass(cls):
        return [getattr(value, field.name, None) for field in dataclass_fields(cls)]
    return ()
