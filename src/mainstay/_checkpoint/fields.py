"""Instances of attrs classes and dataclasses by their fields: what has to be saved, and back again.

An instance is built as unpickling does it, without its constructor: a converter that is run a
second time, or a `__post_init__`, would change what was saved. Only where a field came or went
since then is the constructor asked, which knows the default of what is new.
"""

import functools
from dataclasses import fields as dataclass_fields
from typing import Any

import attrs


@functools.lru_cache(maxsize=1024)
def field_names(cls: Any) -> tuple[str, ...]:
    """Give the names of the fields of *cls*."""
    if attrs.has(cls):
        return tuple(field.name for field in attrs.fields(cls))
    return tuple(field.name for field in dataclass_fields(cls))


def extra_attribute(value: object, cls: type) -> str | None:
    """Find an attribute that is not a field, and would be lost; cached properties may be."""
    own = getattr(value, "__dict__", None)
    names = field_names(cls)
    if not own or own.keys() <= set(names):
        return None
    extra = (each for each in own if each not in names)
    return next(
        (e for e in extra if not isinstance(getattr(cls, e, None), functools.cached_property)), None
    )


def built(cls: Any, values: dict[str, Any]) -> Any:
    """Build an instance from its fields, those too that its constructor does not take."""
    instance = (
        object.__new__(cls) if values.keys() == set(field_names(cls)) else _constructed(cls, values)
    )
    for name, value in values.items():
        object.__setattr__(instance, name, value)
    if attrs.has(cls) and hasattr(instance, "__setstate__"):
        instance.__setstate__(values)  # attrs keeps the hash of some classes beside their fields
    return instance


def _constructed(cls: Any, values: dict[str, Any]) -> Any:
    if attrs.has(cls):
        arguments = {f.name: f.alias for f in attrs.fields(cls) if f.init}
    else:
        arguments = {f.name: f.name for f in dataclass_fields(cls) if f.init}
    late = {*field_names(cls)} - arguments.keys()
    return cls(**{arguments.get(n, n): value for n, value in values.items() if n not in late})
