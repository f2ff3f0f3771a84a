"""Which copies a call still needs, and how it ends: numbers in, numbers out. Nothing here acts.

A `Round` is told what was started and how it ended. The loops ask it:

    owed()      so many copies must start now: the vote cannot be decided without them
    spare()     one more copy may start, if the primary is slow or a copy failed
    stuck()     nothing runs any more and the vote is open: the call fails

    event                          then
    the call begins                start `planned` copies
    a copy answers                 take it to the vote; start what is owed
    a copy fails                   take it to the vote; start a spare one
    the primary is slow            start a spare one
    the vote is settled            cancel what runs; return the winner's answer, or raise

What is owed is the call itself. A spare copy is a hedge: it is charged to the budget, and not
started if the deadline, the budget or the threads forbid it.
"""

from collections.abc import Collection
from typing import Any, Literal, TypeAlias

import attrs

from mainstay.events import RedundantReason
from mainstay.vote import Rule, State, Tally

Denial: TypeAlias = Literal["budget", "threads", "deadline", "warmup", "no_member"]
"""Why a hedge was not started; the last one if its pool had nobody for it."""


@attrs.define(eq=False)
class Round:
    """The copies of one call.

    Attributes:
        tally: The vote.
        most: How many copies there may be.
        made: How many were started; their numbers are those below.
        running: Those that have not ended.
        answers: What was answered, by copy.
        errors: What failed, by copy.
        state: Whether the vote is settled.
        dissenters: Once decided, the copies whose answers differ from the winner's.
    """

    tally: Tally
    most: int
    made: int = 0
    running: set[int] = attrs.field(factory=set)
    answers: dict[int, Any] = attrs.field(factory=dict)
    errors: dict[int, Exception] = attrs.field(factory=dict)
    state: State = "undecided"
    dissenters: Collection[int] = ()

    def start(self) -> int:
        """Take note that the next copy starts; give its number."""
        copy = self.made
        self.made += 1
        self.running.add(copy)
        return copy

    def answered(self, copy: int, answer: Any) -> None:
        """Take note of an answer. What the rule raises about it comes through."""
        self.running.discard(copy)
        self.answers[copy] = answer
        self._turn(self.tally.answered(copy, answer))

    def failed(self, copy: int, error: Exception) -> None:
        """Take note of a failure. What the rule raises about it comes through."""
        self.running.discard(copy)
        self.errors[copy] = error
        self._turn(self.tally.failed(copy))

    def _turn(self, state: State) -> None:
        """Take what the tally says, which may be one of the user's."""
        if state == "decided":
            if self.tally.winner not in self.answers:
                raise ValueError(f"the tally decided for {self.tally.winner!r}, which is no answer")
            self.dissenters = tuple(self.tally.dissenters())
        elif state not in ("undecided", "impossible"):
            raise TypeError(
                f'a tally must say "undecided", "decided" or "impossible", not {state!r}'
            )
        self.state = state

    def owed(self) -> int:
        """Give the number of copies without which the vote cannot be decided."""
        if self.state != "undecided":
            return 0
        missing = max(1, self.tally.needed()) - len(self.running)
        return max(0, min(missing, self.most - self.made))

    def spare(self) -> bool:
        """Whether one more copy may start."""
        return self.state == "undecided" and self.made < self.most

    def stuck(self) -> bool:
        """Whether the vote is open and nobody is left to settle it."""
        return self.state == "undecided" and not self.running

    def all_failed(self) -> bool:
        """Whether every copy that was started has failed."""
        return len(self.errors) == self.made

    def verdict(self) -> str:
        """Say how the vote ended, as in `votes_total`."""
        if self.state != "decided":
            return "no_decision"
        return "decided" if self.errors or self.dissenters else "unanimous"


def planned(rule: Rule, copies: int, *, together: bool) -> int:
    """Give the number of copies that a call begins with."""
    return copies if together else min(copies, max(1, rule.tally(copies).needed()))


def reason_of(round_: Round, denial: Denial | None) -> RedundantReason:
    """Say why a call without a decision gave up: what forbade the copy that it lacked, if any."""
    if denial in ("budget", "no_member"):
        return denial
    if denial == "deadline":
        return "timeout"
    return "attempts" if round_.all_failed() else "no_decision"
