"""`FakeClock`: time that moves only when somebody sleeps or says so."""

import asyncio
import bisect
import math
import threading
from collections import Counter
from collections.abc import Callable
from contextvars import copy_context
from typing import Self

from mainstay._core import context
from mainstay._core.arguments import Duration, to_flag, to_seconds
from mainstay._core.clock import Bell, Clock, Timer

_TURNS = 10  # of the event loop, for other tasks to get as far as their own sleep
_PATIENCE = 1.0  # real seconds for a working thread to get as far as its own sleep


class _Alarm:
    """Something that happens at a time of a `FakeClock`.

    Attributes:
        when: That time.
        ring: What happens.
        sleeper: The thread in which it wakes something, if it does.
        cancelled: Whether it is not to happen any more.
    """

    __slots__ = ("cancelled", "ring", "sleeper", "when")

    def __init__(self, when: float, ring: Callable[[], object], sleeper: int | None) -> None:
        self.when = when
        self.ring = ring
        self.sleeper = sleeper
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def _this_clock(clock: "FakeClock", _around: Clock) -> "FakeClock":
    return clock


class FakeClock:
    """Time that moves only when somebody sleeps or says so.

    Inside its block every policy, deadline and budget runs on it. Where a policy would sleep, the
    clock moves on at once. With several sleepers, tasks or threads, it moves to the one that is to
    wake first, as real time would. Code that sleeps by itself, with `time.sleep` or
    `asyncio.sleep`, is not affected.

    Args:
        everywhere: Hold for all threads and tasks of the process, also for those that were not
            started inside the block. Without it, the clock follows the context.

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

    def __init__(self, *, everywhere: bool = False) -> None:
        self._everywhere = to_flag(everywhere, "everywhere")
        self._now = 0.0
        self._changed = threading.Condition(threading.RLock())
        self._alarms: list[_Alarm] = []  # in the order of their times
        self._entries: list[context.Entry] = []
        self._rung = 0
        self._depth = 0
        self._working: Counter[int] = Counter()
        self._strays: Counter[int] = Counter()

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
        """Give the seconds since the clock was made."""
        return self._now

    def advance(self, seconds: Duration) -> None:
        """Move the clock, and let happen on the way what was to happen.

        Args:
            seconds: How far, as a number of seconds or a `timedelta`, at least 0.

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
            while self._ring_next(target):
                pass
            self._now = target
            self._changed.notify_all()

    def sleep(self, seconds: float) -> None:
        """Sleep on this clock: move it, unless another sleeper is to wake before."""
        woken = threading.Event()
        with self._changed:
            alarm = self._set(seconds, woken.set, sleeper=True)
            try:
                while not woken.is_set():
                    if self._others_first(alarm):
                        continue
                    if not self._ring_next(alarm.when):
                        raise RuntimeError("this would sleep for ever: nothing is left to happen")
            finally:
                self._forget(alarm)

    async def asleep(self, seconds: float) -> None:
        """Sleep on this clock in a task."""
        woken = threading.Event()
        alarm = self._set(seconds, woken.set, sleeper=True)
        try:
            while not woken.is_set():
                rung = self._rung
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                with self._changed:
                    if rung != self._rung:  # what was woken meanwhile comes first
                        continue
                    if not woken.is_set() and not self._someone_wakes_before(alarm, here=True):
                        self._ring_next(alarm.when)
        finally:
            self._forget(alarm)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Run *callback* on the running event loop when *seconds* have passed on this clock."""
        loop, context = asyncio.get_running_loop(), copy_context()

        def ring() -> None:
            loop.call_soon_threadsafe(callback, context=context)

        return self._set(seconds, ring, sleeper=False)

    def bell(self, *, still: bool = False) -> Bell:
        """Make a bell for the calling thread: what policies wait for threads of theirs with."""
        return _Bell(self, still=still)

    def _set(self, seconds: float, ring: Callable[[], object], *, sleeper: bool) -> _Alarm:
        with self._changed:
            thread = threading.get_ident() if sleeper else None
            alarm = _Alarm(self._now + seconds, ring, thread)
            self._alarms = [each for each in self._alarms if not each.cancelled]
            bisect.insort(self._alarms, alarm, key=lambda each: each.when)
            self._changed.notify_all()
        return alarm

    def _forget(self, alarm: _Alarm) -> None:
        with self._changed:
            alarm.cancel()
            self._changed.notify_all()

    def _someone_wakes_before(self, alarm: _Alarm, *, here: bool) -> bool:
        """Whether another sleeper is to wake first; one of this thread counts only if *here*."""
        not_them = {None} if here else {None, alarm.sleeper}
        for each in self._alarms:
            if each is alarm:
                return False
            if each.sleeper not in not_them and not each.cancelled and not self._is_stray(each):
                return True
        return False

    def _is_stray(self, alarm: _Alarm) -> bool:
        """Whether it wakes a thread whose policy's call has ended: such do not move the clock.

        When the clock's block has been left nobody else moves it, so that they may.
        """
        return self._depth > 0 and alarm.sleeper is not None and self._strays[alarm.sleeper] > 0

    def _others_first(self, alarm: _Alarm) -> bool:
        """Let threads go on that are to wake before, or that work; say whether there were any.

        A working thread that does not sleep on this clock, but waits for something real, is waited
        for no longer than `_PATIENCE`.
        """
        if self._is_stray(alarm) or self._someone_wakes_before(alarm, here=False):
            self._changed.wait()
            return True
        asleep = {each.sleeper for each in self._alarms if not each.cancelled}
        if all(thread in asleep for thread, works in self._working.items() if works):
            return False
        return self._changed.wait(_PATIENCE)

    def _ring_next(self, latest: float) -> bool:
        """Move to the next alarm and ring it; say whether there was one until *latest*."""
        while self._alarms and self._alarms[0].when <= latest and self._alarms[0].when < math.inf:
            alarm = self._alarms.pop(0)
            if not alarm.cancelled:
                self._now = max(self._now, alarm.when)
                self._rung += 1
                alarm.ring()
                self._changed.notify_all()
                return True
        return False


class _Bell:
    """A bell on a `FakeClock`; the clock stands still while a thread works that it knows of.

    A bell that is *still* never moves it: then only others do, and ring when it is time.
    """

    def __init__(self, clock: FakeClock, *, still: bool) -> None:
        self._clock = clock
        self._changed = clock._changed
        self._still = still
        self._alarm: _Alarm | None = None
        self._rung = False
        self._owner = threading.get_ident()
        self._workers: set[int] = set()
        if not still:
            self.working(self._owner)

    def ring(self) -> None:
        with self._changed:
            self._rung = True
            if self._alarm is not None:
                self._clock._forget(self._alarm)

    def wait(self, seconds: float, /) -> bool:
        clock = self._clock
        with self._changed:
            if not self._rung:
                over = threading.Event()
                sleeps = not self._still
                self._alarm = alarm = clock._set(max(0.0, seconds), over.set, sleeper=sleeps)
                try:
                    while not self._is_rung() and not over.is_set():
                        if self._still or math.isinf(seconds):
                            self._changed.wait()
                        elif not clock._others_first(alarm):
                            clock._ring_next(alarm.when)
                finally:
                    self._alarm = None
                    clock._forget(alarm)
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
                clock._strays[thread] -= 1
            if thread == self._owner:
                for worker in self._workers:
                    clock._working[worker] -= 1
                    clock._strays[worker] += 1
                self._workers.clear()
            self._changed.notify_all()
