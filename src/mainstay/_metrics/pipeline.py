"""What the layers of a pipeline record with: their events become those of the pipeline's call.

    what a layer records    of `retry`, `timeout`, ...      of a breaker, pool, bulkhead, rate limit
    the end of a call       -                               `calls_total` of its own
    that it gave up         -                               `give_ups_total` of its own
    a failed attempt        once, of the pipeline           once, of the pipeline
    a wait                  of the pipeline                 of its own

The end of the pipeline's call, and why it gave up, are those of the layer that recorded it last,
the outermost one. A context variable says which call that is: tasks and threads of copies inherit
it.
"""

from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from mainstay._core.exceptions import CAUSE, is_a
from mainstay._metrics.layouts import CALL_LAYOUT, OUTCOME_LAYOUT, WAIT_LAYOUT, pipeline_failures
from mainstay._metrics.recorder import Recorder
from mainstay._metrics.schema import CALLS
from mainstay._metrics.series import SeriesTable
from mainstay.errors import (
    DeadlineExpiredError,
    MainstayError,
    RejectedError,
    ResultRefusedError,
)

POLICY = "pipeline"

B = TypeVar("B")

_OUTCOMES = CALL_LAYOUT.slots[CALLS]
_SUCCESS = _OUTCOMES["success"]

_KNOWN: Final = 100
"""Exceptions of attempts that are known again where a layer hands them on."""

_RUNNING: Final = object()
"""In place of what an attempt has returned."""


class PipelineAttempt:
    """One call of the function: what it has returned, or that it was cut short."""

    __slots__ = ("is_cut", "value")

    def __init__(self) -> None:
        self.value: Any = _RUNNING
        self.is_cut: bool = False


class PipelineTally:
    """What the layers have recorded of one call of a pipeline.

    Attributes:
        recorder: Counts its failed attempts.
        attempts: How many times the function was called.
        outcome: How the layer that ended last has ended; None before one has.
        reason: Why a layer gave up; None if none has.
        closed: True if the call is over: what copies do that are left behind says nothing of it.
    """

    __slots__ = (
        "_failures",
        "_open",
        "attempts",
        "closed",
        "outcome",
        "reason",
        "recorder",
        "recovered",
    )

    def __init__(self, recorder: Recorder) -> None:
        self.recorder: Recorder = recorder
        self.attempts: list[None] = []  # as a list, since copies in threads append to it
        self.outcome: str | None = None
        self.reason: str | None = None
        self.recovered: bool = False
        self.closed: bool = False
        self._open: list[PipelineAttempt] = []  # those that have not failed so far
        self._failures: deque[BaseException] = deque(maxlen=_KNOWN)

    def attempt(self) -> PipelineAttempt:
        """Record that the function is called."""
        attempt = PipelineAttempt()
        if not self.closed:
            self.attempts.append(None)
            self._open.append(attempt)
            self.reason = None  # of an earlier attempt
        return attempt

    def refused(self, attempt: PipelineAttempt) -> None:
        """Record that what was called as the function refused to run: that was no attempt."""
        if self._settles(attempt):
            self.attempts.pop()

    def failed(self, attempt: PipelineAttempt, error: BaseException) -> None:
        """Count a failed attempt, once, whichever layers take it for one."""
        if self._settles(attempt):
            self._failures.append(error)
            self.recorder.error(error)

    def judged(self, error: BaseException) -> None:
        """Count the attempt that a layer takes for failed, if it is one that did not raise.

        That is one whose result is refused, or that was cut short or left behind at the end of
        its time. What a layer says of anything else sums up attempts that have failed already, or
        is about none, as the end of the time while it waited for the next one.
        """
        if any(each is error or each is CAUSE.__get__(error) for each in self._failures):
            return
        for attempt in tuple(self._open):
            if _may_be_of(error, attempt):
                self.failed(attempt, error)
                return

    def _settles(self, attempt: PipelineAttempt) -> bool:
        """True for the first who says what has become of an attempt, while the call goes on."""
        try:
            self._open.remove(attempt)
        except ValueError:
            return False
        return True

    def gave_up(self, reason: str) -> None:
        """Record why a layer gave up; an `on` around it that does not match adds nothing."""
        if reason != "not_retryable" or self.reason is None:
            self.reason = reason

    def ended(self, outcome: str) -> None:
        """Record how a layer has ended."""
        self.recovered = self.recovered or outcome == "recovered"
        self.outcome = outcome

    def close(self, seconds: float, error: BaseException | None) -> None:
        """Record the call, which raises *error*, or returns."""
        self.closed = True
        self._open.clear()
        self._failures.clear()  # their tracebacks lead to frames that have this
        if error is None:
            outcome = "recovered" if self.recovered else "success"
        else:
            outcome = _outcome_of(error, self.outcome, attempted=bool(self.attempts))
            if self.reason is not None:
                self.recorder.gave_up(self.reason)
        self.recorder.call(outcome, seconds, max(len(self.attempts), 1))


def _may_be_of(error: Any, attempt: PipelineAttempt) -> bool:
    """True if an exception of a layer can be what it says of an attempt that did not raise."""
    kind = type(error)
    if issubclass(kind, ResultRefusedError):
        return attempt.value is error.result
    if issubclass(kind, TimeoutError):
        is_cut = attempt.is_cut or attempt.value is _RUNNING
        return is_cut and not issubclass(kind, DeadlineExpiredError)
    return attempt.value is not _RUNNING and not issubclass(kind, MainstayError)


