"""Calls through a bulkhead, sync beside async.

The wrappers of `_wrap_sync` and `_wrap_async` take a place at once if the context is plain and no
call waits: this is the fast path, that of every healthy call, and it takes no lock. However a call
ends, its place is given back first.
"""

from asyncio import CancelledError
from collections.abc import Callable
from threading import get_ident
from types import NoneType
from typing import Any, ClassVar, TypeAlias

import attrs

from mainstay._core.call import PREDICATE_ERROR, Call, recorder_in
from mainstay._core.clock import finish, monotonic
from mainstay._core.context import block_context, current_context, process_contexts
from mainstay._core.exceptions import is_a
from mainstay._core.failures import Judge, is_delay
from mainstay._core.functions import (
    Kind,
    close_coroutine,
    is_awaitable,
    kind_of,
    name_of,
    refused_awaitable,
    require_asyncio,
    running_loop,
    wraps,
)
from mainstay._core.layers import Layer, with_layers
from mainstay._core.words import described
from mainstay._limits.bulkhead_engine import POLICY, BulkheadEngine
from mainstay._limits.holders import (
    HeldPlace,
    held_here,
    holder_here,
    set_held,
    would_wait_for_itself,
)
from mainstay._limits.places import Permits, Waiter, WaiterState
from mainstay._metrics.bulkhead import BulkheadRecorder
from mainstay._metrics.collector import recorders_of
from mainstay._metrics.recorder import Recorder
from mainstay.errors import BulkheadFullError, DeadlineExpiredError, TimedOutError

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]

_NESTED = (
    "; it is called by code that has a place there already, and would wait for itself: let "
    "one of the two go without the bulkhead, or give them one each"
)
_IN_LOOP = (
    "; nothing waits in a thread whose event loop runs: an `async def`, or `async with`, would"
)


@attrs.frozen(eq=False)
class BoundBulkhead:
    """A bulkhead, and what records the calls that go through it."""

    engine: BulkheadEngine
    recorder: Recorder

    def layers(self) -> tuple[Layer, ...]:
        """Return the worst case of a call, for `explain`."""
        engine = self.engine
        return (Layer(kind="bulkhead", component=engine.name, places=1, waits=engine.max_wait),)

    def hold(self, now: float) -> HeldPlace | None:
        """Take a place at once, for code that calls nothing; None if it may have to wait."""
        engine = self.engine
        places, follower = engine.places, engine.follower
        if places.busy or (follower is not None and now >= follower.due):
            return None
        permits = places.permits
        in_flight = places.total - len(permits) + 1
        held = HeldPlace(places, permits, held_here(), in_flight, holder_here())
        try:
            permits.pop()
            set_held(held)
        except IndexError:
            return None
        except BaseException:  # of a signal handler, which comes in when the place is taken
            held.give_back()
            raise
        return held

    def resume(self, started: float) -> "BulkheadCall":
        """Return the call that began then on the fast path, in its context."""
        context, engine = current_context(), self.engine
        own = engine.own
        if context.metrics is not None:
            own = recorders_of(context.metrics).bulkhead(engine.name)
        recorder = recorder_in(context, self.recorder, engine.name)
        return BulkheadCall(engine.name, recorder, context, started, engine, own, started)

    def begin(self) -> "BulkheadCall":
        """Return a call that begins now."""
        return self.resume(current_context().clock.now())


