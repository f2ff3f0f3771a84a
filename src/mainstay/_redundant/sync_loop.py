"""Redundant calls of `def`: the caller's thread, which waits and decides, and those of the copies.

The caller waits for a bell. A copy that ends puts its result into the mail and rings; the caller
reads the mail, starts what is to start, and waits again until the next copy is due. The rules:

1. Everything is decided in the caller's thread. A copy's thread only looks, under the call's lock,
   whether the call is closed: if not, its result goes into the mail; if so, it is late, and the
   thread disposes of it. The caller closes the call under the same lock and then reads the mail a
   last time, so that no result gets lost or is disposed of twice.
2. Where no thread is to be had the caller runs the copy itself: the primary while the delay of
   hedges is not known, and the first copies at the cap. A hedge is then not started at all.
3. A loser cannot be stopped from outside. It learns from `cancelled()` that nobody waits for it.
4. Each copy runs in its own copy of the caller's context, made in the caller's thread.
"""

import functools
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import partial
from threading import Lock, get_ident
from types import CoroutineType
from typing import Any, TypeAlias

from mainstay._core.context import current_context
from mainstay._core.functions import refused_awaitable
from mainstay._redundant.rules import Bound
from mainstay._redundant.run import Call
from mainstay._redundant.threads import Worker

End: TypeAlias = tuple[int, Any, BaseException | None]
"""How a copy ended: its number, its answer, its exception."""

HERE: Any = object()
"""The place of a copy that runs in the caller's thread."""

_copy_of: ContextVar["SyncCall | None"] = ContextVar("mainstay-copy", default=None)


def wrap_sync(bound: Bound, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Make a `def` redundant."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return SyncCall(bound, args, kwargs).run()

    return call


def nobody_waits() -> bool:
    """Whether the copy that this thread runs, or one around it, is of a call that has ended."""
    call = _copy_of.get()
    while call is not None:
        if call.closed:
            return True
        call = call.outer
    return False


class SyncCall(Call):
    """One call, in the thread of its caller."""

    __slots__ = ("_bell", "_due", "_lock", "_mail", "outer")

    def __init__(self, bound: Bound, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        context = current_context()
        super().__init__(bound, context, args, kwargs)
        members = self.members
        if members is not None:
            calls = (partial(members.call, n, fn) for n, fn in enumerate(self.fns))
            self.fns: tuple[Callable[..., Any], ...] = tuple(calls)
        self._bell = context.clock.bell()
        self._mail: deque[End] = deque()
        self._lock = Lock()
        self._due: float | None = None
        self.outer: SyncCall | None = _copy_of.get()

    def run(self) -> Any:
        """Make the call."""
        try:
            self.begin()
            while not self.settled:
                self._wait()
        except BaseException:
            self.abort()
            raise
        finally:
            self._bell.idle(get_ident())
        if self.closed:
            return self._returned
        self.close()
        return self.finish()

    def begin(self) -> None:
        """Start the first copies."""
        bound = self.bound
        delay = bound.shared.delay
        if delay is not None:
            self._due = self.started + delay
        elif not bound.rules.start.together:
            self.copies.denied("warmup")
            if bound.planned == 1 and bound.rules.timeout is None:
                self.start(HERE)
                return
        if bound.planned == 1 and not bound.rules.votes:
            worker = bound.rules.crew.take()
            if worker is not None:
                self.primary_runs = True
                self._launch(0, worker)
                return
        self.start_owed(bound.planned)

    def abort(self) -> None:
        """Give the call up: the caller was interrupted."""
        self.settled = True
        self.close()
        self.give_up()

    def close(self) -> None:
        """Let everything that comes from now on be late, and see to what came before."""
        with self._lock:
            self.closed = True
        self.read_mail()
        if (self._round is not None or self.primary_runs) and self.round.running:
            self.bound.shared.abandon(len(self.round.running))

    def _wait(self) -> None:
        """Wait for the next copy to end or to be due."""
        clock = self.context.clock
        timeout = self.bound.rules.timeout
        end = float("inf") if timeout is None else self.started + timeout
        due = end if self._due is None else min(end, self._due)
        if self._bell.wait(due - clock.now()):
            self.read_mail()
            return
        now = clock.now()
        if now >= end:
            self.expire()
        elif self._due is not None and now >= self._due:
            self._due = None
            delay = self.bound.shared.delay
            if self.hedge("slow") and self.round.spare() and delay is not None:
                self._due = now + delay

    def read_mail(self) -> None:
        """Take in how copies have ended."""
        while self._mail:
            copy, answer, error = self._mail.popleft()
            if self.settled:
                self.round.running.discard(copy)
                self._take_late(copy, answer, error)
            elif self._round is None and self.primary_runs and error is None:
                self._returned = answer
                self.primary_wins()
            else:
                self._take(copy, answer, error)

    def _take(self, copy: int, answer: Any, error: BaseException | None) -> None:
        if error is None:
            self.answered(copy, answer)
        else:
            self.failed(copy, error)

    def _take_late(self, copy: int, answer: Any, error: BaseException | None) -> None:
        if error is None:
            self.late(copy, answer)
        else:
            self.failed_late(copy, error)

    def _settled(self) -> None:
        """Do nothing: the caller itself is at work, and looks next."""

    def _disposed(self, result: Any) -> None:
        if type(result) is CoroutineType:
            raise refused_awaitable(self.bound.rules.dispose, result)

    # Copies in threads, and in the caller's.

    def _place(self, *, extra: bool) -> Any:
        worker = self.bound.rules.crew.take()
        if worker is not None or (extra and self.round.running):
            return worker
        return None if self.round.running else HERE

    def _leave(self, place: Any) -> None:
        if place is not HERE:
            self.bound.rules.crew.put_back(place)

    def _launch(self, copy: int, place: Any) -> None:
        if self.members is not None:
            self.members.reserve(copy)
        if place is HERE:
            self._take(copy, *self._call(copy))
            return
        self._bell.working(place.ident)
        context = copy_context()
        place.give(lambda worker: context.run(self._work, copy, worker))

    def _work(self, copy: int, worker: Worker) -> None:
        """Run a copy in its own thread."""
        _copy_of.set(self)
        answer, error = self._call(copy)
        crew = self.bound.rules.crew
        with self._lock:
            late = self.closed
            if not late:
                crew.put_back(worker)
                self._mail.append((copy, answer, error))
                self._bell.ring()
        if late:
            try:
                self._take_late(copy, answer, error)
            finally:
                self.bound.shared.abandon(-1)
                crew.put_back(worker)
        self._bell.idle(worker.ident)

    def _call(self, copy: int) -> tuple[Any, BaseException | None]:
        fn = self.fns[copy]
        try:
            answer = fn(*self._args, **self._kwargs)
        except BaseException as error:  # noqa: BLE001 - goes to the caller's thread
            return None, error
        if type(answer) is CoroutineType:
            misuse = refused_awaitable(fn, answer)
            with self._lock:
                self._misuses += (misuse,)
            return None, misuse
        return answer, None
