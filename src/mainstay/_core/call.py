"""`Call`, the base of the calls of all policies: recorder, context, start, limits, end.

Each policy has a subclass, such as `RetryCall`, with what only that policy needs. The rules that
hold for all of them are here:

1. A call records where its context says, else where its policy does (`recorder_in`).
2. A call that begins with no time left ends as "timeout" before anything is called.
3. The time left is that of the policy's own limit or of the deadline, whichever is shorter.
4. `on` is called behind a guard: if it raises, or returns an invalid verdict, the verdict is
   `PREDICATE_ERROR`. The user's own exception is raised with a note that says so, and the note is
   logged once for each class of exceptions.
5. An exception that `on` does not match is logged at DEBUG, the first of each class at INFO.
6. A cancellation by a deadline around the call ends it as "timeout", any other as "cancelled";
   it goes through unchanged.
7. An end is recorded once, before its event is published.
"""

import inspect
import logging
import math
import sys
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import attrs

from mainstay._core.context import CallContext
from mainstay._core.events import Event, is_first, is_observed, logger_of, publish
from mainstay._core.failures import Judge
from mainstay._core.notes import leave_note
from mainstay._core.words import class_name, described
from mainstay.errors import DeadlineExpiredError


class CallRecorder(Protocol):
    """Where the calls of one component under one policy are recorded."""

    def within(self, metrics: Any, component: str, /) -> Self:
        """Return the recorder of *component* under the same policy in other metrics."""
        ...

    def call(self, outcome: str, seconds: float, attempts: int = 1, /) -> None:
        """Record that a call ended."""
        ...

    def error(self, error: BaseException, /) -> None:
        """Record a failed attempt."""
        ...

    def gave_up(self, reason: str, /) -> None:
        """Record why a call gave up."""
        ...

    def hook_failed(self, hook: str, /) -> None:
        """Record that something of the user's raised: what kind of thing, as in labels."""
        ...

    def listener_failed(
        self, listener: Callable[..., object], error: Exception, hook: str = "listener", /
    ) -> None:
        """Record that a listener, or another hook that has a name, raised."""
        ...


PREDICATE_ERROR = object()
"""The verdict of an `on` that could not give one."""

R = TypeVar("R", bound=CallRecorder)


def recorder_in(context: CallContext, recorder: R, component: str) -> R:
    """Return where a call of *component* in *context* is recorded, whose policy has *recorder*."""
    return recorder if context.metrics is None else recorder.within(context.metrics, component)


