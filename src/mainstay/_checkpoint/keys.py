"""From the arguments of a call to the key of its run.

A template joins values with the text between its fields. If a value contains that text, as ``a-b``
does in ``{tenant}-{day}``, its end would be ambiguous: such a value is quoted with its length, as
``~3~a-b``. Earlier versions did not quote, so a run may be stored under its unquoted key (see
`former`).
"""

import functools
import inspect
import itertools
import re
import string
from collections.abc import Callable
from typing import Any

import attrs

from mainstay._checkpoint.settings import Key
from mainstay._checkpoint.value_digest import ARGUMENTS, value_digest
from mainstay._core.functions import checked_name_or_none, name_of

_SELF = ("self", "cls")
_QUOTED = re.compile(r"~\d+~")


@attrs.frozen
class RunKey:
    """The key of a run.

    Attributes:
        text: The key under which the run is stored.
        former: The key of earlier versions, if it differs.
        is_exact: True if a template made the key, and no other call of the function has it.
    """

    text: str
    former: str | None = None
    is_exact: bool = False


@attrs.frozen(eq=False)
class Arguments:
    """The parameters of a function as its callers see them, without the checkpoint.

    Attributes:
        fn: The function.
        signature: Its signature without `cp`.
        place: Where `cp` goes: 0, or 1 after `self` or `cls`.
    """

    fn: Callable[..., Any]
    signature: inspect.Signature
    place: int

    @classmethod
    def of(cls, fn: Callable[..., Any]) -> "Arguments":
        """Return the parameters of *fn*.

        Raises:
            TypeError: If there is no parameter for `cp`.
        """
        signature = inspect.signature(fn)
        parameters = [*signature.parameters.values()]
        place = 1 if parameters and parameters[0].name in _SELF else 0
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD,
                      inspect.Parameter.VAR_POSITIONAL)  # fmt: skip
        if len(parameters) <= place or parameters[place].kind not in positional:
            raise TypeError(
                f"{name_of(fn)} needs a first parameter for its Checkpoint, after `self` if there "
                f"is one: def {fn.__name__ if hasattr(fn, '__name__') else 'fn'}(cp, ...)"
            )
        if parameters[place].kind is not inspect.Parameter.VAR_POSITIONAL:
            del parameters[place]
        return cls(fn, signature.replace(parameters=parameters), place)

    def with_checkpoint(self, cp: object, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments of a call with the checkpoint where it goes."""
        return (*args[: self.place], cp, *args[self.place :])

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name, defaults and `self` included.

        Raises:
            TypeError: If they do not fit.
        """
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments


def check_key(key: Key, arguments: Arguments) -> None:
    """Raise unless a key can tell the runs of a function apart.

    Raises:
        TypeError: If *key* is neither a format string, a function nor None.
        ValueError: If the format string names what is not a parameter, or nothing at all.
    """
    if key is None or callable(key):
        return
    if not isinstance(key, str):
        raise TypeError(f"`key` must be a format string, a function or None, not {key!r}")
    parameters = [*arguments.signature.parameters.values()][arguments.place :]
    names = [each.name for each in parameters]
    first_of_method = [*arguments.signature.parameters][: arguments.place]
    fields = _fields_of(key)
    for field in fields:
        first = field.partition(".")[0].partition("[")[0]
        if first not in (*first_of_method, *names):
            raise ValueError(
                f"`key` {key!r} names {first!r}, which is not a parameter of "
                f"{name_of(arguments.fn)}; it has {', '.join(names) or 'none'}"
            )
    if not key or (names and not fields):
        raise ValueError(
            f"`key` {key!r} names no parameter of {name_of(arguments.fn)}, so that all of its "
            f'calls would be one run; name one, as in key="import-{{{(names or ["tenant"])[0]}}}"'
        )


def _fields_of(key: str) -> list[str]:
    """Return what a format string names.

    Raises:
        ValueError: If it is not a format string.
    """
    try:
        parts = [*string.Formatter().parse(key)]
    except ValueError as error:
        raise ValueError(f"`key` {key!r} is not a format string: {error}") from None
    for _, _, _, conversion in parts:
        if conversion not in (None, "r", "s", "a"):
            raise ValueError(
                f"`key` {key!r} is not a format string: it converts by {conversion!r}, and there "
                f"are only !r, !s and !a"
            )
    return [field for _, field, _, _ in parts if field is not None]


def key_of_call(
    key: Key, arguments: Arguments, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> RunKey:
    """Return the key of the run that a call means.

    Raises:
        TypeError: If the arguments do not fit, or *key* does not return a str.
        ValueError: If it does not fit the arguments, or returns what `checked_key` refuses.
        UnsaveableValueError: If *key* is None and an argument has no exact form.
    """
    values = arguments.bound(args, kwargs)
    if key is None:
        values = dict([*values.items()][arguments.place :])
        return RunKey(value_digest(values, f"{name_of(arguments.fn)}: arguments", ARGUMENTS))
    if isinstance(key, str):
        try:
            former = key.format(**values)
            text = "".join(_quoted(part, values, literal) for part, literal in _parts_of(key))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"`key` {key!r} does not fit the arguments: {error}") from error
        checked_key(text)
        return RunKey(text, former if former != text else None, is_exact=True)
    return RunKey(checked_key(key(*args[arguments.place :], **kwargs)))


@functools.lru_cache(maxsize=1024)
def _parts_of(key: str) -> tuple[tuple[str, str | None], ...]:
    """Return the parts of a format string, each with the text up to the next field.

    The text is None where no ambiguity is possible: for literal text, and for the last field.
    """
    parts: list[tuple[str, str | None]] = []
    for literal, field, spec, conversion in string.Formatter().parse(key):
        if literal:
            parts.append((literal.replace("{", "{{").replace("}", "}}"), None))
        if field is not None:
            how = f"!{conversion}" if conversion else ""
            parts.append((f"{{{field}{how}{f':{spec}' if spec else ''}}}", ""))
    fields = [place for place, (_, literal) in enumerate(parts) if literal is not None]
    for place, following in itertools.pairwise(fields):
        between = "".join(text.format() for text, _ in parts[place + 1 : following])
        parts[place] = (parts[place][0], between)
    if fields:
        parts[fields[-1]] = (parts[fields[-1]][0], None)
    return tuple(parts)


def _quoted(part: str, values: dict[str, Any], literal: str | None) -> str:
    """Return a part of a key, quoted if it would not end at the *literal* that follows it."""
    text = part.format(**values)
    if literal is None or not (
        (text + literal).find(literal) < len(text) or _QUOTED.match(text + literal)
    ):
        return text
    return f"~{len(text)}~{text}"


def checked_key(key: object) -> str:
    """Return *key*; raise unless it can be that of a run: text, not empty, and good for UTF-8."""
    if not isinstance(key, str):
        raise TypeError(f"the `key` of a run must be a str, not {key!r}")
    if not key:
        raise ValueError("the `key` of a run must not be empty")
    return checked_text(key, "`key`")


def checked_run_name(name: object) -> str | None:
    """Return what runs are to be stored under; None for the name of the code."""
    checked = checked_name_or_none(name)
    return checked and checked_text(checked, "`name`")


def checked_text(text: str, what: str) -> str:
    """Return *text*; raise if no store can keep it: with half of a surrogate pair in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{what} {text!a} cannot be written as UTF-8; use ascii() of it, or the bytes"
        ) from None
    return text
