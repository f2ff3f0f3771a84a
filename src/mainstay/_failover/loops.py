"""The loops of failover, sync and async side by side: they call, they wait, and ask `Run`.

`wrap_sync` and `wrap_async` make the first attempt themselves when nothing surrounds the call and
the pool's order stands: that is the path that every healthy call takes, and it takes no lock. From
the first failure on, `repeat` and `arepeat`.

What follows a caught exception happens outside its `except` block, so that later exceptions do
not carry earlier ones along as their context.
"""

import functools
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, TypeAlias

from mainstay._core.ambient import current, everywhere, surroundings
from mainstay._core.clock import monotonic
from mainstay._failover.core import Core, Wait
from mainstay._failover.members import Session, lease_here, set_lease
from mainstay._failover.run import Run, begin
from mainstay._failover.starts import running_loop
from mainstay.errors import UnsupportedLoopError

Call: TypeAlias = Callable[[Any], Any]
"""Calls the user's function with a resource."""


def wrap_sync(core: Core, fn: Callable[..., Any], place: int, *, rerun: bool) -> Callable[..., Any]:
    """Give a `def` a member's resource, as its argument number *place*."""
    success = core.recorder.success
    short = core.rules.budget is None

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        started = monotonic()
        order = core.order
        if not short or started >= order.wake or everywhere or current() is not None:
            return repeat(begin(core, rerun=rerun), _filled(fn, place, args, kwargs))
        session = order.pick()
        flights = session.flights
        flights.append(None)
        outer = lease_here()
        set_lease(session.lease)
        over = None
        try:
            if session.opened.gone:
                raise _GoneError
            if place:
                value = fn(args[0], session.lease.resource, *args[1:], **kwargs)
            else:
                value = fn(session.lease.resource, *args, **kwargs)
        except _GoneError:
            run = begin(core, rerun=rerun)
        except Exception as error:
            run = _resumed(core, started, rerun=rerun)
            over = run.failed(session, error)
            if over is error:
                raise
        except BaseException:
            _resumed(core, started, rerun=rerun).interrupted(session)
            raise
        else:
            if type(value) is CoroutineType:
                raise _refused(_resumed(core, started, rerun=rerun), session, fn, value)
            slot = session.slot
            now = monotonic()
            slot.recorder.success()
            if slot.watched or session.generation != slot.health.generation:
                core.succeeded(session, now, now - started)
            success(now - started)
            return value
        finally:
            set_lease(outer)
            flights.pop()
            if session.opened.gone:
                core.left(session)
        if over is not None:
            raise over
        return repeat(run, _filled(fn, place, args, kwargs))

    return call


def wrap_async(core: Core, fn: Callable[..., Any], place: int, *, rerun: bool
               ) -> Callable[..., Coroutine[Any, Any, Any]]:  # fmt: skip
    """Give an `async def` a member's resource, as its argument number *place*."""
    success = core.recorder.success
    short = core.rules.budget is None

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        require_loop(core)
        started = monotonic()
        order = core.order
        if not short or started >= order.wake or everywhere or current() is not None:
            return await arepeat(begin(core, rerun=rerun), _filled(fn, place, args, kwargs))
        session = order.pick()
        flights = session.flights
        flights.append(None)
        outer = lease_here()
        set_lease(session.lease)
        over = None
        try:
            if session.opened.gone:
                raise _GoneError
            if place:
                value = await fn(args[0], session.lease.resource, *args[1:], **kwargs)
            else:
                value = await fn(session.lease.resource, *args, **kwargs)
        except _GoneError:
            run = begin(core, rerun=rerun)
        except Exception as error:
            run = _resumed(core, started, rerun=rerun)
            over = run.failed(session, error)
            if over is error:
                raise
        except BaseException:
            _resumed(core, started, rerun=rerun).interrupted(session)
            raise
        else:
            slot = session.slot
            now = monotonic()
            slot.recorder.success()
            if slot.watched or session.generation != slot.health.generation:
                core.succeeded(session, now, now - started)
            success(now - started)
            return value
        finally:
            set_lease(outer)
            flights.pop()
            if session.opened.gone:
                core.left(session)
        if over is not None:
            raise over
        return await arepeat(run, _filled(fn, place, args, kwargs))

    return call


