"""`register_type`, and the types that may be built from saved data.

Saved data names types, and everybody who can write to the store could name any type. So only types
are built that the program itself has named: the type of the default of `state()`, the types in its
fields and in the annotations of a function or step, and those given to `register_type`. Nothing is
ever imported because saved data says so.
"""

import contextlib
import enum
import functools
import inspect
import sys
import types
import typing
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from typing import Any, NewType, TypeAlias, TypeVar

import attrs

from mainstay._checkpoint.instances import is_buildable
from mainstay._core.functions import name_of

Allowed: TypeAlias = Mapping[str, type]
"""From `module.qualname` to the type, as saved data names it."""

T = TypeVar("T", bound=type[Any])

_registered: dict[str, type] = {}


def register_type(cls: T) -> T:
    """Allow a type to be built from saved data; usable as a decorator.

    These types need no registration: the type of the default of `cp.state()`, the types that its
    fields name, and the types in the return annotation of a step or in the annotations of a
    recoverable function.

    An exception of a registered class counts as the result of a step: the exception is saved when a
    step raises it, and on a resume it is raised again, and the step does not run.

    Args:
        cls: An attrs class, a dataclass, an enum, or an exception class that can be built from its
            ``args`` alone. An exception that keeps more is not saved, and its step runs again.

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


def allowed_by(*named: object) -> Allowed:
    """Return the types that annotations name and values have, and those that their fields name."""
    values = [*_walk(named, _parts_of_value)]
    kinds: set[object] = {type(each) for each in values}
    kinds.update(each.default_factory for each in values if isinstance(each, defaultdict))
    found: dict[str, type] = {}
    for hint in _walk([*named, *kinds], _parts_of_hint):
        if isinstance(hint, type) and is_buildable(hint):
            found.setdefault(name_of(hint), hint)
    return _WithRegistered(found)


def allowed_by_result(fn: Callable[..., Any]) -> Allowed:
    """Return the types that the return annotation of *fn* names; of a class, what it makes.

    The types are cached by function, and not by partial or method, since these are short-lived.
    """
    annotated = _annotated(fn)
    if not isinstance(annotated, type) and not getattr(annotated, "__annotations__", None):
        return _NOTHING
    try:
        return _results[annotated]
    except (KeyError, TypeError):  # a TypeError if it cannot be a key of that dict
        pass
    hints = {"return": annotated} if isinstance(annotated, type) else hints_of(annotated)
    if "return" not in hints:  # or not yet: a type may be defined further down
        return _NOTHING
    allowed = allowed_by(hints["return"])
    with contextlib.suppress(TypeError):
        _results[annotated] = allowed
    return allowed


_results: "weakref.WeakKeyDictionary[Any, Allowed]" = weakref.WeakKeyDictionary()


def hints_of(fn: Any) -> Mapping[str, Any]:
    """Return the annotations of a function or class that can be evaluated."""
    fn = _annotated(fn)
    with contextlib.suppress(Exception):
        return typing.get_type_hints(fn)
    found: dict[str, Any] = {}
    for each in reversed(fn.__mro__) if isinstance(fn, type) else [inspect.unwrap(fn)]:
        for name, hint in _annotations_of(each).items():
            alone = types.SimpleNamespace(__annotations__={name: hint})
            with contextlib.suppress(Exception):  # whatever an expression raises
                found |= typing.get_type_hints(alone, *_names_around(each))
    return found


def _annotated(fn: Any) -> Any:
    """Return the function or class that has the annotations of a callable."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = getattr(fn, "__func__", fn)  # a method's
    if isinstance(fn, type | types.FunctionType) or hasattr(fn, "__wrapped__"):
        return fn
    return type(fn).__call__


def _annotations_of(each: Any) -> Mapping[str, Any]:
    with contextlib.suppress(Exception):  # Python 3.14 and newer evaluates them only now
        return inspect.get_annotations(each)
    return {}


def _names_around(each: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the global and local names that the annotations of a function or class may use."""
    if isinstance(each, type):
        return vars(sys.modules[each.__module__]), dict(vars(each))
    inner = inspect.getclosurevars(each).nonlocals
    return each.__globals__, dict(inner)


class _WithRegistered(dict[str, type]):
    """The collected types, and those that are registered by the time one is looked up."""

    def __missing__(self, name: str) -> type:
        return _registered[name]

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name) or _registered.get(name, default)


_NOTHING: Allowed = _WithRegistered()


def _walk(
    roots: Iterable[object], parts_of: Callable[[object], Iterable[object]]
) -> Iterator[object]:
    """Yield each root and its parts, however deep; what contains itself comes once."""
    left = [*roots][::-1]
    seen = {id(root): root for root in left}
    while left:
        each = left.pop()
        yield each
        for part in parts_of(each):
            if id(part) not in seen:
                seen[id(part)] = part
                left.append(part)


def _parts_of_hint(hint: Any) -> Iterable[object]:
    if isinstance(hint, type):
        named = is_buildable(hint) or typing.is_typeddict(hint)
        return hints_of(hint).values() if named else ()
    if isinstance(hint, TypeVar):
        return [hint.__bound__, *hint.__constraints__]
    if isinstance(hint, NewType):
        return [hint.__supertype__]
    if isinstance(hint, enum.Enum):  # in a Literal
        return [type(hint)]
    parts = [typing.get_origin(hint), *typing.get_args(hint)]
    if type(hint).__name__ == "TypeAliasType":  # from Python 3.12 on
        with contextlib.suppress(Exception):  # it is evaluated only now
            parts.append(hint.__value__)
    return parts


def _parts_of_value(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset | deque):
        return value
    cls = type(value)
    if attrs.has(cls):
        return [getattr(value, field.name, None) for field in attrs.fields(cls)]
    if is_dataclass(cls):
        return [getattr(value, field.name, None) for field in dataclass_fields(cls)]
    return ()
