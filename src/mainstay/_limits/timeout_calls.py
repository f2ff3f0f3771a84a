"""Calls with a limit of time, sync beside async.

    the call                                        async def      def          def in a thread
    is not done at the end of its time              is cancelled   goes on      is left behind
        and then                                    TimedOutError  its value    TimedOutError
    raises DeadlineExpiredError, its time is over   TimedOutError  the same     the same
        and that of a deadline around it too        goes on        the same     the same
    raises anything else                            goes on        the same     the same

The time of a call is a `deadline` around it, so that the policies inside keep to it. In another
thread, the copy of the context has a deadline of its own, which holds while the thread runs.
"""

from collections.abc import Callable
from contextvars import copy_context
from threading import get_ident
from types import NoneType
from typing import Any, ClassVar

import attrs

from mainstay._core.call import Call, recorder_in
from mainstay._core.clock import Bell, monotonic
from mainstay._core.context import (
    CallDeadline,
    block_context,
    current_context,
    end,
    process_contexts,
)
from mainstay._core.deadline import begin_interrupting, deadline, end_interrupting
from mainstay._core.events import is_first, logger_of
from mainstay._core.exceptions import is_a
from mainstay._core.functions import is_awaitable, refused_awaitable, require_asyncio, wraps
from mainstay._core.layers import Layer
from mainstay._core.workers import Worker, WorkerPool
from mainstay._metrics.abandoned import AbandonedCalls
from mainstay._metrics.recorder import Recorder
from mainstay.errors import BulkheadFullError, DeadlineExpiredError, TimedOutError

POLICY = "timeout"


@attrs.frozen(eq=False)
class BoundTimeout:
    """A limit, and what it is the limit of.

    Attributes:
        seconds: How long a call may take.
        component: The name, for people.
        function: The name of what is called.
        recorder: Where calls are recorded.
        workers: The threads to run in, or None to stay in the caller's.
        abandoned: The threads that callers have left.
    """

    seconds: float
    component: str
    function: str
    recorder: Recorder
    workers: WorkerPool | None
    abandoned: AbandonedCalls | None

    def layers(self, *, is_async: bool = False) -> tuple[Layer, ...]:
        """Return the worst case of a call, for `explain`."""
        in_thread = self.workers is not None
        return (
            Layer(
                kind="timeout",
                component=self.component,
                timeout=self.seconds,
                interrupts=is_async or in_thread,
                leaves=in_thread,
            ),
        )

    def begin(self) -> "TimeoutCall":
        """Begin a call in its context.

        Raises:
            DeadlineExpiredError: If the surrounding deadline leaves no time.
        """
        context = current_context()
        recorder = recorder_in(context, self.recorder, self.component)
        call = TimeoutCall(self.component, recorder, context, context.clock.now(), self)
        call.check_time_left()
        return call

    def resume(self, started: float) -> "TimeoutCall":
        """Return the call that began without one on the fast path."""
        return TimeoutCall(self.component, self.recorder, current_context(), started, self)


@attrs.define(eq=False)
class TimeoutCall(Call[Recorder]):
    """One call with a limit."""

    policy: ClassVar[str] = POLICY
    bound: BoundTimeout

    def returned(self) -> None:
        """Record an answer."""
        seconds = self.elapsed()
        self.recorder.success(seconds)
        self._warn_if_late(seconds)

    def _warn_if_late(self, seconds: float) -> None:
        """Log once for each function that it came back late, with an answer or an exception."""
        most, function = self.bound.seconds, self.bound.function
        if seconds > most and is_first(POLICY, self.component, "late", function):
            logger_of(POLICY).warning(
                "%s: came back after %.3f s, and had %.3f s; %s blocks, and is not interrupted",
                self.component,
                seconds,
                most,
                function,
            )

    def raised(self, error: BaseException, own: Any = None) -> None:
        """Record the exception of the call, which is raised again.

        Args:
            error: The exception.
            own: The entry of the call's own time, if that has caused the cancellation.

        Raises:
            TimedOutError: In place of *error*, if the time of the call is over.
        """
        if own is not None:
            raise self.timed_out() from (error if own.cause is None else own.cause)
        other = self._instead_of(error)
        if other is not None:
            raise other from error

    def _instead_of(self, error: BaseException) -> TimedOutError | None:
        if not is_a(error, Exception):
            self.end_interrupted(error)
            return None
        expired = is_a(error, DeadlineExpiredError)
        if expired and self.context.left() <= 0:  # the caller's time is over as well
            self.recorder.gave_up("timeout")
            self.recorder.error(error)
            self.end("timeout")
            return None
        if expired and self.elapsed() >= self.bound.seconds:
            return self.timed_out()
        self.recorder.error(error)
        self.end("error")
        self._warn_if_late(self.elapsed())
        return None

    def timed_out(self) -> TimedOutError:
        """Record that the time is over; return what is raised."""
        error = TimedOutError(self.component, self.bound.seconds)
        self.recorder.error(error)
        self.give_up("timeout", error, "timeout", attempts=1)
        return error

    def full(self) -> BulkheadFullError:
        """Record that there is no thread for the call; return what is raised."""
        self.recorder.gave_up("full")
        self.end("rejected")
        return BulkheadFullError(self.component, "full", None)

    def left_behind(self) -> TimedOutError | DeadlineExpiredError:
        """Record that the caller goes on without an answer; return what is raised."""
        seconds = self.elapsed()
        if self.context.left() > 0 or seconds >= self.bound.seconds:
            return self.timed_out()
        error = DeadlineExpiredError(self.component, seconds)
        self.recorder.error(error)
        self.give_up("timeout", error, "timeout", attempts=1)
        return error


# Async code.