def repeat(run: Run, call: Call) -> Any:
    """Call one member after the other until *run* says that it is over."""
    while True:
        session = acquire(run)
        outer = lease_here()
        set_lease(session.lease)
        try:
            value = call(session.lease.resource)
        except Exception as error:
            over = run.failed(session, error)
            if over is error:
                raise
        except BaseException:
            run.interrupted(session)
            raise
        else:
            if type(value) is CoroutineType:
                raise _refused(run, session, call, value)
            run.succeeded(session)
            return value
        finally:
            set_lease(outer)
            run.core.done(session)
        if over is not None:
            raise over


async def arepeat(run: Run, call: Call) -> Any:
    """Call and await one member after the other until *run* says that it is over."""
    while True:
        session = await aacquire(run)
        outer = lease_here()
        set_lease(session.lease)
        try:
            value = await call(session.lease.resource)
        except Exception as error:
            over = run.failed(session, error)
            if over is error:
                raise
        except BaseException:
            run.interrupted(session)
            raise
        else:
            run.succeeded(session)
            return value
        finally:
            set_lease(outer)
            run.core.done(session)
        if over is not None:
            raise over


def acquire(run: Run) -> Session:
    """Choose a member for the next attempt, and wait for one if there is none yet."""
    while True:
        choice = run.choose()
        if isinstance(choice, Session):
            return choice
        clock = run.ambient.clock
        try:
            if choice.signal is None:
                clock.sleep(choice.seconds)
            else:
                choice.signal.wait(clock, choice.seconds)
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
        clock = run.ambient.clock
        try:
            if choice.signal is None:
                await clock.asleep(choice.seconds)
            else:
                await choice.signal.await_(clock, choice.seconds)
        except BaseException:
            run.interrupted(None)
            raise
        _note_wait(run, choice)


def open_all(core: Core) -> None:
    """Open a pool, and wait until each member that is started is open or could not be opened."""
    clock = surroundings().clock
    while (wait := core.starting(clock)) is not None and wait.signal is not None:
        wait.signal.wait(clock, wait.seconds)


async def aopen_all(core: Core) -> None:
    """Open a pool, and await that each member that is started is open or could not be opened."""
    clock = surroundings().clock
    while (wait := core.starting(clock)) is not None and wait.signal is not None:
        await wait.signal.await_(clock, wait.seconds)


def _note_wait(run: Run, wait: Wait) -> None:
    if wait.signal is None:
        run.waited(wait.seconds)


class _GoneError(Exception):
    """The resource was retired between the pick and the call."""


def require_loop(core: Core) -> None:
    """Refuse to run where no asyncio loop does, or in another one than the pool's."""
    loop = running_loop()
    if loop is None:
        raise UnsupportedLoopError(core.rules.name)
    if loop is not core.loop:
        core.bind(loop)


def _resumed(core: Core, started: float, *, rerun: bool) -> Run:
    """Give the run of a call that began without one, in no particular surroundings."""
    return Run(core, rerun, core.recorder, surroundings(), started, started)


def _filled(
    fn: Callable[..., Any], place: int, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    return lambda resource: fn(*args[:place], resource, *args[place:], **kwargs)


def _refused(
    run: Run, session: Session, fn: Callable[..., Any], value: Coroutine[Any, Any, Any]
) -> TypeError:
    """End a call of a plain function that returned a coroutine, whose failures nobody would see."""
    value.close()
    error = TypeError(f"{fn!r} is no async function but returned a coroutine; decorate the async "
                      f"function itself")  # fmt: skip
    run.refused(session, error)
    return error
