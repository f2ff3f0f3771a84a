"""Redundant calls of `def`: the caller's thread, which waits and decides, and those of the copies.

The caller waits for a bell. A copy that ends puts its result into the mailbox and rings; the caller
reads the mailbox, starts what is to start, and waits again until the next copy is due. The rules:

1. Everything is decided in the caller's thread. A copy's thread only looks, under the call's lock,
   whether the call is closed: if not, its result goes into the mailbox; if so, it is late, and the
   thread disposes of it. The caller closes the call under the same lock and then reads the mailbox
   a last time, so that no result gets lost or is disposed of twice.
2. Where no thread is to be had the caller runs the copy itself: the primary while the delay of
   hedges is not known, and the first copies at the cap. A hedge is then not started at all.
3. A loser cannot be stopped from outside. It learns from `cancelled()` that nobody waits for it.
4. Each copy runs in its own copy of the caller's context, made in the caller's thread.
"""

import math
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from threading import Lock, get_ident
from typing import Any, TypeAlias

from mainstay._core.context import (
    DEFAULT_CONTEXT,
    block_context,
    current_context,
    process_contexts,
)
from mainstay._core.exceptions import is_a
from mainstay._core.functions import is_awaitable, refused_awaitable, wraps
from mainstay._core.watching import watched, watchers
from mainstay._core.workers import Worker
from mainstay._redundant.call import RedundantCall, watched_copy
from mainstay._redundant.decision import HedgeReason
from mainstay._redundant.settings import BoundRedundant

CopyEnd: TypeAlias = tuple[int, Any, BaseException | None]
"""How a copy ended: its number, its answer, its exception."""

_MISUSED: Any = object()
"""The answer of a copy that returned something to await, which nobody would."""

_copy_of: ContextVar["SyncLoop | None"] = ContextVar("mainstay-copy", default=None)


