"""Writes YAML: as much of it as rule files need, so that nothing has to be installed for it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*(?::[A-Za-z0-9_./-]+)*")
_NOT_TEXT = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_BLOCK = re.compile(r"\S(?:[^\n]*\S)?(?:\n(?:[^\n]*\S))*")
_STEP = "  "


def to_yaml(value: Any) -> str:
    """Write mappings, sequences, strings and numbers; the text ends with a line break.

    Text of several lines, or with quotes in it, becomes a literal block; everything else that is
    not a plain word is quoted.
    """
    return "\n".join(_lines(value, "")) + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _entry(f"{indent}{_text(key)}:", each, indent)
    else:
        for each in value:
            first, *rest = _lines_of_item(each, indent)
            yield f"{indent}- {first.removeprefix(indent + _STEP)}"
            yield from rest


def _lines_of_item(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple) and value:
        return _lines(value, indent + _STEP)
    return iter([_scalar(value, indent + _STEP)])


def _entry(start: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple) and value:
        yield start
        yield from _lines(value, indent + _STEP)
    else:
        yield f"{start} {_scalar(value, indent + _STEP)}"


def _scalar(value: Any, indent: str) -> str:
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    if not isinstance(value, str):
        return str(value)
    long = "\n" in value or '"' in value
    if long and _BLOCK.fullmatch(value) and value.replace("\n", "").isprintable():
        return "|-\n" + "\n".join(indent + line for line in value.split("\n"))
    return _text(value)


def _text(value: str) -> str:
    """Write text on one line."""
    if _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\U{code:08x}" if code > 0xFFFF else f"\\u{code:04x}"  # noqa: PLR2004 - 4 hex digits
