"""The members of a pool that one call uses, one for each copy: who has which, what came of it.

A copy's member is reserved when the copy is decided on, so that a hedge for which there is nobody
is not started; where one is still being started, the copy waits for it. What a pool is told:

    the copy                          its member
    answers                           has succeeded
    answers, and there is a vote      has succeeded or dissented, if it was decided with the answer;
                                      otherwise nobody says if it was right
    fails                             has failed, if the `on` of the pool says so
    is cancelled, or interrupted      is released: neither better nor worse
    was never started                 is given back unused

What an answer is worth is known only when the call has ended, so that answers wait for it.
"""

from asyncio import CancelledError
from collections.abc import Callable, Collection
from typing import Any

from mainstay._core.members import Lender, Loan, Loans, Offer
from mainstay._core.threads import Pause


class Borrowed:
    """The members of one call, by copy.

    Attributes:
        over: Whether the call has ended.
    """

    __slots__ = ("_answered", "_lacking", "_loans", "_names", "_offers", "_votes", "over")

    def __init__(self, lender: Lender, *, votes: bool) -> None:
        self.over: bool = False
        self._votes = votes
        self._loans: Loans = lender.begin()
        self._offers: dict[int, Offer | Exception] = {}
        self._names: dict[int, str] = {}
        self._lacking: set[int] = set()
        self._answered: set[int] = set()

    def reserve(self, copy: int) -> bool:
        """Look for a member for a copy, once; say whether there is or may soon be one."""
        if copy not in self._offers:
            self._ask(copy)
        return self._offers[copy] is not None

    def unreserve(self, copy: int) -> None:
        """Give back the member of a copy that is not started."""
        self._names.pop(copy, None)
        loan = self._end(copy)
        if loan is not None:
            loan.unused()

    def label(self, copy: int) -> int | str:
        """Give what stands for a copy in metrics and answers: its member, or else its number."""
        return self._names.get(copy, copy)

    def lacks(self, copy: int) -> bool:
        """Whether there was no member for a copy."""
        return copy in self._lacking

    def lacking(self) -> int:
        """Give the number of copies for which there was no member."""
        return len(self._lacking)

    # The attempts, each in the thread or task of its copy.

    def call(self, copy: int, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call *fn* with the resource of the member of a copy, once there is one.

        Raises:
            CancelledError: If the call ended meanwhile, which a waiting thread cannot know.
        """
        while isinstance(offer := self._offers[copy], Pause):
            offer.wait()
            if self.over:
                raise CancelledError
            self._ask(copy)
        loan = self._entered(copy, offer)
        try:
            return fn(loan.resource, *args, **kwargs)
        finally:
            loan.leave()

    async def acall(self, copy: int, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Do the same in async code."""
        while isinstance(offer := self._offers[copy], Pause):
            await offer.await_()
            self._ask(copy)
        loan = self._entered(copy, offer)
        try:
            return await fn(loan.resource, *args, **kwargs)
        finally:
            loan.leave()

    def _ask(self, copy: int) -> None:
        try:
            self._offers[copy] = offer = self._loans.lend()
        except Exception as error:  # noqa: BLE001 - of a selector of the user's: fails the copy
            self._offers[copy] = error
            return
        if offer is not None and not isinstance(offer, Pause):
            self._names[copy] = offer.member

    def _entered(self, copy: int, loan: Loan | Exception | None) -> Loan:
        if isinstance(loan, Exception):
            raise loan
        if loan is None:
            self._lacking.add(copy)
            raise self._loans.nobody()
        loan.enter()
        return loan

    # What came of them.

    def answered(self, copy: int) -> None:
        """Take note of an answer, on which the vote is still to come."""
        self._answered.add(copy)

    def settle(self, dissenters: Collection[int] | None) -> None:
        """Tell the pool, at the end of the call, what came of the copies that have answered.

        Args:
            dissenters: Those that were outvoted; None if no vote was decided.
        """
        self.over = True
        while self._answered:
            copy = self._answered.pop()
            loan = self._end(copy)
            if loan is None:
                continue
            if dissenters is None and self._votes:
                loan.unjudged()
            elif dissenters is not None and copy in dissenters:
                loan.dissented()
            else:
                loan.succeeded()

    def late(self, copy: int) -> None:
        """Tell the pool of an answer that came when the call was settled."""
        loan = self._end(copy)
        if loan is None:
            return
        if self._votes:
            loan.unjudged()
        else:
            loan.succeeded()

    def failed(self, copy: int, error: Exception) -> None:
        """Tell the pool that a copy has failed by itself."""
        loan = self._end(copy)
        if loan is not None:
            loan.failed(error)

    def released(self, copy: int) -> None:
        """Tell the pool that a copy has ended and nothing follows from that."""
        loan = self._end(copy)
        if loan is not None:
            loan.released()

    def _end(self, copy: int) -> Loan | None:
        """Give the loan of a copy, for the one who ends it."""
        offer = self._offers.pop(copy, None)
        return None if isinstance(offer, Pause | Exception) else offer
