"""The fast path through the layers of a pipeline, for calls of which nothing fails.

    enter     of each layer that admits calls; one that says no sends the call to the slow path
    call      the function, in its time if there is a timeout
    leave     of the same layers, once it has answered

If the function raises, each layer takes the exception as its own wrapper would, from the innermost
outwards (`failed`): it lets the exception go on, raises another one, or answers. A retry that
repeats calls the wrappers inside it. No layer is entered twice, and nothing is recorded before the
function was called, so that both paths come to the same.

What enters last is the rate limit, since a turn cannot be given back.
"""

from asyncio import CancelledError
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, TypeAlias

from mainstay._core.exceptions import is_a
from mainstay._limits.places import Permits, Places

Nested: TypeAlias = Callable[..., Any]
Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


class FastLayer:
    """One layer on the fast path.

    Args:
        bound: What the policy made for the function.
        nested: The wrapper of the layers inside it.
    """

    admits = False

    def __init__(self, bound: Any, nested: Nested) -> None:
        self.bound = bound
        self.nested = nested
        self.passed: Callable[[], None] = getattr(bound.recorder, "passed", _nothing)

    def enter(self, now: float) -> Any:
        """Admit a call; None if it has to take the slow path."""

    def undo(self, kept: Any) -> None:
        """Release what `enter` took: the call takes the slow path."""

    def leave(self, kept: Any, now: float, seconds: float) -> None:
        """Record an answer; *kept* is what `enter` returned."""

    def failed(self, kept: Any, error: BaseException, started: float, call: Call) -> Any:
        """Handle an exception in its handler: None to raise it again, or what `go_on` needs."""
        raise NotImplementedError

    async def afailed(self, kept: Any, error: BaseException, started: float, call: Call) -> Any:
        """As `failed`, in async code."""
        return self.failed(kept, error, started, call)

    def go_on(self, handled: Any, call: Call) -> Any:  # noqa: ARG002 - of a retry
        """Return what the call comes to; *handled* is what `failed` has returned."""
        return handled[0]

    async def ago_on(self, handled: Any, call: Call) -> Any:
        """As `go_on`, in async code."""
        return self.go_on(handled, call)


def _nothing() -> None:
    """Record nothing, as a layer does that has no series of its own."""


class FastRetry(FastLayer):
    """A retry: calls the wrappers inside it again."""

    def __init__(self, bound: Any, nested: Nested) -> None:
        super().__init__(bound, nested)
        from mainstay._retry import loops  # noqa: PLC0415 - only pipelines with one

        self._repeat, self._arepeat = loops.repeat, loops.arepeat

    def failed(self, kept: Any, error: BaseException, started: float, call: Call) -> Any:  # noqa: ARG002 - of a layer
        """Return how to call again, or let the exception go on."""
        if not is_a(error, Exception):
            self.bound.resume(started, None).interrupted(error)
            return None
        retry_call = self.bound.resume(started, (self.nested, *call))
        wait = retry_call.after(error, retry_call.verdict(error))
        return None if wait is None else (retry_call, wait)

    async def afailed(self, kept: Any, error: BaseException, started: float, call: Call) -> Any:  # noqa: ARG002 - as above
        """As `failed`, in async code."""
        if not is_a(error, Exception):
            self.bound.resume(started, None).interrupted(error)
            return None
        retry_call = self.bound.resume(started, (self.nested, *call))
        wait = retry_call.after(error, await retry_call.averdict(error))
        return None if wait is None else (retry_call, wait)

    def go_on(self, handled: Any, call: Call) -> Any:
        """Wait, and call again."""
        retry_call, wait = handled
        if wait:
            retry_call.sleep(wait)
        return self._repeat(retry_call, self.nested, *call)

    async def ago_on(self, handled: Any, call: Call) -> Any:
        """As `go_on`, in async code."""
        retry_call, wait = handled
        if wait:
            await retry_call.asleep(wait)
        return await self._arepeat(retry_call, self.nested, *call)


