"""The state of a pool, behind one short lock that the caller holds.

Calls read `order`, an immutable snapshot of who serves, without the lock. The layers above decide
with `health` and `roster` and make the next snapshot: `plan`, `results`, `core`. Nothing of the
user's runs under the lock: what is to be started, closed, told or written goes into an outbox, and
whoever has left the lock empties it (`flush`).

The lock may be taken again by the same thread, since a signal handler may call a pool while the
thread that it interrupted is in here.
"""

import math
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import attrs

from mainstay._core.clock import SYSTEM, Clock
from mainstay._core.context import current_context
from mainstay._core.detector import Detector, Phase
from mainstay._core.events import Event, Listener, publish, tell
from mainstay._core.threads import Signal, values_now
from mainstay._failover.members import Opened, Session, Slot
from mainstay._failover.options import NO_RESOURCE, Member
from mainstay._failover.rules import POLICY, Rules
from mainstay._failover.selection import LeastLatency, Pick
from mainstay._failover.starts import Tasks, Threads
from mainstay._metrics.collector import Metrics, recorders_of
from mainstay._metrics.pools import MemberRecorder, SwitchRecorder
from mainstay._metrics.schema import MEMBER_STATE
from mainstay.availability import Availability
from mainstay.events import MemberBroken

if TYPE_CHECKING:
    from mainstay._metrics.recorder import Recorder

chance = random.random


@attrs.frozen(eq=False)
class Order:
    """Who serves, until the next change.

    Attributes:
        sessions: One for each member that serves, the most preferred first.
        pick: Gives the session of the next call.
        wake: When it has to be made anew, in seconds of the pool's clock.
    """

    sessions: tuple[Session, ...]
    pick: Pick
    wake: float


def nobody() -> Session:
    """Pick for an order without sessions, which nobody may ask."""
    raise LookupError("nobody serves")


NOBODY = Order((), nobody, -math.inf)
"""The order of a pool that has to be asked for one."""


