"""When a run saves next, and who notices that the time has come.

While nothing is due an iteration does not ask: the watcher's thread sets `due` when the time has
come, and the loops look at that after every item. Where the clock is not the system's, or the time
is so near that another thread would notice it too late, the loops ask the clock themselves.
"""

import math
import threading
from datetime import timedelta

import attrs

from mainstay._checkpoint import decision
from mainstay._checkpoint.decision import YoungDaly
from mainstay._checkpoint.iteration import CHUNK, Loop
from mainstay._core.clock import SYSTEM, Clock
from mainstay._metrics.checkpoint import CheckpointRecorder

_SHORTEST_ALARM = 0.05
"""Seconds below which another thread would notice too late."""


@attrs.define(eq=False)
class Schedule:
    """When the next save of a run is due.

    Attributes:
        every: How often to save.
        clock: The clock of the run.
        recorder: Where the interval is recorded.
        due: Whether the innermost iteration is to come to a boundary after this very item.
        cost: What a save costs, in seconds, smoothed.
        at_items: After how many items since the last save the next one is due.
        at_time: When it is due, in seconds of the clock.
        alarm: When the watcher is to set `due`, in seconds of the system's clock.
        changed: Set when there is another alarm.
    """

    every: int | timedelta | YoungDaly
    clock: Clock
    recorder: CheckpointRecorder
    due: bool = attrs.field(default=False, init=False)
    cost: float = attrs.field(default=0.0, init=False)
    at_items: float = attrs.field(default=0.0, init=False)
    at_time: float = attrs.field(default=-math.inf, init=False)
    alarm: float = attrs.field(default=math.inf, init=False)
    changed: threading.Event = attrs.field(factory=threading.Event, init=False)
    _loops_ask: bool = attrs.field(default=False, init=False)
    _hurried: bool = attrs.field(default=False, init=False)

    def begin(self) -> None:
        """Say when the next save is due, counted from now."""
        every = self.every
        self.at_items, self.at_time = decision.next_save(every, 0, self.clock.now(), self.cost)
        if not isinstance(every, int):
            interval = decision.interval_of(every, self.cost)
            self.recorder.interval(interval)
            self._loops_ask = self.clock is not SYSTEM or interval < _SHORTEST_ALARM
            self.alarm = math.inf if self._loops_ask else self.at_time
            self.changed.set()
        if self._hurried:
            self.hurry()

    def saved(self, seconds: float) -> None:
        """Take in what a save cost."""
        self.cost = decision.smoothed(self.cost, seconds)

    def hurry(self, *, for_good: bool = False) -> None:
        """Make a save due at the next boundary; at all of them, if the run has to end."""
        self._hurried = self._hurried or for_good
        self.at_time = -math.inf
        self.due = True

    def has_come(self, unsaved: int) -> bool:
        """Say whether a save is due at a boundary, with so many items since the last one."""
        self.due = False  # before the clock is asked, so that nobody sets it in vain
        return unsaved >= self.at_items or self.clock.now() >= self.at_time

    def limit(self, loop: Loop, unsaved: int) -> None:
        """Say after how many items an iteration is to ask again, however little time passes."""
        most = 1 if self._loops_ask else CHUNK
        loop.limit = int(max(1, min(most, self.at_items - unsaved)))
