"""How the URL of a store on a server is read: its mistakes are told by their place, never shown.

A password may stand anywhere in a URL that is wrong. So nothing of the URL is in an error, and no
message of another library is, which may quote the URL.
"""

import re
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

A = TypeVar("A")

_UNUSABLE = re.compile(r"[\0-\x20\x7f\ud800-\udfff]")


class WrongPartError(ValueError):
    """What is wrong in a URL, in words that show nothing of the URL."""


def read_url(url: object, scheme: str, forms: str, read: Callable[[str], A]) -> A:
    """Return what *read* makes of *url*.

    Args:
        url: What the user gave.
        scheme: A pattern of what stands before ``://``.
        forms: What a URL must be, in words.
        read: Raises WrongPartError, or another ValueError, whose message is not shown.

    Raises:
        TypeError: If *url* is no string.
        ValueError: If *url* is refused.
    """
    if not isinstance(url, str):
        raise TypeError(f"`url` must be a str, not {type(url).__name__}")
    try:
        if not re.match(f"({scheme})://", url) or _UNUSABLE.search(url):
            raise WrongPartError("it begins otherwise, or has a space or a control character")
        return read(url)
    except WrongPartError as wrong:
        problem = f"; here {wrong}"
    except ValueError:
        problem = ""
    raise ValueError(f"`url` {forms}{problem}")


def split_url(url: str) -> tuple[SplitResult, dict[str, str]]:
    """Return the parts of a URL, and its options.

    Raises:
        ValueError: If there is a fragment, or something is not what a URL has there.
    """
    parts = urlsplit(url)
    if parts.fragment:
        raise WrongPartError("it has a #, which is to be %23 in a name or password")
    query = parts.query
    return parts, dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