@attrs.define(eq=False, repr=False)
class Call(Generic[R]):
    """One call of a policy.

    Attributes:
        policy: The kind of policy, as in labels.
        component: The name of the policy, for people; as a label it may be "_other".
        recorder: Where the call is recorded.
        context: The clock, deadline and metrics of the call.
        started: When the call began, in seconds of the clock.
    """

    policy: ClassVar[str]
    component: str
    recorder: R
    context: CallContext
    started: float

    def now(self) -> float:
        """Return the time of the call's clock."""
        return self.context.clock.now()

    def elapsed(self) -> float:
        """Return the seconds since the call began."""
        return self.context.clock.now() - self.started

    def left(self, timeout: float | None = None, now: float | None = None) -> float:
        """Return the seconds until *timeout* or the deadline, whichever is first.

        Args:
            timeout: Seconds from the start of the call; None for the deadline alone.
            now: The time, where it was read just now; None to read the clock.
        """
        end = self.context.deadline
        if timeout is not None and self.started + timeout < end:
            end = self.started + timeout
        if end == math.inf:
            return end
        return end - (self.context.clock.now() if now is None else now)

    def check_time_left(self) -> None:
        """End the call if it begins with no time left.

        Raises:
            DeadlineExpiredError: If the deadline around it is over.
        """
        if self.context.left() <= 0:
            error = DeadlineExpiredError(self.component)
            self.give_up("timeout", error, "timeout", attempts=0)
            raise error

    # The verdict of `on`.

    def ask(self, judge: Judge, error: Exception, parameter: str = "on") -> Any:
        """Return what `on` answers about *error*; `PREDICATE_ERROR` where it raises."""
        try:
            return judge(error)
        except Exception as broken:  # noqa: BLE001 - must not hide the user's own exception
            return self.predicate_failed(error, f"`{parameter}` raised {described(broken)}")

    async def aask(self, judge: Judge, error: Exception) -> Any:
        """As `ask`, where the answer may have to be awaited."""
        try:
            verdict = judge(error)
            return await verdict if inspect.isawaitable(verdict) else verdict
        except Exception as broken:  # noqa: BLE001 - must not hide the user's own exception
            return self.predicate_failed(error, f"`on` raised {described(broken)}")

    def predicate_failed(self, error: Exception, what: str) -> object:
        """Leave a note that `on` could not judge the user's exception, and log that once."""
        return predicate_failed(self.recorder, self.policy, self.component, error, what)

    def hook_failed(self, hook: str, broken: Exception) -> None:
        """Record that another parameter of the user's raised, as `on` may; log each class once.

        Args:
            hook: The parameter, as the log names it.
            broken: What it raised.
        """
        hook_failed(self.recorder, self.policy, self.component, hook, broken)

    def not_matched(self, judge: object, error: Exception) -> None:
        """Log that `on` does not match *error*."""
        name = class_name(error)
        if is_first(self.policy, self.component, "not matched", name):
            level = logging.INFO
        elif logger_of(self.policy).isEnabledFor(logging.DEBUG):
            level = logging.DEBUG
        else:
            return
        text = "%s: `on` does not match %s (%s), so the exception passes through"
        logger_of(self.policy).log(level, text, self.component, name, judge)

    def note(self, error: BaseException, text: str) -> None:
        """Leave a note of the policy on *error*, in place of an earlier one."""
        leave_note(error, f"mainstay.{self.policy} {self.component}", text)

    # The end.

    def end(self, outcome: str, attempts: int = 1) -> None:
        """Record how the call ended."""
        self.recorder.call(outcome, self.elapsed(), attempts)

    def end_interrupted(
        self, error: BaseException, attempts: int = 1, last: Exception | None = None
    ) -> None:
        """Record that the call was cancelled, or the program is being ended.

        Args:
            error: The exception that passes through: a `CancelledError`, `KeyboardInterrupt` and so
                on.
            attempts: The number of attempts that were begun.
            last: The exception of the previous attempt, for the cause of an expired deadline.
        """
        if _is_interruption(error, last):
            self.recorder.gave_up("timeout")
            self.end("timeout", attempts)
        else:
            self.end("cancelled", attempts)

    def give_up(self, reason: str, error: Exception, outcome: str, *, attempts: int) -> None:
        """Record that the call ends with *error*, and publish that or log it."""
        self.recorder.gave_up(reason)
        self.end(outcome, max(attempts, 1))
        level = logging.DEBUG if reason == "not_retryable" else logging.WARNING
        if is_observed(self.policy, level):
            event = self.gave_up_event(reason, error, attempts)
            if event is not None:
                publish(event, self.recorder.listener_failed)
            elif level == logging.WARNING:
                text = "%s: gave up (%s) with %s"
                logger_of(self.policy).warning(text, self.component, reason, class_name(error))

    def gave_up_event(self, reason: Any, error: Exception, attempts: int) -> Event | None:  # noqa: ARG002 - for those that have one
        """Return the event of a call that gave up; None for policies without one."""
        return None


def hook_failed(
    recorder: CallRecorder, policy: str, component: str, hook: str, broken: Exception
) -> None:
    """Record that a parameter of the user's raised; log each class once."""
    recorder.hook_failed("predicate")
    name = class_name(broken)
    if is_first(policy, component, hook, name):
        logger_of(policy).warning("%s: %s raised %s", component, hook, name)


def predicate_failed(
    recorder: CallRecorder, policy: str, component: str, error: Exception, what: str
) -> object:
    """Leave a note that the `on` of a policy could not judge *error*, and log that once."""
    recorder.hook_failed("predicate")
    said = f"{what}, so the exception counts as not matched"
    leave_note(error, f"mainstay.{policy} {component}", said)
    name = class_name(error)
    if is_first(policy, component, "predicate", name):
        logger_of(policy).warning("%s: for %s %s", component, name, said)
    return PREDICATE_ERROR


def _is_interruption(error: BaseException, last: Exception | None) -> bool:
    interrupts = sys.modules.get("mainstay._core.interrupts")  # not loaded, no deadline interrupts
    return interrupts is not None and interrupts.is_interruption(error, last)
