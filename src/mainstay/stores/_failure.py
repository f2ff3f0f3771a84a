"""What went wrong at a server, or on the way to a server, and how users are told of that."""

from collections.abc import Mapping
from typing import ClassVar, Self

from mainstay.errors import (
    CheckpointError,
    CorruptCheckpointError,
    StoreSchemaError,
    StoreUnavailableError,
)


class ServerFailure(Exception):  # noqa: N818 - never seen by users
    """What a server or a connection said; each kind of server has a class of its own.

    Attributes:
        problem: In words, for people.
        code: What the server calls the problem, or what we do; empty if the server said nothing.
        retryable: True if the same request may succeed a moment later.
        cut: True if the connection was lost.
        HINTS: What users can do, by code.
        CORRUPT: Codes of what mainstay cannot have written.
        FOREIGN: Codes of what a newer mainstay, or another program, has written.
    """

    HINTS: ClassVar[Mapping[str, str]] = {}
    CORRUPT: ClassVar[frozenset[str]] = frozenset({"CORRUPT"})
    FOREIGN: ClassVar[frozenset[str]] = frozenset({"SCHEMA"})

    def __init__(
        self, problem: str, code: str = "", *, retryable: bool = False, cut: bool = False
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.code = code
        self.retryable = retryable
        self.cut = cut

    @classmethod
    def late(cls) -> Self:
        """Return the failure for an answer that did not come."""
        return cls("the server did not answer in time", retryable=True)

    @classmethod
    def taken(cls) -> Self:
        """Return the failure for a result whose number another result has."""
        return cls("a result with such a number is kept already, and is another one")

    @classmethod
    def corrupt(cls, what: str) -> Self:
        """Return the failure for what no mainstay can have written."""
        return cls(what, "CORRUPT")

    @classmethod
    def newer(cls, what: str, found: object, known: object) -> Self:
        """Return the failure for *what* has a format that is *found*, and not the one *known*."""
        return cls(
            f"{what} has format {found}, and this mainstay knows {known}; upgrade mainstay",
            "SCHEMA",
        )

    def told(self, url: str) -> CheckpointError | ValueError:
        """Return the failure as the error that users of the store at *url* see."""
        problem = self.problem + self.HINTS.get(self.code, "")
        if self.code in self.CORRUPT:
            return CorruptCheckpointError(url, problem)
        if self.code in self.FOREIGN:
            return StoreSchemaError(url, problem)
        return StoreUnavailableError(url, problem, retryable=self.retryable)
