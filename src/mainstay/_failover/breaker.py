"""`CircuitBreaker`: the health of a pool's member alone, around a function or a block."""

import functools
import os
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from types import CoroutineType, TracebackType
from typing import Any, ParamSpec, TypeVar

import attrs

from mainstay._core.ambient import Ambient, current, everywhere, surroundings
from mainstay._core.callables import Colour, colour_of
from mainstay._core.clock import monotonic
from mainstay._core.notes import described, leave_note
from mainstay._core.outcomes import Classes, Judge
from mainstay._failover.gate import POLICY, BreakerState, Gate
from mainstay._failover.options import Detect, Verdict
from mainstay._failover.rules import checked_name, sync_judge_of, verdict_of
from mainstay._failover.starts import running_loop
from mainstay._metrics.collector import Metrics, metrics_of, recorder_of
from mainstay._metrics.recorder import Recorder
from mainstay.errors import CircuitOpenError, DeadlineExpiredError, UnsupportedLoopError

P = ParamSpec("P")
R = TypeVar("R")

_all: "weakref.WeakSet[Gate]" = weakref.WeakSet()


@attrs.frozen(eq=False)
class _Passage:
    """One call that was let through, or is to be."""

    gate: Gate
    judge: Judge
    recorder: Recorder
    ambient: Ambient
    started: float
    generation: int
    outer: "_Passage | None" = None

    def succeeded(self) -> None:
        """Take in an answer."""
        now = self.ambient.clock.now()
        gate = self.gate
        if gate.watched or self.generation != gate.health.generation:
            gate.succeeded(self.generation, now, now - self.started)
        self.recorder.success(now - self.started)

    def failed(self, error: Exception) -> None:
        """Take in an exception of the user's function, which goes on."""
        try:
            verdict = verdict_of(self.judge(error))
        except Exception as broken:  # noqa: BLE001 - must not hide the user's own exception
            leave_note(error, f"mainstay.{POLICY} {self.gate.name}",
                       f"`on` failed with {described(broken)}, so it does not count")  # fmt: skip
            verdict = Verdict.STOP
        now = self.ambient.clock.now()
        self.recorder.error(error)
        if verdict is Verdict.MEMBER_FAILED:
            self.gate.failed(self.generation, now)
        else:
            self.gate.released(self.generation, now)
            self.recorder.gave_up("not_retryable")
        self.recorder.call("error", now - self.started)

    def interrupted(self) -> None:
        """Take in that the call was cancelled, or the program is being ended."""
        now = self.ambient.clock.now()
        self.gate.released(self.generation, now)
        self.recorder.call("cancelled", now - self.started)


_PASSAGE: ContextVar[_Passage | None] = ContextVar("mainstay_passage", default=None)