class FastFallback(FastLayer):
    """A fallback: answers."""

    def __init__(self, bound: Any, nested: Nested) -> None:
        super().__init__(bound, nested)
        from mainstay._limits.fallback_calls import aanswer, answer  # noqa: PLC0415 - as above

        self._answer, self._aanswer = answer, aanswer

    def failed(self, kept: Any, error: BaseException, started: float, call: Call) -> Any:  # noqa: ARG002 - as above
        """Return an answer, or let the exception go on."""
        fallback_call = self.bound.resume(started)
        if not is_a(error, Exception):
            fallback_call.end_interrupted(error)
            return None
        if not fallback_call.caught(error, fallback_call.ask(self.bound.settings.judge, error)):
            return None
        return (self._answer(fallback_call, error, None, *call),)

    async def afailed(self, kept: Any, error: BaseException, started: float, call: Call) -> Any:  # noqa: ARG002 - as above
        """As `failed`, in async code."""
        fallback_call = self.bound.resume(started)
        if not is_a(error, Exception):
            fallback_call.end_interrupted(error)
            return None
        if not fallback_call.caught(
            error, await fallback_call.aask(self.bound.settings.judge, error)
        ):
            return None
        return (await self._aanswer(fallback_call, error, None, *call),)


class FastBreaker(FastLayer):
    """A breaker: what `enter` returns is the generation that the result belongs to."""

    admits = True

    def __init__(self, bound: Any, nested: Nested) -> None:
        super().__init__(bound, nested)
        self._engine = bound.engine

    def enter(self, now: float) -> int | None:  # noqa: ARG002 - as above
        """Admit a call unless the breaker is open."""
        engine = self._engine
        generation: int = engine.detector.generation
        return None if engine.is_open else generation

    def leave(self, kept: Any, now: float, seconds: float) -> None:
        """Record an answer."""
        if self._engine.inspects_successes:
            self._engine.succeeded(kept, now, seconds)
        self.passed()

    def failed(self, kept: Any, error: BaseException, started: float, call: Call) -> Any:  # noqa: ARG002 - as above
        """Record what the call raised."""
        self.bound.resume(started, kept).raised(error)

    async def afailed(self, kept: Any, error: BaseException, started: float, call: Call) -> Any:
        """As `failed`, where a cancellation may be a sign of silence."""
        if is_a(error, CancelledError):
            self.bound.resume(started, kept).cancelled(error)
            return None
        return self.failed(kept, error, started, call)


class FastAsyncBreaker(FastBreaker):
    """A breaker around coroutines, which knows how long they take."""

    def __init__(self, bound: Any, nested: Nested) -> None:
        super().__init__(bound, nested)
        self._took = bound.engine.answers.append

    def leave(self, kept: Any, now: float, seconds: float) -> None:
        """Record an answer."""
        self._took(seconds)
        if self._engine.inspects_successes:  # as the base does, whose call would cost every call
            self._engine.succeeded(kept, now, seconds)
        self.passed()


class FastRate(FastLayer):
    """A rate limit: its turn cannot be given back."""

    admits = True

    def __init__(self, bound: Any, nested: Nested) -> None:
        super().__init__(bound, nested)
        self._engine = bound.engine

    def enter(self, now: float) -> bool | None:
        """Take a turn at once."""
        return True if self._engine.turns.take(now) is None else None

    def leave(self, kept: Any, now: float, seconds: float) -> None:  # noqa: ARG002 - as above
        """Record an answer."""
        self.passed()

    def failed(self, kept: Any, error: BaseException, started: float, call: Call) -> Any:  # noqa: ARG002 - as above
        """Record what the call raised."""
        self.bound.resume(started).raised(error)


