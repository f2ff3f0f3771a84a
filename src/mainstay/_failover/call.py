"""`PoolCall`: one call of a pool, from its start to its recorded end.

`PoolCall` is between the loops, which act, and the engine, which decides. A loop asks for a member
(`choose`), reports how the attempt ended (`succeeded`, `raised`), and raises what it is told to.
"""

import logging
from asyncio import CancelledError
from collections.abc import Callable, Collection
from typing import Any, ClassVar, TypeAlias

import attrs

from mainstay._core.budget import ObservedCall, RetryBudget, observe, spend
from mainstay._core.call import PREDICATE_ERROR, Call, recorder_in
from mainstay._core.context import block_context, current_context, process_contexts
from mainstay._core.exceptions import is_a, is_refusal
from mainstay._core.failures import FAILING, Verdict, is_refused
from mainstay._core.layers import Layer
from mainstay._core.notes import AttemptLog
from mainstay._core.one_shot import NO_FILES, Positions, positions_of, used_up
from mainstay._core.threads import Pause, values_now
from mainstay._core.watching import WatchedAttempt
from mainstay._core.words import counted
from mainstay._failover.engine import PoolEngine
from mainstay._failover.members import MemberHandle, Slot
from mainstay._failover.settings import POLICY, Raises
from mainstay._failover.suspicion import suspect
from mainstay._metrics.pools import MemberRecorder
from mainstay._metrics.recorder import Recorder
from mainstay.errors import (
    AllMembersFailedError,
    DeadlineExpiredError,
    MainstayError,
    NoMemberError,
    ResultRefusedError,
    TimedOutError,
)
from mainstay.events import PoolGaveUp

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]
FunctionCall: TypeAlias = tuple[Callable[..., Any], Args, Kwargs]

_WHY = {
    "attempts": "no attempts left",
    "timeout": "no time left for another one",
    "budget": "the budget is spent",
    "no_member": "no other member left",
    "rerun": "it is not to be run again",
    "predicate_error": "`select` raised",
}


@attrs.frozen(eq=False)
class BoundPool:
    """A pool and how a function or a block is called through it.

    Attributes:
        rerun: True if it may run again on another member.
        raises: What a call raises that has failed.
        recorder: Where its calls are recorded.
    """

    engine: PoolEngine
    rerun: bool
    raises: Raises
    recorder: Recorder

    def layers(self) -> tuple[Layer, ...]:
        """Return the worst case of a call, for `explain`, with the members that there are now."""
        return (self.engine.settings.layer(slot.member for slot in values_now(self.engine.slots)),)

    def begin(self, function: FunctionCall | None = None) -> "PoolCall":
        """Begin a call in its context.

        Args:
            function: What is called with a resource and which arguments; None in a block.

        Raises:
            DeadlineExpiredError: If the surrounding deadline leaves no time.
        """
        context, name = current_context(), self.engine.settings.name
        recorder = recorder_in(context, self.recorder, name)
        started = context.clock.now()
        call = PoolCall(name, recorder, context, started, self, self.engine, started, function)
        if started >= context.deadline:
            call.check_time_left()
        if self.engine.settings.budget is not None:
            observe(self.engine.settings.budget)
        if function is not None:
            call.files = positions_of(function[1], function[2])
        return call

    def records_elsewhere(self) -> bool:
        """True if its calls are layers of a pipeline."""
        return self.recorder is not self.engine.monitor.recorder

    def is_plain(self, started: float) -> bool:
        """True if a call needs nothing of its context, nor anything else that `begin` does."""
        here = block_context()
        plain = here is None or (here.plain and started < here.deadline)
        return plain and not process_contexts and self.engine.settings.budget is None

    def resume(self, started: float, function: FunctionCall | None = None) -> "PoolCall":
        """Return the `PoolCall` of a call that began on the fast path, which has no files."""
        context, name = current_context(), self.engine.settings.name
        return PoolCall(name, self.recorder, context, started, self, self.engine, started, function)


@attrs.frozen(eq=False)
class JudgedError:
    """The exception of an attempt, judged by `on` or by the pool itself.

    Attributes:
        error: The exception of the attempt, or one that the pool made for it.
        verdict: The verdict about the member; `PREDICATE_ERROR` if `on_result` raised.
        outcome: As in `member_attempts_total`.
        ends_as: Why the call gives up although other members are left; None if it may go on.
    """

    error: Exception
    verdict: object
    outcome: str
    ends_as: str | None = None