class CircuitBreaker:
    """Stops calling what has failed too much, and finds out by single calls when it is well again.

    Closed, it lets all calls through and measures their failures by the rules of *detect*; open,
    it lets none through, for a time that grows with each failed trial; then one call is the
    trial, whose success closes it. One error soon after that opens it again. A cancelled call, and
    an exception outside *on*, change nothing. It never holds a lock while user code runs, so calls
    go side by side. Use it as a decorator, by `call`, or as ``with breaker:``, also in async code
    and for any number of threads and tasks at once.

    Args:
        name: The `component` label. Not empty.
        on: What counts as a failure: an exception class below `Exception`, a tuple of them, or a
            predicate that takes the exception and answers True or False. Not async.
        detect: When it opens, and for how long.
        metrics: Where to record. None for `default_metrics()`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If *name* is empty.

    Metrics:
        `calls_total`, `call_duration_seconds`, `give_ups_total`, `errors_total` with
        ``policy="breaker"``, `breaker_state`, `breaker_transitions_total`. A call that is not let
        through counts as ``outcome="rejected"`` and ``reason="open"``.

    Example:
        >>> from mainstay import CircuitBreaker, CircuitOpenError, Detect
        >>> breaker = CircuitBreaker("mail", on=OSError, detect=Detect(consecutive=2))
        >>> @breaker
        ... def send(to: str) -> None:
        ...     raise ConnectionRefusedError(to)
        >>> for _ in range(3):
        ...     try:
        ...         send("ann@example.org")
        ...     except (OSError, CircuitOpenError) as error:
        ...         print(type(error).__name__, breaker.state)
        ConnectionRefusedError closed
        ConnectionRefusedError open
        CircuitOpenError open
    """

    def __init__(
        self,
        name: str,
        *,
        on: Classes | Callable[[Exception], object],
        detect: Detect = Detect(),  # noqa: B008 - frozen
        metrics: Metrics | None = None,
    ) -> None:
        if not isinstance(detect, Detect):
            raise TypeError(f"`detect` must be a Detect, not {detect!r}")
        self._judge = sync_judge_of(on)
        self._gate = Gate(checked_name(name), detect, metrics_of(metrics))
        _all.add(self._gate)

    @property
    def name(self) -> str:
        """The name of the breaker."""
        return self._gate.name

    @property
    def state(self) -> BreakerState:
        """The state: "closed", "open", or "half_open", when one call is or would be let through."""
        return self._gate.state(surroundings().clock.now())

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r}: {self.state}>"

    def open(self) -> None:
        """Let no call through until `close`."""
        self._gate.open()

    def close(self) -> None:
        """Let all calls through, as if nothing had happened before."""
        self._gate.close()

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Wrap a function; signature and colour stay.

        Args:
            fn: A function, async function, method, `classmethod` or `staticmethod`.

        Raises:
            TypeError: If *fn* cannot be called, or is a generator function.
        """
        if isinstance(fn, classmethod | staticmethod):
            return type(fn)(self(fn.__func__))
        if not callable(fn):
            raise TypeError(f"a circuit breaker wraps callables, not {fn!r}")
        colour = colour_of(fn)
        if colour not in (Colour.SYNC, Colour.ASYNC):
            raise TypeError(f"a circuit breaker does not wrap generators such as {fn!r}; use `with "
                            f"breaker:` in it, around what may fail")  # fmt: skip
        return _wrap_async(self, fn) if colour is Colour.ASYNC else _wrap_sync(self, fn)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* through the breaker, without decorating it.

        Args:
            fn: As for the decorator.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What *fn* returns; something to await if *fn* is async.

        Raises:
            CircuitOpenError: If it is open; *fn* is not called.
            Exception: What *fn* raises.
        """
        return self(fn)(*args, **kwargs)

    def __enter__(self) -> "CircuitBreaker":
        passage = self._begin()
        _PASSAGE.set(attrs.evolve(passage, outer=_PASSAGE.get()))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        passage = _PASSAGE.get()
        if passage is None or passage.gate is not self._gate:
            raise RuntimeError("`with breaker:` must be left in the order, and in the thread or "
                               "task, that it was entered in")  # fmt: skip
        _PASSAGE.set(passage.outer)
        if error is None:
            passage.succeeded()
        elif isinstance(error, Exception):
            passage.failed(error)
        else:
            passage.interrupted()

    def _begin(self) -> _Passage:
        """Let a call through in its surroundings.

        Raises:
            CircuitOpenError: If it may not go through.
            DeadlineExpiredError: If the surrounding deadline leaves no time.
        """
        gate, ambient = self._gate, surroundings()
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
        return _Passage(gate, self._judge, recorder, ambient, now, generation)

    def _resumed(self, started: float, generation: int) -> _Passage:
        """Give the passage of a call that began without one, in no particular surroundings."""
        gate = self._gate
        return _Passage(gate, self._judge, gate.recorder, surroundings(), started, generation)


def _wrap_sync(breaker: CircuitBreaker, fn: Callable[..., Any]) -> Callable[..., Any]:
    gate = breaker._gate
    success = gate.recorder.success

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        if gate.shut or everywhere or current() is not None:
            passage = breaker._begin()
            started, generation = passage.started, passage.generation
        else:
            passage = None
            started, generation = monotonic(), gate.health.generation
        try:
            value = fn(*args, **kwargs)
        except Exception as error:
            (passage or breaker._resumed(started, generation)).failed(error)
            raise
        except BaseException:
            (passage or breaker._resumed(started, generation)).interrupted()
            raise
        if type(value) is CoroutineType:
            value.close()
            refused = TypeError(f"{fn!r} is no async function but returned a coroutine; decorate "
                                f"the async function itself")  # fmt: skip
            (passage or breaker._resumed(started, generation)).failed(refused)
            raise refused
        if passage is not None:
            passage.succeeded()
            return value
        now = monotonic()
        if gate.watched or generation != gate.health.generation:
            gate.succeeded(generation, now, now - started)
        success(now - started)
        return value

    return call


def _wrap_async(breaker: CircuitBreaker, fn: Callable[..., Any]) -> Callable[..., Any]:
    gate = breaker._gate
    success = gate.recorder.success

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        if running_loop() is None:
            raise UnsupportedLoopError(gate.name)
        if gate.shut or everywhere or current() is not None:
            passage = breaker._begin()
            started, generation = passage.started, passage.generation
        else:
            passage = None
            started, generation = monotonic(), gate.health.generation
        try:
            value = await fn(*args, **kwargs)
        except Exception as error:
            (passage or breaker._resumed(started, generation)).failed(error)
            raise
        except BaseException:
            (passage or breaker._resumed(started, generation)).interrupted()
            raise
        if passage is not None:
            passage.succeeded()
            return value
        now = monotonic()
        if gate.watched or generation != gate.health.generation:
            gate.succeeded(generation, now, now - started)
        success(now - started)
        return value

    return call


def _anew_after_fork() -> None:
    for gate in tuple(_all):
        gate.anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_anew_after_fork)
