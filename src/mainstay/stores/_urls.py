"""How the URL of a store on a server is read: its mistakes are told by their place, never shown.

A password may stand anywhere in a URL that is wrong. So nothing of the URL is in an error, and no
message of another library is, which may quote the URL.
"""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class WrongPartError(ValueError):
    """What is wrong in a URL, in words that show nothing of the URL."""


def read(url: object, read_parts: Callable[[str], T], forms: str) -> T:
    """Return what *read_parts* makes of a URL.

    Args:
        url: What was given.
        read_parts: Raises `WrongPartError`, or another ValueError, whose message is not shown.
        forms: What a URL must be, in words.

    Raises:
        TypeError: If *url* is no string.
        ValueError: If it is none of that kind of store.
    """
    if not isinstance(url, str):
        raise TypeError(f"`url` must be a str, not {type(url).__name__}")
    try:
        return read_parts(url)
    except WrongPartError as wrong:
        problem = f"; here {wrong}"
    except ValueError:
        problem = ""
    raise ValueError(f"`url` {forms}{problem}")
