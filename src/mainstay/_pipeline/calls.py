"""Calls of a pipeline, sync beside async: the layers' own wrappers inside each other, as one call.

What `wrap_fast_sync` and `wrap_fast_async` return takes the fast path, that of every healthy call,
where the context is plain and every layer admits the call at once.

`counting_attempts` makes the innermost of them, around the function: each call of it is an attempt.
The outermost says which call the attempts, and what the layers record, belong to (`PipelineTally`).
"""

from collections.abc import Callable
from types import NoneType
from typing import Any, NoReturn

import attrs

from mainstay._core.call import recorder_in
from mainstay._core.clock import monotonic
from mainstay._core.context import (
    CallContext,
    CallDeadline,
    block_context,
    current_context,
    end,
    process_contexts,
)
from mainstay._core.exceptions import CONTEXT, is_a, is_refusal
from mainstay._core.functions import (
    Kind,
    is_awaitable,
    kind_of,
    refused_awaitable,
    require_asyncio,
    wraps,
)
from mainstay._core.one_shot import NO_FILE, File, is_file_type
from mainstay._metrics.pipeline import (
    PipelineAttempt,
    PipelineRecorder,
    PipelineTally,
    set_tally,
    tally_here,
)
from mainstay._pipeline.fast_path import FastLayer, FastPath


@attrs.frozen(eq=False)
class BoundPipeline:
    """A pipeline bound to a function."""

    component: str
    recorder: PipelineRecorder

    def begin(self) -> "PipelineCall":
        """Begin a call in its context."""
        context = current_context()
        recorder = recorder_in(context, self.recorder, self.component)
        return PipelineCall(PipelineTally(recorder), context, context.clock.now(), tally_here())

    def resume(self, started: float, error: BaseException) -> "PipelineCall":
        """Return the call that began on the fast path, whose function has raised."""
        tally = PipelineTally(self.recorder)
        _note(tally, tally.attempt(), error)
        return PipelineCall(tally, current_context(), started, tally_here())


@attrs.frozen(eq=False)
class PipelineCall:
    """One call.

    Attributes:
        tally: What its layers record of it.
        context: Its clock.
        started: When it began, in seconds of the clock.
        outer: The tally of the call around it.
    """

    tally: PipelineTally
    context: CallContext
    started: float
    outer: PipelineTally | None

    def end(self, error: BaseException | None = None) -> None:
        """Record how it ended."""
        if tally_here() is self.tally:  # the collector closes coroutines in any context
            set_tally(self.outer)
        self.tally.close(self.context.clock.now() - self.started, error)


