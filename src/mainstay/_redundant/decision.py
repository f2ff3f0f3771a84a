"""`Round`: which copy of a call starts when, and which one wins. Nothing here acts.

Values in, values out. The loops report to the round which copies started and how they ended, and do
what it answers:

    event                    then
    the call begins          start `planned` copies, the primary first
    a copy answers           count its answer; start what the vote lacks
    a copy fails             count its failure; start what the vote lacks, else one hedge
    the call is slow         start one hedge, and wait as long again for the next one
    the round is over        stop what runs; return the winner's answer, or raise

Copies that the vote lacks are part of the call, since it cannot be decided without them. A hedge is
one copy more: it is charged to the budget, and starts only if nothing forbids it (`forbids_hedge`).
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import attrs

from mainstay.events import RedundantReason
from mainstay.vote import Rule, State, Tally

HedgeReason: TypeAlias = Literal["slow", "failed"]
"""Why one copy more is wanted, as in `hedges_total`."""

Denial: TypeAlias = Literal["budget", "threads", "deadline", "no_member"]
"""Why a hedge was not started; the last one if its pool had nobody for it."""


@attrs.define(eq=False)
class Round:
    """The copies of one call. They are numbered as they start; 0 is the primary.

    Attributes:
        tally: The tally of the vote; None if the first answer wins.
        most: The largest number of copies.
        wanted: The number of copies that should have started; some may wait for a thread.
        made: The number of copies that were started.
        running: The copies that have not ended.
        began: When each copy started, in seconds of the call's clock.
        state: The state of the vote.
        winner: Once the vote is decided, the copy whose answer is returned.
        dissenters: Once the vote is decided, the copies whose answers differ from the winner's.
        hedges: The copies that were started because the primary was slow.
        denial: What forbade the last hedge.
        ended: When each copy ended, if the round was not over by then.
        answers: The answers, by copy.
        errors: The exceptions, by copy.
    """

    tally: Tally | None
    most: int
    wanted: int
    made: int
    running: set[int]
    began: dict[int, float]
    state: State = "undecided"
    winner: int = 0
    dissenters: Collection[int] = ()
    hedges: Collection[int] = ()
    denial: Denial | None = None
    ended: dict[int, float] = attrs.field(factory=dict, init=False)
    answers: dict[int, Any] = attrs.field(factory=dict, init=False)
    errors: dict[int, Exception] = attrs.field(factory=dict, init=False)

    # What happens.

    def start(self, now: float) -> int:
        """Record that the next copy starts; return its number."""
        copy = self.made
        self.made += 1
        self.running.add(copy)
        self.began[copy] = now
        return copy

    def answered(self, copy: int, answer: Any, now: float) -> None:
        """Count an answer. Exceptions of the rule pass through."""
        self.running.discard(copy)
        self.ended[copy] = now
        self.answers[copy] = answer
        if self.tally is None:
            self.winner, self.state = copy, "decided"
        else:
            self._apply(self.tally, self.tally.answered(copy, answer))
            self._want(self.tally)

    def failed(self, copy: int, error: Exception, now: float, *, replaceable: bool = True) -> None:
        """Count a failure. Exceptions of the rule pass through.

        Args:
            copy: The copy.
            error: The exception of the copy.
            now: The time.
            replaceable: False if the pool has no member for another copy either.
        """
        self.running.discard(copy)
        self.ended[copy] = now
        self.errors[copy] = error
        if self.tally is None:
            self.state = "undecided" if len(self.errors) < self.most else "impossible"
        else:
            self._apply(self.tally, self.tally.failed(copy))
            if replaceable:
                self._want(self.tally)

    def _apply(self, tally: Tally, state: State) -> None:
        """Apply the new state of a tally, which may be one of the user's."""
        if state == "decided":
            if tally.winner not in self.answers:
                raise ValueError(f"the tally decided for {tally.winner!r}, which is no answer")
            self.winner = tally.winner
            self.dissenters = tuple(tally.dissenters())
        elif state not in ("undecided", "impossible"):
            raise TypeError(
                f'a tally must say "undecided", "decided" or "impossible", not {state!r}'
            )
        self.state = state

    def _want(self, tally: Tally) -> None:
        """Want as many copies as the vote needs to be decided at all."""
        if self.state == "undecided":
            needed = max(1, tally.needed()) - len(self.running)
            self.wanted = max(self.wanted, self.made + needed)

    # What follows.

    def lacks_copies(self) -> bool:
        """True if a copy has to start now."""
        return self.state == "undecided" and self.made < min(self.wanted, self.most)

    def may_hedge(self) -> bool:
        """True if there is one more copy that could start."""
        return self.state == "undecided" and self.made < self.most

    def is_over(self) -> bool:
        """True if nothing that may still happen changes how the call ends."""
        return self.state != "undecided" or not self.running

    def reason(self) -> RedundantReason:
        """Return why a round that is over has no winner: what forbade the missing copy."""
        denial = self.denial
        if denial == "no_member" or (denial == "budget" and self.state == "undecided"):
            return denial
        if denial == "deadline" and self.state == "undecided":
            return "timeout"
        return "attempts" if self.all_failed() else "no_decision"

    def all_failed(self) -> bool:
        """True if every copy that was started has failed."""
        return len(self.errors) == self.made

    def is_recovered(self) -> bool:
        """True if the primary alone would not have given the answer.

        It failed, was outvoted, or was beaten by a copy that was started because it was slow. That
        another copy was faster of those that began with it, or agreed sooner, saves nobody.
        """
        if 0 in self.errors or 0 in self.dissenters:
            return True
        return self.tally is None and self.winner in self.hedges

    def verdict(self) -> str:
        """Return how the vote ended, as in `votes_total`."""
        if self.state != "decided":
            return "no_decision"
        return "decided" if self.errors or self.dissenters else "unanimous"


def planned(rule: Rule, copies: int, *, together: bool) -> int:
    """Return how many copies a call begins with."""
    return copies if together else min(copies, max(1, rule.tally(copies).needed()))


def forbids_hedge(
    left: float, *, room: bool, member: Callable[[], bool], token: Callable[[], bool]
) -> Denial | None:
    """Return what forbids a hedge, or None; what would have to be given back is asked for last.

    Args:
        left: Seconds that the call has left.
        room: True if there is a thread or task for the copy.
        member: Returns True if the pool has a member for the copy.
        token: Takes one extra call from the budget; returns False if none is left.
    """
    if left <= 0:
        return "deadline"
    if not room:
        return "threads"
    if not member():
        return "no_member"
    return None if token() else "budget"


def last_failed(copies: Iterable[int], ended: Mapping[int, float]) -> int:
    """Return the copy whose exception is raised if no copy answered: the copy that failed last.

    Of copies that failed at the same time, that is the one that started first.
    """
    return max(copies, key=lambda copy: (ended[copy], -copy))
