"""When a save is due, and what is saved then: the whole rule.

    at                                     if                        is saved
    the end of an item                     a save is due             everything
                                           it is not                 nothing yet
    the end of an iteration inside an item as at the end of an item
    the end of an iteration outside items  items are unsaved         everything
                                           none are                  nothing
    the result of a step                   items are unsaved, and    everything
                                           it is outside items
                                           otherwise                 the result alone
    `cp.save()`                            outside items             everything
                                           in an item                everything, at its end
    the end of the run                                               everything

A save is due after the number of items, or of seconds, that `every` has; sooner after `cp.save()`
in an item; and at the end of every item once the process has to end, or the run is lost.

The saves of an iteration inside an item wait for the end of that item if the item has changed the
state before: the code that changed it runs again on a resume, and must not find its change saved.

Iterations do not read the clock to find out: the thread of the watcher sets `Schedule.due` when the
time has come, and the loops look at it after every item. If the clock is not the system's, or the
time is so near that another thread would be too late, the loops read the clock themselves.
"""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Literal, TypeAlias

import attrs

from mainstay._checkpoint.iteration import CHUNK
from mainstay._core.arguments import Duration, to_seconds
from mainstay._core.clock import SYSTEM, Clock
from mainstay._metrics.checkpoint import CheckpointRecorder

Moment: TypeAlias = Literal["item", "iteration", "step", "asked"]
Save: TypeAlias = Literal["everything", "result", "later", "nothing"]

_SMOOTHING = 0.2
_SHORTEST_TIMER = 0.05
"""Seconds below which another thread would notice too late."""


@attrs.frozen
class YoungDaly:
    """Saves at the interval that costs least; see `young_daly`.

    Attributes:
        mtbf: The mean time between interruptions of the run, in seconds.
        max_replay: The most work to repeat after a crash, in seconds.

    Example:
        >>> from mainstay import young_daly
        >>> every = young_daly(mtbf=3600, max_replay=60)
        >>> every.interval(0.02)
        12.0
    """

    mtbf: float
    max_replay: float

    def interval(self, cost: float) -> float:
        """Return the seconds between saves that take *cost* seconds each."""
        return min(math.sqrt(2.0 * cost * self.mtbf), self.max_replay)


Every: TypeAlias = int | timedelta | YoungDaly


def young_daly(*, mtbf: Duration, max_replay: Duration = 30.0) -> YoungDaly:
    """Save at the interval that costs least: every sqrt(2 x cost of a save x MTBF) seconds.

    Saving more often costs more time for saves than crashes would; saving less often repeats more
    work after each crash. The cost of a save is measured during the run, and smoothed.

    Args:
        mtbf: The mean time between interruptions of the run, whatever their cause: seconds or a
            `timedelta`, above 0.
        max_replay: The most work to repeat after a crash, which is the longest interval: seconds or
            a `timedelta`, above 0.

    Returns:
        A value for `every=`.

    Raises:
        TypeError: If an argument is neither a number nor a `timedelta`.
        ValueError: If an argument is not above 0, or not finite.

    Metrics:
        `checkpoint_interval_seconds` shows the interval that was chosen.

    Source:
        J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17(9),
        1974; J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart
        dumps", FGCS 22(3), 2006.

    Example:
        >>> from mainstay import young_daly
        >>> every = young_daly(mtbf=24 * 3600, max_replay=60)
        >>> round(every.interval(cost=0.001), 1)
        13.1
    """
    return YoungDaly(
        to_seconds(mtbf, "mtbf", zero=False), to_seconds(max_replay, "max_replay", zero=False)
    )


