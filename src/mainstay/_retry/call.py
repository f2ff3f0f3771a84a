"""`RetryCall`: one call of a retry policy, from its start to its recorded end.

`RetryCall` is between the loops, which act, and `decision`, which decides. It passes times,
strategies and the budget to the decision, and records and reports the outcome. After a failed
attempt (`after`), or a result (`accept`), a loop asks for the seconds to wait before the next
attempt. None means that the call is over and recorded: the loop lets the exception pass, or returns
the result.
"""

import inspect
import logging
import math
import random
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from mainstay._core.arguments import to_seconds
from mainstay._core.budget import ObservedCall, observe, spend
from mainstay._core.call import PREDICATE_ERROR, Call, recorder_in
from mainstay._core.clock import SYSTEM, monotonic
from mainstay._core.context import current_context
from mainstay._core.events import is_first, is_observed, logger_of, publish
from mainstay._core.exceptions import CONTEXT, is_a, is_refusal
from mainstay._core.failures import Predicate, failing_of
from mainstay._core.functions import close_coroutine
from mainstay._core.layers import Layer
from mainstay._core.notes import KEPT, AttemptLog, leave_note
from mainstay._core.one_shot import NO_FILES, Positions, has_one_shot, positions_of, used_up
from mainstay._core.watching import WatchedAttempt
from mainstay._core.words import counted, described
from mainstay._metrics.recorder import Recorder
from mainstay._retry import decision
from mainstay._retry.nested import RetryNote, inner_retry
from mainstay._retry.settings import RetrySettings
from mainstay._retry.strategies import FunctionCall, RetryStrategy
from mainstay.errors import (
    AllMembersFailedError,
    RejectedError,
    ResultRefusedError,
    TimedOutError,
)

if TYPE_CHECKING:
    from mainstay._retry.call_state import CallState
    from mainstay.events import RetryGaveUp, RetryReason

POLICY = "retry"

_WITH_A_HINT = (RejectedError, AllMembersFailedError)

_chance = random.random

_WHY = {
    "attempts": "no attempts left",
    "timeout": "no time left for another one",
    "budget": "the retry budget is spent",
    "nested": "a retry inside it had given up already",
}


@attrs.frozen(eq=False, repr=False)
class BoundRetry:
    """A policy bound to the code that it wraps."""

    settings: RetrySettings
    component: str
    recorder: Recorder

    def layers(self) -> tuple[Layer, ...]:
        """Return the worst case of a call, for `explain`."""
        return (self.settings.layer(self.component),)

    def begin(self, function: FunctionCall | None = None) -> "RetryCall":
        """Begin a call in its context.

        Raises:
            DeadlineExpiredError: If the surrounding deadline leaves no time.
        """
        context = current_context()
        recorder = recorder_in(context, self.recorder, self.component)
        now = context.clock.now()
        entered = now if context.clock is SYSTEM else monotonic()
        call = RetryCall(
            self.component, recorder, context, now, self.settings, function, now, entered
        )
        if now >= context.deadline:
            call.check_time_left()
        if self.settings.budget is not None:
            observe(self.settings.budget)
        if function is not None and has_one_shot(function[1], function[2]):
            call.one_shot = True
            call.files = positions_of(function[1], function[2])
        return call

    def resume(self, started: float, function: FunctionCall | None) -> "RetryCall":
        """Return the `RetryCall` of a call that began on the fast path, which has no files."""
        context = current_context()
        recorder, settings = self.recorder, self.settings
        call = RetryCall(
            self.component, recorder, context, started, settings, function, started, started
        )
        call.one_shot = function is not None and has_one_shot(function[1], function[2])
        return call


