"""The loops of retry, sync and async side by side: they call, wait, and ask `RetryCall` in between.

Each of the four `wrap_*` returns a wrapper of the same kind as its function. The wrappers of
`wrap_sync` and `wrap_async` make the first attempt themselves if the context is plain and the
settings need nothing more: this is the fast path, that of every healthy call, and it builds no
objects. From the first failure on, and in all other cases, `repeat` and `arepeat` do the work.

The code that follows a caught exception is outside of the `except` block, so that later exceptions
do not have earlier ones as their context.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import nullcontext
from types import NoneType
from typing import Any, TypeAlias

from mainstay._core.clock import monotonic
from mainstay._core.context import block_context, process_contexts
from mainstay._core.functions import Kind, is_awaitable, refused_awaitable, require_asyncio, wraps
from mainstay._core.one_shot import NO_FILE, File, is_file_type
from mainstay._core.watching import around, awatched, watched, watchers
from mainstay._retry.call import BoundRetry, RetryCall, watched_attempt

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]

_END = object()
"""In place of an item of an async generator that has ended."""
_UNWATCHED = nullcontext()


def wrap_sync(  # noqa: C901 - flat, since each further call would cost every call
    bound: BoundRetry, fn: Callable[..., Any]
) -> Callable[..., Any]:
    """Retry a `def`."""
    always_slow = bound.settings.first_attempt_is_special()
    success = bound.recorder.success
    plain: type = NoneType  # of the last result: asked once for each change, not at every call

    @wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: C901 - as above
        nonlocal plain
        started = monotonic()
        here = block_context()
        if (
            always_slow
            or process_contexts
            or (here is not None and not (here.plain and started < here.deadline))
            or (kwargs and any(map(is_file_type, map(type, kwargs.values()))))
        ):
            return repeat(bound.begin((fn, args, kwargs)), fn, args, kwargs)
        for each in args:
            if type(each) not in NO_FILE and issubclass(type(each), File):
                return repeat(bound.begin((fn, args, kwargs)), fn, args, kwargs)
        try:
            value = fn(*args, **kwargs) if kwargs else fn(*args)  # else {} is copied, too
        except Exception as error:
            call = bound.resume(started, (fn, args, kwargs))
            wait = call.after(error, call.verdict(error))
            if wait is None:
                raise
        except BaseException as error:
            bound.resume(started, None).interrupted(error)
            raise
        else:
            if type(value) is not plain:
                if is_awaitable(value):
                    raise _awaitable_refused(bound.resume(started, None), fn, value)
                plain = type(value)
            success(monotonic() - started)
            return value
        if wait:  # the system call of sleep(0) costs more than an attempt
            call.sleep(wait)
        return repeat(call, fn, args, kwargs)

    return wrapper


def wrap_async(  # noqa: C901 - as above
    bound: BoundRetry, fn: Callable[..., Any]
) -> Callable[..., Any]:
    """Retry an `async def`."""
    always_slow = bound.settings.first_attempt_is_special()
    success = bound.recorder.success
    on_asyncio = False  # told once, and asked again at failures: to ask is a system call in 3.11

    @wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal on_asyncio
        if not on_asyncio:
            require_asyncio(bound.component)
            on_asyncio = True
        started = monotonic()
        here = block_context()
        if (
            always_slow
            or process_contexts
            or (here is not None and not (here.plain and started < here.deadline))
            or (kwargs and any(map(is_file_type, map(type, kwargs.values()))))
        ):
            require_asyncio(bound.component)
            return await arepeat(bound.begin((fn, args, kwargs)), fn, args, kwargs)
        for each in args:
            if type(each) not in NO_FILE and issubclass(type(each), File):
                require_asyncio(bound.component)
                return await arepeat(bound.begin((fn, args, kwargs)), fn, args, kwargs)
        try:
            value = await (fn(*args, **kwargs) if kwargs else fn(*args))
        except Exception as error:
            require_asyncio(bound.component)
            call = bound.resume(started, (fn, args, kwargs))
            wait = call.after(error, await call.averdict(error))
            if wait is None:
                raise
        except BaseException as error:
            bound.resume(started, None).interrupted(error)
            raise
        else:
            success(monotonic() - started)
            return value
        if wait:
            await call.asleep(wait)
        return await arepeat(call, fn, args, kwargs)

    return wrapper


def repeat(call: RetryCall, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Call until *call* says that it is over."""
    while True:
        attempt = watched(fn, watched_attempt(call)) if watchers and call.made else fn
        try:
            value = attempt(*args, **kwargs)
        except Exception as error:
            wait = call.after(error, call.verdict(error))
            if wait is None:
                raise
        except BaseException as error:
            call.interrupted(error)
            raise
        else:
            if is_awaitable(value):
                raise _awaitable_refused(call, fn, value)
            wait = call.accept(value, call.refuses(value))
            if wait is None:
                return value
        if wait:
            call.sleep(wait)


