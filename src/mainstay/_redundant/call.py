"""`RedundantCall`: one redundant call, from the start of its first copy to its last late answer.

A call is *open* while its round is not over, *settled* as soon as its end is certain, and *closed*
when it has been recorded. A copy that ends before the call is settled counts (`answered`,
`failed`); afterwards it is late (`late`, `given_up`). Each answer is either the one that is
returned or disposed of, once.

The decisions are in `decision`. The loops, which start, await and stop copies, report to the
`RedundantCall` what happened, and ask what follows; the call knows nothing of the loops.
"""

import functools
import logging
import math
from asyncio import Task, get_running_loop
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from mainstay._core.budget import observe, spend
from mainstay._core.call import PREDICATE_ERROR, Call
from mainstay._core.clock import SYSTEM
from mainstay._core.context import CallContext
from mainstay._core.events import is_observed, logger_of, publish
from mainstay._core.exceptions import CONTEXT, is_a, is_refusal
from mainstay._core.failures import is_delay, is_refused
from mainstay._core.functions import close_coroutine, is_awaitable, refused_awaitable
from mainstay._core.notes import AttemptLog
from mainstay._core.watching import WatchedAttempt
from mainstay._core.words import counted, described
from mainstay._metrics.recorder import Recorder
from mainstay._redundant.decision import HedgeReason, Round, forbids_hedge, last_failed
from mainstay._redundant.settings import POLICY, BoundRedundant
from mainstay.errors import (
    AllCopiesFailedError,
    MainstayError,
    NoDecisionError,
    ResultRefusedError,
)
from mainstay.events import HedgeStarted, RedundantGaveUp, RedundantReason

if TYPE_CHECKING:  # loads all of failover, which most redundant calls do without
    from mainstay._redundant.members import CopyMembers

_NOTHING = object()


