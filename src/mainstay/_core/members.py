"""What a policy needs of a pool that it does not import: members lent one by one.

A redundant call gives each of its copies a member of its own, and tells the pool what came of it.
"""

from collections.abc import Collection
from typing import Any, Protocol


class Loan(Protocol):
    """One member of a pool, lent for one attempt; one of its methods ends it.

    Attributes:
        member: The member's name.
        resource: Its resource.
    """

    member: str
    resource: Any

    def succeeded(self) -> None:
        """Tell that the member has answered."""
        ...

    def failed(self, error: Exception) -> None:
        """Tell that the attempt has raised what counts against the member."""
        ...

    def dissented(self) -> None:
        """Tell that the member has answered, and was outvoted."""
        ...

    def released(self) -> None:
        """Tell that nothing is known of the attempt: it was cancelled, or is somebody's fault."""
        ...


class Lender(Protocol):
    """A pool that lends its members."""

    def lend(self, without: Collection[str]) -> Loan | None:
        """Lend a member whose name is not in *without*, and wait for one that is being started.

        None if there is none left.
        """
        ...

    async def alend(self, without: Collection[str]) -> Loan | None:
        """Lend a member in async code."""
        ...


def lender_of(pool: object) -> Lender:
    """Give the lender of what users pass as `pool=`.

    Raises:
        TypeError: If it is no pool.
    """
    lender: Lender | None = getattr(pool, "_lender", None)
    if lender is None:
        raise TypeError(f"`pool` must be a FailoverPool, not {pool!r}")
    return lender
