"""Shows the types of attributes that the docstring of a class describes under "Attributes".

The types are those of the class's annotations and properties; signatures show theirs by themselves.
"""

import re
import typing
from typing import Any

from sphinx.util.typing import stringify_annotation

_ATTRIBUTE = re.compile(r":ivar (\w+):")


def setup(app: Any) -> dict[str, bool]:
    """Add the types once the docstring has become a list of fields."""
    app.connect("autodoc-process-docstring", _on_docstring, priority=900)
    return {"parallel_read_safe": True}


def _on_docstring(*arguments: Any) -> None:
    _, what, _, thing, _, lines = arguments
    if what in ("class", "exception"):
        lines[:] = with_types(lines, types_of(thing))


def with_types(lines: list[str], types: dict[str, Any]) -> list[str]:
    """Put the type of each attribute before what is said of it."""
    typed = []
    for line in lines:
        attribute = _ATTRIBUTE.match(line)
        if attribute and attribute[1] in types:
            text = stringify_annotation(types[attribute[1]], "smart").replace("~", "")
            typed.append(f":vartype {attribute[1]}: {_short(text)}")
        typed.append(line)
    return typed


def types_of(thing: type) -> dict[str, Any]:
    """Return the types of the attributes of a class, those of its properties included."""
    types = {**_hints(thing.__init__), **_hints(thing)}
    for name in dir(thing):
        attribute = getattr(thing, name)
        if isinstance(attribute, property) and attribute.fget is not None:
            types[name] = _hints(attribute.fget).get("return", Any)
    return types


def _hints(thing: Any) -> dict[str, Any]:
    """Return the annotations of something, as text where a type is imported for checkers only."""
    try:
        return typing.get_type_hints(thing)
    except NameError:
        return dict(thing.__annotations__)


def _short(text: str) -> str:
    """Leave the modules out."""
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)