def _outcome_of(error: BaseException, outcome: str | None, *, attempted: bool) -> str:
    if not is_a(error, Exception):
        return "timeout" if outcome == "timeout" else "cancelled"
    if is_a(error, RejectedError) and not attempted and outcome != "timeout":
        return "rejected"
    return "timeout" if outcome == "timeout" else "error"


_TALLY: ContextVar[PipelineTally | None] = ContextVar("mainstay_pipeline", default=None)

tally_here = _TALLY.get
set_tally = _TALLY.set


class PipelineRecorder(Recorder):
    """Records the calls of a pipeline, whose layers can give *reasons* for giving up."""

    __slots__ = ("_given_reasons", "_name")

    def __init__(
        self, table: SeriesTable, component: str, name: str, reasons: tuple[str, ...]
    ) -> None:
        super().__init__(table, component, POLICY, pipeline_failures(reasons))
        self._name = name
        self._given_reasons = reasons

    def within(self, metrics: Any, component: str) -> "PipelineRecorder":  # noqa: ARG002 - the pipeline's, whatever the layer is called
        """Return the recorder of the pipeline in other metrics."""
        found: PipelineRecorder = metrics._recorders.pipeline(  # noqa: SLF001 - which users do not see
            type(self), self._name, self._given_reasons
        )
        return found


class PartRecorder(PipelineRecorder):
    """Stands in for the recorder of a layer that has no state of its own."""

    __slots__ = ()

    def success(self, seconds: float) -> None:  # noqa: ARG002 - the pipeline has its own
        """Record that the layer let an answer through."""
        _note_end("success")

    def call(self, outcome: str, seconds: float, attempts: int = 1) -> None:  # noqa: ARG002 - as above
        """Record how the layer has ended."""
        _note_end(outcome)

    def gave_up(self, reason: str) -> None:
        """Record why the layer gave up."""
        _note_reason(reason)

    def waited(self, seconds: float) -> None:
        """Record *seconds* spent between attempts."""
        self.table.add(self.table.group(WAIT_LAYOUT, (self.component,)), 0, seconds)

    def error(self, error: BaseException) -> None:
        """Record a failed attempt."""
        _note_failure(error)


class SharedRecorder(Recorder):
    """Stands in for the recorder of a shared object whose call is a layer of a pipeline."""

    __slots__ = ()

    def __init__(self, table: SeriesTable, component: str, policy: str) -> None:
        super().__init__(table, component, policy)
        self.calls = table.group(OUTCOME_LAYOUT, (component, policy))  # no durations

    def within(self, metrics: Any, component: str) -> "SharedRecorder":
        """Return the recorder of the same object in other metrics."""
        found: SharedRecorder = metrics._recorders.shared(component, self.policy)  # noqa: SLF001 - which users do not see
        return found

    def success(self, seconds: float) -> None:  # noqa: ARG002 - the pipeline has its own
        """Record an answer."""
        self.passed()
        _note_end("success")

    def passed(self) -> None:
        """Record an answer that came on the fast path, of which the pipeline knows."""
        try:
            self._local.cells[self.calls][1][_SUCCESS] += 1.0
        except (AttributeError, KeyError):  # the first call in this thread
            self.table.cells.cell(self.calls)[1][_SUCCESS] += 1.0

    def call(self, outcome: str, seconds: float, attempts: int = 1) -> None:  # noqa: ARG002 - the pipeline has both
        """Record how a call of the object has ended."""
        self.table.cells.cell(self.calls)[1][_OUTCOMES[outcome]] += 1.0
        _note_end(outcome)

    def rejected(self) -> None:
        """Record a call that a breaker did not let through."""
        super().rejected()
        _note_reason("open")
        _note_end("rejected")

    def gave_up(self, reason: str) -> None:
        """Record why a call of the object gave up."""
        super().gave_up(reason)
        _note_reason(reason)

    def error(self, error: BaseException) -> None:
        """Record a failed attempt."""
        _note_failure(error)


def _note_end(outcome: str) -> None:
    tally = tally_here()
    if tally is not None:
        tally.ended(outcome)


def _note_reason(reason: str) -> None:
    tally = tally_here()
    if tally is not None:
        tally.gave_up(reason)


def _note_failure(error: BaseException) -> None:
    tally = tally_here()
    if tally is not None:
        tally.judged(error)


class PipelineBuilder:
    """What the policies of a pipeline need while each wraps what the policies inside have made.

    Args:
        component: The name of the pipeline.
        metrics: Where it is recorded.
        reasons: Why its layers can give up.
        counted: Makes a function count as an attempt of the pipeline.
        once: True if the function is called once, by `.call`.

    Attributes:
        bounds: What each layer made for the function, the innermost first; None where nothing is
            of use to the fast path.
    """

    def __init__(
        self,
        component: str,
        metrics: Any,
        reasons: tuple[str, ...],
        counted: Callable[[Callable[..., Any]], Callable[..., Any]],
        *,
        once: bool,
    ) -> None:
        self.component = component
        self.metrics = metrics
        self.counted = counted
        self.once = once
        self.bounds: list[Any] = []
        self._reasons = reasons

    def bind(self, bound: B) -> B:
        """Keep what a layer has made for the function."""
        self.bounds.append(bound)
        return bound

    def part_recorder(self) -> PartRecorder:
        """Return what a layer without state records with."""
        found: PartRecorder = self.metrics._recorders.pipeline(  # noqa: SLF001 - which users do not see
            PartRecorder, self.component, self._reasons
        )
        return found

    def shared_recorder(self, recorder: Recorder) -> SharedRecorder:
        """Return what a shared object records with in place of *recorder*."""
        return SharedRecorder(recorder.table, recorder.component, recorder.policy)
