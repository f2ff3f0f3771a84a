"""What tests of programs that use mainstay need: time, metrics and failures under control.

`FakeClock` stands in for time, `no_waits` leaves waits out, `recorded` isolates and reads metrics,
`Faults` fails on demand. All but the last are blocks. They hold for the thread or task that
enters them, for what it calls and for the tasks that it starts, so that tests can run side by
side. With pytest they are there as fixtures without an import: `fake_clock`, `no_waits`,
`recorded`, `faults`.
"""

import asyncio
import bisect
import itertools
import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, Final, Self

import attrs

from mainstay._core import ambient
from mainstay._core.clock import Bell, Clock, Timer
from mainstay._core.durations import Duration, to_seconds
from mainstay._metrics.book import Book
from mainstay._metrics.collector import Metrics
from mainstay._metrics.schema import FAMILIES, Family

__all__ = ["FakeClock", "Faults", "no_waits", "recorded"]

_NAMESPACE = "mainstay"
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


class FakeClock:
    """Time that moves only when somebody sleeps or says so.

    Inside its block every policy, deadline and budget runs on it. Where a policy would sleep, the
    clock moves on at once. With several sleepers, tasks or threads, it moves to the one that is to
    wake first, as real time would. Code that sleeps by itself, with `time.sleep` or
    `asyncio.sleep`, is not affected.

    Args:
        everywhere: Hold for all threads and tasks of the process, also for those that were not
            started inside the block. Without it, the clock follows the context.

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
        self._everywhere = everywhere
        self._now = 0.0
        self._changed = threading.Condition(threading.RLock())
        self._alarms: list[_Alarm] = []  # in the order of their times
        self._entered: list[ambient.Ambient] = []
        self._rung = 0
        self._depth = 0
        self._working: Counter[int] = Counter()
        self._strays: Counter[int] = Counter()

    def __enter__(self) -> Self:
        self._depth += 1
        here = ambient.with_clock(self)
        ambient.enter(here)
        if self._everywhere:
            ambient.everywhere.append(here)
            self._entered.append(here)
        return self

    def __exit__(self, *exc_info: object) -> None:
        ambient.leave()
        with self._changed:
            self._depth -= 1
            self._changed.notify_all()
        if self._everywhere:
            last = self._entered.pop()
            ambient.everywhere[:] = [each for each in ambient.everywhere if each is not last]

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

    def bell(self) -> Bell:
        """Make a bell for the calling thread: what policies wait for threads of theirs with."""
        return _Bell(self)

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Wait for another thread, at most until *seconds* have passed on this clock."""
        alarm = self._set(seconds, event.set, sleeper=False)
        event.wait()
        self._forget(alarm)

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
    """A bell on a `FakeClock`; the clock stands still while a thread works that it knows of."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._changed = clock._changed
        self._alarm: _Alarm | None = None
        self._rung = False
        self._owner = threading.get_ident()
        self._workers: set[int] = set()
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
                self._alarm = alarm = clock._set(max(0.0, seconds), over.set, sleeper=True)
                try:
                    while not self._is_rung() and not over.is_set():
                        if math.isinf(seconds):
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


class _NoWaits:
    """A clock on which sleeping takes no time, and all else as long as on another clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.now()

    def sleep(self, _seconds: float, /) -> None:
        pass

    async def asleep(self, _seconds: float, /) -> None:
        await asyncio.sleep(0)

    def call_later(self, seconds: float, callback: Callable[[], object], /) -> Timer:
        return self._clock.call_later(seconds, callback)

    def wait(self, event: threading.Event, seconds: float, /) -> None:
        self._clock.wait(event, seconds)

    def bell(self) -> Bell:
        return self._clock.bell()


@contextmanager
def no_waits() -> Iterator[None]:
    """Leave out the waits between attempts; everything else stays as it is.

    The policies decide as they would, with the waits they would make: one that would outlast its
    timeout still gives up, and `wait_seconds_total` counts what would have been waited.

    Example:
        >>> from mainstay import retry
        >>> from mainstay.testing import Faults, no_waits
        >>> with no_waits():
        ...     retry(on=OSError, wait=30.0).call(Faults([OSError("refused"), "ok"]))
        'ok'
    """
    ambient.enter(ambient.with_clock(_NoWaits(ambient.surroundings().clock)))
    try:
        yield
    finally:
        ambient.leave()


