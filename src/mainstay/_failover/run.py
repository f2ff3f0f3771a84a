"""One call of a pool: what the loops ask, and what is recorded.

`Run` stands between the loops, which act, and the pool's `Core`, which decides. A loop asks it for
a session (`choose`), tells it how the attempt ended, and raises what `failed`
gives. It belongs to one call.
"""

from collections.abc import Collection

import attrs

from mainstay._core.budget import observe, spend
from mainstay._core.context import CallContext, current_context
from mainstay._core.failures import Verdict, leave_note
from mainstay._core.threads import Pause, values_now
from mainstay._failover.core import Core, Wait
from mainstay._failover.members import Session, Slot
from mainstay._failover.rules import POLICY, judged, owner_of
from mainstay._metrics.collector import recorders_of
from mainstay._metrics.pools import MemberRecorder
from mainstay._metrics.recorder import Recorder
from mainstay.errors import AllMembersFailedError, CircuitOpenError, DeadlineExpiredError
from mainstay.events import PoolGaveUp

_WHY = {
    "attempts": "no attempts left",
    "timeout": "no time left for another one",
    "budget": "the budget is spent",
    "no_member": "no other member left",
    "rerun": "it is not to be run again",
}


def begin(core: Core, *, rerun: bool) -> "Run":
    """Begin a call in its context.

    Raises:
        DeadlineExpiredError: If the surrounding deadline leaves no time.
    """
    context = current_context()
    recorder = core.recorder
    if context.metrics is not None:
        recorder = recorders_of(context.metrics).calls(core.rules.name, POLICY)
    if context.left() <= 0:
        recorder.gave_up("timeout")
        recorder.call("timeout", 0.0)
        raise DeadlineExpiredError(core.rules.name)
    if core.rules.budget is not None:
        observe(core.rules.budget)
    return Run(core, rerun, recorder, context, context.clock.now())


def resume(core: Core, started: float, *, rerun: bool) -> "Run":
    """Give the run of a call that began without one, in no particular context."""
    return Run(core, rerun, core.recorder, current_context(), started, started)


