"""Arguments that can be read only once, and if an attempt has used them up.

These count as used up: generators, async generators and coroutines that have begun; files that can
be read but cannot seek; and files whose position differs from that before the attempt. Nothing else
is guessed: iterators of other classes, cursors, clients and the contents of containers are passed
again. Used by `retry`, pools and redundant calls, before they call a function again.
"""

import inspect
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from opcode import opmap
from types import AsyncGeneratorType, CoroutineType, GeneratorType, NoneType
from typing import Any, TypeAlias

Positions: TypeAlias = Mapping[int, int | None]
"""Where the files among the arguments of a call stood before it, by `id`; None if unknown."""

NO_FILES: Positions = {}

File = io.IOBase.__mro__[1]
"""The base of all files: not the abstract class, since this one is asked at every call."""

is_file_type: Callable[[type], bool] = File.__subclasscheck__
"""True for the type of a file: to ask an argument itself would load what it stands for, if lazy."""

NO_FILE = frozenset((NoneType, bool, int, float, str, bytes, tuple, list, dict))
"""The types of most arguments: to find them here takes less than to ask whether they are a file."""

_INSTEAD = "pass what makes a new one, as a lambda does"
_GENERATED = frozenset((GeneratorType, AsyncGeneratorType, CoroutineType))


def has_one_shot(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """True if there may be an argument that copies of a call cannot share."""
    for value in (*args, *kwargs.values()) if kwargs else args:
        kind = type(value)
        if kind not in NO_FILE and (kind in _GENERATED or is_file_type(kind)):
            return True
    return False


def positions_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Positions:
    """Return where the files among the arguments stand."""
    files = [each for each in (*args, *kwargs.values()) if is_file_type(type(each))]
    return {id(file): _position(file) for file in files} if files else NO_FILES


def used_up(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    positions: Positions,
    *,
    before: int = 0,
) -> str | None:
    """Return which argument an attempt has used up, in words; None if there is none.

    Args:
        fn: What was called.
        args: Its arguments, without those that a policy adds.
        kwargs: Its keyword arguments.
        positions: Where files stood before the call.
        before: How many arguments a policy puts before them.
    """
    if not has_one_shot(args, kwargs):
        return None
    for name, value in _named(fn, args, kwargs, before):
        what = _begun(value) or (
            is_file_type(type(value)) and _moved(value, positions.get(id(value)))
        )
        if what:
            return f"argument {name}, {what}, is used up; {_INSTEAD}"
    return None


def check_shareable(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, before: int = 0
) -> None:
    """Raise if only one copy of a call could read one of the arguments.

    Args:
        fn: The function of the first copy.
        args: The arguments, without those that a policy adds.
        kwargs: The keyword arguments.
        before: The number of arguments that a policy puts before them.

    Raises:
        ValueError: If there is such an argument; the message names it.
    """
    for name, value in _named(fn, args, kwargs, before):
        what = _GENERATED_WORDS.get(type(value)) or (
            is_file_type(type(value)) and _is_read(value) and "a file"
        )
        if what:
            raise ValueError(
                f"argument {name} is {what}, which can be read once, and copies would share it; "
                f"{_INSTEAD}"
            )


_GENERATED_WORDS = {
    GeneratorType: "a generator",
    AsyncGeneratorType: "an async generator",
    CoroutineType: "a coroutine",
}


def _named(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], before: int
) -> Iterator[tuple[str, Any]]:
    """Return the names and values that may be of one use, but for the self of a method."""
    for place, value in enumerate(args):
        own = place == 0 and hasattr(type(value), getattr(fn, "__name__", ""))  # the self of fn
        if type(value) in _GENERATED or (is_file_type(type(value)) and not own):
            yield _name_at(fn, place + before), value
    for key, value in kwargs.items():
        yield f"`{key}`", value


def _name_at(fn: Callable[..., Any], place: int) -> str:
    """Return the name of the argument at a place, or else that."""
    try:
        parameters = [*inspect.signature(fn).parameters.values()]
    except (TypeError, ValueError):  # a builtin without a signature
        parameters = []
    named = [each for each in parameters if each.kind <= inspect.Parameter.POSITIONAL_OR_KEYWORD]
    return f"`{named[place].name}`" if place < len(named) else str(place + 1)


def _begun(value: object) -> str | None:
    """Return the kind of *value* in words, if it is a generator or coroutine that has begun."""
    begun = False
    if isinstance(value, GeneratorType):
        begun = inspect.getgeneratorstate(value) != inspect.GEN_CREATED
    elif isinstance(value, CoroutineType):
        begun = inspect.getcoroutinestate(value) != inspect.CORO_CREATED
    elif isinstance(value, AsyncGeneratorType):
        begun = _async_generator_has_begun(value)
    return _GENERATED_WORDS[type(value)] if begun else None


def _async_generator_has_begun(value: AsyncGeneratorType[Any, Any]) -> bool:
    if sys.version_info >= (3, 12):
        return inspect.getasyncgenstate(value) != inspect.AGEN_CREATED
    frame = value.ag_frame
    if frame is None or value.ag_running:
        return True
    return frame.f_code.co_code[frame.f_lasti] != opmap["RETURN_GENERATOR"]


def _moved(file: Any, stood: int | None) -> str | None:
    """Return what a file is that has been read or written, or may have been."""
    stands = _position(file)
    if stands is not None and stands == stood:
        return None
    if stands is None or stood is None:
        return "a file that cannot seek" if _is_read(file) else None
    return "a file that does not stand where it stood before"


def _position(file: Any) -> int | None:
    """Return where a file stands; None if it cannot seek, or is closed."""
    try:
        return int(file.tell()) if file.seekable() else None
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything
        return None


def _is_read(file: Any) -> bool:
    """True if a file can be read, or nobody can say any more."""
    try:
        return bool(file.readable())
    except Exception:  # noqa: BLE001 - as above; one that is closed raises too
        return True