class _Recorded(Metrics):
    """A `Metrics` of its own, in no registry, that can be asked for single values."""

    def __init__(self) -> None:
        self._book = Book(_NAMESPACE, {}, in_memory=True)

    def value(self, name: str, **labels: str) -> float:
        """Add up the samples of one name that have these labels, whatever others they have.

        Args:
            name: The sample's name without "mainstay_": "calls_total",
                "call_duration_seconds_count".
            **labels: Labels and their values.

        Returns:
            The sum of the values; 0.0 if there are no such samples.

        Raises:
            ValueError: If mainstay has no sample of that name, or the metric no such label.
        """
        family = _family_of(name)
        unknown = labels.keys() - {*family.labels, *(["le"] if name.endswith("_bucket") else [])}
        if unknown:
            known = ", ".join(family.labels)
            raise ValueError(f"{name} has the labels {known}, not {', '.join(sorted(unknown))}")
        return sum(
            sample.value
            for metric in self.collect()
            for sample in metric.samples
            if sample.name == f"{_NAMESPACE}_{name}" and labels.items() <= sample.labels.items()
        )


def _family_of(sample: str) -> Family:
    for family in FAMILIES:
        suffixes = ("_bucket", "_count", "_sum") if family.kind == "histogram" else ("",)
        if sample in {family.name + suffix for suffix in suffixes}:
            return family
    raise ValueError(
        f"`name` must be the name of a sample of mainstay without prefix, such as "
        f"'calls_total' or 'call_duration_seconds_count', not {sample!r}"
    )


@contextmanager
def recorded() -> Iterator[_Recorded]:
    """Record into metrics of their own what policies made or called inside do.

    Gives a `Metrics` in no registry with one more method, `.value(name, **labels)`, which adds up
    the samples of that name with those labels. It stays readable after the block. Gauges, such as
    `member_state`, and the availability of a pool or breaker that was made outside stay in its own
    metrics, since they say what is, and not what happened inside.

    Example:
        >>> from mainstay import retry
        >>> from mainstay.testing import Faults, no_waits, recorded
        >>> with recorded() as metrics, no_waits():
        ...     retry(on=OSError, name="fetch").call(Faults([OSError("refused"), "ok"]))
        'ok'
        >>> metrics.value("calls_total", component="fetch", outcome="recovered")
        1.0
    """
    metrics = _Recorded()
    ambient.enter(ambient.with_metrics(metrics))
    try:
        yield metrics
    finally:
        ambient.leave()


@attrs.frozen
class _Delay:
    """A step that sleeps before it is taken."""

    seconds: float
    step: object


class Faults:
    """A stand-in for something that fails: a callable that follows a script.

    Each call takes the next step. An exception, or a class of one, is raised; `Faults.delay(...)`
    sleeps first; `Faults.HANG` sleeps for ever; anything else is returned. It sleeps on the clock
    of its surroundings, so with a `FakeClock` that takes no time. Threads and tasks may share it:
    each step is taken once.

    Args:
        script: The steps, in order; it may be endless.
        then: The step of all calls after the last one. None returns None.

    Attributes:
        calls: The arguments of each call so far: a tuple and a dict.

    Example:
        >>> from mainstay.testing import Faults
        >>> fetch = Faults([ConnectionError("refused"), "page"])
        >>> fetch("http://a.example")
        Traceback (most recent call last):
        ConnectionError: refused
        >>> fetch("http://b.example")
        'page'
        >>> fetch.calls
        [(('http://a.example',), {}), (('http://b.example',), {})]
    """

    HANG: Final[object] = _Delay(math.inf, None)
    """The step that never ends."""

    def __init__(self, script: Iterable[object] = (), *, then: object = None) -> None:
        self._steps = itertools.chain(script, itertools.repeat(then))
        self._lock = threading.Lock()
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    @classmethod
    def seeded(
        cls,
        seed: int,
        *,
        rate: float,
        error: BaseException | type[BaseException] = ConnectionError,
        result: object = None,
    ) -> "Faults":
        """Make one that fails at random, in the same order for the same seed.

        Args:
            seed: Where the random numbers start.
            rate: The share of calls that fail, 0 to 1.
            error: What failing calls raise.
            result: What the others return.

        Raises:
            ValueError: If *rate* is not from 0 to 1.
        """
        if not 0 <= rate <= 1:
            raise ValueError(f"`rate` must be from 0 to 1, not {rate!r}")
        numbers = random.Random(seed)
        return cls(error if numbers.random() < rate else result for _ in itertools.count())

    @staticmethod
    def delay(seconds: Duration, step: object = None) -> object:
        """Make a step that sleeps for *seconds*, at least 0, and then does as *step* says."""
        return _Delay(to_seconds(seconds, "seconds"), step)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take the next step."""
        step = self._next(args, kwargs)
        while isinstance(step, _Delay):
            ambient.surroundings().clock.sleep(step.seconds)
            step = step.step
        return _done(step)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """Take the next step in async code."""
        step = self._next(args, kwargs)
        while isinstance(step, _Delay):
            await ambient.surroundings().clock.asleep(step.seconds)
            step = step.step
        return _done(step)

    def _next(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        with self._lock:
            self.calls.append((args, kwargs))
            return next(self._steps)


def _done(step: object) -> object:
    if isinstance(step, BaseException) or (
        isinstance(step, type) and issubclass(step, BaseException)
    ):
        raise step
    return step