@attrs.define(eq=False)
class PoolCall(Call[Recorder]):
    """The state of one call.

    Attributes:
        attempt_started: When the last attempt began.
        function: The function and its arguments without the resource; None in a block.
        files: The positions of the files among the arguments before the first attempt.
        made: The number of attempts that have failed.
        last: What the call raises if it fails: the last exception of the function that is no
            `RejectedError`, or else the last `RejectedError`.
        errors: The exceptions of all attempts, if the call raises a group.
        observed: The call as its budget sees it, from the first failure on; None without a budget.
    """

    policy: ClassVar[str] = POLICY
    bound: BoundPool
    engine: PoolEngine
    attempt_started: float
    function: FunctionCall | None = None
    files: Positions = NO_FILES
    made: int = 0
    last: Exception | None = None
    errors: list[Exception] = attrs.field(factory=list)
    observed: ObservedCall | None = None
    _log: AttemptLog | None = None
    _tried: list[Slot] = attrs.field(factory=list)
    _requested: set[str] = attrs.field(factory=set)
    _suspects: list[Slot] = attrs.field(factory=list)
    _charged: int = 0
    _last_place: int = 0
    _over: Exception | None = None
    _judged: JudgedError | None = None
    _used_up: str | None = None

    # Before an attempt.

    def choose(self) -> MemberHandle | Pause:
        """Return whom to call, or for how long to wait before asking again.

        Raises:
            NoMemberError: If there is nobody to call, and nobody was called.
            Exception: If there is nobody else to call: what the call raises.
        """
        try:
            choice = self.engine.choose(self.context.clock, self._tried, self._requested)
            if choice is None and self.made:
                choice = self._verdict_of_probe()
        except BaseException as error:
            self.not_chosen(error)
            if self._over is None:
                raise
            choice = None
        self.go_on()  # with what the selector must not hide: what an attempt before raised
        try:
            if choice is None:
                raise self.failed("no_member")
            if self.made and self.engine.settings.budget is not None:
                self._charge(self.engine.settings.budget)
            if isinstance(choice, Pause):
                left = self.left(self.engine.settings.timeout)
                if left <= 0 or (choice.signal is None and choice.seconds >= left):
                    raise self.failed("timeout")
                return Pause(choice.clock, min(choice.seconds, left), choice.signal)
        except BaseException:
            if isinstance(choice, MemberHandle):
                self.engine.released(choice, self.now())
                self.engine.done(choice)
            raise
        self.attempt_started = self.now()
        return choice

    def _verdict_of_probe(self) -> Pause | None:
        """Return how long to wait for what the probe says of the member tried last."""
        progress = self.engine.progress  # before the engine is asked, so that no news is missed
        seconds = suspect(self.engine, self.now(), self._tried, self._requested, self._suspects)
        return None if seconds is None else Pause(self.context.clock, seconds, progress)

    def not_chosen(self, error: BaseException) -> None:
        """Record that the call ends with what the user's selector raised, or an attempt before."""
        if is_a(error, Exception):
            self.hook_failed("`select`", error)
            if self.made:
                self._over = self.failed("predicate_error")
            else:
                self.recorder.gave_up("predicate_error")
                self.end("error")
        else:
            self.interrupted(None, error)

    def _charge(self, budget: RetryBudget) -> None:
        """Charge the budget for an attempt after the first, once."""
        if self._charged < self.made:
            self._charged += 1
            if not spend(budget):
                raise self.failed("budget")

    def waited(self, pause: Pause) -> None:
        """Record a wait for the next trial."""
        if pause.signal is None:
            self.recorder.waited(pause.seconds)

    def attempt(self, handle: MemberHandle) -> WatchedAttempt:
        """Return the description of the next attempt, for its watchers."""
        return WatchedAttempt(POLICY, self.component, self.made + 1, handle.slot.name)

    # After an attempt.

    def succeeded(self, handle: MemberHandle) -> None:
        """Record an answer."""
        now = self.now()
        if self.observed is not None:
            self.observed.attempted(refused=False)
        self._recorder_at(handle).attempt("success")
        if handle.slot.inspected:
            self.engine.succeeded(handle, now, now - self.attempt_started)
        if self.made:
            self.recorder.call("recovered", now - self.started, self.made + 1)
            self._forget()
        else:
            self.recorder.success(now - self.started)

    def raised(self, handle: MemberHandle, error: BaseException) -> bool:
        """Record the exception of an attempt; return True if the call raises that exception.

        If so, the loop raises it again where it was caught; if not, the loop calls `go_on`.
        """
        if not is_a(error, Exception):
            self.interrupted(handle, error)
            return True
        self._over = self._after(handle, error)
        if self._over is not error:
            return False
        self._over = None
        return True

    def go_on(self) -> None:
        """Go on to the next attempt, unless the call is over.

        Raises:
            Exception: If it is: what the call raises.
        """
        over, self._over = self._over, None
        if over is not None:
            try:
                raise over
            finally:
                del over  # its traceback leads here, and would keep it until a collection

    def _after(self, handle: MemberHandle, error: Exception) -> Exception | None:
        """Record a failed attempt; return the exception that the call raises, or None to go on."""
        if self.engine.settings.budget is not None:
            _observe_attempt(self.engine.settings.budget, self, refused=is_refusal(error))
        if issubclass(type(error), DeadlineExpiredError) and self.context.left() <= 0:
            self.refused(handle, error, "timeout")  # the caller's time is over, whatever was called
            return error
        judged, self._judged = self._judged, None
        if judged is None or judged.error is not error:
            verdict = self._verdict(handle, error)
            outcome = "rejected" if verdict is Verdict.TRY_ANOTHER else "error"
            judged = JudgedError(error, verdict, outcome)
        if judged.verdict is PREDICATE_ERROR:
            self.refused(handle, error, "predicate_error")
            return error
        if judged.verdict is Verdict.STOP:
            self.not_matched(self.engine.settings.judge, error)
            self.refused(handle, error)
            return error
        if judged.verdict is FAILING:
            self.refused(handle, error, "attempts", charged=True)
            return error
        now = self.now()
        self.recorder.error(error)
        self._recorder_at(handle).attempt(judged.outcome)
        if judged.verdict is Verdict.MEMBER_FAILED:
            self.engine.failed(handle, now)
        else:
            self.engine.released(handle, now)
        self._keep(handle, error, now - self.attempt_started)
        reason = judged.ends_as or self._no_more()
        return None if reason is None else self.failed(reason)

    def _no_more(self) -> str | None:
        """Return why no other attempt may follow; None if one may."""
        settings = self.engine.settings
        if not self.bound.rerun:
            return "rerun"
        if settings.attempts is not None and self.made >= settings.attempts:
            return "attempts"
        if self.function is not None:
            self._used_up = used_up(*self.function, self.files, before=1)
            if self._used_up is not None:
                return "used up"
        return "timeout" if self.left(settings.timeout) <= 0 else None

    # What the pool itself judges.

    def attempt_limit(self) -> float | None:
        """Return the seconds that the next attempt may take, or None."""
        limit = self.engine.settings.attempt_timeout
        return None if limit is None else min(limit, self.left(self.engine.settings.timeout))

    def attempt_timed_out(self, handle: MemberHandle, limit: float) -> TimedOutError:
        """Return the exception of an attempt that was cancelled after *limit* seconds."""
        where = f"attempt {self.made + 1} at member {handle.slot.name}"
        error = TimedOutError(self.component, limit, where)
        whole = self.engine.settings.attempt_timeout
        if whole is not None and limit < whole:  # the time of its caller was over
            self._judged = JudgedError(error, Verdict.TRY_ANOTHER, "cancelled", "timeout")
        else:
            self._judged = JudgedError(error, Verdict.MEMBER_FAILED, "timeout")
        return error

    def check_result(self, value: object) -> None:
        """Ask `on_result` about what an attempt returned.

        Raises:
            ResultRefusedError: If it counts as a failure.
            Exception: What `on_result` raises.
        """
        on_result = self.engine.settings.on_result
        if on_result is None:
            return
        try:
            refused = is_refused(on_result, value)
        except Exception as error:
            self.hook_failed("`on_result`", error)
            self._judged = JudgedError(error, PREDICATE_ERROR, "error")
            raise
        if refused:
            raise self._refused_result(value)

    def _refused_result(self, value: object) -> ResultRefusedError:
        error = ResultRefusedError(self.component, value, self.made + 1, self.elapsed())
        self._judged = JudgedError(error, Verdict.MEMBER_FAILED, "error")
        return error

    def _keep(self, handle: MemberHandle, error: Exception, seconds: float) -> None:
        """Keep what the call may have to raise, and the words of the note on it."""
        if self._log is None:
            self._log = AttemptLog()
        self.made += 1
        where = f", at member {handle.slot.name}"
        self._tried.append(handle.slot)
        self._log.add(where, error, seconds)
        if self.bound.raises == "group":
            self.errors.append(error)
            self.note(error, f"attempt {self.made}{where}, {seconds:.3f} s")
        elif self.last is None or is_refusal(self.last) or not is_refusal(error):
            self.last, self._last_place = error, self.made

    def refused(
        self,
        handle: MemberHandle,
        error: Exception,
        reason: str = "not_retryable",
        *,
        charged: bool = False,
    ) -> None:
        """Record that the call ended with an exception that is the caller's.

        Args:
            handle: The handle of the member that was called.
            error: The exception of the attempt.
            reason: As in `give_ups_total`.
            charged: True if the exception counts against the member all the same.
        """
        rejected = is_refusal(error)
        self.recorder.error(error)
        self._recorder_at(handle).attempt("rejected" if rejected else "error")
        if charged:
            self.engine.failed(handle, self.now())
        else:
            self.engine.released(handle, self.now())
        self.recorder.gave_up(reason)
        self.end("timeout" if reason == "timeout" else "error", self.made + 1)
        self._forget()

    def interrupted(self, handle: MemberHandle | None, error: BaseException) -> None:
        """Record that *error* ended the call: a cancellation, or the end of the program."""
        if handle is not None:
            self._recorder_at(handle).attempt("cancelled")
            self.engine.released(handle, self.now())
        self.end_interrupted(error, self.made + (handle is not None), self.last)
        self._forget()

    def cancelled(self, handle: MemberHandle, error: CancelledError) -> None:
        """Record that a coroutine was cancelled, which may mean that the member is silent."""
        late = self.engine.cancelled(handle, self.attempt_started, self.now())
        self._recorder_at(handle).attempt("timeout" if late else "cancelled")
        self.end_interrupted(error, self.made + 1, self.last)
        self._forget()

    def _verdict(self, handle: MemberHandle, error: Exception) -> object:
        try:
            return self.ask(self.engine.settings.verdict, error)
        except BaseException as interrupt:
            self.interrupted(handle, interrupt)
            raise

    # The end.

    def failed(self, reason: str) -> Exception:
        """Record that the call has failed; return what it raises."""
        made, now = self.made, self.now()
        elapsed = now - self.started
        error: Exception
        if self.last is not None:
            error = self.last
            self.note(error, self._note_of_last(elapsed, reason))
        elif made:
            names = tuple(slot.name for slot in self._tried)
            retry_after = self.engine.plan.retry_after(now)
            error = AllMembersFailedError(
                self.component, self.errors, retry_after, made, elapsed, names
            )
            if self._used_up is not None:
                self.note(error, self._used_up)
        else:
            error = no_member(self.engine, now, elapsed)
            if self.engine.settings.budget is not None:
                _observe_attempt(self.engine.settings.budget, self, refused=True)
        outcome = "timeout" if reason == "timeout" else "error" if made else "rejected"
        if made:
            self._forget()
        label = "attempts" if reason in ("rerun", "used up") else reason
        self.give_up(label, error, outcome, attempts=made)
        return error

    def _note_of_last(self, elapsed: float, reason: str) -> str:
        made, name, log = self.made, self._tried[-1].name, self._log or AttemptLog()
        where = f"at member {name}" if made == 1 else f"the last one at member {name}"
        summary = f"gave up after {counted(made, 'attempt')}, {where}, in {elapsed:.3f} s"
        return log.note(
            f"{summary}: {self._used_up or _WHY[reason]}", whole=self._last_place != made
        )

    def _forget(self) -> None:
        """Forget what the attempts raised: the tracebacks lead to frames that have this call."""
        self.last = self._log = self._judged = None
        self.errors = []

    def give_up(self, reason: str, error: Exception, outcome: str, *, attempts: int) -> None:
        """Record and publish that the call ends with *error*; the pool has listeners of its own."""
        elapsed = self.elapsed()
        self.recorder.gave_up(reason)
        self.recorder.call(outcome, elapsed, max(attempts, 1))
        monitor = self.engine.monitor
        if monitor.is_observed(logging.WARNING):
            event = PoolGaveUp(self.component, attempts, elapsed, reason, error)
            monitor.publish(event, self.recorder.listener_failed)

    def _recorder_at(self, handle: MemberHandle) -> MemberRecorder:
        return handle.slot.recorder_in(self.context.metrics, self.component)


def no_member(
    engine: PoolEngine, now: float, elapsed: float = 0.0, called: Collection[Slot] = ()
) -> NoMemberError:
    """Return the `NoMemberError` of a call, with the reason for each member that was not called."""
    absent = [slot for slot in values_now(engine.slots) if slot not in called]
    why = [slot.absence(now) for slot in absent]
    return NoMemberError(
        engine.settings.name,
        why or [MainstayError("every member has been called")],
        engine.plan.retry_after(now),
        0,
        elapsed,
        [slot.name for slot in absent],
    )


def _observe_attempt(budget: RetryBudget, call: PoolCall, *, refused: bool) -> None:
    """Have *budget* take back the call while all of its attempts were refused."""
    call.observed = call.observed or ObservedCall(budget)
    call.observed.attempted(refused=refused)
