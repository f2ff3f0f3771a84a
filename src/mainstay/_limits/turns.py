"""`Turns`: the turns of a rate limit, and the queue of threads and tasks that wait for them.

    place in the line   waits for                                    and then
    first               the time of its turn, by the clock           takes it, and calls the next
    any other           to be called, at most until its turn is due  looks who is before it

No call has a turn in advance. So a stalled event loop delays the calls behind it, but no turn is
used twice, and a cancelled call leaves no gap. A call whose event loop no longer runs is passed
over.
"""

import contextlib
import math
import threading
from collections import deque
from typing import TYPE_CHECKING

import attrs

from mainstay._core.clock import SYSTEM, Clock
from mainstay._core.forks import reset_after_fork
from mainstay._core.functions import running_loop
from mainstay._core.threads import Pause, Signal
from mainstay._limits.gcra import Gcra
from mainstay.errors import RateLimitedError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

LOOK_AGAIN = 0.1
"""Seconds after which a call with an overdue turn looks again if those before it are there."""


@attrs.define(eq=False)
class TurnWaiter:
    """A call that waits for its turns.

    Attributes:
        cost: The number of turns that the call needs.
        clock: The clock of the call.
        latest: Until when the call waits.
        deadline: When a turn would come too late.
        called: Set when the call is the first in the line.
        turn: When its turns come; known once the call is the first.
        due: When its turns were expected, by the calls before it.
        missing: True if the call was passed over.
    """

    cost: float
    clock: Clock
    latest: float
    deadline: float
    event_loop: "AbstractEventLoop | None" = attrs.field(factory=running_loop)
    thread: int = attrs.field(factory=threading.get_ident)
    called: Signal = attrs.field(factory=Signal, init=False)
    turn: float = math.inf
    due: float = math.inf
    missing: bool = True

    @property
    def is_gone(self) -> bool:
        """True if nobody would hear it called."""
        return self.event_loop is not None and not self.event_loop.is_running()


class Turns:
    """The turns of one rate limit.

    Args:
        name: Of the rate limit, for what is raised.
        gcra: When turns come.
    """

    def __init__(self, name: str, gcra: Gcra) -> None:
        self._name = name
        self._gcra = gcra
        self._clock: Clock = SYSTEM
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread
        self._line: deque[TurnWaiter] = deque()
        self._ahead = 0.0  # what all in the line want together
        reset_after_fork(self, Turns._keep_own_waiters)

    def _keep_own_waiters(self) -> None:
        """Forget the waiters that were left behind in the parent: threads, and their loops."""
        self._lock = threading.RLock()
        here = threading.get_ident()
        self._line = deque(each for each in self._line if each.thread == here)
        self._ahead = sum(each.cost for each in self._line)
        self._call_first()

    @property
    def waiting(self) -> int:
        """How many stand in the line."""
        return len(self._line)

    def take(self, now: float, cost: float = 1.0, clock: Clock = SYSTEM) -> float | None:
        """Take turns without waiting; None, or the seconds until they would be there.

        Args:
            now: The time of *clock*.
            cost: How many turns.
            clock: That of the caller.
        """
        with self._lock:
            if clock is not self._clock:
                self._go_by(clock)
            if self._line:
                self._pass_over_gone()
                if self._line:
                    return self._gcra.wait(now, cost, self._ahead)
            return self._gcra.take(now, cost)

    def look(self, waiter: TurnWaiter) -> Pause | None:
        """Take the turns of *waiter* if they are there and it is the first; else say what to do.

        One that is not in the line goes to its end first.

        Raises:
            RateLimitedError: If it cannot get them in time. Then it is not in the line any more.
        """
        with self._lock:
            now = waiter.clock.now()
            if waiter.clock is not self._clock:
                self._go_by(waiter.clock)
            if waiter.missing:
                waiter.due = now + self._gcra.wait(now, waiter.cost, self._ahead)
                if not (waiter.due <= waiter.latest and waiter.due < waiter.deadline):
                    raise RateLimitedError(self._name, waiter.due - now)
                self._append(waiter)
            self._pass_over_gone()
            if self._line[0] is waiter:
                return self._first_looks(waiter, now)
            if now >= min(waiter.latest, waiter.deadline):
                self.leave(waiter)
                raise RateLimitedError(self._name, self._gcra.wait(now, waiter.cost, self._ahead))
            seconds = waiter.due - now if waiter.due > now else LOOK_AGAIN
            end = min(waiter.latest, waiter.deadline)
            return Pause(waiter.clock, min(seconds, end - now), waiter.called)

    def _first_looks(self, waiter: TurnWaiter, now: float) -> Pause | None:
        if waiter.turn < math.inf:  # it has slept until then
            wait = 0.0
        else:
            wait = self._gcra.wait(now, waiter.cost)
            waiter.turn = now + wait
        if now >= waiter.deadline or not (
            wait == 0 or (waiter.turn <= waiter.latest and waiter.turn < waiter.deadline)
        ):
            self.leave(waiter)
            raise RateLimitedError(self._name, wait)
        if wait > 0:
            return Pause(waiter.clock, wait)
        self._gcra.take_due(max(now, waiter.turn), waiter.cost)
        self.leave(waiter)
        return None

    def leave(self, waiter: TurnWaiter) -> None:
        """Leave the line, from wherever; the next one is called if it was the first."""
        with self._lock:
            if waiter.missing:
                return
            was_first = self._line and self._line[0] is waiter
            self._remove(waiter)
            if was_first:
                self._call_first()

    def _go_by(self, clock: Clock) -> None:
        """Take what is owed along to the clock of another caller: a test has its own."""
        self._gcra.shift(clock.now() - self._clock.now())
        self._clock = clock

    def _pass_over_gone(self) -> None:
        while self._line and self._line[0].is_gone:
            self._remove(self._line[0])

    def _call_first(self) -> None:
        self._pass_over_gone()
        if self._line:
            with contextlib.suppress(RuntimeError):  # its loop ended this moment: passed over later
                self._line[0].called.set()

    def _append(self, waiter: TurnWaiter) -> None:
        waiter.called = Signal()  # one that was passed over may have been called before
        waiter.missing = False
        self._ahead += waiter.cost
        self._line.append(waiter)  # last: a signal handler that raises comes in when this is done

    def _remove(self, waiter: TurnWaiter) -> None:
        self._ahead = self._ahead - waiter.cost if len(self._line) > 1 else 0.0
        waiter.turn = math.inf
        waiter.missing = True
        self._line.remove(waiter)  # last, as above
