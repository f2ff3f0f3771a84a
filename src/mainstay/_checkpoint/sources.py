"""What a run can iterate over."""

from collections.abc import AsyncIterable, Iterable

from mainstay._core.arguments import to_flag
from mainstay._core.functions import Kind, kind_of


def is_trusted(source: object) -> bool:
    """Whether a source is a callable, which begins after the last key by itself."""
    return callable(source) and not isinstance(source, Iterable | AsyncIterable)


def check_iteration(source: object, key: object, name: object, progress: object) -> None:
    """Refuse what cannot be iterated over, or not resumed."""
    trusted = is_trusted(source)
    if not trusted and not isinstance(source, Iterable | AsyncIterable):
        raise TypeError(
            f"`source` must be an iterable or a callable that gives one, not {source!r}"
        )
    if key is not None and not callable(key):
        raise TypeError(f"`key` must be a function from an item to its key, not {key!r}")
    if callable(key) and not isinstance(key, type) and kind_of(key) is not Kind.SYNC:
        raise TypeError(f"`key` must be a plain function: it is asked for each item, not {key!r}")
    if trusted and key is None:
        raise TypeError("`key` is needed with a callable source, which is given the last one")
    if name is not None and not (isinstance(name, str) and name):
        raise TypeError(f"`name` must be a str that is not empty, or None, not {name!r}")
    to_flag(progress, "progress")
