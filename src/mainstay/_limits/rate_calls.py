"""Calls through a rate limit, sync beside async.

The wrappers of `_wrap_sync` and `_wrap_async` call at once if the context is plain and there is a
turn: this is the fast path, that of every healthy call.
"""

from collections.abc import Callable
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import attrs

from mainstay._core.call import Call, recorder_in
from mainstay._core.clock import monotonic
from mainstay._core.context import block_context, current_context, process_contexts
from mainstay._core.exceptions import is_a
from mainstay._core.functions import (
    Kind,
    is_awaitable,
    kind_of,
    name_of,
    refused_awaitable,
    require_asyncio,
    running_loop,
    wraps,
)
from mainstay._core.layers import Layer, with_layers
from mainstay._limits.rate_engine import POLICY, RateEngine
from mainstay._limits.turns import TurnWaiter
from mainstay._metrics.recorder import Recorder
from mainstay.errors import DeadlineExpiredError, RateLimitedError

if TYPE_CHECKING:
    from mainstay._limits.shared_turns import SharedTurns, StoreAnswer

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]


@attrs.frozen(eq=False)
class BoundRate:
    """A rate limit, and what records the calls that go through it."""

    engine: RateEngine
    recorder: Recorder

    def layers(self) -> tuple[Layer, ...]:
        """Return the worst case of a call, for `explain`."""
        engine = self.engine
        waits = engine.max_wait + (0.0 if engine.shared is None else engine.shared.patience)
        return (Layer(kind="rate_limit", component=engine.name, waits=waits),)

    def resume(self, started: float) -> "RateCall":
        """Return the call that began then, in its context."""
        context = current_context()
        recorder = recorder_in(context, self.recorder, self.engine.name)
        return RateCall(self.engine.name, recorder, context, started, self.engine)

    def begin(self) -> "RateCall":
        """Return a call that begins now."""
        return self.resume(current_context().clock.now())


@attrs.define(eq=False)
class RateCall(Call[Recorder]):
    """One call through a rate limit."""

    policy: ClassVar[str] = POLICY
    engine: RateEngine

    # Its turn.

    def enter(self, cost: float = 1.0) -> None:
        """Take *cost* turns; wait for them in this thread, unless an event loop runs in it.

        Raises:
            RateLimitedError: If there are none in time.
            DeadlineExpiredError: If the surrounding deadline leaves no time.
        """
        self.check_time_left()
        turns, waiter = self.engine.turns, None
        try:
            shared = self.engine.shared
            if shared is not None and not self._asked(shared, cost):
                return
            waiter = self._waiter(cost, may_wait=running_loop() is None)
            if waiter is None:
                return
            while (pause := turns.look(waiter)) is not None:
                pause.wait()
        except BaseException as error:
            if waiter is not None:
                turns.leave(waiter)
            self._refused(error)
            raise

    async def aenter(self, cost: float = 1.0) -> None:
        """As `enter`, in async code."""
        self.check_time_left()
        turns, waiter = self.engine.turns, None
        try:
            shared = self.engine.shared
            if shared is not None and not await self._aasked(shared, cost):
                return
            waiter = self._waiter(cost, may_wait=True)
            if waiter is None:
                return
            while (pause := turns.look(waiter)) is not None:
                await pause.await_()
        except BaseException as error:
            if waiter is not None:
                turns.leave(waiter)
            self._refused(error)
            raise

    def _asked(self, shared: "SharedTurns", cost: float) -> bool:
        """Ask the store; True if it failed, and this process decides."""
        try:
            answer = shared.ask(int(cost), self._patience(shared))
        except Exception as error:  # noqa: BLE001 - whatever the store's client raises
            return self._store_failed(error)
        self._apply(answer)
        return False

    async def _aasked(self, shared: "SharedTurns", cost: float) -> bool:
        try:
            answer = await shared.aask(int(cost), self._patience(shared))
        except Exception as error:  # noqa: BLE001 - whatever the store's client raises
            return self._store_failed(error)
        self._apply(answer)
        return False

    def _patience(self, shared: "SharedTurns") -> float:
        return max(0.0, min(shared.patience, self.left()))

    def _store_failed(self, error: Exception) -> bool:
        decides = self.engine.store_failed(self.context.metrics, error)
        self._check_time_left_after_store()
        return decides

    def _apply(self, answer: "StoreAnswer") -> None:
        if not answer.admitted:
            raise RateLimitedError(self.component, answer.retry_after)
        self._check_time_left_after_store()

    def _check_time_left_after_store(self) -> None:
        if self.context.left() <= 0:
            raise DeadlineExpiredError(self.component)

    def _waiter(self, cost: float, *, may_wait: bool) -> TurnWaiter | None:
        """Take turns without waiting; return the waiter if the call has to wait."""
        engine, context = self.engine, self.context
        if cost > engine.burst:  # a cost for the store, which is away
            raise RateLimitedError(self.component, None)
        wait = engine.turns.take(context.clock.now(), cost, context.clock)
        if wait is None:
            return None
        if not (may_wait and engine.max_wait):
            raise RateLimitedError(self.component, wait)
        return TurnWaiter(cost, context.clock, self.started + engine.max_wait, context.deadline)

    def _refused(self, error: BaseException) -> None:
        """Record what ended the call before its function was called."""
        if not is_a(error, RateLimitedError):
            self.raised(error)
            return
        wait, left = error.retry_after, self.context.left()
        by_deadline = wait is not None and left <= wait <= self.engine.max_wait - self.elapsed()
        self.recorder.gave_up("timeout" if by_deadline else "rate")
        self.end("rejected")

    # Its end.

    def succeeded(self) -> None:
        """Record an answer."""
        self.recorder.success(self.elapsed())

    def raised(self, error: BaseException) -> None:
        """Record the exception of the call, which is raised again."""
        if not is_a(error, Exception):
            self.end_interrupted(error)
        elif is_a(error, DeadlineExpiredError) and self.context.left() <= 0:
            self.recorder.gave_up("timeout")  # the caller's time is over
            self.end("timeout")
        else:
            self.end("error")


