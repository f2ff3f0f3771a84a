"""Calls through a circuit breaker: `Passage` is one, `wrap` makes them, sync beside async.

What `_wrap_sync` and `_wrap_async` return calls at once where nothing surrounds the call and the
gate is not shut: that is the path of every healthy call, and it takes no lock.
"""

import functools
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from types import CoroutineType
from typing import Any, TypeAlias

import attrs

from mainstay._core.ambient import Ambient, current, everywhere, surroundings
from mainstay._core.callables import Colour, colour_of, refused_coroutine
from mainstay._core.clock import monotonic
from mainstay._core.notes import described, leave_note
from mainstay._core.outcomes import Judge
from mainstay._failover.gate import POLICY, Gate
from mainstay._failover.hooks import running_loop
from mainstay._failover.options import Verdict
from mainstay._failover.rules import verdict_of
from mainstay._metrics.collector import recorder_of
from mainstay._metrics.recorder import Recorder
from mainstay.errors import CircuitOpenError, DeadlineExpiredError, UnsupportedLoopError

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]


@attrs.frozen(eq=False)
class Passage:
    """One call that was let through.

    Attributes:
        gate: The breaker.
        judge: The verdict of `on` about an exception.
        recorder: Where the call is recorded.
        ambient: Its clock and its deadline.
        started: When it began, in seconds of the clock.
        generation: Of the breaker's health, which its result belongs to.
        outer: The call of the ``with breaker:`` around it, if it is one itself.
    """

    gate: Gate
    judge: Judge
    recorder: Recorder
    ambient: Ambient
    started: float
    generation: int
    outer: "Passage | None" = None

    def succeeded(self) -> None:
        """Take in an answer."""
        now = self.ambient.clock.now()
        gate = self.gate
        if gate.watched:
            gate.succeeded(self.generation, now, now - self.started)
        self.recorder.success(now - self.started)

    def raised(self, error: BaseException) -> None:
        """Take in what the call raised, which goes on."""
        if isinstance(error, Exception):
            self._failed(error)
        else:
            now = self.ambient.clock.now()
            self.gate.released(self.generation, now)
            self.recorder.call("cancelled", now - self.started)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, DeadlineExpiredError) and self.ambient.left() <= 0:
            self.unknown(error, "timeout")  # the caller's time is over, whatever was called
            return
        try:
            verdict = verdict_of(self.judge(error))
        except Exception as broken:  # noqa: BLE001 - must not hide the user's own exception
            leave_note(error, f"mainstay.{POLICY} {self.gate.name}",
                       f"`on` failed with {described(broken)}, so it does not count")  # fmt: skip
            verdict = Verdict.STOP
        if verdict is Verdict.MEMBER_FAILED:
            now = self.ambient.clock.now()
            self.recorder.error(error)
            self.gate.failed(self.generation, now)
            self.recorder.call("error", now - self.started)
            leave_note(error, f"mainstay.{POLICY} {self.gate.name}",
                       f"1 attempt, which failed after {now - self.started:.3f} s; the breaker "
                       f"is {self.gate.state(now)}")  # fmt: skip
        else:
            self.unknown(error)

    def unknown(self, error: Exception, reason: str = "not_retryable") -> None:
        """Take in an exception that says nothing about what the breaker protects."""
        now = self.ambient.clock.now()
        self.gate.released(self.generation, now)
        self.recorder.error(error)
        self.recorder.gave_up(reason)
        self.recorder.call("timeout" if reason == "timeout" else "error", now - self.started)


PASSAGE: ContextVar[Passage | None] = ContextVar("mainstay_passage", default=None)
"""The calls of ``with breaker:`` around the calling code, the innermost one with its `outer`."""


def begin(gate: Gate, judge: Judge) -> Passage:
    """Let a call through in its surroundings.

    Raises:
        CircuitOpenError: If it may not go through.
        DeadlineExpiredError: If the surrounding deadline leaves no time.
    """
    ambient = surroundings()
    recorder = gate.recorder
    if ambient.metrics is not None:
        recorder = recorder_of(ambient.metrics, gate.name, POLICY)
    if ambient.left() <= 0:
        recorder.gave_up("timeout")
        recorder.call("timeout", 0.0)
        raise DeadlineExpiredError(gate.name)
    now = ambient.clock.now()
    try:
        generation = gate.admit(now)
    except CircuitOpenError:
        recorder.rejected()
        raise
    return Passage(gate, judge, recorder, ambient, now, generation)


def resume(gate: Gate, judge: Judge, started: float, generation: int) -> Passage:
    """Give the passage of a call that began without one, in no particular surroundings."""
    return Passage(gate, judge, gate.recorder, surroundings(), started, generation)


def wrap(gate: Gate, judge: Judge, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Put a gate before a function, whatever its colour.

    Raises:
        TypeError: If it is a generator function.
    """
    colour = colour_of(fn)
    if colour is Colour.ASYNC:
        return _wrap_async(gate, judge, fn)
    if colour is Colour.SYNC:
        return _wrap_sync(gate, judge, fn)
    raise TypeError(f"a circuit breaker does not wrap generators such as {fn!r}; use `with "
                    f"breaker:` in it, around what may fail")  # fmt: skip


def _wrap_sync(gate: Gate, judge: Judge, fn: Callable[..., Any]) -> Callable[..., Any]:
    success = gate.recorder.success

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        if everywhere or current() is not None:
            return _pass(begin(gate, judge), fn, args, kwargs)
        started = monotonic()
        if gate.shut:
            if started < gate.shut_until:
                raise gate.rejected(started)
            return _pass(begin(gate, judge), fn, args, kwargs)
        generation = gate.health.generation
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            resume(gate, judge, started, generation).raised(error)
            raise
        if type(value) is CoroutineType:
            raise _refused(resume(gate, judge, started, generation), fn, value)
        now = monotonic()
        if gate.watched:
            gate.succeeded(generation, now, now - started)
        success(now - started)
        return value

    return call


def _wrap_async(gate: Gate, judge: Judge, fn: Callable[..., Any]) -> Callable[..., Any]:
    success = gate.recorder.success
    asyncio_seen = False  # asked at the first call: it is a system call in 3.11

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal asyncio_seen
        if not asyncio_seen:
            if running_loop() is None:
                raise UnsupportedLoopError(gate.name)
            asyncio_seen = True
        if everywhere or current() is not None:
            return await _apass(begin(gate, judge), fn, args, kwargs)
        started = monotonic()
        if gate.shut:
            if started < gate.shut_until:
                raise gate.rejected(started)
            return await _apass(begin(gate, judge), fn, args, kwargs)
        generation = gate.health.generation
        try:
            value = await fn(*args, **kwargs)
        except BaseException as error:
            resume(gate, judge, started, generation).raised(error)
            raise
        now = monotonic()
        if gate.watched:
            gate.succeeded(generation, now, now - started)
        success(now - started)
        return value

    return call


def _pass(passage: Passage, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    try:
        value = fn(*args, **kwargs)
    except BaseException as error:
        passage.raised(error)
        raise
    if type(value) is CoroutineType:
        raise _refused(passage, fn, value)
    passage.succeeded()
    return value


async def _apass(passage: Passage, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    try:
        value = await fn(*args, **kwargs)
    except BaseException as error:
        passage.raised(error)
        raise
    passage.succeeded()
    return value


def _refused(
    passage: Passage, fn: Callable[..., Any], value: Coroutine[Any, Any, Any]
) -> TypeError:
    """End a call of a plain function that returned a coroutine, whose failures nobody would see."""
    error = refused_coroutine(fn, value)
    passage.unknown(error)
    return error
