"""What a redundant `async def` becomes, by what its policy may need.

Most calls end as they begin: the primary answers, and nothing else has happened that anybody has
to decide about. So where the first answer counts, a call is an `Opening` at first, which is little
more than its arguments. The `AsyncCall` that knows everything is made when something does happen:
the primary is slow or fails, a copy ends, or the caller is cancelled.
"""

import functools
from asyncio import AbstractEventLoop, Task, current_task, get_running_loop
from collections.abc import Callable
from typing import Any

from mainstay._core.clock import monotonic
from mainstay._core.context import DEFAULT_CONTEXT, block_context, current_context, process_contexts
from mainstay._redundant.async_loop import AsyncCall
from mainstay._redundant.rules import Bound
from mainstay._redundant.state import BATCH


def wrap_async(bound: Bound, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Make an `async def` redundant."""
    rules = bound.rules
    if rules.primary == "task":
        return _wrap_with_task(bound, fn)
    alone = rules.timeout is None and rules.lender is None
    if alone and not rules.votes and bound.planned == 1:
        return _wrap_hedged(bound, fn)
    return _wrap_inline(bound, fn)


def _wrap_with_task(bound: Bound, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what runs every copy in a task."""

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        run = AsyncCall(bound, current_context(), args, kwargs)
        run.begin_with_tasks()
        return await run.rest()

    return call


def _wrap_inline(bound: Bound, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what runs its primary in the caller's task, whatever else it may need."""

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        run = AsyncCall(bound, current_context(), args, kwargs)
        run.begin_inline()
        try:
            value = await run.fns[0](*args, **kwargs)
        except BaseException as error:
            if run.primary_raised(error):
                raise
        else:
            if run.primary_answered(value):
                return value
        return await run.rest()

    return call


class Opening:
    """A call whose primary runs, with no deadline, clock or metrics around it.

    Attributes:
        started: When that began, in seconds of the system's clock.
        run: The call that was made of it, if there was a need.
    """

    __slots__ = ("_args", "_bound", "_cancelling", "_kwargs", "_loop", "_task", "run", "started")

    def __init__(
        self,
        bound: Bound,
        task: Task[Any],
        loop: AbstractEventLoop,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._bound = bound
        self._task = task
        self._loop = loop
        self._args = args
        self._kwargs = kwargs
        self._cancelling = task.cancelling()
        self.run: AsyncCall | None = None
        self.started: float = monotonic()

    def in_full(self) -> AsyncCall:
        """Give the call with everything that belongs to one."""
        if self.run is None:
            bound = self._bound
            run = AsyncCall(
                bound, DEFAULT_CONTEXT, self._args, self._kwargs, self.started, self._loop
            )
            run.runs_inline(self._task, self._cancelling)
            self.run = run
        return self.run

    def slow(self) -> None:
        """Start one more copy, because the primary takes long."""
        self.in_full().slow()


def _undisturbed_task() -> Task[Any] | None:
    """Give the running task, unless something surrounds it that an `Opening` knows nothing of."""
    if process_contexts or block_context() is not None:
        return None
    try:
        return current_task()
    except RuntimeError:
        return None


def _wrap_hedged(bound: Bound, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what takes the first answer and starts its primary alone."""
    primary = bound.fns[0]
    shared = bound.shared
    alarms, durations = shared.alarms, shared.durations
    success, primary_won = bound.recorder.success, bound.copies.primary_won
    in_any_surroundings = _wrap_inline(bound, fn)

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        delay, task = shared.delay, _undisturbed_task()
        if delay is None or task is None:
            return await in_any_surroundings(*args, **kwargs)
        loop = get_running_loop()
        opening = Opening(bound, task, loop, args, kwargs)
        alarm = alarms.here(loop)
        alarm.add(opening, opening.started + delay)
        try:
            value = await primary(*args, **kwargs)
        except BaseException as error:
            run = opening.in_full()
            due = alarm.waiting.pop(opening, None)
            if due is not None and isinstance(error, Exception):
                run.slow_at(due)
            if run.primary_raised(error):
                raise
        else:
            if opening.run is None:
                del alarm.waiting[opening]
                now = monotonic()
                seconds = now - opening.started
                durations.append(seconds)
                if now >= shared.due or len(durations) >= BATCH:
                    shared.catch_up(now)
                success(seconds)
                primary_won()
                return value
            run = opening.run
            if run.primary_answered(value):
                return value
        return await run.rest()

    return call