@attrs.define(eq=False)
class BulkheadCall(Call[Recorder]):
    """One call through a bulkhead.

    Attributes:
        own: Records what only bulkheads have.
        admitted: When it got its place.
        held: Its place; None before it has one, and on the fast path.
    """

    policy: ClassVar[str] = POLICY
    engine: BulkheadEngine
    own: BulkheadRecorder
    admitted: float
    held: HeldPlace | None = None

    # Its place.

    def enter(self) -> None:
        """Take a place; wait for one in this thread, unless an event loop runs in it.

        Raises:
            BulkheadFullError: If there is none in time.
            DeadlineExpiredError: If the surrounding deadline leaves no time.
        """
        permits = None
        try:
            permits = self._take()
            if permits is None:
                permits = self._wait(self._may_wait(in_loop=running_loop() is not None))
            self._hold(permits)
        except BaseException:
            self._undo(permits)
            raise

    async def aenter(self) -> None:
        """As `enter`, in async code, where it waits in its task."""
        permits = None
        try:
            permits = self._take()
            if permits is None:
                permits = await self._await(self._may_wait(in_loop=False))
            self._hold(permits)
        except BaseException:
            self._undo(permits)
            raise

    def _take(self) -> Permits | None:
        self.check_time_left()
        if self.engine.follower is not None:
            self.engine.follower.look(self.context.clock, self.started)
        return self.engine.places.take()

    def _may_wait(self, *, in_loop: bool) -> float:
        """Return for how many seconds to wait.

        Raises:
            BulkheadFullError: If it may not.
        """
        engine = self.engine
        engine.fullness.found(self.started)
        if would_wait_for_itself(engine.places):
            raise self._refused("full", _NESTED)
        if in_loop and engine.max_wait:
            raise self._refused("full", _IN_LOOP)
        if not (engine.max_wait and engine.places.may_wait()):
            raise self._refused("full")
        return max(0.0, min(self.started + engine.max_wait - self.now(), self.context.left()))

    def _wait(self, seconds: float) -> Permits:
        clock = self.context.clock
        bell = clock.bell()
        waiter = self._waiter(bell.ring)
        try:
            try:
                self.engine.places.queue(waiter)
                bell.wait(seconds)
            except BaseException as error:
                self._stop_waiting(waiter, error)
                raise
            finally:
                bell.idle(get_ident())
            return self._after_wait(waiter)
        except BaseException:
            self.engine.places.abandon(waiter)
            raise

    async def _await(self, seconds: float) -> Permits:
        event_loop = require_asyncio(self.component)
        woken = event_loop.create_future()

        def wake() -> object:
            return event_loop.call_soon_threadsafe(finish, woken)

        waiter = self._waiter(wake)
        waiter.event_loop = event_loop
        try:
            try:
                self.engine.places.queue(waiter)
                await self.context.clock.wait_for(woken, seconds)
            except BaseException as error:
                self._stop_waiting(waiter, error)
                raise
            return self._after_wait(waiter)
        except BaseException:
            self.engine.places.abandon(waiter)
            raise

    def _waiter(self, wake: Callable[[], object]) -> Waiter:
        context = self.context
        return Waiter(context.priority, context.clock, context.deadline, wake)

    def _stop_waiting(self, waiter: Waiter, error: BaseException) -> None:
        """Hand on what it may have been given, and record that the wait was interrupted."""
        self.engine.places.abandon(waiter)
        self.own.waited(waiter.priority, self.elapsed())
        self.end_interrupted(error)

    def _after_wait(self, waiter: Waiter) -> Permits:
        """Return the place that it was given.

        Raises:
            BulkheadFullError: If there was none in time.
            DeadlineExpiredError: If the surrounding deadline ended meanwhile.
        """
        places = self.engine.places
        self.engine.fullness.found(self.now(), self.started)
        permits = places.withdraw(waiter)
        is_over = self.context.left() <= 0
        if permits is not None and is_over:
            places.abandon(waiter)
            permits = None
        self.own.waited(waiter.priority, self.elapsed())
        if permits is not None:
            return permits
        if waiter.state is WaiterState.LATE:
            raise self._refused("shed", "; a call usually takes longer than the time that is left")
        if is_over:
            error = DeadlineExpiredError(self.component)
            self.give_up("timeout", error, "timeout", attempts=0)
            raise error
        raise self._refused("wait")

    def _refused(self, reason: str, why: str = "") -> BulkheadFullError:
        """Record that there is no place; return what the call raises."""
        self.recorder.gave_up(reason)
        self.end("rejected")
        return self.engine.full(reason, why)

    def refused(self) -> BulkheadFullError:
        """Record that no place was asked for; return what the call raises."""
        return self._refused("full")

    def _hold(self, permits: Permits) -> None:
        places = self.engine.places
        in_flight = places.total - len(permits)
        self.held = held = HeldPlace(places, permits, held_here(), in_flight, holder_here())
        set_held(held)
        self.admitted = self.now()

    def _undo(self, permits: Permits | None) -> None:
        """Free the place, if there is one, of a call that does not begin after all."""
        if self.held is not None:
            self.held.give_back()
        elif permits is not None:
            self.engine.places.give_back(permits)

    def give_back(self) -> None:
        """Free the place."""
        if self.held is not None:
            self.held.give_back()

    # Its end, once it has given its place back.

    def succeeded(self) -> None:
        """Record an answer."""
        engine, now = self.engine, self.now()
        seconds = now - self.admitted
        engine.answers.append(seconds)
        if engine.follower is not None:
            in_flight = 1 if self.held is None else self.held.in_flight
            engine.follower.samples.append((self.admitted, seconds, in_flight))
        self.own.held(seconds)
        self.recorder.success(now - self.started)

    def raised(self, error: BaseException, *, may_be_late: bool = False) -> None:
        """Record the exception of the call, which is raised again.

        Args:
            error: The exception.
            may_be_late: True if a cancellation may show that the service hangs.
        """
        self.own.held(self.now() - self.admitted)
        if not is_a(error, Exception):
            self._follow_interruption(error, may_be_late=may_be_late)
            self.end_interrupted(error)
        elif is_a(error, DeadlineExpiredError) and self.context.left() <= 0:
            self._follow(error)
            self.recorder.gave_up("timeout")  # the caller's time is over
            self.end("timeout")
        else:
            self._follow(error)
            self.end("error")

    def _follow_interruption(self, error: BaseException, *, may_be_late: bool) -> None:
        follower = self.engine.follower
        if follower is None or not is_a(error, CancelledError):
            return
        from mainstay._core.interrupts import is_interruption  # noqa: PLC0415 - async code is at work

        if is_interruption(error):
            follower.dropped(self.context.clock, self.admitted)
        elif may_be_late:
            follower.cancelled(self.context.clock, self.admitted)

    def _follow(self, error: Exception) -> None:
        """Report an exception to the adaptive limit, if there is one."""
        engine, clock = self.engine, self.context.clock
        follower = engine.follower
        if follower is None:
            return
        if issubclass(type(error), TimedOutError | DeadlineExpiredError) or (
            engine.overload is not None and self._is_overload(engine.overload, error)
        ):
            follower.dropped(clock, self.admitted)
        else:
            follower.failed(clock)

    def _is_overload(self, overload: Judge, error: Exception) -> bool:
        verdict = self.ask(overload, error, "overload")
        if isinstance(verdict, bool) or is_delay(verdict):
            return verdict is not False
        if verdict is not PREDICATE_ERROR:
            close_coroutine(verdict)
            what = f"`overload` must return True or False, not {described(verdict)}"
            self.predicate_failed(error, what)
        return False