class FastBulkhead(FastLayer):
    """A bulkhead: `enter` returns where the place goes back, the place, and how many were taken.

    The place is an iterator with one item, which goes back once only: a signal
    handler may raise anywhere.
    """

    admits = True

    def __init__(self, bound: Any, nested: Nested) -> None:
        super().__init__(bound, nested)
        engine = bound.engine
        self._places: Places = engine.places
        self._follower = engine.follower
        self._took = engine.answers.append
        self._held = engine.own.held

    def enter(self, now: float) -> tuple[Permits, Iterator[None], int] | None:
        """Take a place at once."""
        places, follower = self._places, self._follower
        if places.busy or (follower is not None and now >= follower.due):
            return None
        permits = places.permits
        taken = permits, repeat(None, 1), places.total - len(permits) + 1
        try:
            permits.pop()
        except IndexError:
            return None
        except BaseException:  # of a signal handler, which comes in when the place is taken
            permits.append(None)
            raise
        return taken

    def undo(self, kept: Any) -> None:
        """Free the place, unless it is."""
        permits, place, _ = kept
        permits.extend(place)
        if self._places.busy:
            self._places.settle()

    def leave(self, kept: Any, now: float, seconds: float) -> None:
        """Free the place, and record an answer."""
        permits, place, in_flight = kept
        permits.extend(place)
        if self._places.busy:
            self._places.settle()
        self.answered(now, seconds, in_flight)

    def answered(self, now: float, seconds: float, in_flight: int) -> None:
        """Record an answer, with how many places were taken when it began."""
        self._took(seconds)
        if self._follower is not None:
            self._follower.samples.append((now - seconds, seconds, in_flight))
        self._held(seconds)
        self.passed()

    def failed(self, kept: Any, error: BaseException, started: float, call: Call) -> Any:  # noqa: ARG002 - as above
        """Free the place, and record what the call raised."""
        self.undo(kept)
        self.bound.resume(started).raised(error)


class FastAsyncBulkhead(FastBulkhead):
    """A bulkhead around coroutines."""

    async def afailed(self, kept: Any, error: BaseException, started: float, call: Call) -> Any:  # noqa: ARG002 - as above
        """As `failed`, where a cancellation may show that what was called hangs."""
        self.undo(kept)
        self.bound.resume(started).raised(error, may_be_late=True)


class FastTimeout(FastLayer):
    """The limit of time right around the function."""

    def failed(self, kept: Any, error: BaseException, started: float, call: Call) -> Any:  # noqa: ARG002 - as above
        """Record what the call raised, or that its time is over, which *kept* knows."""
        self.bound.resume(started).raised(error, kept)


class FastPath:
    """The layers of one function on the fast path.

    Args:
        layers: All layers, the innermost first.

    Attributes:
        enterers: The layers that admit calls, in the order in which they are entered: bulkheads
            first, so that places are given back first, and the rate limit last.
        timed: The timeout right around the function, or None.
        limit: The seconds of that timeout, or None.
    """

    def __init__(self, layers: list[FastLayer]) -> None:
        self.layers = layers
        order = (FastBulkhead, FastBreaker, FastRate)
        self.enterers = sorted(
            (layer for layer in reversed(layers) if layer.admits),
            key=lambda layer: [isinstance(layer, kind) for kind in order].index(True),
        )
        self.timed = layers[0] if isinstance(layers[0], FastTimeout) else None
        self.limit: float | None = None if self.timed is None else self.timed.bound.seconds


def fast_path(
    kinds: list[str], bounds: list[Any], nested: list[Nested], *, is_async: bool
) -> FastPath | None:
    """Return the fast path through layers, the innermost first; None if there is none.

    Args:
        kinds: Their kinds of policy, as in labels.
        bounds: What each has made for the function; None if it has nothing of use here.
        nested: The wrapper of what is inside each.
        is_async: True if the function is async.
    """
    layers: list[FastLayer] = []
    for place, (kind, bound, inside) in enumerate(zip(kinds, bounds, nested, strict=True)):
        layer = _layer_of(kind, bound, is_async=is_async)
        # The turn of one rate limit would be lost where another one has none.
        is_second_rate = kind == "rate_limit" and kind in kinds[:place]
        # Only the function is called in a limited time here, and not what other layers do.
        is_around_layers = kind == "timeout" and place > 0
        if layer is None or is_second_rate or is_around_layers:
            return None
        layers.append(layer(bound, inside))
    return FastPath(layers)


def _layer_of(kind: str, bound: Any, *, is_async: bool) -> type[FastLayer] | None:
    if kind == "retry":
        return None if bound.settings.first_attempt_is_special() else FastRetry
    if kind == "fallback":
        return FastFallback if bound.kept is None else None
    if kind == "timeout":
        return FastTimeout if bound.workers is None else None
    if kind == "breaker":
        of_kind = FastAsyncBreaker if is_async else FastBreaker
        return of_kind if bound.on_result is None else None
    if kind == "bulkhead":
        return FastAsyncBulkhead if is_async else FastBulkhead
    if kind == "rate_limit":
        return FastRate if bound.engine.shared is None else None
    return None
