"""Calls through a circuit breaker, sync beside async.

What `_wrap_sync` and `_wrap_async` return calls at once where the context is plain and the breaker
closed: this is the fast path, that of every healthy call, and it takes no lock.
"""

from asyncio import CancelledError
from collections.abc import Callable
from types import NoneType
from typing import Any, ClassVar, TypeAlias

import attrs

from mainstay._breaker.engine import POLICY, BreakerEngine
from mainstay._core.call import PREDICATE_ERROR, Call, recorder_in
from mainstay._core.clock import monotonic
from mainstay._core.context import CallContext, block_context, current_context, process_contexts
from mainstay._core.exceptions import is_a, is_refusal
from mainstay._core.failures import FAILING, Judge, Verdict, is_refused, verdict_of
from mainstay._core.functions import (
    Kind,
    is_awaitable,
    kind_of,
    name_of,
    refused_awaitable,
    require_asyncio,
    wraps,
)
from mainstay._core.layers import Layer, classes_of, with_layers
from mainstay._metrics.recorder import Recorder
from mainstay.errors import (
    CircuitOpenError,
    DeadlineExpiredError,
    ResultRefusedError,
)

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]


@attrs.frozen(eq=False)
class BoundBreaker:
    """A breaker, what counts as a failure for it, and where its calls are recorded."""

    engine: BreakerEngine
    judge: Judge
    on_result: Callable[[Any], object] | None
    recorder: Recorder

    def layers(self) -> tuple[Layer, ...]:
        """Return the worst case of a call, for `explain`."""
        classes = classes_of(self.judge)
        return (Layer(kind="breaker", component=self.engine.name, classes=classes),)

    def begin(self) -> "BreakerCall":
        """Admit a call in its context.

        Raises:
            CircuitOpenError: If it may not go through.
            DeadlineExpiredError: If the surrounding deadline leaves no time.
        """
        context = current_context()
        call = self._call(context, context.clock.now())
        call.check_time_left()
        try:
            call.generation = self.engine.admit(call.started)
        except CircuitOpenError:
            call.recorder.rejected()
            raise
        return call

    def resume(self, started: float, generation: int) -> "BreakerCall":
        """Return the call that began without one on the fast path."""
        return self._call(current_context(), started, generation)

    def _call(self, context: CallContext, started: float, generation: int = 0) -> "BreakerCall":
        engine = self.engine
        recorder = recorder_in(context, self.recorder, engine.name)
        return BreakerCall(
            engine.name, recorder, context, started, engine, self.judge, self.on_result, generation
        )


@attrs.define(eq=False)
class BreakerCall(Call[Recorder]):
    """One call that was let through.

    Attributes:
        generation: Of the detector, which its result belongs to.
    """

    policy: ClassVar[str] = POLICY
    engine: BreakerEngine
    judge: Judge
    on_result: Callable[[Any], object] | None
    generation: int

    def returned(self, value: object) -> None:
        """Record what the call returned, which `on_result` may take for a failure."""
        if self.on_result is not None and self._is_refused(self.on_result, value):
            error = ResultRefusedError(self.component, value, 1, self.elapsed())
            self.recorder.error(error)
            self.engine.failed(self.generation, self.now(), error)
            self.end("error")
        else:
            self.succeeded()

    def _is_refused(self, on_result: Callable[[Any], object], value: object) -> bool:
        try:
            return is_refused(on_result, value)
        except Exception as error:
            self.hook_failed("`on_result`", error)
            self.not_counted(error, "predicate_error")
            raise
        except BaseException as error:
            self.raised(error)
            raise

    def succeeded(self) -> None:
        """Record an answer."""
        now = self.now()
        if self.engine.inspects_successes:
            self.engine.succeeded(self.generation, now, now - self.started)
        self.recorder.success(now - self.started)

    def cancelled(self, error: BaseException) -> None:
        """Record that a coroutine was cancelled, or the program is being ended."""
        self.engine.cancelled(self.generation, self.started, self.now())
        self.end_interrupted(error)

    def raised(self, error: BaseException) -> None:
        """Record the exception of the call, which is raised again."""
        if not is_a(error, Exception):
            self.engine.released(self.generation, self.now())
            self.end_interrupted(error)
        elif issubclass(type(error), DeadlineExpiredError) and self.context.left() <= 0:
            self.not_counted(error, "timeout")  # the caller's time is over, whatever was called
        elif is_refusal(error):
            self.not_counted(error, "not_retryable")
        elif (verdict := self.ask(self._verdict, error)) is PREDICATE_ERROR:
            self.not_counted(error, "predicate_error")
        elif verdict not in (Verdict.MEMBER_FAILED, FAILING):
            self.not_matched(self.judge, error)
            self.not_counted(error, "not_retryable")
        else:
            now = self.now()
            self.recorder.error(error)
            self.engine.failed(self.generation, now, error)
            self.end("error")
            self.note(
                error,
                f"1 attempt, which failed after {now - self.started:.3f} s; "
                f"the breaker is {self.engine.state(now)}",
            )

    def _verdict(self, error: Exception) -> object:
        return verdict_of(self.judge(error))

    def not_counted(self, error: Exception, reason: str) -> None:
        """End the call with an exception that does not count for or against the service."""
        self.engine.released(self.generation, self.now())
        self.recorder.error(error)
        self.recorder.gave_up(reason)
        self.end("timeout" if reason == "timeout" else "error")