def wrap_sync(bound: BoundRedundant, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Make a `def` redundant."""

    @wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return SyncLoop(bound, args, kwargs).run()

    return wrapper


def is_abandoned() -> bool:
    """True if the copy that this thread runs, or one around it, is of a call that has ended."""
    loop = _copy_of.get()
    while loop is not None:
        if loop.call.closed:
            return True
        loop = loop.outer
    return False


class SyncLoop:
    """The copies of one call, and its caller's thread.

    Attributes:
        call: The call.
        outer: The call whose copy makes this one, or None.
    """

    __slots__ = ("_args", "_bell", "_kwargs", "_lock", "_mailbox", "_slow_at", "call", "outer")

    def __init__(
        self, bound: BoundRedundant, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if args or kwargs:
            bound.check_arguments(args, kwargs)
        here = block_context() or process_contexts
        context = current_context() if here else DEFAULT_CONTEXT
        clock, delay = context.clock, bound.latency.delay
        started = clock.now()
        self.call: RedundantCall = RedundantCall.begin(bound, context, started, is_async=False)
        self.outer: SyncLoop | None = _copy_of.get()
        self._args = args
        self._kwargs = kwargs
        self._bell = clock.bell()
        self._mailbox: deque[CopyEnd] = deque()
        self._lock = Lock()
        self._slow_at = math.inf if delay is None else started + delay

    # The caller's thread.

    def run(self) -> Any:
        """Start what the call begins with, unless it is a race; return the answer or raise."""
        call, mailbox = self.call, self._mailbox
        bound = call.bound
        try:
            if bound.planned:
                # Alone, without a hedge to come or a limit, the primary needs no other thread.
                alone = self._slow_at == call.until == math.inf and bound.planned == 1
                self._launch(0, None if alone else bound.settings.workers.take())
                if bound.planned > 1:
                    self._start_lacking()
            while not call.settled:
                if mailbox:
                    self._ended(*mailbox.popleft())
                elif not self._bell.wait(min(call.until, self._slow_at) - call.context.clock.now()):
                    self._do_what_is_due()
        except BaseException as error:
            self._abort(error)
            raise
        finally:
            self._bell.idle(get_ident())
        if call.round.running:
            self._close()
        return call.finish()

    def _do_what_is_due(self) -> None:
        """Do what is due now: the call has no time left, or is slow."""
        now = self.call.now()
        if now >= self.call.until:
            self.call.expire(current_context())
        elif now >= self._slow_at:
            self._slow_at = math.inf
            delay = self.call.bound.latency.delay
            if self._hedge("slow") and self.call.round.may_hedge() and delay is not None:
                self._slow_at = now + delay

    # A race.

    def join(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Start a copy for the block of a race, where one is counted when the result is wanted."""
        copy = self.call.join(fn, args, kwargs)
        worker = self.call.bound.settings.workers.take()
        if worker is not None:
            self._launch(copy, worker)
            return
        answer, error = self._run(copy)
        self._mailbox.append((copy, answer, error))
        if error is not None and not is_a(error, Exception):
            raise error

    def leave(self) -> None:
        """End a race: without a result nobody waits any more."""
        self._bell.idle(get_ident())
        if not self.call.closed:
            self._abort(CancelledError())

    # The end.

    def _abort(self, error: BaseException) -> None:
        """End the call for a caller that is left by *error*, or has left the block of a race."""
        self._close()
        self.call.interrupted(error)

    def _close(self) -> None:
        """Make everything that comes from now on late, and see to what came before."""
        call = self.call
        call.settled = True
        with self._lock:
            call.closed = True
        running = call.round.running
        while self._mailbox:
            copy, answer, error = self._mailbox.popleft()
            running.discard(copy)
            self._late(copy, answer, error)
        if running:
            call.bound.abandoned.add_threads(len(running))

    # Copies start.

    def _start_lacking(self) -> None:
        """Start the copies that the vote cannot do without, as many as there is room for."""
        call = self.call
        # One in the caller's thread has ended when it was launched, and may have started others.
        while call.round.lacks_copies() and not call.settled:
            worker = call.bound.settings.workers.take()
            if worker is None and call.round.running:
                return
            self._launch(call.start_copy(), worker)

    def _hedge(self, reason: HedgeReason) -> bool:
        """Start one more copy, unless something forbids it; True if it was started."""
        call, workers = self.call, self.call.bound.settings.workers
        if not call.round.may_hedge():
            return False
        worker = workers.take()
        if call.may_hedge(reason, room=worker is not None or not call.round.running):
            self._launch(call.start_copy(), worker)
            return True
        if worker is not None:
            workers.release(worker)
        return False

    def _launch(self, copy: int, worker: Worker | None) -> None:
        """Run a copy in the thread of *worker*; without one in the caller's."""
        if worker is None:
            self._ended(copy, *self._run(copy))
            return
        self._bell.working(worker.ident)
        context = copy_context()
        worker.run(lambda worker: context.run(self._work, copy, worker))

    def _work(self, copy: int, worker: Worker) -> None:
        """Run a copy in its own thread."""
        _copy_of.set(self)
        end = (copy, *self._run(copy))
        call, workers = self.call, self.call.bound.settings.workers
        with self._lock:
            late = call.closed
            if not late:
                workers.release(worker)
                self._mailbox.append(end)
                self._bell.ring()
        try:
            if late:
                self._late(*end)
        finally:
            del end  # a traceback in it leads back here
            if late:
                call.bound.abandoned.add_threads(-1)
                workers.release(worker)
            self._bell.idle(worker.ident)

    def _run(self, copy: int) -> tuple[Any, BaseException | None]:
        fn = self.call.fns[copy]
        attempt = watched(fn, watched_copy(self.call, copy)) if watchers and copy else fn
        try:
            answer = attempt(*self._args, **self._kwargs)
        except BaseException as error:  # noqa: BLE001 - goes to the caller's thread
            return None, error
        if is_awaitable(answer):
            return _MISUSED, refused_awaitable(fn, answer)
        return answer, None

    # Copies end.

    def _ended(self, copy: int, answer: Any, error: BaseException | None) -> None:
        """Count how a copy has ended, and do what follows."""
        call = self.call
        if error is None:
            replaceable = call.answered(copy, answer)
        else:
            replaceable = call.failed(copy, error, misused=answer is _MISUSED)
        if not call.settled:
            if call.round.lacks_copies():
                self._start_lacking()
            elif replaceable:
                self._hedge("failed")
            call.settle()

    def _late(self, copy: int, answer: Any, error: BaseException | None) -> None:
        """Record how a copy has ended that nobody waits for any more."""
        if error is None:
            self.call.late(copy, answer)
        elif is_a(error, Exception) and answer is not _MISUSED:
            self.call.given_up(copy, error)
        else:
            self.call.given_up(copy)