@attrs.define(eq=False, repr=False)
class RetryCall(Call[Recorder]):
    """The state of one call.

    Attributes:
        settings: The parameters of the policy.
        function: The function and its arguments, for strategies; None in a block.
        entered: When the call began, by the system's clock, whatever the clock of the call: this
            tells notes of retries inside the call from earlier notes of the same exception.
        made: The number of attempts that have ended.
        idle: The seconds waited between attempts.
        last_error: The exception of the last attempt, while another attempt follows.
        last_own: The last exception so far that was no refusal: what the call raises if refusals
            follow it.
        one_shot: True if an attempt may use up an argument.
        files: The positions of the files among the arguments before the first attempt.
        used_up: The argument that an attempt has used up, in words, or None.
        observed: The call as its budget sees it, from the first failure on; None without a budget.
    """

    policy: ClassVar[str] = POLICY
    settings: RetrySettings
    function: FunctionCall | None
    _attempt_began: float  # from the end of the one before on, if there is no wait
    entered: float
    made: int = 0
    idle: float = 0.0
    last_error: Exception | None = None
    last_own: Exception | None = None
    one_shot: bool = False
    files: Positions = NO_FILES
    used_up: str | None = None
    observed: ObservedCall | None = None
    _log: AttemptLog = attrs.field(factory=AttemptLog)
    _attempt_expired: bool = False  # by `attempt_timeout`: a failure, whatever `on` says
    _last_hint: float = math.nan  # the delay that the attempt before asked for

    # An attempt has ended: what the loops ask.

    def after(self, error: Exception, verdict: object) -> float | None:
        """Decide after an attempt that raised: seconds to wait, or None to let *error* go on.

        Raises:
            Exception: The last exception that was no refusal, if *error* is one and no other
                attempt follows.
        """
        self._ended(error)
        self.recorder.error(error)
        try:
            hint = decision.hint_of(verdict) if verdict is not PREDICATE_ERROR else None
        except TypeError as broken:
            close_coroutine(verdict)
            verdict = self.predicate_failed(error, f"TypeError: {broken}")
            hint = None
        if hint is None:
            self._end_at_once(error, verdict)
            return None
        inner = inner_retry(error, self.entered)
        if inner is not None and _may_not_nest(self, inner):
            self._end_with(error, "attempts", _WHY["nested"])
            return None
        if not hint >= 0 and issubclass(type(error), _WITH_A_HINT):  # `on` has named no delay
            ours: Any = error  # type checkers do not see this
            hint = math.nan if ours.retry_after is None else ours.retry_after
        last, self._last_hint = self._last_hint, hint
        if hint >= 0:
            hint = decision.usable_hint(hint, last)
        try:
            reason, wait = self._decide(hint, error)
        except Exception as broken:  # noqa: BLE001 - must not hide the user's own exception
            self.note(error, f"`wait` or `stop` raised {described(broken)}, so it gave up")
            self.hook_failed("`wait` or `stop`", broken)
            self._give_up("predicate_error", error)
            return None
        except BaseException as interrupt:
            self._interrupted(interrupt, self.made)
            raise
        if reason is None:
            self._schedule(wait, error)
            return wait
        self._end_with(error, reason, self.used_up or _WHY[reason])
        return None

    def _end_at_once(self, error: Exception, verdict: object) -> None:
        """End the call with *error*, which `on` does not have repeated, or could not judge."""
        if verdict is PREDICATE_ERROR:
            self._give_up("predicate_error", error)
        elif _is_failing(self, error):
            self._end_with(error, "attempts", "not safe to repeat")
        else:
            self.not_matched(self.settings.judge, error)
            self._give_up("not_retryable", error)

    def _end_with(self, error: Exception, reason: "RetryReason", why: str) -> None:
        """End the call, and leave the note of the policy on what it raises.

        That is *error*, which goes on by itself; or the last exception before it that was no
        refusal, if *error* is one.
        """
        own = self.last_own if is_refusal(error) else None
        made = counted(self.made, "attempt")
        summary = f"gave up after {made} in {self.elapsed():.3f} s: {why}"
        text = self._log.note(summary, whole=own is not None)
        error = error if own is None else own
        if self.made > 1:
            left_at, component = monotonic(), self.component
            owner = f"mainstay.{POLICY} {component}"
            leave_note(error, owner, text, lambda note: RetryNote(note, component, left_at))
        else:
            self.note(error, text)
        self._give_up(reason, error)
        if own is not None:
            context = CONTEXT.__get__(own)
            try:
                raise own
            finally:
                CONTEXT.__set__(own, context)  # not what came after it
                del own, error  # this frame is part of its traceback

    def accept(self, value: object, refused: object) -> float | None:
        """Decide after an attempt that returned: seconds to wait, or None to return *value*.

        Raises:
            ResultRefusedError: If *value* is refused and no other attempt follows.
        """
        if not refused:
            if self.observed is not None:
                self.observed.attempted(refused=False)
            self.made += 1
            _forget(self)
            self.end("success" if self.made == 1 else "recovered", self.made)
            return None
        error = ResultRefusedError(self.component, value, self.made + 1, self.elapsed())
        try:
            self._ended(error)
            self.recorder.error(error)
            reason, wait = self._decide_refused(value, error)
            if reason is None:
                self._schedule(wait, error)
                return wait
            if self.used_up is not None:
                self.note(error, self.used_up)
            self._give_up("refused_result" if reason == "attempts" else reason, error)
            raise error
        finally:
            del error  # this frame is part of its traceback

    def interrupted(self, error: BaseException) -> None:
        """Record that *error* ended an attempt: a cancellation, or the end of the program."""
        self._interrupted(error, self.made + 1)

    def _interrupted(self, error: BaseException, attempts: int) -> None:
        last = self.last_error
        _forget(self)
        self.end_interrupted(error, attempts, last)

    def _ended(self, error: Exception) -> None:
        budget = self.settings.budget
        if budget is not None:
            self.observed = self.observed or ObservedCall(budget)
            self.observed.attempted(refused=is_refusal(error))
        self.made += 1
        now = self.context.clock.now()
        if self.made > KEPT:
            self._log.add("", error, now - self._attempt_began)
        else:  # the same, without a call
            self._log.append((self.made, "", error, now - self._attempt_began))
        self._attempt_began = now

    # What the user's own functions say.

    def verdict(self, error: Exception) -> Any:
        """Ask `on` about *error*; in async code the answer may have to be awaited.

        An attempt that `attempt_timeout` ended has failed by our own hand: `on` is not asked.
        """
        if self._attempt_expired:
            self._attempt_expired = False
            return True
        try:
            judge = self.settings.judge
            if isinstance(judge, RetryStrategy):
                return self.ask(judge.bound_to(self._state(self.made + 1, error)), error)
            return self.ask(judge, error)
        except BaseException as interrupt:
            self.interrupted(interrupt)
            raise

    async def averdict(self, error: Exception) -> Any:
        """Ask `on`, async or not, about *error*."""
        if self._attempt_expired:
            return self.verdict(error)
        try:
            judge = self.settings.judge
            if isinstance(judge, RetryStrategy):
                return await self.aask(judge.bound_to(self._state(self.made + 1, error)), error)
            return await self.aask(judge, error)
        except BaseException as interrupt:
            self.interrupted(interrupt)
            raise

    def refuses(self, value: object) -> bool:
        """Ask `on_result` about *value*."""
        on_result = self.settings.on_result
        if on_result is None:
            return False
        try:
            refused = on_result(value)
            if inspect.isawaitable(refused):
                close_coroutine(refused)
                raise TypeError("`on_result` must return a bool, not an awaitable, in sync code")
            return bool(refused)
        except BaseException as error:
            self._broken_on_result(error)
            raise

    async def arefuses(self, value: object) -> bool:
        """Ask `on_result`, async or not, about *value*."""
        on_result = self.settings.on_result
        if on_result is None:
            return False
        try:
            refused = on_result(value)
            return bool(await refused if inspect.isawaitable(refused) else refused)
        except BaseException as error:
            self._broken_on_result(error)
            raise

    def _broken_on_result(self, broken: BaseException) -> None:
        if is_a(broken, Exception):
            self.made += 1
            self.hook_failed("`on_result`", broken)
            self._give_up("predicate_error", broken)
        else:
            self.interrupted(broken)

    # Time, sync and async side by side.

    def sleep(self, seconds: float) -> None:
        """Wait between attempts; *seconds* are not 0."""
        began = self.now()
        try:
            self.context.clock.sleep(seconds)
        except BaseException as interrupt:
            self._wait_interrupted(interrupt, began)
            raise
        self._waited(seconds)

    async def asleep(self, seconds: float) -> None:
        """Wait between attempts without blocking the event loop; *seconds* are not 0."""
        began = self.now()
        try:
            await self.context.clock.asleep(seconds)
        except BaseException as interrupt:
            self._wait_interrupted(interrupt, began)
            raise
        self._waited(seconds)

    def _waited(self, seconds: float) -> None:
        self.idle += seconds
        self.recorder.waited(seconds)
        self._attempt_began = self.now()

    def _wait_interrupted(self, error: BaseException, began: float) -> None:
        self.recorder.waited(self.now() - began)
        self._interrupted(error, self.made)

    def attempt_limit(self) -> float | None:
        """Return the seconds that the next attempt may take, or None."""
        limit = self.settings.attempt_timeout
        return None if limit is None else min(limit, self.left(self.settings.timeout))

    def attempt_timed_out(self, limit: float) -> TimedOutError:
        """Return the exception of an attempt that was cancelled after *limit* seconds."""
        self._attempt_expired = True
        return TimedOutError(self.component, limit, f"attempt {self.made + 1}")

    # What the decision is fed with, and what comes out of it.

    def _decide(
        self, hint: float, error: Exception | None, value: object = None
    ) -> "tuple[RetryReason | None, float]":
        """Go through the table of `decision`, asking each column no earlier than it is needed."""
        settings = self.settings
        if decision.out_of_attempts(self.made, settings.attempts):
            return "attempts", 0.0
        if self.one_shot and self.function is not None:
            self.used_up = used_up(*self.function, self.files)
        if self.used_up is not None:
            return "attempts", 0.0
        now: float | None = self._attempt_began  # which is when the last one has ended
        if settings.stop is None and not callable(settings.wait):
            wait = self._wait(hint, None)
        else:
            state = self._state(self.made, error, value)
            wait = state.upcoming_sleep = self._wait(hint, state)
            if settings.stop is not None and settings.stop(state):
                return "attempts", wait
            now = None  # a strategy may have taken its time
        if decision.out_of_time(wait, self.left(settings.timeout, now)):
            return "timeout", wait
        if settings.budget is not None and not spend(settings.budget):
            return "budget", wait
        return None, wait

    def _decide_refused(
        self, value: object, error: ResultRefusedError
    ) -> "tuple[RetryReason | None, float]":
        try:
            return self._decide(math.nan, None, value)
        except Exception as broken:
            self.hook_failed("`wait` or `stop`", broken)
            self._give_up("predicate_error", error)
            raise
        except BaseException as interrupt:
            self._interrupted(interrupt, self.made)
            raise

    def _wait(self, hint: float, state: "CallState | None") -> float:
        """Return the seconds before the next attempt; a strategy is asked with *state*."""
        wait = self.settings.wait
        if hint >= 0:
            return decision.hinted_wait(hint, _chance())
        if wait is None:
            return decision.default_wait(self.made, _chance())
        return to_seconds(wait(state), "wait") if callable(wait) else wait

    def _state(self, attempt: int, error: Exception | None, value: object = None) -> "CallState":
        from mainstay._retry.call_state import CallState, Outcome  # noqa: PLC0415 - the policy has loaded it

        return CallState(
            retry_object=self.settings,
            call=self.function,
            start_time=self.started,
            outcome_timestamp=self.now(),
            attempt_number=attempt,
            outcome=Outcome(attempt, error, value),
            idle_for=self.idle,
        )

    def _schedule(self, wait: float, error: Exception) -> None:
        if is_observed(POLICY, logging.INFO):
            from mainstay.events import RetryScheduled  # noqa: PLC0415 - the policy has loaded it

            event = RetryScheduled(self.component, self.made, wait, error)
            try:
                publish(event, self.recorder.listener_failed)
            except BaseException as interrupt:  # a listener that ends the program
                self._interrupted(interrupt, self.made)
                raise
        self.last_error = error
        if not is_refusal(error):
            self.last_own = error

    def _give_up(self, reason: "RetryReason", error: Exception) -> None:
        _forget(self)
        outcome = "timeout" if reason == "timeout" else "error"
        self.give_up(reason, error, outcome, attempts=self.made)

    def gave_up_event(self, reason: Any, error: Exception, attempts: int) -> "RetryGaveUp":
        """Return the event of a call that gave up."""
        from mainstay.events import RetryGaveUp  # noqa: PLC0415 - the policy has loaded it

        return RetryGaveUp(self.component, attempts, self.elapsed(), reason, error)


def _forget(call: RetryCall) -> None:
    """Forget what the attempts raised: the tracebacks lead to the frame that has this call."""
    call.last_error = call.last_own = None
    call._log.clear()  # noqa: SLF001 - of this module


def watched_attempt(call: RetryCall) -> WatchedAttempt:
    """Return the description of the next attempt, for its watchers."""
    return WatchedAttempt(POLICY, call.component, call.made + 1)


def _may_not_nest(call: RetryCall, inner: str) -> bool:
    """Record that another retry has given up in the attempt, warn once; True if that ends all."""
    call.recorder.nested_retry()
    if is_first(POLICY, call.component, "nested", inner):
        logger_of(POLICY).warning(
            "%s: its attempts contain those of another retry, %s, so that their numbers "
            'multiply; retry in one place, or give this one `nested="once"`',
            call.component,
            inner,
        )
    return call.settings.nested == "once"


def _is_failing(call: RetryCall, error: Exception) -> bool:
    """Ask an `on` with two questions the second one: is *error* a failure all the same?"""
    judge = call.settings.judge
    failing = failing_of(judge.predicate) if isinstance(judge, Predicate) else None
    return failing is not None and call.ask(failing, error) is True
