"""Functions that can be run again by another process, and the arguments they are run with."""

from collections.abc import Callable
from typing import Any

import attrs

from mainstay._checkpoint.codec import Codec, to_bytes
from mainstay._checkpoint.document import restored, unsealed
from mainstay._checkpoint.envelope import seal
from mainstay.stores.base import RunId, Store


@attrs.frozen(eq=False)
class Recoverable:
    """A function that is imported in this process.

    Attributes:
        name: The name of its runs.
        store: Where they are kept.
        with_key: From the key of a run to the wrapped function, which then means that run.
        codec: Gives how its arguments are saved.
        is_async: Whether it must be awaited.
    """

    name: str
    store: Store
    with_key: Callable[[str], Callable[..., Any]]
    codec: Callable[[], Codec]
    is_async: bool = attrs.field(kw_only=True)


known: dict[str, dict[str, Recoverable]] = {}
"""All of them, by the name of their runs and the URL of their store."""


def remember(recoverable: Recoverable) -> None:
    """Add a function to those that are known; one of the same name and store is replaced."""
    known.setdefault(recoverable.name, {})[recoverable.store.url] = recoverable


def encoded_arguments(
    codec: Codec, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bytes:
    """Give the bytes to save of the arguments of a call.

    Raises:
        UnsaveableValueError: If one cannot be saved.
    """
    root = f"the arguments of recoverable {name}: "
    saved = [codec.encode([*args], f"{root}args"), codec.encode(kwargs, f"{root}kwargs")]
    return seal(to_bytes(saved))


def decoded_arguments(codec: Codec, run: RunId, saved: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Give the arguments back.

    Raises:
        CorruptCheckpointError: If they are damaged.
        CodeChangedError: If a type no longer takes what was saved of it.
        UnknownTypeError: If they need a type that may not be built.
    """
    root = f"the arguments of recoverable {run.name}"
    args, kwargs = unsealed(saved, root)
    return restored(codec, args, f"{root}: args", run), restored(
        codec, kwargs, f"{root}: kwargs", run
    )
