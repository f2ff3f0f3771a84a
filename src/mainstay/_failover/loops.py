"""The loops of failover, sync and async side by side: they call, they wait, and ask `Run`.

What `_wrap_sync` and `_wrap_async` return makes the first attempt itself where nothing surrounds
the call and the pool's order stands: that is the path of every healthy call, and it takes no lock.
From the first failure on, and in all other cases, `repeat` and `arepeat` do the work.

What follows a caught exception happens outside its `except` block, so that later exceptions do
not carry earlier ones along as their context.
"""

import functools
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, TypeAlias

from mainstay._core.clock import monotonic
from mainstay._core.context import block_context, current_context, process_contexts
from mainstay._core.functions import Kind, kind_of, refused_awaitable, resource_first
from mainstay._core.threads import Pause
from mainstay._failover.core import Core
from mainstay._failover.hooks import running_loop
from mainstay._failover.members import Session, lease_here, set_lease
from mainstay._failover.run import Run, begin, resume
from mainstay.errors import UnsupportedLoopError

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]


def wrap(core: Core, fn: Callable[..., Any], *, rerun: bool) -> Callable[..., Any]:
    """Give a function a member's resource, as its first argument or after self or cls.

    Raises:
        TypeError: If its kind does not fit the pool.
    """
    kind = kind_of(fn)
    if kind is Kind.ASYNC:
        return _wrap_async(core, resource_first(fn), rerun=rerun)
    if kind is not Kind.SYNC:
        raise TypeError(f"failover does not wrap generators such as {fn!r}: what has been yielded "
                        f"cannot be taken back; use `for attempt in pool`")  # fmt: skip
    if core.rules.is_async:
        raise TypeError(f"pool {core.rules.name!r} is async, since something that it was given is, "
                        f"and {fn!r} is not")  # fmt: skip
    return _wrap_sync(core, resource_first(fn), rerun=rerun)


def _wrap_sync(  # noqa: C901 - flat, since each further call would cost every call
    core: Core, fn: Callable[..., Any], *, rerun: bool
) -> Callable[..., Any]:
    short = core.rules.budget is None

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        started = monotonic()
        order = core.order
        if started >= order.wake or process_contexts or not short or block_context() is not None:
            return repeat(begin(core, rerun=rerun), fn, args, kwargs)
        try:
            session = order.pick()
        except BaseException as error:
            resume(core, started, rerun=rerun).not_chosen(error)
            raise
        session.flights.append(None)
        if session.opened.gone:  # it was retired between the two lines above
            core.done(session)
            return repeat(begin(core, rerun=rerun), fn, args, kwargs)
        outer = lease_here()
        set_lease(session.lease)
        try:
            value = fn(session.resource, *args, **kwargs)
        except BaseException as error:
            run = resume(core, started, rerun=rerun)
            if run.raised(session, error):
                raise
        else:
            if type(value) is CoroutineType:
                raise _refused(resume(core, started, rerun=rerun), session, fn, value)
            now = monotonic()
            if session.slot.watched:
                core.succeeded(session, now, now - started)
            session.answered(now - started)
            return value
        finally:
            set_lease(outer)
            session.flights.pop()
            if session.opened.gone:
                core.left(session)
        run.go_on()
        return repeat(run, fn, args, kwargs)

    return call


def _wrap_async(  # noqa: C901 - flat, since each further call would cost every call
    core: Core, fn: Callable[..., Any], *, rerun: bool
) -> Callable[..., Any]:
    short = core.rules.budget is None
    asyncio_seen = False  # asked at the first call and when waiting: it is a system call in 3.11

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal asyncio_seen
        if not asyncio_seen or core.rules.is_async:
            require_loop(core)
            asyncio_seen = True
        started = monotonic()
        order = core.order
        if started >= order.wake or process_contexts or not short or block_context() is not None:
            return await arepeat(begin(core, rerun=rerun), fn, args, kwargs)
        try:
            session = order.pick()
        except BaseException as error:
            resume(core, started, rerun=rerun).not_chosen(error)
            raise
        session.flights.append(None)
        if session.opened.gone:  # it was retired between the two lines above
            core.done(session)
            return await arepeat(begin(core, rerun=rerun), fn, args, kwargs)
        outer = lease_here()
        set_lease(session.lease)
        try:
            value = await fn(session.resource, *args, **kwargs)
        except BaseException as error:
            run = resume(core, started, rerun=rerun)
            if run.raised(session, error):
                raise
        else:
            now = monotonic()
            if session.slot.watched:
                core.succeeded(session, now, now - started)
            session.answered(now - started)
            return value
        finally:
            set_lease(outer)
            session.flights.pop()
            if session.opened.gone:
                core.left(session)
        run.go_on()
        return await arepeat(run, fn, args, kwargs)

    return call


def repeat(run: Run, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Call one member after the other until *run* says that it is over."""
    while True:
        session = acquire(run)
        outer = lease_here()
        set_lease(session.lease)
        try:
            value = fn(session.resource, *args, **kwargs)
        except BaseException as error:
            if run.raised(session, error):
                raise
        else:
            if type(value) is CoroutineType:
                raise _refused(run, session, fn, value)
            run.succeeded(session)
            return value
        finally:
            set_lease(outer)
            run.core.done(session)
        run.go_on()


async def arepeat(run: Run, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Call and await one member after the other until *run* says that it is over."""
    while True:
        session = await aacquire(run)
        outer = lease_here()
        set_lease(session.lease)
        try:
            value = await fn(session.resource, *args, **kwargs)
        except BaseException as error:
            if run.raised(session, error):
                raise
        else:
            run.succeeded(session)
            return value
        finally:
            set_lease(outer)
            run.core.done(session)
        run.go_on()


def acquire(run: Run) -> Session:
    """Choose a member for the next attempt, and wait for one if there is none yet."""
    while True:
        choice = run.choose()
        if isinstance(choice, Session):
            return choice
        try:
            choice.wait()
        except BaseException:
            run.interrupted(None)
            raise
        _note_wait(run, choice)


async def aacquire(run: Run) -> Session:
    """Choose a member for the next attempt, and await one if there is none yet."""
    while True:
        choice = run.choose()
        if isinstance(choice, Session):
            return choice
        try:
            await choice.await_()
        except BaseException:
            run.interrupted(None)
            raise
        _note_wait(run, choice)


def open_all(core: Core) -> None:
    """Open a pool, and wait until each member that is started is open or could not be opened."""
    clock = current_context().clock
    while (pause := core.starting(clock)) is not None:
        pause.wait()


async def aopen_all(core: Core) -> None:
    """Open a pool, and await that each member that is started is open or could not be opened."""
    clock = current_context().clock
    while (pause := core.starting(clock)) is not None:
        await pause.await_()


def _note_wait(run: Run, pause: Pause) -> None:
    if pause.signal is None:
        run.waited(pause.seconds)


def require_loop(core: Core) -> None:
    """Refuse to run where no asyncio loop does, or in another one than the pool's."""
    loop = running_loop()
    if loop is None:
        raise UnsupportedLoopError(core.rules.name)
    if loop is not core.loop:
        core.bind(loop)


def _refused(
    run: Run, session: Session, fn: Callable[..., Any], value: Coroutine[Any, Any, Any]
) -> TypeError:
    """End a call of a plain function that returned a coroutine, whose failures nobody would see."""
    error = refused_awaitable(fn, value)
    run.refused(session, error)
    return error
