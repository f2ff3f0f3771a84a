"""How a redundant call ends: what is recorded, returned, raised and disposed of.

A call is *open* while its vote is not settled, *settled* as soon as its end is certain, and
*closed* when it has been recorded. Each answer is either the one that is returned or disposed of,
once.
"""

import logging
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from mainstay._core.budget import observe
from mainstay._core.context import DEFAULT_CONTEXT, CallContext
from mainstay._core.events import is_observed, logger_of, publish
from mainstay._core.failures import counted, leave_note
from mainstay._redundant.borrowing import Borrowed
from mainstay._redundant.decision import Denial, Round
from mainstay._redundant.rules import POLICY, Bound
from mainstay.errors import (
    AllCopiesFailedError,
    DeadlineExpiredError,
    MainstayError,
    NoDecisionError,
)
from mainstay.events import RedundantGaveUp, RedundantReason

if TYPE_CHECKING:
    from mainstay._metrics.copies import CopiesRecorder
    from mainstay._metrics.recorder import Recorder

_NOTHING = object()


class Ending:
    """The state of one call, and its end.

    Attributes:
        bound: The policy and what it calls.
        context: The clock and the deadline.
        started: When the primary began, in seconds of the clock.
        primary_runs: Whether the caller runs the primary itself, which then is not started here.
        settled: Whether the end is certain.
        closed: Whether it is over for the caller.
        fns: What each copy calls.
        members: The members of a pool that the copies use, or None.
    """

    __slots__ = (
        "_args",
        "_began",
        "_denial",
        "_ended",
        "_failure",
        "_kwargs",
        "_misuses",
        "_observed",
        "_reason",
        "_returned",
        "_round",
        "_short",
        "bound",
        "closed",
        "context",
        "copies",
        "fns",
        "members",
        "primary_runs",
        "recorder",
        "settled",
        "started",
    )

    def __init__(
        self,
        bound: Bound,
        context: CallContext,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        started: float | None = None,
    ) -> None:
        self.bound: Bound = bound
        self.fns: tuple[Callable[..., Any], ...] = bound.fns
        self.context: CallContext = context
        self._args = args
        self._kwargs = kwargs
        self._round: Round | None = None
        self._failure: BaseException | None = None  # what the call raises
        self._reason: RedundantReason | None = None  # why; None if it was cancelled
        self._denial: Denial | None = None  # what forbade the last hedge
        self._misuses: tuple[BaseException, ...] = ()  # plain functions returned coroutines
        self._observed = False  # whether the budget knows of the call
        self._short = 0  # owed copies that there was no room for yet
        self._returned: object = _NOTHING
        self.primary_runs: bool = False
        self.settled: bool = False
        self.closed: bool = False
        recorders = bound.recorder, bound.copies
        if context.metrics is not None:
            recorders = bound.recorders(context)
        self.recorder: Recorder = recorders[0]
        self.copies: CopiesRecorder = recorders[1]
        self.started: float = context.clock.now() if started is None else started
        if context.deadline - self.started <= 0:
            self._refuse()
        lender = bound.rules.lender
        self.members: Borrowed | None = None
        if lender is not None:
            self.members = Borrowed(lender, votes=bound.rules.votes)

    def _refuse(self) -> None:
        error = DeadlineExpiredError(self.recorder.component)
        self.recorder.gave_up("timeout")
        self.recorder.call("timeout", 0.0)
        self._tell(0, 0.0, "timeout", error)
        raise error

    @property
    def round(self) -> Round:
        """The copies. Made when first asked for: a primary that answers at once needs none."""
        if self._round is None:
            copies = len(self.fns)
            self._round = Round(self.bound.rules.rule.tally(copies), copies)
            self._began: dict[int, float] = {}
            self._ended: dict[int, float] = {}
            if self.primary_runs:
                self._began[self._round.start()] = self.started
        return self._round

    def elapsed(self) -> float:
        """Seconds since the primary's start."""
        return self.context.clock.now() - self.started

    def left(self) -> float:
        """Seconds until the deadline or the timeout, the shorter."""
        timeout = self.bound.rules.timeout
        left = self.context.left()
        return left if timeout is None else min(left, timeout - self.elapsed())

    def _observe(self) -> None:
        """Let the budget know of this call, once."""
        budget = self.bound.rules.budget
        if budget is not None and not self._observed:
            self._observed = True
            observe(budget)

    # The call ends.

    def finish(self) -> Any:
        """Record the end, and return the answer or raise."""
        failure, self._failure = self._failure, None
        if failure is None:
            return self._finish_with_answer()
        try:
            self._record_end(failure)
            raise failure
        finally:
            del failure  # its traceback leads back here

    def failed_with(self, error: Exception) -> bool:
        """Whether *error* is what the call is to raise; if so, record the end."""
        if self._failure is not error:
            return False
        self._failure = None
        self._record_end(error)
        return True

    def _record_end(self, failure: BaseException) -> None:
        if self._reason is None:
            self.give_up()
        else:
            self._record_failure(failure, self._reason)

    def give_up(self) -> None:
        """Record that the caller was cancelled, or the program is being ended."""
        self.closed = True
        self._observe()
        seconds = self.elapsed()
        self.bound.shared.took_longer_than(seconds)
        self.recorder.call("cancelled", seconds, self.made())
        self._let_go()

    def made(self) -> int:
        """Give the number of copies that were started, and had a member if there is a pool."""
        if self._round is None:
            return 1
        lacking = 0 if self.members is None else self.members.lacking()
        return max(1, self._round.made - lacking)

    def primary_wins(self) -> None:
        """Record that the first answer was the primary's, and that the first is what counts."""
        self.settled = self.closed = True
        now = self.context.clock.now()
        seconds = now - self.started
        if self._observed:
            self.bound.shared.took(seconds)
        else:
            self.bound.shared.queue(seconds, now, at_once=self.context is not DEFAULT_CONTEXT)
        made = self.made()
        if made == 1:
            self.recorder.success(seconds)
        else:
            self.recorder.call("success", seconds, made)
        if self.members is None:
            self.copies.primary_won()
        else:
            self.copies.won(self._label(0))
            self.members.answered(0)
            self.members.settle(None)

    def _finish_with_answer(self) -> Any:
        round_ = self.round
        winner = round_.tally.winner
        answer = self._returned = round_.answers.pop(winner)
        self.closed = True
        self._observe()
        seconds = self.elapsed()
        self.bound.shared.took(seconds)
        self.recorder.call("recovered" if winner else "success", seconds, self.made())
        self.copies.won(self._label(winner))
        self._record_vote()
        self._let_go(round_.dissenters)
        return answer

    def _record_vote(self) -> None:
        if not self.bound.rules.votes:
            return
        round_ = self.round
        self.copies.voted(round_.verdict())
        if round_.state == "decided":
            for copy in round_.dissenters:
                self.copies.dissented(self._label(copy))

    def _record_failure(self, error: BaseException, reason: RedundantReason) -> None:
        self.closed = True
        self._observe()
        self.recorder.gave_up(reason)
        seconds = self.elapsed()
        if reason == "timeout":
            self.bound.shared.took_longer_than(seconds)
        self.recorder.call(self._outcome(reason), seconds, self.made())
        if reason != "not_retryable":
            self._record_vote()
        self._tell(self.made(), seconds, reason, error)
        self._let_go()

    def _tell(
        self, copies: int, seconds: float, reason: RedundantReason, error: BaseException
    ) -> None:
        if is_observed(POLICY, logging.WARNING):
            event = RedundantGaveUp(self.recorder.component, copies, seconds, reason, error)
            publish(event, self.recorder.listener_failed)

    def _outcome(self, reason: RedundantReason) -> str:
        if reason == "timeout":
            return "timeout"
        return "rejected" if self._nobody_called() else "error"

    def _nobody_called(self) -> bool:
        """Whether a pool had no member for any of the copies."""
        members, round_ = self.members, self._round
        return members is not None and round_ is not None and members.lacking() == round_.made

    def _label(self, copy: int) -> int | str:
        """Give what stands for a copy in metrics and answers."""
        return copy if self.members is None else self.members.label(copy)

    def _let_go(self, dissenters: Collection[int] | None = None) -> None:
        """Tell the pool what came of the answers, and dispose of those that are not returned."""
        if self.members is not None:
            self.members.settle(dissenters)
        if self._round is not None and self._round.answers:
            answers, self._round.answers = self._round.answers, {}
            self.dispose(answers.values())

    def dispose(self, answers: Iterable[Any]) -> None:
        """Hand answers that are not returned to the policy's `dispose`."""
        dispose = self.bound.rules.dispose
        if dispose is None:
            return
        for answer in answers:
            if answer is self._returned:  # copies may share what they answer
                continue
            try:
                self._disposed(dispose(answer))
            except Exception as error:  # noqa: BLE001 - must not end a call that has its answer
                self.dispose_failed(dispose, error)

    def _disposed(self, result: Any) -> None:
        """See to what `dispose` returned."""

    def dispose_failed(self, dispose: Callable[[Any], Any], error: Exception) -> None:
        """Tell of an exception that nobody can get any more."""
        logger_of(POLICY).error("%s: `dispose` raised", self.recorder.component, exc_info=error)
        self.recorder.listener_failed(dispose, error)

    # What is raised.

    def _sum_up(self) -> Exception:
        """Make one exception of what the copies came to."""
        round_ = self.round
        seconds = self.elapsed()
        if (round_.made == 1 or self._nobody_called()) and round_.errors:
            error = round_.errors[min(round_.errors)]
            self._note(
                error, f"gave up after {counted(round_.made, 'copy', 'copies')} in {seconds:.3f} s"
            )
            return error
        entries: list[Exception] = []
        notes: dict[int, list[str]] = {}  # copies may share what they raise
        for copy in range(round_.made):
            error, note = self._entry(copy)
            entries.append(error)
            notes.setdefault(id(error), []).append(note)
        for error in entries:
            self._note(error, "; ".join(notes[id(error)]))
        answers = {str(self._label(n)): answer for n, answer in sorted(round_.answers.items())}
        kind = AllCopiesFailedError if round_.all_failed() else NoDecisionError
        return kind(self.recorder.component, entries, seconds, answers)

    def _entry(self, copy: int) -> tuple[Exception, str]:
        """Give the exception that stands for a copy, and what to note on it."""
        round_ = self.round
        began = self._began.get(copy, self.started)
        seconds = self._ended.get(copy, self.context.clock.now()) - began
        error = round_.errors.get(copy)
        label = self._label(copy)
        who = f"copy {copy}" if label is copy else f"copy {copy} at member {label}"
        what = "failed"
        if error is None:
            what = "answered" if copy in round_.answers else "was given up"
            error = MainstayError(f"{who} {what}, and the vote was not decided")
        start = began - self.started
        return error, f"{who}, started at {start:.3f} s, {what} after {seconds:.3f} s"

    def _note(self, error: BaseException, text: str) -> None:
        leave_note(error, f"mainstay.{POLICY} {self.recorder.component}", text)
