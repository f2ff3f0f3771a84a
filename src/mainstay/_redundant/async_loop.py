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
   What the primary makes of one from outside, such as a client's own exception, goes on as well,
   and no other copy starts for it.
3. A primary that swallows its cancellation, or is slow to handle it, holds the caller as long. What
   it returns then is late. With `primary="task"` the caller never waits for it.
4. Changes to context variables by an inline primary are seen by the caller, as after a plain
   await; those of other copies are not. Copies run in a copy of the caller's context.

Losers are cancelled and not waited for. A callback of each passes its result to `dispose`, or reads
its exception so that the event loop does not complain; no other task has to wait for them.

Most hedged calls end as they begin: the primary answers, and nothing else has happened that
anybody has to decide about. So where the first answer wins and the primary starts alone, a call is
a `FastHedgedCall` at first, which is little more than its arguments. The rest is made when
something does happen: the primary is slow or fails, or the caller is cancelled.
"""

import functools
import math
from asyncio import AbstractEventLoop, CancelledError, Future, Task, current_task, get_running_loop
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from types import CoroutineType
from typing import Any, TypeAlias

import attrs

from mainstay._core.alarms import Alarms, alarms_of
from mainstay._core.clock import Timer, monotonic
from mainstay._core.context import (
    DEFAULT_CONTEXT,
    Entry,
    block_context,
    context_of,
    current_context,
    process_contexts,
    set_block_context,
)
from mainstay._core.exceptions import CONTEXT, is_a
from mainstay._core.functions import require_asyncio, wraps
from mainstay._core.one_shot import has_one_shot
from mainstay._core.threads import values_now
from mainstay._core.watching import awatched, watchers
from mainstay._redundant.call import RedundantCall, awaited, cut_short, watched_copy
from mainstay._redundant.decision import HedgeReason
from mainstay._redundant.settings import BoundRedundant
from mainstay.errors import UnsupportedLoopError

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]

MOST_ABANDONED = 1_000
"""How many cancelled tasks of a component may not have ended before no more hedges start."""
_MOST_CONTEXTS = 20

_AGAIN = 0.005  # seconds


def wrap_async(bound: BoundRedundant, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Make an `async def` redundant."""
    settings = bound.settings
    if settings.primary == "task":
        return _wrap_with_task(bound, fn)
    has_more = settings.timeout or settings.pool or settings.on_result
    if settings.takes_first and bound.planned == 1 and not has_more:
        return _wrap_hedged(bound, fn)
    return _wrap_inline(bound, fn)


