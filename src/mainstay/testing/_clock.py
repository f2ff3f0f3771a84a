"""The clocks of tests: `FakeClock`, which moves when it is told, and that of `no_waits`."""

import asyncio
import bisect
import math
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ContextDecorator
from contextvars import copy_context
from typing import Self

import attrs

from mainstay._core import context
from mainstay._core.arguments import Duration, to_flag, to_seconds
from mainstay._core.clock import SYSTEM, Bell, Clock, Timer, wall_time
from mainstay._core.sharing import Shared

_TURNS = 10  # of the event loop, for other tasks to get as far as their own sleep
_PATIENCE = 1.0  # real seconds for a working thread to get as far as its own sleep


@attrs.define(eq=False)
class _FakeTimer:
    """Something that happens at a time of a `FakeClock`.

    Attributes:
        sleeper: The thread in which it wakes something, if it does.
    """

    when: float
    callback: Callable[[], object]
    sleeper: int | None
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


def _this_clock(clock: "FakeClock", _around: Clock) -> "FakeClock":
    return clock


class FakeClock(Shared):
    """A clock that moves only when a policy sleeps or `advance` is called.

    Inside the block, every policy, deadline and budget uses this clock. When a policy sleeps, the
    clock moves on at once, and nobody waits. If several tasks or threads sleep, the clock moves to
    the first that has to wake, as real time would. Code that calls `time.sleep` or `asyncio.sleep`
    itself is not affected.

    Args:
        everywhere: True to use the clock in all threads and tasks of the process, also in those
            that were not started inside the block. False to let the clock follow the context.

    Raises:
        TypeError: If *everywhere* is neither True nor False.

    Example:
        >>> from mainstay import retry
        >>> from mainstay.testing import FakeClock, Faults
        >>> with FakeClock() as clock:
        ...     retry(on=OSError, wait=30.0).call(Faults([OSError("refused"), "ok"]))
        ...     clock.now()
        'ok'
        30.0
    """

    _IN_PLACE_OF_COPIES = "each process has a clock of its own, which it makes for itself"

    def __init__(self, *, everywhere: bool = False) -> None:
        self._everywhere = to_flag(everywhere, "everywhere")
        self._now = 0.0
        self._epoch = wall_time()
        self._changed = threading.Condition(threading.RLock())
        self._timers: list[_FakeTimer] = []  # in the order of their times
        self._entries: list[context.Entry] = []
        self._fired = 0
        self._depth = 0
        self._working: Counter[int] = Counter()  # threads, by how many calls they work for
        self._abandoned: Counter[int] = Counter()  # and those of calls that have ended

    def __enter__(self) -> Self:
        self._depth += 1
        entry = context.ClockEntry(self, _this_clock)
        context.enter(self._entries, entry)
        if self._everywhere:
            context.process_contexts.append(entry)
        return self

    def __exit__(self, *exc_info: object) -> None:
        entry = context.leave(self, self._entries)
        with self._changed:
            self._depth -= 1
            self._changed.notify_all()
        context.process_contexts[:] = [
            each for each in context.process_contexts if each is not entry
        ]

    def now(self) -> float:
        """Return the seconds by which this clock has moved."""
        return self._now

    def wall(self) -> float:
        """Return the seconds since 1970: the real time at which the clock was made, plus `now`."""
        return self._epoch + self._now

    def advance(self, seconds: Duration) -> None:
        """Move the clock; sleepers that are due on the way wake, in order.

        Args:
            seconds: How far to move: seconds or a `timedelta`, at least 0.

        Raises:
            TypeError: If *seconds* is neither a number nor a `timedelta`.
            ValueError: If *seconds* is negative, NaN or infinite.

        Example:
            >>> from mainstay import deadline, remaining
            >>> from mainstay.testing import FakeClock
            >>> with FakeClock() as clock, deadline(10):
            ...     clock.advance(4)
            ...     remaining()
            6.0
        """
        with self._changed:
            target = self._now + to_seconds(seconds, "seconds")
            while self._fire_next(target):
                pass
            self._now = target
            self._changed.notify_all()

    def sleep(self, seconds: float) -> None:
        """Sleep on this clock: move the clock, unless another sleeper has to wake before."""
        woken = threading.Event()
        with self._changed:
            timer = self._set(seconds, woken.set, sleeper=True)
            try:
                while not woken.is_set():
                    if self._waited_for_others(timer):
                        continue
                    if not self._fire_next(timer.when):
                        raise RuntimeError("this would sleep for ever: nothing is left to happen")
            finally:
                self._forget(timer)

    async def asleep(self, seconds: float) -> None:
        """Sleep on this clock in a task."""
        await self._apass(seconds, lambda: False)

    async def wait_for(self, woken: "asyncio.Future[None]", seconds: float) -> None:
        """Suspend the calling task until *woken* is done, at most for *seconds* on this clock."""
        await self._apass(seconds, woken.done)

    async def _apass(self, seconds: float, is_over: Callable[[], bool]) -> None:
        woken = threading.Event()
        timer = self._set(seconds, woken.set, sleeper=True)
        try:
            while not (woken.is_set() or is_over()):
                fired = self._fired
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                    if woken.is_set() or is_over():
                        return
                with self._changed:
                    if fired != self._fired or is_over():  # what was woken meanwhile comes first
                        continue
                    if not woken.is_set() and not self._someone_wakes_before(timer, here=True):
                        self._fire_next(timer.when)
        finally:
            self._forget(timer)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Run *callback* on the running event loop when *seconds* have passed on this clock."""
        loop, context = asyncio.get_running_loop(), copy_context()

        def call_soon() -> None:
            loop.call_soon_threadsafe(callback, context=context)

        return self._set(seconds, call_soon, sleeper=False)

    def bell(self, *, still: bool = False) -> Bell:
        """Return a new bell, with which the calling thread waits for threads of its policy."""
        return _FakeBell(self, still=still)

    def _set(self, seconds: float, callback: Callable[[], object], *, sleeper: bool) -> _FakeTimer:
        with self._changed:
            thread = threading.get_ident() if sleeper else None
            timer = _FakeTimer(self._now + seconds, callback, thread)
            self._timers = [each for each in self._timers if not each.cancelled]
            bisect.insort(self._timers, timer, key=lambda each: each.when)
            self._changed.notify_all()
        return timer

    def _forget(self, timer: _FakeTimer) -> None:
        with self._changed:
            timer.cancel()
            self._changed.notify_all()

    def _someone_wakes_before(self, timer: _FakeTimer, *, here: bool) -> bool:
        """True if another sleeper is to wake first; one of this thread counts only if *here*."""
        not_them = {None} if here else {None, timer.sleeper}
        for each in self._timers:
            if each is timer:
                return False
            if each.sleeper not in not_them and not (each.cancelled or self._is_abandoned(each)):
                return True
        return False

    def _is_abandoned(self, timer: _FakeTimer) -> bool:
        """True if it wakes a thread whose policy's call has ended: such do not move the clock.

        When the clock's block has been left nobody else moves it, so that they may.
        """
        return self._depth > 0 and timer.sleeper is not None and self._abandoned[timer.sleeper] > 0

    def _waited_for_others(self, timer: _FakeTimer) -> bool:
        """Wait for threads that are to wake before, or that work; False if there are none.

        A working thread that does not sleep on this clock, but waits for something real, is waited
        for no longer than `_PATIENCE`.
        """
        if self._is_abandoned(timer) or self._someone_wakes_before(timer, here=False):
            self._changed.wait()
            return True
        asleep = {each.sleeper for each in self._timers if not each.cancelled}
        if all(thread in asleep for thread, works in self._working.items() if works):
            return False
        return self._changed.wait(_PATIENCE)

    def _fire_next(self, latest: float) -> bool:
        """Move to the next timer, and call what it is for; False if there is none by *latest*."""
        while self._timers and self._timers[0].when <= latest and self._timers[0].when < math.inf:
            timer = self._timers.pop(0)
            if not timer.cancelled:
                self._now = max(self._now, timer.when)
                self._fired += 1
                timer.callback()
                self._changed.notify_all()
                return True
        return False


class _FakeBell:
    """A bell on a `FakeClock`; the clock stands still while a thread works that it knows of.

    A bell that is *still* never moves it: then only others do, and ring when it is time.
    """

    def __init__(self, clock: FakeClock, *, still: bool) -> None:
        self._clock = clock
        self._changed = clock._changed
        self._still = still
        self._timer: _FakeTimer | None = None
        self._rung = False
        self._owner = threading.get_ident()
        self._workers: set[int] = set()
        if not still:
            self.working(self._owner)

    def ring(self) -> None:
        with self._changed:
            self._rung = True
            if self._timer is not None:
                self._clock._forget(self._timer)

    def wait(self, seconds: float, /) -> bool:
        clock = self._clock
        with self._changed:
            if not self._rung:
                over = threading.Event()
                sleeps = not self._still
                self._timer = timer = clock._set(max(0.0, seconds), over.set, sleeper=sleeps)
                try:
                    while not self._is_rung() and not over.is_set():
                        if self._still or math.isinf(seconds):
                            self._changed.wait()
                        elif not clock._waited_for_others(timer):
                            clock._fire_next(timer.when)
                finally:
                    self._timer = None
                    clock._forget(timer)
            rung, self._rung = self._rung, False
        return rung

    def _is_rung(self) -> bool:
        return self._rung

    def working(self, thread: int, /) -> None:
        with self._changed:
            self._workers.add(thread)
            self._clock._working[thread] += 1
            self._changed.notify_all()

    def idle(self, thread: int, /) -> None:
        clock = self._clock
        with self._changed:
            if thread in self._workers:
                self._workers.remove(thread)
                clock._working[thread] -= 1
            else:
                clock._abandoned[thread] -= 1
            if thread == self._owner:
                for worker in self._workers:
                    clock._working[worker] -= 1
                    clock._abandoned[worker] += 1
                self._workers.clear()
            self._changed.notify_all()


class _NoWaits:
    """A clock on which sleeping takes no time, and all else as long as on the one around it."""

    def __init__(self, clock: Clock) -> None:
        self.around = clock
        self.now = clock.now
        self.wall = clock.wall
        self.wait_for = clock.wait_for
        self.call_later = clock.call_later
        self.bell = clock.bell

    def sleep(self, _seconds: float, /) -> None:
        pass

    async def asleep(self, _seconds: float, /) -> None:
        await asyncio.sleep(0)


class no_waits(ContextDecorator):  # noqa: N801 - used like a function; a block, which entries know
    """Skip the waits between attempts; nothing else changes.

    The policies decide as with real waits: a wait that does not fit into the timeout still ends the
    call, and `wait_seconds_total` counts the waits that were skipped.

    Example:
        >>> from mainstay import retry
        >>> from mainstay.testing import Faults, no_waits
        >>> with no_waits():
        ...     retry(on=OSError, wait=30.0).call(Faults([OSError("refused"), "ok"]))
        'ok'
    """

    def __init__(self) -> None:
        self._entries: list[context.Entry] = []
        self._clock = _NoWaits(SYSTEM)

    def __enter__(self) -> None:
        context.enter(self._entries, context.ClockEntry(self, no_waits._over))

    def __exit__(self, *exc_info: object) -> None:
        context.leave(self, self._entries)

    def _over(self, clock: Clock) -> Clock:
        if self._clock.around is not clock:
            self._clock = _NoWaits(clock)
        return self._clock
