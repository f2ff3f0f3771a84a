"""Functions that can be run again by another process, and the arguments they are run with."""

from collections.abc import Callable
from typing import Any

import attrs

from mainstay._checkpoint.codec import Codec, to_bytes
from mainstay._checkpoint.document import restored, unsealed
from mainstay._checkpoint.envelope import seal
from mainstay._checkpoint.types import Allowed
from mainstay.stores.base import RunId, Store


@attrs.frozen(eq=False)
class Recoverable:
    """A function that is imported in this process.

    Attributes:
        name: The name of its runs.
        store: Where they are kept.
        with_key: From the key of a run to the wrapped function, which then means that run.
        types: Gives the types that its annotations name.
        is_async: Whether it must be awaited.
    """

    name: str
    store: Store
    with_key: Callable[[str], Callable[..., Any]]
    types: Callable[[], Allowed]
    is_async: bool = attrs.field(kw_only=True)


known: dict[str, Recoverable] = {}
"""All of them, by the name of their runs."""


def remember(recoverable: Recoverable) -> None:
    """Add a function to those that are known; a name that was there is replaced."""
    known[recoverable.name] = recoverable


def encoded_arguments(
    types: Allowed, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bytes:
    """Give the bytes to save of the arguments of a call.

    Raises:
        UnsaveableValueError: If one cannot be saved.
    """
    codec = Codec(types)
    root = f"the arguments of recoverable {name}: "
    saved = [codec.encode([*args], f"{root}args"), codec.encode(kwargs, f"{root}kwargs")]
    return seal(to_bytes(saved))


def decoded_arguments(types: Allowed, run: RunId, saved: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Give the arguments back.

    Raises:
        CorruptCheckpointError: If they are damaged.
        CodeChangedError: If a type no longer takes what was saved of it.
        UnknownTypeError: If they need a type that may not be built.
    """
    root = f"the arguments of recoverable {run.name}"
    args, kwargs = unsealed(saved, root)
    codec = Codec(types)
    return restored(codec, args, f"{root}: args", run), restored(
        codec, kwargs, f"{root}: kwargs", run
    )