async def arepeat(call: RetryCall, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Call and await until *call* says that it is over."""
    while True:
        attempt = awatched(fn, watched_attempt(call)) if watchers and call.made else fn
        try:
            value = await limited_attempt(call, attempt(*args, **kwargs))
        except Exception as error:
            wait = call.after(error, await call.averdict(error))
            if wait is None:
                raise
        except BaseException as error:
            call.interrupted(error)
            raise
        else:
            wait = call.accept(value, await call.arefuses(value))
            if wait is None:
                return value
        if wait:
            await call.asleep(wait)


async def limited_attempt(call: RetryCall, attempt: Awaitable[Any]) -> Any:
    """Await an attempt for at most the policy's `attempt_timeout`."""
    limit = call.attempt_limit()
    if limit is None:
        return await attempt
    from mainstay._core.interrupts import limited  # noqa: PLC0415 - the policy has loaded it

    return await limited(call.context.clock, limit, attempt, call.attempt_timed_out)


def wrap_generator(bound: BoundRetry, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Retry a generator function until its first item is out."""

    @wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = bound.begin((fn, args, kwargs))
        while True:
            watch = around(watched_attempt(call)) if watchers and call.made else _UNWATCHED
            try:
                with watch:
                    source = fn(*args, **kwargs)
                    first = next(source)
            except StopIteration as end:
                call.accept(None, refused=False)
                return end.value
            except Exception as error:
                wait = call.after(error, call.verdict(error))
                if wait is None:
                    raise
            except BaseException as error:
                call.interrupted(error)
                raise
            else:
                call.accept(None, refused=False)
                return (yield from _Started(first, source))
            if wait:
                call.sleep(wait)

    return wrapper


class _Started:
    """A generator whose first item has been taken out, as if it had not."""

    def __init__(self, first: Any, source: Generator[Any, Any, Any]) -> None:
        self._first = [first]
        self._source = source
        self.send = source.send
        self.throw = source.throw
        self.close = source.close

    def __iter__(self) -> "_Started":
        return self

    def __next__(self) -> Any:
        return self._first.pop() if self._first else next(self._source)


def wrap_async_generator(bound: BoundRetry, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Retry an async generator function until its first item is out."""

    @wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        require_asyncio(bound.component)
        call = bound.begin((fn, args, kwargs))
        source, item = await _first_item(call, fn, args, kwargs)
        # What PEP 380 says of `yield from`, which async generators do not have.
        while item is not _END:
            try:
                sent = yield item
            except GeneratorExit:
                await source.aclose()
                raise
            except BaseException as thrown:  # noqa: BLE001 - the generator's to handle
                step = source.athrow(thrown)
            else:
                step = source.asend(sent)
            try:
                item = await step
            except StopAsyncIteration:
                return

    return wrapper


async def _first_item(
    call: RetryCall, fn: Callable[..., Any], args: Args, kwargs: Kwargs
) -> tuple[AsyncGenerator[Any, Any], Any]:
    """Start the generator until an item comes out, or `_END` if it ends without any."""
    while True:
        watch = around(watched_attempt(call)) if watchers and call.made else _UNWATCHED
        try:
            with watch:
                source = fn(*args, **kwargs)
                item = await limited_attempt(call, anext(source, _END))
        except Exception as error:
            wait = call.after(error, await call.averdict(error))
            if wait is None:
                raise
        except BaseException as error:
            call.interrupted(error)
            raise
        else:
            call.accept(None, refused=False)
            return source, item
        if wait:
            await call.asleep(wait)


WRAPPERS = {
    Kind.SYNC: wrap_sync,
    Kind.ASYNC: wrap_async,
    Kind.GENERATOR: wrap_generator,
    Kind.ASYNC_GENERATOR: wrap_async_generator,
}


def _awaitable_refused(call: RetryCall, fn: Callable[..., Any], value: object) -> TypeError:
    """End a call of a plain function that returned something to await."""
    error = refused_awaitable(fn, value)
    call.after(error, False)
    return error