def _wrap_with_task(bound: BoundRedundant, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what runs every copy in a task."""

    @wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        loop = AsyncLoop.begin(bound, args, kwargs)
        loop.start()
        return await loop.result()

    return wrapper


def _wrap_inline(bound: BoundRedundant, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what runs its primary in the caller's task, whatever else it may need."""

    @wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        loop = AsyncLoop.begin(bound, args, kwargs, inline=True)
        loop.start()
        try:
            value = await loop.call.fns[0](*args, **kwargs)
        except BaseException as error:
            if loop.primary_raised(error):
                raise
        else:
            loop.primary_answered(value)
        return await loop.result()

    return wrapper


def _wrap_hedged(bound: BoundRedundant, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what takes the first answer and starts its primary alone."""
    primary = bound.fns[0]
    latency = bound.latency
    answered = latency.answered
    success, primary_won = bound.recorder.success, bound.copies.primary_won
    in_any_context = _wrap_inline(bound, fn)

    @wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        started = monotonic()
        here, delay = block_context(), latency.delay
        try:
            task = current_task()
        except RuntimeError:  # no event loop of asyncio runs here
            task = None
        if (
            delay is None
            or task is None
            or process_contexts
            or (here is not None and not (here.plain and started < here.deadline))
            or ((args or kwargs) and has_one_shot(args, kwargs))
        ):
            return await in_any_context(*args, **kwargs)
        event_loop = get_running_loop()
        cancelling = task.cancelling()
        slow_at = due = started + delay
        if here is not None and here.deadline < due:
            due = here.deadline
        context = copy_context()
        hedged = FastHedgedCall(
            bound, here, context, task, cancelling, event_loop, started, slow_at, args, kwargs
        )
        alarms = alarms_of(event_loop)
        alarms.add(due, hedged)
        try:
            value = await primary(*args, **kwargs)
        except BaseException as error:
            loop = hedged.in_full()
            if hedged.stop_waiting(alarms) and is_a(error, Exception):
                loop.slow_at(slow_at)
            if loop.primary_raised(error):
                raise
        else:
            if hedged.loop is None:  # no other copy has started, so that this answer is the first
                hedged.waits = False
                alarms.remove(hedged)
                now = monotonic()
                answered(now - started, now)
                success(now - started)
                primary_won()
                return value
            loop = hedged.loop
            loop.primary_answered(value)
        return await loop.result()

    return wrapper


@attrs.define(eq=False)
class FastHedgedCall:
    """A call whose primary runs alone, with nothing around it but perhaps a deadline.

    Attributes:
        loop: What makes the rest of the call, if there is a need.
        waits: True until the primary has ended, or has become slow.
    """

    _bound: BoundRedundant
    _here: Entry | None
    _context: Context
    _task: Task[Any]
    _cancelling: int
    _event_loop: AbstractEventLoop
    _started: float
    _slow_at: float
    _args: Args
    _kwargs: Kwargs
    loop: "AsyncLoop | None" = attrs.field(default=None, init=False)
    waits: bool = attrs.field(default=True, init=False)

    def in_full(self) -> "AsyncLoop":
        """Return the call with everything that belongs to one."""
        if self.loop is None:
            context = DEFAULT_CONTEXT if self._here is None else context_of(self._here)
            call = RedundantCall.begin(self._bound, context, self._started, is_async=True)
            caller = CallerTask(self._task, self._cancelling, self._event_loop, True)
            here, args, kwargs = self._here, self._args, self._kwargs
            self.loop = AsyncLoop(call, here, caller, self._event_loop, args, kwargs)
            self.loop.limit()
        return self.loop

    def stop_waiting(self, alarms: Alarms) -> bool:
        """Record that the primary has ended; return True if it had not become slow before."""
        waited, self.waits = self.waits, False
        if waited:
            alarms.remove(self)
        return waited

    def is_over(self) -> bool:
        """Return True if nothing is to happen any more because the primary takes long."""
        return not self.waits

    def fire(self) -> None:
        """Start one more copy, because the primary takes long, or end with the deadline.

        The timer that all calls share runs in nobody's context, so the copy is started in the
        context in which its call began.
        """
        self.waits = False
        self._context.run(self._slow)

    def _slow(self) -> None:
        loop = self.in_full()
        if loop.call.now() < self._slow_at:
            loop.slow_at(self._slow_at)
        else:
            loop.slow()


@attrs.define(eq=False)
class CallerTask:
    """The caller's task, which a faster copy interrupts while it runs the primary.

    Attributes:
        runs_primary: True until the primary was left; never with `primary="task"`, nor in a race.
        interrupted: True if the task was cancelled because of that copy.
    """

    _task: Task[Any]
    _cancelling: int  # how often it was cancelled before
    _event_loop: AbstractEventLoop
    runs_primary: bool
    interrupted: bool = False

    def interrupt(self) -> None:
        """Cancel the task, unless it is being cancelled already.

        That may be a timeout of the task's own, which the task survives: so try again later.
        """
        if not self.runs_primary:
            return
        if self._task.cancelling() <= self._cancelling:
            self.interrupted = True
            self._task.cancel()
        else:
            self._event_loop.call_later(_AGAIN, self.interrupt)

    def leave_primary(self, error: BaseException | None = None) -> bool:
        """Take the cancellation back; return True if another one came from outside.

        Args:
            error: What the primary raised, which may have become of the one from outside.
        """
        self.runs_primary = False
        if self.interrupted:
            return self._task.uncancel() > self._cancelling
        return _follows_cancellation(error) and self._task.cancelling() > self._cancelling


@attrs.define(eq=False)
class AsyncLoop:
    """The copies of one call, in the event loop of its caller."""

    call: RedundantCall
    _here: Entry | None
    _caller: CallerTask
    _event_loop: AbstractEventLoop
    _args: Args
    _kwargs: Kwargs
    _tasks: dict[int, Task[Any]] = attrs.field(factory=dict, init=False)
    _timer: Timer | None = attrs.field(default=None, init=False)
    _limit: Timer | None = attrs.field(default=None, init=False)
    _waiter: Future[None] | None = attrs.field(default=None, init=False)
    # The tasks of a race that have ended before its result was asked for.
    _early: list[tuple[int, Task[Any]]] | None = attrs.field(default=None, init=False)

    @classmethod
    def begin(
        cls, bound: BoundRedundant, args: Args, kwargs: Kwargs, *, inline: bool = False
    ) -> "AsyncLoop":
        """Begin a call in its context; *inline* if the caller is about to run the primary.

        Raises:
            DeadlineExpiredError: If the surrounding deadline leaves no time.
            UnsupportedLoopError: Outside a task of asyncio.
            ValueError: If only one copy could read an argument.
        """
        bound.check_arguments(args, kwargs)
        event_loop = require_asyncio(bound.component)
        task = current_task(event_loop)
        if task is None:
            raise UnsupportedLoopError(bound.component)
        context = current_context()
        call = RedundantCall.begin(bound, context, context.clock.now(), is_async=True)
        caller = CallerTask(task, task.cancelling(), event_loop, inline)
        return cls(call, block_context(), caller, event_loop, args, kwargs)

    # The beginning.

    def start(self) -> None:
        """Start what the call begins with, but for a primary that the caller runs."""
        bound = self.call.bound
        delay = bound.latency.delay
        if delay is not None:
            self._timer = self.call.context.clock.call_later(delay, self.slow)
        self.limit()
        if not self._caller.runs_primary:
            self._launch(0)
        if bound.planned > 1:
            self._start_lacking()

    def limit(self) -> None:
        """Have the call end when its time is up."""
        call = self.call
        if call.until < math.inf:
            seconds = max(0.0, call.until - call.now())
            self._limit = call.context.clock.call_later(seconds, self._expire)

    def slow_at(self, due: float) -> None:
        """Start one more copy at *due*, by a timer of its own."""
        seconds = max(0.0, due - self.call.now())
        self._timer = self.call.context.clock.call_later(seconds, self.slow)

    # Copies start.

    def slow(self) -> None:
        """Start one more copy, because the call takes long; when that is to happen, repeat it."""
        self._timer = None
        delay = self.call.bound.latency.delay
        if self._hedge("slow") and self.call.round.may_hedge() and delay is not None:
            self._timer = self.call.context.clock.call_later(delay, self.slow)

    def _hedge(self, reason: HedgeReason) -> bool:
        """Start one more copy, unless something forbids it; True if it was started."""
        call = self.call
        if not call.round.may_hedge():
            return False
        room = len(call.bound.abandoned.tasks) < MOST_ABANDONED
        if not call.may_hedge(reason, room=room):
            return False
        self._launch(call.start_copy())
        return True

    def _start_lacking(self) -> None:
        """Start the copies that the vote cannot do without."""
        while self.call.round.lacks_copies():
            self._launch(self.call.start_copy())

    def _launch(self, copy: int) -> None:
        """Run a copy in a task."""
        fn = self.call.fns[copy]
        if watchers and copy:
            fn = awatched(fn, watched_copy(self.call, copy))
        coroutine = _coroutine_of(fn, self._args, self._kwargs)
        task = self._event_loop.create_task(coroutine)
        self._tasks[copy] = task
        task.add_done_callback(functools.partial(self._task_ended, copy))

    # Copies end.

    def _task_ended(self, copy: int, task: Task[Any]) -> None:
        del self._tasks[copy]
        self.call.bound.abandoned.tasks.discard(task)
        if self._early is None:
            self._take(copy, task)
        else:
            self._early.append((copy, task))

    def _take(self, copy: int, task: Task[Any]) -> None:
        """Count how the task of a copy has ended, or record that it is late."""
        error = CancelledError() if task.cancelled() else task.exception()
        if not self.call.settled:
            self._ended(copy, task.result() if error is None else None, error)
        elif error is None:
            self.call.late(copy, task.result())
        else:
            self.call.given_up(copy)

    def _ended(self, copy: int, answer: Any, error: BaseException | None) -> None:
        """Count how a copy has ended, and do what follows."""
        call = self.call
        replaceable = call.answered(copy, answer) if error is None else call.failed(copy, error)
        if not call.settled:
            if call.round.lacks_copies():
                self._start_lacking()
            elif replaceable:
                self._hedge("failed")
            call.settle()
        if call.settled:
            self._settled()

    def _expire(self) -> None:
        if self.call.settled:
            return
        around = Context()
        around.run(set_block_context, self._here)
        self.call.expire(around.run(current_context))
        if self.call.settled:
            self._settled()
        else:
            self.limit()

    def _settled(self) -> None:
        """Stop what runs, and wake the caller."""
        self._stop()
        if self._caller.runs_primary:
            self._caller.interrupt()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _stop(self) -> None:
        for timer in (self._timer, self._limit):
            if timer is not None:
                timer.cancel()
        if self._event_loop.is_closed():  # the caller was destroyed, and so are the copies
            return
        abandoned = self.call.bound.abandoned.tasks
        for task in values_now(self._tasks):
            abandoned.add(task)
            task.cancel()

    # The primary was left, where the caller runs it.

    def primary_answered(self, value: Any) -> None:
        """Count the answer of the primary, or record that it is late.

        Raises:
            CancelledError: If the caller was cancelled when another copy had won.
        """
        call = self.call
        if self._caller.leave_primary():
            call.round.running.discard(0)
            if call.members is not None:
                call.members.answered(0)
            error = CancelledError()
            self._give_up(error)
            call.dispose([value])
            raise error
        if call.settled:
            call.late(0, value)
        else:
            self._ended(0, value, None)

    def primary_raised(self, error: BaseException) -> bool:
        """Count what the primary raised; True if that is to go on as it is."""
        call, caller = self.call, self._caller
        outside = caller.leave_primary(error)
        interruptible = is_a(error, Exception) or is_a(error, CancelledError)
        if caller.interrupted and not outside and interruptible:
            call.given_up(0)
            return False
        if outside or call.settled or not is_a(error, Exception):
            call.round.running.discard(0)
            self._give_up(error)
            if call.members is not None:
                call.members.released(0)
            return True
        self._ended(0, None, error)
        if call.failure is not error:
            return False
        call.record_failure()
        return True

    # The caller.

    async def result(self) -> Any:
        """Wait until the call is settled; return the answer or raise."""
        if not self.call.settled:
            self._waiter = self._event_loop.create_future()
            try:
                await self._waiter
            except BaseException as error:
                self._give_up(error)
                raise
        return self.call.finish()

    def _give_up(self, error: BaseException) -> None:
        """End the call for a caller that is left by *error*, or has left the block of a race."""
        if is_a(error, CancelledError):
            cut_short(self.call)
        self.call.settled = True
        self._stop()
        self.call.interrupted(error)

    # A race.

    def join(self, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> None:
        """Start a copy for the block of a race, where one is counted when the result is wanted."""
        if self._early is None:
            self._early = []
        self._launch(self.call.join(fn, args, kwargs))

    async def race_result(self) -> Any:
        """Count the copies that have ended by now; wait for the end, and return the answer."""
        self.limit()
        self._count_early()
        return await self.result()

    def leave(self) -> None:
        """End a race: without a result nobody waits any more."""
        if not self.call.closed:
            self.call.settled = True
            self._count_early()
            self._give_up(CancelledError())

    def _count_early(self) -> None:
        early, self._early = self._early, None
        for copy, task in early or ():
            self._take(copy, task)


def _follows_cancellation(error: BaseException | None) -> bool:
    """True if *error* was raised while a cancellation was handled: a client may turn it into that.

    The count of cancellations alone does not tell, since CPython 3.11 and 3.12 may leave it raised.
    """
    for _ in range(_MOST_CONTEXTS):
        if error is None or is_a(error, CancelledError):
            break
        error = CONTEXT.__get__(error)
    return is_a(error, CancelledError)


def _coroutine_of(fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Coroutine[Any, Any, Any]:
    """Call a copy, for a task; what that raises at once is the failure of the copy, too."""
    try:
        coroutine = fn(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - see above
        return _raised(error)
    return coroutine if type(coroutine) is CoroutineType else awaited(coroutine)


async def _raised(error: Exception) -> Any:
    raise error
