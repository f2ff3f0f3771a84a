"""`Places`: the places of a bulkhead, and the queues of threads and tasks that wait for one.

    state of a waiter   becomes   by
    WAITING             GIVEN     somebody who hands it a place, the first of its line
    WAITING             LATE      the same, who finds that it has less time left than a call takes
    WAITING             GONE      itself, when its wait is over or is cancelled; or somebody who
                                  finds that its event loop does not run any more
    GIVEN               TAKEN     itself, when it wakes
    GIVEN, TAKEN        GONE      itself, if it does not go on: the place goes to the next
    GIVEN               GONE      somebody who finds that its event loop ended before it woke: the
                                  place goes to the next

1. Places are a deque of nothing in particular. Its `pop` and `append` are atomic, so a call takes
   no lock while nobody waits. Everything else is behind one lock, which is never held while
   anything can block or code of the user's runs.
2. `busy` is True while somebody waits, or places are owed after the limit was lowered. Who gives a
   place back looks at it afterwards, and who begins to wait sets it before looking at the places:
   one of the two sees the other.
3. A lower limit takes no place away. What is too many is owed, and paid with the next that are
   given back.
4. A waiter leaves its line before a place leaves the deque, so that a signal handler that comes in
   between finds both countable.
5. After a fork, and after `reset`, the places are a new deque. Who has one of the old gives it back
   there, where it counts for nothing.
"""

import enum
import math
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import attrs

from mainstay._core.clock import Clock
from mainstay._core.context import Priority
from mainstay._core.forks import reset_after_fork

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

Permits: TypeAlias = deque[None]
"""Free places; each is as good as any other."""


class WaiterState(enum.Enum):
    """Where a waiter stands."""

    WAITING = "waiting"
    GIVEN = "given"
    TAKEN = "taken"
    LATE = "late"
    GONE = "gone"


@attrs.define(eq=False)
class Waiter:
    """One that waits for a place.

    Attributes:
        priority: Which line it stands in.
        clock: By which it waits.
        deadline: When its time is over, in seconds of `clock`; infinity without a deadline.
        wake: Called once it has a place, or is not to have one. May raise RuntimeError if nobody
            is there any more.
        event_loop: The one that its task runs on; None for a thread.
        permits: Where its place is to be given back, once it has one.
    """

    priority: Priority
    clock: Clock
    deadline: float
    wake: Callable[[], object]
    event_loop: "AbstractEventLoop | None" = None
    thread: int = attrs.field(factory=threading.get_ident)
    state: WaiterState = WaiterState.WAITING
    permits: Permits = attrs.field(factory=deque)

    def is_gone(self) -> bool:
        """True if the waiter would never learn that it has a place."""
        return self.event_loop is not None and not self.event_loop.is_running()

    def is_late(self, usual: Callable[[], float]) -> bool:
        """True if a call that begins now would not end in time, as calls *usually* take."""
        if self.deadline == math.inf:
            return False
        return self.deadline - self.clock.now() <= usual()


def taken_from(permits: Permits) -> bool:
    """Take a place, wholly or not at all; False if none is free."""
    try:
        permits.pop()
    except IndexError:
        return False
    except BaseException:  # of a signal handler, which comes in when the place is taken
        permits.append(None)
        raise
    return True