def wrap_async(bound: BoundTimeout, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Limit an `async def`."""
    from asyncio import current_task  # noqa: PLC0415 - programs without async code do without

    from mainstay._core.interrupts import begin_limited  # noqa: PLC0415 - as above

    success, most = bound.recorder.success, bound.seconds
    on_asyncio = False  # asked at the first call: it is a system call in 3.11

    @wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal on_asyncio
        if not on_asyncio:
            require_asyncio(bound.component)
            on_asyncio = True
        started = monotonic()
        here = block_context()
        task = current_task()
        if (
            task is None
            or process_contexts
            or (here is not None and not (here.plain and started < here.deadline))
        ):
            return await _acall(bound, fn, args, kwargs)
        entry = begin_limited(task, here, started + most)
        try:
            value = await fn(*args, **kwargs)
        except BaseException as error:
            end(entry)
            own = entry if entry.is_left_by(type(error)) else None
            bound.resume(started).raised(error, own)
            raise
        end(entry)
        entry.is_left_by(None)
        seconds = monotonic() - started
        if seconds <= most:
            success(seconds)
        else:
            bound.resume(started).returned()
        return value

    return wrapper


async def _acall(
    bound: BoundTimeout, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    call = bound.begin()
    block = deadline(bound.seconds)
    begin_interrupting(block)
    try:
        value = await fn(*args, **kwargs)
    except BaseException as error:
        call.raised(error, end_interrupting(block, type(error)))
        raise
    end_interrupting(block, None)
    call.returned()
    return value


# Plain functions.


def wrap_sync(bound: BoundTimeout, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Run a `def` with a deadline, at which it is not stopped: it can ask for the time left."""
    success, most = bound.recorder.success, bound.seconds
    plain: type = NoneType  # of the last result: asked once for each change, not at every call

    @wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        started = monotonic()
        here = block_context()
        if process_contexts or (here is not None and not (here.plain and started < here.deadline)):
            return _call(bound, fn, args, kwargs)
        own_deadline = CallDeadline(here, started + most)
        try:
            try:
                value = fn(*args, **kwargs)
            finally:
                own_deadline.end()
        except BaseException as error:
            bound.resume(started).raised(error)
            raise
        if type(value) is not plain:
            if is_awaitable(value):
                raise _awaitable_refused(bound.resume(started), fn, value)
            plain = type(value)
        seconds = monotonic() - started
        if seconds <= most:
            success(seconds)
        else:
            bound.resume(started).returned()
        return value

    return wrapper


def _call(
    bound: BoundTimeout, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    call = bound.begin()
    try:
        with deadline(bound.seconds):
            value = fn(*args, **kwargs)
    except BaseException as error:
        call.raised(error)
        raise
    if is_awaitable(value):
        raise _awaitable_refused(call, fn, value)
    call.returned()
    return value


def wrap_in_thread(bound: BoundTimeout, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Run a `def` in another thread, which its caller leaves at the end of its time."""
    workers, abandoned = bound.workers, bound.abandoned
    assert workers is not None and abandoned is not None  # noqa: S101, PT018 - by its policy

    @wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = bound.begin()
        bell, job = call.context.clock.bell(), None
        worker = workers.take()
        if worker is None:
            raise call.full()
        try:
            made = _Job(bound.seconds, fn, args, kwargs, workers, abandoned, bell)
            bell.working(worker.ident)
            job = made
            worker.run(job.do)
            done = bell.wait(min(bound.seconds, call.left()))
            done = done or not job.leave()
        except BaseException as interrupt:
            if job is None:  # a signal handler raised before the worker had it
                workers.release(worker)
            else:
                job.leave()
            call.end_interrupted(interrupt)
            raise
        finally:
            bell.idle(get_ident())
        if not done:
            raise call.left_behind()
        if job.error is not None:
            try:
                call.raised(job.error)
                raise job.error
            finally:
                job.error = None  # its traceback leads here
        if is_awaitable(job.value):
            raise _awaitable_refused(call, fn, job.value)
        call.returned()
        return job.value

    return wrapper


class _Job:
    """One call in a thread of its own.

    Attributes:
        value: What it returned.
        error: What it raised.
    """

    def __init__(
        self,
        seconds: float,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        workers: WorkerPool,
        abandoned: AbandonedCalls,
        bell: Bell,
    ) -> None:
        self._seconds = seconds
        self._call = fn, args, kwargs
        self._context = copy_context()
        self._workers = workers
        self._abandoned = abandoned
        self._bell = bell
        self._ends: list[None] = [None]  # the first of the job and its caller takes it
        self.value: Any = None
        self.error: BaseException | None = None

    def do(self, worker: Worker) -> None:
        """Make the call, in the thread of *worker*."""
        try:
            self.value = self._context.run(self._limited)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self.error = error
        self._workers.release(worker)
        self._bell.idle(worker.ident)
        if self._is_first():
            self._bell.ring()
        else:
            self.value = self.error = None
            self._abandoned.add_threads(-1)

    def leave(self) -> bool:
        """Leave it behind; return False if it is done."""
        self._abandoned.add_threads(1)  # before it may be taken back
        if self._is_first():
            return True
        self._abandoned.add_threads(-1)
        return False

    def _is_first(self) -> bool:
        try:
            self._ends.pop()
        except IndexError:
            return False
        return True

    def _limited(self) -> Any:
        fn, args, kwargs = self._call
        with deadline(self._seconds):
            return fn(*args, **kwargs)


def _awaitable_refused(call: TimeoutCall, fn: Callable[..., Any], value: object) -> TypeError:
    """End a call of a plain function that returned something to await."""
    error = refused_awaitable(fn, value)
    call.raised(error)
    return error
