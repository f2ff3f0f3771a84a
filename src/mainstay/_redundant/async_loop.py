"""Redundant calls of `async def`: the caller's task and the tasks of the copies.

With `primary="inline"` the caller's own task runs the primary, and no task is made until a copy
starts. The rules:

1. A copy that settles the call cancels the primary through `Task.cancel`, in the manner of
   `asyncio.timeout`. When the primary has been left, by whatever way, that cancellation is taken
   back with `Task.uncancel`.
2. If the count of cancellations is then above what it was at the start, one came from outside as
   well. It wins: the answer is disposed of, and the `CancelledError` goes on. The count is compared
   with the one at the start and never with 0, since CPython 3.11 and 3.12 can leave a task with a
   count above 0 behind.
3. A primary that swallows its cancellation, or is slow to handle it, holds the caller as long. What
   it returns then is late. With `primary="task"` the caller never waits for it.
4. Changes to context variables by an inline primary are seen by the caller, as after a plain
   await; those of other copies are not. Copies run in a copy of the caller's context.

Losers are cancelled and not waited for. Each has a callback that takes its result to `dispose` or
its exception off the event loop's hands; it is the whole reaper, so that nothing has to be ended.
"""

from asyncio import AbstractEventLoop, CancelledError, Future, Task, current_task, get_running_loop
from collections.abc import Callable, Coroutine
from functools import partial
from types import CoroutineType
from typing import Any

from mainstay._core.clock import Timer
from mainstay._core.context import CallContext
from mainstay._core.threads import values_now
from mainstay._redundant.rules import Bound
from mainstay._redundant.run import Call
from mainstay._redundant.state import MOST_STRAYS
from mainstay.errors import UnsupportedLoopError

_AGAIN = 0.005  # seconds


def _running_task(bound: Bound) -> Task[Any]:
    try:
        task = current_task()
    except RuntimeError:
        task = None
    if task is None:
        raise UnsupportedLoopError(bound.recorder.component)
    return task


def _running_loop(bound: Bound) -> AbstractEventLoop:
    try:
        return get_running_loop()
    except RuntimeError:
        raise UnsupportedLoopError(bound.recorder.component) from None