def wrap(bound: BoundRate, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Put a rate limit before a function, sync or async.

    Raises:
        TypeError: If it is a generator function, or its `shared` is not for its kind.
    """
    kind, shared = kind_of(fn), bound.engine.shared
    if kind not in (Kind.ASYNC, Kind.SYNC):
        raise TypeError(
            f"a rate limit does not wrap generators such as {name_of(fn)}; use `with limit:` in "
            f"it, around what it is to limit"
        )
    if shared is not None:
        shared.check_kind(is_async=kind is Kind.ASYNC, what=name_of(fn))
    make = _wrap_async if kind is Kind.ASYNC else _wrap_sync
    return with_layers(make(bound, fn), bound.layers)


def _wrap_sync(bound: BoundRate, fn: Callable[..., Any]) -> Callable[..., Any]:
    engine, success = bound.engine, bound.recorder.success
    always_slow = engine.shared is not None
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
            or engine.turns.take(started) is not None
        ):
            call = bound.begin()
            call.enter()
            return _call(call, fn, args, kwargs)
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            bound.resume(started).raised(error)
            raise
        if type(value) is not plain:
            if is_awaitable(value):
                raise _awaitable_refused(bound.resume(started), fn, value)
            plain = type(value)
        success(monotonic() - started)
        return value

    return wrapper


def _wrap_async(bound: BoundRate, fn: Callable[..., Any]) -> Callable[..., Any]:
    engine, success = bound.engine, bound.recorder.success
    always_slow = engine.shared is not None
    on_asyncio = False  # asked at the first call: it is a system call in 3.11

    @wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal on_asyncio
        if not on_asyncio:
            require_asyncio(bound.engine.name)
            on_asyncio = True
        started = monotonic()
        here = block_context()
        if (
            always_slow
            or process_contexts
            or (here is not None and not (here.plain and started < here.deadline))
            or engine.turns.take(started) is not None
        ):
            call = bound.begin()
            await call.aenter()
            return await _acall(call, fn, args, kwargs)
        try:
            value = await fn(*args, **kwargs)
        except BaseException as error:
            bound.resume(started).raised(error)
            raise
        success(monotonic() - started)
        return value

    return wrapper


def _call(call: RateCall, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    try:
        value = fn(*args, **kwargs)
    except BaseException as error:
        call.raised(error)
        raise
    if is_awaitable(value):
        raise _awaitable_refused(call, fn, value)
    call.succeeded()
    return value


async def _acall(call: RateCall, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    try:
        value = await fn(*args, **kwargs)
    except BaseException as error:
        call.raised(error)
        raise
    call.succeeded()
    return value


def _awaitable_refused(call: RateCall, fn: Callable[..., Any], value: object) -> TypeError:
    """End a call of a plain function that returned something to await."""
    error = refused_awaitable(fn, value)
    call.raised(error)
    return error