def save_at(
    moment: Moment, *, unsaved: int, in_item: bool, due: bool = False, waits: bool = False
) -> Save:
    """Return what is saved at *moment*: the table above.

    Args:
        moment: The end of an item, of an iteration or of a step, or `cp.save()`.
        unsaved: The number of items done since the last save.
        in_item: True if *moment* is inside an item; for "item", inside an outer item.
        due: True if a save is due.
        waits: True if the saves of the iteration have to wait for the item around it.
    """
    if moment == "step":
        return "everything" if unsaved and not in_item else "result"
    if moment == "asked":
        return "later" if in_item else "everything"
    if moment == "iteration" and not in_item:
        return "everything" if unsaved else "nothing"
    if not due:
        return "nothing"
    return "later" if waits else "everything"


def next_save(every: Every, now: float, cost: float) -> tuple[float, float]:
    """Return when the next save is due after one at *now*.

    Returns:
        The number of items until then, and the time; infinity for what does not count.
    """
    if isinstance(every, int):
        return every, math.inf
    return math.inf, now + interval_of(every, cost)


def interval_of(every: timedelta | YoungDaly, cost: float) -> float:
    """Return the seconds between saves that take *cost* seconds each."""
    return every.interval(cost) if isinstance(every, YoungDaly) else every.total_seconds()


def smoothed(cost: float, measured: float) -> float:
    """Return what a save costs after one more measurement; the first stands for itself."""
    return measured if cost == 0 else cost + _SMOOTHING * (measured - cost)


def _no_alarm(at: float) -> None:
    """Do nothing: there is no watcher."""


@attrs.define(eq=False)
class Schedule:
    """When the next save of a run is due.

    Attributes:
        due: True if the innermost iteration is to come to a boundary after this very item.
        cost: Seconds that a save takes, smoothed.
        due_at: When the watcher is to set `due`, in seconds of the system's clock.
        alarm: Reports to the watcher that `due_at` has changed.
    """

    every: Every
    clock: Clock
    recorder: CheckpointRecorder
    due: bool = attrs.field(default=False, init=False)
    cost: float = attrs.field(default=0.0, init=False)
    due_at: float = attrs.field(default=math.inf, init=False)
    alarm: Callable[[float], object] = attrs.field(default=_no_alarm, init=False)
    _at_items: float = attrs.field(default=0.0, init=False)
    _at_time: float = attrs.field(default=-math.inf, init=False)
    _loops_ask: bool = attrs.field(default=False, init=False)
    _unwatched: bool = attrs.field(default=False, init=False)
    _always: bool = attrs.field(default=False, init=False)

    def begin(self) -> None:
        """Count items and time from now on."""
        every = self.every
        self._at_items, self._at_time = next_save(every, self.clock.now(), self.cost)
        if not isinstance(every, int):
            interval = interval_of(every, self.cost)
            self.recorder.interval(interval)
            self._loops_ask = self.clock is not SYSTEM or interval < _SHORTEST_TIMER
            self.due_at = math.inf if self._loops_ask else self._at_time
            if self.due_at < math.inf:
                self.alarm(self.due_at)
        if self._always:
            self.save_soon()

    def ask_in_loops(self, unwatched: bool) -> None:  # noqa: FBT001 - its only argument
        """Have the loops ask the clock after every item while no thread watches over the run."""
        self._unwatched = unwatched

    def saved(self, seconds: float) -> None:
        """Record what a save took."""
        self.cost = smoothed(self.cost, seconds)

    def save_soon(self, *, always: bool = False) -> None:
        """Make a save due at the next boundary; at all of them, if the run has to end."""
        self._always = self._always or always
        self._at_time = -math.inf
        self.due = True

    def is_due(self, unsaved: int) -> bool:
        """True if a save is due at a boundary, with so many items since the last one."""
        self.due = False  # before the clock is asked: what is set from here on must stay
        return unsaved >= self._at_items or self.clock.now() >= self._at_time

    def items_to_boundary(self, unsaved: int) -> int:
        """Return after how many items an iteration is to ask, however little time passes."""
        most = 1 if self._loops_ask or self._unwatched else CHUNK
        return int(max(1, min(most, self._at_items - unsaved)))