def wrap(bound: BoundBreaker, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Put a breaker before a function, sync or async.

    Raises:
        TypeError: If it is a generator function.
    """
    kind = kind_of(fn)
    if kind is Kind.ASYNC:
        return with_layers(_wrap_async(bound, fn), bound.layers)
    if kind is Kind.SYNC:
        return with_layers(_wrap_sync(bound, fn), bound.layers)
    raise TypeError(
        f"a circuit breaker does not wrap generators such as {name_of(fn)}; use `with breaker:` in "
        f"it, around what may fail"
    )


def _wrap_sync(bound: BoundBreaker, fn: Callable[..., Any]) -> Callable[..., Any]:
    engine = bound.engine
    success = bound.recorder.success
    always_slow = bound.on_result is not None
    plain: type = NoneType  # of the last result: asked once for each change, not at every call

    @wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        started = monotonic()
        here = block_context()
        if (
            always_slow
            or process_contexts
            or (here is not None and not (here.plain and started < here.deadline))
        ):
            return _call(bound.begin(), fn, args, kwargs)
        if engine.is_open:
            if started < engine.open_until:
                raise engine.rejected(started, bound.recorder)
            return _call(bound.begin(), fn, args, kwargs)
        generation = engine.detector.generation
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            bound.resume(started, generation).raised(error)
            raise
        if type(value) is not plain:
            if is_awaitable(value):
                raise _awaitable_refused(bound.resume(started, generation), fn, value)
            plain = type(value)
        now = monotonic()
        if engine.inspects_successes:
            engine.succeeded(generation, now, now - started)
        success(now - started)
        return value

    return wrapper


def _wrap_async(bound: BoundBreaker, fn: Callable[..., Any]) -> Callable[..., Any]:
    engine = bound.engine
    success = bound.recorder.success
    answered = engine.answers.append
    always_slow = bound.on_result is not None
    on_asyncio = False  # asked at the first call: it is a system call in 3.11

    @wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal on_asyncio
        if not on_asyncio:
            require_asyncio(engine.name)
            on_asyncio = True
        started = monotonic()
        here = block_context()
        if (
            always_slow
            or process_contexts
            or (here is not None and not (here.plain and started < here.deadline))
        ):
            return await _acall(bound.begin(), fn, args, kwargs)
        if engine.is_open:
            if started < engine.open_until:
                raise engine.rejected(started, bound.recorder)
            return await _acall(bound.begin(), fn, args, kwargs)
        generation = engine.detector.generation
        try:
            value = await fn(*args, **kwargs)
        except CancelledError as error:
            bound.resume(started, generation).cancelled(error)
            raise
        except BaseException as error:
            bound.resume(started, generation).raised(error)
            raise
        seconds = (now := monotonic()) - started
        answered(seconds)
        if engine.inspects_successes:
            engine.succeeded(generation, now, seconds)
        success(seconds)
        return value

    return wrapper


def _call(call: BreakerCall, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    try:
        value = fn(*args, **kwargs)
    except BaseException as error:
        call.raised(error)
        raise
    if is_awaitable(value):
        raise _awaitable_refused(call, fn, value)
    call.returned(value)
    return value


async def _acall(call: BreakerCall, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    try:
        value = await fn(*args, **kwargs)
    except CancelledError as error:
        call.cancelled(error)
        raise
    except BaseException as error:
        call.raised(error)
        raise
    call.engine.answers.append(call.elapsed())
    call.returned(value)
    return value


def _awaitable_refused(call: BreakerCall, fn: Callable[..., Any], value: object) -> TypeError:
    """End a call of a plain function that returned something to await."""
    error = refused_awaitable(fn, value)
    call.not_counted(error, "not_retryable")
    return error
