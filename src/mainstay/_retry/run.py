"""One call of a retry policy: what the loops ask, and what is recorded.

`Run` stands between the loops, which act, and `decision`, which decides. It feeds the decision
with the clock, the strategies and the budget, and records and tells what comes out. It belongs to
one call. A loop asks it after a failed attempt (`after`) or a result (`accept`) how long to wait
before the next one. None means that the call is over and recorded: the loop lets the exception
go on, or returns the result.
"""

import inspect
import logging
import math
import random
from collections.abc import Awaitable
from typing import Any

import attrs

from mainstay._core.arguments import to_seconds
from mainstay._core.budget import observe, spend
from mainstay._core.context import DEFAULT_CONTEXT, CallContext, current_context
from mainstay._core.events import is_observed, publish
from mainstay._core.failures import counted, described, leave_note
from mainstay._metrics.collector import recorder_of
from mainstay._metrics.recorder import Recorder
from mainstay._retry import decision
from mainstay._retry.rules import Rules
from mainstay._retry.strategies import Call, CallState, Outcome, RetryStrategy
from mainstay.errors import (
    AllMembersFailedError,
    CircuitOpenError,
    DeadlineExpiredError,
    ResultRefusedError,
)
from mainstay.events import RetryGaveUp, RetryReason, RetryScheduled

POLICY = "retry"

_chance = random.random

_WHY = {
    "attempts": "no attempts left",
    "timeout": "no time left for another one",
    "budget": "the retry budget is spent",
}


@attrs.frozen(eq=False)
class Bound:
    """A policy bound to the code it wraps: its rules, that code's name, and its recorder."""

    rules: Rules
    component: str
    recorder: Recorder

    def begin(self, call: Call | None = None) -> "Run":
        """Begin a call in its context.

        Raises:
            DeadlineExpiredError: If the surrounding deadline leaves no time.
        """
        context = current_context()
        recorder = self.recorder
        if context.metrics is not None:
            recorder = recorder_of(context.metrics, self.component, POLICY)
        run = Run(self.rules, self.component, recorder, context, context.clock.now(), call)
        if context.left() <= 0:
            raise run.expired()
        if self.rules.budget is not None:
            observe(self.rules.budget)
        return run

    def resume(self, started: float, call: Call | None) -> "Run":
        """Give the run of a call that began without one because nothing surrounds it."""
        return Run(self.rules, self.component, self.recorder, DEFAULT_CONTEXT, started, call)


