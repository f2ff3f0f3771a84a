"""What is asked of a bucket, and what it answers."""

from collections.abc import Generator, Sequence
from typing import Any, TypeAlias, TypeVar

import attrs

T = TypeVar("T")

ABSENT = ""
"""The condition that there is no object of that name."""


@attrs.frozen
class Get:
    """Read an object. The answer is a `Found`, or None if there is none.

    Attributes:
        name: Its name.
    """

    name: str


@attrs.frozen
class Put:
    """Write an object. The answer is its new ETag, or None if the condition did not hold.

    Attributes:
        name: Its name.
        data: Its content.
        condition: The ETag that it must have, `ABSENT`, or None for no condition.
    """

    name: str
    data: bytes = attrs.field(repr=False)
    condition: str | None = None


@attrs.frozen
class Delete:
    """Remove objects, if they are there. The answer is None.

    Attributes:
        names: Their names.
    """

    names: Sequence[str]


@attrs.frozen
class ListPage:
    """Ask which objects there are in a folder, up to a thousand. The answer is a list of `Listed`.

    Attributes:
        folder: The folder, without a slash at its end.
        after: The name after which the page begins; empty for the first page.
    """

    folder: str
    after: str = ""


@attrs.frozen
class Found:
    """An object.

    Attributes:
        data: Its content.
        etag: Its ETag.
        modified: When it was written, in seconds of the server's clock since 1970, rounded down.
    """

    data: bytes
    etag: str
    modified: float


@attrs.frozen
class Listed:
    """An object as a list has it.

    Attributes:
        name: Its name.
        size: How many bytes it has.
        etag: Its ETag; empty if the server does not list them.
    """

    name: str
    size: int
    etag: str


S3Request: TypeAlias = Get | Put | Delete | ListPage
S3Operation: TypeAlias = Generator[Sequence[S3Request], list[Any], T]
"""Yields requests, one at least, that may be sent side by side; is sent their answers in order."""