class Places:
    """As many places as the limit says, for all threads and event loops.

    Args:
        limit: The number of places.
        usual: Returns how many seconds a call usually takes; called under the lock.

    Attributes:
        limit: The number of places that there should be.
        total: The number of places that there are: above the limit until enough calls have ended.
        permits: The free places.
        busy: False if a free place may be taken without the lock.
    """

    def __init__(self, limit: int, usual: Callable[[], float] = lambda: 0.0) -> None:
        self.limit: int = limit
        self.total: int = limit
        self.permits: Permits = deque([None] * limit)
        self.busy: bool = False
        self._usual = usual
        self._lock = threading.RLock()
        self._lines: dict[Priority, deque[Waiter]] = {each: deque() for each in PRIORITIES}
        self._handed: dict[Waiter, None] = {}  # tasks that have a place and do not know it yet
        self._settling = False
        self._again = False
        reset_after_fork(self, Places._leave_to_parent)

    def _leave_to_parent(self) -> None:
        """Go on with places and waiters of this process: its other threads are the parent's."""
        self._lock = threading.RLock()
        self._settling = False
        here = threading.get_ident()
        for priority, line in self._lines.items():
            self._lines[priority] = deque(each for each in line if each.thread == here)
        self.reset()

    def reset(self) -> None:
        """Begin again with all places free; old places no longer count."""
        with self._lock:
            self._handed.clear()
            self.permits = deque([None] * self.limit)
            self.total = self.limit
            self.settle()

    # What is seen.

    @property
    def in_flight(self) -> int:
        """How many places are taken."""
        with self._lock:
            return self.total - len(self.permits)

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return sum(map(len, self._lines.values()))

    def may_wait(self) -> bool:
        """True unless this is a signal handler that came in while its thread had the lock."""
        return not self._lock._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001 - as `Condition` asks

    # Taking a place, and giving it back.

    def take(self) -> Permits | None:
        """Take a place that is free and nobody waits for; return where it is to be given back."""
        taken = None
        try:
            with self._lock:
                self.settle()
                permits = self.permits
                if taken_from(permits):
                    taken = permits
        except BaseException:  # of a signal handler
            if taken is not None:
                self.give_back(taken)
            raise
        return taken

    def give_back(self, permits: Permits) -> None:
        """Free a place, which the first who waits gets. Cannot block."""
        permits.append(None)
        if self.busy:
            self.settle()

    def queue(self, waiter: Waiter) -> None:
        """Begin to wait: at the end of the line, but for what is free."""
        with self._lock:
            self.busy = True
            self._lines[waiter.priority].append(waiter)
            self.settle()

    def withdraw(self, waiter: Waiter) -> Permits | None:
        """End the wait, however it went; return where the place is to be given back, if it has one.

        Called by the waiter itself.
        """
        with self._lock:
            self._handed.pop(waiter, None)
            if waiter.state is WaiterState.GIVEN:
                waiter.state = WaiterState.TAKEN
            elif waiter.state is WaiterState.WAITING:
                waiter.state = WaiterState.GONE
                line = self._lines[waiter.priority]
                if waiter in line:
                    line.remove(waiter)
                self.settle()
        return waiter.permits if waiter.state is WaiterState.TAKEN else None

    def abandon(self, waiter: Waiter) -> None:
        """End the wait, and free the place if one was given; the second time do nothing."""
        permits = self.withdraw(waiter)
        if permits is not None:
            waiter.state = WaiterState.GONE
            self.give_back(permits)

    def resize(self, limit: int) -> None:
        """Change the number of places from now on; running calls keep theirs."""
        with self._lock:
            self.limit = limit
            new = max(0, limit - self.total)  # what was owed before is there already
            self.total += new
            self.permits.extend([None] * new)
            self.settle()

    # What follows from each change.

    def settle(self) -> None:
        """Hand free places to waiters, and remove places above the limit."""
        with self._lock:
            if self._settling:  # this is a signal handler: the one it came into does it
                self._again = True
                return
            self._settling = True
            try:
                self._again = True
                while self._again:
                    self._again = False
                    # First: who gives back a place from now on comes here, too.
                    self.busy = True
                    self._take_back()
                    self._pay()
                    for line in self._lines.values():
                        self._hand_over(line)
                    self.busy = self.total > self.limit or any(self._lines.values())
            finally:
                self._settling = False
            if self._again:
                self.settle()

    def _take_back(self) -> None:
        """Free the places of tasks whose event loop ended before they woke."""
        for waiter in [*self._handed]:
            if waiter.is_gone():
                waiter.state = WaiterState.GONE
                del self._handed[waiter]
                waiter.permits.append(None)

    def _pay(self) -> None:
        permits = self.permits
        while self.total > self.limit and taken_from(permits):
            self.total -= 1

    def _hand_over(self, line: deque[Waiter]) -> None:
        permits = self.permits
        while line and permits:
            waiter = line.popleft()
            if waiter.is_gone():
                waiter.state = WaiterState.GONE
            elif waiter.is_late(self._usual):
                waiter.state = WaiterState.LATE
                self._wake(waiter)
            elif not taken_from(permits):
                line.appendleft(waiter)
                return
            else:
                waiter.permits = permits
                waiter.state = WaiterState.GIVEN
                if waiter.event_loop is not None:
                    self._handed[waiter] = None
                if not self._wake(waiter):
                    self._handed.pop(waiter, None)
                    waiter.state = WaiterState.GONE
                    permits.append(None)

    def _wake(self, waiter: Waiter) -> bool:
        try:
            waiter.wake()
        except RuntimeError:  # its event loop has been closed
            return False
        return True
