"""What a policy needs of a pool that it does not import: members lent one by one.

A redundant call gives each of its copies a member of its own, and tells the pool what came of it.
Nothing here waits by itself: where nobody can be lent just now there is a `Pause`, which the
caller waits out in its own kind before it asks again.
"""

from typing import Any, Protocol, TypeAlias

from mainstay._core.threads import Pause


class Loan(Protocol):
    """One member of a pool, lent for one attempt.

    The attempt lies between `enter` and `leave`, in one thread or task. Afterwards, or instead,
    one of the other methods ends the loan, whoever calls it.
    """

    @property
    def member(self) -> str:
        """The member's name."""
        ...

    @property
    def resource(self) -> Any:
        """Its resource."""
        ...

    def enter(self) -> None:
        """Begin the attempt, and be the lease of the code that makes it."""
        ...

    def leave(self) -> None:
        """End the attempt: the member is not used any more, what came of it is still open."""
        ...

    def succeeded(self) -> None:
        """Tell that the member has answered."""
        ...

    def dissented(self) -> None:
        """Tell that the member has answered, and was outvoted."""
        ...

    def unjudged(self) -> None:
        """Tell that the member has answered, and that no vote says if rightly."""
        ...

    def failed(self, error: Exception) -> None:
        """Tell what the attempt has raised; the pool says if it counts against the member."""
        ...

    def released(self) -> None:
        """Tell that nothing is known of the attempt: it was cancelled, or is somebody's fault."""
        ...

    def unused(self) -> None:
        """Tell that there was no attempt."""
        ...


Offer: TypeAlias = Loan | Pause | None
"""A member, a pause before there may be one, or None if there is none left."""


class Loans(Protocol):
    """The members of a pool for one call, which gets each of them at most once."""

    def lend(self) -> Offer:
        """Lend a member that the call has not had. Safe to call from several threads at once."""
        ...

    def nobody(self) -> Exception:
        """Say why there was none: an exception with the reason of each member."""
        ...


class Lender(Protocol):
    """A pool that lends its members."""

    @property
    def name(self) -> str:
        """The name of the pool."""
        ...

    @property
    def is_async(self) -> bool:
        """Whether it can be used in async code only."""
        ...

    def members(self) -> tuple[str, ...]:
        """Give the names of the members that it has now, whatever their health."""
        ...

    def begin(self) -> Loans:
        """Begin to lend to a call, in its context.

        Raises:
            RuntimeError: If the pool belongs to another event loop.
        """
        ...


class Pool(Protocol):
    """What users pass as `pool=`: a `FailoverPool`."""

    @property
    def _lender(self) -> Lender: ...


def lender_of(pool: object) -> Lender:
    """Give the lender of what users pass as `pool=`.

    Raises:
        TypeError: If it is not one.
    """
    lender: Lender | None = getattr(pool, "_lender", None)
    if lender is None:
        raise TypeError(f"`pool` must be a FailoverPool, not {pool!r}")
    return lender