@attrs.define(eq=False)
class Run:
    """The state of one call.

    Attributes:
        rules: The parameters of the policy.
        component: The name of what is called, for people.
        recorder: Where the call is recorded.
        context: Its clock and its deadline.
        started: When the first attempt started, in seconds of the clock.
        call: What is called, as strategies see it; None in a block.
        made: Attempts that have ended.
        idle: Seconds waited between them.
    """

    rules: Rules
    component: str
    recorder: Recorder
    context: CallContext
    started: float
    call: Call | None
    made: int = 0
    idle: float = 0.0
    _expired: bool = False

    def elapsed(self) -> float:
        """Seconds since the first attempt's start."""
        return self.context.clock.now() - self.started

    def left(self) -> float:
        """Seconds until `timeout` or the deadline, the shorter; infinity with neither."""
        timeout = self.rules.timeout
        end = (
            self.context.deadline
            if timeout is None
            else min(self.context.deadline, self.started + timeout)
        )
        return end - self.context.clock.now()

    def expired(self) -> DeadlineExpiredError:
        """End a call that began with no time left."""
        error = DeadlineExpiredError(self.component)
        self.give_up("timeout", error)
        return error

    # An attempt has ended: what the loops ask.

    def after(self, error: Exception, verdict: object) -> float | None:
        """Decide after an attempt that raised: seconds to wait, or None to let *error* go on."""
        self.made += 1
        self.recorder.error(error)
        try:
            hint = decision.hint_of(verdict)
        except TypeError as broken:
            _close(verdict)
            self._note(error, f"TypeError: {broken}")
            hint = None
        if hint is None:
            self.give_up("not_retryable", error)
            return None
        if isinstance(error, CircuitOpenError | AllMembersFailedError) and not hint >= 0:
            hint = math.nan if error.retry_after is None else error.retry_after
        try:
            reason, wait = self._decide(hint, error)
        except Exception as broken:  # noqa: BLE001 - must not hide the user's own exception
            self._note(error, f"`wait` or `stop` raised {described(broken)}, so it gave up")
            self.give_up("not_retryable", error)
            return None
        except BaseException:
            self.end("cancelled")
            raise
        if reason is None:
            self._schedule(wait, error)
            return wait
        self._note(
            error,
            f"gave up after {counted(self.made, 'attempt')} in {self.elapsed():.3f} s: "
            f"{_WHY[reason]}",
        )
        self.give_up(reason, error)
        return None

    def accept(self, value: object, refused: object) -> float | None:
        """Decide after an attempt that returned: seconds to wait, or None to return *value*.

        Raises:
            ResultRefusedError: If *value* is refused and no other attempt follows.
        """
        self.made += 1
        if not refused:
            self.end("success" if self.made == 1 else "recovered")
            return None
        error = ResultRefusedError(self.component, value, self.made, self.elapsed())
        try:
            self.recorder.error(error)
            reason, wait = self._decide_refused(value, error)
            if reason is None:
                self._schedule(wait, error)
                return wait
            self.give_up("refused_result" if reason == "attempts" else reason, error)
            raise error
        finally:
            del error  # this frame is part of its traceback

    def end(self, outcome: str) -> None:
        """Record how the call ended."""
        self.recorder.call(outcome, self.elapsed(), self.made)

    def interrupted(self) -> None:
        """Record that the call was cancelled, or the program is being ended."""
        self.recorder.call("cancelled", self.elapsed(), self.made + 1)

    # The user's own predicates, sync and async side by side.

    def verdict(self, error: Exception) -> Any:
        """Ask `on` about *error*; in async code the answer may have to be awaited.

        An attempt that `attempt_timeout` ended has failed by our own hand: `on` is not asked.
        """
        if self._expired:
            self._expired = False
            return True
        try:
            judge = self.rules.judge
            if isinstance(judge, RetryStrategy):
                return judge.verdict(self._state(self.made + 1, error))
            return judge(error)
        except Exception as broken:  # noqa: BLE001 - must not hide the user's own exception
            return self._broken_verdict(error, broken)
        except BaseException:
            self.interrupted()
            raise

    async def averdict(self, error: Exception) -> Any:
        """Ask `on`, async or not, about *error*."""
        verdict = self.verdict(error)
        try:
            return await verdict if inspect.isawaitable(verdict) else verdict
        except Exception as broken:  # noqa: BLE001 - must not hide the user's own exception
            return self._broken_verdict(error, broken)
        except BaseException:
            self.interrupted()
            raise

    def refuses(self, value: object) -> bool:
        """Ask `on_result` about *value*."""
        try:
            refused = self._refuses(value)
            if inspect.isawaitable(refused):
                _close(refused)
                raise TypeError("`on_result` must answer a bool, not an awaitable, in sync code")
            return bool(refused)
        except BaseException as error:
            self._broken_on_result(error)
            raise

    async def arefuses(self, value: object) -> bool:
        """Ask `on_result`, async or not, about *value*."""
        try:
            refused = self._refuses(value)
            return bool(await refused if inspect.isawaitable(refused) else refused)
        except BaseException as error:
            self._broken_on_result(error)
            raise

    def _refuses(self, value: object) -> bool | Awaitable[bool]:
        return self.rules.on_result is not None and self.rules.on_result(value)

    def _broken_verdict(self, error: Exception, broken: Exception) -> bool:
        self._note(error, f"`on` raised {described(broken)}, so it counts as not retryable")
        return False

    def _broken_on_result(self, broken: BaseException) -> None:
        if isinstance(broken, Exception):
            self.made += 1
            self.give_up("not_retryable", broken)
        else:
            self.interrupted()

    # Time, sync and async side by side.

    def sleep(self, seconds: float) -> None:
        """Wait between attempts; not at all for 0 seconds."""
        if not seconds:  # the system call of sleep(0) costs more than a whole attempt
            return
        began = self.context.clock.now()
        try:
            self.context.clock.sleep(seconds)
        except BaseException:
            self._interrupted_wait(began)
            raise
        self._waited(seconds)

    async def asleep(self, seconds: float) -> None:
        """Wait between attempts without blocking the event loop; not at all for 0 seconds."""
        if not seconds:
            return
        began = self.context.clock.now()
        try:
            await self.context.clock.asleep(seconds)
        except BaseException:
            self._interrupted_wait(began)
            raise
        self._waited(seconds)

    def _waited(self, seconds: float) -> None:
        self.idle += seconds
        self.recorder.waited(seconds)

    def _interrupted_wait(self, began: float) -> None:
        self.recorder.waited(self.context.clock.now() - began)
        self.end("cancelled")

    def attempt_limit(self) -> float | None:
        """Seconds that the next attempt may take, or None."""
        limit = self.rules.attempt_timeout
        return None if limit is None else min(limit, self.left())

    def attempt_expired(self, limit: float) -> TimeoutError:
        """Make the exception of an attempt that was cancelled after *limit* seconds."""
        self._expired = True
        return TimeoutError(
            f"{self.component}: attempt {self.made + 1} took longer than {limit:.3f} s"
        )

    # What the decision is fed with, and what comes out of it.

    def _decide(
        self, hint: float, error: Exception | None, value: object = None
    ) -> tuple[RetryReason | None, float]:
        """Go through the table of `decision`, asking each column no earlier than it is needed."""
        rules = self.rules
        if decision.out_of_attempts(self.made, rules.attempts):
            return "attempts", 0.0
        if rules.stop is None and not callable(rules.wait):
            wait = self._plain_wait(hint, rules.wait)
        else:
            state = self._state(self.made, error, value)
            wait = state.upcoming_sleep = self._wait(hint, state)
            if rules.stop is not None and rules.stop(state):
                return "attempts", wait
        if decision.out_of_time(wait, self.left()):
            return "timeout", wait
        if rules.budget is not None and not spend(rules.budget):
            return "budget", wait
        return None, wait

    def _decide_refused(
        self, value: object, error: ResultRefusedError
    ) -> tuple[RetryReason | None, float]:
        try:
            return self._decide(math.nan, None, value)
        except Exception:
            self.give_up("not_retryable", error)
            raise
        except BaseException:
            self.end("cancelled")
            raise

    def _wait(self, hint: float, state: CallState) -> float:
        wait = self.rules.wait
        if callable(wait) and not hint >= 0:
            return to_seconds(wait(state), "wait")
        return self._plain_wait(hint, None if callable(wait) else wait)

    def _plain_wait(self, hint: float, wait: float | None) -> float:
        if hint >= 0:
            return decision.hinted_wait(hint, _chance())
        return decision.default_wait(self.made, _chance()) if wait is None else wait

    def _state(self, attempt: int, error: Exception | None, value: object = None) -> CallState:
        return CallState(
            retry_object=self.rules,
            call=self.call,
            start_time=self.started,
            outcome_timestamp=self.context.clock.now(),
            attempt_number=attempt,
            outcome=Outcome(attempt, error, value),
            idle_for=self.idle,
        )

    def _schedule(self, wait: float, error: Exception) -> None:
        if is_observed(POLICY, logging.INFO):
            event = RetryScheduled(self.component, self.made, wait, error)
            try:
                publish(event, self.recorder.listener_failed)
            except BaseException:  # a listener that ends the program
                self.end("cancelled")
                raise

    def give_up(self, reason: RetryReason, error: Exception) -> None:
        """Record and tell that the call ends with *error*."""
        self.recorder.gave_up(reason)
        self.end("timeout" if reason == "timeout" else "error")
        if is_observed(POLICY, logging.WARNING):
            event = RetryGaveUp(self.component, self.made, self.elapsed(), reason, error)
            publish(event, self.recorder.listener_failed)

    def _note(self, error: Exception, text: str) -> None:
        leave_note(error, f"mainstay.retry {self.component}", text)


def _close(awaitable: object) -> None:
    """Close a coroutine that nobody will await, so that Python does not warn about it."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()
