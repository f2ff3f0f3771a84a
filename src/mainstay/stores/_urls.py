"""What the URLs of stores on servers have in common: which are refused, and how that is told.

No message shows any of a URL, nor is one raised while another is handled that may: there may be a
password in each.
"""

import re
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

A = TypeVar("A")

_UNUSABLE = re.compile(r"[\0-\x20\x7f\ud800-\udfff]")


def to_url(url: object, scheme: str, forms: str) -> str:
    """Return *url*.

    Args:
        url: What the user gave.
        scheme: A pattern of what stands before ``://``.
        forms: What a URL must be, for the message.

    Raises:
        TypeError: If *url* is no string.
        ValueError: If *url* is of another scheme, or has characters that no URL has.
    """
    if not isinstance(url, str):
        raise TypeError(f"`url` must be a str, not {type(url).__name__}")
    if not re.match(f"({scheme})://", url) or _UNUSABLE.search(url):
        raise ValueError(f"`url` {forms}")
    return url


def read_url(
    url: object, scheme: str, forms: str, read: Callable[[SplitResult, dict[str, str]], A | None]
) -> A:
    """Return what *read* makes of the parts of *url*, and of its options.

    Args:
        url: What the user gave.
        scheme: As for `to_url`.
        forms: As for `to_url`.
        read: Returns None, or raises ValueError, for a URL that is to be refused.

    Raises:
        TypeError: If *url* is no string.
        ValueError: If *url* is refused.
    """
    found = None
    try:
        parts = urlsplit(to_url(url, scheme, forms))
        strict = bool(parts.query)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=strict))
        if not parts.fragment:
            found = read(parts, options)
    except ValueError:
        pass  # its message may show what is in the URL
    if found is None:
        raise ValueError(f"`url` {forms}")
    return found