@attrs.define(eq=False)
class Run:
    """The state of one call.

    Attributes:
        core: The pool.
        rerun: Whether the function may run again on another member.
        recorder: Where the call is recorded.
        context: Its clock and its deadline.
        started: When it began, in seconds of the clock.
        attempt_started: When the last attempt began.
        errors: What its attempts raised.
    """

    core: Core
    rerun: bool
    recorder: Recorder
    context: CallContext
    started: float
    attempt_started: float = 0.0
    errors: list[Exception] = attrs.field(factory=list)
    _tried: list[Slot] = attrs.field(factory=list)
    _asked: set[Slot] = attrs.field(factory=set)
    _charged: int = 0
    _over: Exception | None = None

    def elapsed(self) -> float:
        """Seconds since the call began."""
        return self.context.clock.now() - self.started

    def left(self) -> float:
        """Seconds of the policy's timeout or of the deadline, whichever is less."""
        timeout = self.core.rules.timeout
        left = self.context.left()
        return left if timeout is None else min(left, timeout - self.elapsed())

    # Before an attempt.

    def choose(self) -> Session | Pause:
        """Say whom to call, or for how long to wait before asking again.

        Raises:
            AllMembersFailedError: If there is nobody to call, and several were called or none.
            Exception: If there is nobody else to call: what the only one that was called raised.
        """
        try:
            choice = self.core.choose(self.context.clock, self._tried, self._asked)
        except BaseException as error:
            self.not_chosen(error)
            raise
        try:
            if choice is None:
                raise self._end("no_member")
            self._charge()
            if isinstance(choice, Wait):
                left = self.left()
                if left <= 0 or (choice.signal is None and choice.seconds >= left):
                    raise self._end("timeout")
                return Pause(self.context.clock, min(choice.seconds, left), choice.signal)
        except BaseException:
            if isinstance(choice, Session):
                self.core.released(choice, self.context.clock.now())
                self.core.done(choice)
            raise
        self.attempt_started = self.context.clock.now()
        return choice

    def not_chosen(self, error: BaseException) -> None:
        """Record that the call ended with what the user's selector raised."""
        if not isinstance(error, Exception):
            self.interrupted(None)
            return
        self.recorder.gave_up("not_retryable")
        self.recorder.call("error", self.elapsed(), max(len(self.errors), 1))

    def _charge(self) -> None:
        """Charge the budget for an attempt after the first, once."""
        budget = self.core.rules.budget
        if budget is not None and self._charged < len(self.errors):
            self._charged += 1
            if not spend(budget):
                raise self._end("budget")

    def waited(self, seconds: float) -> None:
        """Record a wait for a member."""
        self.recorder.waited(seconds)

    # After an attempt.

    def succeeded(self, session: Session) -> None:
        """Take in an answer."""
        now = self.context.clock.now()
        self._member(session).attempt("success")
        if session.slot.watched:
            self.core.succeeded(session, now, now - self.attempt_started)
        attempts = len(self.errors) + 1
        outcome = "success" if attempts == 1 else "recovered"
        self.recorder.call(outcome, now - self.started, attempts)
        self.errors = []

    def raised(self, session: Session, error: BaseException) -> bool:
        """Take in what an attempt raised; say whether it is what the call raises.

        If so, the loop lets it go on from where it caught it; if not, it asks `go_on`.
        """
        if isinstance(error, Exception):
            self._over = self._failed(session, error)
        else:
            self.interrupted(session)
            return True
        if self._over is not error:
            return False
        self._over = None
        return True

    def go_on(self) -> None:
        """Go on to the next attempt, unless the call is over.

        Raises:
            AllMembersFailedError: If it is.
        """
        over, self._over = self._over, None
        if over is not None:
            try:
                raise over
            finally:
                del over  # its traceback leads here, and would keep it until a collection

    def _failed(self, session: Session, error: Exception) -> Exception | None:
        if isinstance(error, DeadlineExpiredError) and self.context.left() <= 0:
            self.refused(session, error, "timeout")  # the caller's time is over, whoever was called
            return error
        verdict = self._verdict(session, error)
        now = self.context.clock.now()
        member = self._member(session)
        if verdict is Verdict.STOP:
            self.refused(session, error)
            return error
        self.recorder.error(error)
        if verdict is Verdict.MEMBER_FAILED:
            member.attempt("error")
            self.core.failed(session, now)
        else:
            member.attempt("rejected")
            self.core.released(session, now)
        self._tried.append(session.slot)
        self.errors.append(error)
        made = len(self.errors)
        seconds = now - self.attempt_started
        leave_note(error, owner_of(self.core.rules),
                   f"attempt {made}, at member {session.slot.name}, {seconds:.3f} s")  # fmt: skip
        if not self.rerun:
            return self._end("rerun")
        if self.core.rules.attempts is not None and made >= self.core.rules.attempts:
            return self._end("attempts")
        return self._end("timeout") if self.left() <= 0 else None

    def refused(self, session: Session, error: Exception, reason: str = "not_retryable") -> None:
        """Record that the call ended with an exception that is not the member's."""
        now = self.context.clock.now()
        self.recorder.error(error)
        self._member(session).attempt("error")
        self.core.released(session, now)
        self.recorder.gave_up(reason)
        outcome = "timeout" if reason == "timeout" else "error"
        self.recorder.call(outcome, now - self.started, len(self.errors) + 1)

    def interrupted(self, session: Session | None) -> None:
        """Record that the call was cancelled, or the program is being ended."""
        if session is not None:
            self._member(session).attempt("cancelled")
            self.core.released(session, self.context.clock.now())
        self.recorder.call("cancelled", self.elapsed(), len(self.errors) + (session is not None))

    def _verdict(self, session: Session, error: Exception) -> Verdict:
        try:
            return judged(self.core.rules, error)
        except BaseException:
            self.interrupted(session)
            raise

    def _end(self, reason: str) -> Exception:
        """Record that the call has failed; give what it raises."""
        component = self.core.rules.name
        made, elapsed = len(self.errors), self.elapsed()
        outcome = "timeout" if reason == "timeout" else "error" if made else "rejected"
        label = "attempts" if reason == "rerun" else reason
        self.recorder.gave_up(label)
        self.recorder.call(outcome, elapsed, max(made, 1))
        errors, self.errors = self.errors, []  # their tracebacks lead to frames that have this run
        error: Exception
        if made == 1:
            error = errors[0]
            name = self._tried[0].name
            leave_note(error, owner_of(self.core.rules),
                       f"gave up after 1 attempt, at member {name}, in {elapsed:.3f} s: "
                       f"{_WHY[reason]}")  # fmt: skip
        else:
            now = self.context.clock.now()
            why = errors or reasons(self.core, (), now)
            retry_after = self.core.retry_after(now)
            error = AllMembersFailedError(component, why, retry_after, made, elapsed)
        self.core.tell(PoolGaveUp(component, made, elapsed, label, error))
        self.core.flush()
        return error

    def _member(self, session: Session) -> MemberRecorder:
        if self.context.metrics is None:
            return session.slot.recorder
        return recorders_of(self.context.metrics).member(self.core.rules.name, session.slot.name)


def reasons(core: Core, called: Collection[Slot], now: float) -> list[Exception]:
    """Say of each member of a pool that was not called why it was not."""
    found: list[Exception] = []
    for slot in values_now(core.slots):
        if slot in called:
            continue
        if slot.start_error is not None:
            found.append(slot.start_error)
        else:
            seconds = None if slot.draining else max(0.0, slot.health.until - now)
            found.append(CircuitOpenError(f"{core.rules.name}/{slot.name}", seconds))
            leave_note(found[-1], owner_of(core.rules), f"member {slot.name}: {slot.state(now)}")
    return found or [LookupError(f"{core.rules.name} has no members left")]