def wrap_sync(bound: BoundPipeline, nested: Callable[..., Any]) -> Callable[..., Any]:
    """Make one call of what the layers have made of a `def`."""

    @wraps(nested)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = bound.begin()
        set_tally(call.tally)
        try:
            value = nested(*args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        call.end()
        return value

    return wrapper


def wrap_async(bound: BoundPipeline, nested: Callable[..., Any]) -> Callable[..., Any]:
    """Make one call of what the layers have made of an `async def`."""

    @wraps(nested)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        require_asyncio(bound.component)
        call = bound.begin()
        set_tally(call.tally)
        try:
            value = await nested(*args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        call.end()
        return value

    return wrapper


def wrap_fast_sync(  # noqa: C901 - flat, since each further call would cost every call
    bound: BoundPipeline, path: FastPath, fn: Callable[..., Any], slow: Callable[..., Any]
) -> Callable[..., Any]:
    """Take the fast path of a `def` where that is open, else the slow one."""
    enters = [layer.enter for layer in path.enterers]
    leaves = [layer.leave for layer in path.enterers]
    limit, timed, success = path.limit, path.timed, bound.recorder.success
    plain: type = NoneType  # of the last result: asked once for each change, not at every call

    @wraps(slow)
    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912 - as above
        nonlocal plain
        started = monotonic()
        here = block_context()
        if (
            process_contexts
            or (here is not None and not (here.plain and started < here.deadline))
            or (kwargs and any(map(is_file_type, map(type, kwargs.values()))))
        ):
            return slow(*args, **kwargs)
        for each in args:
            if type(each) not in NO_FILE and issubclass(type(each), File):
                return slow(*args, **kwargs)
        places_taken: list[Any] = []  # of all layers: what `would_wait_for_itself` looks for
        try:
            for enter in enters:
                token = enter(started)
                if token is None:
                    break
                places_taken.append(token)
            else:
                try:
                    if limit is None:
                        value = fn(*args, **kwargs) if kwargs else fn(*args)
                    else:
                        own_deadline = CallDeadline(here, started + limit)
                        try:
                            value = fn(*args, **kwargs) if kwargs else fn(*args)
                        finally:
                            own_deadline.end()
                    if type(value) is not plain:
                        if is_awaitable(value):
                            raise refused_awaitable(fn, value)
                        plain = type(value)
                except BaseException as error:  # noqa: BLE001 - goes through the layers
                    failure = error
                else:
                    now = monotonic()
                    seconds = now - started
                    for leave, token in zip(leaves, places_taken):  # noqa: B905 - both have one for each layer, and to look costs every call
                        leave(token, now, seconds)
                    if timed is not None and seconds > timed.bound.seconds:
                        timed.bound.resume(started).returned()  # may log, which may block
                    success(seconds)
                    return value
                try:
                    return _through(bound, path, places_taken, failure, started, (args, kwargs))
                finally:
                    del failure  # its traceback leads here
        except BaseException:  # nearly always what the function raised, with all places free
            _undo(path, places_taken)
            raise
        _undo(path, places_taken)
        return slow(*args, **kwargs)

    return wrapper


def wrap_fast_async(  # noqa: C901, PLR0915 - as above
    bound: BoundPipeline, path: FastPath, fn: Callable[..., Any], slow: Callable[..., Any]
) -> Callable[..., Any]:
    """Take the fast path of an `async def` where that is open, else the slow one."""
    enters = [layer.enter for layer in path.enterers]
    leaves = [layer.leave for layer in path.enterers]
    from asyncio import current_task  # noqa: PLC0415 - programs without async code do without

    from mainstay._core.interrupts import begin_limited  # noqa: PLC0415 - as above

    limit, timed, success = path.limit, path.timed, bound.recorder.success
    on_asyncio = False  # asked at the first call: it is a system call in 3.11

    @wraps(slow)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912 - as above
        nonlocal on_asyncio
        if not on_asyncio:
            require_asyncio(bound.component)
            on_asyncio = True
        started = monotonic()
        here = block_context()
        task = None if limit is None else current_task()
        if (
            process_contexts
            or (task is None and limit is not None)
            or (here is not None and not (here.plain and started < here.deadline))
            or (kwargs and any(map(is_file_type, map(type, kwargs.values()))))
        ):
            return await slow(*args, **kwargs)
        for each in args:
            if type(each) not in NO_FILE and issubclass(type(each), File):
                return await slow(*args, **kwargs)
        places_taken: list[Any] = []  # as above
        try:
            for enter in enters:
                token = enter(started)
                if token is None:
                    break
                places_taken.append(token)
            else:
                entry = None
                try:
                    if task is not None and limit is not None:
                        entry = begin_limited(task, here, started + limit)
                    value = await (fn(*args, **kwargs) if kwargs else fn(*args))
                except BaseException as error:  # noqa: BLE001 - goes through the layers
                    failure = error
                    if entry is not None:
                        end(entry)
                        entry = entry if entry.is_left_by(type(error)) else None
                else:
                    if entry is not None:
                        end(entry)
                        entry.is_left_by(None)
                    now = monotonic()
                    seconds = now - started
                    for leave, token in zip(leaves, places_taken):  # noqa: B905 - as above
                        leave(token, now, seconds)
                    if timed is not None and seconds > timed.bound.seconds:
                        timed.bound.resume(started).returned()  # may log, which may block
                    success(seconds)
                    return value
                try:
                    return await _athrough(
                        bound, path, places_taken, failure, started, (args, kwargs), entry
                    )
                finally:
                    del failure  # its traceback leads here
        except BaseException:  # nearly always what the function raised, with all places free
            _undo(path, places_taken)
            raise
        _undo(path, places_taken)
        return await slow(*args, **kwargs)

    return wrapper


def _undo(path: FastPath, kept: list[Any]) -> None:
    for layer, token in zip(path.enterers, kept, strict=False):
        layer.undo(token)


def _through(
    bound: BoundPipeline,
    path: FastPath,
    kept: list[Any],
    failure: BaseException,
    started: float,
    call: tuple[tuple[Any, ...], dict[str, Any]],
) -> Any:
    """Take an exception of the function through the layers, from the innermost outwards."""
    tokens = dict(zip(path.enterers, kept, strict=True))
    pipeline_call = bound.resume(started, failure)
    failing = _Failing(path.layers, tokens, started, call, [failure])
    del failure  # its traceback leads here
    set_tally(pipeline_call.tally)
    try:
        value = failing.come_to(len(path.layers))
    except BaseException as error:
        pipeline_call.end(error)
        raise
    pipeline_call.end()
    return value


async def _athrough(
    bound: BoundPipeline,
    path: FastPath,
    kept: list[Any],
    failure: BaseException,
    started: float,
    call: tuple[tuple[Any, ...], dict[str, Any]],
    entry: Any,
) -> Any:
    """As `_through`, in async code; *entry* is that of the timeout if it has ended the call."""
    tokens: dict[Any, Any] = dict(zip(path.enterers, kept, strict=True))
    if path.timed is not None:
        tokens[path.timed] = entry
    pipeline_call = bound.resume(started, failure)
    failing = _Failing(path.layers, tokens, started, call, [failure])
    del failure  # as above
    set_tally(pipeline_call.tally)
    try:
        value = await failing.acome_to(len(path.layers))
    except BaseException as error:
        pipeline_call.end(error)
        raise
    pipeline_call.end()
    return value


@attrs.frozen(eq=False)
class _Failing:
    """A call on the fast path whose function has raised.

    As with decorators, a layer handles an exception while that is what `sys.exc_info` tells, and
    a retry repeats when that is over: what the next attempt raises has no context but its own.

    Attributes:
        layers: The layers, the innermost first.
        tokens: What each layer returned when it was entered.
        started: When the call began.
        call: The arguments of the call.
        failure: The exception of the function, until it is raised again: its traceback leads here.
    """

    layers: list[FastLayer]
    tokens: dict[Any, Any]
    started: float
    call: tuple[tuple[Any, ...], dict[str, Any]]
    failure: list[BaseException]

    def come_to(self, number: int) -> Any:
        """Return, or raise, what the given number of innermost layers make of the failure."""
        if not number:
            self._raise()
        layer = self.layers[number - 1]
        kept = self.tokens.get(layer)
        try:
            value = self.come_to(number - 1)
        except BaseException as error:
            handled = layer.failed(kept, error, self.started, self.call)
            if handled is None:
                raise
        else:
            self._leave(layer, kept)
            return value
        return layer.go_on(handled, self.call)

    async def acome_to(self, number: int) -> Any:
        """As `come_to`, in async code."""
        if not number:
            self._raise()
        layer = self.layers[number - 1]
        kept = self.tokens.get(layer)
        try:
            value = await self.acome_to(number - 1)
        except BaseException as error:
            handled = await layer.afailed(kept, error, self.started, self.call)
            if handled is None:
                raise
        else:
            self._leave(layer, kept)
            return value
        return await layer.ago_on(handled, self.call)

    def _raise(self) -> NoReturn:
        failure = self.failure.pop()
        context = CONTEXT.__get__(failure)
        try:
            raise failure
        finally:
            CONTEXT.__set__(failure, context)  # and not what the caller of the pipeline handles
            del failure

    def _leave(self, layer: FastLayer, kept: Any) -> None:
        now = monotonic()
        layer.leave(kept, now, now - self.started)


def counting_attempts(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Have each call of *fn* count as an attempt of the pipeline's call that it is part of."""
    return _acounting(fn) if kind_of(fn) is Kind.ASYNC else _counting(fn)


def _counting(fn: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(fn)
    def attempt(*args: Any, **kwargs: Any) -> Any:
        tally = tally_here()
        if tally is None:
            return fn(*args, **kwargs)
        this = tally.attempt()
        try:
            this.value = value = fn(*args, **kwargs)
        except BaseException as error:
            _note(tally, this, error)
            raise
        return value

    return attempt


def _acounting(fn: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(fn)
    async def attempt(*args: Any, **kwargs: Any) -> Any:
        tally = tally_here()
        if tally is None:
            return await fn(*args, **kwargs)
        this = tally.attempt()
        try:
            this.value = value = await fn(*args, **kwargs)
        except BaseException as error:
            _note(tally, this, error)
            raise
        return value

    return attempt


def _note(tally: PipelineTally, attempt: PipelineAttempt, error: BaseException) -> None:
    if not is_a(error, Exception):
        attempt.is_cut = True
    elif is_refusal(error):
        tally.refused(attempt)
    else:
        tally.failed(attempt, error)
