"""The loops of a pool, sync and async side by side: they call, wait, and ask `PoolCall` in between.

The wrappers of `_wrap_sync` and `_wrap_async` make the first attempt themselves if the context is
plain and the rotation of the pool is valid: this is the fast path, that of every healthy call, and
it takes no lock. From the first failure on, and in all other cases, `repeat` and `arepeat` do the
work.

The code that follows a caught exception is outside of the `except` block, so that later exceptions
do not have earlier ones as their context.
"""

import functools
from asyncio import CancelledError
from collections.abc import Callable
from types import NoneType
from typing import Any, TypeAlias

from mainstay._core.clock import monotonic
from mainstay._core.context import block_context, process_contexts
from mainstay._core.functions import (
    Kind,
    is_awaitable,
    kind_of,
    name_of,
    refused_awaitable,
    require_asyncio,
    resource_first,
    resource_first_or_as_self,
    without_resource,
)
from mainstay._core.interrupts import limited
from mainstay._core.layers import with_layers
from mainstay._core.one_shot import NO_FILE, File, is_file_type
from mainstay._core.watching import awatched, watched, watchers
from mainstay._failover.call import BoundPool, PoolCall
from mainstay._failover.engine import PoolEngine
from mainstay._failover.members import MemberHandle, lease_here, set_lease
from mainstay._failover.openers import TaskOpener
from mainstay._failover.settings import ASYNC_BECAUSE, check_interruptible

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]
_Placed: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def wrap(bound: BoundPool, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function that takes a member's resource, first or right after self or cls.

    Raises:
        TypeError: If its kind does not fit the pool, or it has no parameter for the resource.
    """
    return with_layers(without_resource(fn)(_caller(bound, fn, resource_first)), bound.layers)


def caller(bound: BoundPool, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the wrapper for one call; *fn* may be a method of the resource's own class."""
    return _caller(bound, fn, resource_first_or_as_self)


def _caller(bound: BoundPool, fn: Callable[..., Any], placed: _Placed) -> Callable[..., Any]:
    kind, name = kind_of(fn), bound.engine.settings.name
    if kind is Kind.ASYNC:
        return _wrap_async(bound, placed(fn))
    if kind is not Kind.SYNC:
        raise TypeError(
            f"failover does not wrap generators such as {name_of(fn)}: what has been yielded "
            f"cannot be taken back; use `for attempt in pool`"
        )
    if bound.engine.settings.is_async:
        raise TypeError(
            f"pool {name!r} is async, since {ASYNC_BECAUSE}, and {name_of(fn)} is a plain "
            f"function; make it `async def`"
        )
    check_interruptible(bound.engine.settings, name_of(fn))
    return _wrap_sync(bound, placed(fn))


def _wrap_sync(  # noqa: C901 - flat, since each further call would cost every call
    bound: BoundPool, fn: Callable[..., Any]
) -> Callable[..., Any]:
    engine = bound.engine
    always_slow = engine.settings.first_attempt_is_special() or bound.records_elsewhere()
    plain: type = NoneType  # of the last result: asked once for each change, not at every call

    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912 - as above
        nonlocal plain
        started = monotonic()
        rotation = engine.rotation
        here = block_context()
        if (
            started >= rotation.wake
            or always_slow
            or process_contexts
            or (here is not None and not (here.plain and started < here.deadline))
            or (kwargs and any(map(is_file_type, map(type, kwargs.values()))))
        ):
            if started < rotation.rejects and bound.is_plain(started):
                raise bound.resume(started).failed("no_member")
            return repeat(bound.begin((fn, args, kwargs)), fn, args, kwargs)
        for each in args:
            if type(each) not in NO_FILE and issubclass(type(each), File):
                return repeat(bound.begin((fn, args, kwargs)), fn, args, kwargs)
        try:
            handle = rotation.pick()
        except BaseException as error:
            bound.resume(started).not_chosen(error)
            raise
        handle.flights.append(None)
        if handle.opened.gone:  # it was retired between the two lines above
            engine.done(handle)
            return repeat(bound.begin((fn, args, kwargs)), fn, args, kwargs)
        outer = lease_here()
        set_lease(handle.lease)
        try:
            value = fn(handle.resource, *args, **kwargs)
        except BaseException as error:
            call = bound.resume(started, (fn, args, kwargs))
            if call.raised(handle, error):
                raise
        else:
            if type(value) is not plain:
                if is_awaitable(value):
                    raise _awaitable_refused(bound.resume(started), handle, fn, value)
                plain = type(value)
            now = monotonic()
            if handle.slot.inspected:
                engine.succeeded(handle, now, now - started)
            handle.answered(now - started)
            return value
        finally:
            set_lease(outer)
            handle.flights.pop()
            if handle.opened.gone:
                engine.left(handle)
        call.go_on()
        return repeat(call, fn, args, kwargs)

    return wrapper


def _wrap_async(  # noqa: C901 - flat, since each further call would cost every call
    bound: BoundPool, fn: Callable[..., Any]
) -> Callable[..., Any]:
    engine = bound.engine
    answered = engine.answers.append
    always_slow = engine.settings.first_attempt_is_special() or bound.records_elsewhere()
    on_asyncio = False  # asked at the first call and when waiting: it is a system call in 3.11

    async def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912 - as above
        nonlocal on_asyncio
        if not on_asyncio or engine.settings.is_async:
            require_loop(engine)
            on_asyncio = True
        started = monotonic()
        rotation = engine.rotation
        here = block_context()
        if (
            started >= rotation.wake
            or always_slow
            or process_contexts
            or (here is not None and not (here.plain and started < here.deadline))
            or (kwargs and any(map(is_file_type, map(type, kwargs.values()))))
        ):
            if started < rotation.rejects and bound.is_plain(started):
                raise bound.resume(started).failed("no_member")
            return await arepeat(bound.begin((fn, args, kwargs)), fn, args, kwargs)
        for each in args:
            if type(each) not in NO_FILE and issubclass(type(each), File):
                return await arepeat(bound.begin((fn, args, kwargs)), fn, args, kwargs)
        try:
            handle = rotation.pick()
        except BaseException as error:
            bound.resume(started).not_chosen(error)
            raise
        handle.flights.append(None)
        if handle.opened.gone:  # it was retired between the two lines above
            engine.done(handle)
            return await arepeat(bound.begin((fn, args, kwargs)), fn, args, kwargs)
        outer = lease_here()
        set_lease(handle.lease)
        try:
            value = await fn(handle.resource, *args, **kwargs)
        except CancelledError as error:
            bound.resume(started).cancelled(handle, error)
            raise
        except BaseException as error:
            call = bound.resume(started, (fn, args, kwargs))
            if call.raised(handle, error):
                raise
        else:
            seconds = (now := monotonic()) - started
            answered(seconds)
            if handle.slot.inspected:
                engine.succeeded(handle, now, seconds)
            handle.answered(seconds)
            return value
        finally:
            set_lease(outer)
            handle.flights.pop()
            if handle.opened.gone:
                engine.left(handle)
        call.go_on()
        return await arepeat(call, fn, args, kwargs)

    return wrapper


def repeat(call: PoolCall, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Call one member after the other until *call* says that it is over."""
    while True:
        handle = acquire(call)
        attempt = watched(fn, call.attempt(handle)) if watchers and call.made else fn
        outer = lease_here()
        set_lease(handle.lease)
        try:
            value = attempt(handle.resource, *args, **kwargs)
            if not is_awaitable(value):
                call.check_result(value)
        except BaseException as error:
            if call.raised(handle, error):
                raise
        else:
            if is_awaitable(value):
                raise _awaitable_refused(call, handle, fn, value)
            call.succeeded(handle)
            return value
        finally:
            set_lease(outer)
            call.engine.done(handle)
        call.go_on()


async def arepeat(call: PoolCall, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Call and await one member after the other until *call* says that it is over."""
    while True:
        handle = await aacquire(call)
        attempt = awatched(fn, call.attempt(handle)) if watchers and call.made else fn
        outer = lease_here()
        set_lease(handle.lease)
        try:
            limit, clock = call.attempt_limit(), call.context.clock
            overdue = functools.partial(call.attempt_timed_out, handle)
            value = await limited(clock, limit, attempt(handle.resource, *args, **kwargs), overdue)
            call.check_result(value)
        except CancelledError as error:
            call.cancelled(handle, error)
            raise
        except BaseException as error:
            if call.raised(handle, error):
                raise
        else:
            call.engine.answers.append(call.now() - call.attempt_started)
            call.succeeded(handle)
            return value
        finally:
            set_lease(outer)
            call.engine.done(handle)
        call.go_on()


def acquire(call: PoolCall) -> MemberHandle:
    """Choose a member for the next attempt, and wait for one if there is none yet."""
    while True:
        choice = call.choose()
        if isinstance(choice, MemberHandle):
            return choice
        try:
            choice.wait()
        except BaseException as interrupt:
            call.interrupted(None, interrupt)
            raise
        call.waited(choice)


async def aacquire(call: PoolCall) -> MemberHandle:
    """Choose a member for the next attempt, and await one if there is none yet."""
    while True:
        choice = call.choose()
        if isinstance(choice, MemberHandle):
            return choice
        try:
            await choice.await_()
        except BaseException as interrupt:
            call.interrupted(None, interrupt)
            raise
        call.waited(choice)


def require_loop(engine: PoolEngine) -> None:
    """Raise where no asyncio loop runs, or another one than an async pool's.

    Raises:
        RuntimeError: If the pool belongs to another event loop that is still open.
        UnsupportedLoopError: Outside asyncio.
    """
    event_loop, opener = require_asyncio(engine.settings.name), engine.opener
    if not isinstance(opener, TaskOpener) or opener.event_loop is event_loop:
        return
    if opener.event_loop is not None and not opener.event_loop.is_closed():
        raise RuntimeError(
            f"pool {engine.settings.name!r} belongs to another event loop, the one that it was "
            f"opened in; give each loop a pool of its own"
        )
    engine.forget()
    opener.event_loop = event_loop


def _awaitable_refused(
    call: PoolCall, handle: MemberHandle, fn: Callable[..., Any], value: object
) -> TypeError:
    """End a call of a plain function that returned something to await."""
    error = refused_awaitable(fn, value)
    call.refused(handle, error)
    return error