@attrs.define(eq=False)
class RedundantCall(Call[Recorder]):
    """One call, and what happens to its copies.

    Attributes:
        is_async: True if the functions are async.
        round: The copies of the call.
        fns: The function of each copy.
        members: The pool members of the copies, or None without a pool.
        settled: True if the end of the call is certain.
        closed: True if the call is over for the caller.
        until: When the time is up: that of `timeout` or of a surrounding deadline.
        expired: The copies that still ran when the time was up.
        failure: The exception of the call; None if it returns an answer, or is open.
    """

    policy: ClassVar[str] = POLICY
    bound: BoundRedundant
    is_async: bool
    round: Round
    fns: tuple[Callable[..., Any], ...]
    members: "CopyMembers | None" = None
    settled: bool = False
    closed: bool = False
    until: float = math.inf
    expired: Collection[int] = ()
    failure: BaseException | None = None
    _reason: RedundantReason | None = None  # why; None if it was cancelled
    _refused: list[Any] = attrs.field(factory=list)  # answers that `on_result` has refused
    _returned: object = _NOTHING
    _observed: bool = False  # True if the budget knows of the call

    @classmethod
    def begin(
        cls, bound: BoundRedundant, context: CallContext, started: float, *, is_async: bool
    ) -> "RedundantCall":
        """Begin a call, whose primary is about to run; a race, in which nothing has started yet.

        Raises:
            DeadlineExpiredError: If the surrounding deadline leaves no time.
        """
        settings, fns = bound.settings, bound.fns
        if fns:
            tally = None if settings.takes_first else settings.rule.tally(len(fns))
            round_ = Round(tally, len(fns), bound.planned, 1, {0}, {0: started})
        else:
            round_ = Round(None, 0, 0, 0, set(), {})
        if context.metrics is not None:
            bound = bound.within(context.metrics)
        call = cls(bound.component, bound.recorder, context, started, bound, is_async, round_, fns)
        call.until = context.deadline
        if settings.timeout is not None:
            call.until = min(call.until, started + settings.timeout)
        if context.deadline <= started:
            call.check_time_left()
        if fns and bound.latency.delay is None and not settings.start.together:
            bound.copies.denied("warmup")
        if settings.pool is not None:
            call.members = settings.pool.begin(votes=not settings.takes_first)
            call.fns = tuple(call._at_member(copy, fn) for copy, fn in enumerate(fns))
            if fns:
                call.members.reserve(0)
        return call

    # Copies start.

    def start_copy(self) -> int:
        """Record that the next copy starts; return its number."""
        copy = self.round.start(self.context.clock.now())
        if self.members is not None:
            self.members.reserve(copy)
        return copy

    def join(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """Record that a race starts a copy that calls *fn*; return its number."""
        copy = self.start_copy()
        self.fns = (*self.fns, functools.partial(self._at_member(copy, fn), *args, **kwargs))
        return copy

    def _at_member(self, copy: int, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return what a copy calls: *fn*, with the resource of the copy's member if it has one."""
        members = self.members
        if members is None:
            return fn
        return functools.partial(members.acall if self.is_async else members.call, copy, fn)

    def may_hedge(self, reason: HedgeReason, *, room: bool) -> bool:
        """Decide whether one more copy starts, and record that it does, or why it does not.

        Args:
            reason: Why the copy is wanted.
            room: True if there is a thread or task for the copy.
        """
        round_, members, copy = self.round, self.members, self.round.made
        denial = round_.denial = forbids_hedge(
            self.left(self.bound.settings.timeout),
            room=room,
            member=lambda: members is None or members.reserve(copy),
            token=lambda: self._take_token(lenient=reason == "failed"),
        )
        if denial is None:
            if reason == "slow":
                round_.hedges = (*round_.hedges, copy)
            self.bound.copies.hedged(reason)
            if is_observed(POLICY, logging.INFO):
                event = HedgeStarted(self.component, copy, self.elapsed(), reason)
                publish(event, self.recorder.listener_failed)
            return True
        if denial != "no_member":  # then there is no such copy that could be denied
            self.bound.copies.denied(denial)
        if denial == "budget" and members is not None:
            members.unreserve(copy)
        return False

    def _take_token(self, *, lenient: bool) -> bool:
        budget = self.bound.settings.budget
        if budget is None:
            return True
        self.bound.latency.catch_up()
        self._observe()
        return spend(budget, lenient=lenient)

    def _observe(self, *, ran: bool = True) -> None:
        """Have the budget observe this call, once, or take that back if no copy *ran*."""
        budget = self.bound.settings.budget
        if budget is not None and self._observed != ran:
            self._observed = ran
            observe(budget, 1 if ran else -1)

    # Copies end while it is open.

    def answered(self, copy: int, answer: Any) -> bool:
        """Count the answer of a copy; True if it is refused, and a hedge may take its place."""
        round_ = self.round
        if self.members is not None or self.bound.settings.on_result is not None:
            try:
                refused = _is_refused(self, answer)
            except Exception as broken:  # noqa: BLE001 - of a user's `on_result`
                self._refused.append(answer)
                self._release_member(copy)
                round_.running.discard(copy)
                self._broken(broken, f"`on_result` was asked about the answer of copy {copy}")
                return False
            if refused:
                self._refused.append(answer)
                error = ResultRefusedError(self.component, answer, self.made(), self.elapsed())
                return self.failed(copy, error, refused=True)
        if self.members is not None:
            self.members.answered(copy)
        try:
            round_.answered(copy, answer, self.context.clock.now())
        except Exception as broken:  # noqa: BLE001 - of a `key` or rule of the user's
            self.hook_failed("`decide`", broken)
            self._broken(broken, f"the answer of copy {copy} was counted")
            return False
        self.settled = round_.state == "decided"
        return False

    def failed(
        self, copy: int, error: BaseException, *, misused: bool = False, refused: bool = False
    ) -> bool:
        """Count the failure of a copy; True if a hedge may take its place.

        Args:
            copy: The copy.
            error: What it raised.
            misused: True if that is ours, about a function that is no plain one.
            refused: True if that is ours, about an answer.
        """
        round_ = self.round
        lacking = self.members is not None and self.members.lacks(copy)
        overdue = self.members is not None and self.members.is_overdue(copy)
        reason: RedundantReason | None = None
        if lacking:
            round_.denial = "no_member"
        elif refused and is_a(error, Exception):
            self.recorder.error(error)
            if self.members is not None:
                self.members.refused(copy)
        elif is_a(error, Exception):
            self.recorder.error(error)
            self._release_member(copy, None if misused else error)
            if not overdue:
                reason = "not_retryable" if misused else self._refused_by_on(error)
        else:
            self._release_member(copy)
        if reason is not None or not is_a(error, Exception):
            round_.running.discard(copy)
            self._fail(error, reason)
            return False
        try:
            round_.failed(copy, error, self.context.clock.now(), replaceable=not lacking)
        except Exception as broken:  # noqa: BLE001 - of a rule of the user's
            if CONTEXT.__get__(broken) is None:
                CONTEXT.__set__(broken, error)
            self.hook_failed("`decide`", broken)
            self._broken(broken, f"the failure of copy {copy} was counted")
            return False
        self.settled = round_.state == "decided"
        return not lacking

    def _refused_by_on(self, error: Exception) -> RedundantReason | None:
        """Return why *error* is no failure of a copy, but ends the call; None if it is one."""
        judge = self.bound.settings.judge
        verdict = self.ask(judge, error)
        if verdict is True or is_delay(verdict):
            return None
        if verdict is False:
            self.not_matched(judge, error)
            return "not_retryable"
        if verdict is not PREDICATE_ERROR:
            close_coroutine(verdict)
            what = f"`on` must return True or False, not {described(verdict)}"
            self.predicate_failed(error, what)
        return "predicate_error"

    def _broken(self, error: Exception, what: str) -> None:
        """End the call with what a rule of the user's raised."""
        self.note(error, f"raised while {what}")
        self._fail(error, "predicate_error")

    def settle(self) -> None:
        """Settle the call if its round is over."""
        if not self.settled and self.round.is_over():
            self._fail(_summed_up(self), self.round.reason())

    def expire(self, context: CallContext) -> None:
        """End the call because its time is up: what still runs has failed.

        It goes on if *context*, which is around it now, has a later deadline: that of a block that
        was left meanwhile holds for nobody any more.
        """
        if context.clock is self.context.clock and context.deadline > self.context.deadline:
            self.context = context
            timeout = self.bound.settings.timeout
            own = math.inf if timeout is None else self.started + timeout
            self.until = min(own, context.deadline)
            return
        if self.is_async:
            cut_short(self)
        round_, now = self.round, self.now()
        seconds = now - self.started
        self.expired = sorted(round_.running)
        for copy in self.expired:
            text = f"{self.component}: copy {copy} was still running after {seconds:.3f} s"
            error = round_.errors[copy] = TimeoutError(text)
            round_.ended[copy] = now
            self.recorder.error(error)
        self._fail(_summed_up(self), "timeout")

    def _fail(self, error: BaseException, reason: RedundantReason | None) -> None:
        """Settle the call: it raises *error*. No reason means that it was cancelled."""
        self.failure = error
        self._reason = reason
        self.settled = True

    # Copies end when it is settled.

    def late(self, copy: int, answer: Any) -> None:
        """Record an answer that came too late, and dispose of it."""
        if self.members is not None:
            _judge_late(self, self.members, copy, answer)
        self.bound.copies.wasted(self.now() - self.round.began[copy])
        self.dispose([answer])

    def given_up(self, copy: int, error: Exception | None = None) -> None:
        """Record that a copy was stopped, or failed by itself with *error*."""
        self._release_member(copy, error)
        self.bound.copies.wasted(self.now() - self.round.began[copy])

    def _release_member(self, copy: int, error: Exception | None = None) -> None:
        """Report to the pool, if any, that a copy has ended, with its exception if it failed."""
        if self.members is None:
            return
        if error is None:
            self.members.released(copy)
        else:
            self.members.failed(copy, error)

    # The end.

    def finish(self) -> Any:
        """Record the end, and return the answer or raise."""
        if self.failure is not None:
            raise self.record_failure()
        round_ = self.round
        winner = round_.winner
        answer = self._returned = round_.answers.pop(winner)
        self.closed = True
        now = self.context.clock.now()
        seconds = now - self.started
        if self._observed:
            self.bound.latency.took(seconds)
        else:
            at_once = self.context.clock is not SYSTEM
            self.bound.latency.answered(seconds, now, at_once=at_once)
        if round_.made == 1:
            self.recorder.success(seconds)
        else:
            outcome = "recovered" if round_.is_recovered() else "success"
            self.recorder.call(outcome, seconds, self.made())
        if winner == 0 and self.members is None:
            self.bound.copies.primary_won()
        else:
            self.bound.copies.won(self.label(winner))
        if round_.tally is not None:
            self.bound.copies.voted(round_.verdict())
            for copy in round_.dissenters:
                self.bound.copies.dissented(self.label(copy))
        if round_.answers or self._refused or self.members is not None:
            self._dispose_rest(round_.dissenters)
        return answer

    def record_failure(self) -> BaseException:
        """Record that the call fails; return what it raises, which leads to frames with this."""
        failure, self.failure = self.failure, None
        assert failure is not None  # noqa: S101 - the caller has looked
        reason = self._reason
        if reason is None or not is_a(failure, Exception):
            self.interrupted(failure)
            return failure
        self.closed = True
        outcome = "rejected" if _nobody_called(self) else "error"
        self._observe(ran=not _all_refused(self))
        if reason == "timeout":
            outcome = "timeout"
            self.bound.latency.took_longer_than(self.elapsed())
        if is_a(failure, ResultRefusedError):
            self._returned = failure.result
        elif is_a(failure, AllCopiesFailedError) or is_a(failure, NoDecisionError):
            self._refused = []  # they are in the group
        if reason not in ("not_retryable", "predicate_error") and self.round.tally is not None:
            self.bound.copies.voted(self.round.verdict())
        self.give_up(reason, failure, outcome, attempts=self.made())
        self._dispose_rest()
        self.round.errors = {}
        return failure

    def interrupted(self, error: BaseException) -> None:
        """Record that *error* ends the call: a cancellation, or the end of the program."""
        self.settled = self.closed = True
        self._observe()
        self.bound.latency.took_longer_than(self.elapsed())
        errors, self.round.errors = self.round.errors, {}
        self.end_interrupted(error, self.made(), next(reversed(errors.values()), None))
        self._dispose_rest()

    def made(self) -> int:
        """Return the number of copies that were started, and had a member if there is a pool."""
        lacking = 0 if self.members is None else self.members.lacking()
        return max(1, self.round.made - lacking)

    def label(self, copy: int) -> int | str:
        """Return what stands for a copy in metrics and answers."""
        return copy if self.members is None else self.members.label(copy)

    def gave_up_event(self, reason: Any, error: Exception, attempts: int) -> RedundantGaveUp:
        """Return the event of a call that gave up."""
        return RedundantGaveUp(self.component, attempts, self.elapsed(), reason, error)

    # Answers that are not returned.

    def _dispose_rest(self, dissenters: Collection[int] | None = None) -> None:
        """Report the answers to the pool, and dispose of those that are not returned."""
        if self.members is not None:
            self.members.settle(dissenters)
        answers, self.round.answers = self.round.answers, {}
        refused, self._refused = self._refused, []
        self.dispose([*answers.values(), *refused])

    def dispose(self, answers: Iterable[Any]) -> None:
        """Hand answers that are not returned to the policy's `dispose`."""
        dispose = self.bound.settings.dispose
        if dispose is None:
            return
        for answer in answers:
            if answer is self._returned:  # copies may share what they answer
                continue
            try:
                _await_disposal(self, dispose, dispose(answer))
            except Exception as error:  # noqa: BLE001 - must not end a call that has its answer
                _dispose_failed(self, dispose, error)


def watched_copy(call: RedundantCall, copy: int) -> WatchedAttempt:
    """Return the description of a copy beside the primary, for its watchers."""
    label = call.label(copy)
    member = label if isinstance(label, str) else None
    return WatchedAttempt(call.policy, call.component, copy + 1, member)


def cut_short(call: RedundantCall) -> None:
    """Have copies that are cancelled from now on mean silent members, except in a race."""
    if call.members is not None and call.bound.fns and not call.settled:
        call.members.cut_short = True


# Answers that count as failures.


def _is_refused(call: RedundantCall, answer: Any) -> bool:
    """True if `on_result`, or that of the pool, takes an answer for a failure.

    What they raise is logged, once.
    """
    of_pool = None if call.members is None else call.members.on_result
    try:
        return any(
            on_result is not None and is_refused(on_result, answer)
            for on_result in (call.bound.settings.on_result, of_pool)
        )
    except Exception as error:
        call.hook_failed("`on_result`", error)
        raise


def _judge_late(call: RedundantCall, members: "CopyMembers", copy: int, answer: Any) -> None:
    """Report to the pool an answer that came after the call was settled."""
    try:
        refused = _is_refused(call, answer)
    except Exception:  # noqa: BLE001 - logged, and nobody is left who could get it
        members.released(copy)
        return
    if refused:
        members.refused(copy)
    else:
        members.late(copy)


# What `dispose` returned.


def _await_disposal(call: RedundantCall, dispose: Callable[[Any], Any], result: Any) -> None:
    """Await what an async `dispose` returned, in a task; raise if the code is sync."""
    if not is_awaitable(result):
        return
    if not call.is_async:
        raise refused_awaitable(dispose, result)
    tasks = call.bound.abandoned.tasks

    def ended(task: Task[Any]) -> None:
        tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if is_a(error, Exception):
            _dispose_failed(call, dispose, error)

    task = get_running_loop().create_task(awaited(result))
    tasks.add(task)
    task.add_done_callback(ended)


async def awaited(awaitable: Any) -> Any:
    """Await what is no coroutine, for a task."""
    return await awaitable


def _dispose_failed(call: RedundantCall, dispose: Callable[[Any], Any], error: Exception) -> None:
    """Log and count an exception of `dispose`: the caller may have returned long ago."""
    logger_of(POLICY).error("%s: `dispose` raised", call.component, exc_info=error)
    call.recorder.listener_failed(dispose, error, "dispose")


# What is raised.


def _summed_up(call: RedundantCall) -> Exception:
    """Return the one exception that a call raises for all of its copies."""
    round_, failed = call.round, _failed_by_themselves(call)
    if _nobody_called(call):
        return _noted(call, min(round_.errors))
    if round_.answers or not failed or call.bound.settings.raises == "group":
        return _group(call)
    own = [copy for copy in failed if not is_refusal(round_.errors[copy])]
    return _noted(call, last_failed(own or failed, round_.ended))


def _nobody_called(call: RedundantCall) -> bool:
    """True if a pool had no member for any of the copies."""
    return call.members is not None and call.members.lacking() == call.round.made


def _all_refused(call: RedundantCall) -> bool:
    """True if every copy was refused before it ran."""
    round_ = call.round
    return not round_.answers and (
        _nobody_called(call)
        or (0 < len(round_.errors) == round_.made and all(map(is_refusal, round_.errors.values())))
    )


def _failed_by_themselves(call: RedundantCall) -> Collection[int]:
    """Return the copies that have raised; if none has, those that ran when the time was up."""
    errors, members = call.round.errors, call.members
    called = [copy for copy in errors if members is None or not members.lacks(copy)]
    return [copy for copy in called if copy not in call.expired] or called


def _noted(call: RedundantCall, copy: int) -> Exception:
    """Return the exception of a copy, with a note that lists the others'."""
    round_, log = call.round, AttemptLog()
    listed = [other for other in _failed_by_themselves(call) if other != copy]
    for other in [*sorted(listed, key=round_.ended.__getitem__), copy]:
        seconds = round_.ended[other] - round_.began[other]
        log.add(_named(call, other), round_.errors[other], seconds)
    summary = f"gave up after {counted(round_.made, 'copy', 'copies')} in {call.elapsed():.3f} s"
    if copy not in call.expired:
        for other in call.expired:
            summary += f"; {_named(call, other)} was still running"
    error = round_.errors[copy]
    call.note(error, log.note(summary, name=""))
    return error


def _group(call: RedundantCall) -> Exception:
    """Return a group with an exception for each copy, and a note on each that says when."""
    round_ = call.round
    entries: list[Exception] = []
    notes: dict[int, list[str]] = {}  # copies may share what they raise
    for copy in range(round_.made):
        error, note = _entry(call, copy)
        entries.append(error)
        notes.setdefault(id(error), []).append(note)
    for error in entries:
        call.note(error, "; ".join(notes[id(error)]))
    answers = {str(call.label(n)): answer for n, answer in sorted(round_.answers.items())}
    kind = AllCopiesFailedError if round_.all_failed() else NoDecisionError
    return kind(call.component, entries, call.elapsed(), answers)


def _entry(call: RedundantCall, copy: int) -> tuple[Exception, str]:
    """Return the exception that stands for a copy, and what to note on it."""
    round_ = call.round
    began = round_.began[copy]
    seconds = round_.ended.get(copy, call.now()) - began
    error, who, what = round_.errors.get(copy), _named(call, copy), "failed"
    if error is None:
        what = "answered" if copy in round_.answers else "was given up"
        error = MainstayError(f"{who} {what}, and the vote was not decided")
    return error, f"{who}, started at {began - call.started:.3f} s, {what} after {seconds:.3f} s"


def _named(call: RedundantCall, copy: int) -> str:
    label = call.label(copy)
    return f"copy {copy}" if label is copy else f"copy {copy} at member {label}"