def wrap(bound: BoundBulkhead, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Put a bulkhead before a function, sync or async.

    Raises:
        TypeError: If it is a generator function.
    """
    kind = kind_of(fn)
    if kind is Kind.ASYNC:
        return with_layers(_wrap_async(bound, fn), bound.layers)
    if kind is Kind.SYNC:
        return with_layers(_wrap_sync(bound, fn), bound.layers)
    raise TypeError(
        f"a bulkhead does not wrap generators such as {name_of(fn)}; use `with bulkhead:` in it, "
        f"around what needs a place"
    )


def _wrap_sync(bound: BoundBulkhead, fn: Callable[..., Any]) -> Callable[..., Any]:
    engine = bound.engine
    places, follower = engine.places, engine.follower
    answered, took = engine.own.answered, engine.answers.append
    always_slow = bound.recorder is not engine.recorder
    plain: type = NoneType  # of the last result: asked once for each change, not at every call

    @wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        started = monotonic()
        here = block_context()
        if (
            places.busy
            or always_slow
            or process_contexts
            or (here is not None and not (here.plain and started < here.deadline))
            or (follower is not None and started >= follower.due)
        ):
            return _call(bound.begin(), fn, args, kwargs)
        permits = places.permits
        in_flight = places.total - len(permits) + 1
        try:
            permits.pop()
        except IndexError:
            return _call(bound.begin(), fn, args, kwargs)
        except BaseException:  # of a signal handler, which comes in when the place is taken
            permits.append(None)
            raise
        places_taken = permits  # what `would_wait_for_itself` looks for
        try:
            try:
                value = fn(*args, **kwargs)
            finally:
                places_taken.append(None)
                del places_taken
                if places.busy:
                    places.settle()
        except BaseException as error:
            bound.resume(started).raised(error)
            raise
        if type(value) is not plain:
            if is_awaitable(value):
                raise _awaitable_refused(bound.resume(started), fn, value)
            plain = type(value)
        seconds = monotonic() - started
        took(seconds)
        if follower is not None:
            follower.samples.append((started, seconds, in_flight))
        answered(seconds)
        return value

    return wrapper


def _wrap_async(bound: BoundBulkhead, fn: Callable[..., Any]) -> Callable[..., Any]:
    engine = bound.engine
    places, follower = engine.places, engine.follower
    answered, took = engine.own.answered, engine.answers.append
    always_slow = bound.recorder is not engine.recorder
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
            places.busy
            or always_slow
            or process_contexts
            or (here is not None and not (here.plain and started < here.deadline))
            or (follower is not None and started >= follower.due)
        ):
            return await _acall(bound.begin(), fn, args, kwargs)
        permits = places.permits
        in_flight = places.total - len(permits) + 1
        try:
            permits.pop()
        except IndexError:
            return await _acall(bound.begin(), fn, args, kwargs)
        except BaseException:  # of a signal handler, which comes in when the place is taken
            permits.append(None)
            raise
        places_taken = permits  # what `would_wait_for_itself` looks for
        try:
            try:
                value = await fn(*args, **kwargs)
            finally:
                places_taken.append(None)
                del places_taken
                if places.busy:
                    places.settle()
        except BaseException as error:
            bound.resume(started).raised(error, may_be_late=True)
            raise
        seconds = monotonic() - started
        took(seconds)
        if follower is not None:
            follower.samples.append((started, seconds, in_flight))
        answered(seconds)
        return value

    return wrapper


def _call(call: BulkheadCall, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    call.enter()
    try:
        try:
            value = fn(*args, **kwargs)
        finally:
            call.give_back()
    except BaseException as error:
        call.give_back()  # unless it is: a signal handler may have come in before
        call.raised(error)
        raise
    if is_awaitable(value):
        raise _awaitable_refused(call, fn, value)
    call.succeeded()
    return value


async def _acall(call: BulkheadCall, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    await call.aenter()
    try:
        try:
            value = await fn(*args, **kwargs)
        finally:
            call.give_back()
    except BaseException as error:
        call.give_back()  # unless it is: a signal handler may have come in before
        call.raised(error, may_be_late=True)
        raise
    call.succeeded()
    return value


def _awaitable_refused(call: BulkheadCall, fn: Callable[..., Any], value: object) -> TypeError:
    """End a call of a plain function that returned something to await."""
    error = refused_awaitable(fn, value)
    call.raised(error)
    return error