class State:
    """What a pool is at a moment.

    Attributes:
        rules: The parameters of the pool.
        metrics: Where it records.
        recorder: Where its calls are recorded.
        lock: What its state is changed under.
        slots: Its members, in the order listed.
        order: Who serves.
        is_open: Whether members are started, and probed.
        epoch: How often it has switched.
        forced: The member that the user wants, or None.
        posts: For each active member, who may do its work: itself, or a standby since the fence
            has returned. For the last one also when it has been taken out.
        clock: The clock of the last call.
        progress: Set and replaced when a start or a trial has ended.
        listeners: Who wants to know.
        hands: What starts and closes members.
    """

    def __init__(self, rules: Rules, members: Iterable[Member], metrics: Metrics,
                 hands: Threads | Tasks) -> None:  # fmt: skip
        self.rules = rules
        self.metrics = metrics
        self.hands = hands
        self.recorder: Recorder = recorders_of(metrics).calls(rules.name, POLICY)
        self.lock: threading.RLock = threading.RLock()
        self.slots: dict[str, Slot] = {}
        self.order: Order = NOBODY
        self.is_open: bool = False
        self.epoch = 0
        self.forced: str | None = None
        self.posts: dict[str, str] = {}
        self.clock: Clock = SYSTEM
        self.progress: Signal = Signal()
        self.listeners: tuple[tuple[Listener], ...] = ()
        self.leads: dict[str, str] = {}
        self._outbox: deque[Callable[[], object]] = deque()
        for member in members:
            self.enlist(member)
        self.switches().show_outages()
        self._availability = Availability(rules.name, metrics=metrics)
        self._was_down = False
        self.anew()

    def anew(self) -> None:
        """Show the states of the members from now on; in a forked process, in files of its own."""
        self._shown = recorders_of(self.metrics).follow(MEMBER_STATE, self.rules.name, self)
        self._shown.changed()

    # What is told, once the lock is left.

    def flush(self) -> None:
        """Do what had to wait until the lock was left."""
        while self._outbox:
            try:
                act = self._outbox.popleft()
            except IndexError:  # another thread was first
                return
            act()

    def later(self, act: Callable[[], object]) -> None:
        """Do *act* when the lock has been left."""
        self._outbox.append(act)

    def tell(self, event: Event) -> None:
        """Log an event and hand it to the listeners, those of this pool too."""
        self.later(lambda: self._publish(event))

    def _publish(self, event: Event) -> None:
        here = current_context().metrics
        recorder = recorders_of(here).calls(self.rules.name, POLICY) if here else self.recorder
        failed = recorder.listener_failed
        publish(event, failed)
        for (listener,) in self.listeners:
            tell(listener, event, failed)

    def switches(self) -> SwitchRecorder:
        """Give the recorder of what changes in the pool."""
        return recorders_of(current_context().metrics or self.metrics).switches(self.rules.name)

    def member(self, slot: Slot) -> MemberRecorder:
        """Give the recorder of what a member does: that of the context, if they have one."""
        metrics = current_context().metrics
        if metrics is None:
            return slot.recorder
        return recorders_of(metrics).member(self.rules.name, slot.name)

    def states(self) -> dict[str, str]:
        """Give the state of each member, as metrics name it."""
        now = self.clock.now()
        return {slot.name: slot.state(now) for slot in values_now(self.slots)}

    # Members.

    def enlist(self, member: Member) -> None:
        """Take in a member."""
        if member.standby is None:
            if not self.posts.keys() & self.slots.keys():
                self.posts.clear()  # it does the work of the one that was taken out last
            self.posts[member.name] = member.name
        self.slots[member.name] = self._slot_of(member)

    def _slot_of(self, member: Member) -> Slot:
        recorder = recorders_of(self.metrics).member(self.rules.name, member.name)
        slot = Slot(member, Detector(self.rules.detect), recorder)
        if member.resource is not NO_RESOURCE:
            slot.opened = Opened(member.resource)
        self.watch(slot)
        return slot

    def others_well(self, slot: Slot) -> bool:
        """Whether any other member could take over from this one."""
        return any(
            other is not slot and other.health.phase is Phase.WELL and other.well()
            for other in self.slots.values()
        )

    def down(self) -> bool:
        """Whether no member is well."""
        return not any(
            slot.health.phase is Phase.WELL and slot.well() for slot in self.slots.values()
        )

    def retire(self, slot: Slot) -> None:
        """Let no new call use what a member has opened; close it when the last one is done."""
        opened = self.take_away(slot)
        if opened is not None:
            self.later(lambda: self.hands.close(slot.member, opened.resource))

    def take_away(self, slot: Slot) -> Opened | None:
        """Let no new call use what a member has opened; give it if it is to be closed now."""
        opened = slot.opened
        if opened is None or slot.member.open is None:
            return None
        slot.opened = None
        opened.gone = True
        return opened if self._to_close(opened) else None

    def unused(self, slot: Slot, opened: Opened) -> None:
        """Close a resource that is gone, unless somebody uses it still or has closed it."""
        if self._to_close(opened):
            self.later(lambda: self.hands.close(slot.member, opened.resource))

    def _to_close(self, opened: Opened) -> bool:
        """Whether the caller is to close a resource that is gone; nobody else is told so."""
        if opened.flights or opened.closed:
            return False
        opened.closed = True
        return True

    def broken(self, slot: Slot, what: str, error: BaseException) -> None:
        """Tell that something that the user gave for a member has failed."""
        self.tell(MemberBroken(self.rules.name, slot.name, what, error))

    def watch(self, slot: Slot) -> None:
        """Note whether successes of a member have to be looked at."""
        slot.spotted = not slot.health.pristine
        slot.watched = (
            slot.spotted
            or slot.health.too_slow < math.inf
            or isinstance(self.rules.strategy, LeastLatency)
        )

    def shown(self) -> None:
        """Write the states of the members, where they have to be written, and if all are down."""
        down = self.down()
        if down != self._was_down:
            self._was_down = down
            note = self._availability.fail if down else self._availability.restore
            note()
        self.later(self._shown.changed)

    def moved_on(self) -> None:
        """Wake those who wait for something to happen."""
        old, self.progress = self.progress, Signal()
        self.later(old.set)