class AsyncCall(Call):
    """One call, in the event loop of its caller."""

    __slots__ = ("_cancelling", "_limit", "_loop", "_task", "_tasks", "_timer", "_waiter", "_won")

    def __init__(
        self,
        bound: Bound,
        context: CallContext,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        started: float | None = None,
        loop: AbstractEventLoop | None = None,
    ) -> None:
        self._loop = loop or _running_loop(bound)
        super().__init__(bound, context, args, kwargs, started)
        self._tasks: dict[int, Task[Any]] = {}
        self._timer: Timer | None = None
        self._limit: Timer | None = None
        self._waiter: Future[None] | None = None
        self._won = False
        members = self.members
        if members is not None:
            self.fns = tuple(partial(members.acall, n, fn) for n, fn in enumerate(self.fns))

    # The beginning.

    def begin_inline(self) -> None:
        """Begin a call whose primary the caller is about to run."""
        task = _running_task(self.bound)
        self.runs_inline(task, task.cancelling())
        if self.members is not None:
            self.members.reserve(0)
        self._set_timers()
        planned = self.bound.planned
        if planned > 1:
            self.start_owed(planned - 1)

    def runs_inline(self, task: Task[Any], cancelling: int) -> None:
        """Take note of the task that runs the primary, and of its cancellations at the start."""
        self._task = task
        self._cancelling = cancelling
        self.primary_runs = True

    def slow_at(self, due: float) -> None:
        """Be slow at a time of the clock that an `Alarm` would have told of until now."""
        self._timer = self._call_later(max(0.0, due - self.context.clock.now()), self.slow)

    def begin_with_tasks(self) -> None:
        """Begin a call whose copies all have tasks of their own."""
        self._set_timers()
        self.start_owed(self.bound.planned)

    def _set_timers(self) -> None:
        bound = self.bound
        delay = bound.shared.delay
        if delay is not None:
            self._timer = self._call_later(delay, self.slow)
        elif not bound.rules.start.together:
            self.copies.denied("warmup")
        if bound.rules.timeout is not None:
            self._limit = self._call_later(bound.rules.timeout, self.expire)

    def _call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return self.context.clock.call_later(seconds, callback)

    def slow(self) -> None:
        """Start one more copy, because the call takes long; when that is to happen, repeat it."""
        self._timer = None
        delay = self.bound.shared.delay
        if self.hedge("slow") and self.round.spare() and delay is not None:
            self._timer = self._call_later(delay, self.slow)

    # The primary has been left.

    def primary_answered(self, value: Any) -> bool:
        """Take the answer of an inline primary; say whether the caller is to return it now."""
        if not self.settled and not self.bound.rules.votes:
            self._returned = value
            self._stop()
            self.primary_wins()
            return True
        running = self.round.running  # of which the primary is one, if the round is made now
        self.primary_runs = False
        if self._take_back():
            running.discard(0)
            if self.members is not None:
                self.members.answered(0)
            self._caller_cancelled()
            self.dispose([value])
            raise CancelledError
        if self.settled:
            self.late(0, value)
        else:
            self.answered(0, value)
        return False

    def primary_raised(self, error: BaseException) -> bool:
        """Take what an inline primary raised; say whether it is to go on as it is."""
        running = self.round.running  # of which the primary is one, if the round is made now
        self.primary_runs = False
        outside = self._take_back()
        if self._won and not outside and isinstance(error, Exception | CancelledError):
            self.given_up(0)
            return False
        if outside or self.settled or not isinstance(error, Exception):
            running.discard(0)
            self._member_released(0)
            self._caller_cancelled()
            return True
        self.failed(0, error)
        return self.failed_with(error)

    def _take_back(self) -> bool:
        """Take our cancellation back; say whether there was another one."""
        return self._won and self._task.uncancel() > self._cancelling

    def _caller_cancelled(self) -> None:
        self.settled = True
        self._stop()
        self.give_up()

    # The rest, if the primary's own answer was not the end.

    async def rest(self) -> Any:
        """Wait until the call is settled; return the answer or raise."""
        if not self.settled:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except BaseException:
                self._caller_cancelled()
                raise
        return self.finish()

    def _settled(self) -> None:
        self._stop()
        if self.primary_runs:
            self._interrupt()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _interrupt(self) -> None:
        """Cancel the inline primary, unless somebody else is just doing so.

        That may be a timeout of its own, which it survives: so ask again.
        """
        if not self.primary_runs:
            return
        if self._task.cancelling() <= self._cancelling:
            self._won = True
            self._task.cancel()
        else:
            self._loop.call_later(_AGAIN, self._interrupt)

    def _stop(self) -> None:
        for timer in (self._timer, self._limit):
            if timer is not None:
                timer.cancel()
        if self._loop.is_closed():  # whoever waits on is destroyed, and so are the copies
            return
        strays = self.bound.shared.strays
        for task in values_now(self._tasks):
            strays.add(task)
            task.cancel()

    # Copies in tasks.

    def _place(self, *, extra: bool) -> Any:
        return None if extra and len(self.bound.shared.strays) >= MOST_STRAYS else True

    def _launch(self, copy: int, place: Any) -> None:  # noqa: ARG002 - a task needs no place
        if self.members is not None:
            self.members.reserve(copy)
        coroutine = coroutine_of(self.fns[copy], self._args, self._kwargs)
        task = self._loop.create_task(coroutine)
        self._tasks[copy] = task
        task.add_done_callback(partial(self.task_ended, copy))

    def task_ended(self, copy: int, task: Task[Any]) -> None:
        """Take note that the task of a copy has ended."""
        del self._tasks[copy]
        self.bound.shared.strays.discard(task)
        self._take(copy, task)

    def _take(self, copy: int, task: Task[Any]) -> None:
        error = CancelledError() if task.cancelled() else task.exception()
        if self.settled:
            if error is None:
                self.late(copy, task.result())
            else:
                self.given_up(copy)
        elif error is None:
            self.answered(copy, task.result())
        else:
            self.failed(copy, error)

    def _disposed(self, result: Any) -> None:
        if result is None or not hasattr(result, "__await__"):
            return
        strays = self.bound.shared.strays
        task = self._loop.create_task(_awaited(result))
        strays.add(task)
        task.add_done_callback(self._disposal_ended)

    def _disposal_ended(self, task: Task[Any]) -> None:
        self.bound.shared.strays.discard(task)
        dispose = self.bound.rules.dispose
        if not task.cancelled() and dispose is not None:
            error = task.exception()
            if isinstance(error, Exception):
                self.dispose_failed(dispose, error)


def coroutine_of(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Coroutine[Any, Any, Any]:
    """Call a copy, for a task; what that raises at once is the failure of the copy, too."""
    try:
        coroutine = fn(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - see above
        return _raised(error)
    return coroutine if type(coroutine) is CoroutineType else _awaited(coroutine)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


async def _raised(error: Exception) -> Any:
    raise error
